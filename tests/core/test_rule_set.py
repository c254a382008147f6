"""Which rules apply to a moment, in which order, and what they give: one row or test for each rule of the language."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import limits
from rules.compiled import RuleSet
from rules.language import (
    AwardPoints,
    CallWebhook,
    GrantCoupon,
    Limits,
    Multiply,
    Notify,
    RuleDefinition,
    SetTier,
)
from rules.moment import Moment
from rules.outcome import (
    NOTHING,
    CouponGranted,
    Failure,
    HolderNotified,
    Outcome,
    PointsAwarded,
    TierSet,
    UnitsUsed,
    Uses,
    WebhookCalled,
)
from tests.core.rule_moments import moment, ms, rule


def evaluated(*definitions: RuleDefinition, at: Moment | None = None, uses: dict[str, Uses] | None = None) -> Outcome:
    rules = RuleSet.compile(definitions)
    assert rules.broken == ()
    return rules.evaluate(at or moment(), uses or {})


def points(outcome: Outcome) -> list[tuple[str, int]]:
    return [(effect.rule_id, effect.amount) for effect in outcome.effects if isinstance(effect, PointsAwarded)]


def withheld(outcome: Outcome) -> list[tuple[str, str]]:
    return [(one.rule_id, one.reason) for one in outcome.withheld]


def test_every_action_gives_its_effect_and_cites_the_rule() -> None:
    outcome = evaluated(
        rule(
            "a",
            "true",
            AwardPoints(5, "", 30, 2),
            AwardPoints(amount="card.points / 12"),
            GrantCoupon("free_drink"),
            SetTier("platinum"),
            Notify("hello", "Hi"),
            CallWebhook("crm"),
            version=4,
        )
    )
    assert outcome.effects == (
        PointsAwarded("a", 4, 5, 30, 2),
        PointsAwarded("a", 4, 10),
        CouponGranted("a", 4, "free_drink"),
        TierSet("a", 4, "platinum"),
        HolderNotified("a", 4, "hello", "Hi"),
        WebhookCalled("a", 4, "crm"),
    )
    assert outcome.used == (UnitsUsed("a", 4, 20260519, 15),)


@pytest.mark.parametrize(
    ("changes", "applies"),
    [
        ({}, True),
        ({"state": "draft"}, False),
        ({"state": "paused"}, False),
        ({"on": "exit"}, False),
        ({"valid_from_ms": moment().at_ms}, True),
        ({"valid_from_ms": moment().at_ms + 1}, False),
        ({"valid_until_ms": moment().at_ms + 1}, True),
        ({"valid_until_ms": moment().at_ms}, False),
    ],
)
@pytest.mark.parametrize("when", ["true", "event.tags.exists(t, t == 'jazz')"])
def test_when_a_rule_is_looked_at(changes: dict[str, Any], applies: bool, when: str) -> None:
    assert bool(evaluated(rule("a", when, **changes)).effects) is applies


def test_the_order_is_priority_then_id() -> None:
    outcome = evaluated(rule("b"), rule("c", priority=5), rule("a"), rule("d", priority=-5))
    assert [name for name, _ in points(outcome)] == ["c", "a", "b", "d"]


@pytest.mark.parametrize(
    ("factor", "base", "earlier", "extra"),
    [
        (2000, 0, 10, 10),
        (1500, 0, 5, 2),  # 7.5 is rounded down
        (1001, 0, 999, 0),
        (1001, 0, 1000, 1),
        (2000, 7, 10, 17),
        (2000, 7, 0, 7),
        (100_000, 0, 1, 99),
    ],
)
def test_multiply_awards_the_difference(factor: int, base: int, earlier: int, extra: int) -> None:
    first = [rule("a", "true", AwardPoints(earlier), priority=1)] if earlier else []
    later = rule("c", "true", AwardPoints(1000), priority=-1)
    outcome = evaluated(*first, rule("b", "true", Multiply(factor)), later, at=moment(base_points=base))
    assert dict(points(outcome)).get("b", 0) == extra


def test_multipliers_compound_and_leave_their_own_rule_out() -> None:
    outcome = evaluated(
        rule("a", "true", AwardPoints(10)),
        rule("b", "true", AwardPoints(5), Multiply(2000)),
        rule("c", "true", Multiply(2000)),
    )
    assert points(outcome) == [("a", 10), ("b", 5), ("b", 10), ("c", 25)]


def test_a_rule_that_gives_nothing_does_not_apply() -> None:
    outcome = evaluated(
        rule("a", "true", AwardPoints(amount="0"), SetTier("gold"), Multiply(2000), stacking="stop"), rule("b")
    )
    assert points(outcome) == [("b", 10)]
    assert [used.rule_id for used in outcome.used] == ["b"]


def test_stop_ends_the_moment_only_where_it_applies() -> None:
    before, after = rule("a", priority=2), rule("c")
    stop = rule("b", "card.tier == 'gold'", priority=1, stacking="stop")
    assert [name for name, _ in points(evaluated(before, stop, after))] == ["a", "b"]
    silver = moment(card={"tier": "silver"})
    assert [name for name, _ in points(evaluated(before, stop, after, at=silver))] == ["a", "c"]
    used_up = {"b": Uses(card=1)}
    limited = msgspec.structs.replace(stop, limits=Limits(per_card=1))
    assert [name for name, _ in points(evaluated(before, limited, after, uses=used_up))] == ["a", "c"]


def best(rule_id: str, amount: int, when: str = "true", **changes: Any) -> RuleDefinition:
    return rule(rule_id, when, AwardPoints(amount), stacking="best", **{"group": "g", **changes})


@pytest.mark.parametrize(
    ("definitions", "awarded", "outdone"),
    [
        ([best("a", 5), best("b", 9), best("c", 7)], [("b", 9)], ["a", "c"]),
        ([best("a", 5), best("b", 5)], [("a", 5)], ["b"]),
        ([best("a", 5), best("b", 5, priority=1)], [("b", 5)], ["a"]),
        ([best("a", 5), best("b", 9, "false")], [("a", 5)], []),
        ([best("a", 5), best("b", 9, group="h")], [("a", 5), ("b", 9)], []),
        # The group stands where its first rule stands, here before the rule c, whatever rule of it applies.
        (
            [best("a", 5, "false", priority=2), best("z", 9), rule("c", "true", Multiply(2000), priority=1)],
            [("z", 9), ("c", 9)],
            [],
        ),
    ],
)
def test_the_best_of_a_group(
    definitions: list[RuleDefinition], awarded: list[tuple[str, int]], outdone: list[str]
) -> None:
    outcome = evaluated(*definitions)
    assert points(outcome) == awarded
    assert withheld(outcome) == [(name, "outdone") for name in outdone]


def test_a_group_judges_all_its_rules_on_what_was_awarded_before_it() -> None:
    double = rule("b", "true", Multiply(3000), stacking="best", group="g")
    assert points(evaluated(rule("0"), best("a", 15), double)) == [("0", 10), ("b", 20)]
    assert points(evaluated(rule("0", "true", AwardPoints(5)), best("a", 15), double)) == [("0", 5), ("a", 15)]


@pytest.mark.parametrize(
    ("limited", "used", "reason"),
    [
        (Limits(), Uses(10**6, 10**6, 10**9), None),
        (Limits(per_card=3), Uses(card=2), None),
        (Limits(per_card=3), Uses(card=3), "card_limit_reached"),
        (Limits(per_card_per_day=1), Uses(card=7), None),
        (Limits(per_card_per_day=1), Uses(card=7, card_day=1), "card_day_limit_reached"),
        (Limits(points_budget=30), Uses(points=20), None),
        (Limits(points_budget=30), Uses(points=21), "budget_used_up"),
        (Limits(3, 1, 30), Uses(3, 1, 30), "card_limit_reached"),
    ],
)
def test_limits(limited: Limits, used: Uses, reason: str | None) -> None:
    outcome = evaluated(rule("a", limits=limited), rule("b"), uses={"a": used, "x": Uses(9, 9, 9)})
    assert withheld(outcome) == ([("a", reason)] if reason else [])
    assert points(outcome) == ([] if reason else [("a", 10)]) + [("b", 10)]


def test_the_best_that_has_no_room_is_not_the_best() -> None:
    outcome = evaluated(best("a", 5), best("b", 9, limits=Limits(points_budget=8)))
    assert (points(outcome), withheld(outcome)) == ([("a", 5)], [("b", "budget_used_up")])


def test_a_rule_that_fails_is_listed_and_the_others_go_on() -> None:
    outcome = evaluated(
        rule("a", "member.attributes.club == 'x'", stacking="stop"),
        rule("b", "true", AwardPoints(3), AwardPoints(amount="card.points / (card.points - 120)"), version=7),
        rule("c", "true", AwardPoints(amount="card.points - 500")),
        rule("d"),
        best("e", 5, "member.attributes.city > 3"),
        best("f", 1),
    )
    assert outcome.failures == (
        Failure("a", 1, "when", "key_missing"),
        Failure("b", 7, "then/1", "division_by_zero"),
        Failure("c", 1, "then/0", "amount_out_of_range"),
        Failure("e", 1, "when", "type_mismatch"),
    )
    assert points(outcome) == [("d", 10), ("f", 1)]


def test_an_award_by_multiplying_is_bounded_too() -> None:
    most = rule("a", "true", AwardPoints(limits.POINTS_PER_AWARD_MAX))
    outcome = evaluated(most, rule("b", "true", Multiply(3000)), rule("c", "true", Multiply(2000)))
    assert outcome.failures == (Failure("b", 1, "then/0", "amount_out_of_range"),)
    assert points(outcome) == [("a", limits.POINTS_PER_AWARD_MAX), ("c", limits.POINTS_PER_AWARD_MAX)]


def test_at_the_depth_nothing_fires_and_it_is_said() -> None:
    deepest = moment(depth=limits.DEPTH_MAX - 1)
    assert points(evaluated(rule("a"), at=deepest)) == [("a", 10)]
    assert evaluated(rule("a"), at=moment(depth=limits.DEPTH_MAX)) == Outcome(depth_reached=True)
    assert evaluated(rule("a", on="exit"), at=moment(depth=limits.DEPTH_MAX)) == NOTHING


def test_what_no_longer_compiles_is_left_out_and_listed() -> None:
    rules = RuleSet.compile([rule("a", "card.colour == 1"), rule("b", "true", AwardPoints(amount="1 +")), rule("c")])
    assert [(one.rule_id, one.where) for one in rules.broken] == [("a", "when"), ("b", "then/0")]
    assert points(rules.evaluate(moment(), {})) == [("c", 10)]


def test_which_triggers_there_are_rules_for() -> None:
    rules = RuleSet.compile([rule("a"), rule("b", on="exit", state="draft"), rule("c", "card.points > 3", on="top_up")])
    assert rules.listens_to("checkin")
    assert rules.listens_to("top_up")
    assert not rules.listens_to("exit")
    assert (rules.cost_units("checkin"), rules.cost_units("top_up"), rules.cost_units("exit")) == (1, 4, 0)


def test_the_day_of_what_was_used_is_the_moments() -> None:
    late = moment("checkin", "2026-05-19T17:30:00+00:00")  # half past midnight in the moment's zone
    assert evaluated(rule("a"), at=late).used == (UnitsUsed("a", 1, 20260520, 10),)
    assert late.at_ms == ms("2026-05-19T17:30:00Z")


WHENS = st.sampled_from(
    [
        *("true", "false", "card.tier == 'gold'", "counts.visits_week == 2", "member.attributes.club == 'x'"),
        *("event.tags.exists(t, t == 'jazz')", "member.attributes.age > 30", "card.points * card.points > 5"),
    ]
)
ACTIONS = st.one_of(
    st.integers(1, 50).map(AwardPoints),
    st.sampled_from(["card.points / 7", "card.points - 121", "0"]).map(lambda text: AwardPoints(amount=text)),
    st.integers(1001, 3000).map(Multiply),
    st.just(GrantCoupon("c")),
)


@st.composite
def definitions(draw: st.DrawFn) -> RuleDefinition:
    stacking = draw(st.sampled_from(["all", "all", "best", "stop"]))
    return rule(
        draw(st.sampled_from("abcdefgh")),
        draw(WHENS),
        *draw(st.lists(ACTIONS, min_size=1, max_size=3)),
        priority=draw(st.integers(-1, 1)),
        stacking=stacking,
        group=draw(st.sampled_from(["g", "h"])) if stacking == "best" else "",
        limits=Limits(*draw(st.tuples(*[st.integers(0, 3)] * 2, st.sampled_from([0, 20, 60])))),
    )


@given(st.lists(definitions(), unique_by=lambda one: one.rule_id), st.randoms(use_true_random=False), st.data())
def test_the_same_gives_the_same(rules: list[RuleDefinition], random: Any, data: st.DataObject) -> None:
    """Whatever the order in which definitions and uses come, and however often, also after a trip through the
    journal's encoding."""
    counts = st.builds(Uses, *[st.integers(0, 3)] * 2, st.integers(0, 60))
    uses = {one.rule_id: data.draw(counts) for one in rules}
    first = RuleSet.compile(rules)
    outcome = first.evaluate(moment(), uses)
    shuffled = msgspec.msgpack.decode(msgspec.msgpack.encode(rules), type=list[RuleDefinition])
    random.shuffle(shuffled)
    assert RuleSet.compile(shuffled).evaluate(moment(), dict(reversed(uses.items()))) == outcome
    assert first.evaluate(moment(), uses) == outcome
