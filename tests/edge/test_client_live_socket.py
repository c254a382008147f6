"""The client's live socket: one unbroken line of changes per topic, or a new snapshot that says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.replies import Failed
from gateway.client import AsyncMasterVip, Change, LiveSocket, Position, SocketRefused, Subscription, TopicError
from tests.support.client_timing import NO_PAUSE, QUICK
from tests.support.socket_edge import KEY_TOKEN, TENANT, TOPIC, SocketEdge, feed, running_edge, until
from tests.support.socket_server import SocketServer, Talk
from tests.support.tcp_proxy import TcpProxy

END = "event:end"
CUTS = 60
UPDATES_PER_CUT = 20


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as edge:
        yield edge


@asynccontextmanager
async def board(url: str, token: str = KEY_TOKEN, **more: Any) -> AsyncIterator[LiveSocket]:
    """A connected subscriber."""
    async with (
        AsyncMasterVip(url.replace("ws", "http", 1), token, timing=NO_PAUSE) as vip,
        vip.live_socket(**{"retry": QUICK, "wire": "json", **more}) as socket,
    ):
        yield socket


async def next_of(subscription: Subscription) -> Change:
    async with asyncio.timeout(10):
        return await anext(subscription)


# --- one line ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", ["json", "msgpack"])
async def test_a_snapshot_and_then_every_update(edge: SocketEdge, wire: str) -> None:
    async with board(edge.url, wire=wire) as live:
        subscription = live.subscribe(TOPIC)
        first = await next_of(subscription)
        assert (first.kind, first.topic, first.at, first.recovered) == ("snapshot", TOPIC, Position(1, 0), None)
        for number in range(1, 4):
            edge.engine.publish(TENANT, TOPIC, feed(number))
            change = await next_of(subscription)
            assert (change.kind, change.at, change.recovered) == ("update", Position(1, number), None)
            assert change.data["inside"] == number


async def test_every_offset_is_seen_once_though_the_connection_is_cut_again_and_again(edge: SocketEdge) -> None:
    host, _, port = edge.url.removeprefix("ws://").partition(":")
    async with TcpProxy(host, int(port)) as proxy, board(f"ws://127.0.0.1:{proxy.port}") as live:
        subscription = live.subscribe(TOPIC)
        changes = [await next_of(subscription)]
        published = 0
        for cut in range(CUTS):
            for number in range(UPDATES_PER_CUT):
                if number == cut % UPDATES_PER_CUT:
                    proxy.to_client.is_cutting = cut % 2 == 0  # with the next update, which is lost
                    if cut % 2:
                        proxy.cut()
                published += 1
                edge.engine.publish(TENANT, TOPIC, feed(published))
                if number % 5 == 0:
                    await asyncio.sleep(0)
            proxy.to_client.is_cutting = False
            while changes[-1].at.offset < published:
                changes.append(await next_of(subscription))
        assert proxy.connections_count > CUTS // 2
    assert [change.at for change in changes] == [Position(1, number) for number in range(published + 1)]
    assert [change.data["inside"] for change in changes] == list(range(published + 1))
    assert [change.recovered for change in changes].count(True) > CUTS // 4
    assert not any(change.recovered is False for change in changes)


async def test_a_line_that_cannot_go_on_begins_anew_and_says_so(edge: SocketEdge) -> None:
    async with board(edge.url) as live:
        subscription = live.subscribe(TOPIC)
        await next_of(subscription)
        edge.engine.restart(TENANT, TOPIC)
        edge.engine.publish(TENANT, TOPIC, feed(5))
        change = await next_of(subscription)
        while change.at.offset < 1:
            change = await next_of(subscription)
        edge.engine.publish(TENANT, TOPIC, feed(6))
        after = await next_of(subscription)
    assert (change.at.epoch, change.kind, change.recovered) == (2, "snapshot", False)
    assert (after.at, after.recovered) == (Position(2, 2), None)


async def test_one_can_go_on_from_where_one_was(edge: SocketEdge) -> None:
    for number in range(1, 6):
        edge.engine.publish(TENANT, TOPIC, feed(number))
    async with board(edge.url) as live:
        subscription = live.subscribe(TOPIC, since=Position(1, 3))
        changes = [await next_of(subscription) for _ in range(2)]
        other = live.subscribe("leaderboard:points", since=Position(0, 99))
        anew = await next_of(other)
    assert [(change.kind, change.at.offset, change.recovered) for change in changes] == [
        ("update", 4, True),
        ("update", 5, None),
    ]
    assert (anew.kind, anew.recovered) == ("snapshot", False)


# --- holes ------------------------------------------------------------------------------------------------------------


def update(offset: int) -> dict[str, Any]:
    return {"t": "update", "topic": TOPIC, "offset": offset, "data": offset}


def snapshot(offset: int, epoch: int = 1, **more: Any) -> dict[str, Any]:
    return {"t": "snapshot", "topic": TOPIC, "epoch": epoch, "offset": offset, "data": offset, **more}


async def subscribed(talk: Talk, asked: list[dict[str, Any]]) -> None:
    """Notes what is asked for until somebody asks for `END`: all before it has come, too. The connection stays."""
    while not asked or asked[-1]["topic"] != END:
        asked.append(await talk.receive())
    await talk.stay()


async def test_a_hole_is_asked_for_once_and_never_passed_on() -> None:
    asked: list[dict[str, Any]] = []

    async def talk(talk: Talk) -> None:
        asked.append(await talk.receive())
        for frame in (snapshot(10), update(11), update(14), update(15)):
            await talk.send(**frame)
        asked.append(await talk.receive())
        await talk.send(**update(16))  # was on its way before the question came
        for offset in range(12, 18):
            await talk.send(**update(offset))
        await subscribed(talk, asked)

    async with SocketServer(talk) as server, board(server.url) as live:
        subscription = live.subscribe(TOPIC)
        changes = [await next_of(subscription) for _ in range(8)]
        live.subscribe(END)
        await until(lambda: asked[-1]["topic"] == END)
    assert [change.at.offset for change in changes] == list(range(10, 18))
    assert [change.recovered for change in changes] == [None, None, True, None, None, None, None, None]
    assert asked[:-1] == [
        {"t": "subscribe", "topic": TOPIC},
        {"t": "subscribe", "topic": TOPIC, "since": {"epoch": 1, "offset": 11}},
    ]


async def test_what_is_known_is_neither_passed_on_nor_a_hole() -> None:
    asked: list[dict[str, Any]] = []

    async def talk(talk: Talk) -> None:
        asked.append(await talk.receive())
        for frame in (snapshot(10), update(11), update(11), update(10), update(12)):
            await talk.send(**frame)
        await subscribed(talk, asked)

    async with SocketServer(talk) as server, board(server.url) as live:
        subscription = live.subscribe(TOPIC)
        assert [(await next_of(subscription)).at.offset for _ in range(3)] == [10, 11, 12]
        live.subscribe(END)
        await until(lambda: asked[-1]["topic"] == END)
    assert len(asked) == 2


async def test_a_hole_after_the_question_was_understood_is_another_hole() -> None:
    async def talk(talk: Talk) -> None:
        await talk.receive()
        await talk.send(**snapshot(1))
        await talk.send(**update(5))
        await talk.receive()
        frame = await talk.receive_after_pings(lambda: talk.send(**update(7)))
        assert frame["since"] == {"epoch": 1, "offset": 1}
        await talk.send(**snapshot(9, epoch=2, recovered=False))
        await talk.stay()

    async with SocketServer(talk) as server, board(server.url) as live:
        subscription = live.subscribe(TOPIC)
        assert (await next_of(subscription)).at == Position(1, 1)
        change = await next_of(subscription)
    assert (change.kind, change.at, change.recovered) == ("snapshot", Position(2, 9), False)


async def test_what_comes_of_a_line_before_its_snapshot_is_not_of_it() -> None:
    async def talk(talk: Talk) -> None:
        await talk.receive()
        for frame in (update(3), snapshot(7), update(8), {"t": "update", "topic": "event:other", "offset": 1}):
            await talk.send(**frame)
        await talk.stay()

    async with SocketServer(talk) as server, board(server.url) as live:
        subscription = live.subscribe(TOPIC)
        assert [(await next_of(subscription)).at.offset for _ in range(2)] == [7, 8]


async def test_what_nobody_takes_is_dropped_for_a_snapshot(edge: SocketEdge) -> None:
    async with board(edge.url, backlog_max=4) as live:
        subscription, other = live.subscribe(TOPIC), live.subscribe("leaderboard:points")
        await next_of(subscription)
        await next_of(other)
        for number in range(1, 31):
            edge.engine.publish(TENANT, TOPIC, feed(number))
        await until(lambda: subscription.has_overflowed)
        assert len(subscription._backlog) == 0
        change = await next_of(subscription)
        assert (change.kind, change.recovered, change.data["inside"]) == ("snapshot", False, 30)
        edge.engine.publish(TENANT, TOPIC, feed(31))
        after = await next_of(subscription)
        assert (after.data["inside"], after.recovered) == (31, None)


async def test_also_when_the_connection_is_cut_meanwhile(edge: SocketEdge) -> None:
    async with board(edge.url, backlog_max=2) as live:
        subscription = live.subscribe(TOPIC)
        await next_of(subscription)
        for number in range(1, 9):
            edge.engine.publish(TENANT, TOPIC, feed(number))
        await until(lambda: subscription.has_overflowed)
        await edge.send_everybody_away()
        await until(lambda: live.is_open)
        change = await next_of(subscription)
    assert (change.kind, change.recovered, change.data["inside"]) == ("snapshot", False, 8)


# --- beginnings and ends ----------------------------------------------------------------------------------------------


async def test_a_topic_that_there_is_not_ends_alone(edge: SocketEdge) -> None:
    async with board(edge.url) as live:
        absent, present = live.subscribe("event:evt_foreign"), live.subscribe(TOPIC)
        for _ in range(2):
            with pytest.raises(TopicError) as raised:
                await next_of(absent)
            assert (raised.value.topic, raised.value.code) == ("event:evt_foreign", "topic_unknown")
        assert (await next_of(present)).kind == "snapshot"
        with pytest.raises(TopicError):
            await next_of(live.subscribe("event:evt_foreign"))


async def test_a_refusal_that_says_when_is_tried_again() -> None:
    async def talk(talk: Talk) -> None:
        await talk.receive()
        await talk.send(t="error", code="unavailable", message="later", topic=TOPIC, retry_after_ms=5)
        await talk.receive()
        await talk.send(**snapshot(1))
        await talk.stay()

    async with SocketServer(talk) as server, board(server.url) as live:
        assert (await next_of(live.subscribe(TOPIC))).at.offset == 1


async def test_after_unsubscribing_nothing_comes_and_one_can_begin_again(edge: SocketEdge) -> None:
    async with board(edge.url) as live:
        async with live.subscribe(TOPIC) as subscription:
            async for _ in subscription:
                break
            with pytest.raises(ValueError, match="subscribed already"):
                live.subscribe(TOPIC)
        assert [change async for change in subscription] == []
        await until(lambda: not edge.hub._topics)
        assert (await next_of(live.subscribe(TOPIC))).recovered is None


async def test_the_end_of_the_socket_ends_the_iteration(edge: SocketEdge) -> None:
    async with board(edge.url) as live:
        subscription = live.subscribe(TOPIC)

        async def read_all() -> list[Change]:
            return [change async for change in subscription]

        reading = asyncio.create_task(read_all())
        await until(lambda: subscription.stands is not None)
        await live.aclose()
        assert len(await reading) == 1


async def test_a_final_close_is_told_to_every_subscriber() -> None:
    async def talk(talk: Talk) -> None:
        await talk.receive()
        await talk.send(**snapshot(1))
        await talk.close(4401, "token_invalid")

    async with SocketServer(talk) as server, board(server.url) as live:
        subscription = live.subscribe(TOPIC)
        assert (await next_of(subscription)).at.offset == 1
        with pytest.raises(SocketRefused):
            await next_of(subscription)
        with pytest.raises(SocketRefused):
            live.subscribe("event:other")


async def test_while_the_engine_is_away_a_subscriber_waits(edge: SocketEdge) -> None:
    edge.engine.failure = Failed("unavailable", "later", 10)
    async with board(edge.url) as live:
        subscription = live.subscribe(TOPIC)
        await until(lambda: bool(edge.hub._topics))
        edge.engine.failure = None
        assert (await next_of(subscription)).kind == "snapshot"
