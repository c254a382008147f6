"""`/v1/live` over real sockets: one unbroken line per topic, whatever is lost, late, cut off or slow."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.replies import Failed, ScanSummary
from gateway import live_hub
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
    Client,
    SocketEdge,
    board,
    feed,
    running_edge,
    until,
)

TOPIC = f"event:{EVENT}"
BOARD = "leaderboard:points"
Line = list[tuple[int, int, int]]  # (epoch, offset, inside) as a subscriber has them


@pytest.fixture
def quick_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics are asked for often; without it, renewal does not repair anything within a test."""
    monkeypatch.setattr(live_hub, "WATCH_RENEW_MS", 30)


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as running:
        yield running


both_wires = pytest.mark.parametrize("wire", [JSON, MSGPACK])


async def subscribe(client: Client, topic: str = TOPIC, since: dict[str, int] | None = None) -> None:
    await client.send({"t": "subscribe", "topic": topic} | ({"since": since} if since else {}))


class TestSubscribing:
    @both_wires
    async def test_a_snapshot_and_then_each_update(self, edge: SocketEdge, wire: str) -> None:
        scan = ScanSummary("s", NOW_MS, True, "", "entry", "card_1", "Lan", "gold", "gate_1", "dev_1", 10)
        refused = ScanSummary("r", NOW_MS, False, "full", "entry", "", "", "", "", "", 0)
        async with edge.subscriber(wire) as client:
            await subscribe(client)
            snapshot = await client.receive()
            edge.engine.publish(TENANT, TOPIC, feed(3, (scan, refused)))
            update = await client.receive()
        data = {"event_id": EVENT, "name": "Gala", "inside": 0, "admitted": 0, "refused": 0, "capacity": 500, "seq": 0}
        assert snapshot == {
            "t": "snapshot",
            "topic": TOPIC,
            "epoch": 1,
            "offset": 0,
            "data": data | {"scans": []},
        }
        assert {**update, "data": {**update["data"], "scans": None}} == {
            "t": "update",
            "topic": TOPIC,
            "offset": 1,
            "data": data | {"inside": 3, "admitted": 3, "seq": 3, "scans": None},
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
            "device_id": "dev_1",
            "points": 10,
        }
        unknown = update["data"]["scans"][1]
        assert (unknown["verdict"], unknown["reason"]) == ("refused", "full")
        assert (unknown["card_id"], unknown["member"], unknown["tier"], unknown["gate_id"]) == (None, None, None, None)

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
        ],
    )
    async def test_a_foreign_topic_looks_like_an_absent_one(self, edge: SocketEdge, token: str, topic: str) -> None:
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
            await theirs.send({"t": "ping"})
            assert (await theirs.receive())["t"] == "pong"

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


class TestLine:
    """Rule 1 of `gateway.live_hub`, under loss, cut-offs and new epochs."""

    async def test_a_lost_message_is_repaired_when_the_next_one_comes(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
            edge.engine.loses = lambda digest: digest.update.offset in (2, 3)
            for n in range(1, 5):
                edge.engine.publish(TENANT, TOPIC, feed(n))
            assert [(await client.receive())["offset"] for _ in range(4)] == [1, 2, 3, 4]

    @pytest.mark.usefixtures("quick_renewal")
    async def test_a_lost_last_message_is_found_by_the_renewal(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
            edge.engine.loses = lambda _digest: True
            edge.engine.publish(TENANT, TOPIC, feed(1))
            update = await client.receive(10)
            assert (update["t"], update["offset"]) == ("update", 1)

    async def test_a_new_epoch_begins_with_a_snapshot_that_says_so(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            assert "recovered" not in await client.receive()
            edge.engine.publish(TENANT, TOPIC, feed(1))
            await client.receive()
            edge.engine.restart(TENANT, TOPIC)
            edge.engine.publish(TENANT, TOPIC, feed(2))
            snapshot = await client.receive()
            assert (snapshot["t"], snapshot["epoch"], snapshot["offset"], snapshot["recovered"]) == (
                "snapshot",
                2,
                1,
                False,
            )
            assert snapshot["data"]["inside"] == 2

    @pytest.mark.usefixtures("quick_renewal")
    async def test_a_host_that_counts_anew_in_the_same_epoch_is_followed(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
            for n in range(5):
                edge.engine.publish(TENANT, TOPIC, feed(n))
                await client.receive()
            fresh = edge.engine.topics[(TENANT, TOPIC)]
            edge.engine.topics[(TENANT, TOPIC)] = fresh.__class__(feed(77))
            snapshot = await client.receive(10)
            assert (snapshot["t"], snapshot["offset"], snapshot["data"]["inside"]) == ("snapshot", 0, 77)
            edge.engine.publish(TENANT, TOPIC, feed(78))
            assert (await client.receive(10))["offset"] == 1

    async def test_resuming_gives_what_was_missed_and_nothing_twice(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
        for n in range(1, 6):
            edge.engine.publish(TENANT, TOPIC, feed(n))
        async with edge.subscriber() as client:
            await subscribe(client, since={"epoch": 1, "offset": 2})
            frames = [await client.receive() for _ in range(3)]
            assert [(frame["t"], frame["offset"]) for frame in frames] == [("update", 3), ("update", 4), ("update", 5)]
            await client.send({"t": "ping"})
            assert (await client.receive())["t"] == "pong"

    @pytest.mark.parametrize(
        "since", [{"epoch": 0, "offset": 3}, {"epoch": 1, "offset": 99}, {"epoch": 9, "offset": 0}]
    )
    async def test_what_cannot_be_resumed_gets_a_new_snapshot(self, edge: SocketEdge, since: dict[str, int]) -> None:
        for n in range(1, 6):
            edge.engine.publish(TENANT, TOPIC, feed(n))
        async with edge.subscriber() as client:
            await subscribe(client, since=since)
            snapshot = await client.receive()
            assert (snapshot["t"], snapshot["offset"], snapshot["recovered"]) == ("snapshot", 5, False)

    async def test_updates_during_the_first_question_are_neither_lost_nor_doubled(self, edge: SocketEdge) -> None:
        edge.engine.answers_topic.clear()
        async with edge.subscriber() as client:
            await subscribe(client)
            await until(lambda: bool(edge.source._subscribed))
            for n in range(1, 4):
                edge.engine.publish(TENANT, TOPIC, feed(n))
            edge.engine.answers_topic.set()
            line = Follower()
            while line.last != 3:
                line.take(await client.receive())

    async def test_a_thousand_boards_cost_two_questions(self, edge: SocketEdge) -> None:
        subscribers = [Recorder() for _ in range(1_000)]
        subscriptions = [edge.hub.subscribe(TENANT, TOPIC, subscriber) for subscriber in subscribers]
        await until(lambda: all(subscriber.snapshots for subscriber in subscribers))
        assert len(edge.engine.questions) <= 2
        edge.engine.publish(TENANT, TOPIC, feed(1))
        await until(lambda: all(subscriber.updates for subscriber in subscribers))
        assert len({id(subscriber.updates[0]) for subscriber in subscribers}) == 1, "encoded once, shared by all"
        for subscription in subscriptions:
            edge.hub.unsubscribe(subscription)

    @pytest.mark.usefixtures("quick_renewal")
    @pytest.mark.parametrize("seed", range(12))
    async def test_many_cut_offs_with_loss_and_new_epochs_leave_no_hole_and_no_double(
        self, edge: SocketEdge, seed: int
    ) -> None:
        dice = random.Random(seed)
        edge.engine.loses = lambda _digest: dice.random() < 0.2
        published = 0
        is_over = False

        async def host() -> None:
            nonlocal published
            while published < 300:
                published += 1
                if dice.random() < 0.02:
                    edge.engine.restart(TENANT, TOPIC)
                edge.engine.publish(TENANT, TOPIC, feed(published))
                await asyncio.sleep(dice.choice([0, 0, 0, 0.001, 0.003]))

        async def board_that_is_cut_off(wire: str) -> Follower:
            line = Follower()
            while not is_over:
                async with edge.subscriber(wire) as client:
                    await subscribe(client, since=line.since)
                    for _ in range(dice.randrange(1, 40)):
                        try:
                            line.take(await client.receive(0.2))
                        except TimeoutError:
                            break
                    if dice.random() < 0.5:
                        client.connection.transport.abort()  # type: ignore[attr-defined]
            async with edge.subscriber(wire) as client:
                await subscribe(client, since=line.since)
                while line.last != published:
                    line.take(await client.receive())
            return line

        boards = [asyncio.create_task(board_that_is_cut_off(wire)) for wire in (JSON, MSGPACK, JSON)]
        await host()
        is_over = True
        for line in await asyncio.gather(*boards):
            assert line.seen > 10


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
                client.connection.transport.pause_reading()  # type: ignore[attr-defined]
                [topic] = edge.hub._topics.values()
                [subscription] = topic.subscriptions
                for n in range(1, 401):
                    edge.engine.publish(TENANT, TOPIC, feed(n, big))
                    await asyncio.sleep(0.0005)
                    feed_of_socket: Any = subscription.subscriber
                    assert len(feed_of_socket._backlog) <= limits.SUBSCRIBER_BACKLOG_MAX
                client.connection.transport.resume_reading()  # type: ignore[attr-defined]
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
            client.connection.transport.pause_reading()  # type: ignore[attr-defined]
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
            slow.connection.transport.pause_reading()  # type: ignore[attr-defined]
            for n in range(1, 2_001):
                edge.engine.publish(TENANT, TOPIC, feed(n))
                assert (await quick.receive())["offset"] == n


class Recorder:
    """A subscriber that remembers."""

    def __init__(self) -> None:
        self.snapshots: list[live_hub.Published] = []
        self.updates: list[live_hub.Published] = []

    def on_snapshot(self, snapshot: live_hub.Published, recovered: bool | None) -> None:
        self.snapshots.append(snapshot)

    def on_update(self, update: live_hub.Published) -> None:
        self.updates.append(update)

    def on_refused(self, code: str, detail: str, retry_after_ms: int) -> None:
        raise AssertionError(code)


class Follower:
    """A board: takes frames and fails on a hole or on anything twice. `inside` counts what was published, over epochs
    too."""

    def __init__(self) -> None:
        self.since: dict[str, int] | None = None
        self.last = -1
        self.seen = 0
        self.snapshots = 0

    def take(self, frame: dict[str, Any]) -> None:
        assert frame["t"] in ("snapshot", "update"), frame
        inside = frame["data"]["inside"]
        self.seen += 1
        if frame["t"] == "snapshot":
            assert frame.get("recovered") is (None if self.since is None else False)
            self.snapshots += 1
            assert inside >= self.last, "a snapshot never goes back"
            self.since = {"epoch": frame["epoch"], "offset": frame["offset"]}
        else:
            assert self.since is not None
            assert frame["offset"] == self.since["offset"] + 1, "no hole and nothing twice"
            assert inside == self.last + 1, "every update is there"
            self.since["offset"] = frame["offset"]
        self.last = inside
