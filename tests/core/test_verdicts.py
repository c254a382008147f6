"""Verdicts: each reason, the order of the checks, re-entry, exits, gates, doors and capacity. One row a case."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from actors.checkin import decide_check_in
from actors.event import Attendance, Event
from actors.facts import PointsPosted, ScanJudged
from actors.refusals import SCAN_REASONS
from actors.terms import Admission
from rules.model import Rule
from tests.core.build import NOW_MS, card, check_in, event, tenant

INSIDE = Attendance(True, 1, 500, "gate_a", "dev_1")
LEFT = Attendance(False, 1, 500, "gate_a", "dev_1")


def judged(command: Any, the_card: Any = None, the_event: Event | None = None, **settings: Any) -> ScanJudged:
    facts = decide_check_in(
        tenant(**settings), the_card if the_card is not None else card(), the_event or event(), command, NOW_MS
    )
    assert isinstance(facts[0], ScanJudged)
    return facts[0]


# What breaks each rule, in the order in which the rules are checked: what of the command, the card, the event.
BROKEN: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "credential_expired": ({"valid_until_ms": NOW_MS}, {}, {}),
    "card_revoked": ({}, {"state": "revoked"}, {}),
    "card_expired": ({}, {"valid_until_ms": NOW_MS}, {}),
    "event_cancelled": ({}, {}, {"state": "cancelled"}),
    "event_not_open": ({}, {}, {"doors_open_ms": NOW_MS + 1}),
    "event_closed": ({}, {}, {"doors_close_ms": NOW_MS}),
    "gate_closed": ({"gate_id": "gate_shut"}, {}, {}),
    "not_eligible": ({}, {}, {"admission": Admission(("diamond",))}),
    "full": ({}, {}, {"inside": 2}),
}


@pytest.mark.parametrize(
    ("reason", "command", "the_card", "the_event"),
    [
        ("", check_in(), {}, {}),
        ("credential_expired", check_in(valid_until_ms=NOW_MS), {}, {}),
        ("", check_in(valid_until_ms=NOW_MS + 1), {}, {}),
        ("credential_expired", check_in(valid_from_ms=NOW_MS + 1), {}, {}),
        ("", check_in(valid_from_ms=NOW_MS), {}, {}),
        ("card_revoked", check_in(), {"state": "revoked"}, {}),
        ("card_suspended", check_in(), {"state": "suspended"}, {}),
        ("card_expired", check_in(), {"valid_until_ms": NOW_MS}, {}),
        ("", check_in(), {"valid_until_ms": NOW_MS + 1}, {}),
        ("card_expired", check_in(), {"valid_from_ms": NOW_MS + 1}, {}),
        ("", check_in(), {"valid_from_ms": NOW_MS}, {}),
        ("event_not_open", check_in(), {}, {"doors_open_ms": NOW_MS + 1}),
        ("", check_in(), {}, {"doors_open_ms": NOW_MS}),
        ("event_closed", check_in(), {}, {"doors_close_ms": NOW_MS}),
        ("", check_in(), {}, {"doors_close_ms": NOW_MS + 1}),
        ("event_closed", check_in(), {}, {"state": "closed"}),
        ("event_cancelled", check_in(), {}, {"state": "cancelled"}),
        ("gate_unknown", check_in(gate_id="gate_x"), {}, {}),
        ("gate_closed", check_in(gate_id="gate_shut"), {}, {}),
        ("", check_in(gate_id="gate_a"), {}, {}),
        ("already_admitted", check_in(), {}, {"attendance": {"card": INSIDE}}),
        ("not_inside", check_in(direction="exit"), {}, {}),
        ("full", check_in(), {}, {"inside": 2}),
        ("", check_in(), {}, {"inside": 1}),
    ],
)
def test_reason(reason: str, command: Any, the_card: dict[str, Any], the_event: dict[str, Any]) -> None:
    fact = judged(command, card(**the_card), event(**the_event))
    assert fact.reason == reason
    assert fact.refused == (1 if reason else 0)


def test_an_unknown_card_is_a_bad_credential() -> None:
    (fact,) = decide_check_in(tenant(), None, event(), check_in(), NOW_MS)
    assert isinstance(fact, ScanJudged)
    assert (fact.reason, fact.member_name, fact.refused) == ("credential_invalid", "", 1)


@pytest.mark.parametrize(("first", "second"), list(combinations(BROKEN, 2)))
def test_the_first_broken_rule_is_the_reason(first: str, second: str) -> None:
    parts = [{**BROKEN[first][n], **BROKEN[second][n]} for n in range(3)]
    assert judged(check_in(**parts[0]), card(**parts[1]), event(**parts[2])).reason == first


def test_every_reason_is_on_the_list() -> None:
    told = {*BROKEN, "credential_invalid", "card_suspended", "gate_unknown", "already_admitted", "not_inside"}
    told.add("credential_replayed")  # tests/core/test_card_life.py
    assert told == set(SCAN_REASONS)


@pytest.mark.parametrize(
    ("reentry", "seen", "reason"),
    [
        ("none", None, ""),
        ("none", INSIDE, "already_admitted"),
        ("none", LEFT, "already_admitted"),
        ("after_exit", None, ""),
        ("after_exit", INSIDE, "already_admitted"),
        ("after_exit", LEFT, ""),
        ("multiple", None, ""),
        ("multiple", INSIDE, ""),
        ("multiple", LEFT, ""),
    ],
)
def test_reentry(reentry: Any, seen: Attendance | None, reason: str) -> None:
    attendance = {"card": seen} if seen else {}
    inside = 1 if seen is INSIDE else 0
    fact = judged(check_in(), None, event(reentry=reentry, attendance=attendance, inside=inside))
    assert fact.reason == reason
    assert fact.inside == (1 if seen is INSIDE or not reason else 0)


@pytest.mark.parametrize("reentry", ["none", "after_exit", "multiple"])
def test_being_inside_already_takes_no_seat_and_being_full_is_no_reason(reentry: Any) -> None:
    fact = judged(check_in(), None, event(reentry=reentry, attendance={"card": INSIDE}, inside=2))
    assert fact.reason == ("" if reentry == "multiple" else "already_admitted")
    assert fact.inside == 2


def test_already_admitted_tells_the_first_admission() -> None:
    fact = judged(check_in(), None, event(attendance={"card": INSIDE}, inside=1))
    assert (fact.first_at_ms, fact.first_gate_id, fact.first_device_id) == (500, "gate_a", "dev_1")
    other = judged(check_in(), None, event(attendance={"card": INSIDE}, inside=1, state="closed"))
    assert (other.first_at_ms, other.first_gate_id, other.first_device_id) == (0, "", "")


@pytest.mark.parametrize(
    ("strict", "seen", "inside", "reason", "left"),
    [
        (True, INSIDE, 1, "", 0),
        (True, LEFT, 1, "not_inside", 1),
        (True, None, 1, "not_inside", 1),
        (False, INSIDE, 1, "", 0),
        (False, LEFT, 1, "", 1),
        (False, None, 0, "", 0),
    ],
)
def test_exits(strict: bool, seen: Attendance | None, inside: int, reason: str, left: int) -> None:
    attendance = {"card": seen} if seen else {}
    fact = judged(check_in(direction="exit"), None, event(strict_exit=strict, attendance=attendance, inside=inside))
    assert (fact.reason, fact.inside) == (reason, left)
    assert not fact.card_inside or reason


def test_two_for_the_last_seat() -> None:
    the_event = event(inside=1)
    reasons = []
    for number, name in enumerate(("card", "card2")):
        fact = judged(check_in(f"scan{number}", name), card(name), the_event)
        the_event.apply(fact, number + 1)
        reasons.append(fact.reason)
    assert reasons == ["", "full"]
    assert (the_event.inside, the_event.admitted, the_event.refused) == (2, 2, 1)


def test_an_admission_earns_what_the_rules_give() -> None:
    rules = (Rule("once", 2, "Once", "checkin", 10), Rule("each", 1, "Each", "checkin", 3, once_per_event=False))
    scan, first, second = decide_check_in(tenant(rules=rules), card(balance=5), event(), check_in(), NOW_MS)
    assert isinstance(scan, ScanJudged)
    assert isinstance(first, PointsPosted)
    assert isinstance(second, PointsPosted)
    assert (scan.points_awarded, scan.points_balance) == (13, 18)
    assert [(fact.amount, fact.balance_after, fact.rule) for fact in (first, second)] == [
        (10, 15, "once:2"),
        (3, 18, "each:1"),
    ]
    assert (first.cause, first.request_id, second.event_earned_after) == ("checkin:scan", "", 13)
    again = decide_check_in(tenant(rules=rules), card(), event(attendance={"card": LEFT}), check_in("scan2"), NOW_MS)
    assert [fact.amount for fact in again if isinstance(fact, PointsPosted)] == [3]


def test_a_refused_scan_and_an_exit_earn_nothing() -> None:
    rules = (Rule("each", 1, "Each", "checkin", 3, once_per_event=False),)
    refused = decide_check_in(tenant(rules=rules), card(state="suspended"), event(), check_in(), NOW_MS)
    exited = decide_check_in(
        tenant(rules=rules), card(), event(attendance={"card": INSIDE}, inside=1), check_in(direction="exit"), NOW_MS
    )
    assert len(refused) == len(exited) == 1
