"""What Python runs in CEL's place gives what CEL gives: generated expressions on generated moments."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.conditions import Condition, EvaluationFailed, Expression, compile_condition
from rules.limits import INTEGER_MAX
from rules.moment import CardView, CountsView, EventView, MemberView, Moment
from tests.core.rule_moments import moment

WORDS = st.sampled_from(["", "a", "b", "ab", "é", "\U0001f389", "gold"])
INTEGERS = st.sampled_from([0, 1, 2, 3, 7, -1, -7, INTEGER_MAX, -INTEGER_MAX]) | st.integers(-20, 20)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["x", "y"]),
    st.one_of(st.booleans(), st.integers(-2, 2), WORDS, st.none(), st.just(1.0), st.just({"z": "a"}), st.just(["a"])),
)


def quoted(text: str) -> str:
    return f"'{text}'"


def joined(parts: st.SearchStrategy[str], *operators: str) -> st.SearchStrategy[str]:
    return st.tuples(parts, st.sampled_from(operators), parts).map(lambda made: f"({made[0]} {made[1]} {made[2]})")


TEXT_LEAVES = st.sampled_from(["card.tier", "event.name", "member.id"]) | WORDS.map(quoted)
TEXTS = st.recursive(TEXT_LEAVES, lambda parts: joined(parts, "+"), max_leaves=3)
NUMBER_LEAVES = st.sampled_from(
    ["card.points", "counts.visits_ever", "counts.visits_week", "now.weekday", "now.unix_ms"]
) | st.integers(-9, 9).map(str)
NUMBERS = st.recursive(NUMBER_LEAVES, lambda parts: joined(parts, "+", "-", "*", "/", "%"), max_leaves=4)
ATTRIBUTE = st.sampled_from(["member.attributes.x", "member.attributes['y']", "member.attributes.x.z"])
TESTS = st.one_of(
    st.sampled_from(["true", "false", "has(member.attributes.x)", "'x' in member.attributes"]),
    joined(NUMBERS, "==", "!=", "<", "<=", ">", ">="),
    joined(TEXTS, "==", "!=", "<", "<=", ">", ">="),
    st.tuples(ATTRIBUTE, st.sampled_from(["==", "!="]), TEXTS | st.sampled_from(["true", "false"])).map(" ".join),
    st.tuples(NUMBERS, st.lists(st.integers(-3, 3), max_size=3)).map(lambda made: f"{made[0]} in {made[1]}"),
    TEXTS.map(lambda text: f"{text} in ['a', 'gold']"),
    TEXTS.map(lambda text: f"{text} in event.tags"),
    st.tuples(TEXTS, st.sampled_from(["startsWith", "endsWith", "contains"]), TEXTS).map(
        lambda made: f"({made[0]}).{made[1]}({made[2]})"
    ),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda parts: st.one_of(
        joined(parts, "&&", "||"),
        parts.map(lambda part: f"!({part})"),
        st.tuples(parts, parts, parts).map(lambda made: f"({made[0]} ? {made[1]} : {made[2]})"),
    ),
    max_leaves=6,
)
MOMENTS = st.builds(
    Moment,
    trigger=st.just("checkin"),
    at_ms=st.just(moment().at_ms),
    now=st.just(moment().now),
    card=st.builds(CardView, card_id=st.just("c"), tier=WORDS, points=INTEGERS),
    member=st.builds(MemberView, member_id=WORDS, attributes=ATTRIBUTES),
    counts=st.builds(CountsView, visits_week=st.integers(0, 9), visits_ever=st.integers(0, INTEGER_MAX)),
    event=st.builds(EventView, event_id=st.just("e"), name=WORDS, tags=st.lists(WORDS, max_size=3).map(tuple)),
)


def result(expression: Expression, at: Moment, by_cel: bool) -> Any:
    """The value with its type (in Python True == 1), or the reason of the failure."""
    try:
        value = expression.value_by_cel(at) if by_cel else expression.value(at)
    except EvaluationFailed as failed:
        return failed.reason
    return type(value), value


@given(CONDITIONS, MOMENTS)
def test_python_gives_what_cel_gives(text: str, at: Moment) -> None:
    condition = compile_condition(text, "checkin")
    if isinstance(condition, Condition):
        assert result(condition.expression, at, False) == result(condition.expression, at, True), text
    else:
        # Nothing is left for CEL to refuse: what the checks take is CEL.
        assert condition.message != "CEL does not take this."


@pytest.mark.parametrize(
    ("text", "is_python"),
    [
        ("card.tier == 'gold' && counts.visits_week == 3", True),
        ("counts.visits_ever % 10 == 0", True),
        ("now.unix_ms < event.doors_open_ms + 30 * 60000", True),
        ("has(member.attributes.x) && member.attributes.x == 'a'", True),
        ("'jazz' in event.tags || now.weekday in [6, 7]", True),
        ("card.points / 2 == 1", False),  # points can be negative: CEL rounds towards zero
        ("card.points * card.points > 1", False),  # can overflow
        ("member.attributes.x == 1", False),  # in Python True == 1
        ("member.attributes.x > 1", False),
        ("event.tags.exists(t, t == 'x')", False),
        ("double(card.points) > 1.5", False),
    ],
)
def test_what_python_runs(text: str, is_python: bool) -> None:
    condition = compile_condition(text, "checkin")
    assert isinstance(condition, Condition)
    assert (condition.expression.code is not None) is is_python
