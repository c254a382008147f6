"""A small HTTP server at 127.0.0.1 that answers as a test says, or does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import msgspec


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str | None:
        """Its Idempotency-Key."""
        return self.headers.get("idempotency-key")

    def json(self) -> Any:
        """Its body, decoded."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True)
class Reply:
    """What to answer. `announced_bytes` more than there are: the answer breaks off, or, if it `is_held`, never ends."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    announced_bytes: int | None = None
    is_held: bool = False


CUT = None  # the request is taken and the connection ends without an answer

Handler = Callable[[Seen], Awaitable[Reply | None]]


def problem(status: int, code: str, **more: Any) -> Reply:
    """An error as the API has them. Headers are named with `_` for `-`."""
    headers = {name.replace("_", "-"): str(value) for name, value in more.items()}
    return Reply(status, {"status": status, "code": code, "detail": f"it is {code}"}, headers)


def script(*replies: Reply | None) -> Handler:
    """Answers with these, one after the other, and then always with the last."""
    left = list(replies)

    async def handle(_: Seen) -> Reply | None:
        return left.pop(0) if len(left) > 1 else left[0]

    return handle


class FaultyServer:
    """async with FaultyServer(script(CUT, Reply(201))) as server: … server.url … server.seen"""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.seen: list[Seen] = []
        self.connections = 0
        self.connections_max = 0
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    @property
    def keys(self) -> list[str | None]:
        """The Idempotency-Keys that came."""
        return [seen.key for seen in self.seen]

    async def __aenter__(self) -> FaultyServer:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.connections_max = max(self.connections_max, self.connections)
        try:
            # Cancelled is what this server's own end looks like.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    seen = await self._request(reader)
                    reply = await self.handler(seen)
                    if reply is CUT:
                        return
                    writer.write(_encoded(reply))
                    await writer.drain()
                    if reply.is_held:
                        await asyncio.Event().wait()
                    if reply.announced_bytes is not None:
                        return
        finally:
            self.connections -= 1
            self._tasks.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> Seen:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        seen = Seen(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))
        self.seen.append(seen)
        return seen


def _encoded(reply: Reply) -> bytes:
    body = reply.body if isinstance(reply.body, bytes) else msgspec.json.encode(reply.body)
    size = len(body) if reply.announced_bytes is None else reply.announced_bytes
    headers = {"content-type": "application/json", "content-length": str(size), **reply.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} Said\r\n{lines}\r\n".encode() + body
