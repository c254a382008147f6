"""Days, weeks and months: which one a moment belongs to in a time zone, and where it begins and ends there.

Rules:
1. A day is an integer yyyymmdd, a week yyyyww (ISO 8601: weeks begin on Monday, and the first is the one with the
   year's first Thursday, so that a year has 52 or 53), a month yyyymm. Days are those of the Gregorian calendar, years
   1 to 9999.
2. A moment is in milliseconds since 1970 UTC; time zones have their IANA name. Each function that takes one raises
   `ZoneInfoNotFoundError` for an unknown name.
3. A local time that does not exist, because clocks were put forward over it, stands for the first instant after the
   gap. One that comes twice, because they were put back, stands for the first of the two.
4. So a day begins with its first instant, whatever clocks show then, and a day that a zone left out altogether (Samoa,
   2011-12-30) begins and ends with the day after it.
5. Where clocks are put back from past midnight (Newfoundland until 2011, from 0:01 to 23:01), `local_day` tells what a
   calendar on the wall shows, and so yesterday once more; windows do not go back. It is the only difference.
6. Moments before 1970: `local_day` may be half a minute off around midnight, where a zone kept its town's own time.
   All else holds.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

WindowKind = Literal["day", "week", "month"]
# Since 1970 all offsets have been multiples of half a minute (Liberia's was -0:44:30), so a day can only begin on one.
_STEP_MS = 30_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_MS = timedelta(milliseconds=1)
_SECOND = timedelta(seconds=1)


class Window(msgspec.Struct, frozen=True):
    """The day, week or month `key` (rule 1): the moments from `start_ms` on and before `end_ms`."""

    start_ms: int
    end_ms: int
    key: int


@lru_cache(maxsize=4096)
def _day_of_step(step: int, time_zone: str) -> int:
    return _yyyymmdd((_EPOCH + step * _STEP_MS * _MS).astimezone(ZoneInfo(time_zone)))


def local_day(at_ms: int, time_zone: str) -> int:
    """The day on which `at_ms` falls."""
    return _day_of_step(at_ms // _STEP_MS, time_zone)


def local_week(at_ms: int, time_zone: str) -> int:
    """The week in which `at_ms` falls."""
    return week_of_day(local_day(at_ms, time_zone))


def local_month(at_ms: int, time_zone: str) -> int:
    """The month in which `at_ms` falls."""
    return month_of_day(local_day(at_ms, time_zone))


def is_time_zone(name: str) -> bool:
    """Whether the name is one that `local_day` takes."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


# --- days among themselves --------------------------------------------------------------------------------------------
# All raise `ValueError` for what is no day, `OverflowError` or `ValueError` beyond the years 1 to 9999.


def day_number(day: int) -> int:
    """Days since 1970-01-01, negative before."""
    return _date(day).toordinal() - _EPOCH_ORDINAL


def days_between(first: int, second: int) -> int:
    """By how many days `second` is after `first`; negative if it is before."""
    return _date(second).toordinal() - _date(first).toordinal()


def add_days(day: int, count: int) -> int:
    """The day `count` days later."""
    return _yyyymmdd(_date(day) + timedelta(days=count))


def next_day(day: int) -> int:
    """The day after."""
    return add_days(day, 1)


def previous_day(day: int) -> int:
    """The day before."""
    return add_days(day, -1)


def add_months(day: int, count: int) -> int:
    """The same day of the month `count` months later, or that month's last where it is shorter: a month after 31
    January is the last of February."""
    months = day // 10_000 * 12 + day // 100 % 100 - 1 + count
    month = months // 12 * 100 + months % 12 + 1
    return min(month * 100 + _date(day).day, last_of_month(month))


def last_of_month(month: int) -> int:
    """The last day of a month."""
    return month * 100 + monthrange(month // 100, month % 100)[1]


def first_of_week(week: int) -> int:
    """The Monday of a week."""
    return _yyyymmdd(date.fromisocalendar(week // 100, week % 100, 1))


def weekday(day: int) -> int:
    """1 (Monday) to 7 (Sunday), as ISO 8601 counts."""
    return _date(day).isoweekday()


def week_of_day(day: int) -> int:
    """The week of a day; its year is another than the day's around some New Years."""
    year, week, _ = _date(day).isocalendar()
    return year * 100 + week


def month_of_day(day: int) -> int:
    """The month of a day."""
    return _date(day).year * 100 + _date(day).month


# --- from days to moments ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def start_of_day_ms(day: int, time_zone: str) -> int:
    """The first instant of the day (rules 3 and 4)."""
    return moment_of(day, 0, 0, time_zone)


def moment_of(day: int, hour: int, minute: int, time_zone: str) -> int:
    """When it is that time of the day (rule 3). Raises `ValueError` for a time that no clock shows."""
    on = _date(day)
    wanted = datetime(on.year, on.month, on.day, hour, minute)
    zone = ZoneInfo(time_zone)
    moment = _utc(wanted, zone, 0)
    if _shown(moment, zone) == wanted:
        return (moment - _EPOCH) // _MS
    # In a gap, fold 1 reckons with the offset after it, and so finds a moment before it. In between clocks jump: with
    # the first second at which they show what was wanted, or more. (A jump is on a whole second.)
    before, after = _utc(wanted, zone, 1), moment
    while after - before > _SECOND:
        middle = before + (after - before) // _SECOND // 2 * _SECOND
        if _shown(middle, zone) < wanted:
            before = middle
        else:
            after = middle
    return (after - _EPOCH) // _MS


def window_bounds(kind: WindowKind, at_ms: int, time_zone: str) -> Window:
    """The day, week or month that `at_ms` is in. Windows of a kind lie end to end, without holes or overlaps."""
    first = _first_day(kind, local_day(at_ms, time_zone))
    window = _window(kind, first, time_zone)
    # Rule 5: of a window that has ended, a calendar on the wall may show the last hour once more.
    return window if at_ms < window.end_ms else _window(kind, _next_first_day(kind, first), time_zone)


@lru_cache(maxsize=4096)
def _window(kind: WindowKind, first: int, time_zone: str) -> Window:
    end_ms = start_of_day_ms(_next_first_day(kind, first), time_zone)
    key = {"day": first, "week": week_of_day(first), "month": month_of_day(first)}[kind]
    return Window(start_of_day_ms(first, time_zone), end_ms, key)


def _first_day(kind: WindowKind, day: int) -> int:
    match kind:
        case "day":
            return day
        case "week":
            return add_days(day, 1 - weekday(day))
        case "month":
            return month_of_day(day) * 100 + 1


def _next_first_day(kind: WindowKind, first: int) -> int:
    match kind:
        case "day":
            return next_day(first)
        case "week":
            return add_days(first, 7)
        case "month":
            return add_months(first, 1)


def _date(day: int) -> date:
    return date(day // 10_000, day // 100 % 100, day % 100)


def _yyyymmdd(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day


def _utc(local: datetime, zone: ZoneInfo, fold: int) -> datetime:
    return local.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _shown(moment: datetime, zone: ZoneInfo) -> datetime:
    """What clocks show then."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)
