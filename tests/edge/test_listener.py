"""The listener against clients that do not behave: over raw sockets, with time limits cut short."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import limits
from gateway.http import Receive, Scope, Send
from serve.listener import Listener
from serve.settings import Settings
from serve.stores import quiet_port

PATIENCE_S = 10.0
GET = b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n"


class Echo:
    """Answers with what it was sent, once all of it is there. `/wait` waits for `is_free`, `/flood` never ends."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.is_free = asyncio.Event()
        self.left: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.paths.append(scope["path"])
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.append(scope["path"])
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"] == "/wait":
            await self.is_free.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/flood":
            with contextlib.suppress(asyncio.CancelledError):
                while (await asyncio.wait_for(self._more(send), None)) is None:
                    pass
        await send({"type": "http.response.body", "body": body or b"ok"})

    @staticmethod
    async def _more(send: Send) -> None:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        await asyncio.sleep(0)


class Edge:
    """A running listener."""

    def __init__(self, app: Echo, port: int) -> None:
        self.app = app
        self.port = port

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A connection to it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def asked(self, sent: bytes) -> Answer:
        """The one answer to these bytes."""
        async with self.client() as client:
            client.send(sent)
            return await client.answer()


class Answer(msgspec.Struct):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The problem's code."""
        assert self.headers["content-type"] == "application/problem+json"
        document = msgspec.json.decode(self.body)
        assert document["request_id"] == self.headers["x-request-id"]
        code: str = document["code"]
        return code


class Client:
    """The other end, as raw as it gets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, sent: bytes) -> None:
        """Just sends."""
        self.writer.write(sent)

    async def drip(self, sent: bytes) -> None:
        """Sends byte by byte, until the server has enough."""
        with contextlib.suppress(OSError):
            for byte in sent:
                self.writer.write(bytes([byte]))
                await self.writer.drain()
                await asyncio.sleep(0.01)

    async def answer(self) -> Answer:
        """The next answer."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            if headers.get("transfer-encoding") == "chunked":
                size = int(await self.reader.readline(), 16)
                body = await self.reader.readexactly(size)
                await self.reader.readuntil(b"0\r\n\r\n")
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            return Answer(int(first.split()[1]), headers, body)

    async def is_hung_up_on(self) -> bool:
        """Waits until the server ends the connection."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65_536):
                    pass
        return True


@contextlib.asynccontextmanager
async def listening(tmp_path: Path, **settings: Any) -> AsyncIterator[Edge]:
    app = Echo()
    port = quiet_port()
    listener = Listener(app, Settings(data=tmp_path, port=port, drain_timeout_s=1, **settings))
    await listener.start()
    try:
        yield Edge(app, port)
    finally:
        app.is_free.set()
        await listener.stop()


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """With the usual, long limits of time."""
    async with listening(tmp_path) as edge:
        yield edge


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Edge]:
    """With short ones."""
    async with listening(
        tmp_path, head_timeout_s=0.3, request_timeout_s=0.6, write_timeout_s=0.3, keep_alive_s=1
    ) as edge:
        yield edge


class TestTime:
    async def test_a_connection_that_says_nothing_is_closed(self, hasty: Edge) -> None:
        async with hasty.client() as client:
            assert await client.is_hung_up_on()

    async def test_a_head_that_never_ends_is_408(self, hasty: Edge) -> None:
        async with hasty.client() as client:
            client.send(b"GET /ok HTTP/1.1\r\nHost: x\r\n")
            answer = await client.answer()
            assert (answer.status, answer.code, answer.headers["connection"]) == (408, "request_timeout", "close")
            assert await client.is_hung_up_on()
        assert hasty.app.paths == []

    async def test_dripping_a_head_buys_no_time(self, hasty: Edge) -> None:
        async with hasty.client() as client:
            dripping = asyncio.create_task(client.drip(b"GET /ok HTTP/1.1\r\n" + b"X-A: b\r\n" * 1_000))
            assert (await client.answer()).status == 408
            assert await client.is_hung_up_on()
            dripping.cancel()
        assert hasty.app.paths == []

    async def test_dripping_a_body_buys_no_time(self, hasty: Edge) -> None:
        async with hasty.client() as client:
            client.send(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n")
            dripping = asyncio.create_task(client.drip(b"x" * 10_000))
            assert (await client.answer()).code == "request_timeout"
            assert await client.is_hung_up_on()
            dripping.cancel()
        assert hasty.app.left == ["/slow"], "the application is told"

    async def test_dripping_chunks_buys_no_time(self, hasty: Edge) -> None:
        async with hasty.client() as client:
            client.send(b"POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            dripping = asyncio.create_task(client.drip(b"1\r\nx\r\n" * 10_000))
            assert (await client.answer()).status == 408
            dripping.cancel()

    async def test_the_second_request_of_a_connection_has_a_deadline_of_its_own(self, hasty: Edge) -> None:
        async with hasty.client() as client:
            for _ in range(3):
                client.send(GET)
                assert (await client.answer()).status == 200
                await asyncio.sleep(0.2)
            client.send(GET[:20])
            assert (await client.answer()).status == 408

    async def test_empty_lines_between_requests_are_no_request(self, hasty: Edge) -> None:
        async with hasty.client() as client:
            client.send(GET)
            assert (await client.answer()).status == 200
            client.send(b"\r\n")
            assert await client.is_hung_up_on()

    async def test_a_slow_answer_of_ours_is_nobodys_timeout(self, hasty: Edge) -> None:
        async with hasty.client() as client:
            client.send(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
            # A further one that waits behind it, half of it not yet sent.
            client.send(b"POST /next HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
            await asyncio.sleep(1)
            hasty.app.is_free.set()
            assert (await client.answer()).body == b"hi"
            client.send(b"yo")
            assert (await client.answer()).body == b"yo"

    async def test_an_idle_connection_is_closed(self, hasty: Edge) -> None:
        async with hasty.client() as client:
            client.send(GET)
            assert (await client.answer()).status == 200
            assert await client.is_hung_up_on()

    async def test_who_does_not_read_his_answer_is_hung_up_on(self, hasty: Edge) -> None:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", hasty.port))
        await loop.sock_sendall(raw, b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        is_over = False
        async with asyncio.timeout(PATIENCE_S):
            while not is_over:
                try:
                    await loop.sock_sendall(raw, b"\r\n")
                except ConnectionError:
                    is_over = True
                await asyncio.sleep(0.05)
        raw.close()


class TestSize:
    async def test_what_just_fits_is_answered(self, edge: Edge) -> None:
        address = b"/" + b"a" * (limits.ADDRESS_BYTES_MAX - 1)
        assert (await edge.asked(b"GET " + address + b" HTTP/1.1\r\nHost: x\r\n\r\n")).status == 200
        header = b"X-A: " + b"a" * (limits.HEAD_BYTES_MAX - 200) + b"\r\n"
        assert (await edge.asked(b"GET /ok HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n")).status == 200
        many = b"".join(b"X-%d: a\r\n" % number for number in range(limits.HEADERS_MAX - 1))
        assert (await edge.asked(b"GET /ok HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n")).status == 200

    @pytest.mark.parametrize(
        ("head", "status", "code"),
        [
            (b"GET /" + b"a" * limits.ADDRESS_BYTES_MAX + b" HTTP/1.1\r\n\r\n", 414, "address_too_long"),
            (b"GET /?" + b"a" * limits.ADDRESS_BYTES_MAX + b" HTTP/1.1\r\n\r\n", 414, "address_too_long"),
            (b"GET / HTTP/1.1\r\nA: " + b"a" * limits.HEAD_BYTES_MAX + b"\r\n\r\n", 431, "headers_too_large"),
            (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (limits.HEADERS_MAX + 1) + b"\r\n", 431, "headers_too_large"),
            (
                b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nA: "
                + b"a" * limits.HEAD_BYTES_MAX
                + b"\r\n\r\n",
                431,
                "headers_too_large",
            ),
        ],
    )
    async def test_too_large_a_head_is_refused(self, edge: Edge, head: bytes, status: int, code: str) -> None:
        async with edge.client() as client:
            client.send(head)
            answer = await client.answer()
            assert (answer.status, answer.code) == (status, code)
            assert await client.is_hung_up_on()
        assert edge.app.paths == []

    @pytest.mark.parametrize("begin", [b"GET /", b"GET / HTTP/1.1\r\nA: ", b"GET / HTTP/1.1\r\n"])
    async def test_a_head_without_an_end_is_not_kept(self, edge: Edge, begin: bytes) -> None:
        async with edge.client() as client:
            client.send(begin)
            piece = b"A: b\r\n" * 100 if begin.endswith(b"\r\n") else b"a" * 600
            for _ in range(limits.HEAD_BYTES_MAX // 500):
                client.send(piece)
                with contextlib.suppress(ConnectionError):
                    await client.writer.drain()
            assert (await client.answer()).status == 431
        assert edge.app.paths == []

    async def test_pipelined_requests_are_counted_each_by_itself(self, edge: Edge) -> None:
        count = 3 * limits.HEAD_BYTES_MAX // len(GET)
        async with edge.client() as client:
            client.send(GET * count)
            for _ in range(count):
                assert (await client.answer()).status == 200

    async def test_there_is_room_for_so_many_connections(self, tmp_path: Path) -> None:
        async with listening(tmp_path, connections_max=2) as edge, edge.client() as one, edge.client() as two:
            for client in (one, two):
                client.send(GET)
                assert (await client.answer()).status == 200
            async with edge.client() as third:
                with contextlib.suppress(ConnectionError):
                    third.send(GET)
                assert await third.is_hung_up_on()
            one.send(GET)
            assert (await one.answer()).status == 200


SMUGGLED = b"\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +4" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\n X: folded" + SMUGGLED,
        b"POST / HTTP/1.1\r\nHost: x\r\nX: a\x00b" + SMUGGLED,
        b"POST / HTTP/1.1\nHost: x\nX: y" + SMUGGLED,
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_hung_up_on(edge: Edge, sent: bytes) -> None:
    async with edge.client() as client:
        client.send(sent)
        assert (await client.answer()).status == 400
        assert await client.is_hung_up_on()
    assert "/smuggled" not in edge.app.paths


async def test_another_protocol_is_not_spoken(edge: Edge) -> None:
    async with edge.client() as client:
        client.send(b"GET /ok HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert (await client.answer()).status == 200
        assert await client.is_hung_up_on()
