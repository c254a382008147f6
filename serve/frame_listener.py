"""The host's end of the wire to the gateways (`serve.frame_wire`): a listener, and a protocol for each connection.

Rules:
1. Who does not prove within `HANDSHAKE_TIMEOUT_MS` that it knows the secret is disconnected, and told nothing.
2. Each request is a task of its own, at most `CALLS_PER_CONNECTION_MAX` a connection, and gets one answer. When the
   connection ends its tasks end with it: nobody could be told.
3. A gateway that does not take its answers is not read from any more; one that takes none for `STALL_TIMEOUT_MS`, or
   leaves more than `UNREAD_BYTES_MAX` lying, is disconnected.
4. An error in a call is told to its caller and logged; other calls go on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from functools import partial
from typing import Any, Protocol, cast

import structlog

from serve.frame_wire import (
    ANSWER_BYTES_MAX,
    CALLS_PER_CONNECTION_MAX,
    FAILED,
    HANDSHAKE_TIMEOUT_MS,
    NONCE_BYTES,
    OK,
    REQUEST_BYTES_MAX,
    REQUESTS,
    SUBMIT,
    Frame,
    FrameDecoder,
    HostAddress,
    HostHandshake,
    WireError,
    decode_ticket,
    encode_frame,
)

CONNECTIONS_MAX = 512
PAUSE_ABOVE_BYTES = 1024 * 1024
UNREAD_BYTES_MAX = 2 * ANSWER_BYTES_MAX
STALL_TIMEOUT_MS = 10_000

_log = structlog.get_logger(__name__)


class Callee(Protocol):
    """What answers the calls: `actors.host.Host`."""

    async def submit(self, batch: bytes) -> bytes:
        """See `gateway.ports.Transport`."""

    async def collect(self, ticket: int) -> bytes:
        """See `gateway.ports.Transport`."""


class FrameListener:
    """Listens for one host, in the event loop that calls `start`. `address` is known from then on."""

    address: HostAddress

    def __init__(self, callee: Callee, key: bytes, incarnation: str) -> None:
        self.callee = callee
        self.connections: set[_Connection] = set()
        self._key = key
        self._incarnation = incarnation
        self._server: asyncio.Server | None = None

    async def start(self, ip: str) -> None:
        """Opens a port of the system's choice on this address."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), ip, 0)
        port = int(self._server.sockets[0].getsockname()[1])
        self.address = HostAddress(self._incarnation, ip, port)

    async def close(self) -> None:
        """Ends every connection, and the calls under way with it."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.end("the host shuts down")
        if self._server is not None:
            await self._server.wait_closed()

    def handshake(self) -> HostHandshake:
        """The beginning of a new connection."""
        return HostHandshake(self._key, self._incarnation, os.urandom(NONCE_BYTES))


class _Connection(asyncio.Protocol):
    """One gateway's connection: first the handshake, then calls by their id."""

    def __init__(self, listener: FrameListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._handshake: HostHandshake | None = listener.handshake()
        self._decoder = FrameDecoder(REQUESTS, REQUEST_BYTES_MAX)
        self._calls: dict[int, asyncio.Task[bytes]] = {}
        self._timer: asyncio.TimerHandle | None = None  # of the handshake, later of a stall
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer = str(transport.get_extra_info("peername"))
        if len(self._listener.connections) >= CONNECTIONS_MAX:
            self.end(f"there are {CONNECTIONS_MAX} connections already")
            return
        self._listener.connections.add(self)
        self._transport.set_write_buffer_limits(high=PAUSE_ABOVE_BYTES)
        assert self._handshake is not None
        self._transport.write(self._handshake.hello)
        self._end_after(HANDSHAKE_TIMEOUT_MS, "the handshake took too long")

    def data_received(self, data: bytes) -> None:
        try:
            if self._handshake is None:
                for frame in self._decoder.feed(data):
                    self._take(frame)
            elif (reply := self._handshake.feed(data)) is not None:
                self._handshake = None
                self._stop_timer()
                self._transport.write(reply)
        except WireError as error:
            self.end(str(error))

    def pause_writing(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()
            self._end_after(STALL_TIMEOUT_MS, "it does not take its answers")

    def resume_writing(self) -> None:
        self._stop_timer()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()

    def end(self, why: str) -> None:
        """Disconnects at once."""
        if not self._transport.is_closing():
            _log.warning("a gateway was disconnected", peer=self._peer, why=why)
        self._transport.abort()
        self._forget()

    def _take(self, frame: Frame) -> None:
        if frame.call_id in self._calls:
            raise WireError(f"call {frame.call_id} is under way already")
        if len(self._calls) >= CALLS_PER_CONNECTION_MAX:
            self._answer(frame.call_id, FAILED, b"too many calls are under way")
            return
        callee = self._listener.callee
        work: Coroutine[Any, Any, bytes]
        work = callee.submit(frame.payload) if frame.kind == SUBMIT else callee.collect(decode_ticket(frame.payload))
        task = self._calls[frame.call_id] = self._loop.create_task(work)
        task.add_done_callback(partial(self._done, frame.call_id))

    def _done(self, call_id: int, task: asyncio.Task[bytes]) -> None:
        self._calls.pop(call_id, None)
        if task.cancelled():
            self._answer(call_id, FAILED, b"the call was cancelled")
        elif (error := task.exception()) is not None:
            _log.error("a call failed", peer=self._peer, error=repr(error), exc_info=error)
            self._answer(call_id, FAILED, type(error).__name__.encode())
        elif len(task.result()) > ANSWER_BYTES_MAX:
            self._answer(call_id, FAILED, b"the answer is too long")
        else:
            self._answer(call_id, OK, task.result())

    def _answer(self, call_id: int, kind: int, payload: bytes) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(encode_frame(call_id, kind, payload))
        if self._transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self.end("too many answers wait to be taken")

    def _forget(self) -> None:
        self._stop_timer()
        self._listener.connections.discard(self)
        for task in self._calls.values():
            task.cancel()

    def _end_after(self, timeout_ms: int, why: str) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(timeout_ms / 1000, self.end, why)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
