"""All sockets of a gateway: how many there may be, one task that looks after them, and their end when the gateway
drains.

Rules:
1. One task looks at every socket each `WATCH_EVERY_MS`, some at a time, and does nothing where nothing is due: it ends
   a socket whose peer stopped reading, gives up one that cannot get rid of its close, pings, and has callers
   reconsidered.
2. A caller is reconsidered every `TOKEN_CHECK_EVERY_MS`, at once where there is news of them, and when their token
   ends. Sockets that came together are looked at apart: the first times are spread.
3. A gateway that drains takes no new socket. Each of those it has is told at once when to come back to another gateway
   (`reconnect`), spread over a window that grows with their number; it is served until then, and closed (4503).
4. A gateway that makes room for a new one does the same with some, by chance, and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from gateway.access_feed import AccessChange
from gateway.identity.callers import concerns
from gateway.sockets import codes, limits
from gateway.sockets.connection import Connection


class OpenSockets:
    """The register."""

    def __init__(self, sockets_max: int = limits.SOCKETS_MAX) -> None:
        self._open: set[Connection] = set()
        self._sockets_max = sockets_max
        self._look = asyncio.Event()
        self._sweeping: asyncio.Task[None] | None = None
        self._checking: set[Connection] = set()
        self._checks: set[asyncio.Task[None]] = set()
        self._draining: asyncio.Task[None] | None = None
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, connection: Connection, conversation: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `conversation` until the socket is over. What it raises is raised here."""
        if self._draining is not None:
            _tell_to_leave(connection, random.randrange(limits.RECONNECT_MS_MIN, limits.RECONNECT_REFUSED_MS_MAX))
            connection.close(codes.DRAINING)
        elif len(self._open) >= self._sockets_max:
            connection.close(codes.TOO_MANY_SOCKETS)
        now_s = asyncio.get_running_loop().time()
        connection.checked_at_s = now_s - random.uniform(0.0, 0.5) * limits.TOKEN_CHECK_EVERY_MS / 1_000
        connection.pinged_at_s = now_s - random.uniform(0.0, 0.5) * limits.PING_EVERY_MS / 1_000
        self._open.add(connection)
        self._is_empty.clear()
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(self._sweep())
        try:
            await connection.converse(conversation)
        finally:
            self._open.discard(connection)
            if not self._open:
                self._is_empty.set()
                self._look.set()

    def on_change(self, change: AccessChange) -> None:
        """Has the callers whom the news is about reconsidered at once."""
        for connection in self._open:
            caller = connection.caller
            if caller is None:
                connection.is_doubted = True  # whoever is looking its caller up looks again
            elif concerns(change, caller):
                self._doubt(connection)

    def _doubt(self, connection: Connection) -> None:
        connection.is_doubted = True
        connection.checked_at_s = 0.0
        self._look.set()

    # --- looking after ------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Until there is no socket left."""
        try:
            while self._open:
                self._look.clear()
                due: list[Connection] = []
                for number, connection in enumerate(list(self._open), 1):
                    self._look_at(connection, due)
                    if number % limits.SWEPT_IN_A_ROW_MAX == 0:
                        await asyncio.sleep(0)
                if due:
                    self._checking.update(due)
                    check = asyncio.create_task(self._check(due))
                    self._checks.add(check)
                    check.add_done_callback(self._checks.discard)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(limits.WATCH_EVERY_MS / 1_000):
                        await self._look.wait()
        finally:
            self._sweeping = None

    def _look_at(self, connection: Connection, due: list[Connection]) -> None:
        """Does what is due; who is to be reconsidered is added to `due`."""
        now_s = asyncio.get_running_loop().time()
        if connection.ended is not None:
            if now_s - connection.ended_at_s > limits.CLOSE_GRACE_MS / 1_000:
                connection.abandon()
            return
        since_s = connection.sending_since_s
        if since_s and now_s - since_s > limits.WRITE_STALL_MS / 1_000:
            connection.close(codes.SLOW_READER)
            return
        if now_s - connection.pinged_at_s >= limits.PING_EVERY_MS / 1_000:
            connection.ping()
        ends_ms = 0 if connection.caller is None else connection.caller.expires_at_ms
        if ends_ms and not connection.is_doubted and connection.clock_ms() >= ends_ms:
            self._doubt(connection)
        every_ms = limits.DOUBT_RETRY_MS if connection.is_doubted else limits.TOKEN_CHECK_EVERY_MS
        if now_s - connection.checked_at_s >= every_ms / 1_000 and connection not in self._checking:
            connection.checked_at_s = now_s
            due.append(connection)

    async def _check(self, due: list[Connection]) -> None:
        try:
            for start in range(0, len(due), limits.CHECKS_AT_ONCE_MAX):
                await asyncio.gather(*(each.check() for each in due[start : start + limits.CHECKS_AT_ONCE_MAX]))
        finally:
            self._checking.difference_update(due)
            if any(connection.is_doubted for connection in due):
                self._look.set()  # there was news meanwhile

    # --- draining -----------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Sends every socket to another gateway; returns when all are gone, after the window and `CLOSE_GRACE_MS` at
        the latest."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._send_all_away())
        await asyncio.shield(self._draining)

    async def make_room(self, most: int) -> None:
        """Sends away what is above `most`; returns when all of these have been told to close."""
        staying = self._staying()
        await self._send_away(random.sample(staying, max(0, len(staying) - most)))

    async def _send_all_away(self) -> None:
        await self._send_away(self._staying())
        for connection in list(self._open):
            connection.close(codes.DRAINING)  # those that came in while the listener was told
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((limits.CLOSE_GRACE_MS + 2 * limits.WATCH_EVERY_MS) / 1_000):
                await self._is_empty.wait()

    def _staying(self) -> list[Connection]:
        return [connection for connection in self._open if connection.ended is None]

    async def _send_away(self, leaving: Sequence[Connection]) -> None:
        window_ms = min(len(leaving) * limits.RECONNECT_MS_PER_SOCKET, limits.RECONNECT_WINDOW_MS_MAX)
        turns = [number * window_ms // max(1, len(leaving)) for number in range(len(leaving))]
        for connection, after_ms in zip(leaving, turns, strict=True):
            _tell_to_leave(connection, after_ms)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for connection, after_ms in zip(leaving, turns, strict=True):
            if (wait_s := began_s + after_ms / 1_000 - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            connection.close(codes.DRAINING)


def _tell_to_leave(connection: Connection, after_ms: int) -> None:
    connection.send_map({"t": "reconnect", "after_ms": after_ms})
