"""The condition of an event's admission rule: what it sees, whom it refuses, what comes of one without a value."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec
import pytest

import actors.door_condition
import actors.terms
from actors.admin import decide_change_event, decide_create_event
from actors.calendar import local_day
from actors.checkin import decide_check_in
from actors.commands import ChangeEvent, CheckIn, CreateEvent
from actors.door_condition import DoorCondition
from actors.event import Attendance
from actors.facts import CommandRefused, EventChanged, EventCreated, ScanJudged
from actors.offline import decide_offline
from actors.profiles import Profile
from actors.terms import Admission, EventTerms, Gate, Lot, Zone
from actors.visits import NO_VISITS, admitted
from rules.limits import EXPRESSION_CHARS_MAX
from tests.core.build import NOW_MS, card, check_in, event, scope, signed, tenant

DAY_MS = 86_400_000
VIP = "member.attributes.vip == 1"


def judged(condition: str, the_card: Any = None, scan: CheckIn | None = None, **terms: Any) -> ScanJudged:
    more = {"admission": Admission((), False, "Members only", condition), **terms}
    command, settings = scan or check_in(), {"time_zone": "Asia/Ho_Chi_Minh"}
    decide = decide_offline if command.is_offline else decide_check_in
    facts = decide(tenant(**settings), the_card or card(), event(**more), command, NOW_MS)
    return next(fact for fact in facts if isinstance(fact, ScanJudged))


def came(*days_ago: int) -> Any:
    visits = NO_VISITS
    for ago in days_ago:
        day = local_day(NOW_MS - ago * DAY_MS, "Asia/Ho_Chi_Minh")
        visits = admitted(visits, day, f"evt_{ago}")[0] or visits
    return visits


CASES: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("true", {}, {}, True),
    ("false", {}, {}, False),
    ("card.tier in ['gold', 'silver']", {}, {}, True),
    ("card.tier == 'silver'", {}, {}, False),
    ("card.points >= 100", {"balance": 100}, {}, True),
    ("card.points >= 100", {"balance": 99}, {}, False),
    # What has lapsed is not there, posted or not.
    ("card.points >= 100", {"balance": 100, "lots": (Lot(1, 50, NOW_MS),)}, {}, False),
    ("card.issued_days >= 2", {"issued_at_ms": NOW_MS - 2 * DAY_MS}, {}, True),
    ("card.issued_days >= 2", {"issued_at_ms": NOW_MS - 2 * DAY_MS + 1}, {}, False),
    ("member.birth_year <= 2008", {"profile": Profile(521, 2008)}, {}, True),
    ("member.birth_year <= 2008", {"profile": Profile(521, 2009)}, {}, False),
    (VIP, {"profile": Profile(0, 0, '{"vip":1}')}, {}, True),
    ("scan.gate_id == 'gate_a'", {}, {"gate_id": "gate_a"}, True),
    ("scan.gate_id == 'gate_a'", {}, {}, False),
    ("event.name == 'Evening' && event.id == 'event'", {}, {}, True),
    # In Ho Chi Minh City it is 15:00 on Friday, 15 January 2027.
    ("now.hour == 15 && now.weekday == 5 && now.date == 20270115", {}, {}, True),
    ("now.hour == 8", {}, {}, False),
    # Counts have this admission in them.
    ("counts.visits_today == 1 && counts.visits_ever == 1 && counts.visits_event == 1", {}, {}, True),
    ("counts.visits_week == 3 && counts.streak_days == 3", {"visits": came(2, 1)}, {}, True),
    ("counts.visits_week > 3", {"visits": came(2, 1)}, {}, False),
]


@pytest.mark.parametrize(("condition", "the_card", "scan", "is_let_in"), CASES)
def test_who_meets_the_condition_is_let_in(
    condition: str, the_card: dict[str, Any], scan: dict[str, Any], is_let_in: bool
) -> None:
    fact = judged(condition, card(**the_card), check_in(**scan))
    assert fact.reason == ("" if is_let_in else "not_eligible")
    told = fact.details
    assert ((told.message, told.condition_failure) if told else ("", "")) == ("" if is_let_in else "Members only", "")
    with patch.object(actors.door_condition, "direct_which_of", lambda *_: None):
        assert judged(condition, card(**the_card), check_in(**scan)) == fact, "the moment says the same"


def test_an_entry_of_before_is_counted_and_a_change_of_zone_is_none() -> None:
    before = {"attendance": {"card": Attendance(False, 1, 5)}}
    assert judged("counts.visits_event == 2", **before).reason == ""
    doors: dict[str, Any] = {
        "attendance": {"card": Attendance(True, 1, 5, zone_id="floor")},
        "inside": 1,
        "zones": (Zone("floor", "Floor"), Zone("balcony", "Balcony")),
        "gates": (Gate("up", "Up", True, "balcony"),),
    }
    moved = judged("counts.visits_event == 1", scan=check_in(gate_id="up"), **doors)
    assert (moved.reason, moved.details and moved.details.is_move) == ("", True)


@pytest.mark.parametrize(
    ("condition", "failure"),
    [
        (VIP, "key_missing"),
        ("member.attributes.list[3] == 1", "key_missing"),
        ("1 / (counts.visits_event - 1) == 1", "division_by_zero"),
        # Saved under other bounds than those of today.
        ("card.colour == 'red'", "not_computable"),
    ],
)
def test_a_condition_without_a_value_says_no_and_why(condition: str, failure: str) -> None:
    fact = judged(condition)
    assert fact.details is not None
    assert (fact.reason, fact.details.message) == ("not_eligible", "Members only")
    assert fact.details.condition_failure == failure
    forced = judged(condition, scan=check_in(forced_by="acc_boss"))
    assert forced.details is not None
    assert (forced.reason, forced.details.forced, forced.details.condition_failure) == ("", "not_eligible", failure)


def test_what_is_asked_first_hides_the_condition() -> None:
    listed = judged(VIP, admission=Admission((), True, "", VIP))
    assert (listed.reason, listed.details) == ("not_eligible", None)
    assert judged(VIP, state="closed").reason == "event_closed"
    # A way out is open to everybody.
    inside = {"attendance": {"card": Attendance(True, 1, 5)}, "inside": 1}
    assert judged("false", scan=check_in(direction="exit"), **inside).reason == ""


def test_a_scan_without_a_network_is_not_sent_away_but_a_conflict() -> None:
    scan = check_in(is_offline=True, scanned_at_ms=NOW_MS - DAY_MS)
    fact = judged("now.date == 20270115", scan=scan)
    assert fact.details is not None
    assert (fact.reason, fact.card_inside, fact.details.conflict) == ("", True, "not_eligible"), (
        "by the scan's own time"
    )
    fact = judged(VIP, scan=scan)
    assert fact.details is not None
    assert (fact.reason, fact.details.conflict, fact.details.condition_failure) == ("", "not_eligible", "key_missing")
    fact = judged("now.date == 20270114 && scan.offline", scan=scan)
    assert fact.details is not None
    assert (fact.details.conflict, fact.details.condition_failure) == ("", "")


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("card.colour == 'red'", "(line 1, column 6)"),
        ("card.points\n  >= 'many'", "(line 2, column 3)"),
        ("points.amount > 1", "(line 1, column 1)"),
        ("card.points", "(line 1, column"),
        ("1" * (EXPRESSION_CHARS_MAX + 1), "at most 2000 characters"),
    ],
)
def test_what_is_no_condition_is_not_saved(condition: str, told: str) -> None:
    terms = EventTerms("Evening", 2, "UTC", admission=Admission(condition=condition))
    made = decide_create_event(scope(tenant()), signed(CreateEvent("org", "r", b"", "event", terms)), NOW_MS)
    command = signed(ChangeEvent("org", "r", b"", "event", admission=terms.admission))
    changed = decide_change_event(scope(tenant(), event()), command, NOW_MS)
    for (fact,) in (made, changed):
        assert isinstance(fact, CommandRefused)
        assert fact.reason == "terms_invalid"
        assert told in fact.detail


def test_a_condition_is_compiled_once_for_each_version_of_an_event() -> None:
    terms = EventTerms("Evening", 9, "UTC", admission=Admission(condition="card.tier == 'gold'"))
    with patch.object(actors.terms, "DoorCondition", wraps=DoorCondition) as made:
        (created,) = decide_create_event(scope(tenant()), signed(CreateEvent("org", "r", b"", "event", terms)), NOW_MS)
        assert isinstance(created, EventCreated)
        the_event = event()
        the_event.terms = created.terms
        for number in range(5):
            decide_check_in(tenant(), card(), the_event, check_in(f"scan{number}"), NOW_MS)
        assert made.call_count == 1
        command = signed(ChangeEvent("org", "r", b"", "event", name="Night"))
        (changed,) = decide_change_event(scope(tenant(), the_event), command, NOW_MS)
        assert isinstance(changed, EventChanged)
        assert changed.terms.admission.condition == "card.tier == 'gold'"
        assert msgspec.structs.replace(changed.terms, name="Evening") == created.terms
        assert made.call_count == 1, "another name is no other condition"


@pytest.mark.parametrize("condition", ["'jazz' in event.tags", "event.tags.exists(tag, tag.startsWith('ja'))"])
def test_a_condition_goes_by_the_events_tags(condition: str) -> None:
    assert judged(condition, tags=("late", "jazz")).reason == ""
    assert judged(condition, tags=("rock",)).reason == "not_eligible"
