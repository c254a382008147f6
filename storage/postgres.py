"""How this project talks to Postgres: pools, what a session is set to, and which errors mean what.

Rules:
1. Settings are given at connect, so they hold for the session's whole life and `RESET` cannot undo them.
2. Every call has a timeout: a server that does not answer is a server that is away.
3. An error is either an outage (nothing is known, try again) or a fault of the data (the same data fails again,
   always).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 2.0
WRITE_TIMEOUT_S = 10.0
_DURABLE = ("fsync", "full_page_writes")


class UnsafePostgres(ConnectionError):
    """The server's settings would lose committed transactions at a power cut."""


# What raising means that the data itself cannot be stored: it will fail again, on any server, for ever.
DATA_FAULTS = (
    asyncpg.DataError,  # class 22: value out of range, character that text cannot hold …
    asyncpg.IntegrityConstraintViolationError,  # class 23: a key that exists already, a missing value
    asyncpg.ProgramLimitExceededError,  # class 54: a key too long for its index
    asyncpg.exceptions._base.DataError,  # the same as class 22, found by the client while encoding
)

# What raising leaves open whether anything happened. `DATA_FAULTS` are among them and have to be caught first.
OUTAGES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_WRITER = {
    # Each statement joins a batch with a table by its key: always by the index, whatever stale statistics say.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    # The journal is trimmed behind a commit, so a commit has to be on disk, whatever the server's default is.
    "synchronous_commit": "on",
}


async def _keep(connection: Connection) -> None:
    """In place of asyncpg's reset, a round trip: these sessions change no setting and leave no cursor or lock
    behind."""


async def is_answering(dsn: str, timeout_s: float) -> bool:
    """Whether the server takes a new session and a question."""
    try:
        async with asyncio.timeout(timeout_s):
            session = await asyncpg.connect(dsn, timeout=timeout_s)
            try:
                await session.fetchval("SELECT 1")
            finally:
                session.terminate()
    except OUTAGES:
        return False
    return True


async def require_durability(connection: Connection) -> None:
    query = "SELECT name FROM pg_settings WHERE name = ANY($1) AND setting <> 'on'"
    unsafe = [row["name"] for row in await connection.fetch(query, list(_DURABLE))]
    if unsafe:
        raise UnsafePostgres(f"Postgres runs with {' and '.join(unsafe)} off: a power cut would lose what was trimmed")


async def writer_pool(dsn: str, size: int, *, is_unsafe_allowed: bool = False) -> Pool:
    """A pool for the projector. Connects when first used, so it can be made while Postgres is away. A server that would
    lose committed transactions is as good as away (`UnsafePostgres`), unless that is allowed."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=WRITE_TIMEOUT_S,
        init=None if is_unsafe_allowed else require_durability,
        server_settings={"application_name": "mastervip-projector", **_WRITER},
        reset=_keep,
    )


async def reader_pool(dsn: str, size: int) -> Pool:
    """A pool for reading. Connects when first used, so it can be made while Postgres is away."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=READ_TIMEOUT_S,
        server_settings={"application_name": "mastervip-reader", "jit": "off"},
        reset=_keep,
    )
