"""Where scans of scanners without a network contradict others. Pure.

Rules:
1. Conflicts are worked out from all scans that stand, in the order of their times, so they are the same in whatever
   order they were uploaded: two entries of a card without an exit between them (or more than one, where nobody comes
   back in), one of them at least from a scanner without a network, and whatever else would have kept a person out.
2. The event's list (`storage.door_queries`) and its live line (`actors.live_conflicts`) are both made here.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class TimedScan(msgspec.Struct, frozen=True, gc=False):
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


def place_in_time(scan: TimedScan) -> tuple[str, str, int, bool, str]:
    """The order of a timeline: by card and session, then by time; an exit before an entry of the same time, as in
    `actors.offline`."""
    return scan.card_id, scan.session_id, scan.seen_ms, scan.direction == "entry", scan.scan_id


def conflicts_in(timeline: Iterable[TimedScan], reentry: str) -> list[Conflict]:
    """The conflicts in a timeline that is in the order of `place_in_time`."""
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
