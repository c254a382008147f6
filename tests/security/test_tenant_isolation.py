"""No tenant sees another's: on every route, a foreign id is answered exactly as an absent one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.in_process import System

# Every route with an id in its path, and a body that would be right. {org}, {card} … are filled in.
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/v1/orgs/{org}", None),
    ("PATCH", "/v1/orgs/{org}", {"name": "mine"}),
    ("POST", "/v1/orgs/{org}/api-keys", {"name": "mine"}),
    ("GET", "/v1/orgs/{org}/api-keys", None),
    ("POST", "/v1/orgs/{org}/api-keys/{api_key}/rotate", {}),
    ("DELETE", "/v1/orgs/{org}/api-keys/{api_key}", None),
    ("GET", "/v1/orgs/{org}/audit-log", None),
    ("GET", "/v1/orgs/{org}/member-schema", None),
    ("PUT", "/v1/orgs/{org}/member-schema", {"schema": None}),
    ("GET", "/v1/members/{member}", None),
    ("PATCH", "/v1/members/{member}", {"name": "mine"}),
    ("DELETE", "/v1/members/{member}", None),
    ("GET", "/v1/members/{member}/consents", None),
    ("GET", "/v1/members/{member}/reputation", None),
    ("POST", "/v1/members/{member}/link", {"email": "mine@example.com"}),
    ("DELETE", "/v1/members/{member}/link", None),
    ("GET", "/v1/members/imports/{import}", None),
    ("GET", "/v1/members/imports/{import}/report", None),
    ("POST", "/v1/members/imports/{import}/cancel", None),
    ("GET", "/v1/cards/batches/{batch}", None),
    ("GET", "/v1/cards/batches/{batch}/report", None),
    ("GET", "/v1/cards/batches/{batch}/result", None),
    ("POST", "/v1/cards/batches/{batch}/cancel", None),
    ("GET", "/v1/cards/{card}", None),
    ("POST", "/v1/cards", {"member_id": "{member}"}),
    ("POST", "/v1/cards/{card}/suspend", None),
    ("POST", "/v1/cards/{card}/resume", None),
    ("POST", "/v1/cards/{card}/revoke", None),
    ("GET", "/v1/cards/{card}/credential", None),
    ("GET", "/v1/cards/{card}/balance", None),
    ("GET", "/v1/cards/{card}/ledger", None),
    ("POST", "/v1/cards/{card}/points/award", {"amount": 1}),
    ("POST", "/v1/cards/{card}/points/redeem", {"amount": 1}),
    ("POST", "/v1/cards/{card}/points/reverse", {"entry_seq": 1}),
    ("POST", "/v1/cards/{card}/points/confirm", {"entry_seq": 1}),
    ("POST", "/v1/cards/{card}/points/hold", {"amount": 1}),
    ("POST", "/v1/cards/{card}/points/capture", {"entry_seq": 1}),
    ("POST", "/v1/cards/{card}/points/release", {"entry_seq": 1}),
    ("POST", "/v1/cards/{card}/points/transfer", {"to_card_id": "{card}", "amount": 1}),
    ("POST", "/v1/cards/{card}/wallet/top-up", {"amount": 1}),
    ("POST", "/v1/cards/{card}/wallet/pay", {"amount": 1}),
    ("GET", "/v1/cards/{card}/balance?at=2026-01-01T00:00:00Z", None),
    ("GET", "/v1/cards/{card}/statement?from=2026-01-01T00:00:00Z&until=2030-01-01T00:00:00Z", None),
    ("GET", "/v1/events/{event}", None),
    ("PATCH", "/v1/events/{event}", {"name": "mine"}),
    ("POST", "/v1/events/{event}/gates", {"name": "mine"}),
    ("PATCH", "/v1/events/{event}/gates/{gate}", {"open": False}),
    ("POST", "/v1/events/{event}/devices", {"name": "mine"}),
    ("GET", "/v1/events/{event}/attendance", None),
    ("GET", "/v1/events/{event}/checkins", None),
    ("POST", "/v1/devices", {"event_id": "{event}"}),
    ("GET", "/v1/devices/{device}", None),
    ("PATCH", "/v1/devices/{device}", {"name": "mine"}),
    ("POST", "/v1/devices/{device}/pairing-code", None),
    ("DELETE", "/v1/devices/{device}", None),
    ("GET", "/v1/leaderboards/points?window=event:{event}", None),
    ("GET", "/v1/leaderboards/points?around={card}", None),
]
# What only people may do. {own} is the organisation of whoever asks.
PEOPLES_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/v1/orgs/{org}", None),
    ("PATCH", "/v1/orgs/{org}", {"name": "mine"}),
    ("DELETE", "/v1/orgs/{org}?confirm=Table", None),
    ("GET", "/v1/orgs/{org}/roles", None),
    ("PATCH", "/v1/orgs/{org}/roles/{account}", {"role": "member"}),
    ("DELETE", "/v1/orgs/{org}/roles/{account}", None),
    ("GET", "/v1/orgs/{org}/invitations", None),
    ("POST", "/v1/orgs/{org}/invitations", {"email": "new@example.com", "role": "staff"}),
    ("POST", "/v1/orgs/{org}/members", {"email": "new@example.com", "role": "staff"}),
    ("DELETE", "/v1/orgs/{org}/invitations/{invitation}", None),
    ("GET", "/v1/orgs/{org}/api-keys", None),
    ("POST", "/v1/orgs/{org}/api-keys/{api_key}/rotate", {}),
    ("GET", "/v1/orgs/{org}/audit-log", None),
    ("PATCH", "/v1/orgs/{own}/roles/{account}", {"role": "member"}),
    ("DELETE", "/v1/orgs/{own}/roles/{account}", None),
    ("DELETE", "/v1/orgs/{own}/invitations/{invitation}", None),
    ("POST", "/v1/orgs/{own}/invitations", {"email": "a@example.com", "role": "member", "member_id": "{member}"}),
    ("POST", "/v1/orgs/{own}/api-keys/{api_key}/rotate", {}),
    ("DELETE", "/v1/orgs/{own}/api-keys/{api_key}", None),
]
# So that answers differ in nothing but what they should.
SAME = {"X-Request-Id": "the-same"}
ABSENT = {
    name: f"{name}_absent"
    for name in (
        "org",
        "api_key",
        "member",
        "import",
        "batch",
        "card",
        "event",
        "gate",
        "device",
        "account",
        "invitation",
    )
}


def filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: filled(inner, ids) for name, inner in value.items()}
    if isinstance(value, str):
        for name, found in ids.items():
            value = value.replace("{" + name + "}", found)
    return value


async def a_tenant(system: System) -> tuple[str, dict[str, str], dict[str, Any]]:
    """A tenant with one of everything: its key, the ids, and a good check-in."""
    org = await system.open_org()
    key = org["key"]
    member = await system.made("POST", "/v1/members", {"name": "Ann"}, key)
    csv = {"Content-Type": "text/csv"}
    imported = await system.made("POST", "/v1/members/imports", b"name\nBo\n", key, **csv)
    batch = await system.made("POST", "/v1/cards/batches", {"member_ids": [member["id"]]}, key)
    card = await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 5, "gates": [{"name": "N"}]}, key)
    asked = await system.made("POST", f"/v1/events/{event['id']}/devices", {}, key)
    device = await system.made("POST", "/v1/devices/pair", {"code": asked["pairing_code"]})
    check_in = {"event_id": event["id"], "credential": card["credential"]}
    await system.made("POST", "/v1/checkins", check_in, device["token"])
    ids = {
        "org": org["id"],
        "api_key": org["api_key"]["id"],
        "member": member["id"],
        "import": imported["id"],
        "batch": batch["id"],
        "card": card["id"],
        "event": event["id"],
        "gate": event["gates"][0]["id"],
        "device": device["device_id"],
    }
    return key, ids, check_in


def comparable(document: Any, ids: dict[str, str]) -> Any:
    """An answer without the ids that the question named."""
    text = repr(document)
    for name, found in ids.items():
        text = text.replace(found, name)
    return text


async def test_foreign_is_absent_on_every_route(system: System) -> None:
    _, theirs, _ = await a_tenant(system)
    key, _, _ = await a_tenant(system)
    for method, path, body in ROUTES:
        foreign = await system.call(method, filled(path, theirs), filled(body, theirs), key, **SAME)
        absent = await system.call(method, filled(path, ABSENT), filled(body, ABSENT), key, **SAME)
        assert foreign.status == absent.status, (method, path, foreign.body)
        assert comparable(foreign.json(), theirs) == comparable(absent.json(), ABSENT), (method, path)
        is_question_about_own_board = "around" in path
        assert foreign.status == 404 or is_question_about_own_board, (method, path, foreign.body)


async def test_foreign_people_are_absent_on_every_route(system: System) -> None:
    _, theirs, _ = await a_tenant(system)
    _, mine, _ = await a_tenant(system)
    stranger = await system.signed_in("org_admin", theirs["org"])
    invitation = {"email": "bob@example.com", "role": "staff"}
    path = f"/v1/orgs/{theirs['org']}/invitations"
    theirs["invitation"] = (await system.made("POST", path, invitation, stranger["access_token"]))["id"]
    theirs["account"] = stranger["account"]["id"]
    token = (await system.signed_in("org_admin", mine["org"]))["access_token"]
    for method, route, body in PEOPLES_ROUTES:
        route = route.replace("{own}", mine["org"])
        foreign = await system.call(method, filled(route, theirs), filled(body, theirs), token, **SAME)
        absent = await system.call(method, filled(route, ABSENT), filled(body, ABSENT), token, **SAME)
        assert foreign.status == absent.status == (404 if mine["org"] in route else 403), (method, route, foreign.body)
        assert comparable(foreign.json(), theirs) == comparable(absent.json(), ABSENT), (method, route)
    people = await system.made("GET", f"/v1/orgs/{theirs['org']}/roles", token=stranger["access_token"])
    assert [person["account_id"] for person in people["items"]] == [theirs["account"]]


async def test_a_foreign_event_or_credential_at_the_door(system: System) -> None:
    _, _, their_check_in = await a_tenant(system)
    key, _, check_in = await a_tenant(system)
    foreign_event = check_in | {"event_id": their_check_in["event_id"]}
    answer = await system.call("POST", "/v1/checkins", foreign_event, key)
    assert (answer.status, answer.json()["code"]) == (404, "event_unknown")
    foreign_card = check_in | {"credential": their_check_in["credential"]}
    verdict = await system.made("POST", "/v1/checkins", foreign_card, key)
    assert (verdict["reason"], verdict["card_id"], verdict["member"]) == ("credential_invalid", None, None)


async def test_the_same_request_id_is_another_request_for_another_tenant(system: System) -> None:
    one, _, _ = await a_tenant(system)
    two, _, _ = await a_tenant(system)
    for path, body in (("/v1/members", {"name": "A"}), ("/v1/events", {"name": "A", "capacity": 1})):
        first = await system.call("POST", path, body, one, key="same")
        second = await system.call("POST", path, body | {"name": "B"}, two, key="same")
        assert (first.status, second.status) == (201, 201)
        assert first.json()["id"] != second.json()["id"]


async def test_lists_hold_the_callers_own_only(system: System) -> None:
    _, theirs, _ = await a_tenant(system)
    key, mine, _ = await a_tenant(system)
    for path, kind in (("/v1/members", "member"), ("/v1/cards", "card"), ("/v1/events", "event")):
        page = await system.made("GET", path, token=key)
        assert [item["id"] for item in page["items"]] == [mine[kind]]
    assert (await system.made("GET", f"/v1/cards?member_id={theirs['member']}", token=key))["items"] == []
    board = await system.made("GET", "/v1/leaderboards/points", token=key)
    assert [row["card_id"] for row in board["items"]] == [mine["card"]]


@pytest.mark.parametrize("field", ["tenant_id", "org_id", "balance", "state", "role", "epoch", "id", "card_id"])
async def test_nobody_sets_what_is_not_theirs_to_set(system: System, field: str) -> None:
    _, theirs, _ = await a_tenant(system)
    key, _, check_in = await a_tenant(system)
    for path, body in (
        ("/v1/checkins", check_in),
        ("/v1/members", {"name": "A"}),
        ("/v1/cards", {"member": {"name": "A"}}),
        ("/v1/events", {"name": "A", "capacity": 1}),
    ):
        answer = await system.call("POST", path, body | {field: theirs["org"]}, key)
        assert answer.status == 400
        assert answer.json()["errors"][0]["pointer"] == f"#/{field}"
