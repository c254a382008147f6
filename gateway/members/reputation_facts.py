"""What `rules.reputation` counts of a member, read from what the projector writes.

Rules:
1. Attendance has no index by card: an organisation has few events, and a member few cards, so each pair is one look-up.
2. A redemption that was reversed does not count.
"""

from __future__ import annotations

from typing import Final

from rules.reputation import History
from storage.postgres import Connection

_CARDS: Final = """
SELECT array_agg(card_id) AS ids, count(*) FILTER (WHERE state = 'revoked') AS revoked,
    count(*) FILTER (WHERE state = 'suspended') AS suspended
FROM cards WHERE tenant_id = $1 AND member_id = $2
"""
# Somebody who came twice with two cards attended once. An attendance row tells its latest admission, so the first visit
# is that to the event that was entered last the longest ago.
_VISITS: Final = """
SELECT count(DISTINCT a.event_id) AS events, coalesce(min(a.admitted_at_ms), 0) AS first_ms
FROM events AS e CROSS JOIN unnest($2::text[]) AS c (card_id)
JOIN attendance AS a ON a.tenant_id = $1 AND a.event_id = e.event_id AND a.card_id = c.card_id AND a.entries > 0
WHERE e.tenant_id = $1
"""
_REDEEMED: Final = """
SELECT coalesce(-sum(l.amount), 0)::bigint FROM ledger AS l
WHERE l.tenant_id = $1 AND l.card_id = ANY($2::text[]) AND l.kind = 'redeem' AND NOT EXISTS (SELECT FROM ledger AS r
    WHERE r.tenant_id = $1 AND r.card_id = l.card_id AND r.reverses = l.entry_seq AND r.reverses > 0)
"""
_REFUSED: Final = """
SELECT reason, count(*) AS scans FROM scans
WHERE tenant_id = $1 AND member_id = $2 AND reason <> '' AND member_id <> '' GROUP BY reason
"""


async def history_of(connection: Connection, tenant_id: str, member_id: str) -> History:
    """What is recorded of a member."""
    cards = await connection.fetchrow(_CARDS, tenant_id, member_id)
    refused = await connection.fetch(_REFUSED, tenant_id, member_id)
    if cards is None or cards["ids"] is None:
        return History(refused={row["reason"]: row["scans"] for row in refused})
    visits = await connection.fetchrow(_VISITS, tenant_id, cards["ids"])
    assert visits is not None, "an aggregate has a row"
    return History(
        events_attended=visits["events"],
        first_visit_ms=visits["first_ms"],
        points_redeemed=await connection.fetchval(_REDEEMED, tenant_id, cards["ids"]),
        refused={row["reason"]: row["scans"] for row in refused},
        cards_revoked=cards["revoked"],
        cards_suspended=cards["suspended"],
    )
