"""How a socket begins: the hello, the token, and what holds for the caller while the socket lives. What `/v1/scan` and
`/v1/live` have in common.

Rules:
1. The token comes in the Authorization header or in the hello, never in the address, which ends up in logs. The same
   goes for the organisation that somebody signed in chooses (`X-Org-Id`, or `org_id` in the hello).
2. A token that stops being good ends the socket: at once where there is news of it or it says when, else within
   `TOKEN_CHECK_EVERY_MS` and what `Identity` keeps fresh. While the callers' store is away, sockets that are open stay
   open: the doors go on.
3. A caller who may do other things than when the socket began is asked to connect again (4501): nobody keeps rights by
   keeping a socket open. Only the gate that a device stands at changes under it.
4. A caller who may not do what the socket is for is told so (4403); whose things exist is not told to anyone: what is
   foreign looks absent.
5. A page of a foreign origin is told so (4403) before anything happens, and once the caller is known only pages that
   their own organisation allows go on.
6. Failed attempts count against the address they come from; too many end with 4509.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final, Protocol

import msgspec

from actors.ports import StoreUnavailable
from gateway.http import ORG_HEADER, Receive, Scope, Send
from gateway.identity.callers import Caller
from gateway.ids import IdMaker
from gateway.live_hub import LiveHub
from gateway.ports import Engine
from gateway.problems import Problem
from gateway.sockets import codes, limits
from gateway.sockets.connection import Connection, accepted
from gateway.sockets.register import OpenSockets
from gateway.sockets.wire import BadFrame, Hello, Wire

_BEARER: Final = b"bearer "
_REFUSALS: Final = {close.name: close for close in (codes.FORBIDDEN, codes.ORG_SUSPENDED, codes.ORG_CLOSED)}
# What tells the client's address and page (`gateway.proxies`, `gateway.cors`).
_KEPT_HEADERS: Final = frozenset({b"origin", b"host", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"})
FOREIGN_PAGE: Final = "Pages of this origin may not use this socket."


class Authenticator(Protocol):
    """What the sockets need of `gateway.entrance.Entrance`."""

    async def authenticate(self, scope: Scope, token: str, org_id: str = "") -> Caller | None:
        """The caller, None when the token is nobody's. Raises `Problem` (too many failed attempts) and
        `StoreUnavailable`."""

    def may_open_socket(self, scope: Scope, tenant_id: str = "") -> bool:
        """Whether the page that asks, if it is one, may use a socket: any tenant's, or this one's."""


class SocketParts(msgspec.Struct, frozen=True):
    """What both kinds of socket are made of."""

    engine: Engine
    entrance: Authenticator
    hub: LiveHub
    sockets: OpenSockets
    ids: IdMaker
    clock_ms: Callable[[], int]


class Standing:
    """On whose behalf a socket is open, and how to find out whether that still holds."""

    __slots__ = ("_action", "_entrance", "_org_id", "_scope", "_token")

    def __init__(self, entrance: Authenticator, scope: Scope, token: str, org_id: str, action: str) -> None:
        self._entrance = entrance
        self._scope = scope
        self._token = token
        self._org_id = org_id
        self._action = action

    async def caller(self) -> Caller | codes.Close:
        """The caller, or why the socket is not for them. Raises `StoreUnavailable` and `Problem` (too many failed
        attempts)."""
        found = await self._entrance.authenticate(self._scope, self._token, self._org_id)
        if found is None:
            return codes.TOKEN_INVALID
        if not found.tenant_id or found.reach(self._action) is None:
            return _REFUSALS[found.refusal]
        if not self._entrance.may_open_socket(self._scope, found.tenant_id):
            return codes.FORBIDDEN
        return found

    async def reconsider(self, connection: Connection) -> None:
        """Ends the socket if its caller is not what it was (rule 3). Raises `StoreUnavailable`."""
        try:
            found = await self.caller()
        except Problem:  # it was good and is not any more, else nothing would have been counted
            found = codes.TOKEN_INVALID
        if isinstance(found, codes.Close):
            connection.close(found)
        elif _without_gate(found) != _without_gate(connection.caller):
            connection.close(codes.ACCESS_CHANGED)
        else:
            connection.caller = found


class Endpoint:
    """The ASGI application behind a socket."""

    action: ClassVar[str]
    needs_hello: ClassVar[bool]

    def __init__(self, parts: SocketParts) -> None:
        self.parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one websocket to its end."""
        connection = await accepted(scope, receive, send, self.parts.clock_ms)
        if not self.parts.entrance.may_open_socket(scope):
            connection.close(codes.FORBIDDEN, FOREIGN_PAGE)
        begin = partial(self._begin, connection, scope, _token_of(scope), _org_of(scope))
        # The others are as long as the client liked, and of no use any more.
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name in _KEPT_HEADERS]
        await self.parts.sockets.serve(connection, begin)

    async def _begin(self, connection: Connection, scope: Scope, token: str | None, org_id: str) -> None:
        hello = None
        if self.needs_hello or token is None:
            hello = await hello_of(connection, self.decoder(connection.wire))
            if hello is None:
                return
            token, org_id = token or hello.token, org_id or hello.org_id or ""
            if hello.now is not None:
                connection.clock.hello(connection.clock_ms(), hello.now)
        if token is None:
            connection.close(codes.TOKEN_INVALID)
            return
        caller = await caller_of(connection, Standing(self.parts.entrance, scope, token, org_id, self.action))
        if caller is not None:
            await self.talk(connection, caller, hello)

    def welcome(self, connection: Connection, **more: Any) -> dict[str, Any]:
        """How every conversation begins, with what this kind tells besides."""
        return {
            "t": "welcome",
            "session": self.parts.ids.entity("ses"),
            "now": connection.clock_ms(),
            "clock_offset_ms": connection.clock.offset_ms,
            "max_frame_bytes": limits.FRAME_BYTES_MAX,
            **more,
        }

    def decoder(self, wire: Wire) -> Callable[[bytes], object]:
        """What decodes the socket's frames."""
        raise NotImplementedError

    async def talk(self, connection: Connection, caller: Caller, hello: Hello | None) -> None:
        """The conversation once the caller is known. `hello` is None where none was needed."""
        raise NotImplementedError


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


async def caller_of(connection: Connection, standing: Standing) -> Caller | None:
    """Who is calling, looked after from now on; None when the socket is over."""
    found: Caller | codes.Close
    while True:
        connection.is_doubted = False
        try:
            found = await standing.caller()
        except StoreUnavailable:
            found = codes.UNAVAILABLE
        except Problem as problem:
            connection.close(codes.RATE_LIMITED, retry_after_ms=problem.retry_after_ms)
            return None
        if not connection.is_doubted:
            break  # else there was news meanwhile, and it may have been about this caller
    if isinstance(found, codes.Close):
        connection.close(found)
        return None
    connection.caller = found
    connection.standing = standing
    return found


def _without_gate(caller: Caller | None) -> Caller | None:
    return caller if caller is None or not caller.gate_id else msgspec.structs.replace(caller, gate_id="")


def _token_of(scope: Scope) -> str | None:
    """The token of the Authorization or X-API-Key header, if there is one."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == _BEARER:
            return str(value[7:].strip(), "latin-1") or None
        if name == b"x-api-key":
            return str(value.strip(), "latin-1") or None
    return None


def _org_of(scope: Scope) -> str:
    return next((str(value.strip(), "latin-1") for name, value in scope["headers"] if name == ORG_HEADER), "")
