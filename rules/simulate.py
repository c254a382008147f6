"""What a draft would have done over a span of moments, and what that would have cost; nothing happens.

Rules:
1. Moments come in the order in which they happened, one tenant's, each with its local date. Units used are counted on
   from one moment to the next, from nothing.
2. Only what the moments themselves trigger is simulated: an award of a rule starts no further rules here, and cards and
   counts are what the moments say, not what the simulated effects would have made of them.
3. A draft is simulated as if it were active, without the bounds of its time, beside the rules that are active: it
   counts in what those before it awarded, and they may hold it back.
4. The same definitions and moments give the same report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from rules.compiled import BrokenRule, RuleSet
from rules.language import RuleDefinition
from rules.limits import SIMULATION_EXAMPLES_MAX
from rules.moment import Moment
from rules.outcome import CouponGranted, Effect, Outcome, UnitsUsed, Uses


class RuleDay(msgspec.Struct):
    """What one rule would have done on one local day (yyyymmdd)."""

    date: int
    applied: int = 0
    points: int = 0
    coupons: int = 0


class RuleTotals(msgspec.Struct):
    """What one rule would have done: times applied, to how many cards, effects, points and coupons given, times failed,
    and times held back by a limit or by another of its group. `days` are those on which it applied, by their dates."""

    rule_id: str
    version: int
    applied: int = 0
    cards: int = 0
    effects: int = 0
    points: int = 0
    coupons: int = 0
    failed: int = 0
    withheld: int = 0
    days: dict[int, RuleDay] = msgspec.field(default_factory=dict)

    def on(self, date: int) -> RuleDay:
        """What it did on that day so far."""
        return self.days.setdefault(date, RuleDay(date))


class DayTotals(msgspec.Struct):
    """What all rules would have done on one local day (yyyymmdd)."""

    date: int
    moments: int = 0
    applied: int = 0
    points: int = 0
    coupons: int = 0


class Example(msgspec.Struct, frozen=True):
    """One moment at which the draft would have applied, and what it comes from, as `actors.rule_facts` tells causes; ""
    for a moment that was made up."""

    at_ms: int
    card_id: str
    cause: str
    effects: tuple[Effect, ...]


class Simulation(msgspec.Struct, frozen=True):
    """The report. `rules` has every rule that did or failed something, by id; `days` every day with a moment, in order;
    `failures` counts reasons; `examples` are the first at which the draft applied; `granted` counts coupons by id."""

    moments: int
    applied: int
    points: int
    coupons: int
    rules: tuple[RuleTotals, ...]
    days: tuple[DayTotals, ...]
    failures: dict[str, int]
    examples: tuple[Example, ...]
    broken: tuple[BrokenRule, ...]
    granted: dict[str, int]


class _RunningUses:
    """Units used by rule and card, counted on from moment to moment."""

    def __init__(self) -> None:
        self._points: Counter[str] = Counter()
        self._card: Counter[tuple[str, str]] = Counter()
        self._card_day: Counter[tuple[str, str, int]] = Counter()

    def of(self, card_id: str, date: int, rule_ids: Iterable[str]) -> dict[str, Uses]:
        """What each rule has used, for this card on this day."""
        return {
            rule_id: Uses(
                card=self._card[rule_id, card_id],
                card_day=self._card_day[rule_id, card_id, date],
                points=self._points[rule_id],
            )
            for rule_id in rule_ids
        }

    def add(self, card_id: str, used: UnitsUsed) -> bool:
        """Counts what a rule has used; says whether this was its first time for the card."""
        self._points[used.rule_id] += used.points
        self._card[used.rule_id, card_id] += 1
        self._card_day[used.rule_id, card_id, used.date] += 1
        return self._card[used.rule_id, card_id] == 1


class Simulator:
    """Looks at moments one by one, in their order."""

    def __init__(
        self,
        draft: RuleDefinition,
        beside: Iterable[RuleDefinition] = (),
        *,
        examples_max: int = SIMULATION_EXAMPLES_MAX,
    ) -> None:
        """`beside` are the organisation's other rules; one of the draft's id is replaced by it."""
        self._draft = msgspec.structs.replace(draft, state="active", valid_from_ms=0, valid_until_ms=0)
        others = [one for one in beside if one.state == "active" and one.rule_id != draft.rule_id]
        self._rules = RuleSet.compile([self._draft, *others])
        self._rule_ids = [self._draft.rule_id, *(one.rule_id for one in others)]
        self._examples_max = examples_max
        self._uses = _RunningUses()
        self._totals: dict[str, RuleTotals] = {}
        self._days: dict[int, DayTotals] = {}
        self._failures: Counter[str] = Counter()
        self._granted: Counter[str] = Counter()
        self._examples: list[Example] = []

    def see(self, moment: Moment, cause: str = "") -> None:
        """The next moment."""
        date = moment.now.date
        day = self._days.setdefault(date, DayTotals(date))
        day.moments += 1
        if not self._rules.listens_to(moment.trigger):
            return
        outcome = self._rules.evaluate(moment, self._uses.of(moment.card.card_id, date, self._rule_ids))
        for used in outcome.used:
            totals = self._of(used.rule_id, used.version)
            totals.cards += self._uses.add(moment.card.card_id, used)
            for count in (totals, totals.on(date), day):
                count.applied += 1
                count.points += used.points
        for effect in outcome.effects:
            totals = self._of(effect.rule_id, effect.version)
            totals.effects += 1
            if isinstance(effect, CouponGranted):
                self._granted[effect.coupon_id] += 1
                for count in (totals, totals.on(date), day):
                    count.coupons += 1
        for failure in outcome.failures:
            self._of(failure.rule_id, failure.version).failed += 1
            self._failures[failure.reason] += 1
        for withheld in outcome.withheld:
            self._of(withheld.rule_id, withheld.version).withheld += 1
        self._show(moment, cause, outcome)

    def report(self) -> Simulation:
        """What came of all moments so far."""
        days = tuple(day for _, day in sorted(self._days.items()))
        return Simulation(
            moments=sum(day.moments for day in days),
            applied=sum(day.applied for day in days),
            points=sum(day.points for day in days),
            coupons=sum(day.coupons for day in days),
            rules=tuple(totals for _, totals in sorted(self._totals.items())),
            days=days,
            failures=dict(sorted(self._failures.items())),
            examples=tuple(self._examples),
            broken=self._rules.broken,
            granted=dict(sorted(self._granted.items())),
        )

    def _show(self, moment: Moment, cause: str, outcome: Outcome) -> None:
        if len(self._examples) < self._examples_max:
            own = tuple(effect for effect in outcome.effects if effect.rule_id == self._draft.rule_id)
            if own:
                self._examples.append(Example(moment.at_ms, moment.card.card_id, cause, own))

    def _of(self, rule_id: str, version: int) -> RuleTotals:
        return self._totals.setdefault(rule_id, RuleTotals(rule_id, version))
