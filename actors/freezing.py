"""When leaderboards' windows are frozen, and where counts what comes later. Pure.

Rules:
1. A day is frozen once the organisation's grace is over after its end, a week or month with its last day, an event's
   window after its doors have closed for good. What is frozen does not change any more, whatever is reversed.
2. What happened on a day that is not frozen counts on that day, however late it is told. Else it counts on the day on
   which it is told; at an event whose window is frozen, on no event's.
3. Nothing counts further back than a card remembers its days (`actors.card.DAYS_REMEMBERED`).
"""

from __future__ import annotations

from actors.calendar import add_days, local_day
from actors.card import DAYS_REMEMBERED, Card
from actors.facts import ScanJudged
from actors.terms import BoardPart, EventTerms, TenantSettings

# What stands for an event whose window was frozen when a visit to it was told.
AFTER_EVENT = "after:"
NO_PART = BoardPart(0, "")


def first_open_day(settings: TenantSettings, at_ms: int) -> int:
    """The first day that is not frozen."""
    return local_day(at_ms - settings.board_grace_ms, settings.time_zone)


def is_event_frozen(settings: TenantSettings, terms: EventTerms, at_ms: int) -> bool:
    """Whether an event's window is frozen."""
    return 0 < terms.doors_close_ms <= at_ms - settings.board_grace_ms


def is_open(settings: TenantSettings, card: Card, day: int, at_ms: int) -> bool:
    """Whether what happened to a card on a day counts there (rules 2 and 3)."""
    return day >= first_open_day(settings, at_ms) and _is_remembered(card, day)


def day_now(settings: TenantSettings, card: Card, at_ms: int) -> int:
    """The day of now, as far as the card remembers: its organisation's may go back."""
    day = local_day(at_ms, settings.time_zone)
    return day if _is_remembered(card, day) else card.day


def part_of_visit(
    settings: TenantSettings, terms: EventTerms, visit: BoardPart, seen_ms: int, at_ms: int
) -> BoardPart | None:
    """Which part of boards a visit is that was made at `seen_ms` and is told at `at_ms`, None: what it says itself."""
    part = visit
    if is_event_frozen(settings, terms, at_ms):
        part = BoardPart(part.day, AFTER_EVENT + part.event_id)
    if seen_ms < at_ms and part.day < first_open_day(settings, at_ms):
        part = BoardPart(local_day(at_ms, settings.time_zone), part.event_id)
    return part if part is not visit else None


def part_taken_back(settings: TenantSettings, terms: EventTerms, scan: ScanJudged, at_ms: int) -> BoardPart | None:
    """Which part of boards goes with the visit that a scan made, if that is taken back: nothing that is frozen."""
    is_own = scan.counts_as is None
    is_frozen = (is_own and is_event_frozen(settings, terms, at_ms)) or scan.part.day < first_open_day(settings, at_ms)
    return NO_PART if is_frozen else scan.counts_as


def _is_remembered(card: Card, day: int) -> bool:
    return day >= card.day or day >= add_days(card.day, -DAYS_REMEMBERED)
