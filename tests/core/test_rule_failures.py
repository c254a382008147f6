"""A rule that fails is told once a day, and the check-in stands."""

from __future__ import annotations

import msgspec

from actors.checkin import decide_check_in
from actors.facts import Fact
from actors.rule_facts import RuleDeleted, RuleFailed, RulesApplied, RuleSaved
from actors.rulebook import Rulebook
from actors.tenant import Tenant
from rules.language import AwardPoints, RuleDefinition
from tests.core.build import NOW_MS, card, check_in, event, tenant

DAY_MS = 86_400_000
BROKEN = RuleDefinition(
    rule_id="rule_1",
    version=1,
    name="VIPs",
    on="checkin",
    when="member.attributes.vip == 'yes'",
    then=(AwardPoints(5),),
    state="active",
)


def organisation() -> Tenant:
    found = tenant(time_zone="Asia/Ho_Chi_Minh")
    found.rulebook = Rulebook((BROKEN,))
    return found


def told(of: Tenant, at_ms: int, position: int) -> list[RulesApplied]:
    """What an admission then tells of rules; the organisation takes it in."""
    facts: list[Fact] = decide_check_in(of, card(), event(), check_in(f"scan {position}"), at_ms)
    found = [fact for fact in facts if isinstance(fact, RulesApplied)]
    for fact in found:
        of.apply(fact, position)
    return found


def test_once_a_day_of_the_organisation() -> None:
    acme = organisation()
    (first,) = told(acme, NOW_MS, 1)
    assert [(one.rule_id, one.version, one.where, one.reason) for one in first.failures] == [
        ("rule_1", 1, "when", "key_missing")
    ]
    assert (first.failed_on, first.steps) == (20270115, ())
    assert acme.rule_failures == {"rule_1": RuleFailed(1, 20270115, NOW_MS, "when", "key_missing")}
    assert told(acme, NOW_MS + 1_000, 2) == []
    (next_day,) = told(acme, NOW_MS + DAY_MS, 3)
    assert next_day.failed_on == 20270116
    assert told(acme, NOW_MS, 4) == [], "a clock that went back tells nothing twice"


def test_another_version_is_told_anew() -> None:
    acme = organisation()
    told(acme, NOW_MS, 1)
    changed = msgspec.structs.replace(BROKEN, version=2)
    acme.apply(RuleSaved("org", "change", b"", NOW_MS, changed), 2)
    (again,) = told(acme, NOW_MS + 1, 3)
    assert again.failures[0].version == 2


def test_a_rule_that_is_deleted_has_not_failed() -> None:
    acme = organisation()
    told(acme, NOW_MS, 1)
    acme.apply(RuleDeleted("org", "gone", b"", NOW_MS, "rule_1", 1), 2)
    assert acme.rule_failures == {}
