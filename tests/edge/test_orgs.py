"""Organisations through the API: who opens them, what plans allow, how they change, are suspended and close."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.replies import Failed
from gateway.orgs import limits
from tests.edge.asgi import Answer
from tests.edge.in_process import SUPERADMIN_TOKEN, System
from tests.support.asgi_socket import open_socket

ANN = "ann@example.com"


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


async def owner_of(system: System, email: str = ANN) -> str:
    """The access token of somebody with a confirmed address."""
    return str((await system.register_and_login(email))["access_token"])


async def own_org(system: System, token: str, name: str = "Table") -> Any:
    """An organisation of theirs, with its API key in `key`."""
    org = await system.made("POST", "/v1/orgs", {"name": name}, token)
    return org | {"key": org["api_key"]["key"]}


# --- opening ---------------------------------------------------------------------------------------------------------


async def test_whoever_signed_up_opens_an_organisation_and_runs_it(system: System) -> None:
    token = await owner_of(system)
    first = await system.call("POST", "/v1/orgs", {"name": "High Table"}, token, key="open-1")
    again = await system.call("POST", "/v1/orgs", {"name": "High Table"}, token, key="open-1")
    assert first.status == 201
    assert again.json() == first.json()
    org = first.json()
    assert (org["plan"], org["state"], org["usage"]) == ("free", "open", {"cards": 0, "cards_max": 10})
    assert (await system.made("GET", f"/v1/orgs/{org['id']}", token=token))["name"] == "High Table"
    assert (await system.made("GET", "/v1/me", token=token))["orgs"][0]["role"] == "org_admin"
    key = org["api_key"]["key"]
    assert (await system.call("POST", "/v1/cards", {"member": {"name": "Ann"}}, key)).status == 201
    other = await owner_of(system, "bob@example.com")
    stolen = await system.call("POST", "/v1/orgs", {"name": "High Table"}, other, key="open-1")
    assert stolen.json()["id"] != org["id"], "a request id is its account's own"


async def test_who_may_not_open_one(system: System) -> None:
    unverified = (await system.register_and_login("new@example.com", is_verified=False))["access_token"]
    assert code(await system.call("POST", "/v1/orgs", {"name": "x"}, unverified)) == (403, "email_unverified")
    token = await owner_of(system)
    premium = {"name": "x", "plan": "premium"}
    assert code(await system.call("POST", "/v1/orgs", premium, token)) == (403, "forbidden")
    org = await own_org(system, token)
    assert code(await system.call("POST", "/v1/orgs", {"name": "x"}, org["key"])) == (403, "forbidden")


async def test_the_platform_chooses_the_plan(system: System) -> None:
    assert (await system.open_org())["plan"] == "premium"
    free = await system.open_org(plan="free")
    assert (free["plan"], free["usage"]["cards_max"]) == ("free", 10)
    assert (await system.call("POST", "/v1/orgs", {"name": "x", "plan": "gold"}, SUPERADMIN_TOKEN)).status == 400


async def test_twenty_at_once_open_two(system: System) -> None:
    token = await owner_of(system)
    answers = await asyncio.gather(
        *(system.call("POST", "/v1/orgs", {"name": f"Table {n}"}, token, key=f"open-{n}") for n in range(20))
    )
    assert sorted(answer.status for answer in answers) == [201] * 2 + [409] * 18
    refused = next(answer for answer in answers if answer.status == 409)
    assert refused.json()["code"] == "quota_exceeded"
    assert "upgrade" in refused.json()["detail"]
    opened = [n for n, answer in enumerate(answers) if answer.status == 201]
    retry = await system.call("POST", "/v1/orgs", {"name": f"Table {opened[0]}"}, token, key=f"open-{opened[0]}")
    assert retry.json() == answers[opened[0]].json(), "what is there already takes no second place"
    assert len((await system.made("GET", "/v1/orgs", token=token))["items"]) == 2


async def test_premium_and_closed_organisations_take_no_place(system: System) -> None:
    token = await owner_of(system)
    first, second = await own_org(system, token, "First"), await own_org(system, token, "Second")
    assert code(await system.call("POST", "/v1/orgs", {"name": "x"}, token)) == (409, "quota_exceeded")
    await system.made("PUT", f"/v1/orgs/{first['id']}/plan", {"plan": "premium"}, SUPERADMIN_TOKEN)
    await own_org(system, token, "Third")
    assert code(await system.call("POST", "/v1/orgs", {"name": "x"}, token)) == (409, "quota_exceeded")
    assert (await system.call("DELETE", f"/v1/orgs/{second['id']}?confirm=Second", token=token)).status == 204
    await own_org(system, token, "Fourth")
    # Back on Free it counts again, and nobody loses anything.
    await system.made("PUT", f"/v1/orgs/{first['id']}/plan", {"plan": "free"}, SUPERADMIN_TOKEN)
    assert len((await system.made("GET", "/v1/orgs", token=token))["items"]) == 3
    assert code(await system.call("POST", "/v1/orgs", {"name": "x"}, token)) == (409, "quota_exceeded")


async def test_opening_and_closing_has_an_end(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ORGS_OPENED_MAX", 2)
    token = await owner_of(system)
    for name in ("One", "Two"):
        org = await own_org(system, token, name)
        assert (await system.call("DELETE", f"/v1/orgs/{org['id']}?confirm={name}", token=token)).status == 204
    assert code(await system.call("POST", "/v1/orgs", {"name": "x"}, token)) == (409, "limit_reached")
    system.clock.ahead_ms += limits.ORGS_OPENED_PERIOD_MS
    assert (
        await system.call("POST", "/v1/orgs", {"name": "x"}, (await system.login(ANN))["access_token"])
    ).status == 201


async def test_what_could_not_be_opened_gives_its_place_back(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await owner_of(system)
    ask = system.parts.engine.ask

    async def away(message: Any) -> Any:
        return Failed("unavailable", "", 1_000) if type(message).__name__ == "OpenTenant" else await ask(message)

    monkeypatch.setattr(system.parts.engine, "ask", away)
    for number in range(3):  # without a request id nobody can try again
        assert (await system.call("POST", "/v1/orgs", {"name": f"x{number}"}, token)).status == 503
    named = await system.call("POST", "/v1/orgs", {"name": "Named"}, token, key="named")
    assert named.status == 503
    (item,) = (await system.made("GET", "/v1/orgs", token=token))["items"]
    assert (item["name"], item["plan"]) == (None, None)
    assert code(await system.call("GET", f"/v1/orgs/{item['id']}", token=token)) == (404, "tenant_unknown")
    monkeypatch.undo()
    assert (await system.call("POST", "/v1/orgs", {"name": "Named"}, token, key="named")).json()["id"] == item["id"]
    monkeypatch.setattr(system.parts.engine, "ask", away)
    lost = await system.call("POST", "/v1/orgs", {"name": "Lost"}, token, key="lost")
    assert lost.status == 503
    items = (await system.made("GET", "/v1/orgs", token=token))["items"]
    lost_id = next(item["id"] for item in items if item["name"] is None)
    assert (await system.call("DELETE", f"/v1/orgs/{lost_id}?confirm={lost_id}", token=token)).status == 204


async def test_a_retry_gives_back_nothing_that_was_taken_away(system: System) -> None:
    """Somebody who is no longer an admin tries again what once made them one."""
    token = await owner_of(system)
    org = (await system.call("POST", "/v1/orgs", {"name": "Table"}, token, key="open")).json()
    me = (await system.made("GET", "/v1/me", token=token))["account"]["id"]
    second = (await system.signed_in("org_admin", org["id"]))["access_token"]
    path = f"/v1/orgs/{org['id']}"
    assert (await system.call("DELETE", f"{path}/roles/{me}", token=second)).status == 204
    assert (await system.call("DELETE", f"{path}/api-keys/{org['api_key']['id']}", token=second)).status == 204
    assert (await system.call("POST", "/v1/orgs", {"name": "Table"}, token, key="open")).status == 201
    assert (await system.call("GET", path, token=token)).status == 403
    assert (await system.call("GET", path, token=org["api_key"]["key"])).status == 401


# --- plans -----------------------------------------------------------------------------------------------------------


async def test_thirty_cards_at_once_are_ten_on_free(system: System) -> None:
    token = await owner_of(system)
    org = await own_org(system, token)

    def issue(number: int) -> Any:
        return system.call("POST", "/v1/cards", {"member": {"name": f"M{number}"}}, org["key"], key=f"card-{number}")

    answers = await asyncio.gather(*(issue(number) for number in range(30)))
    assert sorted(answer.status for answer in answers) == [201] * 10 + [409] * 20
    refused = next(answer for answer in answers if answer.status == 409)
    assert code(refused) == (409, "quota_exceeded")
    assert "upgrade" in refused.json()["detail"]
    path = f"/v1/orgs/{org['id']}"
    assert (await system.made("GET", path, token=token))["usage"] == {"cards": 10, "cards_max": 10}
    card = next(answer.json()["id"] for answer in answers if answer.status == 201)
    await system.made("POST", f"/v1/cards/{card}/suspend", None, org["key"])
    assert code(await issue(31)) == (409, "quota_exceeded"), "a suspended card may come back, so it counts"
    for _ in range(2):
        await system.made("POST", f"/v1/cards/{card}/revoke", None, org["key"])
    assert [(await issue(number)).status for number in (32, 33)] == [201, 409], "a revocation makes room once"
    await system.made("PUT", f"{path}/plan", {"plan": "premium"}, SUPERADMIN_TOKEN)
    assert [(await issue(number)).status for number in range(34, 46)] == [201] * 12
    await system.made("PUT", f"{path}/plan", {"plan": "free"}, SUPERADMIN_TOKEN)
    assert code(await issue(50)) == (409, "quota_exceeded")
    kept = next(answer.json()["id"] for answer in answers if answer.status == 201 and answer.json()["id"] != card)
    assert (await system.call("GET", f"/v1/cards/{kept}/credential", token=org["key"])).status == 200
    assert (await system.made("GET", path, token=token))["usage"] == {"cards": 22, "cards_max": 10}


async def test_only_the_platform_changes_plans_and_suspends(system: System) -> None:
    token = await owner_of(system)
    org = await own_org(system, token)
    path = f"/v1/orgs/{org['id']}"
    for caller in (token, org["key"]):
        assert code(await system.call("PUT", f"{path}/plan", {"plan": "premium"}, caller)) == (403, "forbidden")
        assert code(await system.call("POST", f"{path}/suspend", None, caller)) == (403, "forbidden")
    platform = (await system.superadmin())["access_token"]
    assert (await system.made("PUT", f"{path}/plan", {"plan": "premium"}, platform))["plan"] == "premium"
    for method, tail, body in (("PUT", "/plan", {"plan": "free"}), ("POST", "/suspend", None), ("GET", "", None)):
        answer = await system.call(method, f"/v1/orgs/org_none{tail}", body, platform)
        assert code(answer) == (404, "tenant_unknown")
    assert await system.parts.pool.fetchval("SELECT count(*) FROM org_profiles WHERE tenant_id = 'org_none'") == 0


# --- changing --------------------------------------------------------------------------------------------------------


async def test_everything_about_an_organisation_can_be_changed(system: System) -> None:
    org = await system.open_org("High Table")
    path = f"/v1/orgs/{org['id']}"
    change = {
        "name": "Low Table",
        "time_zone": "Asia/Ho_Chi_Minh",
        "overdraft_max": 7,
        "checkin_points": 3,
        "branding": {"logo_url": "https://cdn.example.org/a.png", "primary_color": "#A0b1C2", "display_name": "Thấp"},
        "locale": "vi-VN",
        "allowed_origins": ["https://WWW.Example.org:443", "https://example.org:8443", "https://www.example.org"],
    }
    changed = await system.made("PATCH", path, change, org["key"])
    assert {name: changed[name] for name in ("name", "time_zone", "overdraft_max", "checkin_points", "locale")} == {
        name: change[name] for name in ("name", "time_zone", "overdraft_max", "checkin_points", "locale")
    }
    assert changed["branding"]["primary_color"] == "#a0b1c2"
    assert changed["allowed_origins"] == ["https://www.example.org", "https://example.org:8443"]
    assert changed["version"] == org["version"] + 1
    assert await system.made("GET", path, token=org["key"]) == changed
    support = {"branding": {"support_email": "Help@Example.org", "logo_url": ""}}
    then = await system.made("PATCH", path, support, org["key"])
    assert then["branding"] == changed["branding"] | {"support_email": "help@example.org", "logo_url": ""}
    assert (await system.made("PATCH", path, {}, org["key"])) == then, "nothing asked, nothing changed"


@pytest.mark.parametrize(
    ("pointer", "change"),
    [
        ("#/branding/logo_url", {"branding": {"logo_url": "http://example.org/a.png"}}),
        ("#/branding/logo_url", {"branding": {"logo_url": "javascript:alert(1)"}}),
        ("#/branding/logo_url", {"branding": {"logo_url": "https://user:pass@example.org/"}}),
        ("#/branding/logo_url", {"branding": {"logo_url": 'https://example.org/"><script>'}}),
        ("#/branding/logo_url", {"branding": {"logo_url": "https://example.org/\n"}}),
        ("#/branding/primary_color", {"branding": {"primary_color": "red"}}),
        ("#/branding/primary_color", {"branding": {"primary_color": "#12345"}}),
        ("#/branding/accent_color", {"branding": {"accent_color": "#12345g"}}),
        ("#/branding/support_email", {"branding": {"support_email": "nobody"}}),
        ("#/branding/display_name", {"branding": {"display_name": "x" * 121}}),
        ("#/branding/owner_id", {"branding": {"owner_id": "acc_1"}}),
        ("#/locale", {"locale": "../../etc"}),
        ("#/allowed_origins/0", {"allowed_origins": ["http://example.org"]}),
        ("#/allowed_origins/0", {"allowed_origins": ["*"]}),
        ("#/allowed_origins/0", {"allowed_origins": ["https://*.example.org"]}),
        ("#/allowed_origins/0", {"allowed_origins": ["https://example.org/path"]}),
        ("#/allowed_origins/0", {"allowed_origins": ["https://example.org:70000"]}),
        ("#/allowed_origins/1", {"allowed_origins": ["https://example.org", "null"]}),
        ("#/allowed_origins", {"allowed_origins": ["https://example.org"] * 21}),
        ("#/plan", {"plan": "premium"}),
        ("#/state", {"state": "open"}),
        ("#/version", {"version": 9}),
    ],
)
async def test_what_is_wrong_with_a_change_is_said(system: System, pointer: str, change: dict[str, Any]) -> None:
    org = await system.open_org()
    answer = await system.call("PATCH", f"/v1/orgs/{org['id']}", change, org["key"])
    assert answer.status == 400, answer.body
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_who_sees_and_changes_it(system: System) -> None:
    org, foreign = await system.open_org(), await system.open_org()
    path = f"/v1/orgs/{org['id']}"
    for role, statuses in (("org_admin", (200, 200)), ("staff", (200, 403)), ("member", (200, 403))):
        token = (await system.signed_in(role, org["id"]))["access_token"]
        assert (await system.call("GET", path, token=token)).status == statuses[0]
        assert (await system.call("PATCH", path, {"name": "New"}, token)).status == statuses[1]
        assert (await system.call("GET", f"/v1/orgs/{foreign['id']}", token=token)).status == 403
        assert (await system.call("GET", "/v1/orgs/org_none", token=token)).status == 403


async def test_lists(system: System) -> None:
    token = await owner_of(system)
    own = await own_org(system, token, "Own")
    made = [own, *[await system.open_org(f"Other {n}") for n in range(5)]]
    (item,) = (await system.made("GET", "/v1/orgs", token=token))["items"]
    assert (item["id"], item["name"], item["plan"], item["role"]) == (own["id"], "Own", "free", "org_admin")
    found: list[Any] = []
    cursor = ""
    while True:
        page = await system.made("GET", f"/v1/orgs?limit=2{cursor}", token=SUPERADMIN_TOKEN)
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [item["id"] for item in found] == sorted(org["id"] for org in made)
    assert {item["id"]: item["name"] for item in found} == {org["id"]: org["name"] for org in made}
    assert code(await system.call("GET", "/v1/orgs", token=own["key"])) == (403, "forbidden")
    second = await own_org(system, token, "Second")
    first_page = await system.made("GET", "/v1/orgs?limit=1", token=token)
    rest = await system.made("GET", f"/v1/orgs?cursor={first_page['next_cursor']}", token=token)
    assert rest["next_cursor"] is None
    assert [item["id"] for item in first_page["items"] + rest["items"]] == sorted((own["id"], second["id"]))
    other = await owner_of(system, "bob@example.com")
    foreign = await system.call("GET", f"/v1/orgs?cursor={first_page['next_cursor']}", token=other)
    assert code(foreign) == (400, "cursor_invalid")


# --- suspending and closing ------------------------------------------------------------------------------------------


async def callers_of(system: System, org: Any) -> dict[str, tuple[str, str]]:
    """One of each kind of caller of the organisation, with a path that it may read."""
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 5}, org["key"])
    code = await system.made("POST", f"/v1/events/{event['id']}/devices", {"name": "Door"}, org["key"])
    device = await system.made("POST", "/v1/devices/pair", {"code": code["pairing_code"]})
    path = f"/v1/orgs/{org['id']}"
    staff = (await system.signed_in("staff", org["id"]))["access_token"]
    admin = (await system.signed_in("org_admin", org["id"]))["access_token"]
    reading = f"/v1/events/{event['id']}"
    return {
        "key": (org["key"], reading),
        "device": (device["token"], reading),
        "staff": (staff, path),
        "admin": (admin, path),
    }


async def test_a_suspended_organisations_callers_are_refused_until_it_is_resumed(system: System) -> None:
    org, other = await system.open_org(), await system.open_org()
    callers = await callers_of(system, org)
    path = f"/v1/orgs/{org['id']}"
    for token, reading in callers.values():
        assert (await system.call("GET", reading, token=token)).status == 200
    suspended = await system.made("POST", f"{path}/suspend", None, SUPERADMIN_TOKEN)
    assert suspended["state"] == "suspended"
    for token, reading in callers.values():
        assert code(await system.call("GET", reading, token=token)) == (403, "org_suspended")
    scan = {"event_id": "evt_1", "credential": "MV1:x"}
    for who in ("key", "device"):
        assert code(await system.call("POST", "/v1/checkins", scan, callers[who][0])) == (403, "org_suspended")
    points = "/v1/cards/card_1/points/award"
    assert code(await system.call("POST", points, {"amount": 1}, org["key"])) == (403, "org_suspended")
    assert (await system.call("GET", f"/v1/orgs/{other['id']}", token=other["key"])).status == 200
    # People keep what is their own.
    admin = callers["admin"][0]
    assert (await system.call("GET", "/v1/me", token=admin)).status == 200
    (item,) = (await system.made("GET", "/v1/orgs", token=admin))["items"]
    assert item["state"] == "suspended"
    assert (await system.call("POST", "/v1/orgs", {"name": "Next"}, admin)).status == 201
    assert (await system.made("GET", path, token=SUPERADMIN_TOKEN))["state"] == "suspended"
    assert (await system.made("POST", f"{path}/resume", None, SUPERADMIN_TOKEN))["state"] == "open"
    for token, reading in callers.values():
        assert (await system.call("GET", reading, token=token)).status == 200


async def test_suspension_reaches_open_sockets(system: System) -> None:
    org, other = await system.open_org(), await system.open_org()
    async with (
        open_socket(system.app, "/v1/live", org["key"]) as socket,
        open_socket(system.app, "/v1/live", other["key"]) as others,
    ):
        for one in (socket, others):
            await one.send({"t": "ping", "n": 1})
            assert (await one.frames.get())["t"] == "pong"
        await system.made("POST", f"/v1/orgs/{org['id']}/suspend", None, SUPERADMIN_TOKEN)
        assert await socket.closed() == 4423
        assert (await socket.frames.get())["code"] == "org_suspended"
        async with open_socket(system.app, "/v1/live", org["key"]) as again:
            assert await again.closed() == 4423
        await others.send({"t": "ping", "n": 2})
        assert (await others.frames.get())["t"] == "pong"


async def test_a_closed_organisation_stays_closed(system: System) -> None:
    org = await system.open_org("Table 1")
    callers = await callers_of(system, org)
    path, admin = f"/v1/orgs/{org['id']}", callers["admin"][0]
    for confirm in ("", "?confirm=Table", "?confirm=table%201"):
        answer = await system.call("DELETE", path + confirm, token=admin)
        assert (answer.status, answer.json()["errors"][0]["parameter"]) == (400, "confirm")
    assert code(await system.call("DELETE", f"{path}?confirm=Table%201", token=org["key"])) == (403, "forbidden")
    assert code(await system.call("DELETE", f"{path}?confirm=Table%201", token=callers["staff"][0])) == (
        403,
        "forbidden",
    )
    async with open_socket(system.app, "/v1/live", org["key"]) as socket:
        await socket.send({"t": "ping", "n": 1})
        assert (await socket.frames.get())["t"] == "pong"
        assert (await system.call("DELETE", f"{path}?confirm=Table%201", token=admin)).status == 204
        assert await socket.closed() == 4410
    for token, reading in callers.values():
        assert code(await system.call("GET", reading, token=token)) == (403, "org_closed")
    assert (await system.made("GET", "/v1/orgs", token=admin))["items"] == []
    assert (await system.made("GET", path, token=SUPERADMIN_TOKEN))["state"] == "closed"
    assert (await system.call("DELETE", f"{path}?confirm=Table%201", token=SUPERADMIN_TOKEN)).status == 204
    for method, tail, body in (
        ("POST", "/resume", None),
        ("POST", "/suspend", None),
        ("PUT", "/plan", {"plan": "free"}),
        ("PATCH", "", {"name": "Again"}),
    ):
        assert code(await system.call(method, path + tail, body, SUPERADMIN_TOKEN)) == (403, "org_closed")
