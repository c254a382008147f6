"""uvicorn's WebSockets (its `websockets-sansio`) with limits that it does not have, and less memory for each.

Rules:
1. A message comes in `FRAGMENTS_MAX` pieces at most: bytes are bounded by uvicorn, pieces without bytes are not.
2. Pings of a peer that does not read are not answered: the answers would pile up.
3. A connection is gone `ABORT_AFTER_S` after its application has ended, whether the peer takes what is left or not; one
   that leaves a ping unanswered is gone at once.
4. What the handshake needed is let go with it. A socket that waits holds no queue, no event and no header.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

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

    async def send(self, message: Any) -> None:
        """ASGI's send."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.request.headers.clear()  # the parser holds on to the request for as long as it lives
            self.request = self.response = None  # type: ignore[assignment]

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
