"""What clients ask so that rules grant coupons: a coupon of each organisation to grant, rules on all that moves rules,
and redemptions of what was granted. All follows from the request's id: asking takes nothing from the world's dice."""

from __future__ import annotations

from random import Random
from typing import Any

from actors.coupon_commands import ChangeCoupon, DefineCoupon, RedeemCoupon
from actors.coupon_terms import CouponTerms, ItemValue, PointsValue
from actors.rule_commands import SaveRule
from rules.language import Action, AwardPoints, GrantCoupon, Limits, Notify, RuleDefinition, Schedule

Head = tuple[str, str, bytes]
GIFTS = {"org_a": "gift_a", "org_b": "gift_b"}
# None of these can be granted: not there, everybody's, another organisation's.
NO_GIFTS = {"org_a": ("cpn_ghost", "cpn_2", "gift_b"), "org_b": ("cpn_ghost", "cpn_4", "gift_a")}
TRIGGERS = (
    *("checkin", "checkin", "checkin", "exit", "points_earned", "points_spent", "tier_changed", "card_issued"),
    *("coupon_used", "top_up", "streak_reached", "birthday", "schedule"),
)


def founding_gifts(seed: int, tenant_id: str) -> list[Any]:
    """A coupon and rules that grant it, in half of the worlds."""
    rng = Random(f"{seed} {tenant_id}")
    if rng.random() < 0.5:
        return []
    terms = CouponTerms(
        *("Gift", rng.choice((ItemValue("A tea"), PointsValue(2)))),
        tiers=rng.choice(((), (), ("gold",))),
        valid_days=rng.choice((0, 0, 1)),
        uses_max=rng.choice((0, 2, 4, 8)),
        stacking="with_others",
    )
    heads = [(tenant_id, f"gift-{tenant_id}-{number}", b"") for number in range(4)]
    define = DefineCoupon(*heads[0], GIFTS[tenant_id], terms)
    return [define, *(granting_rule(head, rng) for head in heads[1:])]


def granting_rule(head: Head, rng: Random) -> SaveRule:
    """A rule that grants; now and then what cannot be granted."""
    gift = GIFTS[head[0]] if rng.random() < 0.9 else rng.choice(NO_GIFTS[head[0]])
    then: tuple[Action, ...] = rng.choice(
        (
            *((GrantCoupon(gift),), (GrantCoupon(gift),), (GrantCoupon(gift), GrantCoupon(gift))),
            *((AwardPoints(2), GrantCoupon(gift)), (GrantCoupon(gift), Notify("", "For you"))),
        )
    )
    on = rng.choice(TRIGGERS)
    told: dict[str, Any] = {"rule_id": f"rule_{head[1]}", "version": 0, "name": "Gift", "on": on, "when": "true"}
    told["schedule"] = Schedule(rng.choice((0, 780, 1_020))) if on == "schedule" else None
    limits = Limits(per_card=rng.choice((0, 1, 3)), points_budget=rng.choice((0, 0, 8)))
    return SaveRule(*head, RuleDefinition(**told, then=then, limits=limits, state="active"), True)


class Granted:
    """What a client knows of coupons that were granted: their ids and cards, by organisation."""

    def __init__(self) -> None:
        self._codes: dict[str, list[tuple[str, str]]] = {tenant_id: [] for tenant_id in GIFTS}

    def learn(self, fact: Any) -> None:
        """Takes in an outcome: what rules used for it names what they granted."""
        known = self._codes.get(fact.tenant_id, [])
        for code_id in [code_id for units in getattr(fact, "rules", ()) for code_id in units.codes]:
            if (code_id, fact.card_id) not in known:
                known.append((code_id, fact.card_id))

    def instead(self, command: Any) -> Any:
        """Another command about coupons now and then: something granted is redeemed, mostly with its card; the terms of
        what is granted change."""
        rng, known = Random(command.request_id), self._codes[command.tenant_id]
        if isinstance(command, RedeemCoupon) and known and rng.random() < 0.6:
            code_id, card_id = rng.choice(known[-6:])
            card_id = card_id if rng.random() < 0.85 else command.card_id
            head = (command.tenant_id, command.request_id, b"", command.redemption_id)
            return RedeemCoupon(*head, code_id, card_id, command.bill, command.hold_until_ms)
        if isinstance(command, ChangeCoupon) and known and rng.random() < 0.4:
            changes: dict[str, Any] = rng.choice(
                ({"uses_max": rng.randint(1, 9)}, {"state": rng.choice(("active", "active", "paused", "ended"))})
            )
            head = (command.tenant_id, command.request_id, b"")
            return ChangeCoupon(*head, GIFTS[command.tenant_id], **changes)
        return command
