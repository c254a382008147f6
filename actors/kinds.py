"""The kinds of virtual actors, and which of them a fact is about.

Rules:
1. A fact names an actor of a kind by its field `<kind>_id`; an empty id names none. What happens at a door changes the
   card only where it changes its visits.
2. A fact creates at most one actor. Every other actor that it changes is told in `touches`, in the order in which it
   is applied.
3. The engine, the replay and the audit all go by this one table; what is not in it changes no actor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from actors.board_facts import BoardPaidOut
from actors.card import Card
from actors.card_facts import (
    CardReissued,
    CardRenewed,
    CardTierChanged,
    TagAssigned,
    TagEnrolled,
    TagRemoved,
    TierReviewed,
)
from actors.coupon import Bill, Code, Coupon, CouponUse, Redemption
from actors.coupon_facts import (
    BillBegan,
    CodeGranted,
    CodeIssued,
    CodesIssued,
    CodeWithdrawn,
    CouponChanged,
    CouponDefined,
    CouponRedeemed,
    CouponUseBegan,
    RedemptionChanged,
)
from actors.door_facts import AdmissionListChanged, CardNoted, EveryoneLeft, QuestionsAnswered, ScanAnnulled
from actors.event import Event
from actors.facts import (
    CardHolderRenamed,
    CardIssued,
    CardStateChanged,
    EventChanged,
    EventCreated,
    PointsPosted,
    ScanJudged,
    TenantChanged,
    TenantOpened,
)
from actors.member_facts import BirthdayCame, CardHolderDescribed
from actors.payout import Payout
from actors.rule_facts import RuleDeleted, RulesApplied, RuleSaved, RuleUnitsReturned
from actors.schedule_facts import SchedulesMoved
from actors.tag import Tag
from actors.tenant import Tenant

Actor = Tenant | Card | Event | Tag | Coupon | Code | CouponUse | Bill | Redemption | Payout
KINDS = ("tenant", "card", "event", "tag", "coupon", "code", "coupon_use", "bill", "redemption", "payout")


class Route(NamedTuple):
    """`creates` is the kind of the actor that comes to be ("" for none), `birth` makes it."""

    creates: str = ""
    birth: Callable[[Any, int], Actor] | None = None
    touches: tuple[str, ...] = ()


ROUTES: dict[type, Route] = {
    TenantOpened: Route("tenant", Tenant.opened),
    TenantChanged: Route(touches=("tenant",)),
    CardIssued: Route("card", Card.issued, ("tenant",)),
    CardStateChanged: Route(touches=("card", "tenant")),
    CardHolderRenamed: Route(touches=("card",)),
    CardHolderDescribed: Route(touches=("card",)),
    BirthdayCame: Route(touches=("card",)),
    EventCreated: Route("event", Event.created),
    EventChanged: Route(touches=("event",)),
    ScanJudged: Route(touches=("event", "tag", "card")),
    PointsPosted: Route(touches=("card", "event", "tenant")),
    ScanAnnulled: Route(touches=("event", "card")),
    EveryoneLeft: Route(touches=("event",)),
    AdmissionListChanged: Route(touches=("event",)),
    QuestionsAnswered: Route(touches=("event",)),
    CardNoted: Route(touches=("card",)),
    CardReissued: Route(touches=("card",)),
    CardRenewed: Route(touches=("card",)),
    CardTierChanged: Route(touches=("card",)),
    TierReviewed: Route(touches=("card",)),
    TagEnrolled: Route("tag", Tag.enrolled),
    TagAssigned: Route(touches=("card", "tag")),
    TagRemoved: Route(touches=("card", "tag")),
    CouponDefined: Route("coupon", Coupon.defined),
    CouponChanged: Route(touches=("coupon",)),
    CodesIssued: Route(touches=("coupon",)),
    CodeIssued: Route("code", Code.issued),
    CodeGranted: Route("code", Code.granted, ("coupon",)),
    CodeWithdrawn: Route(touches=("code", "coupon")),
    CouponUseBegan: Route("coupon_use", CouponUse.began),
    BillBegan: Route("bill", Bill.began),
    CouponRedeemed: Route("redemption", Redemption.made, ("coupon", "code", "coupon_use", "bill")),
    RedemptionChanged: Route(touches=("redemption", "coupon", "code", "coupon_use", "bill")),
    BoardPaidOut: Route("payout", Payout.made),
    RuleSaved: Route(touches=("tenant",)),
    RuleDeleted: Route(touches=("tenant",)),
    RulesApplied: Route(touches=("card", "tenant")),
    SchedulesMoved: Route(touches=("tenant",)),
    RuleUnitsReturned: Route(touches=("card", "tenant")),
}
NOWHERE = Route()


def id_of(fact: object, kind: str) -> str:
    """The id of the actor of this kind that a fact names, "" for none."""
    if kind == "card" and isinstance(fact, ScanJudged | ScanAnnulled) and fact.visits is None:
        return ""
    return str(getattr(fact, f"{kind}_id"))
