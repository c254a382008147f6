"""What a redemption has to load when Postgres holds everything and memory nothing: two batches, one upon the other."""

from __future__ import annotations

from typing import Any

from actors.codec import encode_facts
from actors.coupon import Bill
from actors.coupon_commands import RedeemCoupon
from actors.coupon_facts import CouponRedeemed
from actors.entry import Mark
from actors.pending import Waiting
from actors.replies import Done
from actors.waiting import Known
from tests.core.build import NOW_MS, card, founding, signed, tenant
from tests.core.drive import Drive
from tests.core.till import Till


def away(till: Till) -> Drive:
    """A partition whose facts, those of the till included, have all left memory."""
    drive = Drive()
    drive.do(drive.partition.open(NOW_MS))
    entry = drive.write(encode_facts([*founding(), *till.facts]), 1)
    drive.projected = Mark(entry.epoch, entry.seq, entry.checksum)
    drive.opened()
    return drive


def found(till: Till, wanted: tuple[tuple[str, str, str], ...]) -> dict[str, Any]:
    """Those of the other actors that are there."""
    there = {key: till.residents.actors[key[0]].get(key[2]) for key in wanted}
    return {"others": {key: actor for key, actor in there.items() if actor is not None}}


def redeemed(till: Till, redemption_id: str, at_ms: int, bill: str = "bill") -> tuple[Any, list[set[str]]]:
    """The answer, and the kinds of other actors in each load that it took."""
    drive = away(till)
    drive.now_ms = at_ms
    command = signed(RedeemCoupon("org", "019e0000-0000-7000-8000-000000000000", b"", redemption_id, "b", "card", bill))
    drive.send(("till", command))
    loads: list[set[str]] = []
    while drive.loads:
        request = drive.loads.pop(0).request
        loads.append({kind for kind, _, _ in request.others})
        drive.loaded(
            drive.partition._load_id,
            tenants={"org": tenant()} if request.tenants else {},
            cards={key: card() for key in request.cards},
            **found(till, request.others),
        )
    drive.appended()
    return drive.reply("till"), loads


def test_a_redemption_takes_two_loads() -> None:
    till = Till()
    assert till.define() == till.issue("a", "b") == ""
    reply, loads = redeemed(till, "rdm", NOW_MS)
    assert isinstance(reply, Done)
    assert isinstance(reply.fact, CouponRedeemed)
    assert loads == [{"code"}, {"coupon", "coupon_use", "bill"}]


def test_holds_that_have_lapsed_take_one_more() -> None:
    till = Till()
    assert till.define(uses_max=1) == till.issue("a", "b") == till.redeem("a", "card", "old", hold_ms=10) == ""
    reply, loads = redeemed(till, "rdm", NOW_MS + 10)
    assert isinstance(reply.fact, CouponRedeemed)
    assert loads == [{"code"}, {"coupon", "coupon_use", "bill"}, {"redemption", "code", "bill"}]


def test_who_came_to_be_stays_in_memory_while_a_message_that_waits_believes_them_absent() -> None:
    """Else it would make them a second time, once it goes on."""
    drive = Drive(others_resident_max=0)
    drive.do(drive.partition.open(NOW_MS))
    drive.opened()
    bills = drive.partition.residents.actors["bill"]
    bills["org/bill/b"] = Bill("org", "b", {}, 0)
    command = RedeemCoupon("org", "request", b"", "rdm", "code", "card", "b")
    waiting = Waiting("till", command, drive.now_ms, Known(absent={"org/bill/b"}))
    drive.partition._parked.append(waiting)
    drive.partition._load_retry_ms = NOW_MS + 60_000
    drive.tick()
    assert "org/bill/b" in bills
    drive.partition._parked.clear()
    drive.tick()
    assert not bills
