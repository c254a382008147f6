"""`/v1/live` over real sockets: who may subscribe to what, the frames, and readers that are slow."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from actors.replies import ConflictChange, Failed, ScanSummary
from gateway.sockets import codes, limits
from tests.support.socket_edge import (
    DEVICE_TOKEN,
    EVENT,
    FOREIGN_TOKEN,
    JSON,
    KEY_TOKEN,
    MSGPACK,
    NOW_MS,
    TENANT,
    TOPIC,
    Client,
    Follower,
    SocketEdge,
    board,
    feed,
    running_edge,
    subscribe,
    until,
)

BOARD = "leaderboard:points"


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as running:
        yield running


both_wires = pytest.mark.parametrize("wire", [JSON, MSGPACK])


class TestSubscribing:
    @both_wires
    async def test_a_snapshot_and_then_each_update(self, edge: SocketEdge, wire: str) -> None:
        scan = ScanSummary("s", NOW_MS, True, "", "entry", "card_1", "Lan", "gold", "gate_1", "dev_1", 10, "River")
        refused = ScanSummary("r", NOW_MS, False, "full", "entry", "", "", "", "", "", 0)
        async with edge.subscriber(wire) as client:
            await subscribe(client)
            snapshot = await client.receive()
            edge.engine.publish(TENANT, TOPIC, feed(3, (scan, refused)))
            update = await client.receive()
        data = {"event_id": EVENT, "name": "Gala", "inside": 0, "admitted": 0, "refused": 0, "capacity": 500, "seq": 0}
        nothing = {"conflicts_left_out": 0, "conflict_changes": [], "look_up_conflicts": False}
        assert snapshot == {
            "t": "snapshot",
            "topic": TOPIC,
            "epoch": 1,
            "offset": 0,
            "data": data | {"scans": []} | nothing,
        }
        assert {**update, "data": {**update["data"], "scans": None}} == {
            "t": "update",
            "topic": TOPIC,
            "offset": 1,
            "data": data | {"inside": 3, "admitted": 3, "seq": 3, "scans": None} | nothing,
        }
        assert update["data"]["scans"][0] == {
            "scan_id": "s",
            "at": NOW_MS,
            "verdict": "admitted",
            "reason": None,
            "direction": "entry",
            "card_id": "card_1",
            "member": {"name": "Lan"},
            "tier": "gold",
            "gate_id": "gate_1",
            "gate_name": "River",
            "conflict": None,
            "conflict_resolved": False,
            "forced": None,
            "scanned_at": None,
            "first": None,
            "device_id": "dev_1",
            "points": 10,
        }
        unknown = update["data"]["scans"][1]
        assert (unknown["verdict"], unknown["reason"]) == ("refused", "full")
        assert (unknown["card_id"], unknown["member"], unknown["tier"], unknown["gate_id"]) == (None, None, None, None)

    @both_wires
    async def test_changes_of_the_list_of_conflicts(self, edge: SocketEdge, wire: str) -> None:
        scan = ScanSummary("s", NOW_MS, True, "", "entry", "c", "Lan", "gold", "", "", 0, conflict="card_revoked")
        changes = (
            ConflictChange("c", "s", "", "card_revoked", is_resolved=False),
            ConflictChange("c", "s", "r", "already_admitted", is_resolved=True),
        )
        told = msgspec.structs.replace(
            feed(1, (msgspec.structs.replace(scan, is_resolved=True),)), conflict_changes=changes, must_look_up=True
        )
        async with edge.subscriber(wire) as client:
            await subscribe(client)
            await client.receive()
            edge.engine.publish(TENANT, TOPIC, told)
            data = (await client.receive())["data"]
        mark = {"card_id": "c", "scan_id": "s"}
        assert data["conflict_changes"] == [
            mark | {"other_scan_id": None, "reason": "card_revoked", "resolved": False},
            mark | {"other_scan_id": "r", "reason": "already_admitted", "resolved": True},
        ]
        assert (data["look_up_conflicts"], data["scans"][0]["conflict_resolved"]) == (True, True)

    @both_wires
    async def test_a_leaderboard(self, edge: SocketEdge, wire: str) -> None:
        async with edge.subscriber(wire) as client:
            await subscribe(client, BOARD)
            await client.receive()
            edge.engine.publish(TENANT, BOARD, board(70))
            update = await client.receive()
        items = [{"rank": 1, "card_id": "card_1", "member": {"name": "Lan"}, "score": 70}]
        assert update["data"] == {"board": "points", "window": "all", "size": 1, "items": items}

    @both_wires
    async def test_a_browser_says_hello_and_is_welcomed(self, edge: SocketEdge, wire: str) -> None:
        async with edge.connect("/v1/live", wire, token=None) as connection:
            client = Client(connection, wire)
            await client.send({"t": "hello", "token": KEY_TOKEN})
            welcome = await client.receive()
            assert (welcome["t"], welcome["now"]) == ("welcome", NOW_MS)
            await subscribe(client)
            assert (await client.receive())["t"] == "snapshot"

    @pytest.mark.parametrize(
        ("frame", "close"),
        [
            ({"t": "hello", "token": "nobody"}, codes.TOKEN_INVALID),
            ({"t": "hello"}, codes.TOKEN_INVALID),
            ({"t": "hello", "token": "superadmin"}, codes.FORBIDDEN),
            ({"t": "hello", "token": "powerless"}, codes.FORBIDDEN),
            ({"t": "subscribe", "topic": TOPIC}, codes.PROTOCOL_ERROR),
            ({"t": "hello", "token": 5}, codes.PROTOCOL_ERROR),
        ],
    )
    async def test_who_may_not_look_is_closed(
        self, edge: SocketEdge, frame: dict[str, Any], close: codes.Close
    ) -> None:
        async with edge.connect("/v1/live", token=None) as connection:
            await Client(connection).send(frame)
            assert (await Client(connection).receive())["code"] == close.name
            assert await Client(connection).closed() == close.code

    async def test_unsubscribing_ends_the_updates_and_the_last_one_the_source(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
            await client.send({"t": "unsubscribe", "topic": TOPIC})
            await client.send({"t": "unsubscribe", "topic": "event:never"})
            await client.send({"t": "ping", "n": 1})
            assert (await client.receive())["t"] == "pong"
            await until(lambda: not edge.source._subscribed)
            edge.engine.publish(TENANT, TOPIC, feed(1))
            await client.send({"t": "ping", "n": 2})
            assert await client.receive() == {"t": "pong", "n": 2, "now": NOW_MS}

    async def test_subscribing_again_begins_anew(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            for _ in range(3):
                await subscribe(client)
                assert (await client.receive())["t"] == "snapshot"
            edge.engine.publish(TENANT, TOPIC, feed(1))
            assert (await client.receive())["offset"] == 1
            await client.send({"t": "ping", "n": 1})
            assert (await client.receive())["t"] == "pong", "one line only"


class TestWhoSeesWhat:
    @pytest.mark.parametrize(
        ("token", "topic"),
        [
            (KEY_TOKEN, "event:evt_foreign"),
            (KEY_TOKEN, "event:evt_none"),
            (FOREIGN_TOKEN, TOPIC),
            (KEY_TOKEN, "card:card_1"),
            (KEY_TOKEN, "event:"),
            (KEY_TOKEN, "event:a:b"),
            (KEY_TOKEN, "event:*"),
            (KEY_TOKEN, f"{TOPIC}\n"),
            (KEY_TOKEN, "nonsense"),
            (DEVICE_TOKEN, "event:evt_none"),
            (DEVICE_TOKEN, "event:evt_other"),
        ],
    )
    async def test_a_foreign_topic_looks_like_an_absent_one(self, edge: SocketEdge, token: str, topic: str) -> None:
        edge.engine.topics[(TENANT, "event:evt_other")] = edge.engine.topics[(TENANT, TOPIC)]
        async with edge.subscriber(token=token) as client:
            await subscribe(client, topic)
            error = await client.receive()
            assert error == {
                "t": "error",
                "code": "topic_unknown",
                "message": "There is no such topic.",
                "topic": topic,
            }
            await client.send({"t": "ping"})
            assert (await client.receive())["t"] == "pong"

    async def test_what_is_published_for_one_tenant_reaches_no_other(self, edge: SocketEdge) -> None:
        edge.engine.topics[("org_b", BOARD)] = edge.engine.topics[(TENANT, BOARD)].__class__(board(5))
        async with edge.subscriber() as ours, edge.subscriber(token=FOREIGN_TOKEN) as theirs:
            await subscribe(ours, BOARD)
            await subscribe(theirs, BOARD)
            assert (await theirs.receive())["data"]["items"][0]["score"] == 5
            assert (await ours.receive())["data"]["items"][0]["score"] == 0
            edge.engine.publish(TENANT, BOARD, board(6))
            assert (await ours.receive())["data"]["items"][0]["score"] == 6
            for score in (8, 9):
                edge.engine.publish("org_b", BOARD, board(score))
                assert (await theirs.receive())["data"]["items"][0]["score"] == score
            await ours.send({"t": "ping"})
            assert (await ours.receive())["t"] == "pong"

    async def test_subscriptions_of_a_socket_are_limited(self, edge: SocketEdge) -> None:
        prototype = edge.engine.topics[(TENANT, TOPIC)]
        async with edge.subscriber() as client:
            for n in range(limits.SUBSCRIPTIONS_PER_SOCKET_MAX + 1):
                edge.engine.topics[(TENANT, f"event:e{n}")] = prototype
                await subscribe(client, f"event:e{n}")
            kinds = [(await client.receive()) for _ in range(limits.SUBSCRIPTIONS_PER_SOCKET_MAX + 1)]
            errors = [frame for frame in kinds if frame["t"] == "error"]
            assert [(error["code"], error["topic"]) for error in errors] == [("too_many_subscriptions", "event:e32")]

    async def test_an_engine_that_stays_away_is_reported(
        self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "JOIN_DEADLINE_MS", 100)
        edge.engine.failure = Failed("unavailable", "no host", 10)
        async with edge.subscriber() as client:
            await subscribe(client)
            error = await client.receive()
            assert (error["code"], error["topic"], error["retry_after_ms"]) == ("unavailable", TOPIC, 10)
            edge.engine.failure = None
            await subscribe(client)
            assert (await client.receive())["t"] == "snapshot"


class TestSlowReader:
    async def test_the_backlog_is_replaced_by_a_snapshot_and_memory_stays_bounded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        big = tuple(
            ScanSummary(f"s{n}", NOW_MS, True, "", "entry", "c" * 50, "n" * 900, "gold", "g", "d", 1) for n in range(20)
        )
        async with running_edge(send_buffer_bytes=8_192) as edge:
            small = socket.create_connection(("127.0.0.1", int(edge.url.rpartition(":")[2])))
            small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
            async with edge.subscriber(sock=small, max_queue=1) as client:
                await subscribe(client)
                line = Follower()
                line.take(await client.receive())
                client.connection.transport.pause_reading()
                [topic] = edge.hub._topics.values()
                [subscription] = topic.subscriptions
                for n in range(1, 401):
                    edge.engine.publish(TENANT, TOPIC, feed(n, big))
                    await asyncio.sleep(0.0005)
                    feed_of_socket: Any = subscription.subscriber
                    assert len(feed_of_socket._backlog) <= limits.SUBSCRIBER_BACKLOG_MAX
                client.connection.transport.resume_reading()
                while line.last != 400:
                    line.take(await client.receive())
                assert line.seen < 200, "most of the backlog was replaced"
                assert line.snapshots >= 2

    async def test_who_never_reads_again_is_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "WATCH_EVERY_MS", 20)
        monkeypatch.setattr(limits, "WRITE_STALL_MS", 200)
        monkeypatch.setattr(limits, "CLOSE_GRACE_MS", 300)
        big = tuple(
            ScanSummary(f"s{n}", NOW_MS, True, "", "entry", "c", "n" * 900, "gold", "g", "d", 1) for n in range(20)
        )
        async with running_edge(send_buffer_bytes=8_192) as edge, edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
            client.connection.transport.pause_reading()
            [server_side] = edge.sockets._open
            async with asyncio.timeout(10):
                while server_side.ended is None:
                    edge.engine.publish(TENANT, TOPIC, feed(1, big))
                    await asyncio.sleep(0.001)
            assert server_side.ended is codes.SLOW_READER
            await until(lambda: not len(edge.sockets))
            assert not edge.hub._topics

    async def test_one_slow_reader_holds_up_nobody(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as slow, edge.subscriber() as quick:
            for client in (slow, quick):
                await subscribe(client)
                await client.receive()
            slow.connection.transport.pause_reading()
            for n in range(1, 2_001):
                edge.engine.publish(TENANT, TOPIC, feed(n))
                assert (await quick.receive())["offset"] == n
