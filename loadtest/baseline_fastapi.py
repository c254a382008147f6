"""A baseline: the usual way to build this. FastAPI, asyncpg, one transaction per check-in on the same Postgres.

It keeps the part of the contract that a check-in needs: bearer tokens, signed credentials, one effect per request id,
re-entry, capacity that is never exceeded, points for the first entry, the same answer, and an answer only after the
commit. No live boards, no audit trail, no outbox. Written with care: a pool per process, prepared statements, few round
trips, the contended row (the event) nearly last, so that its lock is held no longer than that and the commit take.

`python -m loadtest.baseline_fastapi` reads its orders (JSON) from stdin; `loadtest.bench` gives them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import asyncpg
import msgspec
import uvicorn
from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import Response
from pydantic import BaseModel, Field

from gateway.credentials import CredentialBook
from gateway.ids import IdMaker
from gateway.render import rfc3339
from serve.listener import shared_socket
from storage.postgres import Connection

CONNECTIONS_PER_PROCESS = 10
POINTS_PER_FIRST_ENTRY = 10

SCHEMA = """
CREATE TABLE cards (card_id text PRIMARY KEY, member_id text NOT NULL, member_name text NOT NULL, tier text NOT NULL,
    state text NOT NULL DEFAULT 'active', balance bigint NOT NULL DEFAULT 0, entry_count bigint NOT NULL DEFAULT 0);
CREATE TABLE events (event_id text PRIMARY KEY, capacity bigint NOT NULL, inside bigint NOT NULL DEFAULT 0,
    admitted bigint NOT NULL DEFAULT 0) WITH (fillfactor = 20);
CREATE TABLE attendance (event_id text, card_id text, is_inside boolean NOT NULL, entries int NOT NULL,
    PRIMARY KEY (event_id, card_id)) WITH (fillfactor = 80);
CREATE TABLE scans (scan_id text PRIMARY KEY, event_id text NOT NULL, card_id text NOT NULL, direction text NOT NULL,
    fingerprint text NOT NULL, at_ms bigint NOT NULL, answer bytea);
CREATE INDEX scans_by_event ON scans (event_id, at_ms);
CREATE TABLE ledger (card_id text, entry_seq bigint, amount bigint NOT NULL, balance_after bigint NOT NULL,
    cause text NOT NULL, at_ms bigint NOT NULL, PRIMARY KEY (card_id, entry_seq));
"""
_BEGIN_SCAN = """
INSERT INTO scans (scan_id, event_id, card_id, direction, fingerprint, at_ms) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
"""
_ENTER = """
INSERT INTO attendance AS a (event_id, card_id, is_inside, entries) VALUES ($1, $2, true, 1)
ON CONFLICT (event_id, card_id) DO UPDATE SET is_inside = true, entries = a.entries + 1 WHERE NOT a.is_inside
RETURNING entries
"""
_LEAVE = "UPDATE attendance SET is_inside = false WHERE event_id = $1 AND card_id = $2 AND is_inside RETURNING entries"
_AWARD = """
WITH card AS (UPDATE cards SET balance = balance + $2, entry_count = entry_count + 1 WHERE card_id = $1
    RETURNING balance, entry_count)
INSERT INTO ledger SELECT $1, entry_count, $2, balance, $3, $4 FROM card RETURNING balance_after
"""
_COUNT = """
UPDATE events SET inside = inside + $2, admitted = admitted + greatest($2, 0)
WHERE event_id = $1 AND ($2 < 0 OR inside < capacity) RETURNING inside, admitted, capacity
"""
_FINISH = "UPDATE scans SET answer = $2 WHERE scan_id = $1"


class CheckIn(BaseModel):
    """A scan, as in the contract."""

    event_id: Annotated[str, Field(min_length=1, max_length=64)]
    credential: Annotated[str, Field(min_length=1, max_length=512)]
    gate_id: Annotated[str, Field(max_length=64)] | None = None
    direction: Literal["entry", "exit"] = "entry"
    scan_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class Orders(msgspec.Struct, frozen=True):
    """What the process needs."""

    port: int
    dsn: str
    secret: str
    tokens: dict[str, str]


class _Refused(Exception):
    """Rolls the transaction back; the message is the reason."""


class Desk:
    """The check-in."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], credentials: CredentialBook) -> None:
        self._pool = pool
        self._credentials = credentials

    async def check_in(self, scan: CheckIn, scan_id: str) -> Any:
        """The answer, committed."""
        claims = self._credentials.verify(scan.credential)
        at_ms = time.time_ns() // 1_000_000
        answer: dict[str, Any] = {"scan_id": scan_id, "replayed": False, "event_id": scan.event_id, "first": None}
        if claims is None:
            return {**answer, "verdict": "refused", "reason": "credential_invalid", "at": rfc3339(at_ms)}
        card_id = claims.card_id
        async with self._pool.acquire() as connection:
            try:
                async with connection.transaction():
                    return await self._judge(connection, scan, scan_id, card_id, at_ms, answer)
            except _Refused as refusal:
                refused = {
                    **answer,
                    "verdict": "refused",
                    "reason": str(refusal),
                    "card_id": card_id,
                    "at": rfc3339(at_ms),
                }
                await connection.execute(
                    "INSERT INTO scans VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                    *(scan_id, scan.event_id, card_id, scan.direction, _fingerprint(scan), at_ms),
                    msgspec.json.encode(refused),
                )
                return refused

    async def _judge(
        self, connection: Connection, scan: CheckIn, scan_id: str, card_id: str, at_ms: int, answer: dict[str, Any]
    ) -> Any:
        fingerprint = _fingerprint(scan)
        begun = await connection.execute(
            _BEGIN_SCAN, scan_id, scan.event_id, card_id, scan.direction, fingerprint, at_ms
        )
        if begun.endswith(" 0"):
            return await self._replay(connection, scan_id, fingerprint)
        card = await connection.fetchrow("SELECT * FROM cards WHERE card_id = $1", card_id)
        if card is None or card["state"] != "active":
            raise _Refused("credential_invalid" if card is None else "card_suspended")
        is_entry = scan.direction == "entry"
        entries = await connection.fetchval(_ENTER if is_entry else _LEAVE, scan.event_id, card_id)
        if entries is None:
            raise _Refused("already_admitted" if is_entry else "not_inside")
        awarded, balance = 0, card["balance"]
        if is_entry and entries == 1:
            awarded = POINTS_PER_FIRST_ENTRY
            balance = await connection.fetchval(_AWARD, card_id, awarded, f"checkin:{scan_id}", at_ms)
        counts = await connection.fetchrow(_COUNT, scan.event_id, 1 if is_entry else -1)
        if counts is None:
            raise _Refused("full")
        answer |= {
            "verdict": "admitted",
            "reason": None,
            "card_id": card_id,
            "member": {"id": card["member_id"], "name": card["member_name"]},
            "tier": card["tier"],
            "at": rfc3339(at_ms),
            "attendance": dict(counts),
            "points": {"awarded": awarded, "balance": balance},
        }
        await connection.execute(_FINISH, scan_id, msgspec.json.encode(answer))
        return answer

    async def _replay(self, connection: Connection, scan_id: str, fingerprint: str) -> Any:
        stored = await connection.fetchrow("SELECT fingerprint, answer FROM scans WHERE scan_id = $1", scan_id)
        if stored is None or stored["fingerprint"] != fingerprint:
            raise HTTPException(422, "id_reused")
        return {**msgspec.json.decode(stored["answer"]), "replayed": True}


def _fingerprint(scan: CheckIn) -> str:
    return f"{scan.event_id}|{scan.credential}|{scan.gate_id}|{scan.direction}"


def application(orders: Orders) -> FastAPI:
    """The FastAPI application."""
    desks: list[Desk] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(orders.dsn, min_size=2, max_size=CONNECTIONS_PER_PROCESS) as pool:
            desks.append(Desk(pool, CredentialBook(orders.secret.encode())))
            yield

    app = FastAPI(lifespan=lifespan)
    ids = IdMaker(lambda: time.time_ns() // 1_000_000, os.urandom)

    @app.post("/v1/checkins")
    async def check_in(scan: CheckIn, authorization: Annotated[str, Header()]) -> Response:
        event_id = orders.tokens.get(authorization.removeprefix("Bearer "))
        if event_id is None:
            raise HTTPException(401)
        if event_id != scan.event_id:
            raise HTTPException(403)
        answer = await desks[0].check_in(scan, scan.scan_id or ids.request_id())
        return Response(msgspec.json.encode(answer), media_type="application/json")

    return app


async def prepare(dsn: str, cards: list[tuple[str, str, str, str]], events: list[tuple[str, int]]) -> None:
    """Makes and fills the tables of an empty database."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(SCHEMA)
        await connection.copy_records_to_table(
            "cards", records=cards, columns=["card_id", "member_id", "member_name", "tier"]
        )
        await connection.copy_records_to_table("events", records=events, columns=["event_id", "capacity"])
    finally:
        await connection.close()


def main() -> None:
    """Serves until told to end; the orders come as JSON on stdin."""
    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    config = uvicorn.Config(application(orders), loop="uvloop", http="httptools", access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[shared_socket("127.0.0.1", orders.port)])


if __name__ == "__main__":
    main()
