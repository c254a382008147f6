"""Windows of leaderboards: what their names stand for, and which days are theirs."""

from __future__ import annotations

import pytest

from actors.windows import NoWindow, days_of, resolved, windows_of


@pytest.mark.parametrize(
    ("day", "windows"),
    [
        (2026_11_22, ("day:20261122", "week:202647", "month:202611")),
        (2026_11_23, ("day:20261123", "week:202648", "month:202611")),
        # The first days of a year may be the last week of the one before, and the last days the first of the next.
        (2027_01_01, ("day:20270101", "week:202653", "month:202701")),
        (2024_12_30, ("day:20241230", "week:202501", "month:202412")),
        (2028_02_29, ("day:20280229", "week:202809", "month:202802")),
    ],
)
def test_the_windows_of_a_day(day: int, windows: tuple[str, str, str]) -> None:
    assert windows_of(day) == windows
    assert [resolved(kind, day) for kind in ("day", "week", "month")] == list(windows)
    for window in windows:
        first, last = days_of(window)
        assert first <= day <= last
        assert window in windows_of(first)
        assert window in windows_of(last)


@pytest.mark.parametrize(
    ("window", "days"),
    [
        ("day:20260228", (2026_02_28, 2026_02_28)),
        ("week:202653", (2026_12_28, 2027_01_03)),
        ("week:202501", (2024_12_30, 2025_01_05)),
        ("month:202802", (2028_02_01, 2028_02_29)),
        ("month:202612", (2026_12_01, 2026_12_31)),
    ],
)
def test_the_days_of_a_window(window: str, days: tuple[int, int]) -> None:
    assert days_of(window) == days


@pytest.mark.parametrize("window", ["all", "event:evt_1", "event:"])
def test_what_is_no_time_stays_as_it_is(window: str) -> None:
    assert resolved(window, 2026_11_22) == window


@pytest.mark.parametrize(
    "window",
    [
        *("", "year", "days", "all:", "day:", "week:", "month:", "day:2026112", "day:020261122", "day:20261131"),
        *("day:2026-11-22", "week:202654", "week:202553", "week:202600", "month:202613", "month:202600", "month:20261"),
        *("day:٢٠٢٦١١٢٢", "week:+202647", "month:999913", "week:999953", "day:00000101"),
    ],
)
def test_what_there_is_not_is_told(window: str) -> None:
    with pytest.raises(NoWindow, match=r"there is all, day, week, month, day:YYYYMMDD"):
        resolved(window, 2026_11_22)
