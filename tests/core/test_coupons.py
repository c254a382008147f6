"""Coupons: definitions, codes, every refusal by its name, holds, limits, bills, points and what a rollback returns."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.commands import ReversePoints
from actors.coupon_commands import ChangeCoupon, IssueCoupons
from actors.coupon_facts import CodeIssued
from actors.coupon_terms import (
    CODES_PER_COMMAND_MAX,
    CODES_PER_COUPON_MAX,
    COUPONS_PER_BILL_MAX,
    DAY_MS,
    HOLD_MS_MAX,
    HOLDS_PER_COUPON_MAX,
    AmountValue,
    CouponCounts,
    ItemValue,
    NewCode,
    PercentValue,
    PointsValue,
)
from actors.facts import CommandRefused, PointsPosted
from actors.ledger import BALANCE_MAX
from actors.versions import coupon_version
from tests.core.build import NOW_MS
from tests.core.till import Till

ITEM = ItemValue("A tea")


def till(*code_ids: str, **terms: Any) -> Till:
    made = Till()
    assert made.define(**{"value": ITEM, **terms}) == ""
    if code_ids:
        assert made.issue(*code_ids) == ""
    return made


# --- defining, changing, issuing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({}, ""),
        ({"value": PointsValue(0)}, "coupon_terms_invalid"),
        ({"value": PercentValue(0)}, "coupon_terms_invalid"),
        ({"value": PercentValue(100, 0)}, ""),
        ({"value": PercentValue(101)}, "coupon_terms_invalid"),
        ({"value": PercentValue(10, -1)}, "coupon_terms_invalid"),
        ({"value": AmountValue(0)}, "coupon_terms_invalid"),
        ({"value": ItemValue("")}, "coupon_terms_invalid"),
        ({"starts_ms": 10, "ends_ms": 10}, "coupon_terms_invalid"),
        ({"starts_ms": 10, "ends_ms": 11}, ""),
        ({"uses_max": -1}, "coupon_terms_invalid"),
        ({"uses_per_day_max": 10**9 + 1}, "coupon_terms_invalid"),
        ({"valid_days": 3_661}, "coupon_terms_invalid"),
    ],
)
def test_terms(terms: dict[str, Any], reason: str) -> None:
    assert Till().define(**{"value": ITEM, **terms}) == reason


def test_code_taken_by_another_coupon() -> None:
    made = till(shared="SUMMER")
    assert made.define("other", "SUMMER") == "code_taken"
    assert made.issue("shared-SUMMER") == "code_taken"
    assert made.issue("a", "a") == "code_taken"
    assert made.coupon().counts.issued == 0


def test_a_change_keeps_what_is_not_named_and_asks_for_the_version() -> None:
    made = till(uses_max=3)
    version = coupon_version(made.coupon().terms)
    change = ChangeCoupon(*made.request(), "cpn", name="Coffee", if_version=("other",))
    assert made.told(change) == "precondition_failed"
    assert made.told(msgspec.structs.replace(change, if_version=("other", version))) == ""
    assert (made.coupon().terms.name, made.coupon().terms.uses_max) == ("Coffee", 3)
    assert made.told(ChangeCoupon(*made.request(), "cpn", starts_ms=5, ends_ms=5)) == "coupon_terms_invalid"


def test_what_has_ended_stays_and_no_draft_comes_back() -> None:
    made = till()
    assert made.told(ChangeCoupon(*made.request(), "cpn", state="draft")) == "coupon_terms_invalid"
    for state in ("paused", "active", "ended"):
        assert made.told(ChangeCoupon(*made.request(), "cpn", state=state)) == ""
    assert made.told(ChangeCoupon(*made.request(), "cpn", state="active")) == "coupon_ended"
    assert made.issue("a") == "coupon_ended"


def test_codes_are_issued_all_or_none_and_for_cards_that_there_are() -> None:
    made = till("a", "b")
    assert made.coupon().counts.issued == 2
    assert made.issue("c", card_id="card_ghost") == "card_unknown"
    assert made.issue("c", "b") == "code_taken"
    assert made.issue("c", card_id="card2") == ""
    assert (made.coupon().counts.issued, made.code("c").card_id, made.code("b").number) == (3, "card2", 1)


@pytest.mark.parametrize(
    ("count", "issued", "reason"),
    [
        (0, 0, "limit_reached"),
        (CODES_PER_COMMAND_MAX, 0, ""),
        (CODES_PER_COMMAND_MAX + 1, 0, "limit_reached"),
        (1, CODES_PER_COUPON_MAX - 1, ""),
        (1, CODES_PER_COUPON_MAX, "limit_reached"),
    ],
)
def test_how_many_codes_are_issued(count: int, issued: int, reason: str) -> None:
    made = till()
    made.coupon().counts = CouponCounts(issued=issued)
    codes = tuple(NewCode(f"code-{number}", "tail") for number in range(count))
    assert made.told(IssueCoupons(*made.request(), "cpn", codes)) == reason


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_coupon_unknown() -> None:
    made = till("a")
    assert made.redeem("ghost") == "coupon_unknown"
    assert made.redeem("a", "card_ghost") == "card_unknown"
    assert made.capture("ghost") == made.release("ghost") == made.roll_back("ghost") == "redemption_unknown"


@pytest.mark.parametrize(
    ("state", "reason"),
    [("draft", "coupon_not_active"), ("paused", "coupon_not_active"), ("ended", "coupon_ended"), ("active", "")],
)
def test_coupon_not_active_and_coupon_ended(state: Any, reason: str) -> None:
    made = till("a", state="active")
    made.coupon().terms = msgspec.structs.replace(made.coupon().terms, state=state)
    assert made.redeem("a") == reason


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"starts_ms": NOW_MS}, ""),
        ({"starts_ms": NOW_MS + 1}, "coupon_not_started"),
        ({"ends_ms": NOW_MS + 1}, ""),
        ({"ends_ms": NOW_MS}, "coupon_expired"),
    ],
)
def test_coupon_not_started_and_coupon_expired(terms: dict[str, int], reason: str) -> None:
    assert till("a", **terms).redeem("a") == reason


@pytest.mark.parametrize(("later_ms", "reason"), [(2 * DAY_MS - 1, ""), (2 * DAY_MS, "coupon_expired")])
def test_a_code_is_good_for_so_many_days_after_its_issue(later_ms: int, reason: str) -> None:
    made = till("a", valid_days=2)
    made.now_ms += later_ms
    assert made.redeem("a") == reason


def test_coupon_not_for_card() -> None:
    made = till("a", tiers=("gold", "diamond"))
    made.residents.cards["card2"].tier = "bronze"
    assert made.redeem("a", "card2") == "coupon_not_for_card"
    assert made.issue("b", card_id="card") == ""
    assert made.redeem("b", "card3") == "coupon_not_for_card"
    assert made.redeem("b", "card") == made.redeem("a", "card3") == ""


def test_coupon_already_used_and_coupon_on_hold() -> None:
    made = till("a", "b")
    assert made.redeem("a") == made.redeem("b", hold_ms=10) == ""
    assert made.redeem("a", "card2", redemption_id="x") == "coupon_already_used"
    assert made.redeem("b", "card2", redemption_id="x") == "coupon_on_hold"


def test_coupon_card_limit_reached() -> None:
    made = till("a", "b", "c", uses_per_card_max=2)
    assert made.redeem("a") == made.redeem("b", hold_ms=10) == ""
    assert made.redeem("c") == "coupon_card_limit_reached"
    assert made.redeem("c", "card2") == ""


@pytest.mark.parametrize("limit", ["uses_max", "uses_per_day_max"])
def test_coupon_limit_reached(limit: str) -> None:
    made = till("a", "b", "c", **{limit: 2})
    assert made.redeem("a") == made.redeem("b", "card2", hold_ms=10) == ""
    assert made.redeem("c", "card3") == "coupon_limit_reached"


@pytest.mark.parametrize("state", ["suspended", "revoked"])
def test_card_not_active(state: Any) -> None:
    made = till("a")
    made.residents.cards["card"].state = state
    assert made.redeem("a") == "card_not_active"


@pytest.mark.parametrize(
    ("from_ms", "until_ms", "reason"),
    [(NOW_MS, 0, ""), (NOW_MS + 1, 0, "card_not_active"), (0, NOW_MS + 1, ""), (0, NOW_MS, "card_not_active")],
)
def test_a_card_out_of_its_validity_is_not_active(from_ms: int, until_ms: int, reason: str) -> None:
    made = till("a")
    made.residents.cards["card"].valid_from_ms, made.residents.cards["card"].valid_until_ms = from_ms, until_ms
    assert made.redeem("a") == reason


@pytest.mark.parametrize(
    ("hold_ms", "reason"), [(-1, "hold_invalid"), (1, ""), (HOLD_MS_MAX, ""), (HOLD_MS_MAX + 1, "hold_invalid")]
)
def test_hold_invalid(hold_ms: int, reason: str) -> None:
    assert till("a").redeem("a", hold_ms=hold_ms) == reason


def test_limit_reached_by_a_balance_by_holds_and_by_a_bill() -> None:
    made = till("a", value=PointsValue(5))
    made.residents.cards["card"].balance = BALANCE_MAX - 4
    assert made.redeem("a") == "limit_reached"
    many = till(*(f"c{number}" for number in range(HOLDS_PER_COUPON_MAX)))
    assert many.issue("last") == ""
    assert {many.redeem(f"c{number}", hold_ms=9) for number in range(HOLDS_PER_COUPON_MAX)} == {""}
    assert many.redeem("last", hold_ms=9) == "limit_reached"
    assert many.redeem("last") == ""
    full = till(*(f"c{number}" for number in range(COUPONS_PER_BILL_MAX + 1)), stacking="with_others")
    told = [full.redeem(f"c{number}", bill="bill") for number in range(COUPONS_PER_BILL_MAX + 1)]
    assert told == [""] * COUPONS_PER_BILL_MAX + ["limit_reached"]


def test_refusals_come_in_their_order() -> None:
    """Everything is wrong at once; what is put right uncovers the next."""
    made = till("a", "b")
    assert made.redeem("b", bill="bill") == ""
    assert made.redeem("a", redemption_id="used") == ""
    bad = {"uses_max": 1, "uses_per_card_max": 1, "starts_ms": NOW_MS + 1, "ends_ms": NOW_MS, "tiers": ("bronze",)}
    made.coupon().terms = msgspec.structs.replace(made.coupon().terms, state="ended", **bad)
    made.residents.cards["card"].state = "suspended"
    order = (
        ("coupon_ended", {"state": "paused"}),
        ("coupon_not_active", {"state": "active"}),
        ("coupon_not_started", {"starts_ms": 0}),
        ("coupon_expired", {"ends_ms": 0}),
        ("coupon_not_for_card", {"tiers": ()}),
        ("coupon_already_used", None),
        ("coupon_not_combinable", {"stacking": "with_others", "group": ""}),
        ("coupon_card_limit_reached", {"uses_per_card_max": 0}),
        ("coupon_limit_reached", {"uses_max": 0}),
        ("card_not_active", {}),
    )
    for reason, better in order:
        assert made.redeem("a", bill="bill", redemption_id="x") == reason
        if better is None:
            assert made.roll_back("used") == ""
        else:
            made.coupon().terms = msgspec.structs.replace(made.coupon().terms, **better)
        if reason == "coupon_not_combinable":
            made.bill("bill").coupons.clear()


# --- holds ------------------------------------------------------------------------------------------------------------


def test_a_hold_is_captured_once() -> None:
    made = till("a")
    assert made.redeem("a", hold_ms=10) == ""
    assert (made.coupon().counts.on_hold, made.alarm_ms()) == (1, NOW_MS + 10)
    assert made.roll_back("rdm-a") == "coupon_not_redeemed"
    assert made.capture("rdm-a") == ""
    assert (made.coupon().counts.redeemed, made.coupon().counts.on_hold, made.alarm_ms()) == (1, 0, 0)
    assert made.code("a").state == "redeemed"
    assert made.capture("rdm-a") == made.release("rdm-a") == "hold_captured"
    made.now_ms += 20
    assert made.redeem("a", redemption_id="x") == "coupon_already_used"


def test_a_released_hold_gives_everything_back() -> None:
    made = till("a", uses_max=1, uses_per_card_max=1, uses_per_day_max=1)
    assert made.redeem("a", bill="bill", hold_ms=10) == ""
    assert made.release("rdm-a") == ""
    assert made.capture("rdm-a") == made.release("rdm-a") == "hold_released"
    assert made.roll_back("rdm-a") == "coupon_not_redeemed"
    assert (made.uses(), made.bill("bill").coupons, made.coupon().counts.uses) == (0, {}, 0)
    assert made.redeem("a", bill="bill", redemption_id="again") == ""


@pytest.mark.parametrize("is_woken", [False, True])
def test_a_hold_lapses_at_its_time_whether_its_alarm_rang_or_not(is_woken: bool) -> None:
    made = till("a", "b", uses_max=1, uses_per_card_max=1, uses_per_day_max=1)
    assert made.redeem("a", bill="bill", hold_ms=10) == ""
    made.now_ms += 9
    assert made.wake()[0].wake_ms == NOW_MS + 10  # type: ignore[union-attr]
    assert made.redeem("b", bill="bill", redemption_id="x") == "coupon_not_combinable"
    assert made.redeem("b", redemption_id="x") == "coupon_card_limit_reached"
    made.now_ms += 1
    if is_woken:
        made.wake()
        assert made.redemption("rdm-a").state == "lapsed"
    assert made.capture("rdm-a") == "hold_lapsed"
    assert made.redeem("a", bill="bill", redemption_id="again") == ""
    assert made.redemption("rdm-a").state == "lapsed"
    assert (made.coupon().counts.redeemed, made.coupon().counts.on_hold, made.alarm_ms()) == (1, 0, 0)
    assert made.release("rdm-a") == "hold_lapsed"


def test_a_bill_passes_over_another_coupons_hold_that_has_lapsed() -> None:
    made = till("a")
    assert made.define("other", value=ITEM) == made.issue("b", coupon_id="other") == ""
    assert made.redeem("a", bill="bill", hold_ms=10) == ""
    assert made.redeem("b", bill="bill") == "coupon_not_combinable"
    made.now_ms += 10
    assert made.redeem("b", bill="bill") == ""
    assert made.capture("rdm-a") == "hold_lapsed"


# --- limits by day, rollback ------------------------------------------------------------------------------------------


def test_days_are_the_tenants_and_never_go_back() -> None:
    made = Till(time_zone="Asia/Ho_Chi_Minh")
    made.now_ms = 1_800_014_400_000  # 12:00 UTC, 19:00 in Ho Chi Minh City
    assert made.define(value=ITEM, uses_per_day_max=1) == made.issue("a", "b", "c", "d") == ""
    assert made.redeem("a") == ""
    assert made.redeem("b") == "coupon_limit_reached"
    made.now_ms += 5 * 3_600_000
    assert made.redeem("b") == ""
    assert made.coupon().counts.day == 20270116
    made.tenant.settings = msgspec.structs.replace(made.tenant.settings, time_zone="America/New_York")
    assert made.redeem("c") == "coupon_limit_reached"
    assert made.told(ChangeCoupon(*made.request(), "cpn", uses_per_day_max=2)) == made.redeem("c") == ""
    assert (made.redemption("rdm-c").day, made.coupon().counts.day_uses) == (20270116, 2)


def test_rollback_gives_everything_back_once() -> None:
    made = till("a", uses_max=1, uses_per_card_max=1, uses_per_day_max=1)
    assert made.redeem("a", bill="bill") == made.roll_back("rdm-a") == ""
    assert made.roll_back("rdm-a") == "already_rolled_back"
    assert made.capture("rdm-a") == "already_rolled_back"
    assert made.redeem("a", bill="bill", redemption_id="again") == ""
    assert made.roll_back("rdm-a") == "already_rolled_back"
    assert made.coupon().counts == CouponCounts(1, 1, 0, made.coupon().counts.day, 1)


def test_a_rollback_on_a_later_day_leaves_that_days_count() -> None:
    made = till("a", "b", "c", uses_per_day_max=1)
    assert made.redeem("a") == ""
    made.now_ms += DAY_MS
    assert made.redeem("b") == made.roll_back("rdm-a") == ""
    assert made.coupon().counts.day_uses == 1
    assert made.redeem("c") == "coupon_limit_reached"
    assert made.roll_back("rdm-b") == made.redeem("c") == ""


def test_a_shared_code_is_everybodys_up_to_the_limits() -> None:
    made = till(shared="SUMMER", uses_max=3, uses_per_card_max=2)
    for number, card_id, reason in ((1, "card", ""), (2, "card", ""), (3, "card", "coupon_card_limit_reached")):
        assert made.redeem("shared-SUMMER", card_id, redemption_id=f"r{number}") == reason
    assert made.redeem("shared-SUMMER", "card2", redemption_id="r4") == ""
    assert made.redeem("shared-SUMMER", "card3", redemption_id="r5") == "coupon_limit_reached"
    assert made.code("shared-SUMMER").state == "issued"
    assert made.redemption("r1").code_id == ""


# --- what goes together -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (("alone", ""), ("alone", ""), "coupon_not_combinable"),
        (("alone", ""), ("with_others", ""), "coupon_not_combinable"),
        (("with_others", ""), ("alone", ""), "coupon_not_combinable"),
        (("with_others", ""), ("with_others", ""), ""),
        (("with_others", "food"), ("with_others", "food"), ""),
        (("with_others", "food"), ("with_others", "drinks"), "coupon_not_combinable"),
    ],
)
def test_coupon_not_combinable(first: Any, second: Any, reason: str) -> None:
    made = Till()
    for coupon_id, (stacking, group) in (("one", first), ("two", second)):
        assert made.define(coupon_id, value=ITEM, stacking=stacking, group=group) == ""
        assert made.issue(f"code-{coupon_id}", coupon_id=coupon_id) == ""
    assert made.redeem("code-one", bill="bill") == ""
    assert made.redeem("code-two", bill="bill") == reason
    assert made.redeem("code-two", bill="other", redemption_id="x") == ("" if reason else "coupon_already_used")


# --- points -----------------------------------------------------------------------------------------------------------


def test_points_come_with_the_redemption_and_go_with_its_rollback() -> None:
    made = till("a", value=PointsValue(5))
    assert made.redeem("a") == ""
    posted = [fact for fact in made.facts if isinstance(fact, PointsPosted)]
    assert [(fact.kind, fact.amount, fact.cause) for fact in posted] == [("award", 5, "coupon:rdm-a")]
    assert made.residents.cards["card"].balance == made.residents.cards["card"].earned == 5
    assert made.told(ReversePoints(*made.request(), "card", 1)) == "entry_not_reversible"
    assert made.roll_back("rdm-a") == ""
    card = made.residents.cards["card"]
    assert (card.balance, card.earned, card.day_earned, card.entry_count) == (0, 0, 0, 2)


def test_points_of_a_hold_come_with_its_capture_as_they_were_promised() -> None:
    made = till("a", value=PointsValue(5))
    assert made.redeem("a", hold_ms=10) == ""
    assert made.residents.cards["card"].balance == 0
    assert made.told(ChangeCoupon(*made.request(), "cpn", value=PointsValue(7))) == ""
    made.residents.cards["card"].balance = BALANCE_MAX
    assert made.capture("rdm-a") == "limit_reached"
    made.residents.cards["card"].balance = 0
    assert made.capture("rdm-a") == ""
    assert made.residents.cards["card"].balance == 5


def test_points_that_were_spent_meanwhile_are_missing_from_the_rollback() -> None:
    made = till("a", value=PointsValue(5))
    assert made.redeem("a") == ""
    made.residents.cards["card"].balance = 2
    assert made.roll_back("rdm-a") == ""
    last = made.facts[-1]
    assert isinstance(last, PointsPosted)
    assert (last.amount, last.short_by, last.reverses) == (-2, 3, 1)


def test_a_refused_capture_still_ends_what_has_lapsed() -> None:
    made = till("a", "b")
    assert made.redeem("a", hold_ms=5) == made.redeem("b", "card2", hold_ms=9) == ""
    made.now_ms += 5
    assert made.capture("rdm-a") == "hold_lapsed"
    assert isinstance(made.facts[-2], CommandRefused)
    assert (made.redemption("rdm-a").state, made.redemption("rdm-b").state) == ("lapsed", "on_hold")
    assert made.alarm_ms() == NOW_MS + 9


def test_each_code_cites_its_issue() -> None:
    made = till("a", "b")
    codes = [fact for fact in made.facts if isinstance(fact, CodeIssued)]
    assert [(code.issue_id, code.number) for code in codes] == [("request-2", 0), ("request-2", 1)]
