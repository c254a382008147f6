"""Local days: which day a moment belongs to in a time zone, safe across daylight-saving changes."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# Since 1970 all offsets have been multiples of half a minute (Liberia's was -0:44:30), so a day can only begin on one.
_STEP_MS = 30_000


@lru_cache(maxsize=4096)
def _day_of_step(step: int, time_zone: str) -> int:
    moment = datetime.fromtimestamp(step * _STEP_MS / 1000, UTC).astimezone(ZoneInfo(time_zone))
    return moment.year * 10_000 + moment.month * 100 + moment.day


def local_day(at_ms: int, time_zone: str) -> int:
    """The day (yyyymmdd) on which `at_ms` falls in an IANA time zone. Raises `ZoneInfoNotFoundError` for an unknown
    one."""
    return _day_of_step(at_ms // _STEP_MS, time_zone)


def is_time_zone(name: str) -> bool:
    """Whether the name is one that `local_day` takes."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
