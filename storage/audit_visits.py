"""The auditor's check of visits: counted a second time, from the admissions. Pure.

Rules as in `storage.audit_checks`, and those of `actors.visits`. Here every day with a visit is kept, so that streaks
are looked up and not carried on. Admissions from before there were visits count in none; from the first one on that
tells them, all do.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from actors.calendar import day_number, local_day, month_of_day, week_of_day
from actors.door_facts import ScanAnnulled
from actors.facts import Fact, ScanDetails, ScanJudged, TenantChanged, TenantOpened
from actors.visits import VISIT_DAYS_REMEMBERED, VISITS_REMEMBERED_MAX, Visit, Visits
from storage.audit_checks import Findings, TenantThing

_PLAIN = ScanDetails()


class _Came(msgspec.Struct):
    """A card's visits: by day, week and month, the days (days since 1970) that had one, and the last day."""

    ever: int = 0
    last: int = 0
    counts: Counter[tuple[str, int]] = msgspec.field(default_factory=Counter)
    days: set[int] = msgspec.field(default_factory=set)
    recent: dict[tuple[int, str], bool] = msgspec.field(default_factory=dict)


class VisitsCheck:
    """`visits`: one is the first admission of a card at an event on a day, and all numbers are counted from those."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._zones: dict[str, str] = {}
        self._came: dict[TenantThing, _Came] = {}
        self._is_counting = False

    def take(self, fact: Fact, place: str) -> None:
        """The next fact."""
        if isinstance(fact, ScanJudged):
            self._is_counting = self._is_counting or fact.visits is not None
            if self._is_counting:
                self._scan(fact, fact.details or _PLAIN, place)
        elif isinstance(fact, ScanAnnulled):
            if fact.visits is not None:
                self._annulment(fact, place)
        elif isinstance(fact, TenantOpened | TenantChanged):
            self._zones[fact.tenant_id] = fact.settings.time_zone

    def _scan(self, fact: ScanJudged, details: ScanDetails, place: str) -> None:
        is_move = details.is_move and not details.is_offline
        if fact.reason or fact.direction == "exit" or not fact.member_id or is_move:
            self._compare(fact, place, None, 0)
            return
        at_ms = fact.scanned_at_ms if details.is_offline else fact.at_ms
        day = local_day(at_ms, self._zones.get(fact.tenant_id, "UTC"))
        came = self._came.setdefault((fact.tenant_id, fact.card_id), _Came())
        key = (day, fact.event_id)
        if came.recent.get(key):
            self._compare(fact, place, None, 0)
        elif key in came.recent:
            came.recent[key] = True
            self._compare(fact, place, came, 0)
        else:
            came.ever += 1
            if came.last < day or day_number(came.last) - day_number(day) < VISIT_DAYS_REMEMBERED:
                _count(came, day, 1)
                came.last = max(came.last, day)
                came.recent[key] = False
                _forget(came)
            self._compare(fact, place, came, day)

    def _annulment(self, fact: ScanAnnulled, place: str) -> None:
        came = self._came.setdefault((fact.tenant_id, fact.card_id), _Came())
        key = (fact.visit_day, fact.event_id)
        if came.recent.get(key, True):
            self._findings.add("visits", f"{place} takes back a visit of {fact.card_id} that is none, or stands")
            return
        del came.recent[key]
        came.ever -= 1
        _count(came, fact.visit_day, -1)
        self._compare(fact, place, came, fact.visit_day)

    def _compare(self, fact: ScanJudged | ScanAnnulled, place: str, came: _Came | None, day: int) -> None:
        counted = _visits(came) if came is not None else None
        said = _told(fact.visits) if fact.visits is not None else None
        if (counted, day) != (said, fact.visit_day):
            self._findings.add(
                "visits", f"{place}: {fact.card_id} has {said} and came on {fact.visit_day}, counted {counted} on {day}"
            )


def _count(came: _Came, day: int, change: int) -> None:
    for window in (("day", day), ("week", week_of_day(day)), ("month", month_of_day(day))):
        came.counts[window] += change
    if came.counts["day", day]:
        came.days.add(day_number(day))
    else:
        came.days.discard(day_number(day))


def _forget(came: _Came) -> None:
    first = day_number(came.last) - VISIT_DAYS_REMEMBERED + 1
    kept = sorted(key for key in came.recent if day_number(key[0]) >= first)[-VISITS_REMEMBERED_MAX:]
    came.recent = {key: came.recent[key] for key in kept}


def _visits(came: _Came) -> tuple[object, ...]:
    last, days = came.last, came.days
    number = day_number(last)
    week, month = week_of_day(last), month_of_day(last)
    counts = (came.counts["day", last], week, came.counts["week", week], month, came.counts["month", month])
    streak = _streak(days, number if number in days else number - 1)
    best = max((_streak(days, day) for day in days if day + 1 not in days), default=0)
    recent = tuple(Visit(*key, again) for key, again in sorted(came.recent.items()))
    return (came.ever, last, *counts, streak, best, recent)


def _streak(days: set[int], last: int) -> int:
    first = last
    while first in days:
        first -= 1
    return last - first


def _told(visits: Visits) -> tuple[object, ...]:
    counts = (visits.today, visits.week, visits.this_week, visits.month, visits.this_month)
    return (visits.ever, visits.day, *counts, visits.streak, visits.best_streak, visits.recent)
