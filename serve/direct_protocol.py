"""HTTP/1.1 for what needs no ASGI: the few hot routes are answered from within the protocol.

A bare ASGI exchange costs uvicorn a scope, a cycle, an event, a context and a task; here it is one call there and one
write back.

Rules:
1. Only the plain case goes this way: a POST of HTTP/1.1 to an address that `DirectRoutes` knows, on a connection that
   stays and on which no other request is under way, the body complete with the read that brought the head. All else
   goes through ASGI, and so does what the handler itself leaves to it.
2. What is sent is byte for byte what ASGI would send; all limits are those of `GuardedProtocol`.
3. While an answer is on its way, the exchange stands where uvicorn keeps its cycle: so further requests wait in the
   pipeline, a shutdown waits for it and closes after it, and a lost connection drops it.
"""

from __future__ import annotations

import contextvars
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.http import DirectHandler, DirectRoutes, Headers, lines
from gateway.trace_ids import TraceIds
from serve.http_protocol import CLOSE, At, GuardedProtocol
from serve.settings import Settings

_CLOSE_LINE: Final = lines([CLOSE])
# What uvicorn answers when an application raises.
_BROKEN: Final = b"Internal Server Error"
_BROKEN_LINES: Final = lines(
    [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(_BROKEN))]
)


class _NobodyWaits:
    """Stands where a cycle has an event that its application waits for."""

    def set(self) -> None:
        """Nobody."""


class _Exchange:
    """A request that is being answered; to uvicorn it is a cycle (rule 3)."""

    __slots__ = ("_protocol", "disconnected", "keep_alive", "response_complete", "response_started")
    message_event = _NobodyWaits()

    def __init__(self, protocol: DirectProtocol) -> None:
        self._protocol = protocol
        self.disconnected = False
        self.keep_alive = True
        self.response_started = False
        self.response_complete = False

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """See `gateway.http.OnAnswer`."""
        if not self.disconnected and not self.response_complete:
            self.response_started = self.response_complete = True
            self._protocol.send(self, status, head, body)


class DefaultLines:
    """uvicorn's own headers (the date) as bytes, encoded once a second."""

    def __init__(self) -> None:
        self._headers: Headers = []
        self._lines = b""

    def of(self, headers: Headers) -> bytes:
        """The lines; uvicorn makes a new list when the date changes."""
        if headers is not self._headers:
            self._headers = headers
            self._lines = lines([(name.lower(), value) for name, value in headers])
        return self._lines


class DirectProtocol(GuardedProtocol):
    """One connection."""

    def __init__(
        self, direct: DirectRoutes, default_lines: DefaultLines, settings: Settings, trace_ids: TraceIds, **given: Any
    ) -> None:
        super().__init__(settings, trace_ids, **given)
        self._direct = direct
        self._default_lines = default_lines
        self._handler: DirectHandler | None = None  # of the request that is being read
        self._body = b""

    # --- reading ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._handler is not None:  # the body goes on
            self._handler = None
            if not self.transport.is_closing():
                self._go_through_asgi()

    def on_message_begin(self) -> None:
        # uvicorn makes the scope here; most of these requests need none.
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._begin_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        self._body = b""
        handler = self._direct(self.url) if self.parser.get_method() == b"POST" else None
        if handler is not None and self._is_plain():
            self._handler = handler
        else:
            self._go_through_asgi()

    def on_body(self, body: bytes) -> None:
        if self._handler is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        handler, self._handler = self._handler, None
        if handler is None:
            super().on_message_complete()
            return
        self._at = At.END
        before, exchange = self.cycle, _Exchange(self)
        self.cycle: Any = exchange
        try:
            # In a context of its own, as each request has (`serve.listener`).
            is_taken = contextvars.Context().run(
                handler, self.headers, self._body, self.scheme == "https", exchange.answer
            )
        except BaseException as error:
            self.logger.error("Exception in direct handler\n", exc_info=error)
            exchange.keep_alive = False
            exchange.answer(500, _BROKEN_LINES, _BROKEN)
            self.transport.close()
            raise
        if not is_taken:
            self.cycle = before
            self._go_through_asgi()
            super().on_message_complete()

    def _is_plain(self) -> bool:
        """Rule 1."""
        parser, cycle = self.parser, self.cycle
        return (
            not self._refusal
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and (cycle is None or cycle.response_complete)
            and not self.pipeline
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _go_through_asgi(self) -> None:
        """Makes up for what uvicorn would have done since the request began."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # in place: the scope has this list
        self._start_cycle()
        if self._body:
            super().on_body(self._body)

    # --- writing ------------------------------------------------------------------------------------------------------

    def send(self, exchange: _Exchange, status: int, head: bytes, body: bytes) -> None:
        """The answer, in one write."""
        self.transport.write(
            b"%b%b%b%b\r\n%b"
            % (
                STATUS_LINE[status],
                self._default_lines.of(self.server_state.default_headers),
                head,
                b"" if exchange.keep_alive else _CLOSE_LINE,
                body,
            )
        )
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()
