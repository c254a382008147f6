"""Members: merge patches, consents with their history, erasure."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from gateway.members.fields import ConsentFlags
from gateway.members.model import (
    CONSENT_FLAGS,
    ERASED_NAME,
    Consent,
    ConsentStep,
    Member,
    changed,
    erased,
    merged,
    new_member,
    steps,
)

ANN = Member(
    member_id="mem_1",
    name="Ann",
    email="ann@example.org",
    birthday=date(1990, 2, 3),
    attributes={"shoe": {"size": 40, "color": "red"}, "tags": [1]},
    consents={"photo": Consent(True, 5, "organiser")},
    created_at_ms=5,
    changed_at_ms=5,
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches(target: Any, patch: Any, result: Any) -> None:
    before = repr(target)
    assert merged(target, patch) == result
    assert repr(target) == before


@pytest.mark.parametrize(
    ("patch", "change"),
    [
        ({"name": "Bo"}, {"name": "Bo"}),
        ({"email": None}, {"email": None}),
        ({"birthday": None, "locale": "vi"}, {"birthday": None, "locale": "vi"}),
        ({"attributes": {"shoe": {"size": None}}}, {"attributes": {"shoe": {"color": "red"}, "tags": [1]}}),
        ({"attributes": None}, {"attributes": {}}),
        ({"attributes": {"tags": [True]}}, {"attributes": {"shoe": {"size": 40, "color": "red"}, "tags": [True]}}),
    ],
)
def test_a_change_touches_what_it_names_and_makes_a_version(patch: dict[str, Any], change: dict[str, Any]) -> None:
    after = changed(ANN, patch, 9, "organiser")
    expected = (
        {name: getattr(ANN, name) for name in ANN.__struct_fields__} | {"version": 2, "changed_at_ms": 9} | change
    )
    assert {name: getattr(after, name) for name in after.__struct_fields__} == expected


@pytest.mark.parametrize(
    "patch",
    [
        {},
        {"name": "Ann"},
        {"phone": None},
        {"attributes": {"tags": [1], "absent": None}},
        {"attributes": {}},
        {"consents": {"photo": True}},
        {"consents": {"profiling": None}},
        {"consents": None},
    ],
)
def test_a_patch_that_changes_nothing_makes_no_version(patch: dict[str, Any]) -> None:
    assert changed(ANN, patch, 9, "member") is ANN


@pytest.mark.parametrize("withdrawn", [False, None])
def test_consents_are_given_and_withdrawn_and_each_step_is_history(withdrawn: bool | None) -> None:
    given = changed(ANN, {"consents": {"profiling": True, "photo": True}}, 9, "member")
    assert given.consents == {"photo": Consent(True, 5, "organiser"), "profiling": Consent(True, 9, "member")}
    assert steps(ANN, given) == [ConsentStep("mem_1", 2, "profiling", True, 9, "member")]
    taken = changed(given, {"consents": {"photo": withdrawn}}, 12, "member")
    assert taken.consents["photo"] == Consent(False, 12, "member")
    assert steps(given, taken) == [ConsentStep("mem_1", 3, "photo", False, 12, "member")]
    assert changed(taken, {"consents": {"photo": withdrawn}}, 20, "organiser") is taken


def test_a_refusal_told_from_the_start_is_kept() -> None:
    member = new_member(
        "m", {"name": "Bo", "consents": {"photo": False}, "attributes": {"a": None, "b": 1}}, 7, "import"
    )
    assert member.consents == {"photo": Consent(False, 7, "import")}
    assert member.attributes == {"b": 1}
    assert steps(None, member) == [ConsentStep("m", 1, "photo", False, 7, "import")]


def test_erasing_leaves_nothing_about_a_person() -> None:
    gone = erased(ANN, 30)
    assert gone == Member(
        member_id="mem_1",
        name=ERASED_NAME,
        consents={"photo": Consent(False, 30, "erasure")},
        version=2,
        created_at_ms=5,
        changed_at_ms=30,
        erased_at_ms=30,
    )
    assert steps(ANN, gone) == [ConsentStep("mem_1", 2, "photo", False, 30, "erasure")]
    assert erased(gone, 40) is gone


def test_the_fields_of_consents_are_the_flags() -> None:
    assert tuple(ConsentFlags.model_fields) == CONSENT_FLAGS
