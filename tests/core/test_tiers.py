"""Tiers by points: what counts in the window, up at once, down at reviews, by hand until a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from actors.calendar import add_days
from actors.card import Card
from actors.card_commands import SetCardTier
from actors.card_facts import CardTierChanged, TierReviewed
from actors.commands import AwardPoints, Command, IssueCard, OpenTenant, fingerprint
from actors.facts import AlarmSet, CommandRefused, Fact, PointsPosted, ScanJudged, TenantChanged
from actors.handlers import HANDLERS
from actors.judge import Judge
from actors.ledger import card_alarm_ms
from actors.live import Views
from actors.points import decide_wake_card
from actors.ports import LedgerEntry
from actors.recent import RecentEntries
from actors.replies import TierView
from actors.requests import RequestMemory
from actors.residents import Residents
from actors.schedule import Schedule
from actors.tenant import Tenant
from actors.terms import (
    TIER_WINDOW_DAYS_MAX,
    Admission,
    EarnedDay,
    TenantSettings,
    TierLevel,
    TierTerms,
)
from actors.tier_commands import SetTiers
from actors.tiers import fallen_due, fault_of_tiers, points_in_window, standing_at
from actors.viewer import _tier_view
from actors.waiting import Known, Wants
from rules.model import Rule
from tests.core.build import LIMITS, check_in, redeem, reverse, scope, signed
from tests.core.build import award as award_command
from tests.core.build import card as new_card
from tests.core.build import event as new_event
from tests.core.build import tenant as new_tenant

LEVELS = (
    TierLevel("bronze", 0),
    TierLevel("silver", 100, "Moon"),
    TierLevel("gold", 500),
    TierLevel("diamond", 2_000),
)
SAIGON = "Asia/Ho_Chi_Minh"
HEAD = ("org", "id", b"")
YEARLY = Schedule(0, 0, month=1, day=1)


def at(zone: str, *local: int) -> int:
    return int(datetime(*local, tzinfo=ZoneInfo(zone)).astimezone(UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


NOON = at(SAIGON, 2026, 5, 27, 12)
NEW_YEAR = at(SAIGON, 2027, 1, 1)


def with_tiers(policy: Any = "by_points", window_days: int = 365, review: Schedule = YEARLY, **more: Any) -> Tenant:
    tiers = TierTerms(more.pop("levels", LEVELS), window_days, policy, review)
    return new_tenant(**{"time_zone": SAIGON, "tiers": tiers, **more})


class Ledger:
    """A card, and what commands and time make of it."""

    def __init__(self, tenant: Tenant, **card: Any) -> None:
        self.tenant = tenant
        self.card: Card = new_card(**{"tier": "bronze", **card})
        self.posted: list[PointsPosted] = []
        self._position = 0

    def do(self, command: Command, at_ms: int = NOON, entry: PointsPosted | None = None) -> list[Fact]:
        made = scope(self.tenant, self.card, entry=LedgerEntry(entry) if entry is not None else None)
        return self.take(HANDLERS[type(command)].decide(made, command, at_ms))

    def wake(self, at_ms: int) -> list[Fact]:
        return self.take(decide_wake_card(scope(self.tenant, self.card), self.card, at_ms))

    def take(self, facts: list[Fact]) -> list[Fact]:
        for fact in facts:
            self._position += 1
            if isinstance(fact, PointsPosted):
                self.posted.append(fact)
                self.tenant.apply(fact, self._position)
            if isinstance(fact, PointsPosted | CardTierChanged | TierReviewed):
                self.card.apply(fact, self._position)
        return facts

    def earn(self, points: int, at_ms: int = NOON) -> list[Fact]:
        return self.do(award_command(points), at_ms)

    def set_tier(self, tier: Any, until_ms: int = 0, at_ms: int = NOON) -> list[Fact]:
        return self.do(signed(SetCardTier(*HEAD, "card", tier, "", until_ms)), at_ms)


def kinds(facts: list[Fact]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


# --- the window -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "day", "window", "points"),
    [
        ((), 20260527, 365, 0),
        (((20260527, 5),), 20260527, 1, 5),
        (((20260526, 5),), 20260527, 1, 0),
        (((20260526, 5), (20260527, 7)), 20260527, 2, 12),
        (((20250528, 5),), 20260527, 365, 5),
        (((20250527, 5),), 20260527, 365, 0),
        (((20240229, 5),), 20250228, 366, 5),
        (((20240229, 5),), 20250228, 365, 0),
    ],
)
def test_what_counts_in_the_window(days: Any, day: int, window: int, points: int) -> None:
    assert points_in_window([EarnedDay(*one) for one in days], day, window) == points


def test_a_card_remembers_two_years() -> None:
    ledger = Ledger(with_tiers())
    for ago in (TIER_WINDOW_DAYS_MAX, TIER_WINDOW_DAYS_MAX - 1, 0):
        ledger.earn(1, NOON - ago * 86_400_000)
    assert [one.day for one in ledger.card.earned_days] == [add_days(20260527, 1 - TIER_WINDOW_DAYS_MAX), 20260527]


def test_days_are_those_of_the_organisation() -> None:
    ledger = Ledger(with_tiers())
    ledger.earn(5, at(SAIGON, 2026, 5, 27, 23, 59))
    ledger.earn(7, at(SAIGON, 2026, 5, 28, 0, 1))
    assert ledger.card.earned_days == (EarnedDay(20260527, 5), EarnedDay(20260528, 7))


# --- up ---------------------------------------------------------------------------------------------------------------


def test_up_with_the_posting_that_reaches_it() -> None:
    ledger = Ledger(with_tiers())
    assert kinds(ledger.earn(99)) == ["PointsPosted"]
    facts = ledger.earn(401)
    assert kinds(facts) == ["PointsPosted", "CardTierChanged", "AlarmSet"]
    changed, alarm = facts[1:]
    assert isinstance(changed, CardTierChanged)
    assert (changed.tier, changed.tier_before, changed.reason, changed.points) == ("gold", "bronze", "points", 500)
    assert (changed.cause, changed.due_ms, changed.as_of_ms) == ("request", NEW_YEAR, NOON)
    assert isinstance(alarm, AlarmSet)
    assert alarm.wake_ms == NEW_YEAR


def test_up_at_the_door_in_the_same_entry() -> None:
    rule = Rule("rule_checkin", 3, "", "checkin", 100)
    facts = at_door(Ledger(with_tiers(rules=(rule,))))
    assert kinds(facts) == ["ScanJudged", "PointsPosted", "CardTierChanged", "AlarmSet"]
    changed = facts[2]
    assert isinstance(changed, CardTierChanged)
    assert (changed.tier, changed.cause, changed.rule) == ("silver", "checkin:scan", "rule_checkin:3")


def test_a_late_scan_earns_for_its_own_day() -> None:
    rule = Rule("rule_checkin", 1, "", "checkin", 100)
    late = {"is_offline": True, "scanned_at_ms": NOON - 3 * 86_400_000}
    facts = at_door(Ledger(with_tiers(window_days=3, rules=(rule,))), **late)
    posted = facts[1]
    assert isinstance(posted, PointsPosted)
    assert posted.earned_on == EarnedDay(20260524, 100)
    assert kinds(facts) == ["ScanJudged", "PointsPosted"], "three days ago is not in a window of three days"


def test_what_is_spent_counts_on_and_what_is_given_does_not() -> None:
    ledger = Ledger(with_tiers())
    ledger.earn(100)
    assert kinds(ledger.do(redeem(80))) == ["PointsPosted"]
    top_up = signed(AwardPoints(*HEAD, "card", 10_000, account="wallet"))
    assert kinds(ledger.do(top_up)) == ["PointsPosted"]
    assert ledger.card.earned_days == (EarnedDay(20260527, 100),)


def test_a_tenant_without_tiers_pays_nothing() -> None:
    ledger = Ledger(new_tenant(), tier="gold")
    assert kinds(ledger.earn(5_000)) == ["PointsPosted"]
    assert ledger.posted[0].earned_on is None
    assert ledger.card.earned_days == ()


# --- reversals --------------------------------------------------------------------------------------------------------


def test_a_reversed_award_counts_no_more_but_the_tier_stays_until_the_review() -> None:
    ledger = Ledger(with_tiers())
    ledger.earn(100)
    facts = ledger.do(reverse(1), NOON + 86_400_000, ledger.posted[0])
    assert kinds(facts) == ["PointsPosted"]
    assert ledger.card.earned_days == (EarnedDay(20260527, 0),)
    assert ledger.card.tier == "silver"
    assert kinds(ledger.wake(NEW_YEAR)) == ["AlarmSet", "CardTierChanged"]
    assert (ledger.card.tier, ledger.card.tier_due_ms) == ("bronze", 0)


def test_what_was_earned_before_there_were_tiers_is_not_taken_from_them() -> None:
    ledger = Ledger(new_tenant(time_zone=SAIGON))
    ledger.earn(100)
    ledger.tenant.settings = with_tiers().settings
    ledger.earn(40)
    ledger.do(reverse(1), NOON, ledger.posted[0])
    assert ledger.card.earned_days == (EarnedDay(20260527, 40),)


def test_a_reversal_takes_its_points_back_also_while_there_are_no_tiers() -> None:
    ledger = Ledger(with_tiers())
    ledger.earn(40)
    ledger.tenant.settings = TenantSettings(SAIGON)
    ledger.do(reverse(1), NOON, ledger.posted[0])
    assert ledger.card.earned_days == (EarnedDay(20260527, 0),)


# --- reviews ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "tier", "points", "after"),
    [
        ("keep", "diamond", 0, "diamond"),
        ("one_down", "diamond", 0, "gold"),
        ("one_down", "diamond", 600, "gold"),
        ("one_down", "gold", 600, "gold"),
        ("one_down", "platinum", 0, "gold"),
        ("one_down", "silver", 0, "bronze"),
        ("by_points", "diamond", 150, "silver"),
        ("by_points", "diamond", 0, "bronze"),
        ("by_points", "gold", 500, "gold"),
        ("keep", "silver", 500, "gold"),
    ],
)
def test_reviews(policy: Any, tier: Any, points: int, after: str) -> None:
    days = (EarnedDay(20260701, points),)
    ledger = Ledger(with_tiers(policy), tier=tier, tier_due_ms=NEW_YEAR, earned_days=days)
    assert standing_at(ledger.tenant, ledger.card, NEW_YEAR - 1).tier == tier
    rang, looked_at = ledger.wake(NEW_YEAR)
    assert isinstance(rang, AlarmSet)
    assert isinstance(looked_at, CardTierChanged | TierReviewed)
    assert (ledger.card.tier, looked_at.points) == (after, points)
    following = 0 if after == "bronze" else at(SAIGON, 2028, 1, 1)
    assert (looked_at.due_ms, rang.wake_ms) == (following, following)


def test_reviews_that_were_missed_are_made_up_for_one_by_one() -> None:
    tenant = with_tiers("one_down", review=Schedule(0, 0, month_days=(1,)))
    card = new_card(tier="diamond", tier_due_ms=at(SAIGON, 2026, 6, 1))
    facts, standing = fallen_due(tenant, card, at(SAIGON, 2026, 7, 15))
    assert [(fact.tier, fact.as_of_ms) for fact in facts] == [
        ("gold", at(SAIGON, 2026, 6, 1)),
        ("silver", at(SAIGON, 2026, 7, 1)),
    ]
    assert standing == ("silver", at(SAIGON, 2026, 8, 1), False)


def test_what_changes_nothing_is_told_once() -> None:
    tenant = with_tiers("keep", review=Schedule(0, 0, month_days=(1,)))
    card = new_card(tier="gold", tier_due_ms=at(SAIGON, 2020, 1, 1))
    (fact,), _ = fallen_due(tenant, card, NOON)
    assert isinstance(fact, TierReviewed)
    assert (fact.as_of_ms, fact.due_ms) == (at(SAIGON, 2026, 5, 1), at(SAIGON, 2026, 6, 1))


def test_a_review_counts_the_window_of_its_own_day() -> None:
    """Whoever looks ten days late finds the points that were in the window then."""
    tenant = with_tiers("by_points", window_days=30, review=Schedule(0, 0, month_days=(1,)))
    card = new_card(tier="gold", tier_due_ms=at(SAIGON, 2026, 6, 1), earned_days=(EarnedDay(20260503, 500),))
    (fact,), _ = fallen_due(tenant, card, at(SAIGON, 2026, 6, 11))
    assert (fact.tier, fact.points) == ("gold", 500)


def test_the_review_is_by_the_local_clock_through_daylight_saving() -> None:
    tenant = with_tiers(review=Schedule(2, 30, month_days=(29,)), time_zone="Europe/Berlin")
    ledger = Ledger(tenant)
    ledger.earn(100, at("Europe/Berlin", 2026, 3, 1, 12))
    assert ledger.card.tier_due_ms == at("Europe/Berlin", 2026, 3, 29, 3, 0), "2:30 is left out that night"


def test_the_door_goes_by_a_review_that_nobody_has_posted() -> None:
    tenant = with_tiers()
    ledger = Ledger(tenant, tier="gold", tier_due_ms=NOON - 1)
    facts = at_door(ledger, admission=Admission(("gold",)))
    assert kinds(facts) == ["CardTierChanged", "AlarmSet", "ScanJudged"]
    scan = facts[2]
    assert isinstance(scan, ScanJudged)
    assert (scan.reason, scan.tier) == ("not_eligible", "bronze")


def test_an_award_comes_after_the_review_that_was_due() -> None:
    ledger = Ledger(with_tiers("one_down"), tier="diamond", tier_due_ms=NOON - 1)
    facts = ledger.earn(10)
    assert kinds(facts) == ["CardTierChanged", "PointsPosted", "AlarmSet"]
    assert ledger.card.tier == "gold"


def test_a_revoked_card_is_reviewed_no_more() -> None:
    ledger = Ledger(with_tiers(), tier="gold", tier_due_ms=NEW_YEAR, state="revoked")
    _, fact = ledger.wake(NEW_YEAR)
    assert isinstance(fact, TierReviewed)
    assert (ledger.card.tier, ledger.card.tier_due_ms) == ("gold", 0)


def test_a_card_from_before_gets_its_date_with_its_next_award() -> None:
    ledger = Ledger(with_tiers(), tier="gold")
    assert kinds(ledger.earn(1)) == ["PointsPosted", "TierReviewed", "AlarmSet"]
    assert ledger.card.tier_due_ms == NEW_YEAR
    assert kinds(ledger.earn(1)) == ["PointsPosted"]


@pytest.mark.parametrize(
    ("tier", "told"), [("bronze", ["CardIssued"]), ("gold", ["CardIssued", "TierReviewed", "AlarmSet"])]
)
def test_a_new_card_above_the_lowest_level_has_a_date(tier: Any, told: list[str]) -> None:
    command = signed(IssueCard(*HEAD, "card", "mem", "Ann", tier))
    assert kinds(HANDLERS[IssueCard].decide(scope(with_tiers()), command, NOON)) == told


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_set_by_hand_until_a_time_nothing_else_moves_it() -> None:
    ledger = Ledger(with_tiers())
    ledger.earn(150)
    until_ms = NOON + 86_400_000
    (changed, alarm) = ledger.set_tier("bronze", until_ms)
    assert isinstance(changed, CardTierChanged)
    assert (changed.tier, changed.tier_before, changed.reason, changed.is_held) == ("bronze", "silver", "manual", True)
    assert isinstance(alarm, AlarmSet)
    assert alarm.wake_ms == until_ms
    assert kinds(ledger.earn(500)) == ["PointsPosted"]
    _, then = ledger.wake(until_ms)
    assert isinstance(then, CardTierChanged)
    assert (then.tier, then.reason, then.points, then.due_ms) == ("gold", "until", 650, NEW_YEAR)


def test_set_by_hand_for_good_the_next_posting_raises_it() -> None:
    ledger = Ledger(with_tiers())
    ledger.earn(150)
    ledger.set_tier("bronze")
    assert kinds(ledger.earn(1)) == ["PointsPosted", "CardTierChanged", "AlarmSet"]
    assert ledger.card.tier == "silver"


@pytest.mark.parametrize(
    ("tiers", "until_ms", "reason"),
    [(True, NOON, "expiry_invalid"), (True, NOON - 1, "expiry_invalid"), (False, NOON + 1, "terms_invalid")],
)
def test_an_until_that_cannot_be(tiers: bool, until_ms: int, reason: str) -> None:
    ledger = Ledger(with_tiers() if tiers else new_tenant())
    (fact,) = ledger.set_tier("gold", until_ms)
    assert isinstance(fact, CommandRefused)
    assert fact.reason == reason


def test_when_tiers_are_given_up_what_was_set_stays() -> None:
    ledger = Ledger(new_tenant(), tier="gold", tier_due_ms=NOON, tier_is_held=True)
    _, fact = ledger.wake(NOON)
    assert isinstance(fact, TierReviewed)
    assert (ledger.card.tier, ledger.card.tier_due_ms, ledger.card.tier_is_held) == ("gold", 0, False)


# --- the organisation's terms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, ""),
        ({"levels": LEVELS[:1]}, ""),
        ({"levels": ()}, "1 to 5 levels"),
        ({"levels": LEVELS[1:]}, "begins at 0"),
        ({"levels": (LEVELS[0], LEVELS[2], LEVELS[1])}, "in order"),
        ({"levels": (LEVELS[0], TierLevel("bronze", 5))}, "in order"),
        ({"levels": (LEVELS[0], TierLevel("silver", 0))}, "above 0"),
        ({"levels": (LEVELS[0], TierLevel("silver", 10**12 + 1))}, "at most"),
        ({"window_days": 0}, "window_days"),
        ({"window_days": TIER_WINDOW_DAYS_MAX + 1}, "window_days"),
        ({"review": Schedule(0, 0)}, "reviews"),
        ({"review": Schedule(0, 0, weekdays=(1,))}, "reviews"),
    ],
)
def test_which_tiers_make_sense(change: dict[str, Any], fault: str) -> None:
    terms = msgspec.structs.replace(TierTerms(LEVELS), **change)
    found = fault_of_tiers(terms)
    assert fault in found
    assert bool(found) == bool(fault)
    (fact,) = HANDLERS[SetTiers].decide(scope(new_tenant()), signed(SetTiers(*HEAD, terms)), NOON)
    assert isinstance(fact, CommandRefused if fault else TenantChanged)


def test_tiers_can_be_given_up() -> None:
    (fact,) = HANDLERS[SetTiers].decide(scope(with_tiers()), signed(SetTiers(*HEAD, None)), NOON)
    assert isinstance(fact, TenantChanged)
    assert fact.settings.tiers is None


def test_requests_from_before_there_were_tiers_keep_their_fingerprint() -> None:
    """As they were made by the release before."""
    grace = TenantSettings("UTC", 0, (), "free", 300)
    before = ("UTC", 0, (), "free", 300)
    asked = [fingerprint(OpenTenant("org", "id", b"", "Org", settings)) for settings in (grace, before)]  # type: ignore[arg-type]
    assert asked[0] == asked[1]
    plain = SetCardTier(*HEAD, "card", "gold", "note")
    assert fingerprint(plain) != fingerprint(SetCardTier(*HEAD, "card", "gold", "note", 5))


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_what_is_shown_counts_what_is_due() -> None:
    ledger = Ledger(with_tiers(), tier="gold", tier_due_ms=NOON - 1, earned_days=(EarnedDay(20260101, 120),))
    view = _tier_view(ledger.card, ledger.tenant, NOON)
    assert isinstance(view, TierView)
    assert (view.tier, view.points, view.due_ms, view.is_held) == ("silver", 120, NEW_YEAR, False)


def test_the_alarm_is_the_first_of_all_that_is_due() -> None:
    assert card_alarm_ms((), (), 0) == 0
    assert card_alarm_ms((), (), 7) == 7


def at_door(ledger: Ledger, *, admission: Admission | None = None, **command: Any) -> list[Fact]:
    """The whole way of a scan through the judge."""
    residents = Residents()
    event = new_event(**({"admission": admission} if admission else {}))
    residents.tenants["org"], residents.cards["card"], residents.events["event"] = ledger.tenant, ledger.card, event
    requests = RequestMemory(LIMITS, is_complete=True, forgotten_until_ms=0, claims={})
    judge = Judge(residents, requests, RecentEntries(LIMITS), Views(1))
    facts = judge.judge(check_in(**command), NOON, Known(is_new=True), Wants())
    assert isinstance(facts, list)
    return facts
