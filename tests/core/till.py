"""Coupons decided and applied one command after the other, on what a test has put there; nothing has to be loaded."""

from __future__ import annotations

from itertools import count
from typing import Any

from actors.commands import Command, Wake
from actors.coupon import Bill, Code, Coupon, CouponUse, Redemption
from actors.coupon_commands import (
    CaptureCoupon,
    DefineCoupon,
    IssueCoupons,
    RedeemCoupon,
    ReleaseCoupon,
    RollbackCoupon,
)
from actors.coupon_facts import bill_id_of, use_id_of
from actors.coupon_terms import CouponTerms, NewCode, PointsValue
from actors.facts import CommandRefused, Fact, PointsPosted
from actors.handlers import handle
from actors.judge import Judge
from actors.live import Views
from actors.recent import RecentEntries
from actors.requests import RequestMemory
from actors.residents import Residents
from actors.scope import Scope, Unknown
from actors.waiting import Known, Wants
from tests.core.build import LIMITS, NOW_MS, card, signed, tenant


class _Everything(set[str]):
    def __contains__(self, key: object) -> bool:
        return True


class Till:
    """An organisation with cards "card", "card2" … and a clock that only the test moves."""

    def __init__(self, cards: int = 3, time_zone: str = "UTC", **settings: Any) -> None:
        self.now_ms = NOW_MS
        self.tenant = tenant(time_zone=time_zone, **settings)
        self.residents = Residents()
        self.residents.tenants["org"] = self.tenant
        for name in ("card", *(f"card{number}" for number in range(2, cards + 1))):
            self.residents.cards[name] = card(name)
        requests = RequestMemory(LIMITS, is_complete=True, forgotten_until_ms=0, claims={})
        self._memory = Judge(self.residents, requests, RecentEntries(LIMITS), Views(1))
        self.facts: list[Fact] = []
        self._ids = count(1)

    def ask(self, command: Command) -> list[Fact]:
        """The facts of a command, applied."""
        scope = Scope(self._memory, "org", Known(absent=_Everything()), Wants())
        facts = handle(scope, signed(command) if not isinstance(command, Wake) else command, self.now_ms)
        for fact in facts:
            self.facts.append(fact)
            self.residents.apply(fact, len(self.facts))
            if isinstance(fact, PointsPosted):
                self._memory.recent.take(fact, len(self.facts))
        return facts

    def told(self, command: Command) -> str:
        """Why the command is refused, "" if it is not."""
        try:
            facts = self.ask(command)
        except Unknown as unknown:
            return unknown.failure.code
        (answer,) = [fact for fact in facts if fact.request_id]
        return answer.reason if isinstance(answer, CommandRefused) else ""

    def request(self) -> tuple[str, str, bytes]:
        """What every command begins with."""
        return "org", f"request-{next(self._ids)}", b""

    # --- what tests ask -----------------------------------------------------------------------------------------------

    def define(self, coupon_id: str = "cpn", shared: str = "", **terms: Any) -> str:
        """A coupon, with code "code-<coupon>" if `shared` names a text; the refusal."""
        made = CouponTerms(**{"name": "Tea", "value": PointsValue(5), "shared_code": shared, **terms})
        return self.told(DefineCoupon(*self.request(), coupon_id, made, f"shared-{shared}" if shared else ""))

    def issue(self, *code_ids: str, coupon_id: str = "cpn", card_id: str = "") -> str:
        """Codes of a coupon; the refusal."""
        codes = tuple(NewCode(code_id, code_id[-4:], card_id) for code_id in code_ids)
        return self.told(IssueCoupons(*self.request(), coupon_id, codes))

    def redeem(
        self, code_id: str, card_id: str = "card", bill: str = "", hold_ms: int = 0, redemption_id: str = ""
    ) -> str:
        """Redeems, or holds for so long; the refusal. The redemption is named after the code if not otherwise."""
        until_ms = self.now_ms + hold_ms if hold_ms else 0
        own_id = redemption_id or f"rdm-{code_id}"
        return self.told(RedeemCoupon(*self.request(), own_id, code_id, card_id, bill, until_ms))

    def capture(self, redemption_id: str) -> str:
        """The refusal."""
        return self.told(CaptureCoupon(*self.request(), redemption_id))

    def release(self, redemption_id: str) -> str:
        """The refusal."""
        return self.told(ReleaseCoupon(*self.request(), redemption_id))

    def roll_back(self, redemption_id: str) -> str:
        """The refusal."""
        return self.told(RollbackCoupon(*self.request(), redemption_id))

    def wake(self, coupon_id: str = "cpn") -> list[Fact]:
        """The alarm rings."""
        return self.ask(Wake("org", "", b"", "coupon", coupon_id))

    # --- what there is ------------------------------------------------------------------------------------------------

    def coupon(self, coupon_id: str = "cpn") -> Coupon:
        """A coupon's actor."""
        found: Coupon = self.residents.actors["coupon"][coupon_id]
        return found

    def code(self, code_id: str) -> Code:
        """A code's actor."""
        found: Code = self.residents.actors["code"][code_id]
        return found

    def redemption(self, redemption_id: str) -> Redemption:
        """A redemption's actor."""
        found: Redemption = self.residents.actors["redemption"][redemption_id]
        return found

    def bill(self, bill: str) -> Bill:
        """A bill's actor."""
        found: Bill = self.residents.actors["bill"][bill_id_of("org", bill)]
        return found

    def uses(self, card_id: str = "card", coupon_id: str = "cpn") -> int:
        """What a card has used of a coupon."""
        found: CouponUse | None = self.residents.actors["coupon_use"].get(use_id_of(coupon_id, card_id))
        return found.uses if found else 0

    def alarm_ms(self, coupon_id: str = "cpn") -> int:
        """What the coupon's alarm was set to last, 0 for none."""
        alarms = [fact for fact in self.facts if getattr(fact, "kind", "") == "coupon"]
        return getattr(alarms[-1], "wake_ms", 0) if alarms else 0
