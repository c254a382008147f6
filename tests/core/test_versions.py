"""Changes under a condition: made only if what they change is as it was seen, decided by the actor itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.admin import decide_change_event, decide_change_tenant
from actors.codec import decode_messages, encode_messages
from actors.commands import ChangeEvent, ChangeTenant, fingerprint
from actors.facts import CommandRefused, EventChanged, TenantChanged
from actors.replies import Done
from actors.terms import Admission, EventTerms, Gate, Question, Session, TenantSettings, Zone
from actors.versions import event_version, gate_version, tenant_version
from rules.model import Rule
from tests.core.build import GATES, NOW_MS, check_in, event, scope, signed, tenant
from tests.core.drive import driven

SHUT = Gate("gate_a", "A", False)
TERMS = event().terms
NOW, THEN = event_version(TERMS), event_version(msgspec.structs.replace(TERMS, capacity=9))


def change_event(if_version: tuple[str, ...] | None, request_id: str = "change", **fields: Any) -> ChangeEvent:
    return signed(ChangeEvent("org", request_id, b"", "event", **fields, if_version=if_version))


def change_tenant(if_version: tuple[str, ...] | None, request_id: str = "change", **fields: Any) -> ChangeTenant:
    return signed(ChangeTenant("org", request_id, b"", **fields, if_version=if_version))


@pytest.mark.parametrize(
    ("if_version", "changes", "is_made"),
    [
        (None, {"name": "Late"}, True),
        ((NOW,), {"name": "Late"}, True),
        ((THEN, NOW), {"name": "Late"}, True),
        ((THEN,), {"name": "Late"}, False),
        ((), {"name": "Late"}, False),
        (("",), {"name": "Late"}, False),
        # The condition comes before what is wrong with the change itself.
        ((THEN,), {"capacity": 0}, False),
        # With a gate it is about that gate, whatever the rest of the event does.
        ((gate_version(GATES[0]),), {"gate": SHUT}, True),
        ((gate_version(SHUT),), {"gate": SHUT}, False),
        ((gate_version(GATES[1]),), {"gate": SHUT}, False),
        ((NOW,), {"gate": SHUT}, False),
        ((NOW,), {"gate": Gate("gate_new", "C")}, False),
    ],
)
def test_an_event_changes_if_it_is_as_it_was_seen(
    if_version: tuple[str, ...] | None, changes: dict[str, Any], is_made: bool
) -> None:
    (fact,) = decide_change_event(scope(event()), change_event(if_version, **changes), NOW_MS)
    if is_made:
        assert isinstance(fact, EventChanged)
    else:
        assert isinstance(fact, CommandRefused)
        assert (fact.reason, fact.command, fact.entity_id) == ("precondition_failed", "ChangeEvent", "event")


@pytest.mark.parametrize("field", ["name", "overdraft_max", "checkin_points", "time_zone"])
def test_a_tenant_changes_if_it_is_as_it_was_seen(field: str) -> None:
    seen = tenant()
    version = tenant_version(seen.name, seen.settings)
    change = {field: "Asia/Tokyo" if field == "time_zone" else "Else" if field == "name" else 7}
    (first,) = decide_change_tenant(scope(seen), change_tenant((version,), **change), NOW_MS)
    assert isinstance(first, TenantChanged)
    seen.apply(first, 1)
    (second,) = decide_change_tenant(scope(seen), change_tenant((version,), **change), NOW_MS)
    assert isinstance(second, CommandRefused), "the version that the first change was for is gone"
    assert (second.reason, second.entity_id) == ("precondition_failed", "org")
    now = tenant_version(seen.name, seen.settings)
    assert isinstance(decide_change_tenant(scope(seen), change_tenant((now,), **change), NOW_MS)[0], TenantChanged)


def test_scans_and_cards_do_not_change_a_version() -> None:
    busy = event(inside=1)
    assert event_version(busy.terms) == NOW
    one, other = tenant(), tenant()
    other.cards = 5
    assert tenant_version(one.name, one.settings) == tenant_version(other.name, other.settings)


def test_every_field_of_what_is_changed_makes_another_version() -> None:
    terms = [
        TERMS,
        *(
            msgspec.structs.replace(TERMS, **{name: value})
            for name, value in {
                "name": "x", "capacity": 3, "time_zone": "Asia/Tokyo", "doors_open_ms": 1, "doors_close_ms": 2,
                "reentry": "none", "strict_exit": False, "state": "closed", "gates": (SHUT,),
                "zones": (Zone("zone_1", "Floor"),), "sessions": (Session("ses_1", "Show", 1, 2),),
                "admission": Admission(list_only=True), "exit_all_minute": 0, "questions": (Question("q", "Why?"),),
                "tags": ("jazz",),
            }.items()
        ),
    ]  # fmt: skip
    assert len({event_version(each) for each in terms}) == len(EventTerms.__struct_fields__) + 1
    rule = Rule("rule_checkin", 1, "Points per check-in", "checkin", 10)
    settings = [TenantSettings(), TenantSettings("Asia/Tokyo"), TenantSettings(overdraft_max=1)]
    settings += [TenantSettings(rules=(rule,)), TenantSettings(plan="free")]
    assert len({tenant_version("Org", each) for each in settings} | {tenant_version("x", TenantSettings())}) == 6


def test_of_changes_for_the_same_version_one_is_made_and_each_keeps_its_answer() -> None:
    """All in one turn, decided on top of each other before anything is durable; then once more, as retries."""
    drive = driven()
    changes = [change_event((NOW,), f"c{n}", name=f"Evening {n}") for n in range(5)]
    drive.send(*((n, change) for n, change in enumerate(changes)), (9, check_in("scan")))
    while drive.appends:
        drive.appended()
    answers = [drive.replies[n][-1] for n in range(5)]
    made = [isinstance(answer, Done) and isinstance(answer.fact, EventChanged) for answer in answers]
    assert made == [True, False, False, False, False]
    drive.send(*((10 + n, change) for n, change in enumerate(changes)))
    while drive.appends:
        drive.appended()
    for n, answer in enumerate(answers):
        again = drive.replies[10 + n][-1]
        assert isinstance(again, Done)
        assert isinstance(answer, Done)
        assert (again.fact, again.replayed) == (answer.fact, True), "not another refusal, not another change"


def test_commands_from_before_there_were_conditions_are_read_and_asked_as_ever() -> None:
    """Encodings and fingerprints as the release without conditions wrote them."""
    event_bytes = bytes.fromhex("919e06a36f7267a26964c400a3657674c0c0c0c0c0c0c0c0c0")
    (old,) = decode_messages(event_bytes)
    assert old == ChangeEvent("org", "id", b"", "evt")
    tenant_bytes = bytes.fromhex("919802a36f7267a26964c400a3546162c0c0c0")
    (old_tenant,) = decode_messages(tenant_bytes)
    assert old_tenant == ChangeTenant("org", "id", b"", "Tab")
    for command in (old, old_tenant, change_event((NOW,)), change_event(()), change_tenant(("a", "b"))):
        assert decode_messages(encode_messages([command])) == [command]
    assert fingerprint(ChangeEvent("org", "id", b"", "evt", "Late", 5)).hex() == "ec65a2634861042c"
    assert fingerprint(ChangeTenant("org", "id", b"", "Table", None, 5)).hex() == "22e600acc161df2f"


def test_the_condition_belongs_to_what_is_asked() -> None:
    """The same id with another condition is another request."""
    prints = {fingerprint(change_event(condition, name="Late")) for condition in (None, (), (NOW,), (THEN,))}
    assert len(prints) == 4
