"""Whom a batch of cards is about: members or cards, chosen by what Postgres knows of them, or by keys from a file.

Rules:
1. What is chosen becomes the rows of the batch, in the order of ids, in the transaction that makes it.
2. Members who were erased are nobody; revoked cards are chosen only where that state is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.card_batches.store import Asked, set_size
from storage.postgres import WRITE_TIMEOUT_S, Connection

_INSERT: Final = """
INSERT INTO card_batch_rows (tenant_id, batch_id, place, row, target, tier, valid_from_ms, valid_until_ms)
SELECT $1, $2, row_number() OVER (ORDER BY id) - 1, row_number() OVER (ORDER BY id), id, $3, $4, $5
FROM ({} ORDER BY id LIMIT $6) AS chosen
"""
_MEMBERS: Final = """
SELECT member_id AS id FROM members AS m WHERE tenant_id = $1 AND erased_at_ms IS NULL
    AND ($7::text[] IS NULL OR member_id = ANY($7))
    AND ($8::text IS NULL OR (consents -> $8 ->> 'given')::boolean)
    AND ($9::bigint IS NULL OR created_at_ms >= $9) AND ($10::bigint IS NULL OR created_at_ms < $10)
    AND ($11::text IS NULL OR attributes @> $11::jsonb)
    AND ($12::boolean IS NULL OR $12 = EXISTS (SELECT FROM cards AS c
        WHERE c.tenant_id = $1 AND c.member_id = m.member_id AND c.state <> 'revoked'))
"""
_CARDS: Final = """
SELECT card_id AS id FROM cards AS c WHERE tenant_id = $1 AND state = coalesce($8, state)
    AND ($8::text IS NOT NULL OR state <> 'revoked')
    AND ($7::text[] IS NULL OR card_id = ANY($7))
    AND ($9::text IS NULL OR tier = $9)
    AND ($10::bigint IS NULL OR issued_at_ms >= $10) AND ($11::bigint IS NULL OR issued_at_ms < $11)
    AND ($12::bigint IS NULL OR (valid_until_ms > 0 AND valid_until_ms < $12))
    AND ($13::text IS NULL OR EXISTS (SELECT FROM card_batch_rows AS r
        WHERE r.tenant_id = $1 AND r.batch_id = $13 AND r.card_id = c.card_id))
"""
_KEYS: Final = """
SELECT 'external_id' AS kind, external_id AS key, member_id FROM members
WHERE tenant_id = $1 AND erased_at_ms IS NULL AND external_id = ANY($2::text[])
UNION ALL SELECT 'email', lower(email), member_id FROM members
WHERE tenant_id = $1 AND erased_at_ms IS NULL AND email IS NOT NULL AND lower(email) = ANY($3::text[])
"""
_KEYS_MAX: Final = 1_000  # looked up in one query


class MemberChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which members; None does not choose. `attributes` is JSON that the member's attributes contain; `since_ms` ≤ time
    of creation < `until_ms`."""

    member_ids: Sequence[str] | None = None
    consent: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    attributes: str | None = None
    has_card: bool | None = None


class CardChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which cards; None does not choose (rule 2). `since_ms` ≤ time of issue < `until_ms`; with `expires_before_ms`
    only those with an end; with `batch_id` those that this batch was about."""

    card_ids: Sequence[str] | None = None
    state: str | None = None
    tier: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    expires_before_ms: int | None = None
    batch_id: str | None = None


class Keyed(msgspec.Struct, frozen=True):
    """A row of a file: whom it means, by one key, "" where `asked` says it already."""

    asked: Asked
    kind: str = ""
    key: str = ""


async def choose(
    connection: Connection,
    tenant_id: str,
    batch_id: str,
    which: MemberChoice | CardChoice,
    terms: Asked,
    count_max: int,
) -> int:
    """Makes those chosen the rows of a batch, each on these terms, and tells how many they are: of more than
    `count_max`, one more than that, and whoever calls has to roll back."""
    query = _INSERT.format(_MEMBERS if isinstance(which, MemberChoice) else _CARDS)
    status = await connection.execute(
        query,
        tenant_id,
        batch_id,
        terms.tier,
        terms.valid_from_ms,
        terms.valid_until_ms,
        count_max + 1,
        *msgspec.structs.astuple(which),
        timeout=WRITE_TIMEOUT_S,
    )
    count = int(status.rpartition(" ")[2])
    await set_size(connection, tenant_id, batch_id, count)
    return count


async def resolved(connection: Connection, tenant_id: str, rows: Sequence[Keyed]) -> list[Asked]:
    """The rows of a file with their members; those that mean nobody, or several, have failed."""
    found: dict[tuple[str, str], list[str]] = {}
    for start in range(0, len(rows), _KEYS_MAX):
        part = rows[start : start + _KEYS_MAX]
        keys = [[row.key for row in part if row.kind == kind] for kind in ("external_id", "email")]
        if any(keys):
            for row in await connection.fetch(_KEYS, tenant_id, *keys):
                found.setdefault((row["kind"], row["key"]), []).append(row["member_id"])
    return [_resolved(row, found.get((row.kind, row.key), [])) for row in rows]


def _resolved(row: Keyed, member_ids: Sequence[str]) -> Asked:
    if not row.kind or row.asked.code:
        return row.asked
    if len(member_ids) == 1:
        return msgspec.structs.replace(row.asked, target=member_ids[0])
    reason = "Several members have this address: give their external_id." if member_ids else "There is no such member."
    return msgspec.structs.replace(row.asked, column=row.kind, code="member_unknown", reason=reason)
