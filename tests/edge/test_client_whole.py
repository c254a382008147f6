"""The client against the whole engine: every noun of the API, answers lost after they were committed, plain code and
threads, and the example in the README."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.client import (
    ApiError,
    AsyncMasterVip,
    MasterVip,
    OutcomeUnknown,
    RetryPolicy,
    cards,
    coupons,
    events,
    members,
    people,
)
from gateway.client import blocking as blocking_faces
from gateway.client.client import AsyncClient
from gateway.client.portal import Portal
from tests.edge.in_process import SUPERADMIN_TOKEN, System
from tests.support.serving import serving
from tests.support.socket_edge import until
from tests.support.tcp_proxy import TcpProxy

README = Path(__file__).parents[2] / "README.md"
QUICK = RetryPolicy(first_pause_s=0.01, pause_s_max=0.05)


@pytest.fixture
async def proxy(system: System) -> AsyncIterator[TcpProxy]:
    """The way to the system, which tests may break."""
    async with serving(system.app) as server, TcpProxy("127.0.0.1", server.port) as proxy:
        yield proxy


def url(proxy: TcpProxy) -> str:
    return f"http://127.0.0.1:{proxy.port}"


@contextlib.asynccontextmanager
async def organiser(proxy: TcpProxy) -> AsyncIterator[tuple[AsyncMasterVip, dict[str, Any]]]:
    """A client with all scopes, and its organisation."""
    async with AsyncMasterVip(url(proxy), SUPERADMIN_TOKEN, retry=QUICK) as superadmin:
        org = await superadmin.orgs.open("The Continental", checkin_points=10)
    async with AsyncMasterVip(url(proxy), org["api_key"]["key"], retry=QUICK) as vip:
        yield vip, org


async def test_the_api_noun_by_noun(proxy: TcpProxy) -> None:
    async with organiser(proxy) as (vip, org):
        assert (await vip.orgs.change(org["id"], name="High Table"))["name"] == "High Table"
        assert (await vip.orgs.get(org["id"]))["name"] == "High Table"
        member = await vip.members.add("Lan", email="lan@example.com")
        assert await vip.members.get(member["id"]) == member
        assert [each async for each in vip.members.all(email="lan@example.com")] == [member]
        assert (await vip.members.change(member["id"], phone="+84 90 1234567"))["phone"]
        assert (await vip.members.change(member["id"], phone=None))["phone"] is None
        assert [hit["id"] for hit in await vip.members.search("lan")] == [member["id"]]
        started = await vip.members.start_import(b"name,email\nMinh,minh@example.com\n", mode="upsert")
        assert (await vip.members.get_import(started["id"]))["progress"]["rows"] == 1
        await vip.members.cancel_import(started["id"])
        batch = await vip.cards.start_batch(member_ids=[member["id"], "mem_none"], tier="gold")
        assert (await vip.cards.get_batch(batch["id"]))["progress"]["rows"] == 2
        assert [each async for each in vip.cards.batch_result(batch["id"])] == []
        assert [each async for each in vip.cards.batch_report(batch["id"])] == []
        assert (await vip.cards.cancel_batch(batch["id"]))["state"] == "cancelled"
        batch = await vip.cards.start_batch_from_csv(b"email\nlan@example.com\n", tier="gold")
        assert (await vip.cards.cancel_batch(batch["id"]))["act"] == "issue"
        batch = await vip.cards.change_many("suspend", cards={"tier": "gold"}, note="lost")
        assert (await vip.cards.cancel_batch(batch["id"]))["note"] == "lost"
        forgotten = await vip.members.add("Nobody", locale="vi")
        await vip.members.erase(forgotten["id"])

        card = await vip.cards.issue(member_id=member["id"], tier="gold")
        many = await vip.cards.issue_many([{"member": {"name": f"Guest {number}"}} for number in range(5)])
        assert [result["status"] for result in many] == [201] * 5
        assert (await vip.cards.credential(card["id"])).startswith("MV1:")
        assert (await vip.cards.credential_file(card["id"], "png"))[:4] == b"\x89PNG"
        assert (await vip.cards.credential_file(card["id"], "text", rotating=True))[:5] == b"MV1R:"
        assert len((await vip.cards.rotating_credential(card["id"], ahead=3))["codes"]) == 4
        assert [key["kid"] for key in (await vip.orgs.credential_keys(org["id"]))["keys"]] == ["1"]
        assert [each["id"] async for each in vip.cards.all(member_id=member["id"])] == [card["id"]]
        assert (await vip.cards.suspend(card["id"], note="lost"))["state"] == "suspended"
        assert (await vip.cards.resume(card["id"]))["state"] == "active"

        event = await vip.events.create("Gala", 500, gates=["North", "South"])
        gate = await vip.events.add_gate(event["id"], "East")
        assert not (await vip.events.change_gate(event["id"], gate["id"], open=False))["open"]
        assert (await vip.events.change(event["id"], capacity=400))["capacity"] == 400
        assert [each["id"] async for each in vip.events.all()] == [event["id"]]

        verdict = await vip.check_in(event["id"], card["credential"], gate_id=event["gates"][0]["id"])
        assert (verdict["verdict"], verdict["points"]["balance"]) == ("admitted", 10)
        scans = [{"event_id": event["id"], "credential": result["card"]["credential"]} for result in many]
        assert [each["verdict"] for each in await vip.checkins.many(scans)] == ["admitted"] * 5
        assert (await vip.events.attendance(event["id"]))["inside"] == 6
        assert len([scan async for scan in vip.events.scan_log(event["id"], verdict="admitted")]) == 6
        csv = b"".join([piece async for piece in vip.events.scan_log_csv(event["id"])]).decode()
        assert csv.count("\r\n") == 7
        log = [scan async for scan in vip.events.scan_log(event["id"], since=datetime(2020, 1, 1, tzinfo=UTC))]
        assert [scan async for scan in vip.events.export_scans(event["id"])] == log
        refused = vip.events.scan_log(event["id"], reason=["full", "gate_closed"], until="2100-01-01T00:00:00Z")
        assert [scan async for scan in refused] == []
        assert (await vip.events.statistics(event["id"], step="hour"))["totals"]["admitted"] == 6

        awarded = await vip.cards.award(card["id"], 50, note="thanks")
        await vip.cards.redeem(card["id"], 20)
        await vip.cards.reverse(card["id"], awarded["entry"]["seq"])
        assert [entry["amount"] async for entry in vip.cards.ledger(card["id"])][-1] == 10
        assert (await vip.cards.balance(card["id"]))["entries"] == 4
        board = await vip.leaderboards.get("points", window="event:" + event["id"], limit=3, around=card["id"])
        assert board["size"] == 6


async def test_a_person_from_registering_to_the_door(system: System, proxy: TcpProxy) -> None:
    email, password = "winston@example.com", "a hotel in New York"
    async with AsyncMasterVip(url(proxy), retry=QUICK) as vip, AsyncMasterVip(url(proxy), retry=QUICK) as guest:
        await vip.register(email, password, "Winston")
        await system.parts.post.settled()
        await vip.verify(system.mailbox.to(email)[-1].token)
        assert (await vip.login(email, password))["account"]["email"] == email
        org = await vip.orgs.open("The Continental")
        assert [each["id"] async for each in vip.orgs.all()] == [org["id"]]
        event, card = await vip.events.create("Gala", 500), await vip.cards.issue(member={"name": "Lan"})
        system.clock.ahead_ms += 16 * 60_000  # the access token has ended, and only the server knows
        async with vip.scan_socket(event["id"], retry=QUICK) as door:
            assert (await door.scan(card["credential"]))["verdict"] == "admitted"
        assert (await vip.me())["org_id"] == org["id"]

        await guest.register("charon@example.com", password, "Charon")
        await vip.people.invite(org["id"], "charon@example.com", "staff")
        await system.parts.post.settled()
        confirmation, invitation = system.mailbox.to("charon@example.com")
        await guest.verify(confirmation.token)
        await guest.login("charon@example.com", password)
        account_id = (await guest.me())["account"]["id"]
        assert (await guest.people.accept_invitation(invitation.text.split("\n\n")[2]))["role"] == "staff"
        assert (await vip.people.change_role(org["id"], account_id, "member"))["role"] == "member"
        assert {each["account_id"] async for each in vip.people.all(org["id"])} > {account_id}
        await vip.people.end_role(org["id"], account_id)
        later = await vip.people.invite(org["id"], "adjudicator@example.com", "member")
        await vip.people.revoke_invitation(org["id"], later["id"])
        states = {each["email"]: each["state"] async for each in vip.people.invitations(org["id"])}
        assert states == {"charon@example.com": "accepted", "adjudicator@example.com": "revoked"}

        key = await vip.orgs.add_api_key(org["id"], name="Boards", scopes=["read"])
        rotated = await vip.orgs.rotate_api_key(org["id"], key["id"], overlap_seconds=60)
        assert rotated["key"] != key["key"]
        assert len([each async for each in vip.orgs.api_keys(org["id"])]) == 2
        assert len([each async for each in vip.orgs.audit_log(org["id"], action="api_keys.manage")]) == 2
        await vip.orgs.close(org["id"], "The Continental")
        await vip.logout()
        with pytest.raises(ApiError):
            await vip.me()


async def test_coupons(proxy: TcpProxy) -> None:
    async with organiser(proxy) as (vip, _):
        card = await vip.cards.issue(member={"name": "John"})
        coupon = await vip.coupons.define("Tea", {"type": "points", "points": 5}, limit_per_card=2)
        assert [each["id"] async for each in vip.coupons.all()] == [coupon["id"]]
        seen = await vip.coupons.get(coupon["id"])
        changed = await vip.coupons.change(coupon["id"], if_match=seen.etag, name="Good tea")
        assert changed["name"] == "Good tea"
        issued = await vip.coupons.issue(coupon["id"], count=2)
        (own,) = (await vip.coupons.issue(coupon["id"], card_ids=[card["id"]]))["items"]
        assert [each["code"] async for each in vip.coupons.of_card(card["id"])] == [own["code"]]
        assert len([each async for each in vip.coupons.codes(coupon["id"])]) == 3
        until = datetime.now(UTC) + timedelta(hours=1)
        first, second = [item["code"] for item in issued["items"]]
        held = await vip.coupons.redeem(first, card["id"], bill_id="till-1", hold_until=until)
        captured = await vip.coupons.capture(held["id"])
        assert captured["state"] == "redeemed"
        other = await vip.coupons.redeem(second, card["id"], hold_until=until)
        assert (await vip.coupons.release(other["id"]))["state"] == "released"
        assert (await vip.coupons.roll_back(captured["id"], note="wrong"))["state"] == "rolled_back"
        with pytest.raises(ApiError) as refused:
            await vip.coupons.roll_back(captured["id"])
        assert refused.value.code == "already_rolled_back"


async def test_devices_keys_and_sockets(proxy: TcpProxy) -> None:
    async with organiser(proxy) as (vip, org):
        card = await vip.cards.issue(member={"name": "Lan"})
        event = await vip.events.create("Gala", 500, gates=["North"])
        made = await vip.devices.add(event["id"], name="Scanner 1")
        paired = await vip.devices.pair(made["pairing_code"])
        device = vip.acting_as(paired["token"])
        async with device.scan_socket() as door:
            verdict = await door.scan(card["credential"], gate_id=event["gates"][0]["id"])
            assert verdict["verdict"] == "admitted"
            assert door.welcome["event"]["id"] == event["id"]
        key = await vip.orgs.add_api_key(org["id"], name="Boards", scopes=["read"])
        async with vip.acting_as(key["key"]).live_socket() as live:
            change = await anext(live.subscribe("event:" + event["id"]))
            assert change.data["inside"] == 1
        await vip.orgs.revoke_api_key(org["id"], key["id"])
        for _ in range(2):
            await vip.devices.revoke(paired["device_id"])
        with pytest.raises(ApiError) as raised:
            await device.orgs.get(org["id"])
        assert (raised.value.status, raised.value.code) == (401, "unauthenticated")
        with pytest.raises(ApiError) as raised:
            await vip.devices.revoke("dev_none")
        assert (raised.value.status, raised.value.code) == (404, "device_unknown")


async def test_devices_of_an_organisation_and_of_a_gate(proxy: TcpProxy) -> None:
    async with organiser(proxy) as (vip, _):
        event = await vip.events.create("Gala", 500, gates=["North", "South"])
        north, south = (gate["id"] for gate in event["gates"])
        anywhere = await vip.devices.pair((await vip.devices.add(name="Handheld"))["pairing_code"])
        assert (anywhere["event_id"], anywhere["gate_id"]) == (None, None)
        fixed = await vip.devices.pair((await vip.devices.add(event["id"], gate_id=north))["pairing_code"])
        assert (fixed["event_id"], fixed["gate_id"]) == (event["id"], north)
        assert {each["id"] async for each in vip.devices.all()} == {anywhere["device_id"], fixed["device_id"]}
        assert [each["id"] async for each in vip.devices.all(event_id=event["id"])] == [fixed["device_id"]]

        itself = vip.acting_as(fixed["token"]).devices
        assert {gate["id"] for gate in (await itself.itself())["gates"]} == {north, south}
        assert (await itself.choose_gate(south))["gate_id"] == south
        assert (await itself.choose_gate(None))["gate_id"] is None
        device = await vip.devices.get(fixed["device_id"])
        assert device["gate_id"] is None
        changed = await vip.devices.change(device["id"], event_id=None, name="Roaming")
        assert (changed["event_id"], changed["name"]) == (None, "Roaming")

        again = await vip.devices.pair((await vip.devices.pair_again(device["id"]))["pairing_code"])
        assert again["device_id"] == device["id"]
        assert (await vip.acting_as(again["token"]).devices.itself())["id"] == device["id"]
        with pytest.raises(ApiError, match="unauthenticated"):
            await itself.itself()


async def test_what_somebody_else_changed_meanwhile_is_not_overwritten(proxy: TcpProxy) -> None:
    async with organiser(proxy) as (vip, org):
        event = await vip.events.create("Gala", 500)
        seen = await vip.events.get(event["id"])
        assert seen.etag is not None
        changed = await vip.events.change(event["id"], capacity=400, if_match=seen.etag)
        with pytest.raises(ApiError) as raised:
            await vip.events.change(event["id"], capacity=300, if_match=seen.etag)
        assert (raised.value.status, raised.value.code) == (412, "precondition_failed")
        assert (await vip.events.change(event["id"], capacity=200, if_match=changed.etag))["capacity"] == 200
        schema = await vip.orgs.member_schema(org["id"])
        table = {"type": "object", "properties": {"table": {"type": "integer"}}}
        assert (await vip.orgs.set_member_schema(org["id"], table, if_match=schema.etag))["schema"] == table
        with pytest.raises(ApiError, match="precondition_failed"):
            await vip.orgs.set_member_schema(org["id"], None, if_match=schema.etag)


async def test_revoked_cards_are_known_to_who_asks(proxy: TcpProxy) -> None:
    async with organiser(proxy) as (vip, _):
        lost, found = [await vip.cards.issue(member={"name": name}) for name in ("Lan", "Minh")]
        await vip.cards.revoke(lost["id"])
        await vip.cards.suspend(found["id"])
        first = await vip.cards.revocations()
        assert (set(first["cards"]), first["reset"]) == ({lost["id"], found["id"]}, True)
        await vip.cards.resume(found["id"])
        then = await vip.cards.revocations(first["cursor"])
        assert (then["cards"], then["restored"], then["reset"]) == ([], [found["id"]], False)


async def test_what_was_committed_before_the_answer_was_lost_is_told_as_such(proxy: TcpProxy) -> None:
    async with organiser(proxy) as (vip, _):
        card = await vip.cards.issue(member={"name": "Lan"})
        event = await vip.events.create("Gala", 500)

        async def lost(call: Callable[[], Any]) -> Any:
            """Does the call; its first answer is lost."""
            before = proxy.connections_count
            proxy.to_client.is_cutting = True
            calling = asyncio.create_task(call())
            await until(lambda: proxy.connections_count > before)  # it has come back for it
            proxy.to_client.is_cutting = False
            return await calling

        verdict = await lost(lambda: vip.check_in(event["id"], card["credential"]))
        assert (verdict["verdict"], verdict["replayed"]) == ("admitted", True)
        awarded = await lost(lambda: vip.cards.award(card["id"], 50))
        assert (awarded["replayed"], awarded["balance"]) == (True, 60)
        again = await lost(lambda: vip.members.add("Only once"))
        assert [each["name"] async for each in vip.members.all()].count("Only once") == 1
        assert (await vip.members.get(again["id"]))["name"] == "Only once"
        assert (await vip.events.attendance(event["id"]))["inside"] == 1


async def test_an_unknown_outcome_is_found_out_with_its_id(proxy: TcpProxy) -> None:
    async with organiser(proxy) as (vip, _):
        card = await vip.cards.issue(member={"name": "Lan"})
        token = await vip._credentials.bearer()
        async with AsyncMasterVip(url(proxy), token, retry=RetryPolicy(0.01, 0.05, deadline_s=0.3)) as hasty:
            proxy.to_client.is_dropping = True
            with pytest.raises(OutcomeUnknown) as raised:
                await hasty.cards.award(card["id"], 50)
        proxy.heal()
        awarded = await vip.cards.award(card["id"], 50, idempotency_key=raised.value.idempotency_key)
        assert (awarded["replayed"], awarded["balance"]) == (True, 50)


# --- plain code -------------------------------------------------------------------------------------------------------


async def test_plain_code_and_two_threads(proxy: TcpProxy) -> None:
    async with organiser(proxy) as (vip, _):
        event = await vip.events.create("Gala", 500)
        issued = await vip.cards.issue_many([{"member": {"name": f"Guest {number}"}} for number in range(40)])
        token = await vip._credentials.bearer()
    credentials = [result["card"]["credential"] for result in issued]
    admitted: list[str] = []

    def plain() -> None:
        with MasterVip(url(proxy), token, retry=QUICK) as client:

            def check_in(share: list[str]) -> None:
                for credential in share:
                    admitted.append(client.check_in(event["id"], credential)["card_id"])

            threads = [threading.Thread(target=check_in, args=(credentials[number::2],)) for number in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert client.events.attendance(event["id"])["inside"] == 40
            assert sum(1 for _ in client.events.scan_log(event["id"])) == 40
            first = next(client.events.scan_log(event["id"]))
            assert first["verdict"] == "admitted"
            assert b"".join(client.events.scan_log_csv(event["id"])).count(b"\r\n") == 41
            with client.scan_socket(event["id"]) as door:
                again = door.scan(credentials[0])
                assert again["reason"] == "already_admitted"
                assert len(door.scan_many([{"credential": each, "direction": "exit"} for each in credentials])) == 40
            with client.live_socket() as live:
                topic = live.subscribe("event:" + event["id"])
                for change in topic:
                    assert change.kind == "snapshot"
                    break
                topic.unsubscribe()
                assert list(topic) == []
            with pytest.raises(ApiError):
                client.cards.get("card_unknown")
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            client.check_in(event["id"], "x")

    await asyncio.to_thread(plain)
    assert len(set(admitted)) == 40
    assert not [thread for thread in threading.enumerate() if thread.name == "mastervip-client"]


FACES = [
    (blocking_faces.Orgs, people.Orgs),
    (blocking_faces.People, people.People),
    (blocking_faces.Members, members.Members),
    (blocking_faces.Cards, cards.Cards),
    (blocking_faces.Coupons, coupons.Coupons),
    (blocking_faces.Events, events.Events),
    (blocking_faces.Devices, events.Devices),
    (blocking_faces.Checkins, events.Checkins),
    (blocking_faces.Leaderboards, events.Leaderboards),
    (blocking_faces.BlockingScanSocket, blocking_faces.ScanSocket),
    (blocking_faces.BlockingLiveSocket, blocking_faces.LiveSocket),
    (blocking_faces.Client, AsyncClient),
]
# What the other side's machinery calls, and what plain code has no use for.
INNER = {
    "lines",
    "aclose",
    "hello",
    "on_open",
    "on_frame",
    "on_down",
    "on_end",
    "next_frame",
    "ask",
    "forget",
    "rounds",
    "stream",
}


@pytest.mark.parametrize(("plain", "original"), FACES)
def test_plain_code_has_every_method(plain: type, original: type) -> None:
    public = {name for name in dir(original) if not name.startswith("_")} - INNER
    assert public <= set(dir(plain)), public - set(dir(plain))


class _Interrupted(BaseException):
    """Stands for KeyboardInterrupt, which a test cannot be sent safely."""


def test_who_is_interrupted_cancels_what_it_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    portal = Portal()
    began, cancelled = threading.Event(), threading.Event()

    async def endless() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    submit = asyncio.run_coroutine_threadsafe

    def interrupted(*arguments: Any) -> Any:
        future = submit(*arguments)

        def result() -> None:
            assert began.wait(10)
            raise _Interrupted

        monkeypatch.setattr(future, "result", result)
        return future

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
    with pytest.raises(_Interrupted):
        portal.run(endless())
    assert cancelled.wait(10)
    portal.close()


def test_a_callback_that_calls_its_own_client_is_told() -> None:
    portal = Portal()

    async def call_itself() -> None:
        portal.run(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="own client"):
        portal.run(call_itself())
    portal.close()


def test_closing_ends_what_other_threads_wait_for() -> None:
    portal = Portal()
    began = threading.Event()
    outcomes: list[type[BaseException]] = []

    async def endless() -> None:
        began.set()
        await asyncio.Event().wait()

    def wait() -> None:
        try:
            portal.run(endless())
        except BaseException as error:  # noqa: BLE001 — whatever it is
            outcomes.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    assert began.wait(10)
    portal.close()
    thread.join(10)
    assert [outcome.__name__ for outcome in outcomes] == ["CancelledError"]


# --- the README -------------------------------------------------------------------------------------------------------


async def test_the_readmes_example_runs(proxy: TcpProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = README.read_text().partition("## Python client")[2]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    async with organiser(proxy) as (vip, org):
        event = await vip.events.create("Gala", 500, gates=["North"])
        made = await vip.devices.add(event["id"])
        paired = await vip.devices.pair(made["pairing_code"])
        issued = await vip.cards.issue_many([{"member": {"name": f"Guest {number}"}} for number in range(3)])
    fixtures = {
        "base_url": url(proxy),
        "api_key": org["api_key"]["key"],
        "events": [{"id": event["id"], "name": "Gala", "scanners": [{"token": paired["token"]}]}],
        "cards": [{"credential": result["card"]["credential"]} for result in issued],
    }
    (tmp_path / "fixtures.json").write_bytes(msgspec.json.encode(fixtures))
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()

    def run() -> None:
        with contextlib.redirect_stdout(out):
            exec(compile(found[1], "README.md", "exec"), {"__name__": "__main__"})

    await asyncio.to_thread(run)
    assert "admitted" in out.getvalue()
