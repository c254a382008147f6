"""One websocket to an ASGI application in this process, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from gateway.http import AsgiApp, AsgiMessage

CLOSED_WITHIN_S = 10


class AsgiSocket:
    """The client's end. `closed` waits for the server to end it."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Any] = asyncio.Queue()
        self.close_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._to_server: asyncio.Queue[AsgiMessage] = asyncio.Queue()
        self._to_server.put_nowait({"type": "websocket.connect"})

    async def send(self, frame: Any) -> None:
        """A frame to the server."""
        await self._to_server.put({"type": "websocket.receive", "text": msgspec.json.encode(frame).decode()})

    async def receive(self) -> dict[str, Any] | None:
        """The next frame; None when the server has closed the socket and there is no more."""
        coming = asyncio.ensure_future(self.frames.get())
        await asyncio.wait((coming, self.close_code), timeout=CLOSED_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if coming.done():
            frame: dict[str, Any] = coming.result()
            return frame
        coming.cancel()
        assert self.close_code.done(), "neither a frame nor a close"
        return None

    async def closed(self) -> int:
        """The close code."""
        async with asyncio.timeout(CLOSED_WITHIN_S):
            return await asyncio.shield(self.close_code)

    async def to_server(self) -> AsgiMessage:
        """ASGI's receive."""
        return await self._to_server.get()

    async def from_server(self, message: AsgiMessage) -> None:
        """ASGI's send."""
        if message["type"] == "websocket.send":
            await self.frames.put(msgspec.json.decode(message["text"]))
        elif message["type"] == "websocket.close" and not self.close_code.done():
            self.close_code.set_result(message["code"])

    def leave(self) -> None:
        """The client goes away."""
        self._to_server.put_nowait({"type": "websocket.disconnect", "code": 1000})


@asynccontextmanager
async def open_socket(
    app: AsgiApp, path: str, token: str, headers: Mapping[str, str] | None = None
) -> AsyncIterator[AsgiSocket]:
    """A socket of this caller; with no token none is sent."""
    socket = AsgiSocket()
    route, _, query = path.partition("?")
    sent = {"Authorization": f"Bearer {token}"} if token else {}
    scope = {
        "type": "websocket",
        "path": route,
        "query_string": query.encode(),
        "subprotocols": ["mastervip.v1.json"],
        "headers": [(name.lower().encode(), value.encode()) for name, value in {**sent, **(headers or {})}.items()],
        "scheme": "ws",
        "client": ("127.0.0.1", 40_000),
        "server": ("127.0.0.1", 8_080),
    }
    serving = asyncio.create_task(app(scope, socket.to_server, socket.from_server))  # type: ignore[arg-type]
    try:
        yield socket
    finally:
        socket.leave()
        await serving
