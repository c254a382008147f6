"""Calls an ASGI application directly, as a server would, without one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.http import AsgiApp, AsgiMessage


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


async def call(
    app: AsgiApp,
    method: str,
    path: str,
    body: bytes | object | None = None,
    headers: dict[str, str] | None = None,
    chunks: Sequence[bytes] | None = None,
) -> Answer:
    """One request. `body` is bytes, or anything to be sent as JSON; `chunks` are sent as they are."""
    raw = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
    pieces = list(chunks) if chunks is not None else [raw]
    sent = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    if chunks is None and body is not None:
        sent.append((b"content-length", str(len(raw)).encode()))
        sent.append((b"content-type", b"application/json"))
    route, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": route,
        "raw_path": route.encode("utf-8", "surrogatepass"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": sent,
        "client": ("127.0.0.1", 40_000),
        "server": ("127.0.0.1", 8_080),
    }
    out: list[AsgiMessage] = []

    async def receive() -> AsgiMessage:
        if pieces:
            chunk = pieces.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(pieces)}
        await asyncio.Event().wait()  # the client stays and waits for its answer
        raise AssertionError("not reached")

    async def send(message: AsgiMessage) -> None:
        out.append(message)

    await app(scope, receive, send)
    start = next(message for message in out if message["type"] == "http.response.start")
    content = b"".join(message.get("body", b"") for message in out if message["type"] == "http.response.body")
    return Answer(start["status"], {n.decode(): v.decode("latin-1") for n, v in start["headers"]}, content)
