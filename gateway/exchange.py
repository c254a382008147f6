"""One exchange of the ordinary routes: what is known of the request, and what goes with every answer to it.

Rules:
1. Every answer has an `X-Request-Id`, the security headers, and what CORS allows its caller's pages to see.
2. `RateLimit` tells where the caller stands, on answers of all kinds; on a refusal it names the limit.
3. What a route sets itself stays.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.cors import Cors
from gateway.http import HSTS, SECURITY_HEADERS, AsgiMessage, Headers, Scope, Send
from gateway.identity.callers import Caller
from gateway.limiter import Standing, rate_headers
from gateway.trace_ids import NAME as TRACE_ID

SCOPE_KEY: Final = "mastervip.exchange"
# For pages and documents as for data: nothing of ours is framed, sniffed, loaded by others or given a camera.
PAGE_HEADERS: Final[Headers] = [
    *SECURITY_HEADERS,
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
]
_REPEATABLE: Final = frozenset({b"link", b"vary"})


class Exchange:
    """What is known so far. `caller` and `standings` are filled in as they become known; to HEAD
    (`is_head`) the answer is that of GET without its body."""

    def __init__(self, scope: Scope, trace_id: bytes, cors: Cors, is_secure: bool, send: Send) -> None:
        self.trace_id = trace_id
        self.caller: Caller | None = None
        self.standings: list[Standing] = []
        self.more: Headers = []
        self.is_started = False
        self._origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        self.is_head = scope["method"] == "HEAD"
        self._cors = cors
        self._is_secure = is_secure
        self._send = send

    async def send(self, message: AsgiMessage) -> None:
        """ASGI's send, with rules 1 to 3."""
        if message["type"] == "http.response.start":
            self.is_started = True
            own: Headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in own}
            added = [header for header in self._headers() if header[0] not in names or header[0] in _REPEATABLE]
            message = {**message, "headers": own + added}
        elif self.is_head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    def _headers(self) -> Headers:
        headers = [*PAGE_HEADERS, (TRACE_ID, self.trace_id), *self.more]
        headers += self._cors.headers(self._origin, self.caller.tenant_id if self.caller is not None else "")
        if self.standings:
            headers += rate_headers(self.standings)
        if self._is_secure:
            headers.append(HSTS)
        return headers


def exchange_of(scope: Any) -> Exchange:
    """The exchange that a request belongs to."""
    exchange: Exchange = scope[SCOPE_KEY]
    return exchange
