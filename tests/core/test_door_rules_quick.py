"""An admission that meets no condition is told so without a moment; what it leads to is the same as with one."""

from __future__ import annotations

from collections.abc import Sequence
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
from actors.door_rules import UNKNOWN_RULES_MOVED
from actors.facts import Fact, PointsPosted, ScanJudged
from actors.ledger import BALANCE_MAX
from actors.profiles import NO_PROFILE, Profile
from actors.rule_facts import RulesApplied
from actors.rulebook import Rulebook
from actors.terms import Lot
from actors.visits import NO_VISITS, Visits, admitted
from rules.environment import VARIABLES
from rules.language import AwardPoints, Limits, Multiply, Notify, RuleDefinition
from tests.core.build import NOW_MS, card, check_in, event, tenant

DAY_MS = 86_400_000
TODAY = local_day(NOW_MS, "Asia/Ho_Chi_Minh")
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


# What makes a rule more than fixed points, and what leaves it so.
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"then": (AwardPoints(7), AwardPoints(8))},
    {"stacking": "stop"},
    {"stacking": "best", "group": "g"},
    {"priority": 5},
    {"limits": Limits(per_card=1)},
    {"limits": Limits(points_budget=3)},
    {"valid_from_ms": NOW_MS + 1},
    {"valid_until_ms": NOW_MS + 1},
    {"then": (AwardPoints(5, expires_after_days=3),)},
    {"then": (AwardPoints(5, pending_days=3),)},
    {"then": (AwardPoints(0, "3 + 4"),)},
    {"then": (AwardPoints(5), Multiply(2_000))},
    {"then": (AwardPoints(5), Notify(text="Welcome"))},
    {"on": "points_earned"},
    {"state": "paused"},
    {"version": 3},
)


def book(*conditions: str, kinds: Sequence[dict[str, Any]] = ()) -> Rulebook:
    found = Rulebook()
    for number, when in enumerate(conditions):
        told: dict[str, Any] = {"version": 1, "name": "R", "on": "checkin", "state": "active"}
        told |= {"then": (AwardPoints(number + 1),)} | (kinds[number] if number < len(kinds) else {})
        found = found.with_rule(RuleDefinition(rule_id=f"rule_{number}", when=when, **told))
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
    organisation.rule_points = {"rule_0": 40}
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
            "lots": st.sampled_from([(), (), (Lot(1, 5, NOW_MS - 1),), (Lot(1, 5, NOW_MS + 1),)]),
            "day": st.sampled_from([0, 20270114, TODAY, 20270116]),
            "day_earned": st.sampled_from([0, 20]),
            "tier_due_ms": st.sampled_from([0, NOW_MS + 1]),
        }
    ),
    st.builds(visits, st.integers(0, 3), st.integers(0, 4)),
    st.lists(st.sampled_from(KINDS), max_size=4),
    st.sampled_from(["true", "card.tier != 'none'", "card.points >= 0"]),
)
def test_the_quick_answer_changes_nothing(
    when: list[str], who: dict[str, Any], seen: Visits, kinds: list[dict[str, Any]], always: str
) -> None:
    rules = book(always, *when, kinds=kinds)
    who["balance"] = max(who["balance"], sum(lot.remaining for lot in who["lots"]))
    quick = outcome(rules, who, seen)
    with patch.object(actors.door_rules, "_moved", lambda *_, **__: UNKNOWN_RULES_MOVED):
        assert quick == outcome(rules, who, seen)


def test_fixed_points_make_no_moment() -> None:
    told = book("true", "card.tier == 'gold'", "card.tier == 'silver'", kinds=[{}, {"then": (AwardPoints(7),) * 2}])
    with patch.object(actors.door_rules, "RuleRun", side_effect=AssertionError("a moment was made")):
        facts = outcome(told, {"tier": "gold"}, NO_VISITS)
    assert [fact.amount for fact in facts if isinstance(fact, PointsPosted)] == [10, 1, 7, 7]
    scan, used = facts[0], facts[-1]
    assert isinstance(scan, ScanJudged)
    assert isinstance(used, RulesApplied)
    assert (scan.points_awarded, scan.points_balance, scan.award_seq) == (25, 25, 1)
    assert [(step.units.rule_id, step.points_after) for step in used.steps] == [("rule_0", 41), ("rule_1", 14)]
    assert scan.rules == tuple(step.units for step in used.steps)


def test_a_balance_at_its_limit_takes_the_award_of_the_organisation_and_not_the_rules() -> None:
    facts = outcome(book("true"), {"balance": BALANCE_MAX - 10}, NO_VISITS)
    assert [fact.amount for fact in facts if isinstance(fact, PointsPosted)] == [10]
    (used,) = [fact for fact in facts if isinstance(fact, RulesApplied)]
    assert [one.reason for one in used.failures] == ["balance_limit_reached"]


def test_rules_go_by_the_events_tags() -> None:
    jazz = book("'jazz' in event.tags")
    plain = outcome(jazz, {}, NO_VISITS, ("rock",))
    assert len(outcome(jazz, {}, NO_VISITS, ("late", "jazz"))) > len(plain) == len(outcome(jazz, {}, NO_VISITS))


def test_no_moment_is_made_where_no_condition_holds() -> None:
    nobody = book("card.tier == 'diamond'", "counts.visits_event > 5", "now.hour > 23", "event.name == 'No such'")
    with patch.object(actors.door_rules, "RuleRun", side_effect=AssertionError("a moment was made")):
        assert len(outcome(nobody, {}, NO_VISITS)) == 2, "the scan, and the organisation's own award"
        with pytest.raises(AssertionError, match="a moment was made"):
            outcome(book("card.tier == 'gold'", kinds=[{"limits": Limits(per_card=1)}]), {"tier": "gold"}, NO_VISITS)


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
