"""One websocket: a bounded way out with a single writer, and the one place where it ends.

Rules:
1. Nobody but the writer sends. Producers (`push`, `ready`) never wait, whatever the peer does. The writer is a task
   that lives while there is something to send: a socket that waits has one task, the server's, and nothing else. Where
   the server offers it (`FramePipe`) and the peer keeps up, frames need no task: all of one turn of the event loop
   leave at its end in one write.
2. What waits for the peer is bounded: frames that must all arrive are counted, and too many end the socket (4508);
   where only the newest state matters the producer registers itself with `ready` and is asked for a frame when there is
   room for it.
3. A socket ends in one place, `close`: the first reason wins, queued frames go first where the peer still reads. One
   whose peer does not read, or is gone, is abandoned: its conversation and its writer are cancelled.
4. Who looks after a socket while it lives is `gateway.sockets.register.OpenSockets`, for all of them in one task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, Protocol

from actors.ports import StoreUnavailable
from gateway.http import AsgiMessage, Receive, Scope, Send
from gateway.identity.callers import Caller
from gateway.sockets import codes, limits
from gateway.sockets.peer_clock import PeerClock
from gateway.sockets.wire import JSON, WIRES, Wire

FRAMES: Final = "mastervip.frames"
"""The ASGI scope's extension under which a server offers a `FramePipe`."""


class FramePipe(Protocol):
    """What a server can do beyond ASGI: messages at once, and many in one go."""

    @property
    def may_send(self) -> bool:
        """Whether messages can go out now: the socket is open, and its peer has room for more."""

    def send_messages(self, payloads: Sequence[bytes], *, is_text: bool) -> None:
        """Sends these, each in a frame of its own; `may_send` has been asked."""

    def take_waiting(self) -> list[AsgiMessage]:
        """All messages that have come, as `receive` would tell them one by one."""


class FrameSource(Protocol):
    """A producer whose backlog is its own: it hands out a frame when the writer has room."""

    def take(self) -> tuple[bytes | None, bool]:
        """The next frame to send, if any, and whether there is more."""


class Standing(Protocol):
    """On whose behalf a socket is open."""

    async def reconsider(self, connection: Connection) -> None:
        """Ends the socket if its caller may not be here any more. Raises `StoreUnavailable`."""


class Connection:
    """The server's end of one websocket, from accept to close. `checked_at_s`, `pinged_at_s` and `is_doubted` are kept
    for the register; times are the loop's."""

    __slots__ = (
        "_failure",
        "_frames",
        "_is_abandoned",
        "_is_flush_due",
        "_is_gone",
        "_is_talking",
        "_loop",
        "_pipe",
        "_queue",
        "_queued_bytes",
        "_ready",
        "_receive",
        "_send",
        "_task",
        "_waiting",
        "_writer",
        "bad_frames",
        "bad_frames_max",
        "caller",
        "checked_at_s",
        "clock",
        "clock_ms",
        "ended",
        "ended_at_s",
        "is_doubted",
        "pinged_at_s",
        "sending_since_s",
        "standing",
        "wire",
    )

    def __init__(
        self, wire: Wire, receive: Receive, send: Send, clock_ms: Callable[[], int], pipe: FramePipe | None = None
    ) -> None:
        self.wire = wire
        self.clock_ms = clock_ms
        self.clock = PeerClock()
        self.caller: Caller | None = None
        self.standing: Standing | None = None
        self.ended: codes.Close | None = None
        self.ended_at_s = 0.0
        self.sending_since_s = 0.0
        self.checked_at_s = self.pinged_at_s = 0.0
        self.is_doubted = False
        self.bad_frames = 0
        self.bad_frames_max = limits.BAD_FRAMES_MAX
        self._receive = receive
        self._send = send
        self._pipe = pipe
        self._loop = asyncio.get_running_loop()
        self._is_flush_due = False
        # What the pipe handed out and was not asked for yet, the next one last.
        self._waiting: list[AsgiMessage] = []
        self._queue: deque[bytes] | None = None
        self._queued_bytes = 0
        self._ready: list[FrameSource] = []
        self._frames = 0
        self._writer: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._failure: BaseException | None = None
        self._is_talking = self._is_abandoned = self._is_gone = False

    # --- out ----------------------------------------------------------------------------------------------------------

    def push(self, frame: bytes) -> None:
        """Queues a frame that must arrive; ends the socket as a slow reader's when too much waits."""
        if self.ended is not None or self._is_gone:
            return
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        self._queued_bytes += len(frame)
        if self._queued_bytes > limits.BACKLOG_BYTES_MAX or len(queue) >= limits.BACKLOG_FRAMES_MAX:
            self.close(codes.SLOW_READER)
            return
        queue.append(frame)
        if self._writer is None:
            self._begin_writing()

    def send_map(self, fields: dict[str, Any]) -> None:
        """`push` for the frames that are not on the hot path."""
        self.push(self.wire.encode(fields))

    def ready(self, source: FrameSource) -> None:
        """Has the writer ask `source` for frames. A source calls it once, and again only after `take` said that there
        is no more."""
        if self.ended is None and not self._is_gone:
            self._ready.append(source)
            if self._writer is None:
                self._begin_writing()

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

    def ping(self) -> None:
        """Asks the peer for its time."""
        self.pinged_at_s = self._loop.time()
        self.send_map({"t": "ping", "n": self.clock.ping(self.clock_ms())})

    def pong(self, n: int) -> None:
        """Answers a ping: `now` lets the peer measure how far its clock is off, `clock_offset_ms` tells what we have
        measured."""
        fields = {"t": "pong", "n": n, "now": self.clock_ms()}
        if self.clock.offset_ms is not None:
            fields["clock_offset_ms"] = self.clock.offset_ms
        self.send_map(fields)

    def take_pong(self, n: int, peer_ms: int | None) -> None:
        """The peer answered a ping of ours, with its time if it told."""
        if peer_ms is not None:
            self.clock.pong(self.clock_ms(), n, peer_ms)

    def close(self, why: codes.Close, message: str = "", **more: Any) -> None:
        """Ends the socket: an error frame that says why, then the close code. A slow reader's backlog is dropped."""
        if self.ended is not None:
            return
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        if why is codes.SLOW_READER:
            queue.clear()
        fields = {"t": "error", "code": why.name, "message": message or why.message} | more
        queue.append(self.wire.encode(fields))
        self._ready.clear()
        self.ended = why
        self.ended_at_s = self._loop.time()
        if self._writer is None and not self._is_gone:
            self._begin_writing()

    def _begin_writing(self) -> None:
        if self._pipe is None or self.ended is not None or self._ready:
            self._writer = self._loop.create_task(self._write())
            self._writer.add_done_callback(self._on_written)
        elif not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Writes what is queued, without a task; what cannot go now is the writer's."""
        self._is_flush_due = False
        if self._writer is not None or self._pipe is None or self._is_gone or self._task is None:
            return
        queue = self._queue
        if queue and self.ended is None and self._pipe.may_send:
            self._queue = None
            self._queued_bytes = 0
            self._pipe.send_messages(queue, is_text=self.wire.is_text)
        if self._queue or self._ready or self.ended is not None:
            self._writer = self._loop.create_task(self._write())
            self._writer.add_done_callback(self._on_written)

    def _on_written(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error  # raised by `converse`
            self.abandon()

    async def _write(self) -> None:
        """Sends what waits; at the end, the close. Returns when nothing is left or the peer is gone."""
        is_text, now = self.wire.is_text, self._loop.time
        try:
            while (frame := self._next()) is not None:
                if self._pipe is not None and self.ended is None and self._pipe.may_send:
                    self._pipe.send_messages([frame, *(self._queue or ())], is_text=is_text)
                    self._queue, self._queued_bytes = None, 0
                    continue
                self.sending_since_s = now()
                text_or_bytes = {"text": frame.decode()} if is_text else {"bytes": frame}
                if not await self._sent({"type": "websocket.send", **text_or_bytes}):
                    return
            if self.ended is not None:
                self.sending_since_s = now()
                await self._sent({"type": "websocket.close", "code": self.ended.code, "reason": self.ended.name})
                self._interrupt()
        finally:
            self.sending_since_s = 0.0
            self._writer = None

    def _next(self) -> bytes | None:
        """The next frame to send."""
        if self._queue:
            frame = self._queue.popleft()
            self._queued_bytes -= len(frame)
            return frame
        self._queue = None
        while self._ready:
            source = self._ready.pop(0)
            taken, has_more = source.take()
            if has_more:
                self._ready.append(source)
            if taken is not None:
                return taken
        return None

    async def _sent(self, message: AsgiMessage) -> bool:
        """Whether the message went out. ASGI servers report a peer that left with an OSError; uvicorn raises
        RuntimeError where it has itself closed the socket (a frame far too big, no answer to its pings) and the reader
        has not yet been told."""
        try:
            await self._send(message)
        except (OSError, RuntimeError):
            self._is_gone = True
            self._interrupt()
            return False
        return True

    # --- in -----------------------------------------------------------------------------------------------------------

    async def frame(self) -> bytes | None:
        """The next frame from the peer; None when it is gone or the socket has ended. Frames of the wrong kind (text
        for binary) and those too big are dealt with here."""
        while self.ended is None and not self._is_gone:
            self._frames += 1
            if self._frames >= limits.FRAMES_IN_A_ROW_MAX:
                self._frames = 0
                await asyncio.sleep(0)  # a flood on this socket must not starve the others, nor its own writer
            message = self._waiting.pop() if self._waiting else await self._message()
            data = self._data_of(message)
            if data is not None:
                return data
        return None

    def frames_here(self) -> Iterator[bytes]:
        """The frames that have come already, as far as they may be taken in a row; `frame` gives those after them."""
        while self._waiting and self.ended is None and self._frames < limits.FRAMES_IN_A_ROW_MAX:
            self._frames += 1
            data = self._data_of(self._waiting.pop())
            if data is not None:
                yield data

    def _data_of(self, message: AsgiMessage) -> bytes | None:
        """What a frame holds; None where that is nothing to work on, and then it has been dealt with."""
        if message["type"] == "websocket.disconnect":
            self._is_gone = True
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

    async def _message(self) -> AsgiMessage:
        """The next message; those that came with it are kept for the next calls."""
        message = await self._receive()
        if self._pipe is not None:
            self._waiting = self._pipe.take_waiting()[::-1]
        return message

    # --- from beginning to end ----------------------------------------------------------------------------------------

    async def converse(self, conversation: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `conversation` (which reads) until the socket is over, then lets the writer finish. What either raises
        is raised here."""
        task = self._task = asyncio.current_task()
        assert task is not None
        try:
            if self.ended is None:
                self._is_talking = True
                await conversation()
            self._is_talking = False
            if self.ended is not None and self._writer is not None:
                await asyncio.wait((self._writer,))  # the register bounds it
        except asyncio.CancelledError:
            if not self._is_abandoned:
                raise
            task.uncancel()
        finally:
            self._is_talking = False
            self._task = None
            if self._writer is not None:
                self._writer.cancel()
        if self._failure is not None:
            raise self._failure

    def _interrupt(self) -> None:
        """Nothing will come of the conversation any more."""
        if self._is_talking and self._task is not None and not self._is_abandoned:
            self._is_abandoned = True
            self._task.cancel()

    def abandon(self) -> None:
        """Gives up on a peer that does not even take the close, or on a writer that failed."""
        self._is_gone = True
        if self._writer is not None:
            self._writer.cancel()
        if self._task is not None and not self._is_abandoned:
            self._is_abandoned = True
            self._task.cancel()

    async def check(self) -> None:
        """Asks whether the caller may still be here, and ends the socket if not. While that cannot be told, a socket
        that is open stays open: the doors go on."""
        if self.standing is None or self.ended is not None:
            return
        was_doubted, self.is_doubted = self.is_doubted, False
        try:
            await self.standing.reconsider(self)
        except StoreUnavailable:
            self.is_doubted = self.is_doubted or was_doubted


async def accepted(scope: Scope, receive: Receive, send: Send, clock_ms: Callable[[], int]) -> Connection:
    """Accepts the socket with the first subprotocol we speak. With none offered it speaks JSON; with only foreign ones
    it is accepted just to be told so, because a browser shows its page nothing of a refused handshake."""
    await receive()  # websocket.connect
    offered: list[str] = scope.get("subprotocols", [])
    name = next((name for name in offered if name in WIRES), None)
    await send({"type": "websocket.accept", "subprotocol": name})
    pipe: FramePipe | None = scope.get("extensions", {}).pop(FRAMES, None)
    connection = Connection(WIRES[name] if name else JSON, receive, send, clock_ms, pipe)
    if offered and name is None:
        connection.close(codes.SUBPROTOCOL_UNKNOWN)
    return connection
