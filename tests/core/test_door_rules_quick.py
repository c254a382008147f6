"""An admission that meets no condition is told so without a moment; what it leads to is the same as with one."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import actors.door_rules
from actors.admin import checkin_rule
from actors.calendar import local_day
from actors.checkin import decide_check_in
from actors.door_condition import DOOR_PATHS
from actors.facts import Fact, PointsPosted
from actors.profiles import NO_PROFILE, Profile
from actors.rulebook import Rulebook
from actors.visits import NO_VISITS, Visits, admitted
from rules.environment import VARIABLES
from rules.language import AwardPoints, RuleDefinition
from tests.core.build import NOW_MS, card, check_in, event, tenant

DAY_MS = 86_400_000
# As in the entries below; so equality is met about as often as not.
VALUES: dict[str, tuple[Any, ...]] = {
    "card.id": ("card", "card_2"),
    "card.tier": ("gold", "silver"),
    "card.points": (0, 50),
    "card.earned": (0, 70),
    "card.wallet": (0, 900),
    "card.issued_days": (0, 3),
    "member.id": ("mem_1", "mem"),
    "member.birthday": (521, 0),
    "member.birth_year": (1990, 0),
    "event.id": ("evt", "evt_2"),
    "event.name": ("Gala", "Ball"),
    "scan.gate": ("gate", "gate_2"),
    "scan.direction": ("entry", "exit"),
    "scan.device": ("dev", ""),
    "counts.visits_today": (1, 2),
    "counts.visits_week": (1, 3),
    "counts.visits_event": (1, 2),
    "counts.visits_ever": (1, 9),
    "counts.streak_days": (1, 4),
    "now.year": (2027, 2026),
    "now.weekday": (5, 6),
    "now.hour": (8, 15),
    "now.unix_ms": (NOW_MS, 0),
}


def book(*conditions: str) -> Rulebook:
    found = Rulebook()
    for number, when in enumerate(conditions):
        told = {"rule_id": f"rule_{number}", "version": 1, "name": "R", "on": "checkin", "state": "active"}
        found = found.with_rule(RuleDefinition(**told, when=when, then=(AwardPoints(number + 1),)))
    return found


def visits(days_ago: int, count: int) -> Visits:
    made = NO_VISITS
    for number in range(count):
        day = local_day(NOW_MS - (days_ago + count - number) * DAY_MS, "Asia/Ho_Chi_Minh")
        made = admitted(made, day, f"evt_{number}")[0] or made
    return made


def names() -> list[str]:
    """Of the variables that an admission has, those that are plain."""
    return [
        f"{variable}.{name}"
        for variable, fields in VARIABLES.items()
        for name, field in fields.items()
        if "checkin" in field.triggers and field.type in ("int", "string")
    ]


@st.composite
def conditions(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from([one for one in names() if one in VALUES]))
    value = draw(st.sampled_from(VALUES[name]))
    text = f"'{value}'" if isinstance(value, str) else str(value)
    if isinstance(value, str) and draw(st.booleans()):
        return f"{name}.startsWith('{value[0]}') && {name} in ['{value}', 'x']"
    sign = draw(st.sampled_from(["==", "!="] if isinstance(value, str) else ["==", "<", ">="]))
    return f"{name} {sign} {text}"


def outcome(
    rules: Rulebook, who: dict[str, Any], seen: Visits, tags: tuple[str, ...] = (), **command: Any
) -> list[Fact]:
    organisation = tenant(time_zone="Asia/Ho_Chi_Minh", rules=(checkin_rule(10),))
    organisation.rulebook = rules
    return decide_check_in(organisation, card(visits=seen, **who), event(tags=tags), check_in(**command), NOW_MS)


@given(
    st.lists(conditions(), min_size=1, max_size=4),
    st.fixed_dictionaries(
        {
            "tier": st.sampled_from(["gold", "silver"]),
            "balance": st.sampled_from([0, 50]),
            "earned": st.sampled_from([0, 70]),
            "wallet": st.sampled_from([0, 900]),
            "issued_at_ms": st.sampled_from([0, NOW_MS - 3 * DAY_MS]),
            "profile": st.sampled_from([NO_PROFILE, Profile(521, 1990)]),
        }
    ),
    st.builds(visits, st.integers(0, 3), st.integers(0, 4)),
)
def test_the_quick_answer_changes_nothing(when: list[str], who: dict[str, Any], seen: Visits) -> None:
    rules = book(*when)
    quick = outcome(rules, who, seen)
    with patch.object(actors.door_rules, "_may_move", lambda *_, **__: True):
        assert quick == outcome(rules, who, seen)


def test_rules_go_by_the_events_tags() -> None:
    jazz = book("'jazz' in event.tags")
    plain = outcome(jazz, {}, NO_VISITS, ("rock",))
    assert len(outcome(jazz, {}, NO_VISITS, ("late", "jazz"))) > len(plain) == len(outcome(jazz, {}, NO_VISITS))


def test_no_moment_is_made_where_no_condition_holds() -> None:
    nobody = book("card.tier == 'diamond'", "counts.visits_event > 5", "now.hour > 23", "event.name == 'No such'")
    with patch.object(actors.door_rules, "RuleRun", side_effect=AssertionError("a moment was made")):
        assert len(outcome(nobody, {}, NO_VISITS)) == 2, "the scan, and the organisation's own award"
        with pytest.raises(AssertionError, match="a moment was made"):
            outcome(book("card.tier == 'gold'"), {"tier": "gold"}, NO_VISITS)


def test_rules_that_are_for_something_else_are_not_moved_by_an_entry_that_earns_nothing() -> None:
    only = Rulebook().with_rule(msgspec.structs.replace(book("true").rules[0], on="points_earned"))
    organisation = tenant()
    organisation.rulebook = only
    assert len(decide_check_in(organisation, card(), event(), check_in(), NOW_MS)) == 1


def test_what_cannot_be_told_quickly_is_asked_in_full() -> None:
    for condition in ("member.attributes.vip == 'yes'", "'vip' in event.tags", "member.attributes.age == 3"):
        facts = outcome(book(condition, "true"), {}, NO_VISITS)
        assert [fact.amount for fact in facts if isinstance(fact, PointsPosted)][-1] == 2, condition


def test_every_plain_field_of_an_admission_can_be_told_quickly() -> None:
    fields = {".".join(VARIABLES[name.partition(".")[0]][name.partition(".")[2]].path) for name in names()}
    assert fields <= set(DOOR_PATHS)
