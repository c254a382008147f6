"""The log of administrative acts: every act has one line, nobody can change one, and it is read newest first."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from fastapi.routing import APIRoute

from actors.ports import StoreUnavailable
from gateway.fast_lane import CARDS_PREFIX, CHECKINS, CHECKINS_BATCH
from gateway.identity.policy import POLICY
from gateway.render import rfc3339
from gateway.rest.api import ROUTERS
from tests.edge.asgi import Answer
from tests.edge.in_process import SUPERADMIN_TOKEN, System
from tests.edge.test_org_people import invited

_AN_ACCOUNTS_OWN = "an account's own affair, no organisation's"
# What changes something and is not in an organisation's log, and why.
EXEMPT: dict[tuple[str, str], str] = {
    **{
        ("POST", f"/v1/auth/{act}"): _AN_ACCOUNTS_OWN
        for act in (
            *("register", "resend-verification", "verify", "forgot-password", "reset-password", "login", "refresh"),
            *("logout", "change-password"),
        )
    },
    ("DELETE", "/v1/auth/sessions/{session_id}"): _AN_ACCOUNTS_OWN,
    ("PATCH", "/v1/me"): _AN_ACCOUNTS_OWN,
    ("POST", "/v1/accounts"): "noted under the platform, for it concerns no organisation",
    ("POST", "/v1/accounts/{account_id}/suspend"): "noted under the platform, for it concerns no organisation",
    ("POST", "/v1/accounts/{account_id}/resume"): "noted under the platform, for it concerns no organisation",
    **{
        ("POST", f"/v1/coupons/{act}"): "the till's, recorded by itself in the history of redemptions"
        for act in ("redeem", "redemptions/{redemption_id}/capture", "redemptions/{redemption_id}/release")
    },
    ("POST", "/v1/cards/{card_id}/coupons/{grant_id}/redeem"): "the till's, recorded in the history of redemptions",
    ("POST", "/v1/rules/templates/{template_id}/fill"): "saves nothing",
    ("POST", "/v1/rules:simulate"): "saves nothing",
    ("PATCH", "/v1/devices/self"): "a device's own choice of where it stands",
    ("POST", "/v1/events/{event_id}/checkins/{scan_id}/annul"): "a door's own; it stands in the scan log",
    ("POST", "/v1/events/{event_id}/answers"): "a guest's own answers",
}
# On the fast lane: each is recorded by itself, in the scan log or the ledger.
RECORDED = (CHECKINS, CHECKINS_BATCH, CARDS_PREFIX)


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


class Acts:
    """Does one act after the other, and knows which line each has to leave."""

    def __init__(self, system: System, org: Any) -> None:
        self.system = system
        self.org = org
        self.done: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self.more: list[tuple[str, str]] = []

    async def do(
        self,
        method: str,
        route: str,
        action: str,
        body: Any = None,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        **ids: str,
    ) -> Any:
        """One act, tried twice under one request id. `target` among the ids says what its line is about; else it is the
        id in the answer."""
        path = route.format(org_id=self.org["id"], **ids) + ids.get("query", "")
        key = f"act-{len(self.done)}"
        answer = await self.system.call(method, path, body, token or self.org["key"], key=key, **(headers or {}))
        assert answer.status < 300, (route, answer.body)
        await self.system.call(method, path, body, token or self.org["key"], key=key, **(headers or {}))
        found = answer.json() if answer.body else {}
        target = ids.get("target") or found.get("id") or found["device_id"]
        self.done.setdefault((method, route), []).append((action, target))
        return found


async def everything(system: System) -> Acts:
    """Every administrative act of an organisation, once."""
    org = await system.open_org("Table")
    acts = Acts(system, org)
    admin = await system.signed_in("org_admin", org["id"])
    own, token = "/v1/orgs/{org_id}", admin["access_token"]
    await acts.do("PATCH", own, "orgs.update", {"name": "Table 2", "locale": "vi"}, target=org["id"])
    await acts.do("PUT", own + "/plan", "plans.set", {"plan": "free"}, SUPERADMIN_TOKEN, target=org["id"])
    for act in ("suspend", "resume"):
        await acts.do("POST", f"{own}/{act}", "orgs.suspend", None, SUPERADMIN_TOKEN, target=org["id"])
    key = await acts.do("POST", own + "/api-keys", "api_keys.manage", {"name": "Till"})
    path = own + "/api-keys/{key_id}"
    await acts.do("POST", path + "/rotate", "api_keys.manage", {}, key_id=key["id"], target=key["id"])
    await acts.do("DELETE", path, "api_keys.manage", key_id=key["id"], target=key["id"])
    await people(acts, own, token)
    await cards_and_events(acts)
    await members(acts, own, token)
    await coupons(acts)
    await rules(acts)
    acts.done["POST", "/v1/orgs"] = [("orgs.create", org["id"])]
    query = "?confirm=Table%202"
    await acts.do("DELETE", own, "orgs.close", None, SUPERADMIN_TOKEN, target=org["id"], query=query)
    return acts


async def people(acts: Acts, own: str, token: str) -> None:
    """Invitations and roles."""
    system = acts.system
    body = {"email": "one@example.com", "role": "staff"}
    await acts.do("POST", own + "/members", "roles.manage", body, token)
    made = await acts.do("POST", own + "/invitations", "roles.manage", body | {"email": "two@example.com"}, token)
    path = own + "/invitations/{invitation_id}"
    await acts.do("DELETE", path, "roles.manage", None, token, invitation_id=made["id"], target=made["id"])
    invitation = await invited(system, own.format(org_id=acts.org["id"]), token, "three@example.com")
    three = await system.register_and_login("three@example.com")
    listed = await system.made("GET", own.format(org_id=acts.org["id"]) + "/invitations", token=token)
    target = next(item["id"] for item in listed["items"] if item["email"] == "three@example.com")
    accepting = three["access_token"]
    await acts.do(
        "POST", "/v1/invitations/accept", "invitations.accept", {"token": invitation}, accepting, target=target
    )
    account_id = three["account"]["id"]
    path = own + "/roles/{account_id}"
    await acts.do("PATCH", path, "roles.manage", {"role": "member"}, token, account_id=account_id, target=account_id)
    await acts.do("DELETE", path, "roles.manage", None, token, account_id=account_id, target=account_id)


async def members(acts: Acts, own: str, token: str) -> None:
    """Members in full, and what holds for all of them."""
    system, key = acts.system, acts.org["key"]
    schema = {"schema": {"type": "object", "properties": {"size": {"type": "string"}}}}
    await acts.do("PUT", own + "/member-schema", "member_schema.change", schema, token, target=acts.org["id"])
    levels = [{"tier": "bronze", "points": 0}, {"tier": "silver", "points": 100}]
    await acts.do("PUT", own + "/tiers", "tiers.set", {"levels": levels}, token, target=acts.org["id"])
    await acts.do("DELETE", own + "/tiers", "tiers.set", None, token, target=acts.org["id"])
    boards = [{"name": "regulars", "metric": "visits", "ties": "shared"}]
    await acts.do("PUT", own + "/leaderboards", "leaderboards.set", {"boards": boards}, token, target=acts.org["id"])
    paid = {"window": "week:202010", "prizes": [5]}
    board = {"board": "points", "target": acts.org["id"]}
    await acts.do("POST", "/v1/leaderboards/{board}/payout", "leaderboards.pay_out", paid, token, **board)
    member = await system.made("POST", "/v1/members", {"name": "Bea"}, key)
    acts.more.append(("members.create", member["id"]))
    ids = {"member_id": member["id"], "target": member["id"]}
    path = "/v1/members/{member_id}"
    await acts.do("PATCH", path, "members.update", {"name": "Béa", "attributes": {"size": "M"}}, **ids)
    email = {"email": "bea@example.com"}
    made = await acts.do("POST", path + "/link", "members.link", email, member_id=member["id"])
    linked = await system.signed_in("member", acts.org["id"], member["id"])
    assert made["state"] == "open"
    assert linked["access_token"]
    await acts.do("DELETE", path + "/link", "members.link", None, **ids)
    await acts.do("DELETE", path, "members.erase", None, **ids)
    csv = {"Content-Type": "text/csv"}
    started = await acts.do("POST", "/v1/members/imports", "members.create", b"name\nAnn\n", headers=csv)
    ids = {"import_id": started["id"], "target": started["id"]}
    await acts.do("POST", "/v1/members/imports/{import_id}/cancel", "members.create", None, **ids)


async def coupons(acts: Acts) -> None:
    """Coupons, their codes, and what is taken back."""
    system, key = acts.system, acts.org["key"]
    body = {"name": "Tea", "value": {"type": "item", "text": "A tea"}}
    made = await acts.do("POST", "/v1/coupons", "coupons.manage", body)
    ids = {"coupon_id": made["id"], "target": made["id"]}
    await acts.do("PATCH", "/v1/coupons/{coupon_id}", "coupons.manage", {"limit_in_all": 5}, **ids)
    issued = await acts.do("POST", "/v1/coupons/{coupon_id}/codes", "coupons.issue", {"count": 1}, **ids)
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Cay"}}, key)
    acts.more.append(("cards.issue", card["id"]))
    body = {"code": issued["items"][0]["code"], "card_id": card["id"]}
    redeemed = await system.made("POST", "/v1/coupons/redeem", body, key)
    path = "/v1/coupons/redemptions/{redemption_id}/rollback"
    await acts.do("POST", path, "coupons.redeem", None, redemption_id=redeemed["id"])


async def rules(acts: Acts) -> None:
    """Rules."""
    rule = {"name": "Welcome", "on": "checkin", "then": [{"action": "award_points", "points": 5}]}
    made = await acts.do("POST", "/v1/rules", "rules.change", {"rule": rule})
    ids = {"rule_id": made["id"], "target": made["id"]}
    await acts.do("PUT", "/v1/rules/{rule_id}", "rules.change", {"rule": rule | {"name": "Hello"}}, **ids)
    await acts.do("POST", "/v1/rules/{rule_id}/state", "rules.change", {"state": "active"}, **ids)
    await acts.do("DELETE", "/v1/rules/{rule_id}", "rules.change", None, **ids)


async def cards_and_events(acts: Acts) -> None:
    """Members, cards, events, gates, devices."""
    member = await acts.do("POST", "/v1/members", "members.create", {"name": "Ann"})
    card = await acts.do("POST", "/v1/cards", "cards.issue", {"member_id": member["id"]})
    items = {"items": [{"member_id": member["id"]}] * 3}
    await acts.do("POST", "/v1/cards:batch", "cards.issue", items, target="cards:batch")
    batch = await acts.do("POST", "/v1/cards/batches", "cards.batch", {"member_ids": [member["id"]]})
    ids = {"batch_id": batch["id"], "target": batch["id"]}
    await acts.do("POST", "/v1/cards/batches/{batch_id}/cancel", "cards.batch", None, **ids)
    change = {"act": "suspend", "card_ids": [card["id"]], "note": "lost"}
    batch = await acts.do("POST", "/v1/cards:change", "cards.batch", change)
    ids = {"batch_id": batch["id"], "target": batch["id"]}
    await acts.do("POST", "/v1/cards/batches/{batch_id}/cancel", "cards.batch", None, **ids)
    csv = {"Content-Type": "text/csv"}
    batch = await acts.do("POST", "/v1/cards:csv", "cards.batch", b"member_id\nmem_1\n", headers=csv)
    note = {"attention": "Greet by name"}
    ids = {"card_id": card["id"], "target": card["id"]}
    await acts.do("POST", "/v1/cards/{card_id}/attention", "cards.change", note, **ids)
    changes: tuple[tuple[str, str, Any], ...] = (
        *(("POST", "reissue", None), ("POST", "renew", {}), ("POST", "tier", {"tier": "gold"})),
        *(("PUT", "tag", {"uid": "04DE5F1EACC040"}), ("DELETE", "tag", None)),
    )
    for method, act, body in changes:
        await acts.do(method, "/v1/cards/{card_id}/" + act, "cards.change", body, card_id=card["id"], target=card["id"])
    for act in ("suspend", "resume", "revoke"):
        await acts.do("POST", "/v1/cards/{card_id}/" + act, "cards.change", None, card_id=card["id"])
    event = await acts.do("POST", "/v1/events", "events.create", {"name": "Gala", "capacity": 5})
    path = "/v1/events/{event_id}"
    ids = {"event_id": event["id"], "target": event["id"]}
    await acts.do("PATCH", path, "events.change", {"capacity": 6}, **ids)
    gate = await acts.do("POST", path + "/gates", "events.change", {"name": "North"}, **ids)
    await acts.do("PATCH", path + "/gates/{gate_id}", "events.change", {"open": False}, gate_id=gate["id"], **ids)
    await acts.do("POST", path + "/admission-list", "events.change", {"add": [card["id"]]}, **ids)
    await acts.do("POST", path + "/exit-all", "events.change", None, **ids)
    await acts.do("POST", path + "/devices", "devices.manage", {"name": "Door"}, event_id=event["id"])
    code = await acts.do("POST", "/v1/devices", "devices.manage", {"name": "Tent"})
    device = await acts.do("POST", "/v1/devices/pair", "devices.manage", {"code": code["pairing_code"]})
    path, ids = "/v1/devices/{device_id}", {"device_id": device["device_id"], "target": device["device_id"]}
    await acts.do("PATCH", path, "devices.manage", {"name": "Back door"}, **ids)
    await acts.do("POST", path + "/pairing-code", "devices.manage", {}, **ids)
    await acts.do("DELETE", path, "devices.manage", None, **ids)


async def log_of(system: System, org_id: str, query: str = "", token: str = SUPERADMIN_TOKEN) -> list[Any]:
    """All lines, page by page."""
    lines: list[Any] = []
    cursor = ""
    while True:
        path = f"/v1/orgs/{org_id}/audit-log?limit=7{query}{cursor}"
        page = await system.made("GET", path, token=token)
        lines += page["items"]
        if page["next_cursor"] is None:
            return lines
        cursor = f"&cursor={page['next_cursor']}"


async def test_every_act_has_one_line(system: System) -> None:
    acts = await everything(system)
    lines = await log_of(system, acts.org["id"])
    found = [(line["action"], line["target"]) for line in lines]
    wanted = [line for lines in acts.done.values() for line in lines] + acts.more
    invitations = [line for line in found if line[0] == "roles.manage" and line not in wanted]
    assert len(invitations) == 1, "the one that `invited` made"
    assert sorted(found) == sorted(wanted + invitations), "one line each, though each was tried twice"
    assert {line["action"] for line in lines} <= POLICY.keys()
    assert [line["id"] for line in lines] == sorted((line["id"] for line in lines), reverse=True)
    text = str(lines)
    for secret in (acts.org["key"], acts.org["api_key"]["key"].rpartition("_")[2], "mvi_", "mvk_", "mvd_"):
        assert secret not in text


async def test_no_route_that_changes_something_is_forgotten(system: System) -> None:
    routes = {
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods - {"GET"}
    }
    acts = await everything(system)
    assert routes == acts.done.keys() | EXEMPT.keys()
    assert not acts.done.keys() & EXEMPT.keys()
    document = (await system.call("GET", "/openapi.json")).json()
    hot = {path for path, verbs in document["paths"].items() if "post" in verbs and ("POST", path) not in routes}
    assert all(path.startswith(RECORDED) for path in hot)


async def test_a_line_says_who_did_what(system: System) -> None:
    org = await system.open_org("Table")
    admin = await system.signed_in("org_admin", org["id"])
    path = f"/v1/orgs/{org['id']}"
    await system.call(
        "PATCH", path, {"overdraft_max": 5, "branding": {"primary_color": "#ABCDEF"}}, org["key"], key="one"
    )
    await system.call("PATCH", path, {"locale": "vi"}, admin["access_token"], key="two")
    last, before, first = await log_of(system, org["id"])
    assert (first["actor"], first["action"], first["target"]) == ("superadmin", "orgs.create", org["id"])
    assert first["detail"]["settings"]["plan"] == "premium"
    assert (before["actor"], before["request_id"]) == (org["api_key"]["id"], "one")
    assert before["detail"] == {"overdraft_max": 5, "branding": {"primary_color": "#abcdef"}}
    assert (last["actor"], last["request_id"], last["detail"]) == (admin["account"]["id"], "two", {"locale": "vi"})
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Nguyễn Ánh"}, "tier": "gold"}, org["key"])
    (line, *_) = await log_of(system, org["id"])
    assert (line["target"], line["detail"]["tier"]) == (card["id"], "gold")
    assert "Ánh" not in str(line), "a person's name is not the log's"


async def test_what_is_refused_is_no_act(system: System) -> None:
    org = await system.open_org(plan="free")
    before = len(await log_of(system, org["id"]))
    member = await system.made("POST", "/v1/members", {"name": "Ann"}, org["key"])
    items = {"items": [{"member_id": member["id"]}] * 12}
    await system.made("POST", "/v1/cards:batch", items, org["key"])
    (line, *_) = await log_of(system, org["id"])
    assert (line["detail"]["issued"], line["detail"]["asked"]) == (10, 12)
    assert (await system.call("POST", "/v1/cards", {"member_id": member["id"]}, org["key"])).status == 409
    assert (await system.call("POST", "/v1/cards:batch", {"items": items["items"][:1]}, org["key"])).status == 200
    assert len(await log_of(system, org["id"])) == before + 2


async def test_an_act_that_could_not_be_noted_is_noted_when_it_is_tried_again(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = await system.open_org()

    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("away")

    body = {"name": "Gala", "capacity": 5}
    monkeypatch.setattr("gateway.admin_log.note", away)
    assert (await system.call("POST", "/v1/events", body, org["key"], key="event")).status == 503
    monkeypatch.undo()
    made = await system.call("POST", "/v1/events", body, org["key"], key="event")
    assert made.status == 201
    (line, *_) = await log_of(system, org["id"], "&action=events.create")
    assert line["target"] == made.json()["id"]


async def test_filters(system: System) -> None:
    org = await system.open_org()
    events = []
    for number in range(3):
        events.append(await system.made("POST", "/v1/events", {"name": f"E{number}", "capacity": 5}, org["key"]))
        system.clock.ahead_ms += 60_000
    path = f"/v1/orgs/{org['id']}"
    await system.made("PATCH", path, {"locale": "vi"}, org["key"])
    lines = await log_of(system, org["id"])
    assert len(lines) == 5
    for query, count in (
        ("&action=events.create", 3),
        ("&action=events.change", 0),
        (f"&actor={org['api_key']['id']}", 4),
        ("&actor=superadmin", 1),
        (f"&target={events[1]['id']}", 1),
        (f"&target={events[1]['id']}&action=orgs.update", 0),
        (f"&since={lines[0]['at']}", 1),
        (f"&until={lines[0]['at']}", 4),
        ("&since=9999-01-01T00:00:00Z", 0),
        ("&until=9999-01-01T00:00:00Z", 5),
        (f"&since={rfc3339(1)}", 5),
    ):
        assert len(await log_of(system, org["id"], query)) == count, query
    page = await system.made("GET", f"{path}/audit-log?limit=1", token=org["key"])
    other = f"{path}/audit-log?limit=1&action=events.create&cursor={page['next_cursor']}"
    assert code(await system.call("GET", other, token=org["key"])) == (400, "cursor_invalid")
    for wrong in ("since=yesterday", "limit=0", "action=", "target=%00"):
        assert (await system.call("GET", f"{path}/audit-log?{wrong}", token=org["key"])).status == 400


async def test_who_reads_it(system: System) -> None:
    org, other = await system.open_org(), await system.open_org()
    path = f"/v1/orgs/{org['id']}/audit-log"
    for role, status in (("org_admin", 200), ("staff", 403), ("member", 403)):
        token = (await system.signed_in(role, org["id"]))["access_token"]
        assert (await system.call("GET", path, token=token)).status == status
    assert (await system.call("GET", path, token=org["key"])).status == 200
    foreign = await system.call("GET", path, token=other["key"])
    absent = await system.call("GET", "/v1/orgs/org_none/audit-log", token=other["key"])
    assert code(foreign) == code(absent) == (404, "tenant_unknown")
    assert {line["target"] for line in await log_of(system, other["id"])} == {other["id"]}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE admin_log SET actor = 'nobody'",
        "DELETE FROM admin_log",
        "DELETE FROM admin_log WHERE false",
        "TRUNCATE admin_log",
        "INSERT INTO admin_log SELECT * FROM admin_log ON CONFLICT (tenant_id, entry_id) DO UPDATE SET actor = ''",
    ],
)
async def test_postgres_lets_nobody_change_a_line(system: System, statement: str) -> None:
    org = await system.open_org()
    before = await log_of(system, org["id"])
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await system.parts.pool.execute(statement)
    assert await log_of(system, org["id"]) == before
