"""Who is calling, with guessing limited: the way from a token to a caller, for REST and sockets.

Rules:
1. A token that was confirmed a moment ago costs a look-up in memory and is not limited here.
2. Failed attempts count against the client's address (`auth-failed-ip`). Where too many failed, tokens that this
   gateway has never seen to be good are not even looked at for a while: 429 in place of 401. Callers known here go on,
   so that somebody who guesses cannot shut the doors of the house next to him.
3. The address is the connection's, or what trusted proxies say (`gateway.proxies`); headers that anybody can send do
   not change it.
"""

from __future__ import annotations

from gateway.cors import Cors
from gateway.http import RequestHeaders, Scope
from gateway.identity.callers import Caller, Identity
from gateway.identity.tokens import API_KEY_PREFIX
from gateway.limiter import Limiter
from gateway.problems import Problem
from gateway.proxies import TrustedProxies, address_key


class Entrance:
    """Tokens to callers."""

    def __init__(self, identity: Identity, limiter: Limiter, proxies: TrustedProxies, cors: Cors) -> None:
        self._identity = identity
        self._limiter = limiter
        self._proxies = proxies
        self._cors = cors

    async def caller(self, scope: Scope, headers: RequestHeaders, org_id: str = "") -> Caller:
        """Who is calling; `org_id` is the organisation that an account calls for, as far as the request says so. Raises
        `Problem` (401, 429) or `StoreUnavailable`."""
        token = _token(headers)
        org_id = org_id or headers.org_id
        caller = self._identity.cached(token, org_id) or await self.authenticate(scope, token, org_id)
        if caller is None:
            raise Problem("unauthenticated")
        return caller

    def known(self, headers: RequestHeaders) -> Caller | None:
        """The caller who was confirmed a moment ago; None says nothing, ask `caller` then. Raises `Problem` (401)."""
        return self._identity.cached(_token(headers), headers.org_id)

    async def authenticate(self, scope: Scope, token: str, org_id: str = "") -> Caller | None:
        """The caller, None when the token is nobody's. Raises `Problem` (429) or `StoreUnavailable`."""
        address = self.address(scope)
        wait_ms = self._limiter.used_up_ms("auth-failed-ip", address)
        if wait_ms and not self._identity.has_seen(token):
            raise Problem("rate_limited", "Too many attempts failed from this address.", retry_after_ms=wait_ms)
        caller = await self._identity.authenticate(token, org_id)
        if caller is None:
            await self._limiter.check(("auth-failed-ip", address))
        return caller

    def may_open_socket(self, scope: Scope, tenant_id: str = "") -> bool:
        """Whether the page that asks, if it is one, may use a socket (`gateway.cors`)."""
        return self._cors.may_open_socket(scope, tenant_id)

    def address(self, scope: Scope) -> str:
        """The key under which a client's address is limited."""
        return address_key(self._proxies.origin(scope).address)


def _token(headers: RequestHeaders) -> str:
    """Raises `Problem` where there is none that can be good."""
    token = headers.token
    if token is None:
        raise Problem("unauthenticated")
    if headers.is_api_key_header and not token.startswith(API_KEY_PREFIX):
        raise Problem("unauthenticated", "X-API-Key takes API keys only.")
    return token
