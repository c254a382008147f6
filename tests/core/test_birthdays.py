"""Birthdays: on which day and at which moment they come, for whom, once a year; and what rules know of members."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from actors.card import Card
from actors.commands import IssueCard, fingerprint
from actors.facts import AlarmSet, CardIssued, CommandRefused, Fact, PointsPosted
from actors.handlers import HANDLERS
from actors.kinds import ROUTES
from actors.member_commands import DescribeCardHolder
from actors.member_facts import BirthdayCame
from actors.points import decide_wake_card
from actors.profiles import ATTRIBUTES_BYTES_MAX, Profile, fault_of_profile, next_birthday
from actors.rule_admin import fault_of
from actors.rule_facts import RulesApplied
from actors.rulebook import Rulebook
from actors.tenant import Tenant
from actors.terms import EarnedDay, TierLevel, TierTerms
from rules.document import parse_rule
from rules.language import AwardPoints, Limits, RuleDefinition, SetTier
from tests.core.build import card as new_card
from tests.core.build import scope
from tests.core.build import tenant as new_tenant

SAIGON = "Asia/Ho_Chi_Minh"
HEAD = ("org", "id", b"")
DAY_MS = 86_400_000


def at(zone: str, *local: int) -> int:
    return int(datetime(*local, tzinfo=ZoneInfo(zone)).astimezone(UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


MAY = at(SAIGON, 2026, 5, 27, 12)


class Life:
    """A card, and what commands and time make of it."""

    def __init__(self, tenant: Tenant | None = None, **card: Any) -> None:
        self.tenant = tenant or with_rules(AwardPoints(10))
        self.card: Card = new_card(**card)
        self.facts: list[Fact] = []
        self._position = 0

    def describe(self, birthday: int, at_ms: int, attributes: str = "", **more: Any) -> list[Fact]:
        command = DescribeCardHolder(*HEAD, "card", Profile(birthday, attributes=attributes, **more))
        return self._take(HANDLERS[DescribeCardHolder].decide(scope(self.tenant, self.card), command, at_ms))

    def wake(self, at_ms: int) -> list[Fact]:
        return self._take(decide_wake_card(scope(self.tenant, self.card), self.card, at_ms))

    def move(self, time_zone: str) -> None:
        self.tenant.settings = msgspec.structs.replace(self.tenant.settings, time_zone=time_zone)

    def _take(self, facts: list[Fact]) -> list[Fact]:
        for fact in facts:
            self._position += 1
            for kind in ROUTES[type(fact)].touches if type(fact) in ROUTES else ():
                getattr(self, kind).apply(fact, self._position) if kind in ("card", "tenant") else None
        self.facts += facts
        return facts

    @property
    def coming(self) -> tuple[int, int]:
        return self.card.birthday_on, self.card.birthday_due_ms


def with_rules(*actions: Any, zone: str = SAIGON, when: str = "true", **settings: Any) -> Tenant:
    tenant = new_tenant(time_zone=zone, **settings)
    for number, action in enumerate(actions):
        told = {"rule_id": f"rule_{number}", "version": 1, "name": "R", "on": "birthday", "when": when}
        tenant.rulebook = tenant.rulebook.with_rule(RuleDefinition(**told, state="active", then=(action,)))
    return tenant


def kinds(facts: list[Fact]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


def points(facts: list[Fact]) -> list[int]:
    return [fact.amount for fact in facts if isinstance(fact, PointsPosted)]


# --- which day, which moment ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("birthday", "zone", "after", "came_in", "on", "hour"),
    [
        (601, SAIGON, (2026, 5, 27, 12), 0, 20260601, 0),
        (527, SAIGON, (2026, 5, 26, 23, 59, 59), 0, 20260527, 0),
        # The day has begun: it comes the next year.
        (527, SAIGON, (2026, 5, 27), 0, 20270527, 0),
        (527, SAIGON, (2026, 5, 27, 0, 0, 1), 0, 20270527, 0),
        (101, SAIGON, (2026, 12, 31, 23, 59, 59), 0, 20270101, 0),
        (1231, SAIGON, (2026, 12, 31, 0, 0, 1), 0, 20271231, 0),
        # 29 February is 28 February in a common year.
        (229, SAIGON, (2026, 1, 1), 0, 20260228, 0),
        (229, SAIGON, (2026, 2, 28, 0, 0, 1), 2026, 20270228, 0),
        (229, SAIGON, (2027, 3, 1), 2027, 20280229, 0),
        (229, SAIGON, (2028, 2, 28, 12), 2027, 20280229, 0),
        (229, SAIGON, (2099, 12, 31), 0, 21000228, 0),
        (228, SAIGON, (2028, 1, 1), 0, 20280228, 0),
        # Once a year, though the day of this year is to come.
        (1001, SAIGON, (2026, 5, 27), 2026, 20271001, 0),
        (1001, SAIGON, (2026, 5, 27), 2025, 20261001, 0),
        # +14 and -12: the same day begins 26 hours apart.
        (601, "Pacific/Kiritimati", (2026, 5, 31, 23, 59), 0, 20260601, 0),
        (601, "Etc/GMT+12", (2026, 5, 31, 23, 59), 0, 20260601, 0),
        # Midnights that clocks leave out: the day begins at 1:00.
        (906, "America/Santiago", (2026, 9, 5, 12), 0, 20260906, 1),
        (424, "Africa/Cairo", (2026, 4, 23, 12), 0, 20260424, 1),
        # Midnights that come twice: the first.
        (1101, "America/Havana", (2026, 10, 31, 12), 0, 20261101, 0),
        (329, "Europe/Berlin", (2026, 3, 28, 12), 0, 20260329, 0),
    ],
)
def test_the_next_birthday(birthday: int, zone: str, after: Any, came_in: int, on: int, hour: int) -> None:
    found_on, due_ms = next_birthday(birthday, zone, at(zone, *after), came_in)
    assert found_on == on
    assert due_ms == at(zone, on // 10_000, on // 100 % 100, on % 100, hour)


def test_the_far_ends_of_the_world_are_26_hours_apart() -> None:
    east, west = (next_birthday(601, zone, MAY, 0)[1] for zone in ("Pacific/Kiritimati", "Etc/GMT+12"))
    assert west - east == 26 * 3_600_000


def test_nobody_has_a_birthday_that_is_not_known() -> None:
    assert next_birthday(0, SAIGON, MAY, 0) == (0, 0)


@pytest.mark.parametrize(
    ("profile", "fault"),
    [
        (Profile(), ""),
        (Profile(229), ""),
        (Profile(1231, 1990, '{"a":[1,null,{"b":"c"}]}'), ""),
        (Profile(230), "no day"),
        (Profile(1301), "no day"),
        (Profile(100), "no day"),
        (Profile(31), "no day"),
        (Profile(-1), "no day"),
        (Profile(0, 1990), "year of birth"),
        (Profile(101, 10_000), "year of birth"),
        (Profile(attributes="[]"), "JSON object"),
        (Profile(attributes="{"), "JSON object"),
        (Profile(attributes='{"a":"' + "x" * (ATTRIBUTES_BYTES_MAX - 8) + '"}'), ""),
        (Profile(attributes='{"a":"' + "x" * (ATTRIBUTES_BYTES_MAX - 7) + '"}'), "bytes"),
    ],
)
def test_what_can_be_told_of_somebody(profile: Profile, fault: str) -> None:
    found = fault_of_profile(profile)
    assert (fault in found) if fault else not found


# --- what is told -----------------------------------------------------------------------------------------------------


def test_what_is_told_of_a_holder_stands_on_the_card_and_sets_its_alarm() -> None:
    life = Life()
    facts = life.describe(601, MAY, '{"vip":"yes"}', birth_year=1990)
    due_ms = at(SAIGON, 2026, 6, 1)
    assert kinds(facts) == ["CardHolderDescribed", "AlarmSet"]
    assert isinstance(facts[1], AlarmSet)
    assert facts[1].wake_ms == due_ms
    assert life.card.profile == Profile(601, 1990, '{"vip":"yes"}')
    assert life.coming == (20260601, due_ms)


def test_what_cannot_be_is_refused() -> None:
    life = Life()
    (refused,) = life.describe(231, MAY)
    assert isinstance(refused, CommandRefused)
    assert (refused.reason, refused.command) == ("terms_invalid", "DescribeCardHolder")
    assert life.card.profile == Profile()


def test_attributes_that_change_leave_the_birthday_and_the_alarm() -> None:
    life = Life()
    life.describe(601, MAY)
    assert kinds(life.describe(601, MAY + 1, '{"vip":"no"}')) == ["CardHolderDescribed"]
    assert life.coming[0] == 20260601


def test_who_is_forgotten_has_no_birthday_and_no_attributes() -> None:
    life = Life()
    life.describe(601, MAY, '{"vip":"yes"}')
    facts = life.describe(0, MAY + 1)
    assert isinstance(facts[-1], AlarmSet)
    assert facts[-1].wake_ms == 0
    assert (life.card.profile, life.coming) == (Profile(), (0, 0))


def test_a_revoked_card_is_told_and_has_no_birthday() -> None:
    life = Life(state="revoked")
    assert kinds(life.describe(601, MAY, "{}")) == ["CardHolderDescribed"]
    assert life.card.profile.birthday == 601
    assert life.coming == (0, 0)


def test_a_card_is_issued_with_what_is_known() -> None:
    tenant = new_tenant(time_zone=SAIGON)
    rule = {"rule_id": "r", "version": 1, "name": "R", "on": "card_issued", "when": "member.attributes.vip == 'yes'"}
    tenant.rulebook = Rulebook().with_rule(RuleDefinition(**rule, state="active", then=(AwardPoints(5),)))
    command = IssueCard(*HEAD, "card", "mem", "Ann", "gold", profile=Profile(601, 1990, '{"vip":"yes"}'))
    facts = HANDLERS[IssueCard].decide(scope(tenant), command, MAY)
    assert kinds(facts) == ["CardIssued", "AlarmSet", "PointsPosted", "RulesApplied"]
    issued, alarm = facts[:2]
    assert isinstance(issued, CardIssued)
    assert isinstance(alarm, AlarmSet)
    card = Card.issued(issued, 1)
    assert (card.profile.birthday, card.birthday_on, card.birthday_due_ms) == (601, 20260601, alarm.wake_ms)
    assert points(facts) == [5]


def test_what_is_known_of_a_member_is_no_part_of_the_request() -> None:
    command = IssueCard(*HEAD, "card", "mem", "Ann", "gold")
    assert fingerprint(command) == fingerprint(msgspec.structs.replace(command, profile=Profile(601)))


def test_a_card_is_not_issued_with_what_cannot_be() -> None:
    command = IssueCard(*HEAD, "card", "mem", "Ann", "gold", profile=Profile(1332))
    (refused,) = HANDLERS[IssueCard].decide(scope(new_tenant()), command, MAY)
    assert isinstance(refused, CommandRefused)
    assert refused.reason == "terms_invalid"


# --- when it comes ----------------------------------------------------------------------------------------------------


def test_a_birthday_moves_rules_once_and_sets_the_next() -> None:
    life = Life()
    life.describe(601, MAY)
    due_ms = life.coming[1]
    facts = life.wake(due_ms + 3_000)
    assert kinds(facts) == ["AlarmSet", "BirthdayCame", "PointsPosted", "RulesApplied"]
    alarm, came, posted, applied = facts
    assert isinstance(alarm, AlarmSet)
    assert (alarm.rang, alarm.wake_ms) == (True, at(SAIGON, 2027, 6, 1))
    assert isinstance(came, BirthdayCame)
    assert (came.came_on, came.birthday_on, came.birthday_due_ms) == (20260601, 20270601, alarm.wake_ms)
    assert isinstance(posted, PointsPosted)
    assert (posted.amount, posted.day, posted.cause, posted.rule) == (10, 20260601, "birthday:20260601", "rule_0:1")
    assert isinstance(applied, RulesApplied)
    assert (applied.trigger, applied.cause) == ("birthday", "birthday:20260601")
    assert life.card.birthday_year == 2026
    assert points(life.wake(due_ms + 6_000)) == []


def test_a_late_alarm_is_of_the_day_all_the_same() -> None:
    life = Life(with_rules(AwardPoints(10), when="now.month == 6 && now.day == 1 && now.hour == 0"))
    life.describe(601, MAY)
    facts = life.wake(life.coming[1] + 3 * DAY_MS)
    assert points(facts) == [10]
    assert next(fact.day for fact in facts if isinstance(fact, PointsPosted)) == 20260601


def test_after_years_of_silence_it_comes_once() -> None:
    life = Life()
    life.describe(601, MAY)
    assert points(life.wake(at(SAIGON, 2029, 7, 1))) == [10]
    assert life.coming[0] == 20300601


def test_without_rules_it_only_passes() -> None:
    for tenant in (new_tenant(time_zone=SAIGON), with_rules(AwardPoints(10), when="card.tier == 'diamond'")):
        life = Life(tenant)
        life.describe(601, MAY)
        assert kinds(life.wake(life.coming[1])) == ["AlarmSet", "BirthdayCame"]
        assert (life.card.birthday_year, life.coming[0]) == (2026, 20270601)


@pytest.mark.parametrize(("state", "next_on"), [("suspended", 20270601), ("revoked", 0)])
def test_it_comes_for_active_cards_only(state: Any, next_on: int) -> None:
    life = Life()
    life.describe(601, MAY)
    life.card.state = state
    facts = life.wake(life.coming[1])
    assert kinds(facts) == ["AlarmSet", "BirthdayCame"]
    assert isinstance(facts[1], BirthdayCame)
    assert (facts[1].came_on, life.coming[0], life.card.birthday_year) == (0, next_on, 0)


def test_a_card_whose_validity_is_over_still_has_one() -> None:
    life = Life(valid_until_ms=MAY)
    life.describe(601, MAY - DAY_MS)
    assert points(life.wake(life.coming[1])) == [10]


def test_one_that_is_changed_after_it_came_comes_the_next_year() -> None:
    life = Life()
    life.describe(601, MAY)
    life.wake(life.coming[1])
    for birthday, on in ((901, 20270901), (0, 0), (1001, 20271001), (602, 20270602)):
        life.describe(birthday, at(SAIGON, 2026, 6, 1, 12))
        assert life.coming[0] == on


def test_one_that_is_changed_before_it_came_comes_this_year() -> None:
    life = Life()
    life.describe(601, MAY)
    life.describe(901, MAY)
    assert life.coming[0] == 20260901
    life.describe(520, MAY)
    assert life.coming[0] == 20270520


@pytest.mark.parametrize("birthday", [601, 901])
def test_one_that_is_due_comes_though_it_is_told_again_before_the_alarm_rings(birthday: int) -> None:
    life = Life()
    life.describe(601, MAY)
    due_ms = life.coming[1]
    assert kinds(life.describe(birthday, due_ms + 1)) == ["CardHolderDescribed"]
    assert life.coming == (20260601, due_ms)
    facts = life.wake(due_ms + 2)
    assert points(facts) == [10]
    assert (life.card.birthday_year, life.coming[0]) == (2026, 20270000 + birthday)


def test_another_version_of_a_rule_does_not_bring_it_back() -> None:
    life = Life()
    life.describe(601, MAY)
    due_ms = life.coming[1]
    life.wake(due_ms)
    (rule,) = life.tenant.rulebook.rules
    life.tenant.rulebook = Rulebook().with_rule(msgspec.structs.replace(rule, version=2))
    life.describe(601, due_ms + 1, '{"a":1}')
    assert points(life.wake(due_ms + DAY_MS)) == []


# --- other clocks -----------------------------------------------------------------------------------------------------


def test_clocks_that_are_behind_by_now_have_it_wait_until_its_day_begins() -> None:
    life = Life()
    life.describe(601, MAY)
    due_ms = life.coming[1]
    life.move("America/New_York")
    facts = life.wake(due_ms)
    begins_ms = at("America/New_York", 2026, 6, 1)
    assert kinds(facts) == ["AlarmSet", "BirthdayCame"]
    assert isinstance(facts[0], AlarmSet)
    assert facts[0].wake_ms == begins_ms
    assert (life.coming, life.card.birthday_year) == ((20260601, begins_ms), 0)
    assert points(life.wake(begins_ms)) == [10]
    assert life.coming == (20270601, at("America/New_York", 2027, 6, 1))


def test_clocks_that_are_ahead_by_now_have_it_come_when_it_was_due() -> None:
    life = Life(with_rules(AwardPoints(10), zone="America/New_York"))
    life.describe(601, MAY)
    life.move("Pacific/Kiritimati")
    facts = life.wake(life.coming[1])
    assert points(facts) == [10]
    assert next(fact.day for fact in facts if isinstance(fact, PointsPosted)) == 20260601


def test_new_year_in_two_zones_is_one_birthday() -> None:
    life = Life(with_rules(AwardPoints(10), zone="Pacific/Kiritimati"))
    life.describe(101, MAY)
    due_ms = life.coming[1]
    life.wake(due_ms)
    life.move("Etc/GMT+12")
    life.describe(102, due_ms + 1)
    assert life.coming[0] == 20280102, "2027 has begun for it already"


# --- together with what else is due -----------------------------------------------------------------------------------


def test_lots_that_lapsed_and_reviews_that_were_due_go_before_what_rules_give() -> None:
    levels = (TierLevel("bronze", 0), TierLevel("gold", 10))
    tenant = with_rules(AwardPoints(10, "", 5), SetTier("silver"), tiers=TierTerms(levels))
    life = Life(tenant, tier="gold", tier_due_ms=at(SAIGON, 2026, 6, 1), earned_days=(EarnedDay(20260520, 50),))
    life.describe(601, MAY)
    facts = life.wake(life.coming[1] + 1)
    assert kinds(facts)[:4] == ["AlarmSet", "TierReviewed", "BirthdayCame", "PointsPosted"]
    alarm, posted = facts[0], facts[3]
    assert isinstance(alarm, AlarmSet)
    assert isinstance(posted, PointsPosted)
    assert posted.earned_on == EarnedDay(20260601, 10)
    assert alarm.wake_ms == min(lot.expires_at_ms for lot in life.card.lots)


def test_limits_count_birthdays_of_all_years() -> None:
    tenant = with_rules(AwardPoints(10))
    (rule,) = tenant.rulebook.rules
    tenant.rulebook = Rulebook().with_rule(msgspec.structs.replace(rule, limits=Limits(per_card=2)))
    life = Life(tenant)
    life.describe(601, MAY)
    assert [sum(points(life.wake(life.coming[1]))) for _ in range(3)] == [10, 10, 0]


def test_conditions_see_who_it_is() -> None:
    for when, given in (
        ("member.birthday == 601", [10]),
        ("member.birthday == 602", []),
        ("now.year - member.birth_year == 36", [10]),
        ("member.attributes.city == 'Huế'", [10]),
        ("has(member.attributes.vip) && member.attributes.vip == true", []),
        ("member.attributes.kids == 2", [10]),
    ):
        life = Life(with_rules(AwardPoints(10), when=when))
        life.describe(601, MAY, '{"city":"Huế","kids":2}', birth_year=1990)
        assert points(life.wake(life.coming[1])) == given, when


def test_rules_on_birthdays_can_be_saved() -> None:
    document = {"name": "Wishes", "on": "birthday", "then": [{"action": "award_points", "points": 5}]}
    definition = parse_rule(document, "r", 1)
    assert isinstance(definition, RuleDefinition)
    assert fault_of(definition) == ""
