"""What the documentation says of the language of rules is so: each example is taken, and gives what it says."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from actors import coupon_grants
from rules import guide
from rules.conditions import (
    Amount,
    BadExpression,
    Condition,
    EvaluationFailed,
    FailureReason,
    compile_amount,
    compile_condition,
)
from rules.expression_parser import MACROS
from rules.guide import AMOUNTS, EXAMPLES, SIGNS, Example, Sign
from rules.language import STACKINGS, TRIGGERS
from rules.moment import Moment
from rules.moment_document import moment_of
from rules.outcome import WithheldReason
from tests.core.rule_moments import TUESDAY, ZONE


def seen(example: Example) -> Moment:
    document = {"at": TUESDAY, **example.moment}
    found = moment_of(document, example.on, ZONE)
    assert isinstance(found, Moment), found
    return found


def given(found: Condition | Amount, moment: Moment) -> Any:
    try:
        return found.holds(moment) if isinstance(found, Condition) else found.points(moment)
    except EvaluationFailed as failed:
        return failed.reason


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.expression)
def test_a_condition_gives_what_it_says(example: Example) -> None:
    found = compile_condition(example.expression, example.on)
    assert isinstance(found, Condition), found
    assert given(found, seen(example)) == example.gives


@pytest.mark.parametrize("example", AMOUNTS, ids=lambda example: example.expression)
def test_an_amount_gives_what_it_says(example: Example) -> None:
    found = compile_amount(example.expression, example.on)
    assert isinstance(found, Amount), found
    assert given(found, seen(example)) == example.gives


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.signs)
def test_the_signs_are_those_of_the_language(sign: Sign) -> None:
    assert isinstance(compile_condition(sign.example, "checkin"), Condition)
    assert any(one.removesuffix("()") in sign.example for one in sign.signs.split())


def test_all_functions_and_macros_are_told() -> None:
    told = {one.removesuffix("()") for sign in SIGNS for one in sign.signs.split() if one.endswith("()")}
    refused = compile_condition("nothing_like_it(1)", "checkin")
    assert isinstance(refused, BadExpression)
    functions = refused.message.partition("there are ")[2].removesuffix(" and the macros of lists.").split(", ")
    assert told == {*functions, *MACROS}


def test_all_triggers_stackings_and_reasons_are_told() -> None:
    assert tuple(guide.TRIGGERS) == TRIGGERS
    assert set(guide.STACKING) == set(STACKINGS)
    of_coupons = {name for name in vars(coupon_grants) if name.startswith("COUPON_")}
    rooms = {"too_many_effects", "balance_limit_reached", "lots_limit_reached"}
    assert set(guide.FAILURES) == {*get_args(FailureReason), *rooms, *(name.lower() for name in of_coupons)}
    assert set(guide.WITHHELD) == set(get_args(WithheldReason))
