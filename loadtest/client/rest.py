"""A REST connection of the load client: one request under way, and nothing parsed that is not needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import cast

from loadtest.client.pacer import Pacer
from loadtest.client.tally import Tally
from loadtest.plan import Pieces, RequestIds

RETRY_STATUSES = frozenset({b"429", b"503"})
RETRY_AFTER_S = 0.05
_LENGTH = b"content-length: "
_ADMITTED = b'"verdict":"admitted"'


class RestConnection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, plan: Iterator[Pieces], ids: RequestIds, tally: Tally, pacer: Pacer) -> None:
        self._plan = plan
        self._ids = ids
        self._tally = tally
        self._pacer = pacer
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._started_s = 0.0
        self._last = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def begin(self) -> None:
        """Sends the first request."""
        self._pacer.next("rest", self._send)

    def _send(self, due_s: float) -> None:
        before, after = next(self._plan)
        self._last = before + self._ids.next() + after
        self._started_s = due_s
        if self._transport is not None:
            self._transport.write(self._last)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        head_end = data.find(b"\r\n\r\n")
        length_at = data.find(_LENGTH, 0, head_end)
        if head_end < 0 or length_at < 0:
            self._buffer = data
            return
        body_bytes = int(data[length_at + len(_LENGTH) : data.find(b"\r\n", length_at)])
        if len(data) < head_end + 4 + body_bytes:
            self._buffer = data
            return
        self._buffer = b""
        status = data[9:12]
        outcome = ("admitted" if _ADMITTED in data else "refused") if status == b"200" else status.decode()
        self._tally.done(self._started_s, time.perf_counter(), outcome)
        if self._tally.is_over:
            return
        if status in RETRY_STATUSES:
            asyncio.get_running_loop().call_later(RETRY_AFTER_S, self._again)
        else:
            self._pacer.next("rest", self._send)

    def _again(self) -> None:
        """The same request, with the same id: what a good client does."""
        self._started_s = time.perf_counter()
        if self._transport is not None:
            self._transport.write(self._last)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._tally.is_over:
            self._tally.outcomes["connection lost"] += 1
