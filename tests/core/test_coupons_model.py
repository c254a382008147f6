"""Coupons against a simple model: whatever is asked in whatever order, the engine says what a list of them says.

The model keeps redemptions in a list and counts anew each time; it knows nothing of actors, facts or alarms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from actors.coupon_commands import ChangeCoupon
from actors.coupon_terms import DAY_MS, PointsValue
from tests.core.till import Till

CARDS = ("card", "card2", "card3")
BILLS = ("", "bill", "bill2")
POINTS = 5


@dataclass
class Redeemed:
    """A redemption of the model."""

    name: str
    code: str
    card: str
    bill: str
    state: str
    until_ms: int
    day: int

    def at(self, now_ms: int) -> str:
        """The state at a time, lapses considered."""
        return "lapsed" if self.state == "on_hold" and self.until_ms <= now_ms else self.state


class Coupons(RuleBasedStateMachine):
    """One coupon with few codes, small limits and a clock that jumps."""

    names = Bundle("redemptions")

    def __init__(self) -> None:
        super().__init__()
        self.till = Till()
        self.codes = [f"code{number}" for number in range(4)]
        self.limits = {"uses_max": 3, "uses_per_card_max": 2, "uses_per_day_max": 2}
        assert self.till.define(value=PointsValue(POINTS), stacking="with_others", **self.limits) == ""
        assert self.till.issue(*self.codes) == ""
        self.made: list[Redeemed] = []

    @property
    def _now(self) -> int:
        return self.till.now_ms

    @property
    def _today(self) -> int:
        return self._now // DAY_MS

    def _in_force(self) -> list[Redeemed]:
        return [one for one in self.made if one.at(self._now) in ("on_hold", "redeemed")]

    @rule(
        target=names,
        code=st.integers(0, 3),
        card=st.sampled_from(CARDS),
        bill=st.sampled_from(BILLS),
        hold=st.integers(0, 3),
    )
    def redeem(self, code: int, card: str, bill: str, hold: int) -> str:
        name, in_force = f"rdm{len(self.made)}", self._in_force()
        state = next((one.at(self._now) for one in in_force if one.code == self.codes[code]), "")
        expected = {"redeemed": "coupon_already_used", "on_hold": "coupon_on_hold", "": ""}[state]
        reached = (
            ("uses_per_card_max", sum(one.card == card for one in in_force), "coupon_card_limit_reached"),
            ("uses_max", len(in_force), "coupon_limit_reached"),
            ("uses_per_day_max", sum(one.day == self._today for one in in_force), "coupon_limit_reached"),
        )
        for limit, used, reason in reached:
            if not expected and self.limits[limit] and used >= self.limits[limit]:
                expected = reason
        hold_ms = hold * 1_000
        assert self.till.redeem(self.codes[code], card, bill, hold_ms, name) == expected
        if not expected:
            kind = "on_hold" if hold else "redeemed"
            self.made.append(Redeemed(name, self.codes[code], card, bill, kind, self._now + hold_ms, self._today))
        return name

    def _find(self, name: str) -> Redeemed | None:
        return next((one for one in self.made if one.name == name), None)

    @rule(name=names, act=st.sampled_from(["capture", "release"]))
    def end_hold(self, name: str, act: str) -> None:
        one = self._find(name)
        told = self.till.capture(name) if act == "capture" else self.till.release(name)
        if one is None:
            assert told == "redemption_unknown"
            return
        ended = {
            "redeemed": "hold_captured",
            "released": "hold_released",
            "lapsed": "hold_lapsed",
            "rolled_back": "already_rolled_back",
            "on_hold": "",
        }
        one.state = one.at(self._now)
        assert told == ended[one.state]
        if not told:
            one.state = "redeemed" if act == "capture" else "released"

    @rule(name=names)
    def roll_back(self, name: str) -> None:
        one = self._find(name)
        told = self.till.roll_back(name)
        if one is None:
            assert told == "redemption_unknown"
        elif one.state == "redeemed":
            assert told == ""
            one.state = "rolled_back"
        else:
            assert told == ("already_rolled_back" if one.state == "rolled_back" else "coupon_not_redeemed")

    @rule(later_ms=st.sampled_from([1, 999, 1_000, 2_500, DAY_MS]))
    def time_passes(self, later_ms: int) -> None:
        self.till.now_ms += later_ms

    @precondition(lambda self: self.made)
    @rule(limit=st.sampled_from(["uses_max", "uses_per_card_max", "uses_per_day_max"]), most=st.integers(0, 3))
    def change(self, limit: str, most: int) -> None:
        change: dict[str, Any] = {limit: most}
        assert self.till.told(ChangeCoupon(*self.till.request(), "cpn", **change)) == ""
        self.limits[limit] = most

    @invariant()
    def points_are_those_of_redemptions_in_force(self) -> None:
        for card in CARDS:
            redeemed = sum(one.state == "redeemed" and one.card == card for one in self.made)
            assert self.till.residents.cards[card].balance == POINTS * redeemed

    @rule()
    def alarm_rings(self) -> None:
        """After it the coupon counts what is in force and nothing else."""
        self.till.wake()
        in_force, counts = self._in_force(), self.till.coupon().counts
        assert counts.redeemed == sum(one.state == "redeemed" for one in in_force)
        assert counts.on_hold == len(in_force) - counts.redeemed == len(self.till.coupon().holds)
        for card in CARDS:
            assert self.till.uses(card) == sum(one.card == card for one in in_force)
        for code in self.codes:
            users = [one.at(self._now) for one in in_force if one.code == code]
            assert self.till.code(code).state == (users[0] if users else "issued")
        for bill in {one.bill for one in self.made} - {""}:
            assert set(self.till.bill(bill).coupons) == {one.name for one in in_force if one.bill == bill}
        assert self.till.alarm_ms() == min((one.until_ms for one in in_force if one.state == "on_hold"), default=0)


TestCoupons = Coupons.TestCase
TestCoupons.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
