"""What the routes share: who calls with which request id, the types of fields, pages, and commands to the engine.

Rules:
1. The tenant is the caller's, never the request's.
2. Request bodies are strict: unknown fields, numbers in strings and control characters in text are refused.
3. Times are RFC 3339 with an offset; None or absent means "not set".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Any, TypeVar
from zoneinfo import available_timezones

import msgspec
from fastapi import Depends, Path, Query, Request, Response
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from actors.codec import Message
from actors.commands import Command, fingerprint
from actors.facts import CommandRefused, Fact
from actors.replies import Done, Failed, Reply
from gateway import admin_log, limits
from gateway.cold import ColdStore
from gateway.entrance import Entrance
from gateway.exchange import exchange_of
from gateway.http import request_headers
from gateway.identity.callers import Caller
from gateway.identity.policy import POLICY, Reach
from gateway.limiter import caller_limit
from gateway.parts import EdgeParts
from gateway.problems import Problem, problem_of
from storage.postgres import Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
# What begins a formula, also in full width, and what some programs skip before one.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_QUOTED = re.compile(r'[,"\n\r]')
ID_PATTERN = "^[A-Za-z0-9_.-]+$"

Reply_ = TypeVar("Reply_", bound=Reply)
Fact_ = TypeVar("Fact_", bound=Fact)


# Pydantic would take more: no seconds, a space in the middle, a number.
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)


def _text_only(value: Any) -> Any:
    if not isinstance(value, str) or not _RFC_3339.match(value):
        raise PydanticCustomError("time_type", "a time is a string, such as 2026-11-22T10:00:00.000Z")
    return value


def _after_1970(value: datetime) -> datetime:
    if value <= _EPOCH:
        raise PydanticCustomError("time_range", "the time must be after 1970")
    return value


@lru_cache(1)
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _time_zone(value: str) -> str:
    if value not in _time_zones():
        raise PydanticCustomError("time_zone", "not an IANA time zone name")
    return value


Id = Annotated[str, Field(min_length=1, max_length=limits.ID_CHARS_MAX, pattern=ID_PATTERN)]
PathId = Annotated[str, Path(min_length=1, max_length=limits.ID_CHARS_MAX, pattern=ID_PATTERN)]
RequestIdField = Annotated[str, Field(min_length=1, max_length=limits.REQUEST_ID_CHARS_MAX, pattern="^[ -~]+$")]
Name = Annotated[str, Field(min_length=1, max_length=limits.NAME_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f]+$")]
Note = Annotated[str, Field(max_length=limits.NOTE_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f]*$")]
Time = Annotated[AwareDatetime, BeforeValidator(_text_only), AfterValidator(_after_1970), Field(strict=False)]
TimeZone = Annotated[str, Field(max_length=64), AfterValidator(_time_zone)]


Limit = Annotated[int, Query(ge=1, le=limits.PAGE_ITEMS_MAX)]
Cursor = Annotated[str | None, Query(min_length=1, max_length=300, pattern="^[A-Za-z0-9_-]+$")]


class Body(BaseModel):
    """A request body (rule 2)."""

    model_config = ConfigDict(extra="forbid", strict=True)


class View(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(frozen=True)


_bearer = HTTPBearer(auto_error=False, description="An access token, an API key, or a device token.")
_api_key = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key.")
REQUEST_ID_PARAMETER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The request id: the same id with the same body is the same request and gets the same answer.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": limits.REQUEST_ID_CHARS_MAX,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
}


def edge_parts(request: Request) -> EdgeParts:
    """What the edge is made of."""
    parts: EdgeParts = request.app.state.parts
    return parts


class Call(msgspec.Struct, frozen=True):
    """One request: who calls, under which request id, to do what (`action` of the policy table); `is_named` tells
    whether the client gave that id.

    **Every administrative act is noted** in the log of its organisation: what the engine decides by `tell`, what
    Postgres does by `note` in its transaction. An act is confirmed once it is noted; a retry writes no second line."""

    parts: EdgeParts
    cold: ColdStore
    caller: Caller
    request_id: str
    is_named: bool
    reach: Reach = "own"
    action: str = ""

    @property
    def tenant_id(self) -> str:
        """Rule 1."""
        return self.caller.tenant_id

    def in_org(self, org_id: str) -> Call:
        """The call within the organisation that the path names. One beyond the caller's reach is absent: raises
        `Problem`."""
        if self.reach == "platform":
            return self.within(org_id)
        if org_id != self.tenant_id or not org_id:
            raise Problem("tenant_unknown")
        return self

    def within(self, tenant_id: str) -> Call:
        """The call as one of this organisation: for what it is known to be about."""
        return msgspec.structs.replace(self, caller=msgspec.structs.replace(self.caller, tenant_id=tenant_id))

    def sees_member(self, member_id: str, absent: str) -> None:
        """Raises `Problem(absent)` where the caller reaches only what is their own and this member's is not."""
        if self.reach == "own" and (not self.caller.member_id or self.caller.member_id != member_id):
            raise Problem(absent)

    def sees_event(self, event_id: str) -> None:
        """Raises `Problem` where the caller reaches only another event."""
        if self.reach == "event" and self.caller.event_id not in ("", event_id):
            raise Problem("event_unknown")

    async def query(self, message: Message, kind: type[Reply_]) -> Reply_:
        """The engine's answer to a question. Raises `Problem`."""
        reply = await self.parts.engine.ask(message)
        if isinstance(reply, kind):
            return reply
        raise _problem(reply)

    async def tell(self, command: Command, kind: type[Fact_], *, is_noted: bool = True) -> Fact_:
        """The fact that a command led to, now or at an earlier try; noted, unless the caller does that for several
        together. Raises `Problem` when refused."""
        reply = await self.parts.engine.ask(signed(command))
        if not (isinstance(reply, Done) and isinstance(reply.fact, kind)):
            raise _problem(reply)
        if is_noted:
            await self._note_fact(reply.fact, admin_log.told(command))
        return reply.fact

    async def _note_fact(self, fact: Fact, detail: dict[str, Any]) -> None:
        call = self.within(fact.tenant_id)
        async with self.cold.connection() as connection:
            await call.note(connection, admin_log.target_of(fact), at_ms=fact.at_ms, detail=detail)

    async def note(
        self, connection: Connection, target: str, *, at_ms: int | None = None, detail: dict[str, Any] | None = None
    ) -> None:
        """Writes the act into the log of the call's organisation; `at_ms` is when it was decided, now if not given. Not
        for what has been noted under this request id already at another time: say when it was decided, or do it within
        `once`."""
        when_ms = self.parts.clock_ms() if at_ms is None else at_ms
        await admin_log.note(
            connection, self.tenant_id, when_ms, self.caller, self.request_id, self.action, target, **(detail or {})
        )

    async def is_fresh(self) -> bool:
        """Whether Postgres holds what was confirmed until now, after waiting for it a while."""
        return await self.parts.freshness.is_fresh(self.tenant_id)

    async def once(self, route: str, body: BaseModel, work: Callable[..., Any]) -> dict[str, Any]:
        """A cold POST: executed once per request id, where the client gave one."""
        if not self.is_named:
            async with self.cold.connection() as connection, connection.transaction():
                answer: dict[str, Any] = await work(connection)
                return answer
        digest = blake2b(f"{route}\n{body.model_dump_json()}".encode(), digest_size=8).digest()
        return await self.cold.once(self.tenant_id, self.request_id, digest, work)


def signed(command: Command) -> Command:
    """The command with its fingerprint; one that has been given another stays."""
    if command.fingerprint:
        return command
    return msgspec.structs.replace(command, fingerprint=fingerprint(command))


def _problem(reply: Reply) -> Problem:
    if isinstance(reply, Failed):
        return problem_of(reply)
    if isinstance(reply, Done) and isinstance(reply.fact, CommandRefused):
        return problem_of(reply.fact)
    return Problem("internal", "The engine gave an answer of another kind.")


async def anyone(
    request: Request,
    parts: Annotated[EdgeParts, Depends(edge_parts)],
    _bearer_token: Annotated[object, Depends(_bearer)],
    _key: Annotated[object, Depends(_api_key)],
) -> Call:
    """Any known caller. Raises `Problem` (401) or `StoreUnavailable`."""
    headers = request_headers(request.scope["headers"])
    entrance: Entrance = request.app.state.entrance
    exchange = exchange_of(request.scope)
    exchange.caller = caller = await entrance.caller(request.scope, headers, request.path_params.get("org_id", ""))
    exchange.standings = await parts.limiter.check(caller_limit(caller), tenant_id=caller.tenant_id)
    request_id = headers.idempotency_key or parts.ids.request_id()
    cold: ColdStore = request.app.state.cold
    return Call(parts, cold, caller, request_id, headers.idempotency_key is not None)


class Allowed:
    """The dependency of every route that needs a caller: may the caller do `action` at all (`gateway.identity.policy`)?
    With which things, the route says by `Call.sees_member`, `Call.sees_event` or `Call.in_org`."""

    def __init__(self, action: str) -> None:
        assert action in POLICY, action
        self.action = action

    def __call__(self, call: Annotated[Call, Depends(anyone)]) -> Call:
        """The call, with the caller's reach. Raises `Problem` (403)."""
        reach = call.caller.reach(self.action)
        if reach is None:
            refusal = call.caller.refusal
            raise Problem(refusal, f"This caller may not do {self.action!r}." if refusal == "forbidden" else "")
        return msgspec.structs.replace(call, reach=reach, action=self.action)


def ms(time: datetime | None) -> int:
    """Milliseconds since 1970; 0 for None."""
    return 0 if time is None else (time - _EPOCH) // _MS


def set_ms(body: BaseModel, name: str) -> int | None:
    """What a change sets its time `name` to: 0 for null, which is no bound; None where it was left out."""
    time: datetime | None = getattr(body, name)
    return ms(time) if name in body.model_fields_set else None


def csv_cell(value: object) -> str:
    """A cell (RFC 4180) that spreadsheets take as text, not as a formula (OWASP, "CSV Injection"); a number stays
    one."""
    text = "" if value is None else str(value)
    if text.startswith(_FORMULA_STARTS) and not isinstance(value, int):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def binary(data: bytes, media_type: str) -> Response:
    """An answer that is not JSON."""
    return Response(data, media_type=media_type)
