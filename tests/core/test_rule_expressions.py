"""Expressions of rules: what is taken and what it gives, what is refused and where, what fails at run time, and that
hostile ones are bounded."""

from __future__ import annotations

from typing import Any

import pytest

from rules import limits
from rules.conditions import (
    Amount,
    BadExpression,
    Condition,
    EvaluationFailed,
    compile_amount,
    compile_condition,
)
from rules.environment import VARIABLES
from rules.language import TRIGGERS, Trigger
from tests.core.rule_moments import moment


def compiled(text: str, trigger: Trigger = "checkin") -> Condition:
    found = compile_condition(text, trigger)
    assert isinstance(found, Condition), found
    return found


def amount(text: str, trigger: Trigger = "checkin") -> Amount:
    found = compile_amount(text, trigger)
    assert isinstance(found, Amount), found
    return found


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("true", True),
        ("card.tier == 'gold'", True),
        ('card.tier != "gold"', False),
        ("card.tier in ['silver', 'gold'] && now.weekday == 2", True),
        ("now.hour >= 17 && now.hour < 18 || false", False),
        ("'jazz' in event.tags", True),
        ("'ja' in event.tags", False),
        ("event.tags.exists(t, t.startsWith('ja'))", True),
        ("event.tags.all(t, t.startsWith('ja'))", False),
        ("event.tags.exists_one(t, t.endsWith('e'))", True),
        ("size(event.tags.filter(t, t != 'jazz')) == 1", True),
        ("[1, 2, 3].map(n, n * card.points) == [120, 240, 360]", True),
        ("[1, 2, 3].map(n, n > 1, n + 1) == [3, 4]", True),
        ("event.tags[1] == 'late' && event.tags.size() == 2", True),
        ("event.name.contains('al') ? card.points > 100 : false", True),
        ("has(member.attributes.city) && member.attributes.city == 'Hà Nội'", True),
        ("has(member.attributes.club) && member.attributes.club == 'x'", False),
        ("!has(member.attributes.city)", False),
        ("member.attributes['vip'] == true && member.attributes.age > 30", True),
        ("member.attributes.vip", True),
        ("member.attributes.age == 31.0 && member.attributes.ratio < 2", True),
        ("'jazz' in member.attributes.likes && 'city' in member.attributes", True),
        ("member.attributes.club == 'x' || card.points == 120", True),  # CEL: what is true does not wait for an error
        ("member.attributes.vip == 1", False),  # 1 is not true, in CEL
        ("member.birthday == 5 * 100 + 4", True),
        ("-7 / 2 == -3 && -7 % 3 == -1 && 7 / 2 == 3", True),  # towards zero
        ("now.date == 20260519 && now.unix_ms > 1700000000000", True),
        ("int(member.attributes.ratio * 2.0) == 3 && double(card.points) > 119.5", True),
        ("card.tier + '!' == 'gold!' // and so on", True),
        ("'\\u0041\\t\\'' == \"A\\t'\"", True),
        ("scan.offline == false && !scan.offline", True),
        ("card.tier < 'h' && 0x10 == 16", True),
        ("card.points * card.points == 14400", True),
        ("[] == [] && !(1 in [])", True),
    ],
)
def test_what_an_expression_gives(text: str, holds: bool) -> None:
    condition = compiled(text)
    assert condition.holds(moment()) is holds
    assert condition.expression.value_by_cel(moment()) is holds


@pytest.mark.parametrize(
    ("text", "line", "column", "told"),
    [
        ("foo.bar == 1", 1, 1, "no variable foo"),
        ("card.tier == 'gold' &&\n  card.colour == 'red'", 2, 8, "card has no field colour"),
        ("points.amount > 3", 1, 1, "not there for the trigger checkin"),
        ("card", 1, 1, "no value by itself"),
        ("card == card", 1, 1, "no value by itself"),
        ("card.points", 1, 6, "true or false"),
        ("card.points == 'many'", 1, 13, "== does not take"),
        ("card.tier == null", 1, 11, "== does not take"),
        ("card.tier > 3", 1, 11, "> does not take"),
        ("1 + 'a' == 2", 1, 3, "+ does not take"),
        ("1 + 1.5 == 2.5", 1, 3, "+ does not take"),
        ("2.5 % 2.0 == 0.5", 1, 5, "% does not take"),
        ("-card.tier == 'x'", 1, 1, "a number must be"),
        ("-(-9223372036854775808) > 0", 1, 1, "overflow unnoticed"),
        ("-int(member.attributes.age) > 0", 1, 1, "overflow unnoticed"),
        ("!card.points", 1, 7, "a truth value must be"),
        ("card.points && true", 1, 6, "a truth value must be"),
        ("(true ? 1 : 'a') == 1", 1, 7, "either a whole number or a text"),
        ("1 in ['a']", 1, 3, "in does not take"),
        ("card.tier.x == 1", 1, 11, "has no fields"),
        ("card.points[0] == 1", 1, 12, "has no place"),
        ("1 / 0 == 1", 1, 3, "divides by zero"),
        ("now()", 1, 1, "no such call of now"),
        ("timestamp('2026-01-01T00:00:00Z') > 3", 1, 1, "no such call of timestamp"),
        ("card.tier.matches('(a+)+$')", 1, 11, "no such call of matches"),
        ("string(card.points) == '1'", 1, 1, "no such call of string"),
        ("size(card.tier) == 4", 1, 1, "does not take a text"),
        ("int('5') == 5", 1, 1, "does not take a text"),
        ("member.attributes.all(k, true)", 1, 8, "no value by itself"),
        ("size(member.attributes) > 1", 1, 13, "no value by itself"),
        ("member.attributes[card.tier] == 1", 1, 8, "no value by itself"),
        ("card.tier in member.attributes", 1, 11, "written out"),
        ("member.attributes.likes.map(k, k)[0] == 'x'", 1, 25, "runs over a list"),
        ("event.tags.all(card, true)", 1, 12, "card is taken"),
        ("event.tags.all(t, [1].all(t, true))", 1, 23, "t is taken"),
        ("event.tags.all(1, true)", 1, 12, "takes a name"),
        ("has(card)", 1, 1, "has() takes one field"),
        ("1 +", 1, 4, "ends too early"),
        ("1 == == 1", 1, 6, "Unexpected =="),
        ("true true", 1, 6, "Unexpected true"),
        ("card.tier = 'gold'", 1, 11, "did you mean =="),
        ("card.tier == 'gold", 1, 14, "not closed"),
        ("'''a''' == 'a'", 1, 1, "three-fold"),
        ("b'a' == b'a'", 1, 1, "no prefix"),
        ("1u == 1u", 1, 2, "no unsigned"),
        ("{'a': 1}.a == 1", 1, 1, "Maps and messages"),
        ("'\\x41' == 'A'", 1, 2, "no escape"),
        ("'\\ud800' == 'A'", 1, 1, "surrogate"),
        ("9223372036854775808 > 1", 1, 1, "too large"),
        ("-9223372036854775809 < 1", 1, 1, "too large"),
        ("1e999 > 1.0", 1, 1, "too large"),
        ("if == 1", 1, 1, "reserved"),
        ("card.true", 1, 6, "must follow the dot"),
        ("a # b", 1, 3, "Unexpected character"),
        ("", 1, 1, "ends too early"),
    ],
)
def test_what_is_refused_and_where(text: str, line: int, column: int, told: str) -> None:
    found = compile_condition(text, "checkin")
    assert isinstance(found, BadExpression)
    assert told in found.message
    assert (found.line, found.column) == (line, column)


@pytest.mark.parametrize(
    ("large", "is_too_large"),
    [
        (list(range(31)), False),
        (list(range(32)), True),
        ({"a": [0] * 15, "b": [0] * 14}, False),
        ({"a": [0] * 15, "b": [0] * 15}, True),
        ("x" * 16_000, False),
    ],
)
def test_attributes_that_are_too_large_to_look_into(large: Any, is_too_large: bool) -> None:
    at = moment(member={"attributes": {"large": large, "age": 3}})
    condition = compiled("member.attributes.large == 5 || member.attributes.age == 3")
    if is_too_large:
        with pytest.raises(EvaluationFailed, match="attribute_too_large"):
            condition.holds(at)
    else:
        assert condition.holds(at)
    assert compiled("member.attributes.age == 3").holds(at)


def test_an_amount_is_a_whole_number() -> None:
    assert amount("card.points / 7 + 1").points(moment()) == 18
    for text in ("card.tier", "1.5", "true", "null"):
        assert isinstance(compile_amount(text, "checkin"), BadExpression)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("member.attributes.club == 'x'", "key_missing"),
        ("member.attributes.city.district == 'x'", "type_mismatch"),
        ("member.attributes.city > 3", "type_mismatch"),
        ("member.attributes.city", "type_mismatch"),
        ("event.tags[7] == 'x'", "index_out_of_range"),
        ("card.points / (card.points - 120) == 1", "division_by_zero"),
        ("card.points % (card.points - 120) == 1", "division_by_zero"),
        ("9223372036854775807 + card.points > 0", "overflow"),
        ("0 - (-9223372036854775808 + 0 * card.points) > 0", "overflow"),
    ],
)
def test_what_fails_at_run_time(text: str, reason: str) -> None:
    with pytest.raises(EvaluationFailed) as failed:
        compiled(text).holds(moment())
    assert failed.value.reason == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("card.points - 121", "amount_out_of_range"),
        ("1000000001", "amount_out_of_range"),
        ("9223372036854775807 * card.points", "overflow"),
        ("card.points / (card.points - 120)", "division_by_zero"),
        ("member.attributes.ratio", "type_mismatch"),
        ("member.attributes.vip", "type_mismatch"),
    ],
)
def test_amounts_out_of_bounds(text: str, reason: str) -> None:
    with pytest.raises(EvaluationFailed) as failed:
        amount(text).points(moment())
    assert failed.value.reason == reason


def test_bounds_of_amounts_belong_to_them() -> None:
    assert amount("0").points(moment()) == 0
    assert amount("1000000000").points(moment()) == limits.POINTS_PER_AWARD_MAX


DEEP = limits.EXPRESSION_DEPTH_MAX + 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("true" + " " * limits.EXPRESSION_CHARS_MAX, "characters"),
        ("(" * 900 + "true" + ")" * 900, "deep"),
        ("!" * 1900 + "true", "deep"),
        ("-" * 1900 + "1 == 1", "deep"),
        ("[" * 500 + "]" * 500 + " == []", "deep"),
        ("true ? true : " * 100 + "true", "deep"),
        ("+".join("1" * 900) + " == 1", "deep"),
        ("member.attributes" + ".a" * 900 + " == 1", "deep"),
        ("member.attributes" + "[0]" * DEEP + " == 1", "deep"),
        ("||".join(["1 == 1"] * 200), "parts"),
        ("1 in [" + ",".join("1" * 900) + "]", "parts"),
        ("event.tags.all(a, event.tags.all(b, a == b))", "may cost"),
        ("event.tags.map(a, event.tags.map(b, a + b)) == []", "may cost"),
        ("[1,2,3,4,5].all(a, [1,2,3,4,5].all(b, [1,2,3,4,5].all(c, [1,2,3,4,5].all(d, true))))", "may cost"),
        ("event.tags.filter(a, true).filter(a, true).filter(a, true).filter(a, true).size() == 1", "may cost"),
        ("event.tags.map(t, " + " + ".join(["event.name"] * 20) + ").size() == 1", "may cost"),
        (" || ".join(["member.attributes.exists == member.attributes.b"] * 20), "may cost"),
        (" || ".join(f"member.attributes.a{number} > 1" for number in range(30)), "may cost"),
    ],
)
def test_hostile_expressions_are_refused(text: str, told: str) -> None:
    found = compile_condition(text, "checkin")
    assert isinstance(found, BadExpression)
    assert told in found.message


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10 + "true" + ")" * 10,
        "card.tier in [" + ", ".join(f"'t{number}'" for number in range(230)) + "]",
        " || ".join(f"card.points == {number}" for number in range(90)),
        "event.tags.exists(t, t.startsWith('x') || t.endsWith('y') || t.contains('z'))",
        "event.tags.map(t, t + t).exists(t, t == 'xx')",
        "event.tags.filter(t, t != 'x').size() > 40",
        "[1, 2, 3, 4, 5].exists(a, [1, 2, 3, 4, 5].exists(b, a * b == 30))",
        " + ".join(["event.name"] * 20) + " == 'x'",
    ],
)
def test_the_most_that_is_taken_ends_within_its_cost(text: str) -> None:
    condition = compiled(text)
    assert condition.expression.cost <= limits.EXPRESSION_COST_UNITS_MAX
    tags = tuple(f"{number:0{limits.TEXT_CHARS_MAX}}" for number in range(limits.TAGS_PER_EVENT_MAX))
    largest = moment(event={"tags": tags, "name": "n" * limits.TEXT_CHARS_MAX}, card={"tier": "none"})
    assert condition.holds(largest) is (text.strip("()") == "true")


def test_every_field_is_there_for_its_triggers_and_no_other() -> None:
    for name, fields in VARIABLES.items():
        for key, field in fields.items():
            value = f"{name}.{key}.city" if field.type == "map" else f"{name}.{key}"
            text = f"size([{value}]) == 1"
            for trigger in TRIGGERS:
                found = compile_condition(text, trigger)
                if trigger in field.triggers:
                    assert isinstance(found, Condition), (text, trigger)
                    assert found.holds(moment(trigger)) is True
                else:
                    assert isinstance(found, BadExpression), (text, trigger)
                    assert f"not there for the trigger {trigger}" in found.message


def test_fields_have_the_values_of_the_moment() -> None:
    values: dict[str, Any] = {
        "tier.from == 'silver' && tier.to == 'gold'": "tier_changed",
        "coupon.id == 'free_drink'": "coupon_used",
        "top_up.amount == 1500000": "top_up",
        "streak.days == 7": "streak_reached",
        "points.amount == 100 && points.account == 'points'": "points_earned",
        "scan.gate_id == 'gate_1' && scan.device_id == 'dev_1'": "exit",
        "now.hour == 18 && now.minute == 10 && now.day == 19 && now.month == 5 && now.year == 2026": "schedule",
        "card.id == 'card_1' && member.id == 'mem_1' && member.birthday == 504": "birthday",
    }
    for text, trigger in values.items():
        condition = compiled(text, trigger)
        assert condition.holds(moment(trigger)) is True
        assert condition.expression.value_by_cel(moment(trigger)) is True
