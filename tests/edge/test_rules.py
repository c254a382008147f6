"""Rules over the API: documents, versions, states, templates; and what check-ins make of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.in_process import System

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
        ({"then": [{"action": "grant_coupon", "coupon_id": "c"}]}, "#/rule/then/0/action"),
        ({"on": "birthday", "when": "true"}, "#/rule/on"),
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
