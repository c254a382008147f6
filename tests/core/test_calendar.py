"""Local days: days with 23 and 25 hours, the zones furthest from UTC, quarters of an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.calendar import is_time_zone, local_day

ZONES = (
    "UTC",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/New_York",
    "Africa/Monrovia",
)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("moment", "zone", "day"),
    [
        ("2026-05-20T16:59:59.999+00:00", "Asia/Ho_Chi_Minh", 20260520),
        ("2026-05-20T17:00:00+00:00", "Asia/Ho_Chi_Minh", 20260521),
        ("2026-12-31T09:59:59.999+00:00", "Pacific/Kiritimati", 20261231),  # +14
        ("2026-12-31T10:00:00+00:00", "Pacific/Kiritimati", 20270101),
        ("2027-01-01T11:59:59.999+00:00", "Etc/GMT+12", 20261231),  # -12
        ("2027-01-01T12:00:00+00:00", "Etc/GMT+12", 20270101),
        ("2026-05-20T18:14:59.999+00:00", "Asia/Kathmandu", 20260520),  # +5:45
        ("2026-05-20T18:15:00+00:00", "Asia/Kathmandu", 20260521),
        ("2026-03-08T04:59:59.999+00:00", "America/New_York", 20260307),  # the day of 23 hours begins …
        ("2026-03-08T05:00:00+00:00", "America/New_York", 20260308),
        ("2026-03-09T03:59:59.999+00:00", "America/New_York", 20260308),
        ("2026-03-09T04:00:00+00:00", "America/New_York", 20260309),  # … and ends
        ("2026-11-01T04:00:00+00:00", "America/New_York", 20261101),  # the day of 25 hours
        ("2026-11-02T04:59:59.999+00:00", "America/New_York", 20261101),
        ("2026-11-02T05:00:00+00:00", "America/New_York", 20261102),
        ("2028-02-29T00:00:00+00:00", "UTC", 20280229),
        ("1970-01-01T00:00:00+00:00", "UTC", 19700101),
        ("1970-01-01T10:39:59.999+00:00", "Pacific/Kiritimati", 19691231),  # -10:40 then
        ("1970-01-01T10:40:00+00:00", "Pacific/Kiritimati", 19700101),
        ("1972-01-01T00:44:29.999+00:00", "Africa/Monrovia", 19711231),  # -0:44:30 then
        ("1972-01-01T00:44:30+00:00", "Africa/Monrovia", 19720101),
    ],
)
def test_day(moment: str, zone: str, day: int) -> None:
    assert local_day(ms(moment), zone) == day


@given(st.integers(0, 4_000_000_000_000), st.sampled_from(ZONES))
def test_the_day_is_the_calendars(at_ms: int, zone: str) -> None:
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(ZoneInfo(zone))
    assert local_day(at_ms, zone) == int(local.strftime("%Y%m%d"))


def test_names_of_time_zones() -> None:
    assert is_time_zone("Asia/Ho_Chi_Minh")
    for name in ("", "Mars/Base", "../etc/passwd", "/etc/localtime", "a\0b"):
        assert not is_time_zone(name)
    with pytest.raises(ZoneInfoNotFoundError):
        local_day(0, "Mars/Base")
