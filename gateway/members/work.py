"""What a gateway does for members in the background: names to cards, imports.

Rules:
1. What there is to do stands in Postgres, so any gateway can do it, and what a dead one left is taken up by another
   (`IMPORT_POLL_MS`). `wake` only makes it sooner.
2. Nothing here is lost or done twice by an outage: what fails is tried again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from actors.ports import StoreUnavailable
from actors.refusals import OVERLOADED
from gateway.cold import ColdStore
from gateway.lists import is_fresh
from gateway.members import limits
from gateway.members.import_work import ImportWork
from gateway.members.names import Names
from gateway.parts import EdgeParts
from gateway.problems import Problem

_log = structlog.get_logger(__name__)


class Uploads:
    """Bounds the files that arrive at a time: each is in memory until it is stored."""

    def __init__(self) -> None:
        self._count = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """One more of them. Raises `Problem` (`overloaded`)."""
        if self._count >= limits.IMPORT_UPLOADS_MAX:
            raise Problem(OVERLOADED, "Other files are arriving.", retry_after_ms=limits.IMPORT_POLL_MS)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


class MemberWork:
    """The background work of one gateway."""

    def __init__(self, parts: EdgeParts, cold: ColdStore) -> None:
        limits.check_relationships()

        async def knows_all(tenant_id: str) -> bool:
            return await is_fresh(parts.pool, parts.confirmed.confirmed_seq(tenant_id))

        self.names = Names(parts.engine, cold, knows_all)
        self.imports = ImportWork(cold, parts.ids.entity("gw"), parts.clock_ms)
        self.uploads = Uploads()
        self._wanted = {"names": asyncio.Event(), "imports": asyncio.Event()}

    async def run(self) -> None:
        """Works until cancelled; what is being done then is left where it is."""
        tasks = [
            asyncio.create_task(self._run("names", self._all_names)),
            asyncio.create_task(self._run("imports", self._all_imports)),
        ]
        for task in tasks:
            task.add_done_callback(_tell_end)
        await asyncio.gather(*tasks)

    def wake(self) -> None:
        """Tells that there is something to do."""
        for event in self._wanted.values():
            event.set()

    async def _all_names(self) -> int:
        return limits.IMPORT_POLL_MS if await self.names.follow_all() else limits.IMPORT_RETRY_MS

    async def _all_imports(self) -> int:
        while await self.imports.one():
            pass
        return limits.IMPORT_POLL_MS

    async def _run(self, kind: str, work: Callable[[], Awaitable[int]]) -> None:
        """Does what there is, and looks again after as many milliseconds as that says, or when told."""
        wanted = self._wanted[kind]
        while True:
            wanted.clear()
            try:
                wait_ms = await work()
            except StoreUnavailable as error:
                _log.warning("work on members has to wait", kind=kind, error=str(error))
                wait_ms = limits.IMPORT_RETRY_MS
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_ms / 1000):
                    await wanted.wait()


def _tell_end(task: asyncio.Task[None]) -> None:
    """It ends with the gateway only."""
    if not task.cancelled() and task.exception() is not None:
        _log.error("work on members ended", error=repr(task.exception()))
