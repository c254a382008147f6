"""Simulation: what a draft would have done over a span of moments, and what that would have cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rules.language import AwardPoints, GrantCoupon, Limits, Multiply, RuleDefinition
from rules.moment import Moment
from rules.outcome import CouponGranted, PointsAwarded
from rules.simulate import DayTotals, Example, RuleDay, RuleTotals, Simulation, Simulator
from tests.core.rule_moments import moment, rule

TUESDAY = "2026-05-19T18:10:00+07:00"
WEDNESDAY = "2026-05-20T00:00:00+07:00"


def simulate(draft: RuleDefinition, beside: Iterable[RuleDefinition], moments: list[Moment], **more: Any) -> Simulation:
    simulator = Simulator(draft, beside, **more)
    for number, one in enumerate(moments):
        simulator.see(one, f"checkin:{number}")
    return simulator.report()


def test_what_would_have_happened() -> None:
    draft = rule(
        "a",
        "counts.visits_ever > 0",
        AwardPoints(10),
        GrantCoupon("c"),
        limits=Limits(per_card_per_day=1),
        state="draft",
        valid_from_ms=1,
        valid_until_ms=2,
    )
    rules = [
        rule("a", "true", AwardPoints(1_000)),
        rule("b", "now.weekday == 3", Multiply(2000), version=3),
        rule("c", "member.attributes.club == 'x'"),
        rule("d", state="paused"),
        rule("e", "nonsense"),
    ]
    moments = [
        moment("checkin", TUESDAY),
        moment("checkin", TUESDAY),
        moment("checkin", TUESDAY, card={"card_id": "card_2"}),
        moment("exit", TUESDAY),
        moment("checkin", WEDNESDAY),
    ]
    report = simulate(draft, rules, moments, examples_max=2)
    assert (report.moments, report.applied, report.points, report.coupons) == (5, 4, 40, 3)
    assert report.rules == (
        RuleTotals(
            *("a", 1, 3, 2, 6, 30, 3, 0, 1),
            {20260519: RuleDay(20260519, 2, 20, 2), 20260520: RuleDay(20260520, 1, 10, 1)},
        ),
        RuleTotals("b", 3, 1, 1, 1, 10, days={20260520: RuleDay(20260520, 1, 10)}),
        RuleTotals("c", 1, failed=4),
    )
    assert report.days == (DayTotals(20260519, 4, 2, 20, 2), DayTotals(20260520, 1, 2, 20, 1))
    assert report.failures == {"key_missing": 4}
    effects = (PointsAwarded("a", 1, 10), CouponGranted("a", 1, "c"))
    assert report.examples == (
        Example(moments[0].at_ms, "card_1", "checkin:0", effects),
        Example(moments[2].at_ms, "card_2", "checkin:2", effects),
    )
    assert [broken.rule_id for broken in report.broken] == ["e"]


def test_budgets_and_limits_run_on_over_the_span() -> None:
    draft = rule("a", "true", AwardPoints(30), limits=Limits(points_budget=100))
    others = [rule("b", "true", AwardPoints(1), limits=Limits(per_card=2))]
    moments = [moment("checkin", TUESDAY, card={"card_id": f"card_{number % 2}"}) for number in range(6)]
    totals = {one.rule_id: (one.applied, one.points, one.withheld) for one in simulate(draft, others, moments).rules}
    assert totals == {"a": (3, 90, 3), "b": (4, 4, 2)}


def test_examples_are_the_drafts_own() -> None:
    report = simulate(rule("z", "now.weekday == 3"), [rule("a")], [moment("checkin", TUESDAY)])
    assert (report.points, report.examples) == (10, ())


def test_nothing_costs_nothing() -> None:
    report = simulate(rule("a", "false"), [], [])
    assert (report.moments, report.points, report.rules, report.days, report.examples) == (0, 0, (), (), ())
