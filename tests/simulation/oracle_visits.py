"""The second opinion on visits, worked out anew from the rules that `actors.visits` states: all visits that counted are
kept by day and event for ever, and every number is counted from them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

# The days that count fully: the last one with a visit and those before it.
DAYS = 7


class VisitOracle:
    """The part of the oracle that knows how often a card came."""

    tenants: dict[str, dict[str, Any]]
    cards: dict[str, dict[str, Any]]
    at_ms: int

    # Of `tests.simulation.oracle_points`.
    local_day: Callable[[str, int], date]
    first_open_day: Callable[[str], date]
    is_event_frozen: Callable[[str], bool]

    def __init__(self) -> None:
        super().__init__()
        # By card: (day, event) -> whether it was admitted there again that day; the last day; visits before the days
        # that are remembered.
        self.came: dict[str, dict[tuple[date, str], bool]] = {}
        self.last_came: dict[str, date] = {}
        self.long_ago: dict[str, int] = {}

    def visit(self, card_id: str, event_id: str, when: int) -> dict[str, Any]:
        """What an admission at this time says of the card's visits."""
        zone = ZoneInfo(self.tenants[self.cards[card_id]["tenant"]]["time_zone"])
        day = datetime.fromtimestamp(when / 1000, UTC).astimezone(zone).date()
        came = self.came.setdefault(card_id, {})
        last = max(day, self.last_came.get(card_id, day))
        if (last - day).days >= DAYS:
            self.long_ago[card_id] = self.long_ago.get(card_id, 0) + 1
        elif (day, event_id) in came:
            if came[day, event_id]:
                return {"visits": None, "visit_day": 0, "counts_as": None}
            came[day, event_id] = True
            return {"visits": self.visits_of(card_id), "visit_day": 0, "counts_as": None}
        else:
            came[day, event_id] = False
            self.last_came[card_id] = last
        told = {"visits": self.visits_of(card_id), "visit_day": _number(day)}
        return told | {"counts_as": self._counts_as(card_id, event_id, day)}

    def _counts_as(self, card_id: str, event_id: str, day: date) -> tuple[int, str] | None:
        """The day and event under which boards count a visit, None: its own. What is frozen takes nothing any more."""
        is_late, is_after = day < self.first_open_day(card_id), self.is_event_frozen(event_id)
        on = self.local_day(card_id, self.at_ms) if is_late else day
        return (_number(on), f"after:{event_id}" if is_after else event_id) if is_late or is_after else None

    def visit_taken_back(
        self, card_id: str, event_id: str, visit_day: int, part: tuple[int, str] | None
    ) -> dict[str, Any]:
        """What the annulment of an admission says of them."""
        came = self.came.get(card_id, {})
        for day, where in list(came):
            is_it = (_number(day), where, came[day, where]) == (visit_day, event_id, False)
            if is_it and (self.last_came[card_id] - day).days < DAYS:
                del came[day, where]
                is_frozen = part is None and self.is_event_frozen(event_id)
                if is_frozen or (part or (visit_day, ""))[0] < _number(self.first_open_day(card_id)):
                    part = (0, "")
                return {"visits": self.visits_of(card_id), "visit_day": visit_day, "counts_as": part}
        return {"visits": None, "visit_day": 0, "counts_as": None}

    def visits_of(self, card_id: str) -> dict[str, Any]:
        """The counts as of the last day."""
        came, last = self.came[card_id], self.last_came[card_id]
        days = {day for day, _ in came}
        ending = last if last in days else date.fromordinal(last.toordinal() - 1)
        return {
            "ever": len(came) + self.long_ago.get(card_id, 0),
            "day": _number(last),
            "today": sum(day == last for day, _ in came),
            "week": last.isocalendar().year * 100 + last.isocalendar().week,
            "this_week": sum(day.isocalendar()[:2] == last.isocalendar()[:2] for day, _ in came),
            "month": last.year * 100 + last.month,
            "this_month": sum((day.year, day.month) == (last.year, last.month) for day, _ in came),
            "streak": _run(days, ending),
            "best_streak": max((_run(days, day) for day in days), default=0),
            "recent": sorted((_number(d), e, again) for (d, e), again in came.items() if (last - d).days < DAYS),
        }


def _number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day


def _run(days: set[date], last: date) -> int:
    """The days in a row up to this one."""
    count = 0
    while date.fromordinal(last.toordinal() - count) in days:
        count += 1
    return count
