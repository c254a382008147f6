"""Local days: which day a moment belongs to in a time zone, safe across daylight-saving changes."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
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


def next_local_minute(after_ms: int, minute: int, time_zone: str) -> int:
    """The first moment after `after_ms` at which it is `minute` minutes past midnight in a time zone. A local time that
    a day leaves out is the first moment after the gap, one that it has twice is the first of the two (PEP 495)."""
    zone = ZoneInfo(time_zone)
    today = datetime.fromtimestamp(after_ms / 1000, UTC).astimezone(zone).date()
    for days in range(-1, 4):
        local = datetime.combine(today + timedelta(days=days), time(minute // 60, minute % 60), zone)
        moment = local.astimezone(UTC)
        # In a gap the offset before it holds, so what comes out lies beyond the gap by as much as it lay within.
        gap = moment.astimezone(zone).replace(tzinfo=None) - local.replace(tzinfo=None)
        if gap:
            moment = _end_of_gap(moment - gap, moment, zone)
        at_ms = int(moment.timestamp() * 1000)
        if at_ms > after_ms:
            return at_ms
    raise AssertionError("every local time comes within three days")


def _end_of_gap(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Where the offset of a zone changes between two moments, to the second."""
    old = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) / 2
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def is_time_zone(name: str) -> bool:
    """Whether the name is one that `local_day` takes."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
