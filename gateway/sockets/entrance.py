"""How a socket begins: the hello, the token, and what holds for the caller while the socket lives.

Rules:
1. The token comes in the Authorization header or in the hello, never in the address, which ends up in logs.
2. A token that stops being good ends the socket within `TOKEN_CHECK_EVERY_MS` and what `Identity` keeps fresh. While
   the callers' store is away, sockets that are open stay open: the doors go on.
3. A caller who may not do what the socket is for is told so (4403); whose things exist is not told to anyone: what is
   foreign looks absent.
4. A page of a foreign origin is told so (4403) before anything happens, and once the caller is known only pages that
   their own organisation allows go on.
5. Failed attempts count against the address they come from; too many end with 4509.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from actors.ports import StoreUnavailable
from gateway.http import Scope
from gateway.identity.callers import Caller
from gateway.problems import Problem
from gateway.sockets import codes, limits
from gateway.sockets.connection import Connection
from gateway.sockets.wire import BadFrame, Hello

_REFUSALS = {close.name: close for close in (codes.FORBIDDEN, codes.ORG_SUSPENDED, codes.ORG_CLOSED)}
FOREIGN_PAGE: Final = "Pages of this origin may not use this socket."


class Authenticator(Protocol):
    """What the sockets need of `gateway.entrance.Entrance`."""

    async def authenticate(self, scope: Scope, token: str) -> Caller | None:
        """The caller, None when the token is nobody's. Raises `Problem` (too many failed attempts) and
        `StoreUnavailable`."""

    def may_open_socket(self, scope: Scope, tenant_id: str = "") -> bool:
        """Whether the page that asks, if it is one, may use a socket: any tenant's, or this one's."""


async def hello_of(connection: Connection, decode: Callable[[bytes], object]) -> Hello | None:
    """The first frame, which must be a hello and come in time; None when the socket is over."""
    connection.bad_frames_max = 1
    try:
        async with asyncio.timeout(limits.HELLO_TIMEOUT_MS / 1_000):
            data = await connection.frame()
    except TimeoutError:
        connection.close(codes.HELLO_TIMEOUT)
        return None
    if data is None:
        return None
    try:
        frame = decode(data)
    except BadFrame as bad:
        connection.close(codes.PROTOCOL_ERROR, bad.message)
        return None
    if not isinstance(frame, Hello):
        connection.close(codes.PROTOCOL_ERROR, "The first frame must be a hello.")
        return None
    connection.bad_frames_max = limits.BAD_FRAMES_MAX
    return frame


async def caller_of(
    connection: Connection, entrance: Authenticator, scope: Scope, token: str | None, action: str
) -> Caller | None:
    """Who is calling, and has the connection watch over it from now on; None when the socket is over."""
    if connection.ended is not None:
        return None
    try:
        caller = await entrance.authenticate(scope, token) if token else None
    except StoreUnavailable:
        connection.close(codes.UNAVAILABLE)
        return None
    except Problem as problem:
        connection.close(codes.RATE_LIMITED, retry_after_ms=problem.retry_after_ms)
        return None
    if token is None or caller is None:
        connection.close(codes.TOKEN_INVALID)
        return None
    if not caller.tenant_id or caller.reach(action) is None:
        connection.close(_REFUSALS[caller.refusal])
        return None
    if not entrance.may_open_socket(scope, caller.tenant_id):
        connection.close(codes.FORBIDDEN, FOREIGN_PAGE)
        return None

    async def is_still_allowed() -> bool:
        try:
            now = await entrance.authenticate(scope, token)
        except StoreUnavailable:
            return True
        except Problem:  # it was good and is not any more, else nothing would have been counted
            return False
        if now is not None and now.org_state != "open":
            connection.close(_REFUSALS[now.refusal])
        return now == caller

    connection.caller = caller
    connection.is_still_allowed = is_still_allowed
    connection.check_soon()  # for news that came while the caller was looked up; costs nothing where there was none
    return caller
