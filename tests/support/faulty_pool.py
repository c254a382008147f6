"""A pool whose connections fail on command: before or after their n-th statement, for good or by stopping there.

Counted are the statements of transactions alone: BEGIN, each `execute` and COPY, COMMIT.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from storage.postgres import Connection, Pool

Moment = Literal["before", "after"]


class FaultyPool:
    """Wraps a pool. A fault strikes once; what comes after works."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.statements = 0
        self.strike_at = 0  # number of the statement, from 1; 0: none
        self.moment: Moment = "before"
        self.kill: Callable[[Connection], Awaitable[None]] | None = None  # instead of raising: the server's end
        self.held_at = 0  # number of the statement before which to wait for `release_held`
        self.is_held = asyncio.Event()
        self.release_held = asyncio.Event()

    async def acquire(self) -> FaultyConnection:
        return FaultyConnection(self, await self._pool.acquire())

    async def release(self, connection: FaultyConnection) -> None:
        await self._pool.release(connection.real)

    async def fetchrow(self, query: str, *parameters: object) -> Any:
        return await self._pool.fetchrow(query, *parameters)

    async def run(self, connection: Connection, statement: Callable[[], Awaitable[Any]]) -> Any:
        self.statements += 1
        number = self.statements
        if number == self.held_at:
            self.is_held.set()
            await self.release_held.wait()
        if number == self.strike_at and self.moment == "before":
            await self._strike(connection)
        result = await statement()
        if number == self.strike_at and self.moment == "after":
            await self._strike(connection)
        return result

    async def _strike(self, connection: Connection) -> None:
        if self.kill is None:
            raise ConnectionResetError("the connection broke, says the test")
        await self.kill(connection)


class FaultyConnection:
    """Has what a projector uses of a connection."""

    def __init__(self, pool: FaultyPool, real: Connection) -> None:
        self.real = real
        self._pool = pool

    def transaction(self) -> FaultyTransaction:
        return FaultyTransaction(self._pool, self.real)

    async def execute(self, query: str, *parameters: object) -> Any:
        return await self._pool.run(self.real, lambda: self.real.execute(query, *parameters))

    async def copy_records_to_table(self, table: str, **options: Any) -> Any:
        return await self._pool.run(self.real, lambda: self.real.copy_records_to_table(table, **options))

    async def copy_to_table(self, table: str, **options: Any) -> Any:
        return await self._pool.run(self.real, lambda: self.real.copy_to_table(table, **options))

    def terminate(self) -> None:
        self.real.terminate()


class FaultyTransaction:
    def __init__(self, pool: FaultyPool, real: Connection) -> None:
        self._pool = pool
        self._connection = real
        self._transaction = real.transaction()

    async def start(self) -> None:
        await self._pool.run(self._connection, self._transaction.start)

    async def commit(self) -> None:
        await self._pool.run(self._connection, self._transaction.commit)
