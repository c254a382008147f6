"""`gateway.ports.Transport` over framed sockets (`serve.frame_wire`): one lasting connection a host.

Rules:
1. Whatever goes wrong on the way is `HostUnavailable`: the batch may have been executed, and is safe to send again.
   Nothing is sent again here; that is the dispatcher's business.
2. A connection is opened when it is first needed, and whoever needs it meanwhile waits for the same opening. Where the
   host listens is asked anew each time, since a restarted process listens elsewhere.
3. When the connection ends, its open calls fail at once. Calls share it by their ids, and have a timeout each.
4. When a call times out and nothing at all was heard since it was sent, the host stands still, is gone without a word,
   or cannot write: the connection is given up, so that the next call finds out where the host is now.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import structlog

from gateway import limits
from gateway.ports import HostUnavailable
from serve.frame_wire import (
    ANSWER_BYTES_MAX,
    ANSWERS,
    CALLS_PER_CONNECTION_MAX,
    COLLECT,
    NONCE_BYTES,
    OK,
    REQUEST_BYTES_MAX,
    SUBMIT,
    FrameDecoder,
    GatewayHandshake,
    HostAddress,
    WireError,
    encode_frame,
    encode_ticket,
)

UNSENT_BYTES_MAX = 4 * REQUEST_BYTES_MAX
REASON_CHARS_MAX = 200

# Where a host listens now. Raises `HostUnavailable`.
Find = Callable[[str], Awaitable[HostAddress]]

_log = structlog.get_logger(__name__)


class FrameTransport:
    """Implements `gateway.ports.Transport`. Belongs to one event loop. `close` after use."""

    def __init__(
        self, find: Find, key: bytes, submit_timeout_ms: int, collect_timeout_ms: int, open_timeout_ms: int
    ) -> None:
        """`open_timeout_ms` is for finding the host, connecting and the handshake together."""
        assert max(limits.BATCH_BYTES_MAX, limits.BATCH_BODY_BYTES_MAX) < REQUEST_BYTES_MAX, "every batch fits a frame"
        self._find = find
        self._key = key
        self._submit_timeout_s = submit_timeout_ms / 1000
        self._collect_timeout_s = collect_timeout_ms / 1000
        self._open_timeout_s = open_timeout_ms / 1000
        self._links: dict[str, _Link] = {}
        self._openings: dict[str, asyncio.Task[_Link]] = {}
        self._is_closed = False

    async def submit(self, host: str, batch: bytes) -> bytes:
        link = self._links.get(host) or await self._opened(host)
        return await link.call(SUBMIT, batch, self._submit_timeout_s)

    async def collect(self, host: str, ticket: int) -> bytes:
        link = self._links.get(host) or await self._opened(host)
        return await link.call(COLLECT, encode_ticket(ticket), self._collect_timeout_s)

    async def close(self) -> None:
        """Fails what is open and disconnects."""
        self._is_closed = True
        openings = list(self._openings.values())
        for opening in openings:
            opening.cancel()
        await asyncio.gather(*openings, return_exceptions=True)
        for link in list(self._links.values()):
            link.end("the gateway stops")

    async def _opened(self, host: str) -> _Link:
        """A connection to the host, opened together with all others who ask for it now."""
        if self._is_closed:
            raise HostUnavailable(f"{host}: the gateway stops")
        opening = self._openings.get(host)
        if opening is None:
            opening = self._openings[host] = asyncio.get_running_loop().create_task(self._open(host))
            opening.add_done_callback(partial(self._opening_ended, host))
        # Waited for, not awaited: who gives up must not end the opening of the others.
        await asyncio.wait([opening])
        if opening.cancelled():
            raise HostUnavailable(f"{host}: the gateway stops")
        if isinstance(error := opening.exception(), HostUnavailable):
            raise HostUnavailable(str(error)) from error
        return opening.result()

    def _opening_ended(self, host: str, opening: asyncio.Task[_Link]) -> None:
        self._openings.pop(host, None)
        if not opening.cancelled():
            opening.exception()  # those who waited may all have given up: nobody else looks at it

    async def _open(self, host: str) -> _Link:
        loop = asyncio.get_running_loop()
        link: _Link | None = None
        try:
            async with asyncio.timeout(self._open_timeout_s):
                address = await self._find(host)
                link = _Link(host, self._key, address.incarnation, partial(self._link_ended, host))
                await loop.create_connection(lambda: link, address.ip, address.port)
                await link.ready
        except TimeoutError as error:
            raise HostUnavailable(f"{host} cannot be reached within {self._open_timeout_s} s") from error
        except OSError as error:
            raise HostUnavailable(f"{host} cannot be reached: {error}") from error
        finally:
            if link is not None and not link.is_ready:
                link.abort()
        if not link.is_ready:
            raise HostUnavailable(f"{host}: the connection ended as soon as it was made")
        self._links[host] = link
        return link

    def _link_ended(self, host: str, link: _Link) -> None:
        if self._links.get(host) is link:
            del self._links[host]


class _Link(asyncio.Protocol):
    """One connection to a host: first the handshake, which settles `ready`, then calls by their id."""

    def __init__(self, host: str, key: bytes, incarnation: str, on_end: Callable[[_Link], None]) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._host = host
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._handshake = GatewayHandshake(key, incarnation, os.urandom(NONCE_BYTES))
        self._decoder = FrameDecoder(ANSWERS, ANSWER_BYTES_MAX)
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._last_id = 0
        self._heard_at_s = 0.0
        self._has_ended = False

    @property
    def is_ready(self) -> bool:
        """Whether both sides have proved who they are and the connection holds."""
        return self._handshake.is_done and not self._has_ended

    async def call(self, kind: int, payload: bytes, timeout_s: float) -> bytes:
        """The host's answer. Raises `HostUnavailable`."""
        transport = self._transport
        if transport is None or self._has_ended:
            raise HostUnavailable(f"{self._host}: the connection has ended")
        if len(payload) > REQUEST_BYTES_MAX:
            raise HostUnavailable(f"{self._host}: a request of {len(payload)} bytes is too long")
        if len(self._calls) >= CALLS_PER_CONNECTION_MAX or transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            raise HostUnavailable(f"{self._host} does not keep up with what it is asked")
        self._last_id += 1
        call_id = self._last_id
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._calls[call_id] = answer
        timer = self._loop.call_later(timeout_s, self._time_out, answer, self._loop.time(), timeout_s)
        transport.write(encode_frame(call_id, kind, payload))
        try:
            return await answer
        finally:
            timer.cancel()
            self._calls.pop(call_id, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._heard_at_s = self._loop.time()
        try:
            if self._handshake.is_done:
                self._take(data)
            else:
                self._transport.write(self._handshake.feed(data))
                self._settle_ready()
        except WireError as error:
            self.end(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(str(exc) if exc else "closed by the host")

    def end(self, why: str) -> None:
        """Fails every open call and disconnects."""
        if self._has_ended:
            return
        self._has_ended = True
        _log.warning("the connection to a host ended", host=self._host, why=why)
        self.abort()
        self._on_end(self)
        open_futures: list[asyncio.Future[Any]] = [self.ready, *self._calls.values()]
        for future in open_futures:
            if not future.done():
                future.set_exception(HostUnavailable(f"{self._host}: the connection ended: {why}"))

    def abort(self) -> None:
        """Disconnects."""
        if self._transport is not None:
            self._transport.abort()

    def _settle_ready(self) -> None:
        if self._handshake.is_done and not self.ready.done():
            self.ready.set_result(None)

    def _take(self, data: bytes) -> None:
        for call_id, kind, payload in self._decoder.feed(data):
            if call_id > self._last_id:
                raise WireError(f"an answer to call {call_id}, which was never made")
            answer = self._calls.get(call_id)
            if answer is None or answer.done():
                continue  # whoever asked has given up
            if kind == OK:
                answer.set_result(payload)
            else:
                reason = payload[:REASON_CHARS_MAX].decode(errors="replace")
                answer.set_exception(HostUnavailable(f"{self._host}: {reason}"))

    def _time_out(self, answer: asyncio.Future[bytes], sent_at_s: float, timeout_s: float) -> None:
        if answer.done():
            return
        answer.set_exception(HostUnavailable(f"{self._host} did not answer within {timeout_s} s"))
        if self._heard_at_s < sent_at_s:
            self.end(f"nothing was heard for {timeout_s} s")
