"""Simulation: what rules would have done over a span of moments, and what that would have cost."""

from __future__ import annotations

from rules.language import AwardPoints, GrantCoupon, Limits, Multiply
from rules.outcome import CouponGranted, PointsAwarded
from rules.simulate import DayTotals, Example, RuleTotals, simulate
from tests.core.rule_moments import moment, rule

TUESDAY = "2026-05-19T18:10:00+07:00"
WEDNESDAY = "2026-05-20T00:00:00+07:00"


def test_what_would_have_happened() -> None:
    rules = [
        rule("a", "counts.visits_ever > 0", AwardPoints(10), GrantCoupon("c"), limits=Limits(per_card_per_day=1)),
        rule("b", "now.weekday == 3", Multiply(2000), state="draft", version=3),
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
    report = simulate(rules, moments, examples_max=2)
    assert (report.moments, report.applied, report.points, report.coupons) == (5, 4, 40, 3)
    assert report.rules == (
        RuleTotals("a", 1, applied=3, cards=2, points=30, coupons=3, withheld=1),
        RuleTotals("b", 3, applied=1, cards=1, points=10),
        RuleTotals("c", 1, failed=4),
    )
    assert report.days == (DayTotals(20260519, 4, 2, 20, 2), DayTotals(20260520, 1, 2, 20, 1))
    assert report.failures == {"key_missing": 4}
    effects = (PointsAwarded("a", 1, 10), CouponGranted("a", 1, "c"))
    assert report.examples == (
        Example(moments[0].at_ms, "card_1", effects),
        Example(moments[2].at_ms, "card_2", effects),
    )
    assert [broken.rule_id for broken in report.broken] == ["e"]


def test_budgets_and_limits_run_on_over_the_span() -> None:
    rules = [
        rule("a", "true", AwardPoints(30), limits=Limits(points_budget=100)),
        rule("b", "true", AwardPoints(1), limits=Limits(per_card=2)),
    ]
    moments = [moment("checkin", TUESDAY, card={"card_id": f"card_{number % 2}"}) for number in range(6)]
    totals = {one.rule_id: (one.applied, one.points, one.withheld) for one in simulate(rules, moments).rules}
    assert totals == {"a": (3, 90, 3), "b": (4, 4, 2)}
    totals = {
        one.rule_id: (one.applied, one.points, one.withheld)
        for one in simulate(rules, moments, points_used={"a": 41}).rules
    }
    assert totals["a"] == (1, 30, 5)


def test_nothing_costs_nothing() -> None:
    report = simulate([rule("a", "false")], [])
    assert (report.moments, report.points, report.rules, report.days, report.examples) == (0, 0, (), (), ())
