"""`/v1/scan` over real sockets, with an engine that the test commands: every answer, every error path, both formats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.replies import Failed
from gateway.sockets import codes, limits
from tests.support.socket_edge import (
    EVENT,
    FOREIGN_TOKEN,
    JSON,
    KEY_TOKEN,
    MSGPACK,
    NOW_MS,
    OTHER_DEVICE_TOKEN,
    TENANT,
    Client,
    SocketEdge,
    feed,
    judged,
    running_edge,
    until,
)


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as running:
        yield running


both_wires = pytest.mark.parametrize("wire", [JSON, MSGPACK])


class TestHello:
    @both_wires
    async def test_a_scanner_is_welcomed_with_the_event_and_its_limits(self, edge: SocketEdge, wire: str) -> None:
        async with edge.connect("/v1/scan", wire) as connection:
            client = Client(connection, wire)
            await client.send({"t": "hello", "event_id": EVENT, "gate_id": "gate_1", "resume": ""})
            welcome = await client.receive()
        assert connection.subprotocol == wire
        assert welcome["t"] == "welcome"
        assert welcome["session"].startswith("ses_")
        assert welcome["now"] == NOW_MS
        assert welcome["event"]["id"] == EVENT
        assert welcome["event"]["gates"] == [{"id": "gate_1", "name": "North", "is_open": True, "zone_id": None}]
        assert welcome["max_in_flight"] == limits.SCANS_IN_FLIGHT_MAX
        assert welcome["max_frame_bytes"] == limits.FRAME_BYTES_MAX
        assert isinstance(welcome["cursor"], str)

    async def test_without_a_subprotocol_it_is_json(self, edge: SocketEdge) -> None:
        async with edge.connect("/v1/scan", subprotocols=None) as connection:
            await Client(connection).send({"t": "hello", "event_id": EVENT})
            assert (await Client(connection).receive())["t"] == "welcome"

    async def test_the_token_may_come_in_the_hello_and_the_event_from_the_device(self, edge: SocketEdge) -> None:
        async with edge.connect("/v1/scan", token=None) as connection:
            await Client(connection).send({"t": "hello", "token": "device"})
            assert (await Client(connection).receive())["event"]["id"] == EVENT

    @pytest.mark.parametrize(
        ("token", "hello", "close"),
        [
            ("nobody", {"t": "hello", "event_id": EVENT}, codes.TOKEN_INVALID),
            (None, {"t": "hello", "event_id": EVENT}, codes.TOKEN_INVALID),
            (None, {"t": "hello", "event_id": EVENT, "token": "nobody"}, codes.TOKEN_INVALID),
            ("superadmin", {"t": "hello", "event_id": EVENT}, codes.FORBIDDEN),
            ("powerless", {"t": "hello", "event_id": EVENT}, codes.FORBIDDEN),
            (OTHER_DEVICE_TOKEN, {"t": "hello", "event_id": EVENT}, codes.FORBIDDEN),
            (FOREIGN_TOKEN, {"t": "hello", "event_id": EVENT}, codes.EVENT_UNKNOWN),
            (KEY_TOKEN, {"t": "hello", "event_id": "evt_none"}, codes.EVENT_UNKNOWN),
            (KEY_TOKEN, {"t": "hello"}, codes.PROTOCOL_ERROR),
            (KEY_TOKEN, {"t": "hello", "event_id": "a b"}, codes.PROTOCOL_ERROR),
            (KEY_TOKEN, {"t": "hello", "event_id": 5}, codes.PROTOCOL_ERROR),
            (KEY_TOKEN, {"t": "scan", "id": "1", "credential": "x"}, codes.PROTOCOL_ERROR),
        ],
    )
    @both_wires
    async def test_who_may_not_scan_is_told_why_and_closed(
        self, edge: SocketEdge, wire: str, token: str | None, hello: dict[str, Any], close: codes.Close
    ) -> None:
        async with edge.connect("/v1/scan", wire, token) as connection:
            client = Client(connection, wire)
            await client.send(hello)
            error = await client.receive()
            assert (error["t"], error["code"]) == ("error", close.name)
            assert error["message"]
            assert await client.closed() == close.code

    async def test_a_foreign_event_looks_like_an_absent_one(self, edge: SocketEdge) -> None:
        answers = []
        for event_id in (EVENT, "evt_none"):
            async with edge.connect("/v1/scan", token=FOREIGN_TOKEN) as connection:
                await Client(connection).send({"t": "hello", "event_id": event_id})
                answers.append((await Client(connection).receive(), await Client(connection).closed()))
        assert answers[0] == answers[1]

    async def test_a_hello_that_does_not_come(self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "HELLO_TIMEOUT_MS", 50)
        async with edge.connect("/v1/scan") as connection:
            assert await Client(connection).closed() == codes.HELLO_TIMEOUT.code

    async def test_an_unknown_subprotocol(self, edge: SocketEdge) -> None:
        async with edge.connect("/v1/scan", "mastervip.v9") as connection:
            assert await Client(connection).closed() == codes.SUBPROTOCOL_UNKNOWN.code

    async def test_while_callers_or_engine_are_away_the_scanner_shall_reconnect(self, edge: SocketEdge) -> None:
        edge.identity.is_away = True
        async with edge.connect("/v1/scan") as connection:
            await Client(connection).send({"t": "hello", "event_id": EVENT})
            assert await Client(connection).closed() == codes.UNAVAILABLE.code
        edge.identity.is_away = False
        edge.engine.failure = Failed("unavailable", "no host", 100)
        async with edge.connect("/v1/scan") as connection:
            await Client(connection).send({"t": "hello", "event_id": EVENT})
            assert await Client(connection).closed() == codes.UNAVAILABLE.code


class TestScans:
    @both_wires
    async def test_a_scan_gets_its_verdict_with_the_fields_of_rest_and_integer_times(
        self, edge: SocketEdge, wire: str
    ) -> None:
        async with edge.scanner(wire, gate_id="gate_1") as client:
            scan = {"t": "scan", "id": "s-1", "credential": edge.credential(), "scanned_at": NOW_MS - 5}
            await client.send(scan)
            verdict = await client.receive()
        assert verdict == {
            "t": "verdict",
            "id": "s-1",
            "scan_id": "s-1",
            "verdict": "admitted",
            "reason": None,
            "replayed": False,
            "event_id": EVENT,
            "card_id": "card_1",
            "member": {"id": "mem_1", "name": "Lan"},
            "tier": "gold",
            "at": NOW_MS,
            "attendance": {"inside": 12, "admitted": 15, "capacity": 500},
            "points": {"awarded": 10, "balance": 260},
            "first": None,
        }
        [check_in] = edge.engine.check_ins
        assert (check_in.tenant_id, check_in.request_id, check_in.card_id) == (TENANT, "s-1", "card_1")
        assert (check_in.gate_id, check_in.device_id, check_in.direction) == ("gate_1", "dev_1", "entry")
        assert check_in.scanned_at_ms == NOW_MS - 5

    async def test_a_scan_may_name_another_gate_and_direction(self, edge: SocketEdge) -> None:
        async with edge.scanner(gate_id="gate_1") as client:
            scan = {"t": "scan", "id": "1", "credential": edge.credential(), "gate_id": "gate_2", "direction": "exit"}
            await client.send(scan)
            await client.receive()
        assert (edge.engine.check_ins[0].gate_id, edge.engine.check_ins[0].direction) == ("gate_2", "exit")

    @both_wires
    async def test_a_frame_of_scans_is_answered_with_one_frame_of_verdicts(self, edge: SocketEdge, wire: str) -> None:
        items = [{"id": str(n), "credential": edge.credential()} for n in range(limits.SCANS_PER_FRAME_MAX)]
        async with edge.scanner(wire) as client:
            await client.send({"t": "scans", "items": items})
            answer = await client.receive()
            await client.send({"t": "scans", "items": []})
            assert await client.receive() == {"t": "verdicts", "items": []}
        assert answer["t"] == "verdicts"
        assert [item["id"] for item in answer["items"]] == [item["id"] for item in items]

    async def test_a_verdict_that_takes_long_does_not_hold_up_its_mates(self, edge: SocketEdge) -> None:
        edge.engine.is_holding = True
        async with edge.scanner() as client:
            await client.send({"t": "scans", "items": [{"id": n, "credential": edge.credential()} for n in "abc"]})
            await until(lambda: len(edge.engine.held) == 3)
            for check_in, on_reply in edge.engine.held[1:]:
                on_reply(judged(check_in))
            first = await client.receive()
            edge.engine.held[0][1](judged(edge.engine.held[0][0]))
            second = await client.receive()
        assert [item["id"] for item in first["items"]] == ["b", "c"]
        assert [item["id"] for item in second["items"]] == ["a"]

    @pytest.mark.parametrize("tenant_id", ["org_b", None])
    @both_wires
    async def test_a_forged_or_foreign_credential_never_reaches_the_engine(
        self, edge: SocketEdge, wire: str, tenant_id: str | None
    ) -> None:
        credential = edge.credential(tenant_id=tenant_id) if tenant_id else "MV1:forged"
        async with edge.scanner(wire) as client:
            await client.send({"t": "scan", "id": "1", "credential": credential})
            verdict = await client.receive()
        assert (verdict["t"], verdict["verdict"], verdict["reason"]) == ("verdict", "refused", "credential_invalid")
        assert (verdict["card_id"], verdict["attendance"], verdict["points"]) == (None, None, None)
        assert edge.engine.check_ins == []
        assert edge.doorway.forged_count == 1

    async def test_what_the_engine_could_not_do_is_an_error_with_the_id(self, edge: SocketEdge) -> None:
        async with edge.scanner() as client:
            edge.engine.failure = Failed("overloaded", "later", 250)
            await client.send({"t": "scan", "id": "1", "credential": edge.credential()})
            overloaded = await client.receive()
            edge.engine.failure = Failed("id_reused", "another body")
            await client.send({"t": "scans", "items": [{"id": "2", "credential": edge.credential()}]})
            reused = await client.receive()
        assert overloaded == {
            "t": "error",
            "id": "1",
            "code": "overloaded",
            "message": "later",
            "retry_after_ms": 250,
        }
        error = {"t": "error", "id": "2", "code": "id_reused", "message": "another body"}
        assert reused == {"t": "verdicts", "items": [error]}

    async def test_more_than_the_limit_in_flight_had_no_effect(
        self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "SCANS_IN_FLIGHT_MAX", 3)
        edge.engine.is_holding = True
        async with edge.scanner() as client:
            for n in range(4):
                await client.send({"t": "scan", "id": f"s{n}", "credential": edge.credential()})
            error = await client.receive()
            assert (error["code"], error["id"]) == ("too_many_in_flight", "s3")
            assert error["retry_after_ms"] > 0
            assert len(edge.engine.held) == 3
            check_in, on_reply = edge.engine.held.pop(0)
            on_reply(judged(check_in))
            assert (await client.receive())["id"] == "s0"
            items = [{"id": "s4", "credential": edge.credential()}, {"id": "s5", "credential": edge.credential()}]
            await client.send({"t": "scans", "items": items})
            [late] = (await client.receive())["items"]
            assert (late["code"], late["id"]) == ("too_many_in_flight", "s5")
        assert [check_in.request_id for check_in, _ in edge.engine.held] == ["s1", "s2", "s4"]

    async def test_a_verdict_after_the_socket_is_gone_harms_nobody(self, edge: SocketEdge) -> None:
        edge.engine.is_holding = True
        async with edge.scanner() as client:
            await client.send({"t": "scan", "id": "1", "credential": edge.credential()})
            await client.send({"t": "ping", "n": 1})
            await client.receive()
        await until(lambda: not len(edge.sockets))
        check_in, on_reply = edge.engine.held[0]
        on_reply(judged(check_in))


class TestPings:
    @both_wires
    async def test_a_ping_is_answered_with_the_time(self, edge: SocketEdge, wire: str) -> None:
        async with edge.scanner(wire) as client:
            await client.send({"t": "ping", "n": 7})
            assert await client.receive() == {"t": "pong", "n": 7, "now": NOW_MS}
            await client.send({"t": "pong", "n": 7})
            await client.send({"t": "ping"})
            assert (await client.receive())["n"] == 0

    async def test_the_server_pings_too(self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "WATCH_EVERY_MS", 10)
        monkeypatch.setattr(limits, "PING_EVERY_MS", 20)
        async with edge.scanner() as client:
            while (await client.receive_any())["t"] != "ping":
                pass

    async def test_a_flood_of_pings_is_answered_completely(
        self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "BACKLOG_BYTES_MAX", 50_000)
        count = 3 * limits.BACKLOG_FRAMES_MAX
        async with edge.scanner() as client:

            async def flood() -> None:
                for n in range(count):
                    await client.send({"t": "ping", "n": n})

            flooding = asyncio.create_task(flood())
            for n in range(count):
                assert (await client.receive(30))["n"] == n
            await flooding


class TestAttendance:
    @both_wires
    async def test_counts_come_at_first_and_when_they_change(self, edge: SocketEdge, wire: str) -> None:
        async with edge.scanner(wire) as client:
            first = await client.next("attendance")
            edge.engine.publish(TENANT, f"event:{EVENT}", feed(3))
            second = await client.next("attendance")
        counts = {"t": "attendance", "event_id": EVENT, "inside": 0, "admitted": 0, "capacity": 500, "seq": 0}
        assert first == counts
        assert second == counts | {"inside": 3, "admitted": 3, "seq": 3}

    async def test_at_most_ten_a_second_and_the_last_one_always(self, edge: SocketEdge) -> None:
        seen: list[int] = []
        async with edge.scanner() as client:
            assert (await client.next("attendance"))["inside"] == 0
            began = asyncio.get_running_loop().time()
            for n in range(1, 41):
                edge.engine.publish(TENANT, f"event:{EVENT}", feed(n))
                await asyncio.sleep(0.01)
            while not seen or seen[-1] != 40:
                seen.append((await client.next("attendance"))["inside"])
            took = asyncio.get_running_loop().time() - began
        assert seen == sorted(seen)
        assert len(seen) <= took * 10 + 2

    async def test_all_scanners_of_an_event_share_one_subscription(self, edge: SocketEdge) -> None:
        async with edge.scanner() as one, edge.scanner(MSGPACK) as other:
            await one.next("attendance")
            await other.next("attendance")
            edge.engine.publish(TENANT, f"event:{EVENT}", feed(9))
            assert (await one.next("attendance"))["inside"] == (await other.next("attendance"))["inside"] == 9
            assert sorted(topic for _, topic in edge.hub._topics) == [f"event:{EVENT}", "revocations"]
        await until(lambda: not edge.hub._topics)
