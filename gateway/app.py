"""The edge as one ASGI application: the hot paths, sockets and pages by path, everything else FastAPI's.

Rules:
1. A plain ASGI object: no middleware around the hot paths.
2. Sockets and pages of other modules are registered before the first request, by their exact path.
3. Every answer carries an `X-Request-Id` and the security headers; no input gives a 5xx, and an error of our own says
   nothing about our insides.
4. A deprecated operation says so in every answer, and is gone from its sunset on (`gateway.deprecations`).
5. Path and method are looked up before anything is read: unknown is 404 (paths are exact, in case and slashes), 405
   says what is allowed, HEAD is GET without the body, OPTIONS tells the methods and answers preflights
   (`gateway.cors`).
"""

from __future__ import annotations

import structlog

from gateway import limits
from gateway.cold import ColdStore
from gateway.cors import Cors
from gateway.deprecations import Deprecations
from gateway.doorway import Doorway
from gateway.entrance import Entrance
from gateway.exchange import SCOPE_KEY, Exchange
from gateway.fast_lane import OPERATIONS, FastLane
from gateway.http import (
    AsgiApp,
    AsgiMessage,
    DirectHandler,
    Disconnected,
    Headers,
    Receive,
    Scope,
    Send,
    content_bytes,
    read_body,
    send_problem,
)
from gateway.json_bodies import check_json
from gateway.members import limits as member_limits
from gateway.members.work import MemberWork
from gateway.parts import EdgeParts
from gateway.problems import Problem
from gateway.rest import card_batches, member_imports
from gateway.rest.api import build_api, routes_of
from gateway.rest.routes import Known, methods_of
from gateway.trace_ids import TraceIds

_BODY_HEADERS = (b"content-type", b"content-length", b"transfer-encoding")
# Routes that take a file as it is, read piece by piece by the route itself, with the bytes that they take.
FILES = {("POST", path): member_limits.IMPORT_BYTES_MAX for path in (member_imports.PATH, card_batches.CSV_PATH)}
_HOT_METHODS = {"POST", "OPTIONS"}
_log = structlog.get_logger(__name__)


class EdgeApp:
    """The application. `doorway` and `entrance` are shared with the sockets, so that a scan and a caller are the same
    everywhere."""

    def __init__(self, parts: EdgeParts, deprecations: Deprecations | None = None) -> None:
        limits.check_relationships()
        self.parts = parts
        self.doorway = Doorway(parts.engine, parts.credentials, parts.clock_ms, parts.limiter)
        self.cors = Cors(parts.origins, parts.proxies)
        self.entrance = Entrance(parts.identity, parts.limiter, parts.proxies, self.cors)
        self._deprecations = deprecations or Deprecations()
        self._trace_ids = TraceIds(parts.ids.entity("req"))
        self._fast_lane = FastLane(parts, self.doorway, self.entrance, self.cors, self._trace_ids, self._deprecations)
        # What a gateway does for members in the background; whoever serves this runs it.
        self.member_work = MemberWork(parts, ColdStore(parts.pool, parts.clock_ms))
        self._api: AsgiApp = build_api(parts, self.entrance, self._deprecations, self.member_work)
        self._routes = routes_of()
        self._deprecations.check_operations(self._routes.operations() | OPERATIONS)
        self._sockets: dict[str, AsgiApp] = {}
        self._pages: dict[str, AsgiApp] = {}
        parts.metrics.gauge(
            "mastervip_forged_scans", "Scans whose credential failed at the edge", lambda: self.doorway.forged_count
        )
        parts.metrics.gauge(
            "mastervip_rate_limited", "Operations refused by a rate limit", lambda: parts.limiter.refused_count
        )

    def add_socket(self, path: str, app: AsgiApp) -> None:
        """Registers what answers WebSockets at `path`."""
        self._sockets[path] = app

    def add_page(self, path: str, app: AsgiApp) -> None:
        """Registers what answers HTTP at `path`; a path that ends in `/` answers all below it."""
        self._pages[path] = app

    def direct(self, url: bytes) -> DirectHandler | None:
        """What answers a POST to this address without ASGI, if anything does (`gateway.http.DirectRoutes`)."""
        return self._fast_lane.direct(url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        kind = scope["type"]
        if kind == "http":
            lane = self._fast_lane.handler(scope["path"])
            if lane is not None and scope["method"] == "POST":
                await self._fast_lane.answer(lane, scope, receive, send)
            else:
                await self._slow(lane is not None, scope, receive, send)
        elif kind == "websocket":
            socket = self._sockets.get(scope["path"])
            if socket is None:
                await send({"type": "websocket.close", "code": 4404, "reason": "no such socket"})
            else:
                await socket(scope, receive, send)
        elif kind == "lifespan":
            await _lifespan(receive, send)

    async def _slow(self, is_hot: bool, scope: Scope, receive: Receive, send: Send) -> None:
        """All but the hot lane: answers what needs no route, then has the page or FastAPI answer."""
        trace_id = self._trace_ids.of_headers(scope["headers"])
        exchange = Exchange(scope, trace_id, self.cors, self.parts.proxies.origin(scope).is_secure, send)
        structlog.contextvars.bind_contextvars(request_id=trace_id.decode())
        try:
            page = self._page(scope["path"])
            if page is not None:
                await page(scope, receive, exchange.send)
                return
            route = await self._route(is_hot, scope, exchange)
            if route is not None:
                await self._answer(route, scope, receive, exchange)
        except Problem as problem:
            await send_problem(exchange.send, problem, trace_id)
        except Disconnected:
            return
        except BaseException as error:
            _log.error("request failed", path=scope["path"], error=repr(error))
            if not exchange.is_started:
                await send_problem(exchange.send, Problem("internal"), trace_id)
            raise

    def _page(self, path: str) -> AsgiApp | None:
        return self._pages.get(path) or next(
            (page for prefix, page in self._pages.items() if prefix.endswith("/") and path.startswith(prefix)), None
        )

    async def _route(self, is_hot: bool, scope: Scope, exchange: Exchange) -> Known | None:
        """The route that is to answer; None when the answer has been given. Raises `Problem` (404, 405)."""
        routes = self._routes.at(scope["path"])
        methods = _HOT_METHODS if is_hot else methods_of(routes)
        if not routes and not is_hot:
            raise Problem("not_found")
        allow: Headers = [(b"allow", ", ".join(sorted(methods)).encode())]
        if scope["method"] == "OPTIONS":
            headers = [*allow, *(self.cors.preflight(scope, methods) or ())]
            await exchange.send({"type": "http.response.start", "status": 204, "headers": headers})
            await exchange.send({"type": "http.response.body", "body": b""})
            return None
        if scope["method"] not in methods:
            raise Problem("method_not_allowed", headers=allow)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        return next(route for route in routes if method in route.methods)

    async def _answer(self, route: Known, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        exchange.more = self._deprecations.headers(method, route.template)
        self._deprecations.check(method, route.template, self.parts.clock_ms())
        if route.is_public:
            exchange.standings = await self.parts.limiter.check(("rest-ip", self.entrance.address(scope)))
        limit_bytes = FILES.get((method, route.template))
        if limit_bytes is None:
            scope, receive = await _with_body(scope, receive)
        else:
            receive = _within(limit_bytes, scope, receive)
        await self._api({**scope, "method": method, SCOPE_KEY: exchange}, receive, exchange.send)


def _within(limit_bytes: int, scope: Scope, receive: Receive) -> Receive:
    """A file's bytes as they come, no more than the limit. Raises `Problem` (413), at once where the length tells, and
    `Disconnected`."""
    detail = f"At most {limit_bytes} bytes are taken here."
    if content_bytes(scope["headers"]) > limit_bytes:
        raise Problem("body_too_large", detail)
    size = 0

    async def counted() -> AsgiMessage:
        nonlocal size
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        size += len(message.get("body", b""))
        if size > limit_bytes:
            raise Problem("body_too_large", detail)
        return message

    return counted


async def _with_body(scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
    """The request with its body read within the limit and known to be good JSON, if there is any. Whatever type a
    client claims for it, a body is JSON here. Raises `Problem` and `Disconnected`."""
    limit_bytes = limits.BATCH_BODY_BYTES_MAX if scope["path"].endswith(":batch") else limits.BODY_BYTES_MAX
    body = await read_body(receive, content_bytes(scope["headers"]), limit_bytes)
    headers = [header for header in scope["headers"] if header[0] not in _BODY_HEADERS]
    if body:
        check_json(body)
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    is_read = False

    async def replay() -> AsgiMessage:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return {**scope, "headers": headers}, replay


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing to do at start and stop: `serve/` builds and closes the parts."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
