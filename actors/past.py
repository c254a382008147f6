"""The moments of the past, as rules would have looked at them, made from the facts alone. Pure.

Rules:
1. Moments are those that requests led to: admissions, exits, postings, changes of a tier by people or by points, cards
   issued, coupons used; and birthdays. What rules made of them is none, so a span without rules and one with them have
   the same moments.
2. Of what an admission earned, the simple award is its base, and so are a coupon's points of its use; that makes a
   moment of `points_earned`, too.
3. Cards are what the facts say, before each one's effects. What no fact of the span has told yet is as `CardThen` has
   it: balances, score and tier exactly. Of the points what is pending, or was held since before the span, counts as
   if it could be spent.
4. Visits of a card are known from its first admission in the span that changed them, and as long as it did not come
   again since. Else they count 0, an admission's own at least 1: a span that begins with a day of the organisation
   tells all of its admissions exactly.
5. What rules know of a card's holder is as of now until a fact of the span tells it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from actors.calendar import start_of_day_ms
from actors.card_facts import CardTierChanged
from actors.coupon_facts import CouponRedeemed, RedemptionChanged
from actors.coupon_rules import coupon_view
from actors.coupon_terms import PointsValue
from actors.door_condition import whole_days
from actors.facts import CardIssued, Fact, PointsPosted, ScanJudged
from actors.ledger import COUPON_CAUSE
from actors.member_facts import BirthdayCame, CardHolderDescribed
from actors.points import TRIGGER_OF
from actors.profiles import NO_PROFILE, Profile, attributes_of
from actors.refusals import CARD_REVOKED, CARD_SUSPENDED
from actors.visits import NO_VISITS, Visits, visits_on
from rules.language import Trigger
from rules.moment import (
    CardView,
    CountsView,
    EventView,
    MemberView,
    Moment,
    PointsView,
    ScanView,
    StreakView,
    TierView,
    TopUpView,
)
from rules.schedule import local_time

_Used: TypeAlias = CouponRedeemed | RedemptionChanged
PastFact: TypeAlias = (
    ScanJudged | PointsPosted | CardTierChanged | CardIssued | CardHolderDescribed | BirthdayCame | _Used
)
_NOT_ACTIVE = (CARD_REVOKED, CARD_SUSPENDED)
_MOVES_RULES = ("manual", "points")


class CardThen(msgspec.Struct):
    """What is known of a card. `visits_told`: by a fact of the span; else they are as of now. `points` are with
    those that are put aside: `holds` has the amount and the end of each that the span tells. `asked` are points, score
    and wallet before the last request about it: what a rise by points is judged by."""

    member_id: str
    tier: str
    points: int
    earned: int
    wallet: int
    issued_at_ms: int
    visits: Visits = NO_VISITS
    visits_told: bool = False
    asked: tuple[int, int, int] = (0, 0, 0)
    holds: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)
    profile: Profile = NO_PROFILE


class Told(msgspec.Struct, frozen=True):
    """A moment, and its cause as `actors.rule_facts` tells causes."""

    cause: str
    moment: Moment


def past_facts(facts: Iterable[Fact], tenant_id: str) -> list[PastFact]:
    """Those of the organisation that tell something about a card."""
    return [
        fact
        for fact in facts
        if fact.tenant_id == tenant_id
        and (
            isinstance(fact, PointsPosted | CardTierChanged | CardIssued | CardHolderDescribed)
            or (isinstance(fact, BirthdayCame) and fact.came_on)
            or (isinstance(fact, CouponRedeemed | RedemptionChanged) and fact.state == "redeemed")
            or (isinstance(fact, ScanJudged) and not fact.reason)
        )
    ]


class Past:
    """One organisation's cards and events as the facts go on. What a fact is about has to be known (`asks`, `learn`)
    before its moments are asked for; `apply` goes on."""

    def __init__(self, time_zone: str) -> None:
        self._zone = time_zone
        self._cards: dict[str, CardThen] = {}
        self._events: dict[str, EventView] = {}

    def asks(self, facts: Iterable[PastFact]) -> tuple[set[str], set[str]]:
        """The cards and the events that these are about and nobody has told of yet."""
        cards, events = set(), set()
        for fact in facts:
            if fact.card_id not in self._cards:
                cards.add(fact.card_id)
            if isinstance(fact, ScanJudged) and fact.event_id not in self._events:
                events.add(fact.event_id)
        return cards, events

    def learn(self, cards: Mapping[str, CardThen], events: Mapping[str, EventView]) -> None:
        """What was asked for, as it was before those facts."""
        self._cards.update(cards)
        self._events.update(events)

    def moments(self, fact: PastFact) -> Iterator[Told]:
        """What a fact was to rules, before it is applied. A card that nobody knows had none."""
        card = self._cards.get(fact.card_id)
        if card is None:
            return
        if isinstance(fact, ScanJudged):
            yield from self._of_scan(fact, card)
        elif isinstance(fact, PointsPosted):
            yield from self._of_posting(fact, card)
        elif isinstance(fact, CardTierChanged):
            if fact.reason in _MOVES_RULES and fact.tier != fact.tier_before:
                is_rise = fact.reason == "points"
                points, earned, wallet = card.asked if is_rise else (card.points, card.earned, card.wallet)
                after = msgspec.structs.replace(card, tier=fact.tier, points=points, earned=earned, wallet=wallet)
                cause = f"tier:{fact.request_id}" if fact.request_id else fact.cause
                tier = TierView(fact.tier_before, fact.tier)
                yield Told(
                    cause, self._moment("tier_changed", fact.at_ms, fact.card_id, after, depth=int(is_rise), tier=tier)
                )
        elif isinstance(fact, CouponRedeemed | RedemptionChanged):
            yield from self._of_coupon(fact, card)
        elif isinstance(fact, BirthdayCame):
            begins_ms = start_of_day_ms(fact.came_on, self._zone)
            yield Told(
                f"birthday:{fact.came_on}", self._moment("birthday", begins_ms, fact.card_id, card, as_of_ms=fact.at_ms)
            )
        elif isinstance(fact, CardIssued):
            who = {"member_id": fact.member_id, "profile": fact.profile}
            new = msgspec.structs.replace(card, tier=fact.tier, issued_at_ms=fact.at_ms, **who)
            yield Told(f"issue:{fact.request_id}", self._moment("card_issued", fact.at_ms, fact.card_id, new))

    def apply(self, fact: PastFact) -> None:
        """Takes in what the fact says about its card."""
        card = self._cards.get(fact.card_id)
        if card is None:
            return
        if fact.request_id:
            card.asked = (card.points, card.earned, card.wallet)
        if isinstance(fact, ScanJudged):
            card.tier = fact.tier or card.tier
            if fact.visits is not None:
                card.visits, card.visits_told = fact.visits, True
        elif isinstance(fact, PointsPosted):
            card.points, card.wallet, card.earned = fact.points_after, fact.wallet_after, fact.earned_after
            if fact.held > 0 and fact.account == "points":
                card.holds[fact.entry_seq] = fact.held, fact.due_ms
            elif fact.held < 0:
                card.holds.pop(fact.reverses, None)
        elif isinstance(fact, CardTierChanged):
            card.tier = fact.tier
        elif isinstance(fact, CardHolderDescribed):
            card.profile = fact.profile
        elif isinstance(fact, CardIssued):
            card.tier, card.member_id, card.issued_at_ms = fact.tier, fact.member_id, fact.at_ms
            card.profile = fact.profile

    def _of_scan(self, fact: ScanJudged, card: CardThen) -> Iterator[Told]:
        details = fact.details
        if details is not None and (details.is_move or {details.forced, details.conflict} & set(_NOT_ACTIVE)):
            return
        is_offline = details is not None and details.is_offline
        at_ms = fact.scanned_at_ms if is_offline else fact.at_ms
        base = fact.points_awarded - sum(units.points for units in fact.rules)
        before = msgspec.structs.replace(
            card, tier=fact.tier, member_id=fact.member_id, points=fact.points_balance - fact.points_awarded
        )
        if fact.visits is not None:
            before.visits, before.visits_told = fact.visits, True
        event = self._events.get(fact.event_id, EventView(fact.event_id, ""))
        scan = ScanView(fact.gate_id, fact.direction, fact.device_id, is_offline)
        is_entry = fact.direction == "entry"
        trigger: Trigger = "checkin" if is_entry else "exit"
        door: dict[str, Any] = {"event": event, "scan": scan, "visits_event": fact.card_entries}
        moment = self._moment(trigger, at_ms, fact.card_id, before, least=int(is_entry), base_points=base, **door)
        cause = f"{trigger}:{fact.request_id}"
        yield Told(cause, moment)
        if is_entry and base:
            points = PointsView(base)
            yield Told(
                cause, self._moment("points_earned", at_ms, fact.card_id, before, least=1, depth=1, points=points)
            )
        visits = fact.visits
        if visits is not None and fact.visit_day and (visits.day, visits.today) == (fact.visit_day, 1):
            streak = StreakView(visits.streak)
            yield Told(cause, self._moment("streak_reached", at_ms, fact.card_id, before, least=1, streak=streak))

    def _of_coupon(self, fact: _Used, card: CardThen) -> Iterator[Told]:
        base = fact.value.points if isinstance(fact.value, PointsValue) else 0
        coupon, cause = coupon_view(fact.coupon_id, fact.value, fact.bill), COUPON_CAUSE + fact.redemption_id
        at = (fact.at_ms, fact.card_id, card)
        yield Told(cause, self._moment("coupon_used", *at, base_points=base, coupon=coupon))
        if base:
            yield Told(cause, self._moment("points_earned", *at, depth=1, points=PointsView(base)))

    def _of_posting(self, fact: PointsPosted, card: CardThen) -> Iterator[Told]:
        trigger = TRIGGER_OF.get(fact.kind)
        if trigger is None or not fact.request_id or not fact.amount:
            return
        amount = abs(fact.amount)
        views: dict[str, Any] = {"top_up": TopUpView(amount)}
        if trigger != "top_up":
            views = {"points": PointsView(amount, fact.account)}
        yield Told(f"entry:{fact.entry_seq}", self._moment(trigger, fact.at_ms, fact.card_id, card, **views))

    def _moment(
        self,
        trigger: Trigger,
        at_ms: int,
        card_id: str,
        card: CardThen,
        *,
        least: int = 0,
        visits_event: int = 0,
        base_points: int = 0,
        depth: int = 0,
        as_of_ms: int = 0,
        **views: Any,
    ) -> Moment:
        now, profile = local_time(at_ms, self._zone), card.profile
        visits = card.visits if card.visits_told or card.visits.day <= now.date else NO_VISITS
        today, this_week, _, streak = visits_on(visits, now.date)
        counts = (max(today, least), max(this_week, least), visits_event, max(visits.ever, least), max(streak, least))
        held = sum(amount for amount, ends_ms in card.holds.values() if ends_ms > (as_of_ms or at_ms))
        days = whole_days(card.issued_at_ms, at_ms)
        return Moment(
            trigger,
            at_ms,
            now,
            CardView(card_id, card.tier, card.points - held, card.earned, card.wallet, days),
            MemberView(card.member_id, profile.birthday, attributes_of(profile.attributes), profile.birth_year),
            CountsView(*counts),
            base_points=base_points,
            depth=depth,
            **views,
        )
