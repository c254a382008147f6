"""The ready-made rules: each is a rule, fires where it should and does not where it should not."""

from __future__ import annotations

from typing import Any

import pytest

from rules.compiled import RuleSet
from rules.document import DocumentError, document_of, parse_rule
from rules.language import RuleDefinition
from rules.moment import Moment
from rules.outcome import CouponGranted, Effect, HolderNotified, PointsAwarded, TierSet, WebhookCalled
from rules.templates import TEMPLATES, fill
from tests.core.rule_moments import moment, ms

NAMES = list(TEMPLATES)
SUNDAY = "2026-05-24T18:10:00+07:00"
DOORS_MS = ms("2026-05-19T18:00:00+07:00")


def definition(name: str, **values: Any) -> RuleDefinition:
    document = fill(TEMPLATES[name], values)
    assert isinstance(document, dict), document
    found = parse_rule({**document, "state": "active"}, "rule_1", 2)
    assert isinstance(found, RuleDefinition), found
    return found


def awarded(amount: int, expires_after_days: int = 0) -> PointsAwarded:
    return PointsAwarded("rule_1", 2, amount, expires_after_days)


def granted(coupon_id: str) -> CouponGranted:
    return CouponGranted("rule_1", 2, coupon_id)


def told(text: str) -> HolderNotified:
    return HolderNotified("rule_1", 2, "", text)


# A template, a moment at which it fires, what it gives, and a moment of the same trigger at which it does not.
FIRES: list[tuple[str, Moment, list[Effect], Moment]] = [
    (
        "double_points_on_a_weekday",
        moment(base_points=30),
        [awarded(30)],
        moment("checkin", SUNDAY, base_points=30),
    ),
    ("happy_hour", moment(base_points=15), [awarded(7)], moment("checkin", "2026-05-19T19:00:00+07:00", base_points=9)),
    ("third_visit_this_week", moment(counts={"visits_week": 3}), [awarded(50)], moment(counts={"visits_week": 4})),
    (
        "first_visit_bonus",
        moment(counts={"visits_ever": 1}),
        [awarded(100), told("Welcome! 100 points for your first visit.")],
        moment(counts={"visits_ever": 2}),
    ),
    (
        "every_tenth_visit",
        moment(counts={"visits_ever": 30}),
        [granted("free_drink")],
        moment(counts={"visits_ever": 31}),
    ),
    (
        "early_bird",
        moment(event={"doors_open_ms": DOORS_MS}),
        [awarded(30)],
        moment("checkin", "2026-05-19T18:30:00+07:00", event={"doors_open_ms": DOORS_MS}),
    ),
    ("weekend_guest", moment("checkin", SUNDAY), [awarded(15)], moment()),
    ("tagged_event", moment(event={"tags": ("premiere",)}), [awarded(40)], moment()),
    (
        "anniversary",
        moment(card={"issued_days": 365}),
        [awarded(500), told("Thank you for staying with us!")],
        moment(card={"issued_days": 364}),
    ),
    (
        "vip_arrives",
        moment(card={"tier": "diamond"}),
        [WebhookCalled("rule_1", 2, "concierge")],
        moment(card={"tier": "diamond"}, counts={"visits_event": 2}),
    ),
    ("opening_campaign", moment(), [awarded(25, 90)], moment(counts={"visits_today": 2})),
    (
        "streak_of_seven",
        moment("streak_reached"),
        [awarded(200), told("7 days in a row: 200 points!")],
        moment("streak_reached", streak={"days": 8}),
    ),
    (
        "birthday_coupon",
        moment("birthday"),
        [granted("birthday_cake"), told("Happy birthday! A coupon is waiting for you.")],
        moment("checkin"),
    ),
    (
        "gold_welcome",
        moment("tier_changed"),
        [granted("gold_welcome"), told("Welcome to gold!")],
        moment("tier_changed", tier={"after": "silver"}),
    ),
    ("card_welcome", moment("card_issued"), [awarded(100)], moment("checkin")),
    (
        "spend_and_get",
        moment("points_spent", points={"amount": 500_000, "account": "wallet"}),
        [awarded(50)],
        moment("points_spent", points={"amount": 500_000}),
    ),
    ("top_up_bonus", moment("top_up"), [awarded(150)], moment("top_up", top_up={"amount": 999_999})),
    (
        "fast_promotion",
        moment("points_earned", card={"tier": "silver", "earned": 9_900}),
        [TierSet("rule_1", 2, "gold")],
        moment("points_earned", card={"tier": "silver", "earned": 9_899}),
    ),
    ("monthly_gift", moment("schedule", card={"tier": "platinum"}), [awarded(100, 30)], moment("schedule")),
    ("coupon_thanks", moment("coupon_used"), [awarded(10)], moment("coupon_used", coupon={"coupon_id": "other"})),
]


@pytest.mark.parametrize(("name", "at", "effects", "not_at"), FIRES, ids=[row[0] for row in FIRES])
def test_a_template_fires_and_does_not(name: str, at: Moment, effects: list[Effect], not_at: Moment) -> None:
    rules = RuleSet.compile([definition(name)])
    assert list(rules.evaluate(at, {}).effects) == effects
    assert rules.evaluate(not_at, {}).effects == ()


def test_there_are_twenty_and_each_is_in_the_table() -> None:
    assert len(NAMES) == 20
    assert sorted(row[0] for row in FIRES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_template_is_a_rule_that_says_what_it_is(name: str) -> None:
    template = TEMPLATES[name]
    assert template.template_id == name
    assert template.title
    assert template.description
    assert all(parameter.title for parameter in template.parameters.values())
    found = definition(name)
    assert "{{" not in str(document_of(found))
    assert fill(template, {key: parameter.default for key, parameter in template.parameters.items()}) == fill(
        template, {}
    )


def test_parameters_stand_in_their_places() -> None:
    found = definition("gold_welcome", tier="vip's \\ tier", coupon="c1")
    assert found.when == "tier.to == 'vip\\'s \\\\ tier'"
    at = moment("tier_changed", tier={"after": "vip's \\ tier"})
    assert RuleSet.compile([found]).evaluate(at, {}).effects == (granted("c1"), told("Welcome to vip's \\ tier!"))


@pytest.mark.parametrize(
    ("values", "where", "message"),
    [
        ({"colour": 1}, "/colour", "no such parameter"),
        ({"weekday": 8}, "/weekday", "from 1 to 7"),
        ({"weekday": True}, "/weekday", "a whole number"),
        ({"weekday": "2"}, "/weekday", "a whole number"),
        ({"factor": 1.5}, "/factor", "a whole number"),
    ],
)
def test_values_that_do_not_fit(values: dict[str, Any], where: str, message: str) -> None:
    errors = fill(TEMPLATES["double_points_on_a_weekday"], values)
    assert isinstance(errors, tuple)
    assert [error.pointer for error in errors] == [where]
    assert message in errors[0].message


@pytest.mark.parametrize("value", ["", "x" * 65, 5, None])
def test_texts_that_do_not_fit(value: Any) -> None:
    errors = fill(TEMPLATES["gold_welcome"], {"tier": value})
    assert errors == (DocumentError("/tier", "This must be a text of 1 to 64 characters."),)
