"""What doors know beyond being open or shut: zones, sessions, forcing, offline scans, annulments, lists, answers."""

from __future__ import annotations

from itertools import permutations
from random import Random
from typing import Any

import msgspec
import pytest

from actors.calendar import local_day
from actors.checkin import decide_check_in
from actors.commands import CheckIn, CreateEvent
from actors.door_commands import AnnulScan, AnswerQuestions, ChangeAdmissionList, SendOut
from actors.door_facts import AdmissionListChanged, EveryoneLeft, QuestionsAnswered, ScanAnnulled
from actors.doors import decide_annul, decide_answer, decide_change_admission_list, decide_send_out, decide_wake_event
from actors.event import Attendance, Event
from actors.facts import AlarmSet, CommandRefused, Fact, PointsPosted, ScanJudged
from actors.handlers import handle
from actors.offline import decide_offline
from actors.terms import Admission, Gate, Question, Session, Zone
from rules.limits import TAGS_PER_EVENT_MAX, TEXT_CHARS_MAX
from rules.model import Rule
from tests.core.build import NOW_MS, card, check_in, event, scope, signed, tenant

HOUR_MS = 3_600_000
ZONES = (Zone("floor", "Floor", 1), Zone("balcony", "Balcony"))
GATES = (Gate("main", "Main"), Gate("to_floor", "F", True, "floor"), Gate("to_balcony", "B", True, "balcony"))
SESSIONS = (
    Session("one", "One", NOW_MS - 2 * HOUR_MS, NOW_MS - HOUR_MS),
    Session("two", "Two", NOW_MS, NOW_MS + HOUR_MS),
)


class Doors:
    """An event whose scans are decided one after the other."""

    def __init__(self, **terms: Any) -> None:
        self.event: Event = event(**{"capacity": 5, **terms})
        self.facts: list[Fact] = []
        self.cards: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}

    def scan(self, card_id: str = "card", at_ms: int = NOW_MS, **more: Any) -> ScanJudged:
        command: CheckIn = check_in(f"scan{len(self.facts)}", card_id, **more)
        decide = decide_offline if command.is_offline else decide_check_in
        the_card = self.cards.setdefault(card_id, card(card_id))
        self.take(decide(tenant(**self.settings), the_card, self.event, command, at_ms))
        return next(fact for fact in reversed(self.facts) if isinstance(fact, ScanJudged))

    def take(self, facts: list[Fact]) -> None:
        for fact in facts:
            self.facts.append(fact)
            if isinstance(fact, PointsPosted):
                self.cards[fact.card_id].apply(fact, len(self.facts))
            if not isinstance(fact, AlarmSet | CommandRefused):
                self.event.apply(fact, len(self.facts))  # type: ignore[arg-type]


# --- zones ----------------------------------------------------------------------------------------------------------


def test_moving_to_another_zone_leaves_the_first_and_is_no_second_entry() -> None:
    doors = Doors(zones=ZONES, gates=GATES, reentry="none")
    assert doors.scan(gate_id="to_floor").reason == ""
    moved = doors.scan(gate_id="to_balcony")
    assert (moved.reason, moved.inside, moved.admitted, moved.card_entries) == ("", 1, 1, 1)
    assert doors.event.zones == {"floor": 0, "balcony": 1}
    assert doors.scan(gate_id="to_balcony").reason == "already_admitted"
    assert doors.scan(direction="exit").reason == ""
    assert doors.event.zones == {"floor": 0, "balcony": 0}


def test_a_zone_is_full_for_itself_also_for_those_who_are_inside() -> None:
    doors = Doors(zones=ZONES, gates=GATES)
    assert doors.scan("card", gate_id="to_floor").reason == ""
    assert doors.scan("card2", gate_id="to_balcony").reason == ""
    assert doors.scan("card2", gate_id="to_floor").reason == "full"
    assert doors.scan("card3", gate_id="to_floor").reason == "full"
    doors.scan("card", gate_id="to_balcony")
    assert doors.scan("card2", gate_id="to_floor").reason == ""
    assert doors.event.zones == {"floor": 1, "balcony": 1}


# --- sessions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_ms", "reason"),
    [
        (NOW_MS - 2 * HOUR_MS - 1, "event_not_open"),
        (NOW_MS - 2 * HOUR_MS, ""),
        (NOW_MS - HOUR_MS - 1, ""),
        (NOW_MS - HOUR_MS, "event_not_open"),
        (NOW_MS, ""),
        (NOW_MS + HOUR_MS, "event_closed"),
    ],
)
def test_doors_are_open_during_sessions(at_ms: int, reason: str) -> None:
    assert Doors(sessions=SESSIONS).scan(at_ms=at_ms).reason == reason


def test_each_session_is_attended_for_itself() -> None:
    doors = Doors(sessions=SESSIONS, reentry="none", capacity=1)
    assert doors.scan(at_ms=NOW_MS - HOUR_MS - 5).reason == ""
    assert doors.scan(at_ms=NOW_MS - HOUR_MS - 4).reason == "already_admitted"
    again = doors.scan(at_ms=NOW_MS + 5)
    assert (again.reason, again.inside, again.card_entries) == ("", 1, 1)
    left = [fact for fact in doors.facts if isinstance(fact, EveryoneLeft)]
    assert [(fact.count, fact.left_ms, fact.session_id) for fact in left] == [
        (0, SESSIONS[0].doors_open_ms, "one"),
        (1, NOW_MS, "two"),
    ]
    assert doors.scan("card2", at_ms=NOW_MS + 6).reason == "full"


# --- admission, forcing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("admission", "tier", "listed", "reason"),
    [
        (Admission(), "bronze", (), ""),
        (Admission(("gold", "diamond")), "gold", (), ""),
        (Admission(("gold", "diamond")), "bronze", (), "not_eligible"),
        (Admission((), True), "gold", (), "not_eligible"),
        (Admission((), True), "gold", ("card",), ""),
        (Admission(("gold",), True), "bronze", ("card",), "not_eligible"),
    ],
)
def test_who_is_let_in(admission: Admission, tier: str, listed: tuple[str, ...], reason: str) -> None:
    doors = Doors(admission=msgspec.structs.replace(admission, message="Members only"))
    doors.cards["card"] = card(tier=tier)
    doors.event.listed.update(listed)
    fact = doors.scan()
    assert fact.reason == reason
    assert (fact.details.message if fact.details else "") == ("Members only" if reason else "")


@pytest.mark.parametrize(
    ("the_card", "terms", "more", "reason"),
    [
        ({"state": "suspended"}, {}, {}, ""),
        ({"state": "revoked"}, {}, {}, "card_revoked"),
        ({"valid_until_ms": NOW_MS}, {}, {}, ""),
        ({}, {"state": "closed"}, {}, ""),
        ({}, {"state": "cancelled"}, {}, "event_cancelled"),
        ({}, {"doors_open_ms": NOW_MS + 1}, {}, ""),
        ({}, {}, {"gate_id": "gate_shut"}, ""),
        ({}, {}, {"gate_id": "gate_x"}, "gate_unknown"),
        ({}, {}, {"valid_until_ms": NOW_MS}, ""),
        ({}, {"admission": Admission(("diamond",))}, {}, ""),
        ({}, {"attendance": {"card": Attendance(True, 1, 5)}, "inside": 1}, {}, ""),
        ({}, {"inside": 5}, {}, "full"),
        # Whatever is forced, the hall is not overfilled.
        ({"state": "suspended"}, {"inside": 5}, {}, "full"),
        ({}, {}, {"direction": "exit"}, "not_inside"),
    ],
)
def test_what_a_supervisor_overrides(
    the_card: dict[str, Any], terms: dict[str, Any], more: dict[str, Any], reason: str
) -> None:
    doors = Doors(**terms)
    doors.cards["card"] = card(**the_card)
    fact = doors.scan(forced_by="acc_boss", **more)
    assert fact.reason == reason
    assert bool(fact.details and fact.details.forced_by) == (not reason)


def test_a_suspended_card_that_is_forced_in_earns_nothing() -> None:
    doors = Doors()
    doors.settings["rules"] = (Rule("r", 1, "R", "checkin", 10),)
    doors.cards["card"] = card(state="suspended")
    fact = doors.scan(forced_by="acc_boss")
    assert (fact.reason, fact.points_awarded) == ("", 0)


# --- offline --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("the_card", "terms", "conflict"),
    [
        ({}, {}, ""),
        ({"state": "revoked"}, {}, "card_revoked"),
        ({}, {"inside": 5}, "full"),
        ({}, {"state": "closed"}, "event_closed"),
        ({}, {"attendance": {"card": Attendance(True, 1, 5, seen_ms=5)}, "inside": 1}, "already_admitted"),
    ],
)
def test_whom_an_offline_scanner_let_in_is_inside(the_card: Any, terms: Any, conflict: str) -> None:
    doors = Doors(**terms)
    doors.cards["card"] = card(**the_card)
    fact = doors.scan(is_offline=True, scanned_at_ms=NOW_MS - 1_000)
    assert (fact.reason, fact.card_inside, fact.scanned_at_ms) == ("", True, NOW_MS - 1_000)
    assert fact.details is not None
    assert (fact.details.is_offline, fact.details.conflict) == (True, conflict)


def test_whom_an_offline_scanner_refused_stays_refused() -> None:
    fact = Doors().scan(is_offline=True, offline_reason="card_suspended")
    assert (fact.reason, fact.refused, fact.inside) == ("card_suspended", 1, 0)


def test_an_unknown_card_is_recorded_and_counted_nowhere() -> None:
    doors = Doors()
    doors.cards["ghost"] = None
    fact = doors.scan("ghost", is_offline=True)
    assert (fact.reason, fact.inside, fact.admitted, fact.member_id) == ("", 0, 0, "")
    assert fact.details is not None
    assert fact.details.conflict == "credential_invalid"
    assert doors.event.attendance == {}


def test_a_time_to_come_is_the_time_of_arrival() -> None:
    assert Doors().scan(is_offline=True, scanned_at_ms=NOW_MS + 9).scanned_at_ms == NOW_MS


def end_of(doors: Doors) -> Any:
    state = doors.event
    attendance = {name: (a.is_inside, a.entries, a.admitted_at_ms, a.zone_id) for name, a in state.attendance.items()}
    points = {name: one.balance for name, one in doors.cards.items()}
    return state.inside, state.admitted, {k: v for k, v in state.zones.items() if v}, attendance, points


def test_the_order_of_uploads_makes_no_difference() -> None:
    """Every order of six scans of two cards: in, out and in again, at two gates, over a change of zone."""
    scans = [
        ("card", "entry", "to_balcony", 10),
        ("card2", "entry", "main", 20),
        ("card", "entry", "main", 30),
        ("card", "exit", "main", 40),
        ("card2", "exit", "main", 50),
        ("card", "entry", "to_floor", 60),
    ]
    ends = []
    for order in permutations(scans):
        doors = Doors(zones=ZONES, gates=GATES)
        doors.settings["rules"] = (Rule("r", 1, "R", "checkin", 10), Rule("e", 1, "E", "checkin", 1, False))
        for card_id, direction, gate_id, second in order:
            at_ms = NOW_MS - HOUR_MS + second * 1_000
            doors.scan(card_id, direction=direction, gate_id=gate_id, is_offline=True, scanned_at_ms=at_ms)
        ends.append(end_of(doors))
    assert all(end == ends[0] for end in ends)
    assert ends[0][:3] == (1, 4, {"floor": 1})


def test_two_days_of_twenty_devices_shuffled_and_repeated() -> None:
    """Overlapping cards, sessions by day; what comes twice is the same request and is not decided again."""
    random = Random(7)
    day_ms = 24 * HOUR_MS
    sessions = tuple(
        Session(f"day{n}", f"Day {n}", NOW_MS - (3 - n) * day_ms, NOW_MS - (3 - n) * day_ms + 10 * HOUR_MS)
        for n in (1, 2)
    )
    scans = []
    for number in range(600):
        session = random.choice(sessions)
        at_ms = random.randrange(session.doors_open_ms, session.doors_close_ms)
        direction = random.choice(("entry", "entry", "exit"))
        scans.append((f"card{random.randrange(80)}", direction, at_ms + number % 7, f"dev{number % 20}"))

    def end(order: list[Any]) -> Any:
        doors = Doors(sessions=sessions, capacity=1_000)
        doors.settings["rules"] = (Rule("r", 1, "R", "checkin", 10),)
        for card_id, direction, at_ms, device_id in order:
            doors.scan(card_id, direction=direction, device_id=device_id, is_offline=True, scanned_at_ms=at_ms)
        return end_of(doors)

    in_order = end(sorted(scans, key=lambda scan: scan[2]))
    for _ in range(5):
        random.shuffle(scans)
        assert end(scans) == in_order
    assert in_order[0] > 0


def test_a_late_scan_of_a_session_that_is_over_calls_nobody_back() -> None:
    doors = Doors(sessions=SESSIONS)
    doors.scan("card", at_ms=NOW_MS + 5)
    late = doors.scan("card2", is_offline=True, scanned_at_ms=NOW_MS - HOUR_MS - 9)
    assert (late.reason, late.card_inside, late.inside, late.admitted) == ("", False, 1, 2)
    assert (doors.event.session_id, doors.event.inside) == ("two", 1)


# --- annulments -----------------------------------------------------------------------------------------------------


def annulled(doors: Doors, scan: ScanJudged, at_ms: int = NOW_MS + 1, **fields: Any) -> list[Fact]:
    command = signed(AnnulScan("org", "annul", b"", "event", scan.request_id, **fields))
    at = scope(tenant(**doors.settings), doors.event, *(one for one in doors.cards.values() if one))
    at._memory.requests.remember(("org", scan.request_id), scan, 1)  # type: ignore[attr-defined]
    for number, fact in enumerate(doors.facts):
        if isinstance(fact, PointsPosted):
            at._memory.recent.take(fact, number)
    return decide_annul(at, command, at_ms)


def test_an_annulment_undoes_attendance_and_points() -> None:
    doors = Doors(reentry="none")
    doors.settings["rules"] = (Rule("r", 1, "R", "checkin", 10), Rule("e", 1, "E", "checkin", 3, False))
    scan = doors.scan()
    doors.take(annulled(doors, scan, device_id="dev"))
    kinds = [type(fact).__name__ for fact in doors.facts]
    assert kinds == ["ScanJudged", "PointsPosted", "PointsPosted", "ScanAnnulled", "PointsPosted", "PointsPosted"]
    assert (doors.event.inside, doors.event.admitted, doors.cards["card"].balance) == (0, 0, 0)
    assert doors.event.attendance["card"].earned == 0
    assert doors.scan().reason == "", "as if it had never been"


@pytest.mark.parametrize(
    ("scan", "then", "later_ms", "device_id", "reason"),
    [
        ({}, None, 1, "dev", ""),
        ({}, None, 1, "", ""),
        ({}, None, 15 * 60_000, "dev", ""),
        ({}, None, 15 * 60_000 + 1, "dev", "annul_too_late"),
        ({}, None, 1, "dev2", "scan_of_other_device"),
        ({"gate_id": "gate_shut"}, None, 1, "dev", "scan_not_admitted"),
        ({"direction": "exit"}, None, 1, "dev", "scan_not_admitted"),
        ({}, {"direction": "exit"}, 1, "dev", "scan_superseded"),
    ],
)
def test_what_can_be_annulled(scan: Any, then: Any, later_ms: int, device_id: str, reason: str) -> None:
    doors = Doors(strict_exit=False)
    first = doors.scan(**scan)
    if then is not None:
        doors.scan(at_ms=NOW_MS + 1, **then)
    fact = annulled(doors, first, NOW_MS + later_ms, device_id=device_id)[0]
    assert (fact.reason if isinstance(fact, CommandRefused) else "") == reason


def test_an_admission_is_annulled_once() -> None:
    doors = Doors()
    scan = doors.scan()
    doors.take(annulled(doors, scan))
    (again,) = annulled(doors, scan)
    assert isinstance(again, CommandRefused)
    assert again.reason == "scan_superseded"


def test_an_annulled_move_brings_the_person_back() -> None:
    doors = Doors(zones=ZONES, gates=GATES)
    doors.scan(gate_id="to_floor")
    moved = doors.scan(at_ms=NOW_MS + 1, gate_id="to_balcony")
    (fact,) = annulled(doors, moved, NOW_MS + 2)
    assert isinstance(fact, ScanAnnulled)
    doors.take([fact])
    assert (doors.event.inside, doors.event.zones) == (1, {"floor": 1, "balcony": 0})
    assert doors.event.attendance["card"].entries == 1


# --- the rest -------------------------------------------------------------------------------------------------------


def test_everybody_leaves() -> None:
    doors = Doors(zones=ZONES, gates=GATES)
    doors.scan("card", gate_id="to_floor")
    doors.scan("card2")
    (fact,) = decide_send_out(scope(tenant(), doors.event), signed(SendOut("org", "out", b"", "event")), NOW_MS + 9)
    doors.take([fact])
    assert isinstance(fact, EveryoneLeft)
    assert (fact.count, doors.event.inside, doors.event.zones) == (2, 0, {"floor": 0})
    assert doors.scan("card", at_ms=NOW_MS + 10).reason == ""


@pytest.mark.parametrize(
    ("time_zone", "minute", "is_dst_gap"),
    [
        ("Asia/Ho_Chi_Minh", 240, False),
        ("UTC", 0, False),
        ("Pacific/Kiritimati", 1439, False),
        ("Etc/GMT+12", 5, False),
    ],
)
def test_everybody_leaves_at_a_local_time(time_zone: str, minute: int, is_dst_gap: bool) -> None:
    terms = event(exit_all_minute=minute, time_zone=time_zone).terms
    created = handle(scope(tenant()), signed(CreateEvent("org", "c", b"", "event", terms)), NOW_MS)
    alarm = created[1]
    assert isinstance(alarm, AlarmSet)
    assert 0 < alarm.wake_ms - NOW_MS <= 24 * HOUR_MS
    at_midnight = alarm.wake_ms - minute * 60_000
    assert local_day(at_midnight, time_zone) == local_day(alarm.wake_ms, time_zone)
    assert local_day(at_midnight - 1, time_zone) < local_day(at_midnight, time_zone)
    full = event(exit_all_minute=minute, time_zone=time_zone, inside=1)
    rang, left = decide_wake_event(scope(tenant(), full), full, alarm.wake_ms)
    assert isinstance(rang, AlarmSet)
    assert isinstance(left, EveryoneLeft)
    assert (rang.wake_ms, rang.rang) == (alarm.wake_ms + 24 * HOUR_MS, True)


def test_the_list_takes_cards_in_and_out() -> None:
    state = event()
    at = scope(tenant(), state, card("a"), card("b"))
    at.actors["event"] = state
    command = signed(ChangeAdmissionList("org", "list", b"", "event", ("a", "b"), ("b", "c")))
    (fact,) = decide_change_admission_list(at, command, NOW_MS)
    assert isinstance(fact, AdmissionListChanged)
    assert (fact.added, fact.removed, fact.size) == (("a",), (), 1)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ((("q1", "anything"),), ""),
        ((("q1", ""), ("q2", "yes")), ""),
        ((("q2", "maybe"),), "answer_invalid"),
        ((("q3", "x"),), "question_unknown"),
    ],
)
def test_answers(answers: tuple[tuple[str, str], ...], reason: str) -> None:
    doors = Doors(questions=(Question("q1", "Allergies?"), Question("q2", "Vegan?", ("yes", "no"))))
    scan = doors.scan()
    assert scan.details is not None
    assert scan.details.questions == ("q1", "q2")
    command = signed(AnswerQuestions("org", "answer", b"", "event", "card", answers))
    (fact,) = decide_answer(scope(tenant(), doors.event, card()), command, NOW_MS)
    assert (fact.reason if isinstance(fact, CommandRefused) else "") == reason
    if isinstance(fact, QuestionsAnswered):
        doors.take([fact])
        doors.scan(direction="exit", at_ms=NOW_MS + 1)
        again = doors.scan(at_ms=NOW_MS + 2)
        left = tuple(q for q in ("q1", "q2") if q not in dict(answers))
        assert (again.details.questions if again.details else ()) == left


def test_staff_are_told_about_a_card_whatever_the_verdict() -> None:
    doors = Doors(inside=5)
    doors.cards["card"] = card(attention="Greet by name")
    fact = doors.scan()
    assert fact.details is not None
    assert (fact.reason, fact.details.attention) == ("full", "Greet by name")


@pytest.mark.parametrize(
    "terms",
    [
        {"zones": (Zone("a", "A"), Zone("a", "B"))},
        {"gates": (Gate("g", "G", True, "nowhere"),)},
        {"sessions": (Session("s", "S", 5, 5),)},
        {"sessions": (Session("s", "S", 1, 9), Session("t", "T", 8, 10))},
        {"sessions": (Session("s", "S", 1, 2), Session("s", "T", 8, 10))},
        {"exit_all_minute": 1440},
        {"questions": (Question("q", "A"), Question("q", "B"))},
        {"tags": ("jazz", "jazz")},
        {"tags": ("",)},
        {"tags": ("x" * (TEXT_CHARS_MAX + 1),)},
        {"tags": tuple(str(number) for number in range(TAGS_PER_EVENT_MAX + 1))},
    ],
)
def test_terms_that_do_not_fit_together(terms: dict[str, Any]) -> None:
    command = signed(CreateEvent("org", "create", b"", "event", event(**terms).terms))
    (fact,) = handle(scope(tenant()), command, NOW_MS)
    assert isinstance(fact, CommandRefused)
    assert fact.reason == "terms_invalid"
