"""Moments that are made up: documents, their defaults, and what is wrong with them."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from rules.document import DocumentError
from rules.environment import fields_of
from rules.language import Trigger
from rules.limits import ATTRIBUTE_VALUES_MAX, INTEGER_MAX, TEXT_CHARS_MAX
from rules.moment import CardView, CountsView, MemberView, Moment, TierView
from rules.moment_document import moment_of

ZONE = "Asia/Ho_Chi_Minh"
AT = {"at": "2026-05-19T18:10:00+02:00"}


def made(trigger: Trigger = "checkin", **document: Any) -> Moment:
    found = moment_of({**AT, **document}, trigger, ZONE)
    assert isinstance(found, Moment), found
    return found


@pytest.mark.parametrize("trigger", get_args(Trigger))
def test_a_moment_has_all_that_its_trigger_has(trigger: Trigger) -> None:
    moment = made(trigger)
    assert (moment.trigger, moment.at_ms, moment.now.hour) == (trigger, 1_779_207_000_000, 23)
    for name, fields in fields_of(trigger).items():
        for field in fields.values():
            value: Any = moment
            for step in field.path:
                value = getattr(value, step)
            assert value is not None, (name, field)
    for name in ("event", "scan", "points", "tier", "coupon", "top_up", "streak"):
        assert (getattr(moment, name) is not None) == (name in fields_of(trigger))


def test_what_is_said_is_so() -> None:
    moment = made(
        "tier_changed",
        card={"id": "c", "tier": "gold", "points": -5, "earned": 3, "wallet": 7, "issued_days": 2},
        member={"id": "m", "birthday": 229, "attributes": {"city": "Huế", "likes": ["jazz", 4, None, 1.5, True]}},
        counts={"visits_ever": 9, "visits_week": 2},
        tier={"from": "silver", "to": "gold"},
        awarded=11,
    )
    assert moment.card == CardView("c", "gold", -5, 3, 7, 2)
    assert moment.member == MemberView("m", 229, {"city": "Huế", "likes": ["jazz", 4, None, 1.5, True]})
    assert moment.counts == CountsView(1, 2, 1, 9, 1)
    assert (moment.tier, moment.base_points) == (TierView("silver", "gold"), 11)
    exit_ = made("exit", scan={"offline": True})
    assert exit_.scan is not None
    assert (exit_.scan.direction, exit_.scan.offline) == ("exit", True)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ({}, ""),
        (AT | {"on": "checkin"}, ""),
        ({"at": 5}, "/at"),
        ({"at": "2026-05-19T18:10:00"}, "/at"),
        ({"at": "1970-01-01T00:00:00Z"}, "/at"),
        ({"at": "9999-12-31T23:59:59-12:00"}, "/at"),
        (AT | {"card": {"points": INTEGER_MAX + 1}}, "/card/points"),
        (AT | {"card": {"id": "x" * (TEXT_CHARS_MAX + 1)}}, "/card/id"),
        (AT | {"card": {"colour": "red"}}, "/card"),
        (AT | {"counts": {"visits_ever": -1}}, "/counts/visits_ever"),
        (AT | {"counts": {"visits_ever": True}}, "/counts/visits_ever"),
        (AT | {"member": {"birthday": 1232}}, "/member/birthday"),
        (AT | {"member": {"attributes": {"a": {"b": 1}}}}, "/member/attributes"),
        (AT | {"member": {"attributes": {"a": [[1]]}}}, "/member/attributes"),
        (AT | {"member": {"attributes": {"x" * (TEXT_CHARS_MAX + 1): 1}}}, "/member/attributes"),
        (AT | {"member": {"attributes": {str(n): n for n in range(ATTRIBUTE_VALUES_MAX + 1)}}}, "/member/attributes"),
        (AT | {"event": {"tags": ["a", 5]}}, "/event/tags/1"),
        (AT | {"points": {"amount": 1}}, "/points"),
        (AT | {"awarded": -1}, "/awarded"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(document: Any, pointer: str) -> None:
    found = moment_of(document, "checkin", ZONE)
    assert isinstance(found, DocumentError)
    assert (found.pointer, bool(found.message)) == (pointer, True)
