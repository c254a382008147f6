"""Coupons through the whole edge, engine and projector: what organisers, tills and members see."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.client import AsyncMasterVip
from gateway.render import rfc3339
from tests.edge.in_process import System
from tests.support.serving import serving

TEA = {"type": "item", "text": "A tea"}


async def coupon(system: System, key: str, **terms: Any) -> str:
    made = await system.made("POST", "/v1/coupons", {"name": "Tea", "value": TEA, **terms}, key)
    return str(made["id"])


async def codes(system: System, key: str, coupon_id: str, **which: Any) -> list[str]:
    made = await system.made("POST", f"/v1/coupons/{coupon_id}/codes", which, key)
    return [item["code"] for item in made["items"]]


async def card(system: System, key: str, **fields: Any) -> str:
    return str((await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}, **fields}, key))["id"])


async def redeem(system: System, key: str, code: str, card_id: str, **more: Any) -> Any:
    return await system.call("POST", "/v1/coupons/redeem", {"code": code, "card_id": card_id, **more}, key)


async def test_a_coupon_from_its_definition_to_the_rollback(system: System) -> None:
    key = (await system.open_org())["key"]
    value = {"type": "points", "points": 50}
    coupon_id = await coupon(system, key, value=value, limit_in_all=5, valid_until="2099-01-01T00:00:00Z")
    (code,) = await codes(system, key, coupon_id, count=1)
    card_id = await card(system, key)
    answer = await redeem(system, key, code.lower(), card_id, bill_id="till-1")
    made = answer.json()
    assert (answer.status, made["state"], made["value"], made["ledger_entry"]) == (200, "redeemed", value, 1)
    assert (await system.made("GET", f"/v1/cards/{card_id}/balance", token=key))["balance"] == 50
    seen = await system.made("GET", f"/v1/coupons/{coupon_id}", token=key)
    assert (seen["issued"], seen["redeemed"], seen["on_hold"], seen["limit_in_all"]) == (1, 1, 0, 5)
    back = await system.made("POST", f"/v1/coupons/redemptions/{made['id']}/rollback", {"note": "wrong"}, key)
    assert back["state"] == "rolled_back"
    assert (await system.made("GET", f"/v1/cards/{card_id}/balance", token=key))["balance"] == 0
    assert (await redeem(system, key, code, card_id)).status == 200


async def test_a_hold_is_captured_or_released(system: System) -> None:
    key = (await system.open_org())["key"]
    first, second = await codes(system, key, await coupon(system, key), count=2)
    card_id, until = await card(system, key), rfc3339(system.clock.wall_ms() + 60_000)
    held = (await redeem(system, key, first, card_id, hold_until=until)).json()
    assert (held["state"], held["hold_until"]) == ("on_hold", until)
    assert (await redeem(system, key, first, card_id)).json()["code"] == "coupon_on_hold"
    path = f"/v1/coupons/redemptions/{held['id']}"
    assert (await system.made("POST", f"{path}/capture", token=key))["state"] == "redeemed"
    assert (await system.call("POST", f"{path}/release", token=key)).json()["code"] == "hold_captured"
    other = (await redeem(system, key, second, card_id, hold_until=until)).json()
    released = await system.made("POST", f"/v1/coupons/redemptions/{other['id']}/release", token=key)
    assert released["state"] == "released"
    assert await system.made("GET", f"/v1/coupons/redemptions/{other['id']}", token=key) == released
    assert (await redeem(system, key, second, card_id)).status == 200


async def test_the_redemptions_of_a_coupon_are_listed_by_state_and_card(system: System) -> None:
    key = (await system.open_org())["key"]
    coupon_id, other_id = await coupon(system, key), await coupon(system, key)
    texts, (foreign,) = await codes(system, key, coupon_id, count=5), await codes(system, key, other_id, count=1)
    lan, minh = await card(system, key), await card(system, key)
    until = rfc3339(system.clock.wall_ms() + 60_000)
    done = (await redeem(system, key, texts[0], lan, bill_id="till-1")).json()
    back = (await redeem(system, key, texts[1], minh)).json()
    back = await system.made("POST", f"/v1/coupons/redemptions/{back['id']}/rollback", {"note": "wrong"}, key)
    held = (await redeem(system, key, texts[2], lan, hold_until=until)).json()
    freed = (await redeem(system, key, texts[3], minh, hold_until=until)).json()
    freed = await system.made("POST", f"/v1/coupons/redemptions/{freed['id']}/release", token=key)
    await redeem(system, key, foreign, lan)
    path = f"/v1/coupons/{coupon_id}/redemptions"

    async def listed(query: str = "") -> Any:
        page = await system.made("GET", path + query, token=key)
        assert page["stale"] is False, "what was just confirmed is there"
        return page["items"]

    everything = [freed, held, back, done]
    assert await listed() == everything
    for state, wanted in (("redeemed", [done]), ("rolled_back", [back]), ("on_hold", [held]), ("released", [freed])):
        assert await listed(f"?state={state}") == wanted
    assert await listed("?state=lapsed") == []
    assert await listed(f"?card_id={lan}") == [held, done]
    assert await listed(f"?card_id={minh}&state=released") == [freed]
    first = await system.made("GET", f"{path}?limit=3", token=key)
    second = await system.made("GET", f"{path}?limit=3&cursor={first['next_cursor']}", token=key)
    assert (first["items"] + second["items"], second["next_cursor"]) == (everything, None)
    async with serving(system.app) as server, AsyncMasterVip(f"http://127.0.0.1:{server.port}", key) as vip:
        assert [item async for item in vip.coupons.redemptions(coupon_id)] == everything
        found = vip.coupons.redemptions(coupon_id, state="on_hold", card_id=lan)
        assert [item async for item in found] == [held]
    # A cursor is good for the list that it comes from.
    for query in ("&state=redeemed", f"&card_id={lan}"):
        answer = await system.call("GET", f"{path}?cursor={first['next_cursor']}{query}", None, key)
        assert answer.status == 400
    assert (await system.call("GET", f"{path}?state=eaten", None, key)).status == 400
    unknown = await system.call("GET", "/v1/coupons/cpn_none/redemptions", None, key)
    assert (unknown.status, unknown.json()["code"]) == (404, "coupon_unknown")


async def test_a_hold_whose_time_is_over_is_listed_as_lapsed(system: System) -> None:
    key = (await system.open_org())["key"]
    coupon_id, card_id = await coupon(system, key), await card(system, key)
    (code,) = await codes(system, key, coupon_id, count=1)
    until = rfc3339(system.clock.wall_ms() + 60_000)
    held = (await redeem(system, key, code, card_id, hold_until=until)).json()
    path = f"/v1/coupons/{coupon_id}/redemptions"
    await system.made("GET", path, token=key)  # projected
    await system.parts.pool.execute("UPDATE coupon_redemptions SET hold_until_ms = 1000")
    (item,) = (await system.made("GET", f"{path}?state=lapsed", token=key))["items"]
    assert (item["id"], item["state"], item["at"]) == (held["id"], "lapsed", "1970-01-01T00:00:01.000Z")
    assert (await system.made("GET", f"{path}?state=on_hold", token=key))["items"] == []


async def test_the_same_request_gives_the_same_codes_and_another_id_others(system: System) -> None:
    key = (await system.open_org())["key"]
    path = f"/v1/coupons/{await coupon(system, key)}/codes"
    first = await system.call("POST", path, {"count": 3}, key, key="issue-1")
    again = await system.call("POST", path, {"count": 3}, key, key="issue-1")
    other = await system.call("POST", path, {"count": 3}, key, key="issue-2")
    assert first.json() == again.json()
    assert (again.json()["issued"], other.json()["issued"]) == (3, 6)
    texts = {item["code"] for answer in (first, other) for item in answer.json()["items"]}
    assert len(texts) == 6
    reused = await system.call("POST", path, {"count": 4}, key, key="issue-1")
    assert (reused.status, reused.json()["code"]) == (422, "id_reused")


async def test_a_thousand_codes_in_one_request(system: System) -> None:
    key = (await system.open_org())["key"]
    coupon_id = await coupon(system, key)
    assert len(set(await codes(system, key, coupon_id, count=1_000))) == 1_000
    page = await system.made("GET", f"/v1/coupons/{coupon_id}/codes?limit=500", token=key)
    rest = await system.made("GET", f"/v1/coupons/{coupon_id}/codes?limit=500&cursor={page['next_cursor']}", token=key)
    assert len({item["id"] for item in page["items"] + rest["items"]}) == 1_000
    assert rest["next_cursor"] is None


async def test_who_sees_how_much_of_a_code(system: System) -> None:
    org = await system.open_org()
    key, coupon_id = org["key"], await coupon(system, org["key"])
    member = await system.made("POST", "/v1/members", {"name": "Lan"}, key)
    own = await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    other = await card(system, key)
    mine, theirs = await codes(system, key, coupon_id, card_ids=[own["id"], other])
    staff = (await system.signed_in("staff", org["id"]))["access_token"]
    hunter = (await system.signed_in("member", org["id"], member["id"]))["access_token"]
    listed = f"/v1/coupons/{coupon_id}/codes"
    seen = {item["code"] for item in (await system.made("GET", listed, token=key))["items"]}
    assert seen == {mine, theirs}
    page = (await system.made("GET", listed, token=staff))["items"]
    assert [(item["code"], item["tail"]) for item in page] == [(None, theirs[-4:]), (None, mine[-4:])]
    (held,) = (await system.made("GET", f"/v1/cards/{own['id']}/coupons", token=hunter))["items"]
    assert (held["code"], held["coupon_name"], held["state"]) == (mine, "Tea", "issued")
    foreign = await system.call("GET", f"/v1/cards/{other}/coupons", token=hunter)
    assert (foreign.status, foreign.json()["code"]) == (404, "card_unknown")
    assert (await redeem(system, key, mine, other)).json()["code"] == "coupon_not_for_card"


async def test_no_code_stands_in_postgres(system: System) -> None:
    key = (await system.open_org())["key"]
    (code,) = await codes(system, key, await coupon(system, key), count=1)
    await system.made("GET", "/v1/coupons", token=key)
    rows = await system.parts.pool.fetch("SELECT t::text FROM coupon_codes t")
    entries = await system.parts.pool.fetch("SELECT payload FROM journal_entries")
    plain = code.replace("-", "")
    assert rows
    assert not any(text in row[0] for row in rows for text in (code, plain))
    assert not any(text.encode() in row[0] for row in entries for text in (code, plain))


async def test_a_shared_code_is_each_organisations_own(system: System) -> None:
    keys = [(await system.open_org())["key"] for _ in range(2)]
    for key in keys:
        await coupon(system, key, shared_code="Summer26", limit_per_card=1)
        card_id = await card(system, key)
        assert (await redeem(system, key, "summer26", card_id)).status == 200
        assert (await redeem(system, key, "SUMMER26", card_id)).json()["code"] == "coupon_card_limit_reached"
    taken = await system.call("POST", "/v1/coupons", {"name": "Tea", "value": TEA, "shared_code": "SUMMER26"}, keys[0])
    assert (taken.status, taken.json()["code"]) == (409, "code_taken")


async def test_a_foreign_organisations_coupon_is_as_absent_as_none(system: System) -> None:
    key, stranger = [(await system.open_org())["key"] for _ in range(2)]
    coupon_id = await coupon(system, key)
    (code,) = await codes(system, key, coupon_id, count=1)
    held = (await redeem(system, key, code, await card(system, key))).json()
    theirs = await card(system, stranger)
    assert (await redeem(system, stranger, code, theirs)).json()["code"] == "coupon_unknown"
    for method, path in (
        ("GET", f"/v1/coupons/{coupon_id}"),
        ("PATCH", f"/v1/coupons/{coupon_id}"),
        ("POST", f"/v1/coupons/redemptions/{held['id']}/rollback"),
    ):
        answer = await system.call(method, path, {"name": "x"} if method == "PATCH" else None, stranger)
        assert answer.status == 404
        assert answer.json()["code"].endswith("_unknown")


async def test_a_till_asks_what_became_of_a_redemption(system: System) -> None:
    key, other = (await system.open_org())["key"], (await system.open_org())["key"]
    (code,) = await codes(system, key, await coupon(system, key), count=1)
    until_ms = system.clock.wall_ms() + 60_000
    held = (await redeem(system, key, code, await card(system, key), hold_until=rfc3339(until_ms))).json()
    path = f"/v1/coupons/redemptions/{held['id']}"
    assert await system.made("GET", path, token=key) == held
    system.clock.ahead_ms += 60_000
    seen = await system.made("GET", path, token=key)
    assert seen == {**held, "state": "lapsed", "at": rfc3339(until_ms)}, "whether that is posted yet or not"
    for unknown, token in ((path, other), ("/v1/coupons/redemptions/rdm_none", key)):
        answer = await system.call("GET", unknown, token=token)
        assert (answer.status, answer.json()["code"]) == (404, "redemption_unknown")


async def test_bounds_of_time_are_taken_away_by_null(system: System) -> None:
    key = (await system.open_org())["key"]
    bounds = {"valid_from": "2098-01-01T00:00:00.000Z", "valid_until": "2099-01-01T00:00:00.000Z"}
    coupon_id = await coupon(system, key, **bounds)
    path = f"/v1/coupons/{coupon_id}"
    (code,), card_id = await codes(system, key, coupon_id, count=1), await card(system, key)
    assert (await redeem(system, key, code, card_id)).json()["code"] == "coupon_not_started"
    changed = await system.made("PATCH", path, {"name": "Still"}, key)
    assert {name: changed[name] for name in bounds} == bounds, "what is left out stays"
    changed = await system.made("PATCH", path, {"valid_from": None}, key)
    assert (changed["valid_from"], changed["valid_until"]) == (None, bounds["valid_until"])
    assert (await redeem(system, key, code, card_id)).status == 200
    assert (await system.made("PATCH", path, {"valid_until": None}, key))["valid_until"] is None


async def test_a_change_under_a_condition(system: System) -> None:
    key = (await system.open_org())["key"]
    path = f"/v1/coupons/{await coupon(system, key)}"
    tag = (await system.call("GET", path, token=key)).headers["etag"]
    assert (await system.call("GET", path, token=key, **{"If-None-Match": tag})).status == 304
    changed = await system.call("PATCH", path, {"limit_per_day": 3}, key, **{"If-Match": tag})
    assert (changed.status, changed.json()["limit_per_day"]) == (200, 3)
    late = await system.call("PATCH", path, {"state": "ended"}, key, **{"If-Match": tag})
    assert (late.status, late.json()["code"]) == (412, "precondition_failed")
    after = (await system.call("GET", path, token=key)).headers["etag"]
    assert changed.headers["etag"] == after != tag


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"value": {"type": "points", "points": 0}}, "#/value/points"),
        ({"value": {"type": "percent", "percent": 101}}, "#/value/percent"),
        ({"value": {"type": "gold"}}, "#/value/type"),
        ({"value": {"type": "points", "vnd": 5}}, "#/value"),
        ({"value": {"type": "amount", "vnd": 5, "cap_vnd": 5}}, "#/value"),
        ({"limit_in_all": -1}, "#/limit_in_all"),
        ({"shared_code": "no!"}, "#/shared_code"),
        ({"tiers": ["wood"]}, "#/tiers/0"),
        ({"group": "a b"}, "#/group"),
    ],
)
async def test_a_bad_definition_names_its_field(system: System, body: dict[str, Any], pointer: str) -> None:
    key = (await system.open_org())["key"]
    answer = await system.call("POST", "/v1/coupons", {"name": "Tea", "value": TEA, **body}, key)
    assert (answer.status, answer.json()["code"]) == (400, "malformed")
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_a_mistyped_code_is_unknown_without_the_engine(system: System) -> None:
    key = (await system.open_org())["key"]
    (code,) = await codes(system, key, await coupon(system, key), count=1)
    wrong = code[:-1] + ("2" if code[-1] != "2" else "3")
    answer = await redeem(system, key, wrong, await card(system, key))
    assert (answer.status, answer.json()["code"]) == (404, "coupon_unknown")


async def test_what_is_asked_of_coupons_is_in_the_log_without_the_codes(system: System) -> None:
    org = await system.open_org()
    coupon_id = await coupon(system, org["key"])
    texts = await codes(system, org["key"], coupon_id, count=2)
    admin = (await system.signed_in("org_admin", org["id"]))["access_token"]
    page = await system.call("GET", f"/v1/orgs/{org['id']}/audit-log", token=admin)
    lines = {item["action"]: item for item in page.json()["items"]}
    assert lines["coupons.issue"]["target"] == lines["coupons.manage"]["target"] == coupon_id
    assert lines["coupons.issue"]["detail"]["count"] == 2
    assert not any(text.encode() in page.body for text in texts)
