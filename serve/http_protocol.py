"""uvicorn's HTTP/1.1 with limits that it does not have: on the size of a request's head, and on time both ways.

Rules:
1. **A request has a deadline**, from its first byte (or from the connection's beginning) to its last: `head_timeout_s`
   for the head, `request_timeout_s` for all of it. Dripping bytes buys no time. Whoever misses it gets 408 and is hung
   up on.
2. Between requests a connection may rest for `keep_alive_s`.
3. Too long an address is 414, too large a head 431, whether it ever ends or not; what is no HTTP is 400. All are
   problem documents, and the connection ends with them.
4. A peer that does not take its answer is hung up on after `write_timeout_s` without progress.
5. A request that arrives in one piece, as nearly all do, costs no timer, and a rest (rule 2) none of its own.
"""

from __future__ import annotations

import asyncio
import enum
from functools import partial
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway import limits
from gateway.http import Receive, Scope, Send, lines, problem_headers, send_problem
from gateway.problems import Problem
from gateway.trace_ids import TraceIds
from serve.settings import Settings

CLOSE = (b"connection", b"close")


class At(enum.Enum):
    """How far the request that is being read has come."""

    FRESH = enum.auto()  # a new connection, no byte yet
    HEAD = enum.auto()
    BODY = enum.auto()
    END = enum.auto()  # none is being read


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, settings: Settings, trace_ids: TraceIds, **given: Any) -> None:
        super().__init__(**given)
        self._trace_ids = trace_ids
        self._head_timeout_s = settings.head_timeout_s
        self._request_timeout_s = settings.request_timeout_s
        self._write_timeout_s = settings.write_timeout_s
        self._connections_max = settings.connections_max
        self._at = At.FRESH
        self._since_s = 0.0
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._read_bytes = 0
        self._refusal = ""
        self._rests_since_s: float | None = None  # None: something is under way

    # --- the connection -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._connections_max:
            transport.abort()
            return
        self._since_s = self.loop.time()
        self._deadline = self.loop.call_later(self._head_timeout_s, self._on_deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """From here on the socket's own limits hold."""
        self._stop_waiting()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """Rule 4."""
        super().pause_writing()
        self._write_deadline = self.loop.call_later(self._write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The peer reads again."""
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
        super().resume_writing()

    # --- reading ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._at in (At.FRESH, At.HEAD):
            self._read_bytes += len(data)
        else:
            self._read_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
                return
            # Another protocol than WebSocket was offered; the request is answered as it is, and nothing comes after it.
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._hang_up(Problem("malformed", "This is no HTTP/1.1 request."))
            return
        if self._at is At.HEAD and self._read_bytes > limits.HEAD_BYTES_MAX:
            self._hang_up(Problem("headers_too_large"))
        elif self._at is At.HEAD or self._at is At.BODY:
            if self._deadline is None:
                self._deadline = self.loop.call_later(self._head_timeout_s, self._on_deadline)
        elif self._at is At.END:
            self._stop_waiting()
            if self.cycle is not None and self.cycle.response_complete and self._rests_since_s is None:
                self._rest()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin_head()

    def _begin_head(self) -> None:
        if self._at is not At.FRESH:
            self._since_s = self.loop.time()
        self._at = At.HEAD
        self._refusal = ""

    def on_headers_complete(self) -> None:
        self._end_head()
        self._start_cycle()

    def _end_head(self) -> None:
        self._at = At.BODY
        if self._read_bytes > limits.ADDRESS_BYTES_MAX or len(self.headers) > limits.HEADERS_MAX:
            self._refusal = self._head_refusal()

    def _start_cycle(self) -> None:
        """Has the application answer, or `_refuse` what is refused."""
        if not self._refusal:
            super().on_headers_complete()
            return
        ours, self.app = self.app, partial(_refuse, self._trace_ids, self._refusal)
        try:
            super().on_headers_complete()
        finally:
            self.app = ours

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._at = At.END

    def _should_upgrade(self) -> bool:
        return not self._refusal and super()._should_upgrade()

    def _head_refusal(self) -> str:
        """What is too large in a head that has come whole, if anything is."""
        if len(self.url) > limits.ADDRESS_BYTES_MAX:
            return "address_too_long"
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        is_too_large = size > limits.HEAD_BYTES_MAX or len(self.headers) > limits.HEADERS_MAX
        return "headers_too_large" if is_too_large else ""

    # --- between requests ---------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """As uvicorn's, but for rule 5."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._rest()

    def _rest(self) -> None:
        """The timer of an earlier rest goes on, and looks at the clock when it fires."""
        self._rests_since_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _unset_keepalive_if_required(self) -> None:
        self._rests_since_s = None

    def timeout_keep_alive_handler(self) -> None:
        """Rule 2."""
        self.timeout_keep_alive_task = None
        if self._rests_since_s is None or self.transport.is_closing():
            return
        left_s = self._rests_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
        else:
            self.transport.close()

    # --- deadlines ----------------------------------------------------------------------------------------------------

    def _on_deadline(self) -> None:
        self._deadline = None
        if self._at is At.END or self.transport.is_closing():
            return
        timeout_s = self._request_timeout_s if self._at is At.BODY else self._head_timeout_s
        now_s = self.loop.time()
        if self.flow.read_paused or self.pipeline:  # it waits for us
            self._since_s = now_s
        left_s = self._since_s + timeout_s - now_s
        if left_s > 0:
            self._deadline = self.loop.call_later(left_s, self._on_deadline)
        elif self._at is At.FRESH:
            self.transport.close()
        else:
            self._hang_up(Problem("request_timeout"))

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hang_up(self, problem: Problem) -> None:
        """Ends the connection, with an answer unless one is under way already."""
        self._stop_waiting()
        if self.transport.is_closing():
            return
        cycle = self.cycle
        is_reading_body = self._at is At.BODY
        is_quiet = cycle is None or cycle.response_complete or (is_reading_body and not cycle.response_started)
        if is_quiet and not self.pipeline:
            self.transport.write(_raw(problem, self._trace_ids.of(None)))
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


async def _refuse(trace_ids: TraceIds, code: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what is refused for its head."""
    await send_problem(send, Problem(code), trace_ids.of_headers(scope["headers"]), [CLOSE])


def _raw(problem: Problem, trace_id: bytes) -> bytes:
    """The whole answer as bytes, where there is no request to answer."""
    status = HTTPStatus(problem.row.status)
    body = problem.body(trace_id.decode())
    head = lines([*problem_headers(problem, body, trace_id), CLOSE])
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, status.phrase.encode(), head, body)
