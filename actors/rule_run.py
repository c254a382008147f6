"""What an organisation's rules make of what happens to a card: postings, coupons, another tier, and what is to happen
outside. Pure.

Rules:
1. The points that an organisation awards for each first entry (`rules.model`), and those of a coupon, go before all
   rules here and count as what the moment was awarded already: a rule that multiplies counts them in.
2. What rules gave at a moment is one moment itself: points earned, once, and one change of tier, each a level deeper.
   At `rules.limits.DEPTH_MAX` nothing fires, so a cause leads to a bounded number of moments.
3. A limit per card is counted while a rule has one; days are those of the moment, but never earlier than the last one
   that counts for the card. Budgets are counted always.
4. A rule applies as a whole or not at all. What a card has no room for, a coupon that cannot be granted to it, or what
   would be the effects beyond `EFFECTS_PER_CAUSE_MAX` of one cause, is recorded as that rule's failure.
5. A tier that a rule sets is as good as one by points: points raise it at once, the next review lowers it. One that a
   person set until a time stays.
6. A rise by points moves rules as any change of the tier does, one level deeper than what earned them; reviews move
   none, for nobody did anything then.
7. What points lead to comes after them, in rounds: postings, the rules that gave them, the rise; then what that led to.
8. A version of a rule that fails is told once a day of the organisation; more would bury what it says.
9. `moment.card` is the card before the cause, at every depth, but for its tier, which is the one that it has.
10. A coupon is looked at only once a rule grants it; what is not in memory then has to be loaded
    (`actors.scope.NotLoaded`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, get_args

from msgspec.structs import replace

from actors.card import Card
from actors.card_facts import CardTierChanged
from actors.coupon_grants import Grants
from actors.door_condition import DAY_MS, whole_days
from actors.facts import Fact, PointsPosted
from actors.ledger import BALANCE_MAX, LedgerDraft, card_alarm
from actors.profiles import attributes_of
from actors.rule_facts import (
    EffectRequested,
    RuleFailure,
    RulesApplied,
    RuleStep,
    RuleUnits,
    RuleUnitsReturned,
    RuleUse,
)
from actors.scope import Scope
from actors.tenant import Tenant
from actors.terms import FAR_MS, LOTS_PER_CARD_MAX, Lot, Tier
from actors.tiers import Standing, review_ms
from actors.visits import Visits, visits_on
from rules.language import Trigger
from rules.limits import DEPTH_MAX
from rules.moment import CardView, CountsView, MemberView, Moment, PointsView, TierView
from rules.outcome import CouponGranted, HolderNotified, Outcome, PointsAwarded, TierSet, UnitsUsed, Uses, WebhookCalled
from rules.schedule import local_time

EFFECTS_PER_CAUSE_MAX = 64
# Moments that were awarded something before any rule (rule 1).
_WITH_BASE: frozenset[Trigger] = frozenset({"checkin", "coupon_used"})
_TIERS: Mapping[str, Tier] = {tier: tier for tier in get_args(Tier)}


class RuleRun(Mapping[str, Uses]):
    """One cause, and all that rules make of it, on top of a draft of the card's ledger. As a mapping it tells what each
    rule has used so far. `before` is the run of another card in the same decision: budgets, failures that were told
    and the organisation's accounts go on from there. `grants` is there where rules may grant coupons."""

    def __init__(
        self,
        tenant: Tenant,
        card: Card,
        at_ms: int,
        cause: str,
        *,
        happened_ms: int = 0,
        draft: LedgerDraft | None = None,
        visits: Visits | None = None,
        event_id: str = "",
        event_earned: int = 0,
        standing: Standing | None = None,
        before: RuleRun | None = None,
        grants: Grants | None = None,
    ) -> None:
        self._tenant = tenant
        self._card = card
        self._at_ms = at_ms
        self._happened_ms = happened_ms or at_ms
        self._cause = cause
        self._draft = draft
        self._standing = standing
        self._visits = visits or card.visits
        self._event_id = event_id
        self._event_earned = event_earned
        self._tier: str = (standing or (draft.standing if draft is not None else card)).tier
        self._day = 0
        self._cards: dict[str, RuleUse] = {}
        self._points: dict[str, int] = before._points if before is not None else {}
        self._effects = 0
        self._failed: set[str] = before._failed if before is not None else set()
        self._drawn = before.ledger if before is not None else None
        self._grants = grants
        self._granted = 0
        self._facts: list[Fact] = []
        self.units: list[RuleUnits] = []
        # What was awarded before any rule.
        self.base_points = 0

    # --- what rules have used (Mapping) -----------------------------------------------------------------------------

    def __getitem__(self, rule_id: str) -> Uses:
        use = self._use(rule_id)
        times, day_times = (use.times, use.day_times if use.day >= self._day else 0) if use else (0, 0)
        return Uses(times, day_times, self._points_of(rule_id))

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def _use(self, rule_id: str) -> RuleUse | None:
        use = self._cards.get(rule_id)
        return use if use is not None else use_of(self._card, rule_id)

    def _points_of(self, rule_id: str) -> int:
        points = self._points.get(rule_id)
        return points if points is not None else self._tenant.rule_points.get(rule_id, 0)

    # --- what happens -----------------------------------------------------------------------------------------------

    @property
    def draft(self) -> LedgerDraft:
        """The card's ledger from here on; what has fallen due is posted first."""
        if self._draft is None:
            when = (self._at_ms, self._drawn, self._happened_ms)
            self._draft = LedgerDraft(self._tenant, self._card, *when, self._standing)
            self._draft.settle()
        return self._draft

    @property
    def ledger(self) -> LedgerDraft | None:
        """The latest draft of a ledger, this card's or one before; None where nothing was posted."""
        return self._draft if self._draft is not None else self._drawn

    def award_base(self, points: int, rule: str) -> None:
        """What goes before all rules (rule 1): an award of the organisation's by `rule`, of a coupon's by ""."""
        self._award(points, rule, ())
        self.base_points += points

    def happens(self, trigger: Trigger, depth: int = 0, **views: Any) -> None:
        """Has the rules look at a moment, and at what they made of it (rule 2)."""
        compiled = self._tenant.rulebook.compiled
        is_heard = compiled.listens_to(trigger)
        awarded, tier = self.base_points if trigger in _WITH_BASE else 0, self._tier
        if is_heard:
            moment = self._moment(trigger, depth, awarded, views)
            awarded += self._take(moment, compiled.evaluate(moment, self))
        if depth + 1 >= DEPTH_MAX:
            return
        if awarded and compiled.listens_to("points_earned"):
            self.happens("points_earned", depth + 1, points=PointsView(awarded))
        if tier != self._tier and compiled.listens_to("tier_changed"):
            self.happens("tier_changed", depth + 1, tier=TierView(tier, self._tier))

    def _moment(self, trigger: Trigger, depth: int, base_points: int, views: dict[str, Any]) -> Moment:
        card, profile = self._card, self._card.profile
        zone = self._tenant.settings.time_zone
        now = local_time(self._happened_ms, zone)
        self._day = now.date
        today, this_week, _, streak = visits_on(self._visits, now.date)
        counts = CountsView(today, this_week, views.pop("visits_event", 0), self._visits.ever, streak)
        days = whole_days(card.issued_at_ms, self._happened_ms)
        seen = CardView(card.card_id, self._tier, card.available(self._at_ms), card.earned, card.wallet, days)
        return Moment(
            trigger,
            self._happened_ms,
            now,
            seen,
            MemberView(card.member_id, profile.birthday, attributes_of(profile.attributes), profile.birth_year),
            counts,
            base_points=base_points,
            depth=depth,
            **views,
        )

    def _take(self, moment: Moment, outcome: Outcome) -> int:
        """Takes in what rules give; returns the points."""
        failures = [RuleFailure(one.rule_id, one.version, one.where, one.reason) for one in outcome.failures]
        steps: list[RuleStep] = []
        awarded = 0
        effects_of: dict[str, list[Any]] = {}
        for effect in outcome.effects:
            effects_of.setdefault(effect.rule_id, []).append(effect)
        place = len(self._facts)
        for used in outcome.used:
            effects = effects_of[used.rule_id]
            fault = self._no_room(effects) or self._no_grant(effects)
            if fault:
                failures.append(RuleFailure(used.rule_id, used.version, "then", fault))
                continue
            self._effects += len(effects)
            awarded += used.points
            codes: list[str] = []
            for effect in effects:
                self._give(effect, codes)
            steps.append(self._count(used, tuple(codes)))
        failed_on, failures = self._news_of(failures) if failures else (0, failures)
        if steps or failures:
            head = (self._card.tenant_id, "", b"", self._at_ms, self._card.card_id, self._cause)
            told = (moment.trigger, moment.depth, tuple(steps), tuple(failures), failed_on)
            self._facts.insert(place, RulesApplied(*head, *told))
        return awarded

    def _news_of(self, failures: list[RuleFailure]) -> tuple[int, list[RuleFailure]]:
        """The local day, and what was not told of these on it (rule 8)."""
        today = local_time(self._at_ms, self._tenant.settings.time_zone).date
        news = []
        for one in failures:
            before = self._tenant.rule_failures.get(one.rule_id)
            is_told = before is not None and before.version == one.version and today <= before.day
            if not is_told and one.rule_id not in self._failed:
                self._failed.add(one.rule_id)
                news.append(one)
        return (today if news else 0), news

    def _no_room(self, effects: list[Any]) -> str:
        awards = [effect for effect in effects if isinstance(effect, PointsAwarded)]
        if self._effects + len(effects) > EFFECTS_PER_CAUSE_MAX:
            return "too_many_effects"
        if not awards:
            return ""
        if self.draft.balance + sum(award.amount for award in awards) > BALANCE_MAX:
            return "balance_limit_reached"
        lots = sum(bool(award.expires_after_days or award.pending_days) for award in awards)
        return "lots_limit_reached" if lots and self.draft.lot_count + lots > LOTS_PER_CARD_MAX else ""

    def _no_grant(self, effects: list[Any]) -> str:
        coupon_ids = [effect.coupon_id for effect in effects if isinstance(effect, CouponGranted)]
        if not coupon_ids:
            return ""
        assert self._grants is not None, "rules grant where they may"
        return self._grants.fault(coupon_ids, self._tier)

    def _count(self, used: UnitsUsed, codes: tuple[str, ...]) -> RuleStep:
        definition = self._tenant.rulebook.get(used.rule_id)
        assert definition is not None, "a rule that applies is there"
        points = self._points[used.rule_id] = self._points_of(used.rule_id) + used.points
        if not (definition.limits.per_card or definition.limits.per_card_per_day):
            units = RuleUnits(used.rule_id, used.version, used.points, codes=codes)
            self.units.append(units)
            return RuleStep(units, points)
        before = self._use(used.rule_id) or RuleUse(used.rule_id, 0, used.date, 0)
        day = max(used.date, before.day)
        use = RuleUse(used.rule_id, before.times + 1, day, (before.day_times if before.day == day else 0) + 1)
        self._cards[used.rule_id] = use
        units = RuleUnits(used.rule_id, used.version, used.points, day, codes)
        self.units.append(units)
        return RuleStep(units, points, use)

    def _give(self, effect: Any, codes: list[str]) -> None:
        """Gives one effect; `codes` takes in the id of a coupon."""
        card, rule = self._card, f"{effect.rule_id}:{effect.version}"
        head = (card.tenant_id, "", b"", self._at_ms, card.card_id)
        cited = (self._cause, effect.rule_id, effect.version)
        if isinstance(effect, PointsAwarded):
            lots: tuple[Lot, ...] = ()
            if effect.expires_after_days or effect.pending_days:
                expires_ms = self._at_ms + effect.expires_after_days * DAY_MS if effect.expires_after_days else FAR_MS
                since_ms = self._at_ms + effect.pending_days * DAY_MS if effect.pending_days else 0
                lots = (Lot(self.draft.next_seq, effect.amount, expires_ms, since_ms),)
            self._award(effect.amount, rule, lots)
        elif isinstance(effect, TierSet):
            tier = _TIERS[effect.tier]
            if tier != self._tier and not self.draft.standing.is_held:
                before, self._tier = self._tier, tier
                due_ms = review_ms(self._tenant, tier, self._at_ms)
                self.draft.stand(Standing(tier, due_ms, False))
                stands = (0, due_ms, False, self._at_ms)
                self._facts.append(CardTierChanged(*head, tier, before, "rule", "", self._cause, rule, *stands))
        elif isinstance(effect, CouponGranted):
            assert self._grants is not None
            told = (effect.coupon_id, card.card_id, self._cause, (effect.rule_id, effect.version), self._granted)
            granted = self._grants.give(*told)
            self._granted += 1
            codes.append(granted.code_id)
            self._facts.append(granted)
        elif isinstance(effect, HolderNotified):
            self._facts.append(EffectRequested(*head, *cited, "notify", effect.template, effect.text))
        else:
            assert isinstance(effect, WebhookCalled)
            self._facts.append(EffectRequested(*head, *cited, "call_webhook", effect.name))

    def _award(self, points: int, rule: str, lots: tuple[Lot, ...]) -> None:
        draft = self.draft
        self._event_earned += points
        draft.post(
            "award",
            points,
            self._cause,
            rule=rule,
            event_id=self._event_id,
            earned=points,
            earned_day=draft.day,
            event_earned_after=self._event_earned if self._event_id else 0,
            lots=lots,
        )

    # --- what came of it --------------------------------------------------------------------------------------------

    def finished(self) -> list[Fact]:
        """All facts: round by round the postings, what else rules did, and the rise by points (rule 7); the card's
        alarm."""
        card, standing, draft = self._card, self._standing, self._draft
        if draft is None:
            alarm = card_alarm(card, standing.due_ms, self._at_ms) if standing is not None else []
            return [*self._facts, *alarm]
        return [*draft.due, *self._rounds(draft), *draft.alarm()]

    def woken(self, first: Fact) -> list[Fact]:
        """The same, where the card's alarm is the cause, which led to `first` after what fell due about the tier."""
        facts = self._rounds(self.draft)
        return [self.draft.rang(), *self.draft.due, first, *facts]

    def _rounds(self, draft: LedgerDraft) -> list[Fact]:
        facts: list[Fact] = []
        told = 0
        for depth in count(1):
            points = draft.window_points()
            facts += draft.facts[told:]
            facts += [replace(one, points=points) if isinstance(one, CardTierChanged) else one for one in self._facts]
            told, self._facts = len(draft.facts), []
            before = draft.standing.tier
            facts += draft.rise()
            self._tier = draft.standing.tier
            if self._tier == before:
                break
            if depth < DEPTH_MAX and self._tenant.rulebook.compiled.listens_to("tier_changed"):
                self.happens("tier_changed", depth, tier=TierView(before, self._tier))
        return facts

    def finished_with(self, root: PointsPosted) -> list[Fact]:
        """The same, where a posting is the cause: it keeps what it led to, for its reversal."""
        facts = self.finished()
        return [replace(fact, rules=tuple(self.units)) if fact is root and self.units else fact for fact in facts]


def use_of(card: Card, rule_id: str) -> RuleUse | None:
    """How often a rule has applied to a card, None where that was never counted."""
    for use in card.seldom.rule_uses:
        if use.rule_id == rule_id:
            return use
    return None


def units_returned(tenant: Tenant, card: Card, units: tuple[RuleUnits, ...], cause: str, at_ms: int) -> list[Fact]:
    """What the annulment of a cause gives back to its rules; those that were deleted meanwhile count nothing more."""
    points: dict[str, int] = {}
    uses: dict[str, RuleUse] = {}
    steps: list[RuleStep] = []
    for one in units:
        rule_id = one.rule_id
        if tenant.rulebook.get(rule_id) is None:
            continue
        points[rule_id] = points.get(rule_id, tenant.rule_points.get(rule_id, 0)) - one.points
        use = uses.get(rule_id) or use_of(card, rule_id)
        if one.day and use is not None:
            is_latest = use.day == one.day
            use = uses[rule_id] = RuleUse(rule_id, use.times - 1, use.day, use.day_times - is_latest)
        else:
            use = None
        steps.append(RuleStep(one, points[rule_id], use))
    if not steps:
        return []
    return [RuleUnitsReturned(card.tenant_id, "", b"", at_ms, card.card_id, cause, tuple(steps))]


def tier_rules(scope: Scope, card: Card, before: str, standing: Standing, cause: str, at_ms: int) -> list[Fact]:
    """What rules make of another tier that the card got, and its alarm where that changes."""
    tenant = scope.tenant
    run = RuleRun(tenant, card, at_ms, cause, standing=standing, grants=Grants(scope, at_ms))
    if tenant.rulebook.rules and tenant.rulebook.compiled.listens_to("tier_changed"):
        run.happens("tier_changed", tier=TierView(before, standing.tier))
    return run.finished()
