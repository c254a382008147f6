"""One websocket: a bounded way out with a single writer, the watch over it, and the register of all open sockets.

Rules:
1. Nobody but the writer sends. Producers (`push`, `ready`) never wait, whatever the peer does.
2. What waits for the peer is bounded: frames that must all arrive are counted, and too many end the socket (4508);
   where only the newest state matters the producer registers itself with `ready` and is asked for a frame when there
   is room for it.
3. A socket ends in one place, `close`: the first reason wins, queued frames go first where the peer still reads, and a
   peer that does not read holds the socket for `CLOSE_GRACE_MS` at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from math import inf
from typing import Any, Final, Protocol

from gateway.access_feed import AccessChange
from gateway.http import AsgiMessage, Receive, Scope, Send
from gateway.identity.callers import Caller, concerns
from gateway.sockets import codes, limits
from gateway.sockets.wire import JSON, WIRES, Wire

_BEARER: Final = b"bearer "


class FrameSource(Protocol):
    """A producer whose backlog is its own: it hands out a frame when the writer has room."""

    def take(self) -> tuple[bytes | None, bool]:
        """The next frame to send, if any, and whether there is more."""


class Connection:
    """The server's end of one websocket, from accept to close."""

    def __init__(self, wire: Wire, receive: Receive, send: Send, clock_ms: Callable[[], int]) -> None:
        self.wire = wire
        self.clock_ms = clock_ms
        self.ended: codes.Close | None = None
        self.bad_frames = 0
        self.bad_frames_max = limits.BAD_FRAMES_MAX
        self._receive = receive
        self._send = send
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._frames = 0
        self._ready: deque[FrameSource] = deque()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._sending_since: float | None = None
        self._look = asyncio.Event()
        self.is_still_allowed: Callable[[], Awaitable[bool]] = _always
        self.caller: Caller | None = None
        self._must_check = False

    # --- out ---

    def push(self, frame: bytes) -> None:
        """Queues a frame that must arrive; ends the socket as a slow reader's when too much waits."""
        if self.ended is not None:
            return
        self._queued_bytes += len(frame)
        if self._queued_bytes > limits.BACKLOG_BYTES_MAX or len(self._queue) >= limits.BACKLOG_FRAMES_MAX:
            self.close(codes.SLOW_READER)
            return
        self._queue.append(frame)
        self._wake.set()

    def send_map(self, fields: dict[str, Any]) -> None:
        """`push` for the frames that are not on the hot path."""
        self.push(self.wire.encode(fields))

    def ready(self, source: FrameSource) -> None:
        """Has the writer ask `source` for frames. A source calls it once, and again only after `take` said that there
        is no more."""
        if self.ended is None:
            self._ready.append(source)
            self._wake.set()

    def error(self, code: str, message: str, item_id: str | None = None, **more: Any) -> None:
        """An error frame; the socket stays open."""
        fields = {"t": "error", "code": code, "message": message}
        if item_id is not None:
            fields["id"] = item_id
        self.send_map(fields | more)

    def bad_frame(self, message: str, item_id: str | None = None) -> None:
        """Complains about a frame; a peer that sends nothing but such frames does not speak the protocol."""
        self.bad_frames += 1
        self.error(codes.FRAME_INVALID, message, item_id)
        if self.bad_frames >= self.bad_frames_max:
            self.close(codes.PROTOCOL_ERROR)

    def close(self, why: codes.Close, message: str = "", **more: Any) -> None:
        """Ends the socket: an error frame that says why, then the close code. A slow reader's backlog is dropped."""
        if self.ended is not None:
            return
        if why is codes.SLOW_READER:
            self._queue.clear()
            self._queued_bytes = 0
        fields = {"t": "error", "code": why.name, "message": message or why.message} | more
        frame = self.wire.encode(fields)
        self._queued_bytes += len(frame)
        self._queue.append(frame)
        self._ready.clear()
        self.ended = why
        self._wake.set()
        self._look.set()

    async def write(self) -> None:
        """The writer: sends what is queued until the socket ends. Returns when the close is sent or the peer is
        gone."""
        queue, is_text, now = self._queue, self.wire.is_text, self._loop.time
        while True:
            while queue or self._ready:
                if queue:
                    frame = queue.popleft()
                    self._queued_bytes -= len(frame)
                elif (taken := self._from_source()) is not None:
                    frame = taken
                else:
                    continue
                self._sending_since = now()
                text_or_bytes = {"text": frame.decode()} if is_text else {"bytes": frame}
                if not await self._sent({"type": "websocket.send", **text_or_bytes}):
                    return
            self._sending_since = None
            if self.ended is not None:
                await self._sent({"type": "websocket.close", "code": self.ended.code, "reason": self.ended.name})
                return
            await self._wake.wait()
            self._wake.clear()

    async def _sent(self, message: AsgiMessage) -> bool:
        """Whether the message went out. ASGI servers report a peer that left with an OSError; uvicorn raises
        RuntimeError where it has itself closed the socket (a frame far too big, no answer to its pings) and the reader
        has not yet been told."""
        try:
            await self._send(message)
        except (OSError, RuntimeError):
            return False
        return True

    def _from_source(self) -> bytes | None:
        source = self._ready.popleft()
        frame, has_more = source.take()
        if has_more:
            self._ready.append(source)
        return frame

    # --- in ---

    async def frame(self) -> bytes | None:
        """The next frame from the peer; None when it is gone or the socket has ended. Frames of the wrong kind (text
        for binary) and those too big are dealt with here."""
        while self.ended is None:
            self._frames += 1
            if self._frames % limits.FRAMES_IN_A_ROW_MAX == 0:
                await asyncio.sleep(0)  # a flood on this socket must not starve the others, nor its own writer
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return None
            if self.wire.is_text:
                text = message.get("text")
                data = text.encode() if text is not None else None
            else:
                data = message.get("bytes")
            if data is None:
                self.bad_frame(f"This subprotocol takes {'text' if self.wire.is_text else 'binary'} frames.")
            elif len(data) > limits.FRAME_BYTES_MAX:
                self.close(codes.FRAME_TOO_BIG)
            else:
                return bytes(data)
        return None

    def pong(self, n: int) -> None:
        """Answers a ping; `now` lets the peer measure how far its clock is off."""
        self.send_map({"t": "pong", "n": n, "now": self.clock_ms()})

    # --- watch ---

    def check_soon(self) -> None:
        """Has the watch ask whether the caller is still allowed, without waiting for its turn."""
        self._must_check = True
        self._look.set()

    def _token_left_ms(self) -> float:
        """For how long the caller's token is good, as far as it says itself."""
        expires_at_ms = 0 if self.caller is None else self.caller.expires_at_ms
        return expires_at_ms - self.clock_ms() if expires_at_ms else inf

    async def watch(self, writer: asyncio.Task[None]) -> None:
        """Looks after the socket: ends it when the peer stopped reading or its token is no longer good, stops a writer
        that cannot get rid of the close, and pings, so that a peer that vanished is found by the write that fails."""
        checked_at = pinged_at = self._loop.time()
        while self.ended is None:
            left_ms = self._token_left_ms()
            pause_ms = min(limits.WATCH_EVERY_MS, left_ms) if left_ms > 0 else limits.WATCH_EVERY_MS
            # (Not `wait_for`: Python 3.11's loses a cancellation that comes together with what it waits for.)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_ms / 1_000):
                    await self._look.wait()
            self._look.clear()
            self._must_check |= self._token_left_ms() <= 0
            now = self._loop.time()
            if self._sending_since is not None and now - self._sending_since > limits.WRITE_STALL_MS / 1_000:
                self.close(codes.SLOW_READER)
            elif self._must_check or now - checked_at >= limits.TOKEN_CHECK_EVERY_MS / 1_000:
                checked_at, self._must_check = now, False
                if not await self.is_still_allowed():
                    self.close(codes.TOKEN_INVALID)
            elif now - pinged_at >= limits.PING_EVERY_MS / 1_000:
                pinged_at = now
                self.send_map({"t": "ping", "n": self.clock_ms()})
        await asyncio.sleep(limits.CLOSE_GRACE_MS / 1_000)
        writer.cancel()


async def _always() -> bool:
    return True


class OpenSockets:
    """All sockets of this gateway: bounds their number, and ends them when the gateway drains."""

    def __init__(self, sockets_max: int = limits.SOCKETS_MAX) -> None:
        self._open: set[Connection] = set()
        self._sockets_max = sockets_max
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    def drain(self) -> None:
        """Closes every socket with 4503, and every new one at once."""
        self._draining = True
        for connection in self._open:
            connection.close(codes.DRAINING)

    def on_change(self, change: AccessChange) -> None:
        """Has the sockets that the news is about ask at once whether they are still allowed."""
        for connection in self._open:
            if connection.caller is not None and concerns(change, connection.caller):
                connection.check_soon()

    async def serve(self, connection: Connection, conversation: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs writer, watch and `conversation` (which reads) until the socket is over. What they raise is raised
        here."""
        if self._draining:
            connection.close(codes.DRAINING)
        elif len(self._open) >= self._sockets_max:
            connection.close(codes.TOO_MANY_SOCKETS)
        self._open.add(connection)
        writer = asyncio.create_task(connection.write())
        reader = asyncio.create_task(conversation())
        watch = asyncio.create_task(connection.watch(writer))
        tasks = (writer, reader, watch)
        try:
            await asyncio.wait((writer, reader), return_when=asyncio.FIRST_COMPLETED)
            if connection.ended is not None and not writer.done():
                await asyncio.wait((writer,))  # `watch` bounds it
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            self._open.discard(connection)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def token_of(scope: Scope) -> str | None:
    """The token of the Authorization or X-API-Key header, if there is one."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == _BEARER:
            return str(value[7:].strip(), "latin-1") or None
        if name == b"x-api-key":
            return str(value.strip(), "latin-1") or None
    return None


async def accepted(scope: Scope, receive: Receive, send: Send, clock_ms: Callable[[], int]) -> Connection:
    """Accepts the socket with the first subprotocol we speak. With none offered it speaks JSON; with only foreign ones
    it is accepted just to be told so, because a browser shows its page nothing of a refused handshake."""
    await receive()  # websocket.connect
    offered: list[str] = scope.get("subprotocols", [])
    name = next((name for name in offered if name in WIRES), None)
    await send({"type": "websocket.accept", "subprotocol": name})
    connection = Connection(WIRES[name] if name else JSON, receive, send, clock_ms)
    if offered and name is None:
        connection.close(codes.SUBPROTOCOL_UNKNOWN)
    return connection
