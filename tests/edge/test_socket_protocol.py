"""Attacks on the WebSocket protocol itself, by clients that speak it badly on purpose, against the real listener's
protocol class."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.sockets import limits
from serve import socket_protocol
from tests.support.serving import Serving, serving
from tests.support.socket_edge import DEVICE_TOKEN, EVENT, SocketEdge, running_edge, until

TEXT, CONTINUATION, CLOSE, PING = 1, 0, 8, 9
FIN, RSV1 = 0x80, 0x40
PATIENCE_S = 20


def frame(opcode: int, payload: bytes = b"", flags: int = FIN) -> bytes:
    """A client's frame (RFC 6455, section 5.2), masked with zeros."""
    size = len(payload)
    head = bytes([size | 0x80]) if size < 126 else b"\xfe" + size.to_bytes(2) if size < 65_536 else b""
    return bytes([opcode | flags]) + (head or b"\xff" + size.to_bytes(8)) + bytes(4) + payload


class RawSocket:
    """A client that may send anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.reader = reader
        self.writer = writer
        self.head = head.decode().lower()

    async def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def close_code(self) -> int:
        """Of the close frame that comes; other frames are passed over."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                first, second = await self.reader.readexactly(2)
                size = (
                    second if second < 126 else int.from_bytes(await self.reader.readexactly(2 if second == 126 else 8))
                )
                payload = await self.reader.readexactly(size)
                if first & 15 == CLOSE:
                    return int.from_bytes(payload[:2])


@contextlib.asynccontextmanager
async def raw(edge: SocketEdge, extensions: str = "") -> AsyncIterator[RawSocket]:
    """A connection whose handshake is done."""
    host, _, port = edge.url.removeprefix("ws://").partition(":")
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=client)
    more = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
    writer.write(
        f"GET /v1/scan HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {DEVICE_TOKEN}\r\n{more}\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head
    try:
        yield RawSocket(reader, writer, head)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as edge:
        yield edge


def hello() -> bytes:
    return b'{"t":"hello","event_id":"%s"}' % EVENT.encode()


async def test_a_flood_of_fragments_ends_the_socket(edge: SocketEdge) -> None:
    async with raw(edge) as peer:
        await peer.send(frame(TEXT, hello()) + frame(TEXT, b'{"t":', 0))
        for _ in range(20):
            await peer.send(frame(CONTINUATION, b"", 0) * 100)
        assert await peer.close_code() == 1009


async def test_a_message_in_pieces_is_one_message(edge: SocketEdge) -> None:
    async with raw(edge) as peer:
        pieces = [bytes([byte]) for byte in hello()]
        await peer.send(frame(TEXT, pieces[0], 0) + b"".join(frame(CONTINUATION, each, 0) for each in pieces[1:]))
        await peer.send(frame(CONTINUATION, b"") + frame(TEXT, b'{"t":"scan","id":"","credential":"x"}') * 1_000)
        assert await peer.close_code() >= 4000, "it was understood, up to the bad frames"


async def test_no_compression_is_agreed_on_and_none_is_taken(edge: SocketEdge) -> None:
    """So no small frame can become a big one in memory."""
    async with raw(edge, "permessage-deflate; client_max_window_bits") as peer:
        assert "sec-websocket-extensions" not in peer.head
        await peer.send(frame(TEXT, hello(), FIN | RSV1))
        assert await peer.close_code() == 1002


async def test_a_frame_that_announces_too_much_is_refused_before_it_comes(edge: SocketEdge) -> None:
    async with raw(edge) as peer:
        size = limits.SERVER_FRAME_BYTES_MAX + 1
        await peer.send(bytes([TEXT | FIN]) + b"\xff" + size.to_bytes(8) + bytes(4) + b"x" * 1_000)
        assert await peer.close_code() == 1009


async def test_pings_of_a_peer_that_does_not_read_leave_no_pile_of_answers(edge: SocketEdge) -> None:
    async with serving(edge, send_buffer_bytes=4_096) as server:
        edge.url = server.url
        async with raw(edge) as peer:
            await peer.send(frame(TEXT, hello()))
            peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
            (connection,) = _connections(server)
            flood = frame(PING, b"x" * 125) * 100
            for _ in range(400):  # 5 MB of answers
                await peer.send(flood)
            assert connection.transport.get_write_buffer_size() < 200_000


async def test_a_peer_that_does_not_take_the_end_is_cut_off(edge: SocketEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_protocol, "ABORT_AFTER_S", 0.2)
    async with serving(edge) as server:
        edge.url = server.url
        async with raw(edge) as peer:
            await peer.send(frame(TEXT, hello()))
            (connection,) = _connections(server)
            monkeypatch.setattr(connection.transport, "close", lambda: None)  # as if it never got rid of its buffer
            await edge.sockets.drain()
            async with asyncio.timeout(PATIENCE_S):
                await until(lambda: not server.server.server_state.connections)


def _connections(server: Serving) -> list[socket_protocol.SocketProtocol]:
    found = list(server.server.server_state.connections)
    assert all(isinstance(each, socket_protocol.SocketProtocol) for each in found)
    return found  # type: ignore[return-value]
