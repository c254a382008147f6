"""Local time, and when a schedule comes next: clocks that change, short months, the zones furthest from UTC."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import rounds
from rules.language import Notify, RuleDefinition, Schedule
from rules.schedule import LocalTime, local_time
from tests.core.rule_moments import ms

BERLIN = "Europe/Berlin"
NEWS = {"rule_id": "rule", "version": 1, "name": "News", "on": "schedule", "when": "true", "state": "active"}
SAIGON = "Asia/Ho_Chi_Minh"


def next_due_ms(schedule: Schedule, zone: str, after_ms: int) -> int:
    return rounds.next_due_ms(RuleDefinition(**NEWS, then=(Notify("x"),), schedule=schedule), zone, after_ms)


@pytest.mark.parametrize(
    ("at", "zone", "shown"),
    [
        ("2026-05-19T11:10:59.999+00:00", SAIGON, LocalTime(2026, 5, 19, 18, 10, 2, 20260519)),
        ("2026-05-19T17:00:00+00:00", SAIGON, LocalTime(2026, 5, 20, 0, 0, 3, 20260520)),
        ("2026-03-29T00:59:00+00:00", BERLIN, LocalTime(2026, 3, 29, 1, 59, 7, 20260329)),
        ("2026-03-29T01:00:00+00:00", BERLIN, LocalTime(2026, 3, 29, 3, 0, 7, 20260329)),
        ("2026-12-31T10:00:00+00:00", "Pacific/Kiritimati", LocalTime(2027, 1, 1, 0, 0, 5, 20270101)),
        ("2026-12-31T12:00:00+00:00", "Etc/GMT+12", LocalTime(2026, 12, 31, 0, 0, 4, 20261231)),
        ("2028-02-29T00:00:00+00:00", "UTC", LocalTime(2028, 2, 29, 0, 0, 2, 20280229)),
    ],
)
def test_what_the_clocks_show(at: str, zone: str, shown: LocalTime) -> None:
    assert local_time(ms(at), zone) == shown


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "due"),
    [
        (Schedule(540), SAIGON, "2026-05-19T08:59:59+07:00", "2026-05-19T09:00:00+07:00"),
        (Schedule(540), SAIGON, "2026-05-19T09:00:00+07:00", "2026-05-20T09:00:00+07:00"),
        (Schedule(0), SAIGON, "2026-05-19T23:59:59+07:00", "2026-05-20T00:00:00+07:00"),
        (Schedule(540, (1, 2)), SAIGON, "2026-05-19T09:00:00+07:00", "2026-05-25T09:00:00+07:00"),
        (Schedule(540, (), (1, 15)), SAIGON, "2026-05-15T09:00:00+07:00", "2026-06-01T09:00:00+07:00"),
        (Schedule(540, (), (31,)), SAIGON, "2026-05-31T09:00:00+07:00", "2026-06-30T09:00:00+07:00"),
        (Schedule(540, (), (30, 31)), SAIGON, "2026-06-30T09:00:00+07:00", "2026-07-30T09:00:00+07:00"),
        (Schedule(540, (), (29, 30)), SAIGON, "2027-01-30T09:00:00+07:00", "2027-02-28T09:00:00+07:00"),
        (Schedule(540, (), (29,)), SAIGON, "2028-01-29T09:00:00+07:00", "2028-02-29T09:00:00+07:00"),
        # 02:30 does not exist on this day: the first moment after the gap.
        (Schedule(150), BERLIN, "2026-03-28T12:00:00+01:00", "2026-03-29T03:00:00+02:00"),
        (Schedule(150), BERLIN, "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"),
        # 02:30 exists twice on this day: the first.
        (Schedule(150), BERLIN, "2026-10-24T12:00:00+02:00", "2026-10-25T02:30:00+02:00"),
        (Schedule(150), BERLIN, "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"),
        # Half an hour is skipped on Lord Howe Island, midnight itself in Beirut, a whole day on Samoa in 2011.
        (Schedule(135), "Australia/Lord_Howe", "2026-10-03T12:00:00+10:30", "2026-10-04T02:30:00+11:00"),
        (Schedule(0), "Asia/Beirut", "2026-03-28T12:00:00+02:00", "2026-03-29T01:00:00+03:00"),
        (Schedule(540), "Pacific/Apia", "2011-12-29T09:00:00-10:00", "2011-12-31T00:00:00+14:00"),
        (Schedule(540), "Pacific/Apia", "2011-12-31T00:00:00+14:00", "2011-12-31T09:00:00+14:00"),
    ],
)
def test_when_a_schedule_comes_next(schedule: Schedule, zone: str, after: str, due: str) -> None:
    assert next_due_ms(schedule, zone, ms(after)) == ms(due)


ZONES = st.sampled_from(["UTC", BERLIN, SAIGON, "Pacific/Kiritimati", "Etc/GMT+12", "America/New_York", "Asia/Beirut"])


@given(st.integers(1_600_000_000_000, 2_000_000_000_000), st.integers(0, 1439), ZONES)
def test_a_daily_schedule_comes_once_on_each_day(after_ms: int, minute: int, zone: str) -> None:
    due = [after_ms]
    for _ in range(4):
        due.append(next_due_ms(Schedule(minute), zone, due[-1]))
    dates = [local_time(at_ms, zone).date for at_ms in due[1:]]
    assert due == sorted(set(due))
    assert len(set(dates)) == len(dates)
    assert all(23 * 3_600_000 - 60_000 <= b - a <= 26 * 3_600_000 for a, b in pairwise(due[1:]))


@given(st.integers(1_600_000_000_000, 2_000_000_000_000), st.integers(-5_000_000, 5_000_000), ZONES)
def test_nothing_is_left_out_between(after_ms: int, step_ms: int, zone: str) -> None:
    """Asked from anywhere before a due time, the answer is no later than that."""
    due_ms = next_due_ms(Schedule(150), zone, after_ms)
    assert due_ms > after_ms
    assert next_due_ms(Schedule(150), zone, min(due_ms - 1, after_ms + abs(step_ms))) == due_ms
