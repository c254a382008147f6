"""Days as people live them, in what is counted by days: streaks, day boards and the hour at which everybody has left;
where clocks change, in leap years, at month ends, and from +14 to -12. (The calendar itself: `test_calendar*`.)"""

from __future__ import annotations

from datetime import datetime

import pytest

from actors.checkin import decide_check_in
from actors.coupon_terms import ItemValue
from actors.doors import event_alarm_ms
from actors.facts import PointsPosted
from rules.model import Rule
from tests.core.build import card, check_in, event, tenant
from tests.core.test_visits import Door
from tests.core.till import Till

RULE = Rule("rule", 1, "Ten points", "checkin", 10)
NEW_YORK, FIRST, LAST = "America/New_York", "Pacific/Kiritimati", "Etc/GMT+12"


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


# Where, when somebody came, on which local days that was, and the streak after it.
CAME = [
    (
        NEW_YORK,  # the day of 23 hours
        ["2026-03-08T04:59Z", "2026-03-08T05:00Z", "2026-03-09T03:59Z", "2026-03-09T04:00Z"],
        [20260307, 20260308, 20260308, 20260309],
        3,
    ),
    (
        NEW_YORK,  # the day of 25 hours
        ["2026-11-01T04:00Z", "2026-11-02T04:59Z", "2026-11-02T05:00Z"],
        [20261101, 20261101, 20261102],
        2,
    ),
    (NEW_YORK, ["2026-11-01T05:30Z", "2026-11-01T06:30Z"], [20261101, 20261101], 1),  # half past one, twice
    (FIRST, ["2026-12-31T09:59Z", "2026-12-31T10:00Z"], [20261231, 20270101], 2),
    (LAST, ["2026-03-01T11:59Z", "2026-03-01T12:00Z"], [20260228, 20260301], 2),
    ("UTC", ["2028-02-28T12:00Z", "2028-02-29T12:00Z", "2028-03-01T12:00Z"], [20280228, 20280229, 20280301], 3),
    ("UTC", ["2028-02-28T12:00Z", "2028-03-01T12:00Z"], [20280228, 20280301], 1),
    ("Asia/Kathmandu", ["2026-04-30T18:14Z", "2026-04-30T18:15Z"], [20260430, 20260501], 2),
]


@pytest.mark.parametrize(("zone", "came", "days", "streak"), CAME)
def test_streaks(zone: str, came: list[str], days: list[int], streak: int) -> None:
    door = Door(zone)
    for at in came:
        door.scan(ms(at))
    assert door.card.visits.streak == streak
    assert door.card.visits.ever == len(set(days))


@pytest.mark.parametrize(("zone", "came", "days", "streak"), CAME)
def test_day_boards(zone: str, came: list[str], days: list[int], streak: int) -> None:
    posted = [
        fact.day
        for at in came
        for fact in decide_check_in(tenant(time_zone=zone, rules=(RULE,)), card(), event(), check_in("scan"), ms(at))
        if isinstance(fact, PointsPosted)
    ]
    assert posted == days


@pytest.mark.parametrize(("zone", "came", "days", "streak"), CAME)
def test_coupons_once_a_day(zone: str, came: list[str], days: list[int], streak: int) -> None:
    till = Till(time_zone=zone)
    codes = [f"code{number}" for number in range(len(came))]
    till.now_ms = ms(came[0])
    assert till.define(value=ItemValue("Tea"), uses_per_day_max=1) == till.issue(*codes) == ""
    seen: set[int] = set()
    for at, code, day in zip(came, codes, days, strict=True):
        till.now_ms = ms(at)
        assert till.redeem(code) == ("coupon_limit_reached" if day in seen else "")
        seen.add(day)


@pytest.mark.parametrize(
    ("zone", "time", "after", "rings"),
    [
        # 2:00 to 2:59 do not exist on the 8th …
        (NEW_YORK, "02:30", "2026-03-07T00:00Z", ["2026-03-07T07:30Z", "2026-03-08T07:00Z", "2026-03-09T06:30Z"]),
        # … and 1:30 comes twice on the 1st: everybody leaves once.
        (NEW_YORK, "01:30", "2026-10-31T06:00Z", ["2026-11-01T05:30Z", "2026-11-02T06:30Z"]),
        (FIRST, "00:00", "2026-12-30T00:00Z", ["2026-12-30T10:00Z", "2026-12-31T10:00Z", "2027-01-01T10:00Z"]),
        (LAST, "23:59", "2026-03-01T00:00Z", ["2026-03-01T11:59Z", "2026-03-02T11:59Z"]),
        ("UTC", "04:00", "2028-02-28T04:00Z", ["2028-02-29T04:00Z", "2028-03-01T04:00Z"]),
        ("Asia/Kathmandu", "05:45", "2026-04-29T23:59Z", ["2026-04-30T00:00Z", "2026-05-01T00:00Z"]),
    ],
)
def test_everybody_leaves_once_a_day(zone: str, time: str, after: str, rings: list[str]) -> None:
    hour, minute = map(int, time.split(":"))
    terms = event(exit_all_minute=hour * 60 + minute, time_zone=zone).terms
    at_ms, found = ms(after), []
    for _ in rings:
        at_ms = event_alarm_ms(terms, at_ms)
        found.append(at_ms)
    assert found == [ms(ring) for ring in rings]
