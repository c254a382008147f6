"""What a gateway does for members and their cards in the background: names to cards, imports, batches of cards.

Rules:
1. What there is to do stands in Postgres, so any gateway can do it, and what a dead one left is taken up by another
   (`JOB_POLL_MS`). `wake` only makes it sooner.
2. Nothing here is lost or done twice by an outage: what fails is tried again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import structlog

from actors.ports import StoreUnavailable
from actors.refusals import OVERLOADED
from gateway import limits
from gateway.card_batches.work import CardBatchWork
from gateway.cold import ColdStore
from gateway.members import limits as member_limits
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
        if self._count >= member_limits.IMPORT_UPLOADS_MAX:
            raise Problem(OVERLOADED, "Other files are arriving.", retry_after_ms=limits.JOB_POLL_MS)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


class MemberWork:
    """The background work of one gateway."""

    def __init__(self, parts: EdgeParts, cold: ColdStore) -> None:
        member_limits.check_relationships()
        self.names = Names(parts.engine, cold, parts.freshness.is_fresh)
        holder = parts.ids.entity("gw")
        self.imports = ImportWork(cold, holder, parts.clock_ms)
        self.card_batches = CardBatchWork(cold, holder, parts.clock_ms, parts.engine, parts.ids)
        self.uploads = Uploads()
        self._wanted = {"names": asyncio.Event(), "imports": asyncio.Event(), "card batches": asyncio.Event()}

    async def run(self) -> None:
        """Works until cancelled; what is being done then is left where it is."""
        tasks = [
            asyncio.create_task(self._run("names", self._all_names)),
            asyncio.create_task(self._run("imports", partial(_all, self.imports.one))),
            asyncio.create_task(self._run("card batches", partial(_all, self.card_batches.one))),
        ]
        for task in tasks:
            task.add_done_callback(_tell_end)
        await asyncio.gather(*tasks)

    def wake(self) -> None:
        """Tells that there is something to do."""
        for event in self._wanted.values():
            event.set()

    async def _all_names(self) -> int:
        return limits.JOB_POLL_MS if await self.names.follow_all() else limits.JOB_RETRY_MS

    async def _run(self, kind: str, work: Callable[[], Awaitable[int]]) -> None:
        """Does what there is, and looks again after as many milliseconds as that says, or when told."""
        wanted = self._wanted[kind]
        while True:
            wanted.clear()
            try:
                wait_ms = await work()
            except StoreUnavailable as error:
                _log.warning("work on members has to wait", kind=kind, error=str(error))
                wait_ms = limits.JOB_RETRY_MS
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_ms / 1000):
                    await wanted.wait()


async def _all(one: Callable[[], Awaitable[bool]]) -> int:
    while await one():
        pass
    return limits.JOB_POLL_MS


def _tell_end(task: asyncio.Task[None]) -> None:
    """It ends with the gateway only."""
    if not task.cancelled() and task.exception() is not None:
        _log.error("work on members ended", error=repr(task.exception()))
