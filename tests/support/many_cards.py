"""Many cards in Postgres at once, as if they had been issued and projected long ago: by one statement, without the
journal. Every second one has been in once, and has points."""

from __future__ import annotations

from typing import Any

ORG = "org_m8gd3zngjctdjj32vgt7"
_TIERS = "'{bronze,silver,gold,platinum}'::text[]"
_CARDS = f"""
INSERT INTO cards (tenant_id, card_id, member_id, member_name, tier, valid_from_ms, valid_until_ms, issued_at_ms,
    state, balance, entry_count, earned, earned_position, day, day_earned, day_position, position, number, visits)
SELECT $1::text, 'card_' || lpad(n::text, 20, '0'), 'mem_' || lpad(n::text, 20, '0'), 'Member ' || n,
    ({_TIERS})[1 + n % 4], 0, 0, 1800000000000 + n, 'active', 10 * used, used, 10 * used, used * ($3::bigint + n),
    used * 20261123, 10 * used, used * ($3::bigint + n), 1 + used * ($3::bigint + n), n + 1,
    CASE WHEN used = 1 THEN '[1,20261123,1,202648,1,202611,1,1,1,1,0,0,[[20261123,"evt_'
        || lpad((n % 50)::text, 20, '0') || '",false]]]' ELSE '' END
FROM (SELECT n, n % 2 AS used FROM generate_series(0, $2::integer - 1) AS n) AS one
"""


def seeded_card_id(number: int) -> str:
    """The id of the n-th card, from 0."""
    return f"card_{number:020d}"


async def fill(connection: Any, cards: int, position: int) -> None:
    """Puts so many cards there, last changed from that position on, and has Postgres look at what it has."""
    await connection.execute(_CARDS, ORG, cards, position)
    await connection.execute("ANALYZE cards")
