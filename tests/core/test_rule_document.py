"""Rules as documents: what is taken, what is refused and where, the schema that says the same, and the way back."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import limits
from rules.document import DocumentError, admission_error, document_of, parse_rule
from rules.document_schema import RULE_SCHEMA
from rules.language import (
    TRIGGERS,
    AwardPoints,
    CallWebhook,
    GrantCoupon,
    Limits,
    Multiply,
    Notify,
    RuleDefinition,
    Schedule,
    SetTier,
)
from tests.core.rule_moments import ms, rule

SCHEMA = jsonschema_rs.Draft202012Validator(RULE_SCHEMA)
SMALL: dict[str, Any] = {"name": "A", "on": "checkin", "then": [{"action": "award_points", "points": 5}]}
FULL: dict[str, Any] = {
    "name": "Chào mừng",
    "on": "schedule",
    "when": "card.tier == 'gold'",
    "then": [
        {"action": "award_points", "amount": "card.points / 10", "expires_after_days": 30, "pending_days": 2},
        {"action": "multiply", "factor": "1.25"},
        {"action": "grant_coupon", "coupon_id": "cup_1"},
        {"action": "set_tier", "tier": "gold"},
        {"action": "notify", "template": "t1", "text": "line\nline"},
        {"action": "call_webhook", "name": "crm"},
    ],
    "limits": {"per_card": 3, "per_card_per_day": 1, "points_budget": 1000},
    "priority": -7,
    "valid_from": "2026-05-01T00:00:00+07:00",
    "valid_until": "2026-06-01T00:00:00.500Z",
    "state": "active",
    "stacking": "best",
    "group": "g",
    "schedule": {"at": "09:30", "weekdays": [5, 1]},
}


def changed(document: dict[str, Any], pointer: str, value: Any) -> dict[str, Any]:
    """A copy with `value` at `pointer`; `...` removes what is there."""
    made: Any = copy.deepcopy(document)
    holder = made
    *steps, last = pointer.split("/")[1:]
    for step in steps:
        holder = holder[int(step)] if isinstance(holder, list) else holder.setdefault(step, {})
    place: Any = int(last) if isinstance(holder, list) else last
    if value is ...:
        del holder[place]
    else:
        holder[place] = value
    return made  # type: ignore[no-any-return]


def errors(document: Any) -> tuple[DocumentError, ...]:
    found = parse_rule(document, "rule_1", 3)
    return found if isinstance(found, tuple) else ()


def test_a_small_document() -> None:
    assert parse_rule(SMALL, "rule_1", 3) == RuleDefinition(
        rule_id="rule_1", version=3, name="A", on="checkin", when="true", then=(AwardPoints(5),)
    )


def test_a_full_document() -> None:
    assert parse_rule(FULL, "rule_1", 3) == RuleDefinition(
        rule_id="rule_1",
        version=3,
        name="Chào mừng",
        on="schedule",
        when="card.tier == 'gold'",
        then=(
            AwardPoints(0, "card.points / 10", 30, 2),
            Multiply(1250),
            GrantCoupon("cup_1"),
            SetTier("gold"),
            Notify("t1", "line\nline"),
            CallWebhook("crm"),
        ),
        limits=Limits(3, 1, 1000),
        priority=-7,
        valid_from_ms=ms("2026-04-30T17:00:00Z"),
        valid_until_ms=ms("2026-06-01T00:00:00Z") + 500,
        state="active",
        stacking="best",
        schedule=Schedule(570, (1, 5)),
        group="g",
    )


# A pointer, what stands there instead, where the error is and a part of what it says; the last column: whether the
# schema says so, too.
REFUSED: list[tuple[dict[str, Any], str, Any, str, str, bool]] = [
    (SMALL, "/name", ..., "", "name is missing", True),
    (SMALL, "/on", ..., "", "on is missing", True),
    (SMALL, "/then", ..., "", "then is missing", True),
    (SMALL, "/name", "", "/name", "1 to 120", True),
    (SMALL, "/name", "n" * 121, "/name", "1 to 120", True),
    (SMALL, "/name", "a\x00b", "/name", "cannot be here", True),
    (SMALL, "/name", "a\n", "/name", "cannot be here", True),
    (SMALL, "/name", 5, "/name", "a text", True),
    (SMALL, "/on", "check-in", "/on", "one of checkin", True),
    (SMALL, "/on", ["checkin"], "/on", "one of checkin", True),
    (SMALL, "/colour~/x", 1, "/colour~0", "no such key", True),
    (SMALL, "/when", "", "/when", "an expression of 1", True),
    (SMALL, "/when", "x" * 2001, "/when", "an expression of 1", True),
    (SMALL, "/when", None, "/when", "an expression of 1", True),
    (SMALL, "/when", "card.colour == 1", "/when", "no field colour", False),
    (SMALL, "/then", [], "/then", "a list of 1 to 8", True),
    (SMALL, "/then", {}, "/then", "a list of 1 to 8", True),
    (SMALL, "/then", SMALL["then"] * 9, "/then", "a list of 1 to 8", True),
    (SMALL, "/then/0", "award", "/then/0", "must be one of award_points", True),
    (SMALL, "/then/0", {"points": 5}, "/then/0/action", "must be one of award_points", True),
    (SMALL, "/then/0/action", ["award_points"], "/then/0/action", "must be one of award_points", True),
    (SMALL, "/then/0/tier", "gold", "/then/0/tier", "no such key", True),
    (SMALL, "/then/0/points", 0, "/then/0/points", "from 1 to 1000000000", True),
    (SMALL, "/then/0/points", 1_000_000_001, "/then/0/points", "from 1 to", True),
    (SMALL, "/then/0/points", 1.5, "/then/0/points", "a whole number", True),
    (SMALL, "/then/0/points", True, "/then/0/points", "a whole number", True),
    (SMALL, "/then/0/points", ..., "/then/0", "either points or an amount", True),
    (SMALL, "/then/0/amount", "1", "/then/0", "either points or an amount", True),
    (SMALL, "/then/0/pending_days", 0, "/then/0/pending_days", "from 1 to 3650", True),
    (FULL, "/then/0/amount", "card.tier", "/then/0/amount", "a whole number", False),
    (FULL, "/then/1/factor", 1, "/then/1/factor", "above 1", True),
    (FULL, "/then/1/factor", 101, "/then/1/factor", "at most 100", True),
    (FULL, "/then/1/factor", 1.5, "/then/1/factor", "a text like", True),
    (FULL, "/then/1/factor", "1.0005", "/then/1/factor", "three places", True),
    (FULL, "/then/1/factor", "0.5", "/then/1/factor", "above 1", False),
    (FULL, "/then/1/factor", "100.1", "/then/1/factor", "at most 100", False),
    (FULL, "/then/1/factor", ..., "/then/1", "factor is missing", True),
    (FULL, "/then/2/coupon_id", "a b", "/then/2/coupon_id", "cannot be here", True),
    (FULL, "/then/3/tier", "", "/then/3/tier", "1 to 64", True),
    (FULL, "/then/4", {"action": "notify"}, "/then/4", "a template or a text", True),
    (FULL, "/then/4/text", "a\tb", "/then/4/text", "cannot be here", True),
    (FULL, "/then/5/name", "x" * 65, "/then/5/name", "1 to 64", True),
    (FULL, "/limits", [], "/limits", "an object", True),
    (FULL, "/limits/per_year", 1, "/limits/per_year", "no such key", True),
    (FULL, "/limits/per_card", 0, "/limits/per_card", "from 1 to", True),
    (FULL, "/priority", 1001, "/priority", "from -1000 to 1000", True),
    (FULL, "/valid_from", "2026-05-01", "/valid_from", "RFC 3339", True),
    (FULL, "/valid_from", 5, "/valid_from", "RFC 3339", True),
    (FULL, "/valid_from", "2026-02-30T00:00:00Z", "/valid_from", "RFC 3339", False),
    (FULL, "/valid_from", "1970-01-01T00:00:00Z", "/valid_from", "after 1970", False),
    (FULL, "/valid_until", "2026-05-01T00:00:00+07:00", "/valid_until", "later than", False),
    (FULL, "/state", "on", "/state", "one of draft", True),
    (FULL, "/stacking", "most", "/stacking", "one of all", True),
    (FULL, "/group", ..., "", "group is missing", True),
    (FULL, "/stacking", "all", "/group", "only for the stacking best", True),
    (FULL, "/schedule", ..., "", "schedule is missing", True),
    (FULL, "/on", "birthday", "/schedule", "only for the trigger schedule", True),
    (FULL, "/schedule/at", "24:00", "/schedule/at", "another form", True),
    (FULL, "/schedule/at", ..., "/schedule", "at is missing", True),
    (FULL, "/schedule/weekdays", [0], "/schedule/weekdays", "from 1 to 7", True),
    (FULL, "/schedule/weekdays", [1, 1], "/schedule/weekdays", "different", True),
    (FULL, "/schedule/weekdays", [], "/schedule/weekdays", "a list", True),
    (FULL, "/schedule/days_of_month", [1], "/schedule", "not both", True),
]


@pytest.mark.parametrize(("document", "pointer", "value", "where", "told", "by_schema"), REFUSED)
def test_what_is_refused_and_where(
    document: dict[str, Any], pointer: str, value: Any, where: str, told: str, by_schema: bool
) -> None:
    if pointer == "/colour~/x":
        made = {**document, "colour~": 1}
        where = "/colour~0"
    else:
        made = changed(document, pointer, value)
    found = errors(made)
    assert any(error.pointer == where and told in error.message for error in found), found
    assert SCHEMA.is_valid(made) is not by_schema


@pytest.mark.parametrize("document", [None, 5, "rule", [], [SMALL]])
def test_a_document_is_an_object(document: Any) -> None:
    assert errors(document) == (DocumentError("", "This must be an object."),)
    assert not SCHEMA.is_valid(document)


def test_an_expression_is_wrong_at_a_line_and_column() -> None:
    document = changed(FULL, "/when", "card.tier == 'gold' &&\n  card.colour == 1")
    assert [(error.pointer, error.line, error.column) for error in errors(document)] == [("/when", 2, 8)]


def test_half_a_surrogate_pair_is_no_text() -> None:
    for pointer in ("/name", "/then/4/text"):
        assert [error.pointer for error in errors(changed(FULL, pointer, "\ud800"))] == [pointer]
    assert [error.pointer for error in errors(changed(FULL, "/when", "'\ud800' == card.tier"))] == ["/when"]


def test_all_errors_are_told_up_to_a_limit() -> None:
    document = {**FULL, "name": 1, "priority": "x", "when": "1 +", "limits": 5}
    assert {error.pointer for error in errors(document)} == {"/name", "/priority", "/when", "/limits"}
    assert len(errors({str(number): 1 for number in range(100)})) == limits.DOCUMENT_ERRORS_MAX


def test_documents_come_back() -> None:
    for document in (SMALL, FULL, changed(FULL, "/then/1/factor", 2)):
        definition = parse_rule(document, "rule_1", 3)
        assert isinstance(definition, RuleDefinition)
        written = document_of(definition)
        assert SCHEMA.is_valid(written)
        assert parse_rule(written, "rule_1", 3) == definition
    assert document_of(definition)["then"][1] == {"action": "multiply", "factor": 2}


VALUES = st.sampled_from(
    [
        *(..., None, True, 0, 1, 2, 2.0, 1.5, -1, 10**13, 1e300, "", "x", "1.5", "09:00", "best", "all", "schedule"),
        *("exit", "a b", "2026-05-20T09:00:00Z", [], [1], [1, 1.0], [8], {}, {"action": "notify"}, {"at": "10:00"}),
    ]
)
POINTERS = st.sampled_from(
    [
        *(f"/{key}" for key in (*FULL, "extra")),
        *(f"/then/{number}/{key}" for number, one in enumerate(FULL["then"]) for key in (*one, "points", "extra")),
        *(f"/limits/{key}" for key in FULL["limits"]),
        *("/schedule/at", "/schedule/weekdays", "/schedule/days_of_month", "/then/0"),
    ]
)
BEYOND_A_SCHEMA = ("The expression", "There is no", "Unexpected", "is not there for", "later than", "The factor")


@given(st.sampled_from([SMALL, FULL]), st.lists(st.tuples(POINTERS, VALUES), max_size=3))
def test_schema_and_parser_agree(document: dict[str, Any], changes: list[tuple[str, Any]]) -> None:
    """What the parser takes the schema takes; what the schema takes the parser refuses only for what no schema can
    say."""
    for pointer, value in changes:
        try:
            document = changed(document, pointer, value)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            continue  # an earlier change took the place away
    found = errors(document)
    if SCHEMA.is_valid(document):
        assert all(error.line or any(told in error.message for told in BEYOND_A_SCHEMA) for error in found), found
    else:
        assert found


def test_every_trigger_can_be_named() -> None:
    for trigger in TRIGGERS:
        more = {"schedule": {"at": "08:00"}} if trigger == "schedule" else {}
        document = {**SMALL, "on": trigger, **more}
        assert errors(document) == ()
        assert SCHEMA.is_valid(document)


def test_how_many_rules_a_tenant_can_have() -> None:
    others = [rule(f"r{number}", state="draft") for number in range(limits.RULES_PER_TENANT_MAX)]
    refused = admission_error(others, rule("new"))
    assert refused is not None
    assert "200 rules" in refused.message
    assert admission_error(others, rule("r7")) is None
    assert admission_error(others[1:], rule("new")) is None


def test_how_much_the_rules_of_a_trigger_may_cost() -> None:
    dear = "event.tags.exists(a, a == 'x') || event.tags.exists(a, a == 'y')"
    others: list[RuleDefinition] = []
    while admission_error(others, new := rule(f"r{len(others):03}", dear)) is None:
        others.append(new)
    assert 3 < len(others) < 20
    refused = admission_error(others, new)
    assert refused is not None
    assert "together may cost" in refused.message
    assert admission_error(others, rule("new", dear, state="draft")) is None
    assert admission_error(others, rule("new", "card.points > 3", on="top_up")) is None
    assert admission_error(others, others[0]) is None
    too_many = [*others, new]  # as can be after the limit was lowered: then a rule can still be paused
    assert admission_error([*too_many, rule("more", dear)], msgspec.structs.replace(new, state="paused")) is None
    assert admission_error(too_many, new) == refused
