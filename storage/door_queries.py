"""Read queries about an event's doors: its admission list, and where scans of scanners without a network contradict
others. Rules as in `storage.logs`.

Conflicts are worked out from all scans that stand, in the order of their times, so the list is the same in whatever
order they were uploaded: two entries of a card without an exit between them (or more than one, where nobody comes back
in), one of them at least from a scanner without a network, and whatever else would have kept a person out.
"""

from __future__ import annotations

import msgspec

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
# By card and session in the order of the times; an exit before an entry of the same time, as in `actors.offline`.
_TIMELINE = """
SELECT s.card_id, s.member_id, s.member_name, s.session_id, s.request_id, s.direction,
    CASE WHEN s.is_offline THEN s.scanned_at_ms ELSE s.at_ms END AS seen_ms,
    s.gate_id, s.device_id, s.zone_id, s.is_offline, s.conflict
FROM scans AS s WHERE s.tenant_id = $1 AND s.event_id = $2 AND s.card_id = ANY($3::text[]) AND s.reason = ''
    AND NOT EXISTS (SELECT FROM annulments AS a
        WHERE a.tenant_id = s.tenant_id AND a.event_id = s.event_id AND a.scan_id = s.request_id)
ORDER BY s.card_id, s.session_id, seen_ms, s.direction DESC, s.request_id
"""


class TimedScan(msgspec.Struct, frozen=True):
    """An admission or exit; `seen_ms` is its time by the scanner, where that was offline."""

    card_id: str
    member_id: str
    member_name: str
    session_id: str
    scan_id: str
    direction: str
    seen_ms: int
    gate_id: str
    device_id: str
    zone_id: str
    is_offline: bool
    conflict: str


class Conflict(msgspec.Struct, frozen=True):
    """`scan` should not have been let in for `reason`; `other` is the admission that it contradicts, if that is
    why."""

    reason: str
    scan: TimedScan
    other: TimedScan | None = None


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


def conflicts_in(timeline: list[TimedScan], reentry: str) -> list[Conflict]:
    """The conflicts in a timeline that is ordered as `_TIMELINE` orders it. Pure."""
    found: list[Conflict] = []
    entered: TimedScan | None = None
    is_inside = False
    place: tuple[str, str] = ("", "")
    for scan in timeline:
        if (scan.card_id, scan.session_id) != place:
            place, entered, is_inside = (scan.card_id, scan.session_id), None, False
        if scan.direction == "exit":
            is_inside = False
            continue
        is_move = is_inside and entered is not None and scan.zone_id not in ("", entered.zone_id)
        is_again = entered is not None and (is_inside or reentry == "none") and reentry != "multiple"
        if is_again and not is_move and entered is not None and (scan.is_offline or entered.is_offline):
            found.append(Conflict("already_admitted", scan, entered))
        elif scan.conflict not in ("", "already_admitted", "not_inside"):
            found.append(Conflict(scan.conflict, scan))
        entered, is_inside = scan, True
    return found
