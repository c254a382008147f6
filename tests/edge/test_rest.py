"""The ordinary routes on the whole engine: what they create, that a retry finds it again, and what they refuse."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.edge.in_process import SUPERADMIN_TOKEN, System

# --- organisations ----------------------------------------------------------------------------------------------------


async def test_an_organisation_and_its_first_key(system: System) -> None:
    body = {"name": "High Table", "time_zone": "Asia/Ho_Chi_Minh", "overdraft_max": 5}
    first = await system.call("POST", "/v1/orgs", body, SUPERADMIN_TOKEN, key="make-1")
    again = await system.call("POST", "/v1/orgs", body, SUPERADMIN_TOKEN, key="make-1")
    other = await system.call("POST", "/v1/orgs", body | {"name": "Else"}, SUPERADMIN_TOKEN, key="make-1")
    assert first.status == 201
    assert again.json() == first.json(), "the same organisation with the same key"
    assert (other.status, other.json()["code"]) == (422, "id_reused")
    org = first.json()
    assert org["id"].startswith("org_")
    assert (org["checkin_points"], org["overdraft_max"], org["time_zone"]) == (10, 5, "Asia/Ho_Chi_Minh")
    key = org["api_key"]["key"]
    assert (await system.made("GET", f"/v1/orgs/{org['id']}", token=key))["name"] == "High Table"
    changed = await system.made("PATCH", f"/v1/orgs/{org['id']}", {"checkin_points": 25}, key)
    assert (changed["checkin_points"], changed["name"]) == (25, "High Table")


async def test_only_the_superadmin_opens_organisations(system: System) -> None:
    org = await system.open_org()
    assert (await system.call("POST", "/v1/orgs", {"name": "x"}, org["key"])).status == 403
    assert (await system.call("POST", "/v1/orgs", {"name": "x"}, "mvs_guess")).status == 401
    assert (await system.call("POST", "/v1/orgs", {"name": "x"})).status == 401
    assert (await system.call("POST", "/v1/members", {"name": "x"}, SUPERADMIN_TOKEN)).status == 403


async def test_api_keys(system: System) -> None:
    org = await system.open_org()
    path = f"/v1/orgs/{org['id']}/api-keys"
    made = await system.call("POST", path, {"name": "Till", "scopes": ["read"]}, org["key"], key="k1")
    assert made.status == 201
    assert (
        await system.call("POST", path, {"name": "Till", "scopes": ["read"]}, org["key"], key="k1")
    ).json() == made.json()
    assert (await system.call("POST", path, {"name": "Bar", "scopes": ["read"]}, org["key"], key="k1")).status == 422
    reader = made.json()["key"]
    assert (await system.call("GET", f"/v1/orgs/{org['id']}", token=reader)).status == 200
    assert (await system.call("POST", "/v1/members", {"name": "x"}, reader)).status == 403
    assert (await system.call("DELETE", f"{path}/{made.json()['id']}", token=org["key"])).status == 204
    assert (await system.call("GET", f"/v1/orgs/{org['id']}", token=reader)).status == 401
    assert (await system.call("DELETE", f"{path}/{made.json()['id']}", token=org["key"])).status == 404


# --- members and cards ------------------------------------------------------------------------------------------------


async def test_members(system: System) -> None:
    key = (await system.open_org())["key"]
    body = {"name": "Ánh 👩‍🚀", "email": "anh@example.org"}
    made = await system.call("POST", "/v1/members", body, key, key="m1")
    assert made.status == 201
    assert (await system.call("POST", "/v1/members", body, key, key="m1")).json() == made.json()
    assert (await system.call("POST", "/v1/members", body | {"name": "B"}, key, key="m1")).status == 422
    assert await system.made("GET", f"/v1/members/{made.json()['id']}", token=key) == made.json()
    assert (await system.call("GET", "/v1/members/mem_none", token=key)).json()["code"] == "member_unknown"


async def test_a_card_and_its_credential(system: System) -> None:
    org = await system.open_org()
    key = org["key"]
    body = {"member": {"name": "Ann"}, "tier": "gold", "valid_until": "2099-01-01T00:00:00Z"}
    made = await system.call("POST", "/v1/cards", body, key, key="c1")
    assert made.status == 201, made.body
    card = made.json()
    assert (await system.call("POST", "/v1/cards", body, key, key="c1")).json() == card
    assert (await system.call("POST", "/v1/cards", body | {"tier": "silver"}, key, key="c1")).status == 422
    claims = system.book.verify(card["credential"])
    assert claims is not None
    assert (claims.tenant_id, claims.card_id, claims.tier) == (org["id"], card["id"], "gold")
    shown = await system.made("GET", f"/v1/cards/{card['id']}", token=key)
    assert shown == {
        name: card[name] for name in ("id", "member", "tier", "state", "valid_from", "valid_until", "number")
    } | {
        "serial": 0,
        "tag_uid": None,
        "visits": dict.fromkeys(("ever", "today", "this_week", "this_month", "streak", "best_streak"), 0),
    }
    path = f"/v1/cards/{card['id']}/credential"
    assert system.book.verify((await system.made("GET", path, token=key))["credential"]) is not None
    for form, media_type, start in (
        ("text", "text/plain; charset=utf-8", b"MV1:"),
        ("png", "image/png", b"\x89PNG"),
        ("svg", "image/svg+xml", b"<?xml"),
        ("ndef", "application/vnd.ndef", b"\xd1\x01"),
    ):
        answer = await system.call("GET", f"{path}?format={form}", token=key)
        assert (answer.status, answer.headers["content-type"]) == (200, media_type)
        assert answer.body.startswith(start)
    assert (await system.call("GET", f"{path}?format=gif", token=key)).status == 400


async def test_a_card_for_a_member_who_is_there(system: System) -> None:
    key = (await system.open_org())["key"]
    member = await system.made("POST", "/v1/members", {"name": "Ann"}, key)
    card = await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    assert card["member"] == {"id": member["id"], "name": "Ann"}
    assert (await system.call("POST", "/v1/cards", {"member_id": "mem_none"}, key)).json()["code"] == "member_unknown"
    for body in ({}, {"member_id": member["id"], "member": {"name": "x"}}):
        assert (await system.call("POST", "/v1/cards", body, key)).status == 400


async def test_a_batch_of_cards(system: System) -> None:
    key = (await system.open_org())["key"]
    items: list[Any] = [{"member": {"name": f"M{number}"}, "tier": "silver"} for number in range(50)]
    items[7] = {"member_id": "mem_none"}
    answer = await system.call("POST", "/v1/cards:batch", {"items": items}, key, key="b1")
    results = answer.json()["items"]
    assert [result["status"] for result in results] == [404 if number == 7 else 201 for number in range(50)]
    assert results[7]["problem"]["code"] == "member_unknown"
    assert results[49]["card"]["member"]["name"] == "M49"
    again = await system.call("POST", "/v1/cards:batch", {"items": items}, key, key="b1")
    assert again.json() == answer.json()
    too_many = await system.call("POST", "/v1/cards:batch", {"items": [items[0]] * 1_001}, key)
    assert too_many.status == 400


async def test_card_states(system: System) -> None:
    key = (await system.open_org())["key"]
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Ann"}}, key)
    path = f"/v1/cards/{card['id']}"
    assert (await system.made("POST", path + "/suspend", {"note": "lost"}, key))["state"] == "suspended"
    assert (await system.made("POST", path + "/resume", None, key))["state"] == "active"
    assert (await system.made("POST", path + "/revoke", None, key))["state"] == "revoked"
    refused = await system.call("POST", path + "/resume", None, key)
    assert (refused.status, refused.json()["code"]) == (409, "card_revoked")
    assert (await system.call("GET", path + "/credential", token=key)).status == 409
    assert (await system.call("POST", "/v1/cards/card_none/suspend", None, key)).status == 404


# --- events, devices, check-ins ---------------------------------------------------------------------------------------


async def test_events_and_gates(system: System) -> None:
    key = (await system.open_org())["key"]
    body = {"name": "Gala", "capacity": 100, "doors_open": "2026-01-01T00:00:00+01:00", "gates": [{"name": "North"}]}
    made = await system.call("POST", "/v1/events", body, key, key="e1")
    assert made.status == 201, made.body
    assert (await system.call("POST", "/v1/events", body, key, key="e1")).json() == made.json()
    event = made.json()
    assert event["doors_open"] == "2025-12-31T23:00:00.000Z"
    path = f"/v1/events/{event['id']}"
    gate = await system.call("POST", path + "/gates", {"name": "South"}, key, key="g1")
    assert (await system.call("POST", path + "/gates", {"name": "South"}, key, key="g1")).json() == gate.json()
    closed = await system.made("PATCH", f"{path}/gates/{gate.json()['id']}", {"open": False}, key)
    assert closed == {"id": gate.json()["id"], "name": "South", "open": False, "zone_id": None}
    assert (await system.call("PATCH", f"{path}/gates/gate_none", {"open": False}, key)).status == 404
    shown = await system.made("GET", path, token=key)
    assert [(gate["name"], gate["open"]) for gate in shown["gates"]] == [("North", True), ("South", False)]
    changed = await system.made("PATCH", path, {"capacity": 7, "state": "closed"}, key)
    assert (changed["capacity"], changed["state"], changed["name"]) == (7, "closed", "Gala")
    assert (await system.call("GET", "/v1/events/evt_none", token=key)).json()["code"] == "event_unknown"


async def test_an_event_goes_by_its_organisations_time_zone_of_the_moment(system: System) -> None:
    org = await system.open_org(time_zone="Asia/Ho_Chi_Minh")
    body = {"name": "Gala", "capacity": 5}
    event = await system.made("POST", "/v1/events", body, org["key"], **{"Idempotency-Key": "gala"})
    assert event["time_zone"] == "Asia/Ho_Chi_Minh"
    await system.made("PATCH", f"/v1/orgs/{org['id']}", {"time_zone": "UTC"}, org["key"])
    again = await system.made("POST", "/v1/events", body, org["key"], **{"Idempotency-Key": "gala"})
    assert again["time_zone"] == "Asia/Ho_Chi_Minh", "a retry is the same request, whatever changed meanwhile"
    other = await system.made("POST", "/v1/events", body | {"time_zone": "Europe/Paris"}, org["key"])
    assert other["time_zone"] == "Europe/Paris"


async def test_pairing_a_device_and_checking_in(system: System) -> None:
    key = (await system.open_org())["key"]
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 2}, key)
    path = f"/v1/events/{event['id']}"
    asked = await system.call("POST", path + "/devices", {"name": "Door 1"}, key, key="d1")
    assert (await system.call("POST", path + "/devices", {"name": "Door 1"}, key, key="d1")).json() == asked.json()
    code = {"code": asked.json()["pairing_code"]}
    paired = await system.call("POST", "/v1/devices/pair", code, key="p1")
    assert paired.status == 201, paired.body
    assert (await system.call("POST", "/v1/devices/pair", code, key="p1")).json() == paired.json(), "a lost answer"
    assert (await system.call("POST", "/v1/devices/pair", code, key="p2")).status == 404
    assert (await system.call("POST", "/v1/devices/pair", code)).status == 404, "a code works once"
    device = paired.json()
    assert (device["event_id"], device["name"], device["device_id"]) == (
        event["id"],
        "Door 1",
        asked.json()["device_id"],
    )
    cards = [await system.made("POST", "/v1/cards", {"member": {"name": f"M{n}"}}, key) for n in range(3)]
    verdicts = []
    for card in [*cards, cards[0]]:
        body = {"event_id": event["id"], "credential": card["credential"]}
        verdicts.append(await system.made("POST", "/v1/checkins", body, device["token"]))
    assert [(verdict["verdict"], verdict["reason"]) for verdict in verdicts] == [
        ("admitted", None),
        ("admitted", None),
        ("refused", "full"),
        ("refused", "already_admitted"),
    ]
    assert verdicts[1]["attendance"] == {"inside": 2, "admitted": 2, "capacity": 2}
    assert verdicts[0]["points"] == {"awarded": 10, "balance": 10}
    assert verdicts[3]["first"] == {"at": verdicts[0]["at"], "gate_id": None, "device_id": device["device_id"]}
    counts = await system.made("GET", path + "/attendance", token=key)
    assert (counts["inside"], counts["admitted"], counts["refused"]) == (2, 2, 2)
    assert (await system.call("GET", path, token=device["token"])).status == 200
    assert (await system.call("GET", "/v1/events", token=device["token"])).status == 403
    assert (await system.call("DELETE", f"/v1/devices/{device['device_id']}", token=key)).status == 204
    assert (await system.call("POST", "/v1/checkins", {}, device["token"])).status == 401


async def test_a_scan_is_judged_once(system: System) -> None:
    key = (await system.open_org())["key"]
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 2}, key)
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Ann"}}, key)
    body = {"event_id": event["id"], "credential": card["credential"], "scan_id": "s-1"}
    first = await system.made("POST", "/v1/checkins", body, key)
    again = await system.made("POST", "/v1/checkins", body, key)
    assert again == first | {"replayed": True}
    reused = await system.call("POST", "/v1/checkins", body | {"direction": "exit"}, key)
    assert (reused.status, reused.json()["code"]) == (422, "id_reused")
    unknown = await system.call("POST", "/v1/checkins", body | {"event_id": "evt_none", "scan_id": "s-2"}, key)
    assert (unknown.status, unknown.json()["code"]) == (404, "event_unknown")


async def test_points_that_expire_before_they_are_awarded(system: System) -> None:
    key = (await system.open_org())["key"]
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Ann"}}, key)
    award = {"amount": 5, "expires_at": "2020-01-01T00:00:00Z"}
    answer = await system.call("POST", f"/v1/cards/{card['id']}/points/award", award, key)
    assert (answer.status, answer.json()["code"]) == (409, "expiry_invalid")


async def test_points_and_leaderboard(system: System) -> None:
    key = (await system.open_org())["key"]
    ann, bob = [await system.made("POST", "/v1/cards", {"member": {"name": name}}, key) for name in ("Ann", "Bob")]
    await system.made("POST", f"/v1/cards/{ann['id']}/points/award", {"amount": 100}, key)
    await system.made("POST", f"/v1/cards/{bob['id']}/points/award", {"amount": 70}, key)
    spent = await system.made("POST", f"/v1/cards/{ann['id']}/points/redeem", {"amount": 30}, key)
    assert (spent["balance"], spent["entry"]["amount"], spent["entry"]["kind"]) == (70, -30, "redeem")
    short = await system.call("POST", f"/v1/cards/{ann['id']}/points/redeem", {"amount": 71}, key)
    assert (short.status, short.json()["code"]) == (409, "insufficient_points")
    zero = await system.call("POST", f"/v1/cards/{ann['id']}/points/redeem", {"amount": 0}, key)
    assert (zero.status, zero.json()["code"]) == (409, "amount_invalid")
    back = await system.made("POST", f"/v1/cards/{ann['id']}/points/reverse", {"entry_seq": spent["entry"]["seq"]}, key)
    assert (back["balance"], back["entry"]["reverses"]) == (100, spent["entry"]["seq"])
    balance = await system.made("GET", f"/v1/cards/{ann['id']}/balance", token=key)
    assert (balance["balance"], balance["available"], balance["earned"], balance["entries"]) == (100, 100, 100, 3)
    board = await system.made("GET", f"/v1/leaderboards/points?window=all&around={bob['id']}", token=key)
    assert [(row["rank"], row["name"], row["score"]) for row in board["items"]] == [(1, "Ann", 100), (2, "Bob", 70)]
    assert (board["size"], board["around_rank"]) == (2, 2)
    for kind, written in (("day", r"day:\d{8}"), ("week", r"week:\d{6}"), ("month", r"month:\d{6}")):
        now = await system.made("GET", f"/v1/leaderboards/points?window={kind}", token=key)
        assert re.fullmatch(written, now["window"])
        assert now["items"] == board["items"]
        assert await system.made("GET", f"/v1/leaderboards/points?window={now['window']}", token=key) == now
    before = await system.made("GET", "/v1/leaderboards/points?window=week:202053", token=key)
    assert (before["size"], before["items"]) == (0, [])
    for wrong in ("karma", "points?window=year", "points?window=week:202153"):
        unknown = await system.call("GET", f"/v1/leaderboards/{wrong}", token=key)
        assert (unknown.status, unknown.json()["code"]) == (404, "board_unknown")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nothing", 404),
        ("DELETE", "/healthz", 405),
        ("GET", "/v1/cards/a%00b", 401),
    ],
)
async def test_the_rest_of_the_edge(system: System, method: str, path: str, status: int) -> None:
    answer = await system.call(method, path)
    assert answer.status == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
    if path == "/docs":
        assert b"/v1/checkins" in answer.body
        assert b"<script" not in answer.body
        assert b"http" not in answer.body.split(b"<h2>")[0]
    if path == "/metrics":
        assert b"mastervip_checkin_seconds_bucket" in answer.body
