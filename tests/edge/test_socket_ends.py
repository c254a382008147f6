"""How sockets end: the gateway drains, the caller may not be here any more, the peer does not read or is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from gateway.http import AsgiMessage
from gateway.sockets import codes, limits
from gateway.sockets.connection import Connection
from gateway.sockets.register import OpenSockets
from gateway.sockets.wire import JSON as JSON_WIRE
from tests.support.socket_edge import EVENT, Client, SocketEdge, clock_ms, running_edge, until


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as running:
        yield running


class TestEnds:
    async def test_draining_asks_to_reconnect_and_lets_answers_out_first(self, edge: SocketEdge) -> None:
        async with edge.scanner() as client:
            await client.send({"t": "scan", "id": "1", "credential": edge.credential()})
            await until(lambda: bool(edge.engine.check_ins))
            await asyncio.sleep(0)
            draining = asyncio.create_task(edge.sockets.drain())
            assert (await client.receive())["t"] == "verdict"
            assert await client.receive() == {"t": "reconnect", "after_ms": 0}
            assert (await client.receive())["code"] == codes.DRAINING.name
            assert await client.closed() == codes.DRAINING.code
            await draining
        async with edge.connect("/v1/scan") as connection:
            again = await Client(connection).receive()
            assert limits.RECONNECT_MS_MIN <= again["after_ms"] <= limits.RECONNECT_REFUSED_MS_MAX
            assert await Client(connection).closed() == codes.DRAINING.code

    async def test_one_that_makes_room_sends_some_away_and_goes_on(self, edge: SocketEdge) -> None:
        async with edge.connect("/v1/scan") as one, edge.connect("/v1/scan") as two, edge.connect("/v1/scan") as three:
            await until(lambda: len(edge.sockets) == 3)
            await edge.sockets.make_room(3)
            assert len(edge.sockets) == 3
            await edge.sockets.make_room(1)
            await until(lambda: len(edge.sockets) == 1)
            stayed = []
            for connection in (one, two, three):
                client = Client(connection)
                with contextlib.suppress(ConnectionClosed):
                    await client.send({"t": "hello", "event_id": EVENT})
                frame = await client.receive()
                if frame["t"] == "welcome":
                    stayed.append(client)
                    continue
                assert frame["t"] == "reconnect"
                assert await client.closed() == codes.DRAINING.code
            assert len(stayed) == 1
            async with edge.scanner():
                assert len(edge.sockets) == 2

    async def test_a_full_gateway_says_so(self, edge: SocketEdge) -> None:
        edge.sockets._sockets_max = 1
        async with edge.scanner(), edge.connect("/v1/scan") as connection:
            assert await Client(connection).closed() == codes.TOO_MANY_SOCKETS.code

    async def test_a_token_that_stops_being_good_ends_the_socket(
        self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "WATCH_EVERY_MS", 10)
        monkeypatch.setattr(limits, "TOKEN_CHECK_EVERY_MS", 20)
        async with edge.scanner() as client:
            edge.identity.is_away = True
            await asyncio.sleep(0.1)
            await client.send({"t": "ping", "n": 1})
            assert (await client.receive())["t"] == "pong", "an outage of the callers' store must not stop the doors"
            edge.identity.is_away = False
            del edge.identity.callers["device"]
            assert await client.closed() == codes.TOKEN_INVALID.code

    async def test_verdicts_that_nobody_reads_end_the_socket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "BACKLOG_BYTES_MAX", 20_000)
        monkeypatch.setattr(limits, "WATCH_EVERY_MS", 20)
        monkeypatch.setattr(limits, "CLOSE_GRACE_MS", 100)
        async with running_edge(send_buffer_bytes=8_192) as edge, edge.scanner() as client:
            client.connection.transport.pause_reading()
            items = [{"id": f"{n:060}", "credential": edge.credential()} for n in range(16)]
            [server_side] = edge.sockets._open
            while server_side.ended is None:
                await client.send({"t": "scans", "items": items})
                await asyncio.sleep(0)
                assert server_side._queued_bytes <= limits.BACKLOG_BYTES_MAX + 1_000
            assert server_side.ended is codes.SLOW_READER
            # The writer cannot even send the close. It is given up; nothing of the socket stays behind.
            await until(lambda: not len(edge.sockets))

    @pytest.mark.parametrize("error", [OSError, RuntimeError])
    async def test_a_peer_that_is_gone_when_we_write_is_no_error(self, error: type[Exception]) -> None:
        async def send(_message: AsgiMessage) -> None:
            raise error

        async def receive() -> AsgiMessage:
            await asyncio.sleep(60)
            raise AssertionError

        connection = Connection(JSON_WIRE, receive, send, clock_ms)
        connection.send_map({"t": "pong"})
        sockets = OpenSockets()
        async with asyncio.timeout(5):
            await sockets.serve(connection, receive_all(connection))
        assert len(sockets) == 0

    def test_the_table_of_closes_is_in_its_ranges(self) -> None:
        assert (
            len({close.code for close in codes.CLOSES})
            == len({close.name for close in codes.CLOSES})
            == len(codes.CLOSES)
        )
        assert all(4000 <= close.code <= 4999 and close.message for close in codes.CLOSES)
        reconnect = {close.name for close in codes.CLOSES if close.may_reconnect}
        assert reconnect == {
            "unavailable",
            "access_changed",
            "draining",
            "hello_timeout",
            "rate_limited",
            "slow_reader",
            "too_many_sockets",
        }

    def test_an_empty_register_is_empty(self) -> None:
        assert len(OpenSockets()) == 0


def receive_all(connection: Connection) -> Callable[[], Coroutine[Any, Any, None]]:
    """A conversation that only listens."""

    async def listen() -> None:
        await connection.frame()

    return listen
