"""The client's sockets when the server sends them away, and what they tell it about their clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.client import AsyncMasterVip, RetryPolicy, ScanSocket
from gateway.client.link import SENT_AWAY_JITTER_S
from gateway.client.timing import Timing
from tests.support.client_timing import NO_PAUSE, QUICK
from tests.support.socket_edge import DEVICE_TOKEN, EVENT, running_edge
from tests.support.socket_server import CLOCK_MS, WELCOME, SocketServer, Talk


@asynccontextmanager
async def door(url: str, timing: Timing = NO_PAUSE, retry: RetryPolicy = QUICK) -> AsyncIterator[ScanSocket]:
    """A connected scanner."""
    async with (
        AsyncMasterVip(url.replace("ws", "http", 1), DEVICE_TOKEN, timing=timing) as vip,
        vip.scan_socket(EVENT, retry=retry, wire="json") as socket,
    ):
        yield socket


async def test_who_is_sent_away_comes_back_at_once_and_who_is_not_let_in_when_it_was_told() -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    async def talk(talk: Talk) -> None:
        if talk.number == 1:
            await talk.receive()
            await talk.send(t="reconnect", after_ms=4_000)
            server.welcome = {"t": "reconnect", "after_ms": 700}  # whoever comes now is not let in
        elif talk.number == 2:
            server.welcome = WELCOME
        elif talk.number == 3:
            await talk.answer_all()
        await talk.close(4503, "draining")

    timing = Timing(sleep=note, uniform=lambda low, high: high)
    retry = RetryPolicy(first_pause_s=50.0, pause_s_max=100.0)
    async with SocketServer(talk) as server, door(server.url, timing=timing, retry=retry) as scanner:
        assert (await scanner.scan("MV1:X"))["session"] == 3
    assert pauses == pytest.approx([SENT_AWAY_JITTER_S, 0.7 + SENT_AWAY_JITTER_S])


async def test_who_was_let_in_after_all_comes_back_at_once() -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    async def talk(talk: Talk) -> None:
        if talk.number == 2:
            await talk.answer_all()
        server.welcome = WELCOME
        await talk.send(**WELCOME)
        await talk.receive()
        await talk.close(4503, "draining")

    timing = Timing(sleep=note, uniform=lambda low, high: high)
    async with SocketServer(talk) as server:
        server.welcome = {"t": "reconnect", "after_ms": 4_000}
        async with door(server.url, timing=timing) as scanner:
            assert (await scanner.scan("MV1:X"))["session"] == 2
    assert pauses == [SENT_AWAY_JITTER_S]


async def test_another_close_after_being_told_to_reconnect_is_trouble_like_any_other() -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    async def talk(talk: Talk) -> None:
        if talk.number == 2:
            await talk.answer_all()
        await talk.receive()
        await talk.send(t="reconnect", after_ms=4_000)
        await talk.close(4500, "unavailable")

    timing = Timing(sleep=note, uniform=lambda low, high: high)
    async with SocketServer(talk) as server, door(server.url, timing=timing, retry=RetryPolicy(5.0)) as scanner:
        assert (await scanner.scan("MV1:X"))["session"] == 2
    assert pauses == [5.0]


async def test_the_server_is_told_this_machines_time() -> None:
    pongs: list[dict[str, Any]] = []

    async def talk(talk: Talk) -> None:
        await talk.send(t="ping", n=7)
        pongs.append(await talk.receive())
        await talk.answer_all()

    timing = Timing(wall_ms=lambda: CLOCK_MS - 5_000, uniform=lambda low, high: low)
    async with SocketServer(talk) as server, door(server.url, timing=timing) as scanner:
        await scanner.scan("MV1:X")
    assert server.hellos[0]["now"] == CLOCK_MS - 5_000
    assert pongs == [{"t": "pong", "n": 7, "now": CLOCK_MS - 5_000}]


async def test_the_server_knows_this_machines_clock_from_the_hello_on() -> None:
    async with running_edge() as edge, door(edge.url) as scanner:
        assert scanner.welcome["clock_offset_ms"] is not None
