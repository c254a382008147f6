"""Coupons that rules grant, through edge, engine and projector: saved, granted, listed, redeemed, withdrawn."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.client import AsyncMasterVip
from gateway.render import rfc3339
from tests.edge.in_process import System
from tests.support.serving import serving

CAKE = {"name": "Cake", "value": {"type": "amount", "vnd": 50_000}}


@pytest.fixture
async def key(system: System) -> str:
    return str((await system.open_org())["key"])


async def coupon(system: System, key: str, **terms: Any) -> str:
    return str((await system.made("POST", "/v1/coupons", CAKE | terms, key))["id"])


async def card(system: System, key: str, **fields: Any) -> Any:
    return await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}, **fields}, key)


async def save(system: System, key: str, coupon_id: str, on: str = "checkin", **more: Any) -> Any:
    then = [{"action": "grant_coupon", "coupon_id": coupon_id}]
    rule = {"name": "Gift", "on": on, "then": then, "state": "active"} | more
    return await system.call("POST", "/v1/rules", {"rule": rule}, key)


async def check_in(system: System, key: str, scanned: Any) -> str:
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 9}, key)
    body = {"event_id": event["id"], "credential": scanned["credential"]}
    answer = await system.made("POST", "/v1/checkins", body, key)
    assert answer["verdict"] == "admitted"
    return f"/v1/events/{event['id']}/checkins/{answer['scan_id']}/annul"


async def granted(system: System, key: str, card_id: str) -> list[Any]:
    page = await system.made("GET", f"/v1/cards/{card_id}/coupons", token=key)
    assert not page["stale"]
    return [one for one in page["items"] if one["is_granted"]]


async def redeem(system: System, key: str, card_id: str, grant_id: str, **body: Any) -> Any:
    return await system.call("POST", f"/v1/cards/{card_id}/coupons/{grant_id}/redeem", body, key)


async def test_a_check_in_grants_and_the_card_redeems(system: System, key: str) -> None:
    coupon_id = await coupon(system, key)
    assert (await save(system, key, coupon_id)).status == 201
    lan, minh = await card(system, key), await card(system, key)
    await check_in(system, key, lan)
    (one,) = await granted(system, key, lan["id"])
    assert (one["coupon_id"], one["coupon_name"], one["card_id"]) == (coupon_id, "Cake", lan["id"])
    assert (one["state"], one["tail"], one["code"]) == ("issued", "", None)
    stolen = await redeem(system, key, minh["id"], one["id"])
    assert (stolen.status, stolen.json()["code"]) == (409, "coupon_not_for_card")
    until = rfc3339(system.clock.wall_ms() + 60_000)
    held = (await redeem(system, key, lan["id"], one["id"], hold_until=until, bill_id="till-1")).json()
    assert held["state"] == "on_hold"
    await system.made("POST", f"/v1/coupons/redemptions/{held['id']}/capture", token=key)
    assert (await redeem(system, key, lan["id"], one["id"])).json()["code"] == "coupon_already_used"
    assert [one["state"] for one in await granted(system, key, lan["id"])] == ["redeemed"]
    seen = await system.made("GET", f"/v1/coupons/{coupon_id}", token=key)
    assert (seen["issued"], seen["redeemed"]) == (1, 1)
    assert (await system.made("GET", f"/v1/coupons/{coupon_id}/codes", token=key))["items"][0]["is_granted"]


async def test_what_is_annulled_is_withdrawn_and_its_place_is_free(system: System, key: str) -> None:
    coupon_id = await coupon(system, key, limit_in_all=1)
    await save(system, key, coupon_id)
    lan, minh = await card(system, key), await card(system, key)
    annul = await check_in(system, key, lan)
    (one,) = await granted(system, key, lan["id"])
    await system.made("POST", annul, {}, key)
    assert [one["state"] for one in await granted(system, key, lan["id"])] == ["withdrawn"]
    gone = await redeem(system, key, lan["id"], one["id"])
    assert (gone.status, gone.json()["code"]) == (409, "coupon_withdrawn")
    await check_in(system, key, minh)
    assert [one["state"] for one in await granted(system, key, minh["id"])] == ["issued"]


async def test_what_cannot_be_granted_is_told_and_the_check_in_stands(system: System, key: str) -> None:
    coupon_id = await coupon(system, key, limit_in_all=1)
    rule = (await save(system, key, coupon_id)).json()
    lan, minh = await card(system, key), await card(system, key)
    await check_in(system, key, lan)
    await check_in(system, key, minh)
    assert await granted(system, key, minh["id"]) == []
    failed = (await system.made("GET", f"/v1/rules/{rule['id']}", token=key))["last_failure"]
    assert (failed["where"], failed["reason"]) == ("then", "coupon_limit_reached")


@pytest.mark.parametrize("terms", [{}, {"shared_code": "CAKE1"}])
async def test_which_coupons_rules_cannot_grant(system: System, key: str, terms: dict[str, Any]) -> None:
    coupon_id = await coupon(system, key, **terms)
    if not terms:
        await system.made("PATCH", f"/v1/coupons/{coupon_id}", {"state": "ended"}, key)
    answer = await save(system, key, coupon_id)
    (error,) = answer.json()["errors"]
    assert (answer.status, error["pointer"]) == (400, "#/rule/then/0/coupon_id")
    body = {"rule": {"name": "G", "on": "top_up", "then": [{"action": "grant_coupon", "coupon_id": coupon_id}]}}
    simulated = await system.call("POST", "/v1/rules:simulate", body, key)
    assert (simulated.status, simulated.json()["errors"]) == (400, [error])


async def test_another_organisations_coupon_is_no_coupon(system: System, key: str) -> None:
    foreign = await coupon(system, (await system.open_org())["key"])
    theirs, none = await save(system, key, foreign), await save(system, key, "cpn_none")
    (their_error,), (error,) = theirs.json()["errors"], none.json()["errors"]
    assert theirs.status == none.status == 400
    assert their_error == error | {"detail": error["detail"].replace("cpn_none", foreign)}


async def test_a_rule_whose_coupon_has_ended_can_still_be_paused(system: System, key: str) -> None:
    coupon_id = await coupon(system, key)
    rule = (await save(system, key, coupon_id)).json()
    await system.made("PATCH", f"/v1/coupons/{coupon_id}", {"state": "ended"}, key)
    paused = await system.made("POST", f"/v1/rules/{rule['id']}/state", {"state": "paused"}, key)
    assert paused["rule"]["state"] == "paused"


async def test_a_grant_is_no_code_and_a_code_is_no_grant(system: System, key: str) -> None:
    coupon_id = await coupon(system, key)
    await save(system, key, coupon_id)
    lan = await card(system, key)
    await check_in(system, key, lan)
    (one,) = await granted(system, key, lan["id"])
    body = {"code": one["id"], "card_id": lan["id"]}
    typed = await system.call("POST", "/v1/coupons/redeem", body, key)
    assert (typed.status, typed.json()["errors"][0]["pointer"]) == (400, "#/code")
    issued = (await system.made("POST", f"/v1/coupons/{coupon_id}/codes", {"count": 1}, key))["items"][0]
    by_id = await redeem(system, key, lan["id"], issued["id"])
    none = await redeem(system, key, lan["id"], "grant_none")
    assert (by_id.status, by_id.json()["code"]) == (none.status, none.json()["code"]) == (404, "coupon_unknown")


@pytest.mark.parametrize("template", ["birthday_coupon", "every_tenth_visit", "gold_welcome"])
async def test_templates_that_grant_can_be_saved(system: System, key: str, template: str) -> None:
    values = {"coupon": await coupon(system, key)}
    filled = await system.made("POST", f"/v1/rules/templates/{template}/fill", {"values": values}, key)
    await system.made("POST", "/v1/rules", {"rule": filled["rule"]}, key)


async def test_a_simulation_shows_what_grants_would_cost(system: System, key: str) -> None:
    coupon_id = await coupon(system, key, limit_in_all=5)
    then = [{"action": "grant_coupon", "coupon_id": coupon_id}]
    moments = [{"at": f"2026-05-2{day}T10:00:00Z"} for day in range(3)]
    body = {"rule": {"name": "Gift", "on": "checkin", "then": then}, "moments": moments}
    report = await system.made("POST", "/v1/rules:simulate", body, key)
    assert (report["coupons"], report["rules"][0]["coupons"], report["days"][0]["coupons"]) == (3, 3, 1)
    cost = {"granted": 3, "left": 5, "points": 0, "vnd": 150_000}
    assert report["granted"] == [{"coupon_id": coupon_id, "name": "Cake", **cost}]
    assert (await system.made("GET", f"/v1/coupons/{coupon_id}", token=key))["issued"] == 0


async def test_the_client_redeems_what_was_granted(system: System, key: str) -> None:
    await save(system, key, await coupon(system, key), on="top_up")
    lan = await card(system, key)
    async with serving(system.app) as server, AsyncMasterVip(f"http://127.0.0.1:{server.port}", key) as vip:
        await system.made("POST", f"/v1/cards/{lan['id']}/wallet/top-up", {"amount": 9}, key)
        (one,) = [one async for one in vip.coupons.of_card(lan["id"])]
        done = await vip.coupons.redeem_granted(lan["id"], one["id"], bill_id="till")
        assert (done["state"], done["card_id"]) == ("redeemed", lan["id"])
