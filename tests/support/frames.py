"""Both ends of the wire between gateway and host, for tests: a host that does as it is told behind a real listener, and
peers that know the wire and break its rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from gateway.ports import HostUnavailable
from serve.frame_listener import FrameListener
from serve.frame_transport import FrameTransport
from serve.frame_wire import (
    ANSWER_BYTES_MAX,
    ANSWERS,
    Frame,
    FrameDecoder,
    GatewayHandshake,
    HostAddress,
    HostHandshake,
    encode_frame,
    wire_key,
)

KEY = wire_key(b"s" * 32)
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SUBMIT_TIMEOUT_MS, COLLECT_TIMEOUT_MS, OPEN_TIMEOUT_MS = 400, 600, 300


class FakeHost:
    """Answers a batch with what `answer` makes of it, and a ticket with its number."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.cancelled: list[bytes] = []
        self.arrived = asyncio.Event()
        self.answer: Callable[[bytes], Awaitable[bytes]] = self._at_once

    async def submit(self, batch: bytes) -> bytes:
        """See `gateway.ports.Transport`."""
        self.batches.append(batch)
        self.arrived.set()
        try:
            return await self.answer(batch)
        except asyncio.CancelledError:
            self.cancelled.append(batch)
            raise

    async def collect(self, ticket: int) -> bytes:
        """See `gateway.ports.Transport`."""
        return b"ticket %d" % ticket

    async def never(self, batch: bytes) -> bytes:
        """For `answer`."""
        await asyncio.Event().wait()
        raise AssertionError

    async def _at_once(self, batch: bytes) -> bytes:
        return b"re: " + batch


class Addresses:
    """Where hosts are, as the test says; counts how often it is asked."""

    def __init__(self) -> None:
        self.hosts: dict[str, HostAddress] = {}
        self.asked = 0

    async def find(self, host: str) -> HostAddress:
        """See `serve.frame_transport.Find`."""
        self.asked += 1
        await asyncio.sleep(0)
        if host not in self.hosts:
            raise HostUnavailable(f"{host} is nowhere")
        return self.hosts[host]


@asynccontextmanager
async def listening(host: FakeHost, incarnation: str = "one/1", key: bytes = KEY) -> AsyncIterator[FrameListener]:
    """A listener for the host on 127.0.0.1."""
    listener = FrameListener(host, key, incarnation)
    await listener.start("127.0.0.1")
    try:
        yield listener
    finally:
        await listener.close()


async def prove(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incarnation: str) -> None:
    """The host's side of the handshake, for a host made by hand."""
    handshake = HostHandshake(KEY, incarnation, b"h" * 32)
    writer.write(handshake.hello)
    while (reply := handshake.feed(await reader.read(1000))) is None:
        pass
    writer.write(reply)


@asynccontextmanager
async def host_by_hand(behave: Behaviour) -> AsyncIterator[HostAddress]:
    """A server that does with each connection what the test wants, and then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behave(reader, writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield HostAddress("one/1", "127.0.0.1", server.sockets[0].getsockname()[1])


@asynccontextmanager
async def transport_to(addresses: Addresses, key: bytes = KEY, patience: int = 1) -> AsyncIterator[FrameTransport]:
    """A gateway's end, with timeouts that are short, or so many times as long."""
    timeouts_ms = [patience * each for each in (SUBMIT_TIMEOUT_MS, COLLECT_TIMEOUT_MS, OPEN_TIMEOUT_MS)]
    transport = FrameTransport(addresses.find, key, *timeouts_ms)
    try:
        yield transport
    finally:
        await transport.close()


class Peer:
    """A gateway made by hand, which sends whatever the test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = FrameDecoder(ANSWERS, ANSWER_BYTES_MAX)
        self._frames: list[Frame] = []

    async def prove(self, incarnation: str, key: bytes = KEY) -> None:
        """Goes through the handshake."""
        handshake = GatewayHandshake(key, incarnation, b"g" * 32)
        while not handshake.is_done:
            data = await self.reader.read(1000)
            assert data, "the host hung up"
            self.writer.write(handshake.feed(data))

    def ask(self, call_id: int, kind: int, payload: bytes) -> None:
        """Sends a request."""
        self.writer.write(encode_frame(call_id, kind, payload))

    async def answer(self) -> Frame:
        """The next one; fails the test when none comes."""
        async with asyncio.timeout(3):
            while not self._frames:
                data = await self.reader.read(65_536)
                assert data, "the host hung up"
                self._frames = self._decoder.feed(data)
        return self._frames.pop(0)

    async def hung_up(self) -> bytes:
        """What came before the host hung up; fails the test when it does not."""
        received = b""
        async with asyncio.timeout(3):
            with suppress(ConnectionError):
                while data := await self.reader.read(65_536):
                    received += data
        return received


@asynccontextmanager
async def peer_of(listener: FrameListener, prove: bool = True) -> AsyncIterator[Peer]:
    """A connection to the listener, past the handshake if wanted."""
    reader, writer = await asyncio.open_connection(listener.address.ip, listener.address.port)
    peer = Peer(reader, writer)
    try:
        if prove:
            await peer.prove(listener.address.incarnation)
        yield peer
    finally:
        writer.transport.abort()


async def until(holds: Callable[[], bool]) -> None:
    """Waits; fails the test when it takes too long."""
    async with asyncio.timeout(3):
        while not holds():  # noqa: ASYNC110  # nobody tells when
            await asyncio.sleep(0.005)
