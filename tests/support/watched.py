"""What a request costs, for tests that compare two: the statements that the edge sends to Postgres and the messages
that it sends to the engine, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

from actors.codec import Message
from actors.replies import Reply
from gateway.ports import Engine
from storage.postgres import Connection, Pool


class Watch:
    """Remembers what was asked of the stores while somebody looks."""

    def __init__(self) -> None:
        self._seen: list[str] | None = None

    @contextmanager
    def looking(self) -> Iterator[list[str]]:
        """What is asked meanwhile, by whomever."""
        self._seen = seen = []
        try:
            yield seen
        finally:
            self._seen = None

    @property
    def is_looking(self) -> bool:
        """Whether somebody does."""
        return self._seen is not None

    def note(self, what: str) -> None:
        """One more."""
        if self._seen is not None:
            self._seen.append(what)


class WatchedEngine:
    """An engine, watched."""

    def __init__(self, engine: Engine, watch: Watch) -> None:
        self.watch = watch
        self._engine = engine

    async def ask(self, message: Message) -> Reply:
        """See `gateway.ports.Engine`."""
        self.watch.note(type(message).__name__)
        return await self._engine.ask(message)

    def submit(self, message: Message, on_reply: Callable[[Reply], None]) -> None:
        """See `gateway.ports.Engine`."""
        self.watch.note(type(message).__name__)
        self._engine.submit(message, on_reply)


class WatchedPool:
    """A pool of connections, watched."""

    def __init__(self, pool: Pool, watch: Watch) -> None:
        self._pool = pool
        self._watch = watch

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """See `asyncpg.Pool`."""
        async with self._pool.acquire() as connection:
            if not self._watch.is_looking:
                yield connection
                return
            with connection.query_logger(self._note):
                yield connection
                await asyncio.sleep(0)  # the logger is called in the loop's next turn

    async def fetch(self, query: str, *arguments: Any) -> Any:
        """See `asyncpg.Pool`."""
        async with self.acquire() as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        """See `asyncpg.Pool`."""
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """See `asyncpg.Pool`."""
        async with self.acquire() as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> str:
        """See `asyncpg.Pool`."""
        async with self.acquire() as connection:
            return await connection.execute(query, *arguments)

    def as_pool(self) -> Pool:
        """This, as what the edge asks for: it uses nothing else of a pool."""
        return cast(Pool, self)

    def _note(self, record: Any) -> None:
        self._watch.note(" ".join(record.query.split()))
