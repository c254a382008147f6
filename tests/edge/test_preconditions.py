"""Entity tags and conditions: what is as it was seen is changed, once; what is not, is not."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from actors.ports import StoreUnavailable
from gateway.problems import Problem
from gateway.rest.preconditions import Tag, parsed
from tests.edge.asgi import Answer
from tests.edge.in_process import SUPERADMIN_TOKEN, System

IN_ORG = ("org", "event", "member")
KINDS = (*IN_ORG, "me", "schema")
# A change of each kind that is seen in its answer, by number.
CHANGES = {
    "org": lambda number: {"name": f"Table {number}", "branding": {"display_name": f"T{number}"}},
    "event": lambda number: {"name": f"Evening {number}"},
    "member": lambda number: {"name": f"Ann {number}"},
    "me": lambda number: {"name": f"Someone {number}"},
    "schema": lambda number: {"schema": {"type": "object", "required": [f"field_{number}"]}},
}


class Things(msgspec.Struct):
    """One of each kind in an organisation, by kind: where it is."""

    system: System
    key: str
    person: str
    paths: dict[str, str]

    async def get(self, kind: str, **headers: str) -> Answer:
        token = self.person if kind == "me" else self.key
        return await self.system.call("GET", self.paths[kind], token=token, **headers)

    async def tag(self, kind: str) -> str:
        return (await self.get(kind)).headers["etag"]

    async def patch(self, kind: str, body: Any, if_match: str | None = None, key: str | None = None) -> Answer:
        headers = {} if if_match is None else {"If-Match": if_match}
        token = self.person if kind == "me" else self.key
        return await self.system.call(
            "PUT" if kind == "schema" else "PATCH", self.paths[kind], body, token, key, **headers
        )

    async def state(self, kind: str) -> Any:
        return (await self.get(kind)).json()


async def made_in(system: System, name: str = "Table") -> Things:
    org = await system.open_org(name)
    key = org["key"]
    event = await system.made("POST", "/v1/events", {"name": "Evening", "capacity": 9, "gates": [{"name": "A"}]}, key)
    member = await system.made("POST", "/v1/members", {"name": "Ann"}, key)
    ids = {"org": org["id"], "event": event["id"], "member": member["id"]}
    paths = {kind: f"/v1/{kind}s/{ids[kind]}" for kind in IN_ORG}
    paths |= {"me": "/v1/me", "schema": f"{paths['org']}/member-schema"}
    person = (await system.signed_in("staff", org["id"]))["access_token"]
    return Things(system, key, person, paths)


@pytest.fixture
async def things(system: System) -> Things:
    return await made_in(system)


def told(answer: Answer) -> Any:
    """What an answer tells of the thing; setting a schema tells more than that."""
    assert answer.status == 200, answer.body
    return {name: value for name, value in answer.json().items() if name not in ("checked", "failing", "complete")}


def failed(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


STALE = (412, "precondition_failed")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_tag_of_an_answer_is_good_for_the_next_change_and_no_older_one_is(things: Things, kind: str) -> None:
    first = await things.tag(kind)
    assert first[0] == first[-1] == '"', "strong"
    changed = await things.patch(kind, CHANGES[kind](1), first)
    assert changed.status == 200, changed.body
    second = changed.headers["etag"]
    assert second != first
    assert await things.tag(kind) == second, "the answer's tag is that of the next look"
    stale = await things.patch(kind, CHANGES[kind](2), first)
    assert failed(stale) == STALE
    assert stale.headers["content-type"] == "application/problem+json"
    assert await things.state(kind) == told(changed), "nothing has changed"
    assert await things.tag(kind) == second
    assert (await things.patch(kind, CHANGES[kind](3), second)).status == 200
    assert (await things.patch(kind, CHANGES[kind](4))).status == 200, "without a condition as ever"


@pytest.mark.parametrize("kind", KINDS)
async def test_of_many_changes_for_the_same_tag_one_is_made(things: Things, kind: str) -> None:
    for turn in range(3):
        tag = await things.tag(kind)
        answers = await asyncio.gather(
            *(things.patch(kind, CHANGES[kind](10 * turn + number), tag) for number in range(8))
        )
        made = [answer for answer in answers if answer.status == 200]
        assert len(made) == 1, [answer.status for answer in answers]
        assert {failed(answer) for answer in answers if answer.status != 200} == {STALE}
        assert await things.state(kind) == told(made[0])
        assert await things.tag(kind) == made[0].headers["etag"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_retry_gets_the_first_answer_again(things: Things, kind: str) -> None:
    tag = await things.tag(kind)
    first = await things.patch(kind, CHANGES[kind](1), tag, key="once")
    again = await things.patch(kind, CHANGES[kind](1), tag, key="once")
    assert (again.status, again.json(), again.headers["etag"]) == (200, first.json(), first.headers["etag"])
    refused = await things.patch(kind, CHANGES[kind](2), tag, key="stale")
    assert failed(refused) == STALE
    assert failed(await things.patch(kind, CHANGES[kind](2), tag, key="stale")) == STALE
    other = await things.patch(kind, CHANGES[kind](1), first.headers["etag"], key="once")
    assert failed(other) == (422, "id_reused"), "another condition is another request"
    third = told(await things.patch(kind, CHANGES[kind](3)))
    late = await things.patch(kind, CHANGES[kind](1), tag, key="once")
    assert late.status == 200, "whatever has become of it since"
    assert await things.state(kind) == third, "and it changes nothing more"


@pytest.mark.parametrize("kind", KINDS)
async def test_which_tags_hold(things: Things, kind: str) -> None:
    tag = await things.tag(kind)
    for stale in (f"W/{tag}", '"else"', '""', f'W/{tag}, "else"', '"else", "more"', f'"x{tag[1:]}'):
        assert failed(await things.patch(kind, CHANGES[kind](1), stale)) == STALE, stale
    for holds in ("*", tag, f'"else", {tag}', f'  W/"else" ,, {tag},'):
        changed = await things.patch(kind, CHANGES[kind](1), holds.replace(tag, await things.tag(kind)))
        assert changed.status == 200, holds


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_no_tag_is_refused_by_the_headers_name(things: Things, kind: str) -> None:
    before = await things.get(kind)
    for header in ("", "abc", '"abc', 'abc"', '"a" "b"', "*, *", '*, "a"', '"a b"', 'w/"a"', '"a";q=1', '"\x00"'):
        answer = await things.patch(kind, CHANGES[kind](1), header)
        assert failed(answer) == (400, "malformed"), header
        assert [error["parameter"] for error in answer.json()["errors"]] == ["If-Match"]
        copy = await things.get(kind, **{"If-None-Match": header})
        assert failed(copy) == (400, "malformed"), header
        assert [error["parameter"] for error in copy.json()["errors"]] == ["If-None-Match"]
    assert (await things.get(kind)).json() == before.json()


def test_lines_of_a_header_are_one_list() -> None:
    assert parsed(['"a", W/"b"', '"c,d"'], "If-Match") == (Tag("a"), Tag("b", True), Tag("c,d"))
    assert parsed(["*"], "If-Match") is None
    assert len(parsed([", ".join(['"a"'] * 20)], "If-Match") or ()) == 20
    with pytest.raises(Problem, match="1 to 20"):
        parsed([", ".join(['"a"'] * 21)], "If-Match")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_copy_that_is_still_good_is_not_sent_again(things: Things, kind: str) -> None:
    seen = await things.get(kind)
    tag = seen.headers["etag"]
    for held in (tag, f"W/{tag}", f'"else", {tag}', "*"):
        same = await things.get(kind, **{"If-None-Match": held})
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag), held
    for held in ('"else"', f'"x{tag[1:]}'):
        assert (await things.get(kind, **{"If-None-Match": held})).json() == seen.json()
    await things.patch(kind, CHANGES[kind](1))
    assert (await things.get(kind, **{"If-None-Match": tag})).status == 200


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "me"])
async def test_a_foreign_thing_is_absent_under_any_condition(things: Things, kind: str) -> None:
    own_path = things.paths[kind]
    foreign = await made_in(things.system, "Other")
    tag = await foreign.tag(kind)
    for condition in (None, "*", '"else"', 'W/"else"', "no tag", tag):
        things.paths[kind] = foreign.paths[kind]
        foreigns = await things.patch(kind, CHANGES[kind](1), condition)
        parts = own_path.split("/")
        things.paths[kind] = "/".join([*parts[:3], f"{parts[3].partition('_')[0]}_none", *parts[4:]])
        known = await things.patch(kind, CHANGES[kind](1), condition)
        assert foreigns.status == (400 if condition == "no tag" else 404)
        assert foreigns.json() | {"request_id": ""} == known.json() | {"request_id": ""}
    assert await foreign.tag(kind) == tag


async def test_the_first_schema_is_set_once_and_an_old_tag_is_not_good_after_it_was_taken_away(things: Things) -> None:
    """There is no row to lock at first, and versions begin anew after there was none."""
    none = await things.tag("schema")
    answers = await asyncio.gather(*(things.patch("schema", CHANGES["schema"](n), none) for n in range(6)))
    assert sorted(answer.status for answer in answers) == [200, 412, 412, 412, 412, 412]
    first = await things.tag("schema")
    assert (await things.patch("schema", {"schema": None}, first)).status == 200
    assert await things.tag("schema") == none
    assert (await things.patch("schema", CHANGES["schema"](7), none)).json()["version"] == 1
    assert failed(await things.patch("schema", CHANGES["schema"](8), first)) == STALE


async def test_ones_own_requests_are_not_anybody_elses(things: Things) -> None:
    """Two people under the same request id: neither gets the other's outcome."""
    other = (await things.system.register_and_login("other@example.com"))["access_token"]
    for token in (things.person, other):
        answer = await things.system.call("PATCH", "/v1/me", {"name": "Bea"}, token, "same-key")
        assert (answer.status, answer.json()["account"]["name"]) == (200, "Bea")


# --- organisations: two stores decide ---------------------------------------------------------------------------------


async def test_both_halves_of_an_organisation_count(things: Things) -> None:
    """A change of what Postgres keeps is not made on an older state of what the engine keeps, nor the other way round;
    and a change of both is made as a whole or not at all."""
    for before, after in (
        ({"name": "Else"}, {"locale": "vi-VN"}),
        ({"locale": "fr"}, {"name": "Late"}),
        ({"locale": "de"}, {"name": "Late", "locale": "en"}),
        ({"checkin_points": 3}, {"name": "Late", "locale": "en"}),
    ):
        tag = await things.tag("org")
        assert (await things.patch("org", before)).status == 200
        now = (await things.get("org")).json()
        assert failed(await things.patch("org", after, tag)) == STALE, (before, after)
        assert (await things.get("org")).json() == now, (before, after)


async def test_of_many_changes_of_a_profile_alone_one_is_made(things: Things) -> None:
    """Nothing of it is in the engine, so it is the lock that tells them apart."""
    tag = await things.tag("org")
    locales = ("vi", "fr", "de", "en", "ja", "ko")
    answers = await asyncio.gather(*(things.patch("org", {"locale": locale}, tag) for locale in locales))
    assert sorted(answer.status for answer in answers) == [200, 412, 412, 412, 412, 412]


async def test_cards_that_are_issued_do_not_stand_in_the_way_of_a_change_but_of_a_copy(things: Things) -> None:
    tag = await things.tag("org")
    await things.system.made("POST", "/v1/cards", {"member": {"name": "Ann"}, "tier": "gold"}, things.key)
    assert (await things.get("org", **{"If-None-Match": tag})).json()["usage"]["cards"] == 1
    assert (await things.patch("org", {"name": "Late"}, tag)).status == 200


async def test_the_platforms_acts_change_an_organisations_tag(things: Things) -> None:
    async def act(method: str, path: str, body: Any = None) -> None:
        await things.system.made(method, things.paths["org"] + path, body, SUPERADMIN_TOKEN)

    tag = await things.tag("org")
    await act("PUT", "/plan", {"plan": "free"})
    assert failed(await things.patch("org", {"name": "Late"}, tag)) == STALE
    tag = await things.tag("org")
    await act("POST", "/suspend")
    await act("POST", "/resume")
    assert failed(await things.patch("org", {"name": "Late"}, tag)) == STALE


async def test_a_change_that_broke_off_between_the_stores_is_completed_by_its_retry(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has taken it, Postgres has not, and somebody else came in between. The condition held when it was
    decided, so the retry is no 412."""
    tag = await things.tag("org")
    body = {"name": "Late", "locale": "vi-VN"}

    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr("gateway.rest.orgs.profiles.change", away)
        assert (await things.patch("org", body, tag, key="broken")).status == 503
    assert (await things.patch("org", {"branding": {"display_name": "Between"}})).status == 200
    again = await things.patch("org", body, tag, key="broken")
    assert again.status == 200, again.body
    now = (await things.get("org")).json()
    assert (now["name"], now["locale"], now["branding"]["display_name"]) == ("Late", "vi-VN", "Between")
    stale = {"name": "Too late", "locale": "fr"}
    assert failed(await things.patch("org", stale, tag, key="fresh")) == STALE, "one that was never taken is refused"
    assert (await things.get("org")).json() == now


async def test_a_role_is_changed_from_what_it_was(things: Things) -> None:
    """Two admins at the same time; and a retry after it has been changed again."""
    org_id = things.paths["org"].rpartition("/")[2]
    account = (await things.system.signed_in("staff", org_id))["account"]["id"]
    admin = (await things.system.signed_in("org_admin", org_id))["access_token"]

    async def change(role: str, if_match: str = "*", key: str | None = None) -> Answer:
        path = f"{things.paths['org']}/roles/{account}"
        return await things.system.call("PATCH", path, {"role": role}, admin, key, **{"If-Match": if_match})

    staff = (await change("staff")).headers["etag"]
    answers = await asyncio.gather(*(change("org_admin", staff) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 412, 412, 412]
    promoted = next(answer.headers["etag"] for answer in answers if answer.status == 200)
    assert (await change("staff", promoted, "down")).headers["etag"] == staff
    assert (await change("org_admin", staff)).status == 200
    assert (await change("staff", promoted, "down")).headers["etag"] == staff, "its first answer"
    assert (await change("org_admin", promoted)).status == 200, "and nothing more was changed"


# --- events and gates -------------------------------------------------------------------------------------------------


async def test_a_gate_has_a_tag_of_its_own_and_counts_for_its_event(things: Things) -> None:
    path = things.paths["event"] + "/gates"
    call, key = things.system.call, things.key
    gate = await call("POST", path, {"name": "B"}, key)
    one = f"{path}/{gate.json()['id']}"
    event_tag = await things.tag("event")
    assert (await things.patch("event", {"capacity": 5}, event_tag)).status == 200
    shut = await call("PATCH", one, {"open": False}, key, **{"If-Match": gate.headers["etag"]})
    assert (shut.status, shut.json()["open"]) == (200, False), "the event's change does not concern the gate"
    stale = await call("PATCH", one, {"name": "C"}, key, **{"If-Match": gate.headers["etag"]})
    assert failed(stale) == STALE
    seen = (await things.get("event")).json()["gates"][-1]
    assert seen == shut.json()
    renamed = await call("PATCH", one, {"name": "C"}, key, "g1", **{"If-Match": shut.headers["etag"]})
    assert renamed.json() == seen | {"name": "C"}
    assert failed(await things.patch("event", {"capacity": 6}, event_tag)) == STALE
    assert (await call("PATCH", one, {"open": True}, key)).status == 200
    again = await call("PATCH", one, {"name": "C"}, key, "g1", **{"If-Match": shut.headers["etag"]})
    assert (again.status, again.json(), again.headers["etag"]) == (200, renamed.json(), renamed.headers["etag"])


async def test_a_gate_that_changes_under_ones_hands_is_not_put_back(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the gate is filled in from a look at it; what comes in between is not undone, not even if
    the client would have it either way."""
    path = things.paths["event"] + "/gates"
    gate = await things.system.call("POST", path, {"name": "B"}, things.key)
    one = f"{path}/{gate.json()['id']}"
    shut = await things.system.call("PATCH", one, {"open": False}, things.key)
    await things.system.made("PATCH", one, {"open": True}, things.key)
    engine = things.system.parts.engine
    ask, shutting = engine.ask, iter([{"open": False}])

    async def looked_at(message: Any) -> Any:
        reply = await ask(message)
        if type(message).__name__ == "GetEvent":
            for body in shutting:
                await things.system.made("PATCH", one, body, things.key)
        return reply

    monkeypatch.setattr(engine, "ask", looked_at)
    either = {"If-Match": f"{gate.headers['etag']}, {shut.headers['etag']}"}
    assert failed(await things.system.call("PATCH", one, {"name": "C"}, things.key, **either)) == STALE
    assert (await things.get("event")).json()["gates"][-1]["open"] is False


async def test_scans_do_not_change_an_events_tag(things: Things) -> None:
    tag = await things.tag("event")
    card = await things.system.made("POST", "/v1/cards", {"member": {"name": "Ann"}, "tier": "gold"}, things.key)
    scan = {"event_id": things.paths["event"].rpartition("/")[2], "credential": card["credential"]}
    assert (await things.system.made("POST", "/v1/checkins", scan, things.key))["verdict"] == "admitted"
    assert await things.tag("event") == tag


async def test_a_tag_is_good_while_postgres_is_behind(things: Things) -> None:
    """What the projector has not taken yet counts."""
    await things.system.projector.stop()
    for kind in ("org", "event"):
        tag = await things.tag(kind)
        for number in range(5):
            changed = await things.patch(kind, CHANGES[kind](number), tag)
            assert changed.status == 200
            assert failed(await things.patch(kind, CHANGES[kind](number), tag)) == STALE
            tag = changed.headers["etag"]
            assert (await things.get(kind)).headers["etag"] == tag


# --- members ----------------------------------------------------------------------------------------------------------


async def test_nothing_is_remembered_of_a_member_beyond_the_erasure(things: Things) -> None:
    secret = "somebody@example.org"
    await things.patch("member", {"email": secret}, await things.tag("member"), key="k")
    rows = await things.system.parts.pool.fetch("SELECT response FROM cold_requests")
    assert rows
    assert all(secret not in row["response"] for row in rows)
    assert (await things.system.call("DELETE", things.paths["member"], token=things.key)).status == 204
    again = await things.patch("member", {"name": "Ann"}, "*")
    assert failed(again) == (409, "member_erased")


async def test_a_link_shows_in_a_members_tag_and_hinders_no_change(things: Things) -> None:
    tag = await things.tag("member")
    org_id, member_id = (things.paths[kind].rpartition("/")[2] for kind in ("org", "member"))
    await things.system.signed_in("member", org_id, member_id)
    assert (await things.get("member", **{"If-None-Match": tag})).json()["linked"] is True
    assert (await things.patch("member", {"name": "Bea"}, tag)).status == 200


async def test_null_and_nothing_are_different_requests(things: Things) -> None:
    assert (await things.patch("member", {"email": None}, key="k")).status == 200
    assert failed(await things.patch("member", {}, key="k")) == (422, "id_reused")
