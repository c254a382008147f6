"""Visits: how often a card came, by day, week and month, and how many days in a row. Pure.

Rules:
1. A visit is the first admission of a card at an event on a day of its organisation's time zone. Later ones of that day
   at that event are none, nor is going to another zone. One made without a network is of the day of its scan.
2. Annulling the admission that made a visit takes it back, unless the card was admitted at that event again that day:
   then the visit stands, whatever is annulled later.
3. What is remembered are the last `VISIT_DAYS_REMEMBERED` days up to the last one with a visit. Within them the order
   of arrival makes no difference, and copies count once. An admission of an earlier day counts in `ever` each time, and
   nowhere else.
4. Of more than `VISITS_REMEMBERED_MAX` visits within those days the earliest are forgotten: another admission at such
   an event on such a day counts as another visit.
5. Weeks are those of ISO 8601; one has no more days than are remembered, so a week's count never misses a late scan.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from actors.calendar import day_number, month_of_day, next_day, week_of_day
from actors.terms import BoardPart

VISIT_DAYS_REMEMBERED = 7
VISITS_REMEMBERED_MAX = 50
_ALL_DAYS = (1 << VISIT_DAYS_REMEMBERED) - 1


class Visit(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """A visit that is remembered; `again`: with more than one admission (rule 2)."""

    day: int
    event_id: str
    again: bool = False


class Visits(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A card's visits as of `day`, the latest with a visit (also if that was taken back): on it, in its week and month,
    and the `streak` of days in a row with one, up to it or to the day before. Days, weeks and months are as in
    `actors.calendar`, 0 before any visit.

    `days` has bit n set where the day n days before `day` had a visit, among those that are remembered. `older_streak`
    days in a row ended right before those, `older_best` is the best streak that reached there. `recent` are the visits
    that are remembered, by day and event."""

    ever: int = 0
    day: int = 0
    today: int = 0
    week: int = 0
    this_week: int = 0
    month: int = 0
    this_month: int = 0
    streak: int = 0
    best_streak: int = 0
    days: int = 0
    older_streak: int = 0
    older_best: int = 0
    recent: tuple[Visit, ...] = ()


NO_VISITS = Visits()
# What an admission does to a card's visits (`actors.checkin.visit_of`).
Visited = tuple[Visits | None, int, BoardPart | None]


class _Place(msgspec.Struct, frozen=True, gc=False):
    """Where a day is in the calendar."""

    number: int
    week: int
    month: int


@lru_cache(maxsize=4096)
def _place(day: int) -> _Place:
    return _Place(day_number(day), week_of_day(day), month_of_day(day))


@lru_cache(maxsize=4096)
def _first(day: int, event_id: str) -> tuple[Visit, ...]:
    return (Visit(day, event_id),)


def visits_on(visits: Visits, day: int) -> tuple[int, int, int, int]:
    """Visits on this day, in its week and in its month, and the streak, as of `day`: what is over reads 0. A day before
    the card's last one (its organisation moved west) reads as that one."""
    if not visits.day:
        return 0, 0, 0, 0
    if day <= visits.day:
        return visits.today, visits.this_week, visits.this_month, visits.streak
    place = _place(day)
    goes_on = bool(visits.days & 1) and day == next_day(visits.day)
    return (
        0,
        visits.this_week if place.week == visits.week else 0,
        visits.this_month if place.month == visits.month else 0,
        visits.streak if goes_on else 0,
    )


def admitted(visits: Visits, day: int, event_id: str) -> tuple[Visits | None, bool]:
    """The visits after an admission, None where it leaves them as they are; and whether it made one."""
    for seen in visits.recent:
        if seen.day == day and seen.event_id == event_id:
            return (None if seen.again else _confirmed(visits, seen)), False
    if day > visits.day:
        return _on_new_day(visits, day, event_id), True
    place, last = _place(day), _place(visits.day)
    ago = last.number - place.number
    if ago >= VISIT_DAYS_REMEMBERED:
        return msgspec.structs.replace(visits, ever=visits.ever + 1), True
    recent = tuple(sorted((*visits.recent, Visit(day, event_id)))[-VISITS_REMEMBERED_MAX:])
    return _counted(visits, place, last, ago, 1, visits.days | 1 << ago, recent), True


def taken_back(visits: Visits, day: int, event_id: str) -> Visits | None:
    """The visits after the admission that made the one of this day and event was annulled; None where it stands, or is
    not remembered."""
    if Visit(day, event_id) not in visits.recent:
        return None
    recent = tuple(seen for seen in visits.recent if seen.day != day or seen.event_id != event_id)
    place, last = _place(day), _place(visits.day)
    ago = last.number - place.number
    days = visits.days if any(seen.day == day for seen in recent) else visits.days & ~(1 << ago)
    return _counted(visits, place, last, ago, -1, days, recent)


def _confirmed(visits: Visits, seen: Visit) -> Visits:
    again = Visit(seen.day, seen.event_id, True)
    return msgspec.structs.replace(visits, recent=tuple(again if one is seen else one for one in visits.recent))


# Many cards come to the same events on the same days: equal visits are one object, which saves up to 300 bytes a card.
@lru_cache(maxsize=8192)
def _on_new_day(visits: Visits, day: int, event_id: str) -> Visits:
    """After a visit on a day later than any before."""
    place = _place(day)
    first = _first(day, event_id)
    if not visits.day:
        return Visits(1, day, 1, place.week, 1, place.month, 1, 1, 1, 1, 0, 0, first)
    passed = place.number - _place(visits.day).number
    days, older_streak, older_best = visits.days, visits.older_streak, visits.older_best
    for _ in range(min(passed, VISIT_DAYS_REMEMBERED)):
        older_streak = older_streak + 1 if days >> VISIT_DAYS_REMEMBERED - 1 else 0
        if older_streak > older_best:
            older_best = older_streak
        days = days << 1 & _ALL_DAYS
    if passed > VISIT_DAYS_REMEMBERED:
        older_streak = 0
    days |= 1
    streak = _run_from(days, 0, older_streak)
    return Visits(
        visits.ever + 1,
        day,
        1,
        place.week,
        visits.this_week + 1 if place.week == visits.week else 1,
        place.month,
        visits.this_month + 1 if place.month == visits.month else 1,
        streak,
        max(visits.best_streak, streak),
        days,
        older_streak,
        older_best,
        _still_remembered(visits.recent, place.number) + first,
    )


def _still_remembered(recent: tuple[Visit, ...], number: int) -> tuple[Visit, ...]:
    """The visits that are remembered together with one on the day with this number."""
    if recent and number - _place(recent[0].day).number >= VISIT_DAYS_REMEMBERED:
        recent = tuple([seen for seen in recent if number - _place(seen.day).number < VISIT_DAYS_REMEMBERED])
    return recent if len(recent) < VISITS_REMEMBERED_MAX else recent[1 - VISITS_REMEMBERED_MAX :]


def _counted(
    visits: Visits, place: _Place, last: _Place, ago: int, change: int, days: int, recent: tuple[Visit, ...]
) -> Visits:
    """With one visit more or less `ago` days before the last day."""
    streak = _run_from(days, 0, visits.older_streak) or _run_from(days, 1, visits.older_streak)
    return Visits(
        visits.ever + change,
        visits.day,
        visits.today + change if ago == 0 else visits.today,
        visits.week,
        visits.this_week + change if place.week == last.week else visits.this_week,
        visits.month,
        visits.this_month + change if place.month == last.month else visits.this_month,
        streak,
        max(visits.older_best, *(_run_from(days, bit, visits.older_streak) for bit in range(VISIT_DAYS_REMEMBERED))),
        days,
        visits.older_streak,
        visits.older_best,
        recent,
    )


def _run_from(days: int, start: int, older_streak: int) -> int:
    """The days in a row that end with the day of bit `start`."""
    bit = start
    while days >> bit & 1:
        bit += 1
    return bit - start + (older_streak if bit == VISIT_DAYS_REMEMBERED else 0)
