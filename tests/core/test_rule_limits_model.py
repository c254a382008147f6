"""Limits, budgets and stacking over a history of check-ins, days that pass and annulments, against a model that keeps
every application as a line in a list and counts again each time."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rules.compiled import RuleSet
from rules.language import AwardPoints, Limits, Multiply, RuleDefinition
from rules.moment import Moment
from rules.outcome import PointsAwarded, UnitsUsed, Uses
from rules.schedule import local_time
from tests.core import rule_moments
from tests.core.rule_moments import ZONE, moment

HOUR_MS = 3_600_000
TIERS = ("silver", "gold")


@dataclass
class Applied:
    """One rule that applied to one check-in."""

    cause: int
    rule_id: str
    card_id: str
    date: int
    points: int


@st.composite
def definitions(draw: st.DrawFn) -> RuleDefinition:
    stacking = draw(st.sampled_from(["all", "best", "stop"]))
    return rule_moments.rule(
        draw(st.sampled_from("abcdef")),
        draw(st.sampled_from(["true", "card.tier == 'gold'", "event.tags.exists(t, card.tier == 'silver')"])),
        draw(st.integers(0, 9).map(AwardPoints) | st.sampled_from([1500, 2000, 3000]).map(Multiply)),
        priority=draw(st.integers(0, 2)),
        stacking=stacking,
        group=draw(st.sampled_from(["g", "h"])) if stacking == "best" else "",
        limits=Limits(draw(st.integers(0, 4)), draw(st.integers(0, 2)), draw(st.sampled_from([0, 10, 40]))),
    )


class Model:
    """The rules of `rules.language`, as plainly as they can be said."""

    def __init__(self, definitions: list[RuleDefinition]) -> None:
        self.rules = sorted(definitions, key=lambda one: (-one.priority, one.rule_id))
        self.history: list[Applied] = []

    def has_room(self, one: RuleDefinition, card_id: str, date: int, points: int) -> bool:
        mine = [line for line in self.history if line.rule_id == one.rule_id]
        of_card = [line for line in mine if line.card_id == card_id]
        of_day = [line for line in of_card if line.date == date]
        budget = one.limits.points_budget
        return (
            (one.limits.per_card == 0 or len(of_card) < one.limits.per_card)
            and (one.limits.per_card_per_day == 0 or len(of_day) < one.limits.per_card_per_day)
            and (budget == 0 or sum(line.points for line in mine) + points <= budget)
        )

    def worth(self, one: RuleDefinition, tier: str, awarded: int) -> int:
        if ("gold" in one.when and tier != "gold") or ("silver" in one.when and tier != "silver"):
            return 0
        action = one.then[0]
        if isinstance(action, Multiply):
            return int(awarded * action.factor_thousandths / 1000) - awarded
        assert isinstance(action, AwardPoints)
        return action.points

    def check_in(self, cause: int, card_id: str, tier: str, date: int, base: int) -> list[tuple[str, int]]:
        """What each rule awards, and the history goes on."""
        given: list[tuple[str, int]] = []
        groups_done: set[str] = set()
        for one in self.rules:
            awarded = base + sum(points for _, points in given)
            rivals = [one]
            if one.stacking == "best":
                if one.group in groups_done:
                    continue
                groups_done.add(one.group)
                rivals = [other for other in self.rules if other.stacking == "best" and other.group == one.group]
            worths = [(self.worth(rival, tier, awarded), rival) for rival in rivals]
            worths = [(points, rival) for points, rival in worths if points]
            worths = [(points, rival) for points, rival in worths if self.has_room(rival, card_id, date, points)]
            if not worths:
                continue
            points, winner = max(worths, key=lambda worth: worth[0])  # the first of equals
            given.append((winner.rule_id, points))
            if winner.stacking == "stop":
                break
        self.history += [Applied(cause, rule_id, card_id, date, points) for rule_id, points in given]
        return given


class LimitsMachine(RuleBasedStateMachine):
    """The rule set with counters as a caller keeps them: added when used, taken off when annulled."""

    @initialize(given=st.lists(definitions(), min_size=1, max_size=6, unique_by=lambda one: one.rule_id))
    def start(self, given: list[RuleDefinition]) -> None:
        self.rules = RuleSet.compile(given)
        self.model = Model(given)
        self.at_ms = moment().at_ms
        self.causes: list[tuple[str, tuple[UnitsUsed, ...]]] = []
        self.points: dict[str, int] = {}
        self.card: dict[tuple[str, str], int] = {}
        self.card_day: dict[tuple[str, str, int], int] = {}

    def count(self, card_id: str, used: UnitsUsed, times: int) -> None:
        for counter, key, step in (
            (self.points, used.rule_id, used.points),
            (self.card, (used.rule_id, card_id), 1),
            (self.card_day, (used.rule_id, card_id, used.date), 1),
        ):
            counter[key] = counter.get(key, 0) + step * times  # type: ignore[attr-defined, index]

    def uses(self, at: Moment) -> dict[str, Uses]:
        card_id, date = at.card.card_id, at.now.date
        return {
            one.rule_id: Uses(
                self.card.get((one.rule_id, card_id), 0),
                self.card_day.get((one.rule_id, card_id, date), 0),
                self.points.get(one.rule_id, 0),
            )
            for one in self.model.rules
        }

    @rule(card=st.sampled_from(["card_1", "card_2"]), tier=st.sampled_from(TIERS), base=st.integers(0, 5))
    def check_in(self, card: str, tier: str, base: int) -> None:
        at = msgspec.structs.replace(
            moment(card={"card_id": card, "tier": tier}, base_points=base),
            at_ms=self.at_ms,
            now=local_time(self.at_ms, ZONE),
        )
        outcome = self.rules.evaluate(at, self.uses(at))
        expected = self.model.check_in(len(self.causes), card, tier, at.now.date, base)
        effects = [(one.rule_id, one.amount) for one in outcome.effects if isinstance(one, PointsAwarded)]
        assert effects == expected
        assert [(used.rule_id, used.points) for used in outcome.used] == expected
        for used in outcome.used:
            self.count(card, used, 1)
        self.causes.append((card, outcome.used))

    @precondition(lambda self: any(used for _, used in self.causes))
    @rule(data=st.data())
    def annul(self, data: st.DataObject) -> None:
        numbers = [number for number, (_, used) in enumerate(self.causes) if used]
        cause = data.draw(st.sampled_from(numbers))
        card, units = self.causes[cause]
        for used in units:
            self.count(card, used, -1)
        self.causes[cause] = (card, ())
        self.model.history = [line for line in self.model.history if line.cause != cause]

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        self.at_ms += hours * HOUR_MS

    @invariant()
    def no_limit_is_ever_exceeded(self) -> None:
        for one in self.model.rules:
            most = one.limits
            assert not most.points_budget or self.points.get(one.rule_id, 0) <= most.points_budget
            counts = [count for (rule_id, _), count in self.card.items() if rule_id == one.rule_id]
            assert not most.per_card or max(counts, default=0) <= most.per_card
            of_days = [count for (rule_id, *_), count in self.card_day.items() if rule_id == one.rule_id]
            assert not most.per_card_per_day or max(of_days, default=0) <= most.per_card_per_day


TestLimits = LimitsMachine.TestCase
