"""A websocket server at 127.0.0.1 that says what a test tells it to. JSON frames; pings are answered while it reads."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

WELCOME = {"t": "welcome", "session": "ses_1", "now": 0, "max_in_flight": 1_024, "max_frame_bytes": 262_144}
CLOCK_MS = 1_795_341_600_000


class Talk:
    """One connection. `number` counts them from 1, `hello` is its first frame."""

    def __init__(self, number: int, connection: ServerConnection, clock_ms: int) -> None:
        self.number = number
        self.hello: dict[str, Any] = {}
        self.connection = connection
        self.clock_ms = clock_ms

    async def send(self, **fields: Any) -> None:
        await self.connection.send(msgspec.json.encode(fields).decode())

    async def receive(self) -> dict[str, Any]:
        """The next frame that is no ping."""
        while True:
            frame: dict[str, Any] = msgspec.json.decode(await self.connection.recv())
            if frame["t"] != "ping":
                return frame
            await self.send(t="pong", n=frame["n"], now=self.clock_ms)

    async def receive_after_pings(self, then: Callable[[], Awaitable[None]]) -> dict[str, Any]:
        """The same; `then` is done after each ping that is answered on the way."""
        while True:
            frame: dict[str, Any] = msgspec.json.decode(await self.connection.recv())
            if frame["t"] != "ping":
                return frame
            await self.send(t="pong", n=frame["n"], now=self.clock_ms)
            await then()

    async def stay(self) -> None:
        """Reads until the client goes."""
        while True:
            await self.receive()

    async def answer_one(self) -> None:
        """A verdict for the next scan."""
        await self.send(t="verdict", id=(await self.receive())["id"], verdict="admitted", session=self.number)

    async def answer_all(self) -> None:
        """A verdict for each scan until the client goes."""
        while True:
            frame = await self.receive()
            for item in frame.get("items", [frame]):
                await self.send(t="verdict", id=item["id"], verdict="admitted", session=self.number)

    async def close(self, code: int, name: str = "") -> None:
        await self.connection.close(code, name)


Conversation = Callable[[Talk], Awaitable[None]]


class SocketServer:
    """async with SocketServer(conversation) as server: … server.url"""

    def __init__(self, conversation: Conversation, **welcome: Any) -> None:
        self.conversation = conversation
        self.welcome = WELCOME | welcome
        self.clock_ms = CLOCK_MS
        self.talks: list[Talk] = []
        self.tokens: list[str | None] = []
        self.url = ""
        self._server: Server | None = None

    @property
    def hellos(self) -> list[dict[str, Any]]:
        """The first frame of each connection."""
        return [talk.hello for talk in self.talks]

    async def __aenter__(self) -> SocketServer:
        wires = [Subprotocol("mastervip.v1.json")]
        self._server = await serve(self._serve, "127.0.0.1", 0, subprotocols=wires, compression=None, close_timeout=0.5)
        self.url = f"http://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, connection: ServerConnection) -> None:
        talk = Talk(len(self.talks) + 1, connection, self.clock_ms)
        assert connection.request is not None
        self.tokens.append(connection.request.headers.get("Authorization"))
        with contextlib.suppress(ConnectionClosed):
            talk.hello = await talk.receive()
            self.talks.append(talk)
            await talk.send(**self.welcome)
            await self.conversation(talk)
