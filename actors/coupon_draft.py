"""Building facts about one coupon, each on top of the one before. Pure.

Rules are those of `actors.coupon_redemptions`; the first of them is kept here: what has lapsed ends first.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from actors.coupon import Bill, Code, Coupon, CouponUse, Redemption
from actors.coupon_commands import RedeemCoupon
from actors.coupon_facts import (
    BillBegan,
    CodeWithdrawn,
    CouponRedeemed,
    CouponUseBegan,
    RedemptionChanged,
    bill_id_of,
    use_id_of,
)
from actors.coupon_terms import CouponCounts, RedemptionState
from actors.facts import AlarmSet, Fact
from actors.rule_facts import RuleUnits
from actors.scope import Scope


class Gains(NamedTuple):
    """What goes to the card with a redemption, or comes back; `entry_seq` is the coupon's own award, `rules_seq` the
    first award of a rule, each 0 without."""

    facts: tuple[Fact, ...] = ()
    entry_seq: int = 0
    rules: tuple[RuleUnits, ...] = ()
    rules_seq: int = 0


NO_GAINS = Gains()


class CouponDraft:
    """Builds facts about one coupon, each on top of the one before, without touching the actors. Begins with the ends
    of the holds that have lapsed (rule 1); may raise `actors.scope.NotLoaded`."""

    def __init__(self, scope: Scope, coupon: Coupon, at_ms: int) -> None:
        self._coupon = coupon
        self._at_ms = at_ms
        self.counts = coupon.counts
        self._open_until_ms = {name: hold.until_ms for name, hold in coupon.holds.items()}
        # What cards have used, as far as it has changed here, and the redemptions that ended.
        self.uses: dict[str, int] = {}
        self.lapsed: set[str] = set()
        self.facts: list[Fact] = []
        self._lapse(scope)

    def _lapse(self, scope: Scope) -> None:
        due = sorted((until_ms, name) for name, until_ms in self._open_until_ms.items() if until_ms <= self._at_ms)
        touched: list[tuple[str, str]] = []
        for _, name in due:
            hold = self._coupon.holds[name]
            touched.append(("redemption", name))
            touched.append(("coupon_use", use_id_of(self._coupon.coupon_id, hold.card_id)))
            touched += [("code", hold.code_id)] if hold.code_id else []
            touched += [("bill", bill_id_of(self._coupon.tenant_id, hold.bill))] if hold.bill else []
        found = dict(zip(touched, scope.find_all(touched), strict=True))
        for _, name in due:
            redemption: Redemption = found["redemption", name]
            use: CouponUse = found["coupon_use", use_id_of(redemption.coupon_id, redemption.card_id)]
            self.change(redemption, use, "lapsed")
            self.lapsed.add(name)

    @property
    def coupon_id(self) -> str:
        """Which coupon it is about."""
        return self._coupon.coupon_id

    @property
    def open_holds(self) -> int:
        """How many holds of the coupon are open."""
        return len(self._open_until_ms)

    def uses_of(self, use: CouponUse | None) -> int:
        """What a card has used so far."""
        return 0 if use is None else self.uses.get(use.coupon_use_id, use.uses)

    def counts_begun(self, day: int, *, is_hold: bool) -> CouponCounts:
        """The counts after a redemption or a hold on local day `day`."""
        counts = self.counts
        day = max(day, counts.day)
        return msgspec.structs.replace(
            counts,
            redeemed=counts.redeemed + (not is_hold),
            on_hold=counts.on_hold + is_hold,
            day=day,
            day_uses=uses_on(day, counts) + 1,
        )

    def counts_after(self, redemption: Redemption, state: RedemptionState) -> CouponCounts:
        """The counts once a redemption has come to this state: all but its capture gives back what it counted for."""
        counts, gives_back = self.counts, state != "redeemed"
        return msgspec.structs.replace(
            counts,
            redeemed=counts.redeemed + (state == "redeemed") - (state == "rolled_back"),
            on_hold=counts.on_hold - (state != "rolled_back"),
            day_uses=counts.day_uses - (gives_back and redemption.day == counts.day),
        )

    def begin(
        self, command: RedeemCoupon, code: Code, use: CouponUse | None, bill: Bill | None, day: int, gains: Gains
    ) -> None:
        """A redemption, or its hold, on local day `day`; `gains` are what it gives."""
        terms, is_hold = self._coupon.terms, command.hold_until_ms > 0
        head = (command.tenant_id, "", b"", self._at_ms)
        if use is None:
            self.facts.append(CouponUseBegan(*head, code.coupon_id, command.card_id))
        if command.bill and bill is None:
            self.facts.append(BillBegan(*head, command.bill))
        self.counts = self.counts_begun(day, is_hold=is_hold)
        redeemed = CouponRedeemed(
            *(command.tenant_id, command.request_id, command.fingerprint, self._at_ms, command.redemption_id),
            *(code.coupon_id, "" if code.is_shared else code.code_id, command.card_id, command.bill),
            *("on_hold" if is_hold else "redeemed", command.hold_until_ms, self.counts.day),
            value=terms.value,
            stacking=terms.stacking,
            group=terms.group,
            counts=self.counts,
            card_uses=self.uses_of(use) + 1,
            points_seq=gains.entry_seq,
            rules=gains.rules,
            rules_seq=gains.rules_seq,
        )
        self.facts += [redeemed, *gains.facts]
        if is_hold:
            self._open_until_ms[command.redemption_id] = command.hold_until_ms

    def change(
        self,
        redemption: Redemption,
        use: CouponUse,
        state: RedemptionState,
        request: tuple[str, bytes] = ("", b""),
        gains: Gains = NO_GAINS,
        note: str = "",
    ) -> None:
        """What becomes of a redemption."""
        gives_back = state != "redeemed"
        self.counts = self.counts_after(redemption, state)
        self.uses[use.coupon_use_id] = self.uses_of(use) - gives_back
        self._open_until_ms.pop(redemption.redemption_id, None)
        changed = RedemptionChanged(
            *(redemption.tenant_id, *request, self._at_ms, redemption.redemption_id, redemption.coupon_id),
            *(redemption.code_id, redemption.card_id, redemption.bill, state),
            *(redemption.hold_until_ms if gives_back else 0, redemption.day),
            value=redemption.value,
            stacking=redemption.stacking,
            group=redemption.group,
            counts=self.counts,
            card_uses=self.uses[use.coupon_use_id],
            points_seq=gains.entry_seq or redemption.points_seq,
            began_at_ms=redemption.began_at_ms,
            note=note,
            rules=gains.rules or redemption.rules,
            rules_seq=gains.rules_seq or redemption.rules_seq,
        )
        self.facts += [changed, *gains.facts]

    def withdraw(self, code: Code, cause: str) -> None:
        """What was granted for a cause is no more, unless it is used; a hold that has lapsed is no use."""
        if code.state == "issued" or code.redemption_id in self.lapsed:
            self.counts = msgspec.structs.replace(self.counts, issued=self.counts.issued - 1)
            head = (code.tenant_id, "", b"", self._at_ms, code.code_id, code.coupon_id, code.card_id)
            self.facts.append(CodeWithdrawn(*head, cause, self.counts))

    def finished(self, *more: Fact) -> list[Fact]:
        """The facts, `more`, and the coupon's alarm where they change it."""
        before = min((hold.until_ms for hold in self._coupon.holds.values()), default=0)
        facts = [*self.facts, *more]
        return facts if before == self._wake_ms else [*facts, self._alarm(rang=False)]

    def woken(self) -> list[Fact]:
        """What the alarm led to."""
        return [self._alarm(rang=True), *self.facts]

    @property
    def _wake_ms(self) -> int:
        return min(self._open_until_ms.values(), default=0)

    def _alarm(self, *, rang: bool) -> AlarmSet:
        coupon = self._coupon
        return AlarmSet(coupon.tenant_id, "", b"", self._at_ms, "coupon", coupon.coupon_id, self._wake_ms, rang)


def uses_on(day: int, counts: CouponCounts) -> int:
    """How much of a day's limit is used up."""
    return counts.day_uses if day == counts.day else 0
