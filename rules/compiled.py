"""A tenant's rules, compiled: which of them apply to a moment, and what they give.

Rules:
1. Which rules apply, in which order, and how they stack is said in `rules.language`.
2. Deterministic: the same definitions (in any order), moment and uses give the same outcome.
3. A rule that cannot be computed is listed in the outcome's failures and skipped; the others go on.
4. A definition that no longer compiles (it was saved under other bounds) is listed in `broken` and left out.
5. At depth `DEPTH_MAX` nothing fires, and the outcome says so.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from rules import limits
from rules.conditions import Amount, BadExpression, Condition, EvaluationFailed, compile_amount, compile_condition
from rules.expression_python import ASK_CEL, any_of, direct_which_of
from rules.language import (
    Action,
    AwardPoints,
    CallWebhook,
    GrantCoupon,
    Limits,
    Multiply,
    Notify,
    RuleDefinition,
    SetTier,
    Trigger,
)
from rules.moment import Moment
from rules.outcome import (
    NOTHING,
    CouponGranted,
    Effect,
    Failure,
    HolderNotified,
    Outcome,
    PointsAwarded,
    TierSet,
    UnitsUsed,
    Uses,
    WebhookCalled,
    Withheld,
    WithheldReason,
)

_UNUSED: Final = Uses()
_NO_LIMITS: Final = Limits()
# Sets of rules that hold together, whose awards are remembered.
_PLAIN_REMEMBERED_MAX: Final = 1_024


class BrokenRule(msgspec.Struct, frozen=True):
    """A definition that does not compile, and why; `where` as in `Failure`."""

    rule_id: str
    version: int
    where: str
    error: BadExpression


class CompiledRule:
    """One rule with its expressions."""

    __slots__ = ("condition", "cost", "definition", "steps")

    def __init__(
        self, definition: RuleDefinition, condition: Condition, steps: tuple[tuple[Action, Amount | None], ...]
    ) -> None:
        self.definition: Final = definition
        self.condition: Final = condition
        self.steps: Final = steps
        amounts = (amount.expression.cost for _, amount in steps if amount is not None)
        self.cost: Final = condition.expression.cost + sum(amounts)

    def is_valid_at(self, at_ms: int) -> bool:
        definition = self.definition
        return definition.valid_from_ms <= at_ms and (
            not definition.valid_until_ms or at_ms < definition.valid_until_ms
        )


class PlainAward(msgspec.Struct, frozen=True, gc=False):
    """The fixed points that a rule gives: by award, each with what an entry of the ledger calls the rule; and in
    all."""

    rule_id: str
    version: int
    awards: tuple[tuple[int, str], ...]
    total: int


class _Candidate(msgspec.Struct, frozen=True):
    """A rule that would apply: what it gives, and how many points that are."""

    rule: CompiledRule
    effects: tuple[Effect, ...]
    points: int


# Rules that stand at one place in the order: a rule by itself, or all of a group of stacking `best`.
_Place = tuple[CompiledRule, ...]


class _TriggerRules(msgspec.Struct, frozen=True):
    """The rules of one trigger in order. `may_apply` says quickly that no condition of `quick` places is true; those at
    other places have conditions that only CEL can tell."""

    places: tuple[_Place, ...]
    may_apply: Callable[[Moment], Any]
    has_slow: bool


class _Run:
    """What has come of a moment so far."""

    __slots__ = ("awarded", "effects", "failures", "used", "withheld")

    def __init__(self, awarded: int) -> None:
        self.awarded = awarded
        self.effects: list[Effect] = []
        self.failures: list[Failure] = []
        self.withheld: list[Withheld] = []
        self.used: list[UnitsUsed] = []

    def outcome(self) -> Outcome:
        if not (self.effects or self.failures or self.withheld):
            return NOTHING
        return Outcome(tuple(self.effects), tuple(self.failures), tuple(self.withheld), tuple(self.used))


class RuleSet:
    """The active rules of a tenant. Immutable (but for answers that it remembers); made by `compile`."""

    def __init__(self, by_trigger: Mapping[Trigger, _TriggerRules], broken: tuple[BrokenRule, ...]) -> None:
        self._by_trigger: Final = by_trigger
        self.broken: Final = broken
        self._plain: Final[dict[tuple[Trigger, int], tuple[PlainAward, ...] | None]] = {}

    @classmethod
    def compile(cls, definitions: Iterable[RuleDefinition]) -> RuleSet:
        """Takes all of a tenant's rules; drafts and paused ones are left out."""
        compiled: dict[Trigger, list[CompiledRule]] = {}
        broken: list[BrokenRule] = []
        for definition in sorted(definitions, key=lambda one: (-one.priority, one.rule_id)):
            if definition.state != "active":
                continue
            rule = compile_rule(definition)
            if isinstance(rule, BrokenRule):
                broken.append(rule)
            else:
                compiled.setdefault(definition.on, []).append(rule)
        return cls({trigger: _in_places(rules) for trigger, rules in compiled.items()}, tuple(broken))

    def listens_to(self, trigger: Trigger) -> bool:
        """Whether any active rule is for this trigger. If not, there is no need to make a moment."""
        return trigger in self._by_trigger

    def direct(
        self, trigger: Trigger, paths: Mapping[str, str], arguments: Sequence[str], names: Mapping[str, Any]
    ) -> Callable[..., int] | None:
        """A function of `arguments` that says which conditions of this trigger are true, without a moment: bit n is the
        n-th rule's in the order in which they are looked at (see `rules.expression_python.direct_which_of`). None where
        only a moment tells."""
        rules = self._in_order(trigger)
        known = [code for rule in rules if (code := rule.condition.expression.code) is not None]
        return direct_which_of(known, paths, arguments, names) if len(known) == len(rules) else None

    def plain(self, trigger: Trigger, which: int) -> tuple[PlainAward, ...] | None:
        """What the rules whose conditions are true (`which` as `direct` tells) give, where that is nothing but fixed
        points and depends on nothing else; None where the moment has to be evaluated."""
        key = (trigger, which)
        if key not in self._plain:
            if len(self._plain) >= _PLAIN_REMEMBERED_MAX:
                self._plain.clear()
            self._plain[key] = _plain_of([rule for n, rule in enumerate(self._in_order(trigger)) if which >> n & 1])
        return self._plain[key]

    def _in_order(self, trigger: Trigger) -> list[CompiledRule]:
        rules = self._by_trigger.get(trigger)
        return [rule for place in rules.places for rule in place] if rules is not None else []

    def cost_units(self, trigger: Trigger) -> int:
        """What one moment of this trigger can cost at most, in units of `EXPRESSION_COST_UNITS_MAX`."""
        rules = self._by_trigger.get(trigger)
        return sum(rule.cost for place in rules.places for rule in place) if rules else 0

    def evaluate(self, moment: Moment, uses: Mapping[str, Uses]) -> Outcome:
        """What the rules make of the moment. `uses` has what each rule used so far, by rule id; one that is missing has
        used nothing."""
        rules = self._by_trigger.get(moment.trigger)
        if rules is None:
            return NOTHING
        if moment.depth >= limits.DEPTH_MAX:
            return Outcome(depth_reached=True)
        try:
            if not rules.may_apply(moment) and not rules.has_slow:
                return NOTHING
        except ASK_CEL:
            pass  # an attribute is missing: each condition is asked by itself
        run = _Run(moment.base_points)
        for place in rules.places:
            applied = _judge(place, moment, uses, run)
            if applied is not None and applied.definition.stacking == "stop":
                break
        return run.outcome()


def compile_rule(definition: RuleDefinition) -> CompiledRule | BrokenRule:
    """The rule with its expressions, or the first of them that does not compile."""
    condition = compile_condition(definition.when, definition.on)
    if isinstance(condition, BadExpression):
        return BrokenRule(definition.rule_id, definition.version, "when", condition)
    steps: list[tuple[Action, Amount | None]] = []
    for number, action in enumerate(definition.then):
        amount: Amount | BadExpression | None = None
        if isinstance(action, AwardPoints) and action.amount:
            amount = compile_amount(action.amount, definition.on)
        if isinstance(amount, BadExpression):
            return BrokenRule(definition.rule_id, definition.version, f"then/{number}", amount)
        steps.append((action, amount))
    return CompiledRule(definition, condition, tuple(steps))


def _in_places(rules: list[CompiledRule]) -> _TriggerRules:
    places: dict[tuple[str, str], list[CompiledRule]] = {}
    for rule in rules:
        definition = rule.definition
        key = ("group", definition.group) if definition.stacking == "best" else ("rule", definition.rule_id)
        places.setdefault(key, []).append(rule)
    quick: list[ast.expr] = [
        rule.condition.expression.code for rule in rules if rule.condition.expression.code is not None
    ]
    return _TriggerRules(
        places=tuple(tuple(place) for place in places.values()),
        may_apply=any_of(quick),
        has_slow=len(quick) < len(rules),
    )


def _plain_of(rules: Sequence[CompiledRule]) -> tuple[PlainAward, ...] | None:
    """What these rules, in their order, give together (`RuleSet.plain`)."""
    found: list[PlainAward] = []
    for rule in rules:
        definition = rule.definition
        is_bound = definition.valid_from_ms or definition.valid_until_ms or definition.limits != _NO_LIMITS
        if is_bound or definition.stacking == "best":
            return None
        awards: list[tuple[int, str]] = []
        for action, amount in rule.steps:
            if not isinstance(action, AwardPoints) or amount is not None or not action.points:
                return None
            if action.expires_after_days or action.pending_days:
                return None
            awards.append((action.points, f"{definition.rule_id}:{definition.version}"))
        total = sum(points for points, _ in awards)
        found.append(PlainAward(definition.rule_id, definition.version, tuple(awards), total))
        if definition.stacking == "stop":
            break
    return tuple(found)


def _judge(place: _Place, moment: Moment, uses: Mapping[str, Uses], run: _Run) -> CompiledRule | None:
    """The rule of this place that applies; what it gives is added to the run."""
    best: _Candidate | None = None
    for rule in place:
        candidate = _candidate(rule, moment, uses, run)
        if candidate is None:
            continue
        if best is not None and candidate.points > best.points:
            best, candidate = candidate, best
        if best is not None:
            run.withheld.append(_withheld(candidate.rule, "outdone"))
        else:
            best = candidate
    if best is None:
        return None
    definition = best.rule.definition
    run.awarded += best.points
    run.effects.extend(best.effects)
    run.used.append(UnitsUsed(definition.rule_id, definition.version, moment.now.date, best.points))
    return best.rule


def _candidate(rule: CompiledRule, moment: Moment, uses: Mapping[str, Uses], run: _Run) -> _Candidate | None:
    """What the rule would give, if it would apply by itself; a failure or a limit in its way is noted."""
    definition = rule.definition
    if not rule.is_valid_at(moment.at_ms) or (moment.due and definition.rule_id not in moment.due):
        return None
    where = "when"
    effects: list[Effect] = []
    points = 0
    try:
        if not rule.condition.holds(moment):
            return None
        for number, (action, amount) in enumerate(rule.steps):
            where = f"then/{number}"
            effect = _effect(definition, action, amount, moment, run.awarded)
            if effect is not None:
                effects.append(effect)
                points += effect.amount if isinstance(effect, PointsAwarded) else 0
    except EvaluationFailed as failed:
        run.failures.append(Failure(definition.rule_id, definition.version, where, failed.reason))
        return None
    if not effects:
        return None
    reason = _no_room(definition, uses.get(definition.rule_id, _UNUSED), points)
    if reason is not None:
        run.withheld.append(_withheld(rule, reason))
        return None
    return _Candidate(rule, tuple(effects), points)


def _withheld(rule: CompiledRule, reason: WithheldReason) -> Withheld:
    return Withheld(rule.definition.rule_id, rule.definition.version, reason)


def _no_room(definition: RuleDefinition, used: Uses, points: int) -> WithheldReason | None:
    most = definition.limits
    if most.per_card and used.card >= most.per_card:
        return "card_limit_reached"
    if most.per_card_per_day and used.card_day >= most.per_card_per_day:
        return "card_day_limit_reached"
    if most.points_budget and used.points + points > most.points_budget:
        return "budget_used_up"
    return None


def _effect(
    definition: RuleDefinition, action: Action, amount: Amount | None, moment: Moment, awarded: int
) -> Effect | None:
    """What the action gives at this moment, None if nothing. Raises `EvaluationFailed`."""
    rule_id, version = definition.rule_id, definition.version
    match action:
        case AwardPoints():
            points = action.points if amount is None else amount.points(moment)
            if not points:
                return None
            return PointsAwarded(rule_id, version, points, action.expires_after_days, action.pending_days)
        case Multiply():
            points = awarded * action.factor_thousandths // 1000 - awarded
            if points > limits.POINTS_PER_AWARD_MAX:
                raise EvaluationFailed("amount_out_of_range")
            return PointsAwarded(rule_id, version, points) if points > 0 else None
        case GrantCoupon():
            return CouponGranted(rule_id, version, action.coupon_id)
        case SetTier():
            return TierSet(rule_id, version, action.tier) if action.tier != moment.card.tier else None
        case Notify():
            return HolderNotified(rule_id, version, action.template, action.text)
        case CallWebhook():
            return WebhookCalled(rule_id, version, action.name)
