"""Days, weeks and months as windows of time, and local times as moments: daylight saving, leap days, skipped days, the
zones furthest from UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import cast
from zoneinfo import ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.calendar import (
    WindowKind,
    add_days,
    add_months,
    day_number,
    days_between,
    last_of_month,
    local_day,
    local_month,
    local_week,
    moment_of,
    month_of_day,
    next_day,
    previous_day,
    start_of_day_ms,
    week_of_day,
    weekday,
    window_bounds,
)

HOUR_MS = 3_600_000
ZONES = (
    "UTC",
    "Africa/Cairo",
    "Africa/Monrovia",
    "America/Havana",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Etc/GMT+12",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
)
SKIPPED = {("Pacific/Apia", 20111230), ("Pacific/Kwajalein", 19930821), ("Pacific/Kiritimati", 19941231)}


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def yyyymmdd(day: date) -> int:
    return int(day.strftime("%Y%m%d"))


zones = st.sampled_from(ZONES)
days = st.dates(date(1970, 1, 2), date(2120, 12, 31)).map(yyyymmdd)
moments = st.integers(ms("1970-01-03T00:00Z"), ms("2120-12-31T00:00Z"))
# Where something happens: within two days of a change of clocks.
CHANGES = (
    "1993-08-21T12:00Z",
    "1994-12-31T10:00Z",
    "2010-11-07T02:31Z",
    "2011-12-30T10:00Z",
    "2018-02-18T02:00Z",
    "2018-11-04T03:00Z",
    "2024-03-10T05:00Z",
    "2024-11-03T05:00Z",
    "2026-04-04T15:00Z",
    "2026-10-03T15:30Z",
)
changes = st.builds(
    lambda at, delta_ms: ms(at) + delta_ms,
    st.sampled_from(CHANGES),
    st.integers(-48 * HOUR_MS, 48 * HOUR_MS),
)


@pytest.mark.parametrize(
    ("day", "zone", "starts", "hours"),
    [
        (20260520, "UTC", "2026-05-20T00:00Z", 24),
        (20260308, "America/New_York", "2026-03-08T05:00Z", 23),  # north
        (20261101, "America/New_York", "2026-11-01T04:00Z", 25),
        (20260329, "Europe/London", "2026-03-29T00:00Z", 23),
        (20261025, "Europe/London", "2026-10-24T23:00Z", 25),
        (20260405, "Australia/Sydney", "2026-04-04T13:00Z", 25),  # south
        (20261004, "Australia/Sydney", "2026-10-03T14:00Z", 23),
        (20260405, "Australia/Lord_Howe", "2026-04-04T13:00Z", 24.5),  # by half an hour
        (20261004, "Australia/Lord_Howe", "2026-10-03T13:30Z", 23.5),
        (20260329, "Antarctica/Troll", "2026-03-29T00:00Z", 22),  # by two hours
        (20261025, "Antarctica/Troll", "2026-10-24T22:00Z", 26),
        (20230326, "Asia/Beirut", "2023-03-25T22:00Z", 23),  # midnight does not exist, the day begins at 1:00
        (20240310, "America/Havana", "2024-03-10T05:00Z", 23),
        (20240426, "Africa/Cairo", "2024-04-25T22:00Z", 23),
        (20181104, "America/Sao_Paulo", "2018-11-04T03:00Z", 23),
        (20241103, "America/Havana", "2024-11-03T04:00Z", 25),  # midnight comes twice, the first begins the day
        (20180217, "America/Sao_Paulo", "2018-02-17T02:00Z", 25),  # 23:00 comes twice
        (20180218, "America/Sao_Paulo", "2018-02-18T03:00Z", 24),
        (20101107, "America/St_Johns", "2010-11-07T02:30Z", 25),  # 0:00 comes twice, and 23:01 to 23:59 in between
        (20111229, "Pacific/Apia", "2011-12-29T10:00Z", 24),
        (20111230, "Pacific/Apia", "2011-12-30T10:00Z", 0),  # left out
        (20111231, "Pacific/Apia", "2011-12-30T10:00Z", 24),
        (19930820, "Pacific/Kwajalein", "1993-08-20T12:00Z", 24),
        (19930821, "Pacific/Kwajalein", "1993-08-21T12:00Z", 0),  # left out
        (19930822, "Pacific/Kwajalein", "1993-08-21T12:00Z", 24),
        (20270101, "Pacific/Kiritimati", "2026-12-31T10:00Z", 24),  # +14
        (20270101, "Etc/GMT+12", "2027-01-01T12:00Z", 24),  # -12
        (20280229, "Asia/Kathmandu", "2028-02-28T18:15Z", 24),
        (19720107, "Africa/Monrovia", "1972-01-07T00:44:30Z", 24 - 44.5 / 60),
        (19690930, "Pacific/Kwajalein", "1969-09-29T13:00Z", 47),  # a day that came twice, before 1970
        (19000101, "UTC", "1900-01-01T00:00Z", 24),
    ],
)
def test_a_day_begins_and_ends(day: int, zone: str, starts: str, hours: float) -> None:
    start_ms = start_of_day_ms(day, zone)
    assert start_ms == ms(starts)
    assert start_of_day_ms(next_day(day), zone) - start_ms == hours * HOUR_MS


@pytest.mark.parametrize(
    ("day", "hour", "minute", "zone", "at"),
    [
        (20260308, 1, 59, "America/New_York", "2026-03-08T06:59Z"),
        (20260308, 2, 0, "America/New_York", "2026-03-08T07:00Z"),  # 2:00 to 2:59 do not exist: 3:00
        (20260308, 2, 30, "America/New_York", "2026-03-08T07:00Z"),
        (20260308, 2, 59, "America/New_York", "2026-03-08T07:00Z"),
        (20260308, 3, 0, "America/New_York", "2026-03-08T07:00Z"),
        (20260308, 3, 1, "America/New_York", "2026-03-08T07:01Z"),
        (20261101, 1, 30, "America/New_York", "2026-11-01T05:30Z"),  # twice: the first
        (20261101, 2, 0, "America/New_York", "2026-11-01T07:00Z"),
        (20261004, 2, 15, "Australia/Lord_Howe", "2026-10-03T15:30Z"),
        (20260405, 1, 45, "Australia/Lord_Howe", "2026-04-04T14:45Z"),
        (20240426, 0, 45, "Africa/Cairo", "2024-04-25T22:00Z"),
        (20101107, 0, 0, "America/St_Johns", "2010-11-07T02:30Z"),
        (20101107, 0, 1, "America/St_Johns", "2010-11-07T03:31Z"),
        (20101106, 23, 30, "America/St_Johns", "2010-11-07T02:00Z"),
        (20111230, 15, 45, "Pacific/Apia", "2011-12-30T10:00Z"),  # a time of a day that was left out
        (20260520, 12, 0, "Pacific/Kiritimati", "2026-05-19T22:00Z"),
        (20260520, 12, 0, "Etc/GMT+12", "2026-05-21T00:00Z"),
    ],
)
def test_a_local_time_is_a_moment(day: int, hour: int, minute: int, zone: str, at: str) -> None:
    assert moment_of(day, hour, minute, zone) == ms(at)


@pytest.mark.parametrize(
    ("moment", "zone", "week", "month"),
    [
        ("2026-12-31T23:59:59Z", "UTC", 202653, 202612),
        ("2027-01-01T00:00Z", "UTC", 202653, 202701),  # a Friday of the year before's week 53
        ("2027-01-03T23:59:59Z", "UTC", 202653, 202701),
        ("2027-01-04T00:00Z", "UTC", 202701, 202701),
        ("2024-12-30T00:00Z", "UTC", 202501, 202412),  # a Monday of the year after's week 1
        ("2024-12-29T23:59:59Z", "UTC", 202452, 202412),
        ("2021-01-03T12:00Z", "UTC", 202053, 202101),
        ("2027-01-03T10:00Z", "Pacific/Kiritimati", 202701, 202701),
        ("2027-01-04T11:59:59Z", "Etc/GMT+12", 202653, 202701),
        ("2026-12-31T10:00Z", "Pacific/Kiritimati", 202653, 202701),
        ("2028-02-29T12:00Z", "UTC", 202809, 202802),
    ],
)
def test_week_and_month(moment: str, zone: str, week: int, month: int) -> None:
    assert (local_week(ms(moment), zone), local_month(ms(moment), zone)) == (week, month)


@pytest.mark.parametrize(
    ("day", "months", "result"),
    [
        (20260131, 1, 20260228),
        (20280131, 1, 20280229),
        (20280229, 12, 20290228),
        (20280229, 48, 20320229),
        (20260331, -1, 20260228),
        (20261231, 2, 20270228),
        (20260131, 0, 20260131),
        (20260115, 11, 20261215),
        (20260115, 12, 20270115),
        (20260115, -1, 20251215),
        (20260115, -13, 20241215),
        (19000131, 1, 19000228),  # no leap year
        (20000131, 1, 20000229),
    ],
)
def test_months_later(day: int, months: int, result: int) -> None:
    assert add_months(day, months) == result


@pytest.mark.parametrize(
    ("first", "second", "days"),
    [
        (20260228, 20260301, 1),
        (20280228, 20280301, 2),
        (20261231, 20270101, 1),
        (20270101, 20261231, -1),
        (19691231, 19700101, 1),
        (20111229, 20111231, 2),  # also where a zone left one out: days are the calendar's
    ],
)
def test_days_between(first: int, second: int, days: int) -> None:
    assert days_between(first, second) == days == day_number(second) - day_number(first)
    assert add_days(first, days) == second


def test_the_first_day_and_the_last() -> None:
    assert (day_number(19700101), day_number(19691231)) == (0, -1)
    assert (weekday(19700101), weekday(20261122)) == (4, 7)
    assert (last_of_month(202602), last_of_month(202802), last_of_month(999912)) == (20260228, 20280229, 99991231)


@pytest.mark.parametrize("day", [20260229, 20261301, 20260100, 0, -1, 20260431])
def test_what_is_no_day(day: int) -> None:
    for question in (day_number, next_day, previous_day, week_of_day, month_of_day, weekday):
        with pytest.raises(ValueError, match=r"day|month|year"):
            question(day)


@pytest.mark.parametrize(("hour", "minute"), [(24, 0), (-1, 0), (0, 60)])
def test_what_is_no_time(hour: int, minute: int) -> None:
    with pytest.raises(ValueError, match=r"hour|minute"):
        moment_of(20260520, hour, minute, "UTC")


def test_an_unknown_zone() -> None:
    with pytest.raises(ZoneInfoNotFoundError):
        start_of_day_ms(20260520, "Mars/Base")
    with pytest.raises(ZoneInfoNotFoundError):
        window_bounds("week", 0, "Mars/Base")


@given(days, st.integers(-1500, 1500))
def test_days_are_the_calendars(day: int, count: int) -> None:
    as_date = date.fromisoformat(str(day))
    assert add_days(day, count) == yyyymmdd(as_date + timedelta(days=count))
    assert previous_day(next_day(day)) == day
    assert day_number(day) == (as_date - date(1970, 1, 1)).days
    assert f"{week_of_day(day)}{weekday(day)}" == as_date.strftime("%G%V%u")
    assert month_of_day(day) == int(as_date.strftime("%Y%m"))


@given(days, zones)
def test_a_day_begins_with_its_first_instant(day: int, zone: str) -> None:
    start_ms = start_of_day_ms(day, zone)
    if (zone, day) not in SKIPPED:
        assert local_day(start_ms, zone) == day
    assert local_day(start_ms - 1, zone) < day


@pytest.mark.parametrize(("zone", "day"), sorted(SKIPPED))
def test_a_day_that_was_left_out(zone: str, day: int) -> None:
    assert start_of_day_ms(day, zone) == start_of_day_ms(next_day(day), zone)
    assert local_day(start_of_day_ms(day, zone), zone) == next_day(day)


@given(moments | changes, zones, st.sampled_from(("day", "week", "month")))
def test_windows_lie_end_to_end(at_ms: int, zone: str, kind: str) -> None:
    kind_ = cast(WindowKind, kind)
    window = window_bounds(kind_, at_ms, zone)
    assert window.start_ms <= at_ms < window.end_ms
    after = window_bounds(kind_, window.end_ms, zone)
    before = window_bounds(kind_, window.start_ms - 1, zone)
    assert (before.end_ms, after.start_ms) == (window.start_ms, window.end_ms)
    assert before.key < window.key < after.key
    for inside_ms in (window.start_ms, window.end_ms - 1):
        assert window_bounds(kind_, inside_ms, zone) == window
    local = {"day": local_day, "week": local_week, "month": local_month}[kind]
    assert window.key == local(window.start_ms, zone)
    if zone != "America/St_Johns":
        assert window.key == local(at_ms, zone)


def test_a_window_does_not_go_back_where_the_wall_calendar_does() -> None:
    """Newfoundland, 0:01 to 23:01."""
    at_ms = ms("2010-11-07T02:45Z")
    assert local_day(at_ms, "America/St_Johns") == 20101106
    assert window_bounds("day", at_ms, "America/St_Johns").key == 20101107
    assert datetime.fromtimestamp(at_ms / 1000, UTC).hour == 2


@given(days, zones, st.lists(st.tuples(st.integers(0, 23), st.integers(0, 59)), min_size=2, max_size=6))
def test_later_on_the_clock_is_not_earlier(day: int, zone: str, times: list[tuple[int, int]]) -> None:
    at = [moment_of(day, hour, minute, zone) for hour, minute in sorted(times)]
    assert all(first <= second for first, second in pairwise(at))
    assert start_of_day_ms(day, zone) <= at[0] <= at[-1] <= start_of_day_ms(next_day(day), zone)
