"""Local time, and when a schedule comes next; safe across daylight-saving changes, short months and leap days.

Rules:
1. A schedule comes once on each of its days.
2. A time that the clocks skip on that day is the first moment after the gap; one that they show twice is the first.
3. A day of the month that a month does not have is that month's last day, once.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from rules.language import Schedule
from rules.limits import LOCAL_TIMES_REMEMBERED_MAX

# Since 1970 all offsets have been multiples of half a minute, so a local minute can only begin on one.
_STEP_MS = 30_000
_DAYS_LOOKED_AHEAD = 64  # at least two month ends


class LocalTime(msgspec.Struct, frozen=True, gc=False):
    """A moment on the clocks and calendars of a time zone. `weekday` is ISO's (1 = Monday), `date` is yyyymmdd."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    weekday: int
    date: int


@lru_cache(maxsize=LOCAL_TIMES_REMEMBERED_MAX)
def _time_of_step(step: int, time_zone: str) -> LocalTime:
    moment = datetime.fromtimestamp(step * _STEP_MS / 1000, UTC).astimezone(ZoneInfo(time_zone))
    return LocalTime(
        year=moment.year,
        month=moment.month,
        day=moment.day,
        hour=moment.hour,
        minute=moment.minute,
        weekday=moment.isoweekday(),
        date=moment.year * 10_000 + moment.month * 100 + moment.day,
    )


def local_time(at_ms: int, time_zone: str) -> LocalTime:
    """What the clocks of an IANA time zone show at `at_ms` (milliseconds since 1970). Raises `ZoneInfoNotFoundError`
    for an unknown zone."""
    return _time_of_step(at_ms // _STEP_MS, time_zone)


def next_due_ms(schedule: Schedule, time_zone: str, after_ms: int) -> int:
    """The first moment after `after_ms` at which the schedule comes, in milliseconds since 1970."""
    zone = ZoneInfo(time_zone)
    today = datetime.fromtimestamp(after_ms / 1000, UTC).astimezone(zone).date()
    for offset in range(_DAYS_LOOKED_AHEAD):
        day = today + timedelta(days=offset)
        if _is_day_of(schedule, day):
            due_ms = _moment_ms(day, schedule.minute, zone)
            if due_ms > after_ms:
                return due_ms
    raise AssertionError("a schedule comes at least once a month")


def _is_day_of(schedule: Schedule, day: date) -> bool:
    if schedule.weekdays:
        return day.isoweekday() in schedule.weekdays
    if schedule.days_of_month:
        last = monthrange(day.year, day.month)[1]
        return day.day in schedule.days_of_month or (day.day == last and max(schedule.days_of_month) > last)
    return True


def _moment_ms(day: date, minute: int, zone: ZoneInfo) -> int:
    local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone)
    utc = local.astimezone(UTC)
    shown = utc.astimezone(zone).replace(tzinfo=None)
    if shown != local.replace(tzinfo=None):
        # In a gap Python takes the offset from before it, so what is shown lies beyond: go back to the gap's end.
        after = local.replace(fold=1).utcoffset()
        before = local.replace(fold=0).utcoffset()
        assert after is not None
        assert before is not None
        utc = _end_of_gap(utc, zone, abs(after - before))
    return int(utc.timestamp()) * 1000


def _end_of_gap(utc: datetime, zone: ZoneInfo, gap: timedelta) -> datetime:
    """The moment, at most `gap` before `utc`, at which the zone's offset became what it is at `utc`."""
    offset = utc.astimezone(zone).utcoffset()
    step = timedelta(milliseconds=_STEP_MS)
    earliest = utc - gap
    while utc > earliest and (utc - step).astimezone(zone).utcoffset() == offset:
        utc -= step
    return utc
