"""When a schedule's turn comes next: weekdays, ends of months, leap days, clocks that jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.calendar import local_day, moment_of, previous_day, weekday
from actors.schedule import Schedule, next_scheduled
from tests.core.test_calendar_windows import changes, moments, ms, zones

NOON = Schedule(12, 0)


def told(at_ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%dT%H:%MZ")


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "turns"),
    [
        (NOON, "UTC", "2026-05-20T11:59:59.999Z", ["2026-05-20T12:00Z", "2026-05-21T12:00Z"]),
        (NOON, "UTC", "2026-05-20T12:00Z", ["2026-05-21T12:00Z"]),  # strictly after
        (NOON, "Pacific/Kiritimati", "2026-12-31T22:00Z", ["2027-01-01T22:00Z"]),
        (NOON, "Etc/GMT+12", "2026-12-31T23:59Z", ["2027-01-01T00:00Z", "2027-01-02T00:00Z"]),
        # Tuesdays; Friday and Sunday
        (Schedule(9, 30, weekdays=(2,)), "UTC", "2026-05-20T00:00Z", ["2026-05-26T09:30Z", "2026-06-02T09:30Z"]),
        (Schedule(0, 0, weekdays=(7, 5)), "UTC", "2026-12-31T00:00Z", ["2027-01-01T00:00Z", "2027-01-03T00:00Z"]),
        # The last of each month, once
        (
            Schedule(6, 0, month_days=(31, 30)),
            "UTC",
            "2026-01-30T05:00Z",
            ["2026-01-30T06:00Z", "2026-01-31T06:00Z", "2026-02-28T06:00Z", "2026-03-30T06:00Z"],
        ),
        (Schedule(6, 0, month_days=(29,)), "UTC", "2028-02-01T00:00Z", ["2028-02-29T06:00Z", "2028-03-29T06:00Z"]),
        (Schedule(6, 0, month_days=(1, 15)), "UTC", "2026-12-15T06:00Z", ["2027-01-01T06:00Z", "2027-01-15T06:00Z"]),
        # Once a year, also on 29 February
        (
            Schedule(8, 0, month=2, day=29),
            "UTC",
            "2026-05-20T00:00Z",
            ["2027-02-28T08:00Z", "2028-02-29T08:00Z", "2029-02-28T08:00Z"],
        ),
        (Schedule(0, 0, month=1, day=1), "Pacific/Kiritimati", "2026-12-31T09:59Z", ["2026-12-31T10:00Z"]),
        (Schedule(23, 59, month=12, day=31), "Etc/GMT+12", "2027-01-01T11:58Z", ["2027-01-01T11:59Z"]),
        # Clocks are put forward over it, put back over it
        (
            Schedule(2, 30),
            "America/New_York",
            "2026-03-07T12:00Z",
            ["2026-03-08T07:00Z", "2026-03-09T06:30Z"],
        ),
        (
            Schedule(1, 30),
            "America/New_York",
            "2026-11-01T05:00Z",
            ["2026-11-01T05:30Z", "2026-11-02T06:30Z"],
        ),
        (Schedule(1, 30), "America/New_York", "2026-11-01T06:15Z", ["2026-11-02T06:30Z"]),  # not the second 1:30
        (Schedule(0, 0), "Africa/Cairo", "2024-04-25T12:00Z", ["2024-04-25T22:00Z", "2024-04-26T21:00Z"]),
        (Schedule(2, 15), "Australia/Lord_Howe", "2026-10-03T00:00Z", ["2026-10-03T15:30Z", "2026-10-04T15:15Z"]),
        # The turn of a day that was left out comes as the next begins
        (
            NOON,
            "Pacific/Apia",
            "2011-12-29T21:00Z",
            ["2011-12-29T22:00Z", "2011-12-30T10:00Z", "2011-12-30T22:00Z"],
        ),
        (Schedule(0, 0), "Pacific/Apia", "2011-12-29T10:00Z", ["2011-12-30T10:00Z", "2011-12-31T10:00Z"]),
    ],
)
def test_turns(schedule: Schedule, zone: str, after: str, turns: list[str]) -> None:
    at_ms = ms(after)
    for turn in turns:
        at_ms = next_scheduled(at_ms, schedule, zone)
        assert told(at_ms) == turn


schedules = st.one_of(
    st.builds(Schedule, st.integers(0, 23), st.integers(0, 59)),
    st.builds(
        Schedule, st.integers(0, 23), st.integers(0, 59), weekdays=st.lists(st.integers(1, 7), max_size=7).map(tuple)
    ),
    st.builds(
        Schedule, st.integers(0, 23), st.integers(0, 59), month_days=st.lists(st.integers(1, 31), max_size=4).map(tuple)
    ),
    st.builds(Schedule, st.integers(0, 23), st.integers(0, 59), month=st.integers(1, 12), day=st.integers(1, 28)),
)


@given(moments | changes, schedules, zones)
def test_turns_go_forward_and_none_is_left_out(at_ms: int, schedule: Schedule, zone: str) -> None:
    turn_ms = next_scheduled(at_ms, schedule, zone)
    assert turn_ms > at_ms
    assert next_scheduled(turn_ms - 1, schedule, zone) == turn_ms
    assert next_scheduled(at_ms + (turn_ms - at_ms) // 2, schedule, zone) == turn_ms
    assert next_scheduled(turn_ms, schedule, zone) > turn_ms
    day = local_day(turn_ms, zone)
    candidates = (day, previous_day(day))  # a turn that clocks left out may come as the next day begins
    assert any(turn_ms == moment_of(day, schedule.hour, schedule.minute, zone) for day in candidates)
    if schedule.weekdays:
        assert any(weekday(day) in schedule.weekdays for day in candidates)


@pytest.mark.parametrize(
    "fields",
    [
        {"hour": 24},
        {"hour": -1},
        {"minute": 60},
        {"weekdays": (0,)},
        {"weekdays": (8,)},
        {"month_days": (0,)},
        {"month_days": (32,)},
        {"month": 2},
        {"day": 3},
        {"month": 2, "day": 30},
        {"month": 13, "day": 1},
        {"month": 4, "day": 31},
        {"weekdays": (1,), "month_days": (1,)},
        {"weekdays": (1,), "month": 1, "day": 1},
    ],
)
def test_a_schedule_that_never_comes_is_none(fields: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"hour": 1, "minute": 0, **fields}, Schedule)


def test_a_schedule_is_data() -> None:
    schedule = Schedule(9, 30, weekdays=(1, 2))
    encoded = msgspec.json.encode(schedule)
    assert encoded == b'{"hour":9,"minute":30,"weekdays":[1,2]}'
    assert msgspec.json.decode(encoded, type=Schedule) == schedule
