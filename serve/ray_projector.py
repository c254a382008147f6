"""The Ray actor around `storage.projector.Projector`. It runs at a lower priority: check-ins go before write-behind.

Any number of projectors of one partition does no harm (the position is compared and set), so nothing here guards
against a second one.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import msgspec
import ray
import structlog
from ray.actor import ActorHandle

from serve import log_output, processes
from serve.clocks import wall_clock_ms
from serve.ray_cluster import NAMESPACE
from serve.settings import Settings
from storage.postgres import writer_pool
from storage.projector import Projector, ProjectorStatus
from storage.redis_journal import RedisJournal
from storage.standing_back import MachineLoad

_log = structlog.get_logger(__name__)


class ProjectorReport(msgspec.Struct, frozen=True):
    """What `ProjectorActor.health` answers; `status` is None while it starts."""

    incarnation: str
    pid: int
    beat_age_ms: int
    status: ProjectorStatus | None


class ProjectorActor:
    """One projector process, for every `settings.projectors`-th partition from `number` on."""

    def __init__(self, number: int, settings: Settings) -> None:
        log_output.configure()
        processes.announce(settings.data, "projector")
        os.nice(settings.projector_niceness)
        self._partitions = range(number, settings.partitions, settings.projectors)
        self._settings = settings
        self._incarnation = f"projector-{number}/{os.getpid()}/{time.time_ns()}"
        self._projector: Projector | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(_end_process_on_error)

    async def health(self) -> ProjectorReport:
        """Answered by the projector's own loop, so an answer is a beat."""
        status = None if self._projector is None else self._projector.status()
        return ProjectorReport(self._incarnation, os.getpid(), 0, status)

    async def shutdown(self) -> None:
        """Ends between two transactions."""
        if self._projector is not None:
            await self._projector.stop()

    async def _run(self) -> None:
        settings = self._settings
        assert settings.redis_url is not None
        assert settings.postgres_url is not None
        journal = RedisJournal(settings.redis_url.get_secret_value(), unsafe=settings.unsafe_journal)
        pool = await writer_pool(
            settings.postgres_url.get_secret_value(),
            settings.postgres_connections_per_process,
            is_unsafe_allowed=settings.unsafe_journal,
        )
        self._projector = Projector(journal, pool, self._partitions, wall_clock_ms, MachineLoad().is_busy)
        processes.settle()
        try:
            await self._projector.run()
        finally:
            await journal.close()
            pool.terminate()


def _end_process_on_error(task: asyncio.Task[None]) -> None:
    """A projector whose loop has failed is of no use: Ray replaces the process."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the projector failed", error=repr(error))
        os._exit(1)


def create(number: int, settings: Settings) -> ActorHandle[ProjectorActor]:
    """The projector actor of that number, started if it does not run yet. It outlives whoever calls this."""
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(ProjectorActor)
    handle: ActorHandle[ProjectorActor] = actor.options(
        name=settings.projector_names()[number], namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote(number, settings)
    return handle
