"""What rules would have done over a span of moments, and what that would have cost; nothing happens.

Rules:
1. Moments come in the order in which they happened, one tenant's, each with its local date. Units used are counted on
   from one moment to the next, from nothing or from `uses` given.
2. Only what the moments themselves trigger is simulated: an award of a rule starts no further rules here, and cards and
   counts are what the moments say, not what the simulated effects would have made of them.
3. The same definitions and moments give the same report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from rules.compiled import BrokenRule, RuleSet
from rules.language import RuleDefinition
from rules.limits import SIMULATION_EXAMPLES_MAX
from rules.moment import Moment
from rules.outcome import CouponGranted, Effect, Outcome, UnitsUsed, Uses


class RuleTotals(msgspec.Struct):
    """What one rule would have done: times applied, to how many cards, points and coupons given, times failed, and
    times held back by a limit or by another of its group."""

    rule_id: str
    version: int
    applied: int = 0
    cards: int = 0
    points: int = 0
    coupons: int = 0
    failed: int = 0
    withheld: int = 0


class DayTotals(msgspec.Struct):
    """What all rules would have done on one local day (yyyymmdd)."""

    date: int
    moments: int = 0
    applied: int = 0
    points: int = 0
    coupons: int = 0


class Example(msgspec.Struct, frozen=True):
    """One moment at which something would have happened."""

    at_ms: int
    card_id: str
    effects: tuple[Effect, ...]


class Simulation(msgspec.Struct, frozen=True):
    """The report. `rules` has every rule that did or failed something, by id; `days` every day with a moment, in order;
    `failures` counts reasons; `examples` are the first with an effect."""

    moments: int
    applied: int
    points: int
    coupons: int
    rules: tuple[RuleTotals, ...]
    days: tuple[DayTotals, ...]
    failures: dict[str, int]
    examples: tuple[Example, ...]
    broken: tuple[BrokenRule, ...]


class RunningUses:
    """Units used by rule and card, counted on from moment to moment."""

    def __init__(self, points: Mapping[str, int] | None = None) -> None:
        self._points: Counter[str] = Counter(points or {})
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


class _Report:
    def __init__(self) -> None:
        self.rules: dict[str, RuleTotals] = {}
        self.days: dict[int, DayTotals] = {}
        self.failures: Counter[str] = Counter()
        self.examples: list[Example] = []

    def add(self, moment: Moment, outcome: Outcome, uses: RunningUses, examples_max: int) -> None:
        day = self.days.setdefault(moment.now.date, DayTotals(moment.now.date))
        day.moments += 1
        for used in outcome.used:
            totals = self._of(used.rule_id, used.version)
            totals.applied += 1
            totals.cards += uses.add(moment.card.card_id, used)
            totals.points += used.points
            day.applied += 1
            day.points += used.points
        for effect in outcome.effects:
            if isinstance(effect, CouponGranted):
                self._of(effect.rule_id, effect.version).coupons += 1
                day.coupons += 1
        for failure in outcome.failures:
            self._of(failure.rule_id, failure.version).failed += 1
            self.failures[failure.reason] += 1
        for withheld in outcome.withheld:
            self._of(withheld.rule_id, withheld.version).withheld += 1
        if outcome.effects and len(self.examples) < examples_max:
            self.examples.append(Example(moment.at_ms, moment.card.card_id, outcome.effects))

    def _of(self, rule_id: str, version: int) -> RuleTotals:
        return self.rules.setdefault(rule_id, RuleTotals(rule_id, version))


def simulate(
    definitions: Iterable[RuleDefinition],
    moments: Iterable[Moment],
    *,
    points_used: Mapping[str, int] | None = None,
    examples_max: int = SIMULATION_EXAMPLES_MAX,
) -> Simulation:
    """The report for these rules. A draft is simulated as if it were active. `points_used` is what of each rule's
    budget was used before the first moment, by rule id."""
    simulated = [
        msgspec.structs.replace(definition, state="active") if definition.state == "draft" else definition
        for definition in definitions
    ]
    rules = RuleSet.compile(simulated)
    rule_ids = [definition.rule_id for definition in simulated]
    uses = RunningUses(points_used)
    report = _Report()
    for moment in moments:
        outcome = rules.evaluate(moment, uses.of(moment.card.card_id, moment.now.date, rule_ids))
        report.add(moment, outcome, uses, examples_max)
    days = tuple(day for _, day in sorted(report.days.items()))
    return Simulation(
        moments=sum(day.moments for day in days),
        applied=sum(day.applied for day in days),
        points=sum(day.points for day in days),
        coupons=sum(day.coupons for day in days),
        rules=tuple(totals for _, totals in sorted(report.rules.items())),
        days=days,
        failures=dict(sorted(report.failures.items())),
        examples=tuple(report.examples),
        broken=rules.broken,
    )
