"""The edge as one ASGI application: the hot paths, sockets and pages by path, everything else FastAPI's.

Rules:
1. A plain ASGI object: no middleware around the hot paths.
2. Sockets and pages of other modules are registered before the first request, by their exact path.
3. Every answer carries the security headers; no input gives a 5xx, and an error of our own says nothing about our
   insides.
"""

from __future__ import annotations

import msgspec

from gateway import limits
from gateway.doorway import Doorway
from gateway.fast_lane import FastLane
from gateway.http import (
    SECURITY_HEADERS,
    AsgiApp,
    AsgiMessage,
    Disconnected,
    Receive,
    Scope,
    Send,
    content_bytes,
    read_body,
    send_problem,
)
from gateway.parts import EdgeParts
from gateway.problems import Problem
from gateway.requests import decode
from gateway.rest.api import build_api

_PAGE_HEADERS = [
    *SECURITY_HEADERS,
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]

_BODY_HEADERS = (b"content-type", b"content-length", b"transfer-encoding")
_any_json = msgspec.json.Decoder()


class EdgeApp:
    """The application. `doorway` is shared with the sockets, so that a scan is the same everywhere."""

    def __init__(self, parts: EdgeParts) -> None:
        limits.check_relationships()
        self.parts = parts
        self.doorway = Doorway(parts.engine, parts.credentials, parts.clock_ms)
        self._fast_lane = FastLane(parts.engine, self.doorway, parts.identity, parts.ids, parts.metrics)
        self._api: AsgiApp = build_api(parts)
        self._sockets: dict[str, AsgiApp] = {}
        self._pages: dict[str, AsgiApp] = {}
        parts.metrics.gauge(
            "mastervip_forged_scans", "Scans whose credential failed at the edge", lambda: self.doorway.forged_count
        )

    def add_socket(self, path: str, app: AsgiApp) -> None:
        """Registers what answers WebSockets at `path`."""
        self._sockets[path] = app

    def add_page(self, path: str, app: AsgiApp) -> None:
        """Registers what answers HTTP at `path`; a path that ends in `/` answers all below it."""
        self._pages[path] = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        kind = scope["type"]
        if kind == "http":
            lane = self._fast_lane.handler(scope["path"])
            if lane is not None:
                await self._fast_lane.answer(lane[0], lane[1], scope, receive, send)
            else:
                await self._slow(scope, receive, send)
        elif kind == "websocket":
            socket = self._sockets.get(scope["path"])
            if socket is None:
                await send({"type": "websocket.close", "code": 4404, "reason": "no such socket"})
            else:
                await socket(scope, receive, send)
        elif kind == "lifespan":
            await _lifespan(receive, send)

    async def _slow(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pages and FastAPI, with the security headers that they do not set themselves."""
        answer = _Answer(send)
        try:
            scope, receive = await _with_body(scope, receive)
        except Problem as problem:
            await send_problem(answer.send, problem)
            return
        except Disconnected:
            return
        app = self._pages.get(scope["path"]) or next(
            (page for path, page in self._pages.items() if path.endswith("/") and scope["path"].startswith(path)),
            self._api,
        )
        try:
            await app(scope, receive, answer.send)
        except BaseException:
            if not answer.is_started:
                await send_problem(send, Problem("internal"))
            raise


async def _with_body(scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
    """The request with its body read within the limit and known to be JSON, if there is any. FastAPI's own parser takes
    UTF-16, NaN and what else Python's takes, and has no limits; ours is the one of the hot paths. Whatever type a
    client claims for it, a body is JSON here. Raises `Problem` and `Disconnected`."""
    limit_bytes = limits.BATCH_BODY_BYTES_MAX if scope["path"].endswith(":batch") else limits.BODY_BYTES_MAX
    body = await read_body(receive, content_bytes(scope["headers"]), limit_bytes)
    headers = [header for header in scope["headers"] if header[0] not in _BODY_HEADERS]
    if body:
        decode(_any_json, body)
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    is_read = False

    async def replay() -> AsgiMessage:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return {**scope, "headers": headers}, replay


class _Answer:
    """Adds the security headers, and knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_started = False

    async def send(self, message: AsgiMessage) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self.is_started = True
            names = {name.lower() for name, _ in message.get("headers", ())}
            added = [header for header in _PAGE_HEADERS if header[0] not in names]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing to do at start and stop: `serve/` builds and closes the parts."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
