"""A connection to the edge without a network: what is sent goes straight into the listener's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from actors.replies import Reply
from gateway.http import DirectRoutes, Receive, Scope, Send
from gateway.trace_ids import TraceIds
from serve.direct_protocol import DefaultLines, DirectProtocol
from serve.settings import Settings
from tests.edge.edge import KEY, FakeEdge

DATE = (b"date", b"Mon, 23 Nov 2026 21:00:00 GMT")
TURNS = 20  # of the event loop, until everything that can be answered is
CREDENTIAL = FakeEdge().credential()
CHECK_IN = b'{"event_id":"evt_1","credential":"%b"}' % CREDENTIAL.encode()


class Wire:
    """A transport that keeps what is written."""

    def __init__(self, is_secure: bool = False) -> None:
        self.sent = b""
        self.writes = 0
        self.is_closed = False
        self.is_reading = True
        self._is_secure = is_secure

    def write(self, data: bytes) -> None:
        self.writes += 1
        if not self.is_closed:
            self.sent += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_extra_info(self, name: str) -> Any:
        return name if name == "sslcontext" and self._is_secure else None


class Line:
    """One connection, by default to an edge of its own. `through_asgi`: the paths that ASGI saw."""

    def __init__(self, tmp_path: Path, is_direct: bool, is_secure: bool = False, edge: FakeEdge | None = None) -> None:
        self.edge = edge or FakeEdge()
        self.through_asgi: list[str] = []
        self.held: list[Callable[[], None]] = []
        self.state = ServerState()
        self.state.default_headers = [DATE]
        self.wire = Wire(is_secure)
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            lifespan="off",
            reset_contextvars=True,
            access_log=False,
            log_config=None,
            timeout_keep_alive=60,
        )
        config.load()
        routes: DirectRoutes = self.edge.app.direct if is_direct else lambda _url: None
        make: Any = partial(DirectProtocol, routes, DefaultLines(), Settings(data=tmp_path), TraceIds("lst"))
        self.protocol: DirectProtocol = make(config=config, server_state=self.state, app_state={})
        self.protocol.connection_made(cast(Any, self.wire))

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.through_asgi.append(scope["path"])
        await self.edge.app(scope, receive, send)

    def hold(self) -> None:
        """The engine's replies wait in `held`."""
        submit = self.edge.engine.submit

        def held(message: Any, on_reply: Callable[[Reply], None]) -> None:
            self.held.append(lambda: submit(message, on_reply))

        self.edge.engine.submit = held  # type: ignore[method-assign]

    async def feed(self, *pieces: bytes) -> bytes:
        """What has been sent by the time that nothing more comes."""
        for piece in pieces:
            if not self.wire.is_closed:
                self.protocol.data_received(piece)
                await turns()
        return self.wire.sent

    def lose(self) -> None:
        """The peer is gone."""
        self.wire.is_closed = True
        self.protocol.connection_lost(ConnectionResetError())

    def settle(self) -> None:
        """No timer stays behind."""
        if self.protocol.parser is not None:
            self.lose()


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def post(
    path: str = "/v1/checkins", body: bytes | None = None, token: str = KEY, more: str = "", version: str = "1.1"
) -> bytes:
    content = CHECK_IN if body is None else body
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\n{bearer}{more}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content
