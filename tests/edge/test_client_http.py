"""The client's requests against a server that fails: what is tried again, under which id, after which pause, and what
the caller is told in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.client import ApiError, AsyncMasterVip, OutcomeUnknown, RetryPolicy, Tagged, Unavailable
from gateway.client.caller import given, path
from tests.support.client_timing import FakeTiming
from tests.support.faulty_http import CUT, FaultyServer, Handler, Reply, Seen, problem, script

FAST = RetryPolicy(first_pause_s=0.1, pause_s_max=1.0, deadline_s=10.0, try_timeout_s=5.0)


@asynccontextmanager
async def facing(
    handler: Handler, fake: FakeTiming | None = None, retry: RetryPolicy = FAST, **more: Any
) -> AsyncIterator[tuple[AsyncMasterVip, FaultyServer]]:
    """A client and the server that it talks to."""
    timing = (fake or FakeTiming()).timing
    async with (
        FaultyServer(handler) as server,
        AsyncMasterVip(server.url, "key", retry=retry, timing=timing, **more) as vip,
    ):
        yield vip, server


# --- trying again -----------------------------------------------------------------------------------------------------


async def test_a_503_is_tried_again_under_the_same_id_after_what_it_says() -> None:
    fake = FakeTiming(chance=1.0)
    async with facing(script(problem(503, "unavailable", retry_after=3), Reply(201, {"id": "evt_1"})), fake) as (
        vip,
        server,
    ):
        assert await vip.events.create("Gala", 500) == {"id": "evt_1"}
    assert len(server.seen) == 2
    assert server.keys[0] is not None
    assert server.keys[0] == server.keys[1]
    assert server.seen[0].body == server.seen[1].body
    assert fake.pauses == [3.0 + FAST.first_pause_s], "Retry-After in full, and the random pause on top"


async def test_retry_after_may_be_a_date() -> None:
    fake = FakeTiming()
    late = problem(503, "unavailable", Retry_After="Sun, 22 Nov 2026 10:00:04 GMT")
    async with facing(script(late, Reply()), fake) as (vip, _):
        await vip.request("GET", "/v1/me")
    assert fake.pauses == [4.0]


@pytest.mark.parametrize(
    "trouble", [CUT, problem(429, "overloaded"), problem(502, "-"), problem(504, "-"), problem(409, "in_progress")]
)
async def test_what_another_try_may_mend_is_tried_again(trouble: Reply | None) -> None:
    async with facing(script(trouble, trouble, Reply(200, {"balance": 5}))) as (vip, server):
        assert await vip.cards.award("card_1", 5) == {"balance": 5}
    assert len(server.seen) == 3
    assert len(set(server.keys)) == 1


async def test_pauses_grow_and_are_bounded() -> None:
    fake = FakeTiming(chance=1.0)
    replies = [CUT] * 6
    async with facing(script(*replies, Reply()), fake) as (vip, _):
        await vip.request("GET", "/v1/me")
    assert fake.pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


async def test_no_two_commands_share_an_id_and_the_caller_may_give_its_own() -> None:
    async with facing(script(Reply(201))) as (vip, server):
        await vip.members.add("Lan")
        await vip.members.add("Lan")
        await vip.members.add("Lan", idempotency_key="mine")
        await vip.checkins.one("evt_1", "MV1:X", scan_id="scan-1")
        await vip.request("PUT", "/v1/rules/r", json={})
        await vip.request("GET", "/v1/me")
    first, second, third, fourth, put, read = server.keys
    assert len({first, second}) == 2
    assert (third, fourth) == ("mine", "scan-1")
    assert server.seen[3].json()["scan_id"] == "scan-1"
    assert put is not None
    assert read is None, "a question has no effect, and so no id"


async def test_a_get_is_tried_again_too() -> None:
    async with facing(script(CUT, Reply(200, {"inside": 3}))) as (vip, server):
        assert await vip.events.attendance("evt_1") == {"inside": 3}
    assert [seen.path for seen in server.seen] == ["/v1/events/evt_1/attendance"] * 2


# --- what is final ----------------------------------------------------------------------------------------------------


async def test_other_statuses_are_the_answer() -> None:
    errors = [{"detail": "too long", "pointer": "#/name"}]
    body = {"status": 400, "code": "malformed", "detail": "name: too long", "errors": errors}
    async with facing(script(Reply(400, body, {"X-Request-Id": "req_7"}))) as (vip, server):
        with pytest.raises(ApiError) as raised:
            await vip.members.add("L" * 200, idempotency_key="mine")
    error = raised.value
    assert len(server.seen) == 1
    assert (error.status, error.code, error.detail) == (400, "malformed", "name: too long")
    assert list(error.errors) == errors
    assert (error.request_id, error.idempotency_key) == ("req_7", "mine")


@pytest.mark.parametrize(("status", "body"), [(404, b"<html>a proxy</html>"), (500, b"[1]"), (403, b"")])
async def test_an_error_that_is_no_problem_document_is_told_as_it_is(status: int, body: bytes) -> None:
    async with facing(script(Reply(status, body))) as (vip, _):
        with pytest.raises(ApiError) as raised:
            await vip.request("GET", "/v1/me")
    assert (raised.value.status, raised.value.code) == (status, f"http_{status}")


async def test_an_answer_that_is_not_json_is_somebody_elses() -> None:
    async with facing(script(Reply(200, b"<html>log in to the network</html>"))) as (vip, _):
        with pytest.raises(ApiError, match="log in to the network") as raised:
            await vip.request("GET", "/v1/me")
    assert raised.value.code == "not_json"


# --- the deadline -----------------------------------------------------------------------------------------------------


async def test_a_command_without_an_answer_has_an_unknown_outcome() -> None:
    async with facing(script(CUT), FakeTiming(chance=1.0)) as (vip, server):
        with pytest.raises(OutcomeUnknown) as raised:
            await vip.cards.redeem("card_1", 5)
    assert len(server.seen) > 2
    assert {raised.value.idempotency_key} == set(server.keys), "with this key the caller can go on later"


async def test_a_503_leaves_the_outcome_unknown() -> None:
    async with facing(script(problem(503, "unavailable", retry_after=4))) as (vip, server):
        with pytest.raises(OutcomeUnknown) as raised:
            await vip.members.add("Lan")
    assert len(server.seen) == 3, "a third pause of 4 s would end after the deadline of 10 s"
    assert isinstance(raised.value.__cause__, ApiError)


@pytest.mark.parametrize("trouble", [CUT, problem(503, "unavailable")])
async def test_a_question_without_an_answer_changed_nothing(trouble: Reply | None) -> None:
    async with facing(script(trouble), FakeTiming(chance=1.0)) as (vip, _):
        with pytest.raises(Unavailable):
            await vip.cards.get("card_1")


async def test_what_was_refused_each_time_was_not_executed() -> None:
    async with facing(script(problem(429, "rate_limited", retry_after=4))) as (vip, _):
        with pytest.raises(Unavailable):
            await vip.members.add("Lan")


async def test_what_never_left_was_not_executed() -> None:
    async with FaultyServer(script(Reply())) as gone:
        url = gone.url
    async with AsyncMasterVip(url, "key", retry=FAST, timing=FakeTiming(chance=1.0).timing) as vip:
        with pytest.raises(Unavailable, match="ConnectError"):
            await vip.members.add("Lan")


async def test_what_waited_for_a_connection_to_the_end_was_not_executed() -> None:
    endless = Reply(200, b"scan_id\r\n", announced_bytes=1_000, is_held=True)
    retry = RetryPolicy(deadline_s=0.2)
    async with (
        FaultyServer(script(endless)) as server,
        AsyncMasterVip(server.url, retry=retry, connections_max=1) as vip,
        vip.stream("/v1/events/evt_1/checkins", "text/csv"),
    ):
        with pytest.raises(Unavailable):
            await vip.members.add("Lan")
        assert len(server.seen) == 1


async def test_a_wait_that_is_too_long_is_not_begun() -> None:
    fake = FakeTiming()
    async with facing(script(problem(429, "rate_limited", retry_after=60)), fake) as (vip, server):
        with pytest.raises(Unavailable):
            await vip.members.add("Lan")
    assert len(server.seen) == 1
    assert fake.pauses == []


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(_: Seen) -> Reply | None:
        await asyncio.Event().wait()
        return CUT

    async with (
        FaultyServer(silent) as server,
        AsyncMasterVip(server.url, "key", retry=RetryPolicy(deadline_s=0.3, try_timeout_s=0.1)) as vip,
    ):
        with pytest.raises(OutcomeUnknown):
            await vip.members.add("Lan")
    assert len(server.seen) > 1


# --- later answers and earlier tries ----------------------------------------------------------------------------------


async def test_a_delete_that_finds_nothing_after_a_lost_answer_is_done() -> None:
    async with facing(script(CUT, problem(404, "device_unknown"))) as (vip, server):
        await vip.devices.revoke("dev_1")
        assert len(server.seen) == 2
        with pytest.raises(ApiError):
            await vip.devices.revoke("dev_1")


async def test_being_refused_after_a_lost_answer_says_nothing_of_the_first_try() -> None:
    async with facing(script(CUT, problem(401, "unauthenticated"))) as (vip, _):
        with pytest.raises(OutcomeUnknown):
            await vip.cards.award("card_1", 5)


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_items_that_find_the_system_busy_are_sent_again_under_their_own_ids() -> None:
    busy: set[str] = {"b", "c"}

    async def handle(seen: Seen) -> Reply | None:
        items = []
        for item in seen.json()["items"]:
            if item["scan_id"] in busy:
                busy.discard(item["scan_id"])
                items.append({"scan_id": item["scan_id"], "problem": {"status": 503, "code": "unavailable"}})
            else:
                items.append({"scan_id": item["scan_id"], "verdict": "admitted"})
        return Reply(200, {"items": items})

    async with facing(handle) as (vip, server):
        verdicts = await vip.checkins.many([{"scan_id": name, "credential": name} for name in "abc"])
    assert [(verdict["scan_id"], verdict["verdict"]) for verdict in verdicts] == [(name, "admitted") for name in "abc"]
    assert [[item["scan_id"] for item in seen.json()["items"]] for seen in server.seen] == [["a", "b", "c"], ["b", "c"]]
    assert len(set(server.keys)) == 2, "another list of items is another request"


async def test_items_that_are_refused_are_not_sent_again() -> None:
    refusal = {"request_id": "a", "status": 409, "card": None, "problem": {"status": 409, "code": "limit_reached"}}
    async with facing(script(Reply(200, {"items": [refusal]}))) as (vip, server):
        assert await vip.cards.issue_many([{"request_id": "a", "member_id": "mem_1"}]) == [refusal]
    assert len(server.seen) == 1


async def test_a_system_that_stays_busy_is_told_at_the_deadline() -> None:
    busy = {"request_id": "a", "status": 503, "card": None, "problem": {"status": 503, "code": "unavailable"}}
    async with facing(script(Reply(200, {"items": [busy]})), FakeTiming(chance=1.0)) as (vip, server):
        assert await vip.cards.issue_many([{"request_id": "a", "member_id": "mem_1"}]) == [busy]
    assert len(server.seen) > 5


async def test_any_number_of_items_goes_in_pieces() -> None:
    async def handle(seen: Seen) -> Reply | None:
        return Reply(200, {"items": [{"scan_id": item["scan_id"]} for item in seen.json()["items"]]})

    async with facing(handle) as (vip, server):
        results = await vip.checkins.many([{"scan_id": str(number)} for number in range(600)])
    assert [result["scan_id"] for result in results] == [str(number) for number in range(600)]
    assert [len(seen.json()["items"]) for seen in server.seen] == [250, 250, 100]


async def test_two_items_cannot_have_the_same_id() -> None:
    async with facing(script(Reply())) as (vip, server):
        with pytest.raises(ValueError, match="same id"):
            await vip.checkins.many([{"scan_id": "a"}, {"scan_id": "a"}])
    assert not server.seen


# --- lists and streams ------------------------------------------------------------------------------------------------


async def test_a_list_is_read_to_its_end_page_by_page() -> None:
    pages = [
        Reply(200, {"items": [{"id": 1}, {"id": 2}], "next_cursor": "c1"}),
        Reply(200, {"items": [], "next_cursor": "c2"}),
        Reply(200, {"items": [{"id": 3}], "next_cursor": None}),
    ]
    async with facing(script(*pages)) as (vip, server):
        found = [item["id"] async for item in vip.events.scan_log("evt_1", verdict="admitted", gate_id=None)]
    assert found == [1, 2, 3]
    queries = [seen.path.partition("?")[2] for seen in server.seen]
    assert queries == [f"limit=200&verdict=admitted{cursor}" for cursor in ("", "&cursor=c1", "&cursor=c2")]


def revoked(
    cards: list[str], restored: list[str], cursor: str, is_reset: bool = False, has_more: bool = True, **serials: int
) -> Reply:
    fields = {"cards": cards, "restored": restored, "cursor": cursor, "reset": is_reset, "more": has_more}
    return Reply(200, fields | {"serials": serials, "stale": not has_more})


async def test_revoked_cards_are_read_to_the_end_of_their_list_and_the_newest_counts() -> None:
    pages = [
        revoked(["a", "b"], ["c"], "c1", a=1, b=1),
        revoked(["c"], ["a"], "c2", a=2),
        revoked([], [], "c3", has_more=False),
    ]
    async with facing(script(*pages)) as (vip, server):
        found = await vip.cards.revocations("c0")
    assert found == {"cards": ["b", "c"], "restored": ["a"], "serials": {"a": 2, "b": 1}, "cursor": "c3"} | {
        "reset": False,
        "stale": True,
    }
    assert [seen.path.partition("?")[2] for seen in server.seen] == ["since=c0", "since=c1", "since=c2"]


async def test_a_list_of_revoked_cards_that_begins_anew_replaces_what_came_before() -> None:
    pages = [
        revoked(["a"], ["b"], "c1", b=4),
        revoked(["d"], [], "c2", is_reset=True),
        revoked([], [], "c3", has_more=False),
    ]
    async with facing(script(*pages)) as (vip, _):
        found = await vip.cards.revocations()
    assert (found["cards"], found["restored"], found["reset"]) == (["d"], [], True)
    assert found["serials"] == {}


async def test_a_stream_that_breaks_off_is_not_taken_for_whole() -> None:
    broken = Reply(200, b"scan_id\r\none\r\n", announced_bytes=1_000)
    async with facing(script(CUT, broken)) as (vip, server):
        pieces = vip.events.scan_log_csv("evt_1")
        assert await anext(pieces) == b"scan_id\r\none\r\n"
        with pytest.raises(Unavailable, match="broke off"):
            await anext(pieces)
    assert len(server.seen) == 2, "until it begins it is tried again"
    assert server.seen[0].headers["accept"] == "text/csv"


# --- connections and addresses ----------------------------------------------------------------------------------------


async def test_connections_are_bounded() -> None:
    gate = asyncio.Event()
    waiting = 0

    async def handle(_: Seen) -> Reply | None:
        nonlocal waiting
        waiting += 1
        if waiting == 3:
            gate.set()
        await gate.wait()
        return Reply()

    async with facing(handle, connections_max=3) as (vip, server):
        await asyncio.gather(*(vip.request("GET", "/v1/me") for _ in range(12)))
    assert (len(server.seen), server.connections_max) == (12, 3)


async def test_another_caller_uses_the_same_connections() -> None:
    async with facing(script(Reply())) as (vip, server):
        await vip.request("GET", "/v1/me")
        await vip.acting_as("other").request("GET", "/v1/me")
        await vip.acting_as(None).request("GET", "/v1/me")
    tokens = [seen.headers.get("authorization") for seen in server.seen]
    assert tokens == ["Bearer key", "Bearer other", None]
    assert server.connections_max == 1


@pytest.mark.parametrize(("step", "expected"), [("a/b", "/v1/cards/a%2Fb"), ("a?b#c", "/v1/cards/a%3Fb%23c")])
def test_an_id_cannot_lead_to_another_address(step: str, expected: str) -> None:
    assert path("/v1/cards", step) == expected


@pytest.mark.parametrize("step", ["", ".", ".."])
def test_what_cannot_be_an_id_is_refused(step: str) -> None:
    with pytest.raises(ValueError, match="cannot be ids"):
        path("/v1/cards", step, "balance")


def test_times_need_a_zone() -> None:
    at = datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert given(at=at, until=None) == {"at": "2026-11-22T10:00:00.000+00:00"}
    with pytest.raises(ValueError, match="time zone"):
        given(at=at.replace(tzinfo=None))


async def test_a_body_that_is_not_json_is_sent_as_what_it_is() -> None:
    async with facing(script(Reply(202))) as (vip, server):
        await vip.members.start_import(b"name\nLan\n")
        await vip.members.change("mem_1", phone=None)
    sent, patch = server.seen
    assert (sent.body, sent.headers["content-type"]) == (b"name\nLan\n", "text/csv")
    assert (patch.json(), patch.headers["content-type"]) == ({"phone": None}, "application/json")


Calls = Callable[[AsyncMasterVip], Awaitable[Any]]
EVERY_COMMAND: list[Calls] = [
    lambda vip: vip.orgs.open("T"),
    lambda vip: vip.orgs.change("org_1", name="T"),
    lambda vip: vip.orgs.add_api_key("org_1"),
    lambda vip: vip.orgs.rotate_api_key("org_1", "key_1"),
    lambda vip: vip.orgs.revoke_api_key("org_1", "key_1"),
    lambda vip: vip.orgs.close("org_1", "T"),
    lambda vip: vip.people.invite("org_1", "ann@example.com", "staff"),
    lambda vip: vip.people.revoke_invitation("org_1", "inv_1"),
    lambda vip: vip.people.accept_invitation("mvi"),
    lambda vip: vip.people.change_role("org_1", "acc_1", "staff"),
    lambda vip: vip.people.end_role("org_1", "acc_1"),
    lambda vip: vip.register("ann@example.com", "correct horse", "Ann"),
    lambda vip: vip.verify("mvm"),
    lambda vip: vip.members.add("L"),
    lambda vip: vip.members.change("mem_1", phone=None),
    lambda vip: vip.members.erase("mem_1"),
    lambda vip: vip.members.start_import(b"name\nLan\n", mode="create"),
    lambda vip: vip.members.cancel_import("imp_1"),
    lambda vip: vip.cards.issue(member_id="mem_1"),
    lambda vip: vip.cards.suspend("card_1"),
    lambda vip: vip.cards.resume("card_1"),
    lambda vip: vip.cards.revoke("card_1"),
    lambda vip: vip.cards.award("card_1", 1),
    lambda vip: vip.cards.redeem("card_1", 1),
    lambda vip: vip.cards.reverse("card_1", 1),
    lambda vip: vip.events.create("G", 1),
    lambda vip: vip.events.change("evt_1", capacity=2),
    lambda vip: vip.events.add_gate("evt_1", "Door"),
    lambda vip: vip.events.change_gate("evt_1", "gate_1", open=False),
    lambda vip: vip.devices.add("evt_1"),
    lambda vip: vip.devices.add(),
    lambda vip: vip.devices.pair("code"),
    lambda vip: vip.devices.pair_again("dev_1"),
    lambda vip: vip.devices.change("dev_1", event_id=None),
    lambda vip: vip.devices.choose_gate(None),
    lambda vip: vip.orgs.set_member_schema("org_1", None),
    lambda vip: vip.change_me(name="Ann"),
    lambda vip: vip.devices.revoke("dev_1"),
    lambda vip: vip.check_in("evt_1", "MV1:X"),
]


@pytest.mark.parametrize("call", EVERY_COMMAND)
async def test_every_command_is_the_same_request_at_every_try(call: Calls) -> None:
    async with facing(script(CUT, Reply())) as (vip, server):
        await call(vip)
    first, again = server.seen
    assert first.key is not None
    assert (first.key, first.method, first.path, first.body) == (again.key, again.method, again.path, again.body)


# --- what was read may be changed only as it was ----------------------------------------------------------------------

EDITS: list[Callable[[AsyncMasterVip, str | None], Awaitable[Tagged]]] = [
    lambda vip, tag: vip.orgs.change("org_1", name="T", if_match=tag),
    lambda vip, tag: vip.orgs.set_member_schema("org_1", {"type": "object"}, if_match=tag),
    lambda vip, tag: vip.people.change_role("org_1", "acc_1", "staff", if_match=tag),
    lambda vip, tag: vip.members.change("mem_1", phone=None, if_match=tag),
    lambda vip, tag: vip.events.change("evt_1", capacity=2, if_match=tag),
    lambda vip, tag: vip.events.change_gate("evt_1", "gate_1", open=False, if_match=tag),
    lambda vip, tag: vip.devices.change("dev_1", name="S", if_match=tag),
    lambda vip, tag: vip.devices.choose_gate("gate_1", if_match=tag),
    lambda vip, tag: vip.change_me(name="Ann", if_match=tag),
]


@pytest.mark.parametrize("edit", EDITS)
async def test_a_change_can_be_for_one_version_only(
    edit: Callable[[AsyncMasterVip, str | None], Awaitable[Tagged]],
) -> None:
    async with facing(script(Reply(200, {"id": "x"}, {"ETag": '"2"'}), Reply(200, {"id": "x"}))) as (vip, server):
        changed = await edit(vip, '"1"')
        assert (changed, changed.etag) == ({"id": "x"}, '"2"')
        assert (await edit(vip, None)).etag is None
    assert [seen.headers.get("if-match") for seen in server.seen] == ['"1"', None]
    assert "if_match" not in server.seen[0].json()
