"""The oracle's part about coupons: counts are worked out anew from all redemptions, at every command."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from actors.coupon_commands import (
    CaptureCoupon,
    ChangeCoupon,
    CouponCommand,
    DefineCoupon,
    IssueCoupons,
    RedeemCoupon,
    ReleaseCoupon,
    RollbackCoupon,
)
from actors.coupon_facts import CodeGranted, CodeWithdrawn, CouponFact, CouponRedeemed, RedemptionChanged
from actors.coupon_terms import CouponTerms
from actors.replies import CouponView, RedemptionView
from actors.versions import coupon_version
from tests.simulation.oracle_grants import code_of
from tests.simulation.plain import plain

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

Expected = tuple[str, dict[str, Any]]
HOLD_MS_MAX = 24 * 3_600_000
DAY_MS = 86_400_000
IN_FORCE = ("on_hold", "redeemed")


def told_of_coupon(reply: CouponView | RedemptionView) -> tuple[tuple[str, str], Any]:
    """What a reply shows of a coupon or of a redemption, and of which: as `CouponOracle.view` and `state` say it."""
    if isinstance(reply, CouponView):
        shown = (reply.terms.name, reply.terms.state, plain("counts", reply.counts))
        return ("coupon view", reply.coupon_id), shown
    return ("redemption", reply.redemption_id), (reply.state, reply.coupon_id, reply.card_id, reply.points_seq)


def situation_of(fact: CouponFact) -> str:
    """What a fact is an example of: a state of a coupon or of something granted, what grants are for."""
    if isinstance(fact, CouponRedeemed | RedemptionChanged):
        return f"{'granted' if fact.code_id.startswith('grant_') else 'coupon'} {fact.state}"
    if isinstance(fact, CodeGranted | CodeWithdrawn):
        return f"{type(fact).__name__} for {fact.cause.partition(':')[0]}"
    return f"coupon {type(fact).__name__}"


class CouponOracle:
    """Coupons, codes and redemptions, as dicts."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.coupons: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, dict[str, Any]] = {}
        self.redemptions: dict[str, dict[str, Any]] = {}

    def owner(self, own_id: str) -> str:
        """Whose coupon, code or redemption it is, "" for an unknown one."""
        for things in (self.coupons, self.codes, self.redemptions):
            if own_id in things:
                return str(things[own_id]["tenant"])
        return ""

    def decide(self, command: CouponCommand) -> list[Expected]:
        """See `Oracle.decide`."""
        match command:
            case DefineCoupon():
                return self._define(command)
            case ChangeCoupon():
                return self._change(command)
            case IssueCoupons():
                return self._issue(command)
            case RedeemCoupon():
                coupon_id, card_id = self.codes[command.code_id]["coupon"], command.card_id
            case _:
                redemption = self.redemptions[command.redemption_id]
                coupon_id, card_id = redemption["coupon"], redemption["card"]
        alarm, card_alarm = self.alarm(coupon_id), self._oracle.alarm(card_id)
        expected = self.lapse(coupon_id)
        expected += self._redeem(command) if isinstance(command, RedeemCoupon) else self._end(command)
        if self._oracle.alarm(card_id) != card_alarm:
            expected.append(_alarm(card_id, self._oracle.alarm(card_id)))
        others: list[Expected] = []
        if isinstance(command, RollbackCoupon) and expected[-1][0] != "CommandRefused":
            cause = f"coupon:{command.redemption_id}"
            own, others = self._oracle.grants.withdrawn_beside(card_id, cause, coupon_id)
            expected += own
        expected += others
        if self.alarm(coupon_id) != alarm:
            expected.append(_alarm(coupon_id, self.alarm(coupon_id)))
        return expected

    def alarm(self, coupon_id: str) -> int:
        """When the next hold of a coupon lapses, 0 if none does."""
        return min((one["until"] for one in self._of(coupon_id) if one["state"] == "on_hold"), default=0)

    def lapse(self, coupon_id: str) -> list[Expected]:
        """What has lapsed ends, the earliest first."""
        now = self._oracle.at_ms
        due = [one for one in self._of(coupon_id) if one["state"] == "on_hold" and one["until"] <= now]
        expected = []
        for one in sorted(due, key=lambda one: (one["until"], one["id"])):
            one["state"] = "lapsed"
            expected.append(("RedemptionChanged", self._shown(one)))
        return expected

    def lapse_and_wake(self, coupon_id: str) -> tuple[int, list[Expected]]:
        """When the alarm rings next, once what has lapsed has ended; and those ends."""
        ended = self.lapse(coupon_id)
        return self.alarm(coupon_id), ended

    def _of(self, coupon_id: str) -> list[dict[str, Any]]:
        return [one for one in self.redemptions.values() if one["coupon"] == coupon_id]

    def counts(self, coupon_id: str) -> tuple[int, int, int, int, int]:
        """Issued, redeemed, on hold, the last day, and the uses of that day."""
        ones = self._of(coupon_id)
        day = max((one["day"] for one in ones), default=0)
        states = [one["state"] for one in ones]
        uses = sum(one["state"] in IN_FORCE and one["day"] == day for one in ones)
        issued = sum(
            code["coupon"] == coupon_id and not code["shared"] and not code["withdrawn"] for code in self.codes.values()
        )
        return issued, states.count("redeemed"), states.count("on_hold"), day, uses

    def view(self, coupon_id: str) -> tuple[str, str, tuple[int, int, int, int, int]]:
        """What is shown of a coupon: name, state, counts."""
        terms = self.coupons[coupon_id]["terms"]
        return terms["name"], terms["state"], self.counts(coupon_id)

    def state(self, redemption_id: str) -> tuple[str, str, str, int]:
        """What is shown of a redemption: state, coupon, card, ledger entry."""
        one = self.redemptions[redemption_id]
        return one["state"], one["coupon"], one["card"], one["points_seq"]

    def _uses(self, coupon_id: str, card_id: str) -> int:
        return sum(one["card"] == card_id and one["state"] in IN_FORCE for one in self._of(coupon_id))

    def _shown(self, one: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "redemption_id": one["id"],
            "code_id": one["code"],
            "card_id": one["card"],
            "bill": one["bill"],
            "state": one["state"],
            "day": one["day"],
            "counts": self.counts(one["coupon"]),
            "card_uses": self._uses(one["coupon"], one["card"]),
            "points_seq": one["points_seq"],
            "rules": one["rules"],
            "rules_seq": one["rules_seq"],
            **more,
        }

    # --- coupons and codes --------------------------------------------------------------------------------------------

    def _define(self, command: DefineCoupon) -> list[Expected]:
        terms = {name: getattr(command.terms, name) for name in CouponTerms.__struct_fields__}
        if command.terms.shared_code and command.shared_code_id in self.codes:
            return _refused("code_taken")
        self.coupons[command.coupon_id] = {"tenant": command.tenant_id, "terms": terms}
        expected: list[Expected] = [("CouponDefined", {"coupon_id": command.coupon_id, "terms": command.terms})]
        if command.terms.shared_code:
            expected.append(self._new_code(command, command.shared_code_id, "", shared=True))
        return expected

    def _new_code(self, command: Any, code_id: str, card_id: str, *, shared: bool = False) -> Expected:
        days = 0 if shared else self.coupons[command.coupon_id]["terms"]["valid_days"]
        expires = self._oracle.at_ms + days * DAY_MS if days else 0
        self.codes[code_id] = code_of(command.tenant_id, command.coupon_id, card_id, expires, shared=shared)
        return ("CodeIssued", {"code_id": code_id, "card_id": card_id, "expires_at_ms": expires, "is_shared": shared})

    def _change(self, command: ChangeCoupon) -> list[Expected]:
        terms = dict(self.coupons[command.coupon_id]["terms"])
        if command.if_version is not None and coupon_version(CouponTerms(**terms)) not in command.if_version:
            return _refused("precondition_failed")
        if terms["state"] == "ended":
            return _refused("coupon_ended")
        for name in terms:
            if getattr(command, name, None) is not None:
                terms[name] = getattr(command, name)
        if terms["ends_ms"] and terms["ends_ms"] <= terms["starts_ms"]:
            return _refused("coupon_terms_invalid")
        if command.state == "draft" and self.coupons[command.coupon_id]["terms"]["state"] != "draft":
            return _refused("coupon_terms_invalid")
        self.coupons[command.coupon_id]["terms"] = terms
        return [("CouponChanged", {"terms": CouponTerms(**terms)})]

    def _issue(self, command: IssueCoupons) -> list[Expected]:
        if self.coupons[command.coupon_id]["terms"]["state"] == "ended":
            return _refused("coupon_ended")
        if any(code.code_id in self.codes for code in command.codes):
            return _refused("code_taken")
        codes = [self._new_code(command, code.code_id, code.card_id) for code in command.codes]
        return [("CodesIssued", {"count": len(codes), "counts": self.counts(command.coupon_id)}), *codes]

    # --- redemptions --------------------------------------------------------------------------------------------------

    def _redeem(self, command: RedeemCoupon) -> list[Expected]:
        oracle, now = self._oracle, self._oracle.at_ms
        code = self.codes[command.code_id]
        coupon_id, card = code["coupon"], oracle.cards[command.card_id]
        terms = self.coupons[coupon_id]["terms"]
        zone = ZoneInfo(oracle.tenants[command.tenant_id]["time_zone"])
        today = int(datetime.fromtimestamp(now / 1000, UTC).astimezone(zone).strftime("%Y%m%d"))
        _, redeemed, on_hold, last_day, day_uses = self.counts(coupon_id)
        day = max(today, last_day)
        reason = self._reason(command, code, terms)
        limits = (
            (terms["uses_per_card_max"], self._uses(coupon_id, command.card_id), "coupon_card_limit_reached"),
            (terms["uses_max"], redeemed + on_hold, "coupon_limit_reached"),
            (terms["uses_per_day_max"], day_uses if day == last_day else 0, "coupon_limit_reached"),
        )
        reason = reason or next((name for most, used, name in limits if most and used >= most), "")
        if not reason and (card["state"] != "active" or not _is_valid(now, *card["valid"])):
            reason = "card_not_active"
        if reason:
            return _refused(reason)
        expected: list[Expected] = []
        if not any(one["card"] == command.card_id for one in self._of(coupon_id)):
            expected.append(("CouponUseBegan", {"coupon_id": coupon_id, "card_id": command.card_id}))
        tenants_own = [one for one in self.redemptions.values() if one["tenant"] == command.tenant_id]
        if command.bill and not any(one["bill"] == command.bill for one in tenants_own):
            expected.append(("BillBegan", {"bill": command.bill}))
        one = self.redemptions[command.redemption_id] = {
            "id": command.redemption_id,
            "tenant": command.tenant_id,
            "coupon": coupon_id,
            "code": "" if code["shared"] else command.code_id,
            "card": command.card_id,
            "bill": command.bill,
            "state": "on_hold" if command.hold_until_ms else "redeemed",
            "until": command.hold_until_ms,
            "day": day,
            "kind": (terms["stacking"], terms["group"]),
            "value": terms["value"],
            "points_seq": 0,
            "rules": [],
            "rules_seq": 0,
        }
        # What rules grant of the coupon itself is counted after it.
        more = {"hold_until_ms": command.hold_until_ms, "counts": self.counts(coupon_id)}
        posted = [] if command.hold_until_ms else self._give(one)
        return [*expected, ("CouponRedeemed", self._shown(one, **more)), *posted]

    def _reason(self, command: RedeemCoupon, code: dict[str, Any], terms: dict[str, Any]) -> str:
        now = self._oracle.at_ms
        users = [
            one["state"]
            for one in self.redemptions.values()
            if one["code"] == command.code_id and one["state"] in IN_FORCE
        ]
        bill = [
            one
            for one in self.redemptions.values()
            if command.bill and (one["tenant"], one["bill"]) == (command.tenant_id, command.bill)
        ]
        others = [
            one for one in bill if one["state"] == "redeemed" or (one["state"] == "on_hold" and one["until"] > now)
        ]
        kind = (terms["stacking"], terms["group"])
        checks: tuple[tuple[Any, str], ...] = (
            (command.hold_until_ms and not now < command.hold_until_ms <= now + HOLD_MS_MAX, "hold_invalid"),
            (terms["state"] == "ended", "coupon_ended"),
            (terms["state"] != "active", "coupon_not_active"),
            (now < terms["starts_ms"], "coupon_not_started"),
            (0 < terms["ends_ms"] <= now or 0 < code["expires"] <= now, "coupon_expired"),
            (code["card"] and code["card"] != command.card_id, "coupon_not_for_card"),
            (terms["tiers"] and self._oracle.tier_now(command.card_id) not in terms["tiers"], "coupon_not_for_card"),
            ("redeemed" in users, "coupon_already_used"),
            ("on_hold" in users, "coupon_on_hold"),
            (code["withdrawn"], "coupon_withdrawn"),
            (others and kind[0] == "alone", "coupon_not_combinable"),
            (any(one["kind"] != kind for one in others), "coupon_not_combinable"),
        )
        return next((reason for is_broken, reason in checks if is_broken), "")

    def _give(self, one: dict[str, Any]) -> list[Expected]:
        """What a redemption gives, rules included."""
        oracle, card_id, cause = self._oracle, one["card"], f"coupon:{one['id']}"
        points, card = getattr(one["value"], "points", 0), oracle.cards[one["card"]]
        is_active = card["state"] == "active"
        if not points and not (is_active and oracle.has_rules_on(one["tenant"], "coupon_used")):
            return []
        before, told = oracle.seen(card_id), oracle.lapse(card_id)
        if is_active:
            base = [("", points)] if points else []
            more = {"held": True, "base": base, **before}
            moments: list[tuple[str, dict[str, Any]]] = [("coupon_used", {"coupon": self._used(one)})]
            given = oracle.run(card_id, cause, "", oracle.at_ms, moments, **more)
        else:
            given = oracle.awarded(card_id, points, cause)
        awards = [(fields["rule"], fields["entry_seq"]) for _, fields in given if fields.get("kind") == "award"]
        one["points_seq"] = next((seq for rule, seq in awards if not rule), 0)
        one["rules_seq"] = next((seq for rule, seq in awards if rule), 0)
        one["rules"] = oracle.units(card_id, cause)
        return [*told, *given]

    @staticmethod
    def _used(one: dict[str, Any]) -> tuple[str, str, int, str]:
        """What rules see of the coupon. (Here coupons are worth points or an item.)"""
        points = getattr(one["value"], "points", 0)
        return one["coupon"], "points" if points else "item", points, one["bill"]

    def _end(self, command: CaptureCoupon | ReleaseCoupon | RollbackCoupon) -> list[Expected]:
        one = self.redemptions[command.redemption_id]
        ended = {
            "redeemed": "hold_captured",
            "released": "hold_released",
            "lapsed": "hold_lapsed",
            "rolled_back": "already_rolled_back",
        }
        if isinstance(command, RollbackCoupon):
            if one["state"] != "redeemed":
                is_done = one["state"] == "rolled_back"
                return _refused("already_rolled_back" if is_done else "coupon_not_redeemed")
            one["state"] = "rolled_back"
            posted = self._take_back(one)
        elif one["state"] != "on_hold":
            return _refused(ended[one["state"]])
        elif isinstance(command, CaptureCoupon):
            one["state"] = "redeemed"
            counts = self.counts(one["coupon"])
            posted = self._give(one)
            return [("RedemptionChanged", self._shown(one, counts=counts)), *posted]
        else:
            one["state"], posted = "released", []
        return [("RedemptionChanged", self._shown(one)), *posted]

    def _take_back(self, one: dict[str, Any]) -> list[Expected]:
        oracle, card_id, cause = self._oracle, one["card"], f"coupon:{one['id']}"
        ledger = oracle.ledgers[card_id]
        given = [entry["entry_seq"] for entry in ledger if entry["cause"] == cause and entry["kind"] == "award"]
        told = oracle.lapse(card_id) if given else []
        told += [oracle.taken_from(card_id, entry_seq) for entry_seq in given]
        return [*told, *oracle.returned(card_id, cause)]


def _alarm(own_id: str, wake_ms: int) -> Expected:
    return ("AlarmSet", {"entity_id": own_id, "wake_ms": wake_ms, "rang": False})


def _is_valid(now_ms: int, from_ms: int, until_ms: int) -> bool:
    return from_ms <= now_ms and (until_ms == 0 or now_ms < until_ms)


def _refused(reason: str) -> list[Expected]:
    return [("CommandRefused", {"reason": reason})]
