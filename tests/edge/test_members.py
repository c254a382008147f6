"""Members: what organisers and members may set, names that follow to cards, erasure, schemas, consents, lists."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.in_process import System

FULL = {
    "name": "Nguyễn Văn Ánh",
    "email": "anh@example.org",
    "phone": "+84 912 345 678",
    "birthday": "1990-02-28",
    "locale": "vi-VN",
    "external_id": "C-1",
    "attributes": {"shoe": {"size": 40}, "vip": True},
    "consents": {"marketing_email": True, "photo": False},
}


async def a_member(system: System, key: str, **fields: Any) -> Any:
    return await system.made("POST", "/v1/members", {"name": "Ann", **fields}, key)


async def test_a_member_in_full(system: System) -> None:
    key = (await system.open_org())["key"]
    made = await system.call("POST", "/v1/members", FULL, key, key="m1")
    assert made.status == 201, made.body
    member = made.json()
    assert {name: member[name] for name in FULL if name != "consents"} == {
        n: v for n, v in FULL.items() if n != "consents"
    }
    assert {flag: (told["given"], told["source"]) for flag, told in member["consents"].items()} == {
        "marketing_email": (True, "organiser"),
        "photo": (False, "organiser"),
    }
    assert (member["version"], member["linked"], member["account_id"], member["erased_at"]) == (1, False, None, None)
    assert member["created_at"] == member["changed_at"]
    assert await system.made("GET", f"/v1/members/{member['id']}", token=key) == member
    assert (await system.call("POST", "/v1/members", FULL, key, key="m1")).json() == member
    taken = await system.call("POST", "/v1/members", FULL, key)
    assert (taken.status, taken.json()["code"]) == (409, "external_id_taken")
    assert taken.json()["errors"][0]["pointer"] == "#/external_id"
    other = (await system.open_org())["key"]
    assert (await system.call("POST", "/v1/members", FULL, other)).status == 201, "unique within an organisation only"


async def test_a_change_is_a_merge_patch_and_nothing_new_is_no_version(system: System) -> None:
    key = (await system.open_org())["key"]
    member = await a_member(system, key, **FULL)
    path = f"/v1/members/{member['id']}"
    patch = {"email": None, "attributes": {"shoe": {"size": None, "color": "red"}}, "consents": {"photo": True}}
    changed = await system.made("PATCH", path, patch, key)
    assert (changed["email"], changed["phone"], changed["version"]) == (None, FULL["phone"], 2)
    assert changed["attributes"] == {"shoe": {"color": "red"}, "vip": True}
    assert changed["changed_at"] >= member["changed_at"]
    assert changed["consents"]["photo"]["given"] is True
    assert await system.made("PATCH", path, patch, key) == changed
    assert await system.made("PATCH", path, {}, key) == changed
    assert await system.made("GET", path, token=key) == changed


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"name": None}, "#/name"),
        ({"name": ""}, "#/name"),
        ({"name": "a\x00b"}, "#/name"),
        ({"email": "nobody"}, "#/email"),
        ({"phone": "call me"}, "#/phone"),
        ({"birthday": "1990-02-30"}, "#/birthday"),
        ({"birthday": "1800-01-01"}, "#/birthday"),
        ({"birthday": "2999-01-01"}, "#/birthday"),
        ({"birthday": 19900101}, "#/birthday"),
        ({"locale": "not a locale"}, "#/locale"),
        ({"attributes": []}, "#/attributes"),
        ({"attributes": {"a": "b\x00"}}, "#/attributes"),
        ({"attributes": {"a": "x" * 17_000}}, "#/attributes"),
        ({"attributes": {"a": {"b": {"c": {"d": {"e": {"f": {}}}}}}}}, "#/attributes"),
        ({"consents": {"everything": True}}, "#/consents/everything"),
        ({"consents": {"photo": "yes"}}, "#/consents/photo"),
        ({"tenant_id": "org_x"}, "#/tenant_id"),
        ({"member_id": "mem_x"}, "#/member_id"),
        ({"id": "mem_x"}, "#/id"),
        ({"created_at": "2020-01-01T00:00:00Z"}, "#/created_at"),
        ({"version": 9}, "#/version"),
        ({"erased_at": None}, "#/erased_at"),
        ({"account_id": "acc_x"}, "#/account_id"),
        ({"linked": True}, "#/linked"),
    ],
)
async def test_what_cannot_be_set(system: System, patch: dict[str, Any], pointer: str) -> None:
    key = (await system.open_org())["key"]
    member = await a_member(system, key)
    answer = await system.call("PATCH", f"/v1/members/{member['id']}", patch, key)
    assert (answer.status, answer.json()["code"]) == (400, "malformed")
    assert answer.json()["errors"][0]["pointer"] == pointer
    if "name" not in patch:
        created = await system.call("POST", "/v1/members", {"name": "Bo", **patch}, key)
        assert created.status == 400, created.body
    assert await system.made("GET", f"/v1/members/{member['id']}", token=key) == member


# --- roles ------------------------------------------------------------------------------------------------------------


async def test_members_reach_themselves_and_set_their_own_fields_only(system: System) -> None:
    org = await system.open_org()
    key = org["key"]
    me, other = await a_member(system, key), await a_member(system, key)
    token = (await system.signed_in("member", org["id"], me["id"]))["access_token"]
    path = f"/v1/members/{me['id']}"
    seen = await system.made("GET", path, token=token)
    assert (seen["linked"], seen["account_id"] is not None) == (True, True)
    own = {"name": "Me", "phone": "0912 345 678", "locale": "vi", "consents": {"profiling": True}}
    changed = await system.made("PATCH", path, own, token)
    assert (changed["name"], changed["locale"], changed["phone"]) == ("Me", "vi", "0912 345 678")
    assert changed["consents"]["profiling"]["source"] == "member"
    for name, value in (
        ("email", "me@example.org"),
        ("attributes", {"vip": True}),
        ("external_id", "X"),
        ("birthday", "1990-01-01"),
    ):
        answer = await system.call("PATCH", path, {"locale": "en", name: value}, token)
        assert (answer.status, answer.json()["code"]) == (403, "forbidden")
        assert [error["pointer"] for error in answer.json()["errors"]] == [f"#/{name}"]
    assert (await system.made("GET", path, token=key))["locale"] == "vi", "all or nothing"
    for method, suffix, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("GET", "/consents", None),
        ("GET", "/reputation", None),
    ):
        foreign = await system.call(method, f"/v1/members/{other['id']}{suffix}", body, token)
        absent = await system.call(method, f"/v1/members/mem_none{suffix}", body, token)
        assert (
            (foreign.status, foreign.json()["code"])
            == (404, "member_unknown")
            == (absent.status, absent.json()["code"])
        )
    assert (await system.call("GET", path + "/consents", token=token)).status == 200
    assert (await system.call("GET", path + "/reputation", token=token)).status == 200
    for method, where in (
        ("GET", "/v1/members"),
        ("GET", "/v1/members/search?q=ann"),
        ("GET", "/v1/members/imports"),
        ("DELETE", path),
        ("GET", f"/v1/orgs/{org['id']}/member-schema"),
    ):
        assert (await system.call(method, where, token=token)).status == 403, where


async def test_staff_look_and_do_not_touch(system: System) -> None:
    org = await system.open_org()
    member = await a_member(system, org["key"])
    token = (await system.signed_in("staff", org["id"]))["access_token"]
    path = f"/v1/members/{member['id']}"
    for method, where, status in (
        ("GET", path, 200),
        ("GET", path + "/consents", 200),
        ("GET", path + "/reputation", 200),
        ("GET", f"/v1/orgs/{org['id']}/member-schema", 200),
        ("PATCH", path, 403),
        ("DELETE", path, 403),
        ("GET", "/v1/members", 403),
        ("PUT", f"/v1/orgs/{org['id']}/member-schema", 403),
    ):
        body = {"name": "x"} if method == "PATCH" else {"schema": None} if method == "PUT" else None
        assert (await system.call(method, where, body, token)).status == status, (method, where)


# --- names and erasure ------------------------------------------------------------------------------------------------


async def test_a_new_name_reaches_verdicts_and_boards_and_history_keeps_the_old_one(system: System) -> None:
    key = (await system.open_org())["key"]
    member = await a_member(system, key)
    card = await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 5}, key)
    check_in = {"event_id": event["id"], "credential": card["credential"]}
    await system.made("POST", "/v1/checkins", check_in, key)
    await system.made("PATCH", f"/v1/members/{member['id']}", {"name": "Ánh"}, key)
    verdict = await system.made("POST", "/v1/checkins", {**check_in, "direction": "exit"}, key)
    assert verdict["member"] == {"id": member["id"], "name": "Ánh"}
    assert (await system.made("GET", f"/v1/cards/{card['id']}", token=key))["member"]["name"] == "Ánh"
    board = await system.made("GET", "/v1/leaderboards/points", token=key)
    assert [row["name"] for row in board["items"]] == ["Ánh"]
    scans = await system.made("GET", f"/v1/events/{event['id']}/checkins", token=key)
    assert [scan["member"]["name"] for scan in scans["items"]] == ["Ánh", "Ann"]
    assert await system.parts.pool.fetchval("SELECT count(*) FROM members WHERE cards_behind") == 0
    assert (await system.call("POST", "/v1/cards", {"member_id": member["id"]}, key, key="c")).status == 201
    await system.made("PATCH", f"/v1/members/{member['id']}", {"name": "Bình"}, key)
    again = await system.call("POST", "/v1/cards", {"member_id": member["id"]}, key, key="c")
    assert (again.status, again.json()["member"]["name"]) == (201, "Ánh"), (
        "a retry is the same request, whatever the name"
    )


async def test_a_name_that_could_not_follow_at_once_follows_later(system: System) -> None:
    key = (await system.open_org())["key"]
    member = await a_member(system, key)
    card = await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    await system.made("GET", "/v1/cards", token=key)
    # As if the gateway had been killed between the commit and the engine.
    await system.parts.pool.execute("UPDATE members SET name = 'Ánh', version = 2, cards_behind = true")
    assert await system.app.member_work.names.follow_all()
    assert (await system.made("GET", f"/v1/cards/{card['id']}", token=key))["member"]["name"] == "Ánh"
    assert await system.parts.pool.fetchval("SELECT count(*) FROM members WHERE cards_behind") == 0
    # As if the card had been issued with the name that was read before the change.
    await system.parts.pool.execute("UPDATE members SET name = 'Cúc', version = 3")
    second = await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    assert second["member"]["name"] == "Cúc"


async def test_erasing_a_member(system: System) -> None:
    org = await system.open_org()
    key = org["key"]
    member = await a_member(system, key, **FULL)
    card = await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    token = (await system.signed_in("member", org["id"], member["id"]))["access_token"]
    path = f"/v1/members/{member['id']}"
    refused = await system.call("DELETE", path, token=key)
    assert (refused.status, refused.json()["code"]) == (409, "member_has_cards")
    await system.made("POST", f"/v1/cards/{card['id']}/revoke", None, key)
    assert (await system.call("DELETE", path, token=key)).status == 204
    assert (await system.call("DELETE", path, token=key)).status == 204, "again is the same"
    gone = await system.made("GET", path, token=key)
    empty = ("email", "phone", "birthday", "locale", "external_id", "account_id")
    assert (gone["name"], gone["attributes"], gone["version"]) == ("Deleted member", {}, 2)
    assert {name: gone[name] for name in empty} == dict.fromkeys(empty)
    assert gone["erased_at"] is not None
    assert all(not told["given"] for told in gone["consents"].values())
    assert (await system.made("GET", f"/v1/cards/{card['id']}", token=key))["member"]["name"] == "Deleted member"
    changed = await system.call("PATCH", path, {"name": "Back"}, key)
    assert (changed.status, changed.json()["code"]) == (409, "member_erased")
    issued = await system.call("POST", "/v1/cards", {"member_id": member["id"]}, key)
    assert (issued.status, issued.json()["code"]) == (404, "member_unknown")
    assert (await system.made("GET", "/v1/members/search?q=anh@example.org", token=key))["items"] == []
    assert (await system.made("GET", "/v1/members/search?q=deleted", token=key))["items"] == []
    history = await system.made("GET", path + "/consents", token=key)
    assert [(step["consent"], step["given"], step["source"]) for step in history["history"]] == [
        ("marketing_email", False, "erasure"),
        ("marketing_email", True, "organiser"),
        ("photo", False, "organiser"),
    ]
    assert (await system.call("GET", path, token=token)).status in (401, 403, 404), "the account is linked no more"
    rows = await system.parts.pool.fetch("SELECT row_to_json(m)::text AS row FROM members AS m")
    assert not any("anh" in row["row"].lower() for row in rows), "nothing is left, in no column"
    assert (await system.call("DELETE", "/v1/members/mem_none", token=key)).status == 404


async def test_who_changed_what_is_noted_without_saying_anything_about_the_person(system: System) -> None:
    key = (await system.open_org())["key"]
    member = await a_member(system, key, **FULL)
    await system.made("PATCH", f"/v1/members/{member['id']}", {"name": "Bo", "email": None}, key)
    await system.call("DELETE", f"/v1/members/{member['id']}", token=key)
    rows = await system.parts.pool.fetch(
        "SELECT action, detail FROM admin_log WHERE target = $1 ORDER BY entry_id", member["id"]
    )
    assert [row["action"] for row in rows] == ["members.create", "members.update", "members.erase"]
    assert '"fields": ["email", "name"]' in rows[1]["detail"]
    assert not any(word in row["detail"] for row in rows for word in ("Bo", "anh", "Ánh"))


# --- consents and reputation ------------------------------------------------------------------------------------------


async def test_the_history_of_consents_is_append_only(system: System) -> None:
    key = (await system.open_org())["key"]
    member = await a_member(system, key, consents={"photo": True})
    path = f"/v1/members/{member['id']}"
    await system.made("PATCH", path, {"consents": {"photo": None}}, key)
    await system.made("PATCH", path, {"consents": {"photo": False}}, key)
    told = await system.made("GET", path + "/consents", token=key)
    assert told["consents"]["photo"]["given"] is False
    assert [(step["consent"], step["given"]) for step in told["history"]] == [("photo", False), ("photo", True)]
    for statement in (
        "UPDATE member_consents SET is_given = true",
        "DELETE FROM member_consents",
        "TRUNCATE member_consents",
    ):
        with pytest.raises(Exception, match="append-only"):
            await system.parts.pool.execute(statement)


async def test_a_reputation_counts_what_was_just_confirmed(system: System) -> None:
    key = (await system.open_org())["key"]
    member = await a_member(system, key)
    path = f"/v1/members/{member['id']}/reputation"
    new = await system.made("GET", path, token=key)
    assert (new["score"], new["stale"]) == (50, False)
    card = await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    other = await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    for name in ("One", "Two"):
        event = await system.made("POST", "/v1/events", {"name": name, "capacity": 5}, key)
        for _ in range(2):
            await system.made("POST", "/v1/checkins", {"event_id": event["id"], "credential": card["credential"]}, key)
    await system.made("POST", "/v1/checkins", {"event_id": event["id"], "credential": other["credential"]}, key)
    points = f"/v1/cards/{card['id']}/points"
    await system.made("POST", points + "/award", {"amount": 900}, key)
    await system.made("POST", points + "/redeem", {"amount": 300}, key)
    spent = await system.made("POST", points + "/redeem", {"amount": 500}, key)
    await system.made("POST", points + "/reverse", {"entry_seq": spent["entry"]["seq"]}, key)
    await system.made("POST", f"/v1/cards/{other['id']}/revoke", None, key)
    told = await system.made("GET", path, token=key)
    factors = {factor["name"]: (factor["value"], factor["points"]) for factor in told["factors"]}
    assert factors == {
        "visits": (2, 4),
        "days_known": (0, 0),
        "points_redeemed": (300, 3),
        "refused_scans": (2, -2),
        "revoked_cards": (1, -10),
        "suspended_cards": (0, 0),
    }
    assert told["score"] == 50 + 4 + 3 - 2 - 10
    assert all(factor["explanation"] for factor in told["factors"])


# --- schemas ----------------------------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "required": ["size"],
    "additionalProperties": False,
    "properties": {"size": {"type": "integer", "minimum": 20}, "tags": {"type": "array", "items": {"type": "string"}}},
}


async def test_attributes_follow_the_organisations_schema(system: System) -> None:
    org = await system.open_org()
    key, path = org["key"], f"/v1/orgs/{org['id']}/member-schema"
    assert await system.made("GET", path, token=key) == {"schema": None, "version": 0, "changed_at": None}
    old = await a_member(system, key, attributes={"size": "large"})
    await a_member(system, key, attributes={"size": 40})
    put = await system.made("PUT", path, {"schema": SCHEMA}, key)
    assert (put["version"], put["checked"], put["failing"], put["complete"]) == (1, 2, 1, True)
    assert (await system.made("PUT", path, {"schema": SCHEMA}, key))["version"] == 1, "nothing changed"
    assert (await system.made("GET", path, token=key))["schema"] == SCHEMA
    for attributes, pointers in (
        ({}, ["#/attributes/size"]),
        ({"size": 4, "tags": [1], "more": 1}, ["#/attributes/more", "#/attributes/size", "#/attributes/tags/0"]),
    ):
        answer = await system.call("POST", "/v1/members", {"name": "Bo", "attributes": attributes}, key)
        assert answer.status == 400
        assert sorted(error["pointer"] for error in answer.json()["errors"]) == pointers
    assert (await system.call("POST", "/v1/members", {"name": "Bo"}, key)).status == 400, "what is required is missing"
    assert (await system.call("POST", "/v1/cards", {"member": {"name": "Bo"}}, key)).status == 201, (
        "no attributes asked"
    )
    member = f"/v1/members/{old['id']}"
    assert (await system.call("PATCH", member, {"phone": "0912345678"}, key)).status == 200, "no attributes written"
    refused = await system.call("PATCH", member, {"attributes": {"tags": ["a"]}}, key)
    assert [error["pointer"] for error in refused.json()["errors"]] == ["#/attributes/size"]
    fixed = await system.made("PATCH", member, {"attributes": {"size": 41, "tags": ["a"]}}, key)
    assert fixed["attributes"] == {"size": 41, "tags": ["a"]}
    assert (await system.made("PUT", path, {"schema": None}, key))["version"] == 0
    assert (await system.call("PATCH", member, {"attributes": {"size": "small"}}, key)).status == 200


async def test_a_bad_schema_is_refused_with_a_pointer(system: System) -> None:
    org = await system.open_org()
    path = f"/v1/orgs/{org['id']}/member-schema"
    for schema, pointer in (
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "#/schema/properties/a/$ref"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, "#/schema/properties/a/pattern"),
        ({}, "#/schema"),
    ):
        answer = await system.call("PUT", path, {"schema": schema}, org["key"])
        assert (answer.status, answer.json()["errors"][0]["pointer"]) == (400, pointer)
    assert (await system.call("PUT", path, {}, org["key"])).status == 400
    other = await system.open_org()
    assert (await system.call("GET", path, token=other["key"])).json()["code"] == "tenant_unknown"
    assert (await system.call("PUT", path, {"schema": None}, other["key"])).status == 404


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_with_filters_and_pages(system: System) -> None:
    key = (await system.open_org())["key"]
    made = [
        await a_member(system, key, email=f"A{n}@example.org", external_id=f"x{n}", consents={"photo": n % 2 == 0})
        for n in range(5)
    ]
    ids = sorted(member["id"] for member in made)
    first = await system.made("GET", "/v1/members?limit=3", token=key)
    second = await system.made("GET", f"/v1/members?limit=3&cursor={first['next_cursor']}", token=key)
    assert [member["id"] for member in (*first["items"], *second["items"])] == ids
    assert second["next_cursor"] is None
    assert first["items"][0] == await system.made("GET", f"/v1/members/{ids[0]}", token=key)

    async def found(query: str) -> set[str]:
        page = await system.made("GET", f"/v1/members?{query}", token=key)
        return {member["external_id"] for member in page["items"]}

    assert await found("email=a3@example.org") == {"x3"}
    assert await found("external_id=x2") == {"x2"}
    assert await found("consent=photo") == {"x0", "x2", "x4"}
    assert await found("erased=true") == set()
    assert len(await found("erased=false")) == 5
    assert await found("created_since=2999-01-01T00:00:00Z") == set()
    assert len(await found("created_until=2999-01-01T00:00:00Z")) == 5
    wrong = await system.call("GET", f"/v1/members?limit=3&consent=photo&cursor={first['next_cursor']}", token=key)
    assert (wrong.status, wrong.json()["code"]) == (400, "cursor_invalid")


async def test_the_list_as_csv_is_for_organisers_and_no_cell_is_a_formula(system: System) -> None:
    org = await system.open_org()
    key = org["key"]
    await a_member(system, key, **{**FULL, "name": '=HYPERLINK("x"),1'})
    await system.made(
        "PUT",
        f"/v1/orgs/{org['id']}/member-schema",
        {"schema": {"type": "object", "properties": {"vip": {}, "shoe": {}}}},
        key,
    )
    answer = await system.call("GET", "/v1/members", token=key, Accept="text/csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    lines = answer.body.decode().split("\r\n")
    assert lines[0] == (
        "id,external_id,name,email,phone,birthday,locale,created_at,consent.marketing_email,consent.marketing_sms,"
        "consent.marketing_push,consent.profiling,consent.photo,consent.data_sharing,attr.vip,attr.shoe"
    )
    assert ',C-1,"\'=HYPERLINK(""x""),1",anh@example.org,\'+84 912 345 678,1990-02-28,vi-VN,' in lines[1]
    assert lines[1].endswith(',true,,,,false,,true,"{""size"":40}"')
    assert lines[2:] == [""]
    keys = f"/v1/orgs/{org['id']}/api-keys"
    reader = (await system.made("POST", keys, {"name": "r", "scopes": ["read"]}, key))["key"]
    assert (await system.call("GET", "/v1/members", token=reader)).status == 200
    refused = await system.call("GET", "/v1/members", token=reader, Accept="text/csv")
    assert (refused.status, refused.json()["code"]) == (403, "forbidden")


# --- links ------------------------------------------------------------------------------------------------------------


async def test_a_member_is_invited_linked_and_unlinked(system: System) -> None:
    org = await system.open_org()
    key = org["key"]
    member = await a_member(system, key, email="Ann@Example.com")
    path = f"/v1/members/{member['id']}"
    invited = await system.call("POST", path + "/link", None, key, key="l1")
    assert (invited.status, invited.json()["email"], invited.json()["role"]) == (201, "ann@example.com", "member")
    assert (await system.call("POST", path + "/link", None, key, key="l1")).json() == invited.json()
    await system.register("ann@example.com")
    await system.parts.post.settled()
    letters = [letter for letter in system.mailbox.to("ann@example.com") if "invited" in letter.subject]
    assert len(letters) == 1, "a retry sends no second mail"
    account = await system.login("ann@example.com")
    await system.made(
        "POST", "/v1/invitations/accept", {"token": letters[0].text.split("\n\n")[2]}, account["access_token"]
    )
    token = (await system.login("ann@example.com"))["access_token"]
    seen = await system.made("GET", path, token=token)
    assert (seen["linked"], seen["account_id"]) == (True, account["account"]["id"])
    assert (await system.made("GET", "/v1/members", token=key))["items"][0]["linked"] is True
    assert (await system.call("POST", path + "/link", {"email": "me@example.com"}, token)).status == 403
    assert (await system.call("DELETE", path + "/link", token=token)).status == 204, "one may go oneself"
    assert (await system.made("GET", path, token=key))["linked"] is False
    assert (await system.call("GET", path, token=token)).status in (401, 403, 404)
    again = await system.call("DELETE", path + "/link", token=key)
    assert (again.status, again.json()["code"]) == (404, "link_unknown")
    rows = await system.parts.pool.fetch("SELECT detail FROM admin_log WHERE action = 'members.link'")
    assert len(rows) == 2
    assert not any("example.com" in row["detail"] for row in rows)


async def test_whom_nobody_can_invite(system: System) -> None:
    key = (await system.open_org())["key"]
    nobody = await a_member(system, key)
    answer = await system.call("POST", f"/v1/members/{nobody['id']}/link", None, key)
    assert (answer.status, answer.json()["errors"][0]["pointer"]) == (400, "#/email")
    assert (
        await system.call("POST", f"/v1/members/{nobody['id']}/link", {"email": "ann@example.com"}, key)
    ).status == 201
    assert (await system.call("DELETE", f"/v1/members/{nobody['id']}", token=key)).status == 204
    assert await system.parts.pool.fetchval("SELECT count(*) FROM invitations") == 0
    gone = await system.call("POST", f"/v1/members/{nobody['id']}/link", {"email": "ann@example.com"}, key)
    assert (gone.status, gone.json()["code"]) == (409, "member_erased")
    absent = await system.call("POST", "/v1/members/mem_none/link", {"email": "ann@example.com"}, key)
    assert (absent.status, absent.json()["code"]) == (404, "member_unknown")
