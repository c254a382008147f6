"""The till at a café: a guest shows a card, gets points, pays with points or from the wallet, or brings a coupon.

Rules:
1. A guest who has too little, or whose coupon does not go, was answered.
2. A coupon is checked by holding it; then the bill is paid and it is captured, or the guest thinks better of it and it
   is released. Each till has codes of its own, of one coupon per process.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from locust import task

from loadtest.locusts.run import Json
from loadtest.locusts.visitor import Visitor

TOO_LITTLE = frozenset({"insufficient_points", "insufficient_funds"})
NOT_THIS_COUPON = frozenset({"coupon_already_used", "coupon_on_hold", "coupon_not_combinable", "coupon_ended"})
CODES = 50
HOLD = timedelta(minutes=10)
CHANGES_ITS_MIND = 0.2
COFFEE_POINTS = (20, 60)
COFFEE_MONEY = (35_000, 95_000)
TOP_UP_MONEY = 500_000


class Till(Visitor):
    """One that is busy: a guest in three seconds."""

    weight = 2
    kind = "till"
    pause_s = (1.0, 5.0)

    def on_start(self) -> None:
        """Takes a key, and codes to sell."""
        super().on_start()
        self._vip = self.with_key(["manage", "read", "scan"])
        self._coupon: str = self.once(("coupon",), "coupon", self._define)
        self._codes: list[str] = []

    def _define(self) -> str:
        value = {"type": "points", "points": 5}
        coupon_id: str = self._vip.coupons.define("A coffee", value, state="active")["id"]
        return coupon_id

    def _guest(self) -> str:
        card_id: str = random.choice(self.run_now.fixtures["cards"])["id"]
        return card_id

    @task(5)
    def award(self) -> None:
        """Points for what was bought."""
        self.asked("award points", lambda: self._vip.cards.award(self._guest(), random.randint(*COFFEE_POINTS)))

    @task(3)
    def spend(self) -> None:
        """Points for a coffee."""
        cups = random.randint(*COFFEE_POINTS)
        self.asked("spend points", lambda: self._vip.cards.redeem(self._guest(), cups), TOO_LITTLE)

    @task(2)
    def wallet(self) -> None:
        """A look at the wallet, money into it where there is too little, a coffee."""
        card_id, price = self._guest(), random.randint(*COFFEE_MONEY)
        account = self.asked("balance", lambda: self._vip.cards.balance(card_id))
        if account is None:
            return
        if account["wallet"]["balance"] < price:
            self.asked("wallet top-up", lambda: self._vip.cards.top_up(card_id, TOP_UP_MONEY))
        self.asked("wallet pay", lambda: self._vip.cards.pay(card_id, price), TOO_LITTLE)

    @task(2)
    def coupon(self) -> None:
        """A coupon: checked, then redeemed or left (rule 2)."""
        card_id, code = self._guest(), self._code()
        if code is None:
            return
        held = self.asked("coupon check", lambda: self._hold(code, card_id), NOT_THIS_COUPON)
        if held is None:
            return
        redemption: str = held["id"]
        if random.random() < CHANGES_ITS_MIND:
            self.asked("coupon release", lambda: self._vip.coupons.release(redemption))
            self._codes.append(code)
        else:
            self.asked("coupon redeem", lambda: self._vip.coupons.capture(redemption))

    def _hold(self, code: str, card_id: str) -> Json:
        held: Json = self._vip.coupons.redeem(code, card_id, hold_until=datetime.now(UTC) + HOLD)
        return held

    def _code(self) -> str | None:
        """One that nobody has used; more are issued when there is none left."""
        if not self._codes:
            issued: Any = self.asked("coupon issue", lambda: self._vip.coupons.issue(self._coupon, count=CODES))
            if issued is not None:
                self._codes = [item["code"] for item in issued["items"]]
        return self._codes.pop() if self._codes else None
