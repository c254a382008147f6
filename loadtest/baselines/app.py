"""The FastAPI application of every baseline: it reads the request, knows the caller, checks the credential, asks the
design (`Desk`), answers."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Literal

import asyncpg
import msgspec
from fastapi import FastAPI, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from redis.asyncio import Redis

from gateway.credentials import CredentialBook
from gateway.ids import IdMaker
from gateway.problems import Problem
from loadtest.baselines.contract import Desk, Outcome, Question, answer
from loadtest.baselines.redis_script import RedisDesk
from loadtest.baselines.statement import StatementDesk
from loadtest.baselines.transaction import TransactionDesk

CONNECTIONS_PER_PROCESS = 10
Design = Literal["transaction", "statement", "redis"]


class Scanner(msgspec.Struct, frozen=True):
    """Who has a token. `event_id` is "" for one who may scan at every event."""

    device_id: str
    event_id: str


class Orders(msgspec.Struct, frozen=True):
    """What a process needs. `url` is that of the design's store."""

    design: Design
    port: int
    url: str
    org_id: str
    secret: str
    tokens: dict[str, Scanner]


class CheckIn(BaseModel):
    """A scan, as in the contract."""

    event_id: Annotated[str, Field(min_length=1, max_length=64)]
    credential: Annotated[str, Field(min_length=1, max_length=512)]
    gate_id: Annotated[str, Field(max_length=64)] | None = None
    direction: Literal["entry", "exit"] = "entry"
    scan_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None


@asynccontextmanager
async def desk_of(orders: Orders) -> AsyncIterator[Desk]:
    """The design, connected to its store."""
    async with AsyncExitStack() as stack:
        if orders.design == "redis":
            redis: Redis = Redis.from_url(orders.url)
            stack.push_async_callback(redis.aclose)
            yield RedisDesk(redis)
            return
        size = CONNECTIONS_PER_PROCESS
        pool = await stack.enter_async_context(asyncpg.create_pool(orders.url, min_size=size, max_size=size))
        yield TransactionDesk(pool) if orders.design == "transaction" else StatementDesk(pool)


def application(orders: Orders) -> FastAPI:
    """The FastAPI application."""
    desks: list[Desk] = []
    book = CredentialBook(orders.secret.encode())
    ids = IdMaker(_now_ms, os.urandom)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with desk_of(orders) as desk:
            desks.append(desk)
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.exception_handler(Problem)
    async def refuse(_: Request, problem: Problem) -> Response:
        return Response(problem.body(""), problem.row.status, media_type="application/problem+json")

    @app.post("/v1/checkins")
    async def check_in(
        scan: CheckIn,
        authorization: Annotated[str, Header()] = "",
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> Response:
        caller = orders.tokens.get(authorization.removeprefix("Bearer "))
        if caller is None:
            raise Problem("unauthenticated")
        if caller.event_id and caller.event_id != scan.event_id:
            raise Problem("wrong_event")
        scan_id = scan.scan_id or idempotency_key or ids.request_id()
        at_ms = _now_ms()
        claims = book.verify(scan.credential)
        if claims is None or claims.tenant_id != orders.org_id:
            outcome, replayed = Outcome("", "", at_ms, "credential_invalid", "", "", "", 0, 0, 0, 0, 0), False
        else:
            where = (scan.event_id, claims.card_id, scan.gate_id or "", caller.device_id)
            outcome, replayed = await desks[0].judge(Question(scan_id, *where, scan.direction, at_ms))
        return Response(answer(scan_id, scan.event_id, outcome, replayed), media_type="application/json")

    return app


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
