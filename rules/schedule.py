"""Local time, as rules see it. (When a schedule comes next is for `actors.schedule`, which has the calendar.)"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from rules.limits import LOCAL_TIMES_REMEMBERED_MAX

# Since 1970 all offsets have been multiples of half a minute, so a local minute can only begin on one.
_STEP_MS = 30_000


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
