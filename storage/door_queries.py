"""Read queries about an event's doors: its admission list, and where scans of scanners without a network contradict
others. Rules as in `storage.logs`.

What a conflict is, `actors.conflicts` says.
"""

from __future__ import annotations

from actors.conflicts import Conflict, TimedScan, conflicts_in
from storage.postgres import Pool

_LISTED = """
SELECT card_id FROM admission_list WHERE tenant_id = $1 AND event_id = $2 AND is_listed AND card_id > $3
ORDER BY card_id LIMIT $4
"""
_CONFLICT_CARDS = """
SELECT DISTINCT card_id FROM scans
WHERE tenant_id = $1 AND event_id = $2 AND is_offline AND reason = '' AND card_id > $3
ORDER BY card_id LIMIT $4
"""
# In the order of `actors.conflicts.place_in_time`.
_TIMELINE = """
SELECT s.card_id, s.member_id, s.member_name, s.session_id, s.request_id, s.direction,
    CASE WHEN s.is_offline THEN s.scanned_at_ms ELSE s.at_ms END AS seen_ms,
    s.gate_id, s.device_id, s.zone_id, s.is_offline, s.conflict
FROM scans AS s WHERE s.tenant_id = $1 AND s.event_id = $2 AND s.card_id = ANY($3::text[]) AND s.reason = ''
    AND NOT EXISTS (SELECT FROM annulments AS a
        WHERE a.tenant_id = s.tenant_id AND a.event_id = s.event_id AND a.scan_id = s.request_id)
ORDER BY s.card_id, s.session_id, seen_ms, s.direction DESC, s.request_id
"""


async def listed_cards(pool: Pool, tenant_id: str, event_id: str, after: str, limit: int) -> list[str]:
    """The cards on an event's list, by id."""
    async with pool.acquire() as connection:
        return [row[0] for row in await connection.fetch(_LISTED, tenant_id, event_id, after, limit)]


async def conflict_cards(pool: Pool, tenant_id: str, event_id: str, after: str, limit: int) -> list[str]:
    """Cards that offline scanners let in or out, by id: those that may have conflicts."""
    async with pool.acquire() as connection:
        return [row[0] for row in await connection.fetch(_CONFLICT_CARDS, tenant_id, event_id, after, limit)]


async def conflicts_of(pool: Pool, tenant_id: str, event_id: str, cards: list[str], reentry: str) -> list[Conflict]:
    """The conflicts of these cards."""
    async with pool.acquire() as connection:
        rows = await connection.fetch(_TIMELINE, tenant_id, event_id, cards)
    return conflicts_in([TimedScan(*row) for row in rows], reentry)
