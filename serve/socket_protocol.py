"""uvicorn's WebSockets (its `websockets-sansio`) with limits that it does not have, and less memory for each.

Rules:
1. A message comes in `FRAGMENTS_MAX` pieces at most: bytes are bounded by uvicorn, pieces without bytes are not.
2. Pings of a peer that does not read are not answered: the answers would pile up.
3. A connection is gone `ABORT_AFTER_S` after its application has ended, whether the peer takes what is left or not; one
   that leaves a ping unanswered is gone at once.
4. What the handshake needed is let go with it. A socket that waits holds no queue, no event and no header.
5. Messages that came whole in one frame are read here, and those that go out are framed here, many in one write
   (`gateway.sockets.connection.FramePipe`, in the ASGI scope under `FRAMES`). Everything else is the library's: what is
   fragmented, malformed or too big, control frames, the handshake. It gets frames from their first byte on, so it never
   stands within one that is read here; once a client has sent a fragment, the library reads all that follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from gateway.sockets.connection import FRAMES
from serve.socket_frames import BINARY, CONTROL, TEXT, bounds, frames_of, is_masked

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

# Messages, or bytes that came at once, that wait for their reader before no more are read from the peer.
WAITING_MAX: Final = 64
CHUNK_BYTES_LARGE: Final = 65_536
FRAGMENTS_MAX: Final = 1_024
ABORT_AFTER_S: Final = 12.0
_TOO_BIG: Final = 1009


class _Inbox:
    """What `asyncio.Queue` does here, in a tenth of its memory: one reader, no bound (reading is paused instead)."""

    __slots__ = ("_items", "_waiter")

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._waiter: asyncio.Future[None] | None = None

    def put_nowait(self, item: Any) -> None:
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def empty(self) -> bool:
        return not self._items

    def __len__(self) -> int:
        return len(self._items)

    def take(self) -> list[Any]:
        """All that wait."""
        items, self._items = self._items, []
        return items

    async def get(self) -> Any:
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.pop(0)


class _Gate:
    """What `asyncio.Event` does here, for one who waits."""

    __slots__ = ("_is_open", "_waiter")

    def __init__(self) -> None:
        self._is_open = True
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._is_open = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        self._is_open = False

    def is_set(self) -> bool:
        return self._is_open

    async def wait(self) -> None:
        while not self._is_open:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None


class SocketProtocol(WebSocketsSansIOProtocol):
    """One connection."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.queue = _Inbox()  # type: ignore[assignment]
        self.writable = _Gate()  # type: ignore[assignment]
        # Rule 5: whether frames are read here (from the handshake on), the beginning of one, and how long it will be.
        self._is_plain = False
        self._chunks = 0
        self._frame_bytes_max = self.config.ws_max_size
        self._tail = bytearray()
        self._tail_end = 0

    async def send(self, message: Any) -> None:
        """ASGI's send."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.request.headers.clear()  # the parser holds on to the request for as long as it lives
            self.request = self.response = None  # type: ignore[assignment]
            # What came before it is the library's, and what follows if that was no whole frame.
            self._is_plain = self._chunks == 1

    def handle_connect(self, event: Any) -> None:
        """Offers the application what ASGI has not (rule 5)."""
        super().handle_connect(event)
        if self.scope is not None:
            offered: Any = self.scope["extensions"]
            offered[FRAMES] = self

    # --- in -----------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Rule 5."""
        if not self._is_plain or not self._is_open():
            self._chunks += 1
            self._to_library(data)
            return
        if self._tail:
            self._tail += data
            if len(self._tail) < self._tail_end:
                return
            data = bytes(self._tail)
            self._tail.clear()
        start, size = 0, len(data)
        while start < size:
            payload, end = bounds(data, start)
            kind = data[start]
            is_data = kind in (BINARY, TEXT)
            if not (is_data or kind in CONTROL) or not is_masked(data, start) or end - start > self._frame_bytes_max:
                self._is_plain = False
                self._to_library(data[start:])
                return
            if not end or end > size:
                self._tail += data[start:]
                self._tail_end = end - start if end else 0
                break
            if is_data:
                self._take_message(kind, apply_mask(data[payload:end], data[payload - 4 : payload]))
            else:
                self._to_library(data[start:end])
            if not self._is_open():
                self._to_library(data[end:])
                return
            start = end
        is_much = size >= CHUNK_BYTES_LARGE or len(self.queue) > WAITING_MAX  # type: ignore[arg-type]
        # After our close nobody takes what waits, and the peer's own has to be read.
        if is_much and not (self.read_paused or self.close_sent or self.queue.empty()):
            self.read_paused = True
            self.transport.pause_reading()

    def _is_open(self) -> bool:
        return self.conn.state is State.OPEN

    def _to_library(self, data: bytes) -> None:
        if self._tail:
            data = bytes(self._tail) + data
            self._tail.clear()
        if data:
            super().data_received(data)

    def _take_message(self, kind: int, payload: bytes) -> None:
        if self.close_sent:
            return
        if kind == BINARY:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": payload})
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            self.handle_text(Frame(Opcode.TEXT, payload))  # the library knows what to say
            return
        self.queue.put_nowait({"type": "websocket.receive", "text": text})

    def take_waiting(self) -> list[Any]:
        """See `FramePipe`."""
        taken: list[Any] = self.queue.take()  # type: ignore[attr-defined]
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        return taken

    # --- out ----------------------------------------------------------------------------------------------------------

    @property
    def may_send(self) -> bool:
        """See `FramePipe`."""
        is_open = self.handshake_complete and not self.close_sent and not self.disconnected
        return is_open and self._is_open() and self.writable.is_set() and not self.transport.is_closing()

    def send_messages(self, payloads: Sequence[bytes], *, is_text: bool) -> None:
        """See `FramePipe`."""
        self.transport.write(frames_of(payloads, TEXT if is_text else BINARY))

    # --- rules 1 to 3 -------------------------------------------------------------------------------------------------

    def handle_cont(self, event: Any) -> None:
        """Rule 1."""
        if len(self.frames) >= FRAGMENTS_MAX:
            self.frames = []
            self.conn.fail(_TOO_BIG, "too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Rule 2."""
        answers = self.conn.data_to_send()
        if self.writable.is_set():
            self.transport.write(b"".join(answers))

    def keepalive_timeout(self) -> None:
        """Rule 3."""
        super().keepalive_timeout()
        self.transport.abort()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Rule 3."""
        super().on_task_complete(task)
        self.loop.call_later(ABORT_AFTER_S, self.transport.abort)
