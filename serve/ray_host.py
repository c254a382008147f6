"""The Ray actor around `actors.host.Host`: builds its adapters, opens its listener for the gateways, passes the
supervisor's calls on, and answers for its health.

Rules:
1. `health` runs in a concurrency group (a thread) of its own, so that it answers also while the host's loop is busy,
   and says how long ago that loop last turned.
2. A restarted process is a new incarnation that owns nothing; the supervisor tells it what to adopt.
3. Messages come over sockets (`serve.frame_listener`), not over Ray, whose calls cost a millisecond each. Ray places
   and supervises hosts, and tells where they listen.
4. Calls are never retried by Ray (`max_task_retries=0`): it must not talk to the next process about the one before.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import ray
import structlog
from ray.actor import ActorHandle

from actors.host import Host, HostHealth, PartitionStatus
from serve import log_output, processes, ray_cluster
from serve.clocks import wall_clock_ms
from serve.frame_listener import FrameListener
from serve.frame_wire import HostAddress, wire_key
from serve.live_publisher import RedisPublisher
from serve.ray_cluster import NAMESPACE
from serve.settings import Settings
from storage.postgres import reader_pool
from storage.postgres_store import PostgresStore
from storage.redis_journal import RedisJournal

CALLS_MAX = 1_000
CONTROL_THREADS = 4

_log = structlog.get_logger(__name__)


class HostReport(msgspec.Struct, frozen=True):
    """What `HostActor.health` answers. `beat_age_ms` and `health` tell of the process `incarnation`; `health` is None
    while it starts."""

    incarnation: str
    pid: int
    beat_age_ms: int
    health: HostHealth | None


class HostActor:
    """One host process. Ray runs its methods in one event loop, except those of group "control"."""

    def __init__(self, name: str, settings: Settings) -> None:
        log_output.configure()
        processes.announce(settings.data, "host")
        self._name = name
        self._settings = settings
        self._incarnation = f"{name}/{os.getpid()}/{time.time_ns()}"
        self._started_ms = wall_clock_ms()
        self._host: Host | None = None
        self._listener: FrameListener | None = None
        self._starting: asyncio.Task[Host] = asyncio.get_running_loop().create_task(self._start())
        self._starting.add_done_callback(_end_process_on_error)

    async def address(self) -> HostAddress:
        """Where this process takes messages."""
        await self._started()
        assert self._listener is not None
        return self._listener.address

    async def adopt(self, partitions: Sequence[int]) -> None:
        """Begins to open these partitions; returns at once. Idempotent."""
        host = self._host or await self._started()
        await host.adopt(partitions)

    async def release(self, partitions: Sequence[int]) -> None:
        """Lets what is under way in these partitions finish, and closes them."""
        host = self._host or await self._started()
        await host.release(partitions)

    async def status(self) -> list[PartitionStatus]:
        """The partitions of this host."""
        host = self._host or await self._started()
        return host.status()

    async def state_digests(self, partition: int) -> dict[str, bytes]:
        """For the audit: a digest of every entity in memory."""
        host = self._host or await self._started()
        return await host.state_digests(partition)

    async def shutdown(self) -> None:
        """Answers what is under way, then closes everything. The process stays."""
        host = self._host or await self._started()
        await host.drain()
        assert self._listener is not None
        await self._listener.close()
        await host.stop()

    @ray.method(concurrency_group="control")
    async def health(self) -> HostReport:
        """Answers at once, from another thread than the host's."""
        host = self._host
        health = None if host is None else host.health()
        beat_ms = self._started_ms if health is None else health.beat_ms
        return HostReport(self._incarnation, os.getpid(), max(0, wall_clock_ms() - beat_ms), health)

    async def _started(self) -> Host:
        return await asyncio.shield(self._starting)

    async def _start(self) -> Host:
        settings = self._settings
        assert settings.redis_url is not None
        assert settings.postgres_url is not None
        redis_url = settings.redis_url.get_secret_value()
        publisher = RedisPublisher(redis_url)
        publisher.start()
        pool = await reader_pool(
            settings.postgres_url.get_secret_value(),
            settings.postgres_connections_per_process,
        )
        host = Host(
            self._name,
            RedisJournal(redis_url, unsafe=settings.unsafe_journal),
            PostgresStore(pool),
            publisher,
            wall_clock_ms,
            settings.partitions,
        )
        await host.start()
        self._listener = FrameListener(host, wire_key(settings.secret()), self._incarnation)
        await self._listener.start(ray_cluster.own_ip(settings))
        self._host = host
        processes.settle()
        return host


def _end_process_on_error(starting: asyncio.Task[Host]) -> None:
    """A host that could not start is of no use: Ray replaces the process."""
    if not starting.cancelled() and (error := starting.exception()) is not None:
        _log.error("the host could not start", error=repr(error))
        os._exit(1)


def create(name: str, settings: Settings) -> ActorHandle[HostActor]:
    """The host actor of that name, started if it does not run yet. It outlives whoever calls this."""
    remote: Any = ray.remote  # its types do not know of concurrency groups
    actor = remote(
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=0,
        concurrency_groups={"control": CONTROL_THREADS},
    )(HostActor)
    options: dict[str, Any] = {}
    if settings.host_resource:
        # Hosts take no CPU of Ray's count, and what takes nothing is not spread: a resource of theirs is.
        options = {"resources": {settings.host_resource: 1}, "scheduling_strategy": "SPREAD"}
    handle: ActorHandle[HostActor] = actor.options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_concurrency=CALLS_MAX,
        **options,
    ).remote(name, settings)
    return handle
