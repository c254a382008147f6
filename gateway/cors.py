"""Which web pages of other origins may talk to us: those of the tenant's own list.

Rules:
1. **A page gets an answer to read only where the caller's own organisation allows its origin.** Answers that are
   nobody's (not signed in yet, 401, an account that calls for no organisation) any allowed origin may read.
2. A preflight names no caller: it is answered from all organisations' lists together. It tells an origin that some
   organisation allows it, and nothing else.
3. Never `*`, and never `Access-Control-Allow-Credentials`: we know no cookies, a page has its token or it has nothing.
4. A socket's handshake with a foreign origin is refused before anything happens; once the caller is known their own
   organisation has to allow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from gateway.http import Headers, Scope
from gateway.proxies import TrustedProxies

MAX_AGE_S: Final = 600
_REQUEST_HEADERS: Final = (
    b"authorization, content-type, idempotency-key, if-match, if-none-match, x-api-key, x-org-id, x-request-id"
)
_EXPOSED: Final = (
    b"deprecation, etag, link, location, ratelimit, ratelimit-policy, retry-after, sunset, www-authenticate, "
    b"x-request-id"
)
VARY: Final = (b"vary", b"Origin")


class TenantOrigins(Protocol):
    """The origins that organisations allow, as "https://www.example.org", "https://example.org:8443". From memory."""

    def allows(self, tenant_id: str, origin: str) -> bool:
        """Whether this organisation does."""

    def is_known(self, origin: str) -> bool:
        """Whether any organisation does."""


class FixedOrigins:
    """A list that does not change; by default nobody allows anything."""

    def __init__(self, origins: Mapping[str, Iterable[str]] | None = None) -> None:
        self._origins = {tenant_id: frozenset(allowed) for tenant_id, allowed in (origins or {}).items()}
        self._all = frozenset().union(*self._origins.values())

    def allows(self, tenant_id: str, origin: str) -> bool:
        """See `TenantOrigins`."""
        return origin in self._origins.get(tenant_id, ())

    def is_known(self, origin: str) -> bool:
        """See `TenantOrigins`."""
        return origin in self._all


class Cors:
    """The rules, applied."""

    def __init__(self, origins: TenantOrigins, proxies: TrustedProxies) -> None:
        self._origins = origins
        self._proxies = proxies

    def preflight(self, scope: Scope, methods: Iterable[str]) -> Headers | None:
        """The headers that answer a preflight for a path with these methods; None when the request is none."""
        headers = dict(scope["headers"])
        if scope["method"] != "OPTIONS" or b"access-control-request-method" not in headers or b"origin" not in headers:
            return None
        vary = (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
        origin = headers[b"origin"]
        if not self._origins.is_known(origin.decode("latin-1")):
            return [vary]
        return [
            vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", ", ".join(sorted(methods)).encode()),
            (b"access-control-allow-headers", _REQUEST_HEADERS),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
        ]

    def headers(self, origin: bytes | None, tenant_id: str) -> Headers:
        """What goes with the answer to a caller of this organisation ("": of none)."""
        if origin is None or not self._may_read(origin.decode("latin-1"), tenant_id):
            return [VARY]
        return [VARY, (b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED)]

    def may_open_socket(self, scope: Scope, tenant_id: str = "") -> bool:
        """Whether a page of this origin may use a socket: its own (that of the address it came to), or an allowed one.
        Without `tenant_id`: any organisation's. What is no page sends no Origin."""
        origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        if origin is None:
            return True
        text = origin.decode("latin-1")
        return text == self._own(scope) or self._may_read(text, tenant_id)

    def _may_read(self, origin: str, tenant_id: str) -> bool:
        return self._origins.allows(tenant_id, origin) if tenant_id else self._origins.is_known(origin)

    def _own(self, scope: Any) -> str:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return f"{'https' if self._proxies.origin(scope).is_secure else 'http'}://{host.decode('latin-1')}"
