"""Rules over the API: documents, versions, states, templates; and what check-ins make of them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.client import AsyncMasterVip
from tests.edge.in_process import System
from tests.support.serving import serving

WELCOME: dict[str, Any] = {
    "name": "Welcome",
    "on": "checkin",
    "when": "counts.visits_event == 1",
    "then": [{"action": "award_points", "points": 5}],
    "limits": {"points_budget": 12},
    "state": "active",
}


@pytest.fixture
async def org(system: System) -> Any:
    return await system.open_org()


async def test_a_rule_is_made_seen_changed_and_deleted(system: System, org: Any) -> None:
    key = org["key"]
    made = await system.call("POST", "/v1/rules", {"rule": WELCOME}, key, key="one")
    assert made.status == 201, made.body
    rule = made.json()
    assert rule["version"] == 1
    assert rule["rule"] == WELCOME
    assert rule["last_failure"] is None
    again = await system.call("POST", "/v1/rules", {"rule": WELCOME}, key, key="one")
    assert again.json() == rule
    path = f"/v1/rules/{rule['id']}"
    assert (await system.made("GET", path, token=key)) == rule
    changed = await system.made("PUT", path, {"rule": WELCOME | {"name": "Hello"}}, key)
    assert (changed["version"], changed["rule"]["name"]) == (2, "Hello")
    paused = await system.made("POST", f"{path}/state", {"state": "paused"}, key)
    assert (paused["version"], paused["rule"]["state"]) == (3, "paused")
    assert [one["id"] for one in (await system.made("GET", "/v1/rules", token=key))["items"]] == [rule["id"]]
    assert (await system.call("DELETE", path, None, key)).status == 204
    gone = await system.call("GET", path, None, key)
    assert (gone.status, gone.json()["code"]) == (404, "rule_unknown")
    assert (await system.call("DELETE", path, None, key)).json()["code"] == "rule_unknown"


async def test_what_is_wrong_is_told_with_pointer_line_and_column(system: System, org: Any) -> None:
    wrong = WELCOME | {"when": "counts.visits_event ==\n 'x'", "priority": "high"}
    answer = await system.call("POST", "/v1/rules", {"rule": wrong}, org["key"])
    assert answer.status == 400
    errors = {error["pointer"]: error["detail"] for error in answer.json()["errors"]}
    assert set(errors) == {"#/rule/when", "#/rule/priority"}
    assert "line" in errors["#/rule/when"]
    assert "column" in errors["#/rule/when"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"then": [{"action": "set_tier", "tier": "paper"}]}, "#/rule/then/0/tier"),
        ({"then": [{"action": "grant_coupon", "coupon_id": "c"}]}, "#/rule/then/0/coupon_id"),
    ],
)
async def test_what_is_not_possible_here_is_told(
    system: System, org: Any, change: dict[str, Any], pointer: str
) -> None:
    answer = await system.call("POST", "/v1/rules", {"rule": WELCOME | change}, org["key"])
    assert (answer.status, [error["pointer"] for error in answer.json()["errors"]]) == (400, [pointer])


async def test_an_edit_of_what_has_changed_is_refused(system: System, org: Any) -> None:
    key = org["key"]
    made = await system.call("POST", "/v1/rules", {"rule": WELCOME}, key)
    tag, path = made.headers["etag"], f"/v1/rules/{made.json()['id']}"
    await system.made("PUT", path, {"rule": WELCOME | {"name": "Hello"}}, key)
    late = await system.call("PUT", path, {"rule": WELCOME}, key, **{"If-Match": tag})
    assert (late.status, late.json()["code"]) == (412, "precondition_failed")


async def test_rules_give_points_within_their_budget(system: System, org: Any) -> None:
    key = org["key"]
    rule = await system.made("POST", "/v1/rules", {"rule": WELCOME}, key)
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 10}, key)
    given = []
    for name in ("Lan", "Minh", "Hoa"):
        card = await system.made("POST", "/v1/cards", {"member": {"name": name}}, key)
        body = {"event_id": event["id"], "credential": card["credential"]}
        given.append((await system.made("POST", "/v1/checkins", body, key))["points"]["awarded"])
    assert given[0] - given[2] == 5
    assert given[0] == given[1]
    assert (await system.made("GET", f"/v1/rules/{rule['id']}", token=key))["points_given"] == 10


async def test_a_coupons_use_moves_rules_until_it_is_rolled_back(system: System, org: Any) -> None:
    key = org["key"]
    coupon = {"name": "Tea", "value": {"type": "points", "points": 20}, "shared_code": "FREETEA"}
    coupon_id = (await system.made("POST", "/v1/coupons", coupon, key))["id"]
    values = {"coupon": coupon_id, "points": 7}
    filled = await system.made("POST", "/v1/rules/templates/coupon_thanks/fill", {"values": values}, key)
    rule = await system.made("POST", "/v1/rules", {"rule": filled["rule"] | {"state": "active"}}, key)
    card_id = (await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}}, key))["id"]
    used = await system.made("POST", "/v1/coupons/redeem", {"code": "FREETEA", "card_id": card_id}, key)
    assert (await system.made("GET", f"/v1/cards/{card_id}/balance", token=key))["balance"] == 27
    assert (await system.made("GET", f"/v1/rules/{rule['id']}", token=key))["points_given"] == 7
    await system.made("POST", f"/v1/coupons/redemptions/{used['id']}/rollback", {}, key)
    assert (await system.made("GET", f"/v1/cards/{card_id}/balance", token=key))["balance"] == 0
    assert (await system.made("GET", f"/v1/rules/{rule['id']}", token=key))["points_given"] == 0


async def test_templates_are_filled_and_taken(system: System, org: Any) -> None:
    key = org["key"]
    listed = (await system.made("GET", "/v1/rules/templates", token=key))["items"]
    assert len(listed) >= 20
    filled = await system.made("POST", f"/v1/rules/templates/{listed[0]['id']}/fill", {"values": {}}, key)
    assert filled["rule"]["name"]
    wrong = await system.call("POST", f"/v1/rules/templates/{listed[0]['id']}/fill", {"values": {"nothing": 1}}, key)
    assert (wrong.status, wrong.json()["errors"][0]["pointer"]) == (400, "#/values/nothing")
    absent = await system.call("POST", "/v1/rules/templates/none/fill", {"values": {}}, key)
    assert (absent.status, absent.json()["code"]) == (404, "template_unknown")


async def test_how_a_rule_failed_is_shown(system: System, org: Any) -> None:
    key = org["key"]
    broken = WELCOME | {"when": "member.attributes.vip == 'yes'"}
    rule = await system.made("POST", "/v1/rules", {"rule": broken}, key)
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 9}, key)
    for number in range(2):
        card = await system.made("POST", "/v1/cards", {"member": {"name": f"Guest {number}"}, "tier": "gold"}, key)
        body = {"event_id": event["id"], "credential": card["credential"]}
        assert (await system.made("POST", "/v1/checkins", body, key))["verdict"] == "admitted"
    failed = (await system.made("GET", f"/v1/rules/{rule['id']}", token=key))["last_failure"]
    assert failed | {"at": ""} == {"version": 1, "at": "", "where": "when", "reason": "key_missing"}
    (shown,) = (await system.made("GET", "/v1/rules", token=key))["items"]
    assert shown["last_failure"] == failed


async def test_every_version_stays_readable(system: System, org: Any) -> None:
    key = org["key"]
    rule = await system.made("POST", "/v1/rules", {"rule": WELCOME}, key)
    path = f"/v1/rules/{rule['id']}"
    await system.made("PUT", path, {"rule": WELCOME | {"name": "Hello"}}, key)
    await system.made("POST", path + "/state", {"state": "paused"}, key)
    page = await system.made("GET", path + "/versions?limit=2", token=key)
    assert [(one["version"], one["rule"]["name"], one["rule"]["state"]) for one in page["items"]] == [
        (3, "Hello", "paused"),
        (2, "Hello", "active"),
    ]
    rest = await system.made("GET", f"{path}/versions?cursor={page['next_cursor']}", token=key)
    assert [one["version"] for one in rest["items"]] == [1]
    await system.call("DELETE", path, None, key)
    first = await system.made("GET", path + "/versions/1", token=key)
    assert first["rule"] == WELCOME, "also of a rule that is gone"
    for unknown in (path + "/versions/4", "/v1/rules/rule_none/versions", "/v1/rules/rule_none/versions/1"):
        answer = await system.call("GET", unknown, token=key)
        assert (answer.status, answer.json()["code"]) == (404, "rule_unknown"), unknown


async def test_a_rule_is_deleted_only_as_it_was_seen(system: System, org: Any) -> None:
    key = org["key"]
    path = f"/v1/rules/{(await system.made('POST', '/v1/rules', {'rule': WELCOME}, key))['id']}"
    seen = (await system.call("GET", path, token=key)).headers["etag"]
    await system.made("PUT", path, {"rule": WELCOME | {"name": "Hello"}}, key)
    refused = await system.call("DELETE", path, None, key, **{"If-Match": seen})
    assert (refused.status, refused.json()["code"]) == (412, "precondition_failed")
    now = (await system.call("GET", path, token=key)).headers["etag"]
    assert (await system.call("DELETE", path, None, key, **{"If-Match": now})).status == 204


async def test_the_client_has_all_of_it(system: System, org: Any) -> None:
    async with serving(system.app) as server, AsyncMasterVip(f"http://127.0.0.1:{server.port}", org["key"]) as vip:
        assert "card_welcome" in [template["id"] async for template in vip.rules.templates()]
        document = await vip.rules.fill("card_welcome", points=25)
        rule = await vip.rules.make(document)
        assert [one["id"] async for one in vip.rules.all()] == [rule["id"]]
        seen = await vip.rules.get(rule["id"])
        assert (await vip.rules.set_state(rule["id"], "paused", if_match=seen.etag))["version"] == 2
        assert (await vip.rules.change(rule["id"], document))["version"] == 3
        assert [one["version"] async for one in vip.rules.versions(rule["id"])] == [3, 2, 1]
        assert (await vip.rules.version(rule["id"], 1))["rule"]["name"] == document["name"]
        assert "on" in (await vip.rules.schema())["properties"]
        past = await vip.rules.simulate(document, rule_id=rule["id"])
        assert (past["moments"], past["span"]["complete"]) == (0, True)
        moments = [{"at": "2026-05-19T18:00:00Z"}]
        assert (await vip.rules.simulate(document, moments=moments))["points"] == 25
        await vip.rules.delete(rule["id"])
        assert [one async for one in vip.rules.all()] == []
