"""Schedules as data: at a local time on each day, on some weekdays, on some days of the month or once a year.

Rules:
1. The day is the zone's own, and so is the time: clocks that are put forward or back do not move it. A time that they
   leave out comes with the first instant after the gap, one that comes twice counts once, the first time
   (`actors.calendar`, rule 3).
2. In a month that has fewer days, the 29th, 30th and 31st mean its last; once, where several of them do.
3. Each year on 29 February means 28 February in a common year.
4. A day that a zone left out altogether keeps its turn: it comes as the day after it begins.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from actors.calendar import (
    add_months,
    last_of_month,
    local_day,
    moment_of,
    month_of_day,
    next_day,
    weekday,
)


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Each day at `hour`:`minute`; or only on `weekdays` (1 Monday to 7 Sunday), on `month_days` (1 to 31, rule 2) or
    each year in `month` on `day` (rule 3), of which one at most is set. Raises `ValueError` for what never comes."""

    hour: int
    minute: int
    weekdays: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()
    month: int = 0
    day: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.hour <= 23 and 0 <= self.minute <= 59):
            raise ValueError("the time must be between 0:00 and 23:59")
        if not all(1 <= day <= 7 for day in self.weekdays):
            raise ValueError("weekdays are 1 (Monday) to 7 (Sunday)")
        if not all(1 <= day <= 31 for day in self.month_days):
            raise ValueError("days of the month are 1 to 31")
        if bool(self.month) != bool(self.day):
            raise ValueError("month and day belong together")
        # 2000 was a leap year: 29 February is a day, 30 February is not.
        if self.month and not (1 <= self.month <= 12 and 1 <= self.day <= last_of_month(200_000 + self.month) % 100):
            raise ValueError("no year has this day")
        if bool(self.weekdays) + bool(self.month_days) + bool(self.month) > 1:
            raise ValueError("a schedule goes by weekdays, by days of the month or by the year")


def next_scheduled(after_ms: int, schedule: Schedule, time_zone: str) -> int:
    """When its turn comes next, strictly after `after_ms` (milliseconds since 1970). Raises `ZoneInfoNotFoundError`."""
    # A turn of the day before cannot come any more: it comes no later than this day began, also out of a gap.
    for day in _days(schedule, local_day(after_ms, time_zone)):
        at_ms = moment_of(day, schedule.hour, schedule.minute, time_zone)
        if at_ms > after_ms:
            return at_ms
    raise AssertionError("days do not end")


def _days(schedule: Schedule, first: int) -> Iterator[int]:
    """The days of its turns from `first` on, in order, without end."""
    if schedule.month:
        return _yearly(schedule, first)
    return _monthly(schedule, first) if schedule.month_days else _weekly(schedule, first)


def _weekly(schedule: Schedule, first: int) -> Iterator[int]:
    day = first
    while True:
        if not schedule.weekdays or weekday(day) in schedule.weekdays:
            yield day
        day = next_day(day)


def _yearly(schedule: Schedule, first: int) -> Iterator[int]:
    month = first // 10_000 * 100 + schedule.month
    while True:
        day = min(month * 100 + schedule.day, last_of_month(month))
        if day >= first:
            yield day
        month += 100


def _monthly(schedule: Schedule, first: int) -> Iterator[int]:
    start = month_of_day(first) * 100 + 1
    while True:
        last = last_of_month(month_of_day(start))
        for day in sorted({min(start + day - 1, last) for day in schedule.month_days}):
            if day >= first:
                yield day
        start = add_months(start, 1)
