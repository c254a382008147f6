"""The Ray actor that decides which host owns which partition, and keeps hosts and projectors running.

Rules:
1. `serve.placement` decides; this is the shell: it watches, writes the decision to Redis, announces it and carries it
   out. Every host is told over and over what it should own and does not, so a lost call heals by itself.
2. The decision is written before it is carried out, except that live hosts first let go of what moves away. So after
   its own restart the supervisor goes on from what is stored.
3. A host process that was replaced has lost its partitions: it counts as dead for one decision, so that they go to the
   warm standby while it warms up.
4. Nobody can open a partition while Postgres is away. So by then a host that is merely silent keeps what it has, and
   nothing is moved to level loads.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Set
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import ray
import structlog
from ray.actor import ActorHandle
from ray.exceptions import RayError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from actors.host import PartitionStatus
from gateway.ports import Placement
from serve import log_output, placement, ray_host, ray_projector
from serve.actor_watch import ActorWatch
from serve.clocks import wall_clock_ms
from serve.ray_cluster import NAMESPACE
from serve.ray_host import HostReport
from serve.ray_projector import ProjectorReport
from serve.settings import Settings
from serve.system_status import STATUS_KEY, HostLine, PartitionLine, ProjectorLine, SystemStatus
from storage import postgres
from storage.tasks import ended

NAME = "supervisor"
PLACEMENT_KEY = "mv:placement"
PLACEMENT_CHANNEL = "mv:placement"
ADOPT_AGAIN_AFTER_S = 1.0
REDIS_TIMEOUT_S = 1.0
POSTGRES_TIMEOUT_S = 1.0
MOVE_TIMEOUT_S = 10.0
MOVE_POLL_S = 0.02
# A resource that Ray gives the head node, 1 of it (ray._common.constants.HEAD_NODE_RESOURCE_NAME).
HEAD_NODE = "node:__internal_head__"
HEAD_NODE_PART = 0.001

_log = structlog.get_logger(__name__)


class Moved(msgspec.Struct, frozen=True):
    """What became of a move: how long it took until the partition was open at its target; `error` if it is not."""

    partition: int
    target: str
    took_ms: int
    error: str = ""


class SupervisorActor:
    """One per system. Ray runs it in one event loop; its work goes on in tasks."""

    def __init__(self, settings: Settings) -> None:
        log_output.configure()
        assert settings.redis_url is not None
        self._settings = settings
        self._redis = Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
        )
        self._changed = asyncio.Event()
        self._hosts: dict[str, ActorWatch[HostReport]] = {
            name: ActorWatch(name, partial(ray_host.create, name, settings), settings, self._changed.set)
            for name in settings.host_names()
        }
        self._projectors: dict[str, ActorWatch[ProjectorReport]] = {
            name: ActorWatch(name, partial(ray_projector.create, number, settings), settings, lambda: None)
            for number, name in enumerate(settings.projector_names())
        }
        self._placement: Placement | None = None
        self._is_first_decision = True
        self._deciding = asyncio.Lock()
        self._started_s = self._changed_s = time.monotonic()
        self._known_incarnations: dict[str, str] = {}
        self._adopted_at_s: dict[str, float] = {}
        self._partitions: dict[str, list[PartitionStatus]] = {}
        works = [watch.run() for watch in self._watches()]
        works += [self._decide_forever(), self._report_forever()]
        self._tasks = [asyncio.get_running_loop().create_task(work) for work in works]
        for task in self._tasks:
            task.add_done_callback(_end_process_on_error)

    async def status(self) -> SystemStatus:
        """What is known now."""
        return self._status()

    async def move(self, partition: int, target: str) -> Moved:
        """Gives a partition to a host, for as long as that lives; `target` "" ends that. Returns once it is open there,
        or says why not. The old owner finishes what is under way first; what comes meanwhile is asked again."""
        begun_s = time.monotonic()
        live = {name for name, watch in self._hosts.items() if watch.is_alive}
        async with self._deciding:
            try:
                await self._carry_out(placement.moved(self._placement, partition, target, live), live)
            except (ValueError, RedisError, OSError) as error:
                return Moved(partition, target, 0, str(error))
        placed_s = time.monotonic()
        self._reconcile()
        while target and not self._is_open(partition, target, placed_s):
            if time.monotonic() - begun_s > MOVE_TIMEOUT_S:
                return Moved(partition, target, 0, f"{target} has not opened it within {MOVE_TIMEOUT_S:.0f} s")
            await asyncio.sleep(MOVE_POLL_S)
        return Moved(partition, target, round((time.monotonic() - begun_s) * 1000))

    def _is_open(self, partition: int, host: str, since_s: float) -> bool:
        """Whether a host has told since then that it has a partition open."""
        watch = self._hosts[host]
        if watch.reported_at_s <= since_s or watch.report is None or watch.report.health is None:
            return False
        return watch.report.health.partitions.get(partition) == "open"

    async def shutdown(self) -> None:
        """Stops watching, drains and ends projectors and hosts. Call it once the gateways are gone."""
        await ended(*self._tasks)
        timeout_s = self._settings.drain_timeout_s
        for names in (self._hosts, self._projectors):
            alive = [watch for watch in self._watches() if watch.name in names and watch.is_alive]
            await asyncio.gather(*(_called(watch.handle.shutdown.remote(), timeout_s, watch.name) for watch in alive))
        for watch in self._watches():
            if watch.handle is not None:
                ray.kill(watch.handle, no_restart=True)
        await self._redis.aclose()

    def _watches(self) -> list[ActorWatch[Any]]:
        return [*self._hosts.values(), *self._projectors.values()]

    # --- deciding -----------------------------------------------------------------------------------------------------

    async def _decide_forever(self) -> None:
        while True:
            try:
                self._placement = await self._stored_placement()
                break
            except (RedisError, OSError) as error:
                _log.warning("the placement cannot be read yet", error=str(error))
                await asyncio.sleep(self._settings.health_interval_ms / 1000)
        while True:
            try:
                async with self._deciding:
                    await self._decide()
            except (RedisError, OSError) as error:
                _log.warning("the placement cannot be written", error=str(error))
            self._reconcile()
            await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        try:
            async with asyncio.timeout(self._settings.health_interval_ms / 1000):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()
        self._changed_s = time.monotonic()

    async def _decide(self) -> None:
        live = self._live_hosts()
        now_s = time.monotonic()
        is_waiting = now_s - self._started_s < self._settings.start_grace_ms / 1000
        if self._is_first_decision and (not live or (is_waiting and len(live) < len(self._hosts))):
            return  # hosts are still starting: what is stored for them need not move
        is_steady = now_s - self._changed_s > self._settings.rebalance_after_ms / 1000
        following = self._following(live, may_rebalance=self._is_first_decision or is_steady)
        if self._placement is not None and following is not self._placement:
            silent = {name for name, watch in self._hosts.items() if watch.is_silent}
            patient = self._following(live | silent, may_rebalance=False)
            if patient != following and not await self._can_open():
                following = patient
        if following is None:
            return
        if following is not self._placement:
            await self._carry_out(following, live)
        self._is_first_decision = False

    def _following(self, live: Set[str], *, may_rebalance: bool) -> Placement | None:
        settings = self._settings
        return placement.next_placement(
            self._placement, live, settings.hosts, settings.partitions, may_rebalance=may_rebalance
        )

    async def _can_open(self) -> bool:
        """Whether Postgres answers (rule 4)."""
        assert self._settings.postgres_url is not None
        if await postgres.is_answering(self._settings.postgres_url.get_secret_value(), POSTGRES_TIMEOUT_S):
            return True
        _log.warning("Postgres is away: nothing moves but what a dead host had")
        return False

    def _live_hosts(self) -> Set[str]:
        """The hosts to count on; of those that were replaced since the last decision, rule 3."""
        live = {name: watch.report for name, watch in self._hosts.items() if watch.is_alive and watch.report}
        replaced = {
            name
            for name, report in live.items()
            if self._known_incarnations.get(name, report.incarnation) != report.incarnation
        }
        self._known_incarnations.update({name: report.incarnation for name, report in live.items()})
        return live.keys() - replaced or set(live)

    async def _carry_out(self, following: Placement, live: Collection[str]) -> None:
        moves = placement.moves(self._placement, following, live)
        sources = sorted({move.source for move in moves if move.source})
        timeout_s = self._settings.release_timeout_ms / 1000
        await asyncio.gather(
            *(
                _called(
                    self._hosts[source].handle.release.remote([m.partition for m in moves if m.source == source]),
                    timeout_s,
                    source,
                )
                for source in sources
            )
        )
        encoded = msgspec.json.encode(following)
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(PLACEMENT_KEY, encoded)
            pipeline.publish(PLACEMENT_CHANNEL, encoded)
            await pipeline.execute()
        _log.warning("placement changed", version=following.version, hosts=following.hosts)
        self._placement = following
        self._adopted_at_s.clear()

    def _reconcile(self) -> None:
        """Tells every live host to adopt what it should own and does not, and to release what it should not own."""
        if self._placement is None or self._is_first_decision:
            return
        now_s = time.monotonic()
        for name, watch in self._hosts.items():
            if not watch.is_alive or watch.report is None or watch.report.health is None:
                continue
            told_at_s = self._adopted_at_s.get(name, 0.0)
            if told_at_s and (now_s - told_at_s < ADOPT_AGAIN_AFTER_S or watch.reported_at_s < told_at_s):
                continue
            held = {number for number, state in watch.report.health.partitions.items() if state != "closed"}
            assigned = set(self._placement.hosts.get(name, ()))
            if assigned - held:
                self._adopted_at_s[name] = now_s
                self._tell(watch, "adopt", sorted(assigned - held))
            if held - assigned:
                self._adopted_at_s[name] = now_s
                self._tell(watch, "release", sorted(held - assigned))

    def _tell(self, watch: ActorWatch[HostReport], what: str, partitions: list[int]) -> None:
        call = getattr(watch.handle, what).remote(partitions)
        task = asyncio.create_task(_called(call, self._settings.health_timeout_ms / 1000, watch.name))
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _stored_placement(self) -> Placement | None:
        stored = await self._redis.get(PLACEMENT_KEY)
        return None if stored is None else msgspec.json.decode(stored, type=Placement)

    # --- reporting ----------------------------------------------------------------------------------------------------

    async def _report_forever(self) -> None:
        while True:
            await asyncio.gather(*(self._ask_partitions(watch) for watch in self._hosts.values() if watch.is_alive))
            with suppress(RedisError, OSError):  # whoever reads the status sees by its time that it is old
                await self._redis.set(STATUS_KEY, msgspec.json.encode(self._status()))
            await asyncio.sleep(self._settings.status_interval_ms / 1000)

    async def _ask_partitions(self, watch: ActorWatch[HostReport]) -> None:
        answer = await _called(watch.handle.status.remote(), self._settings.health_timeout_ms / 1000, watch.name)
        if answer is not None:
            self._partitions[watch.name] = answer

    def _status(self) -> SystemStatus:
        owners = {p: name for name, ps in (self._placement.hosts if self._placement else {}).items() for p in ps}
        figures = {(name, p.number): p for name, partitions in self._partitions.items() for p in partitions}
        lines = [
            PartitionLine(number, owner, figures.get((owner, number)) if self._hosts[owner].is_alive else None)
            for number in range(self._settings.partitions)
            if (owner := owners.get(number, "")) in self._hosts
        ]
        return SystemStatus(
            at_ms=wall_clock_ms(),
            placement_version=self._placement.version if self._placement else 0,
            partition_count=self._settings.partitions,
            hosts=[
                HostLine(name, watch.is_alive, watch.report.pid if watch.report else 0, _count(owners, name))
                for name, watch in self._hosts.items()
            ],
            partitions=lines,
            projectors=[
                ProjectorLine(
                    name,
                    watch.is_alive,
                    watch.report.pid if watch.report else 0,
                    watch.report.status if watch.report else None,
                )
                for name, watch in self._projectors.items()
            ],
        )


Handle = ActorHandle[SupervisorActor]


def ask_status(supervisor: Handle, timeout_s: float) -> SystemStatus:
    """What the supervisor knows now. Raises `RayError`."""
    call: Any = supervisor.status  # Ray's types lose the answer's
    status: SystemStatus = ray.get(call.remote(), timeout=timeout_s)
    return status


def ask_move(supervisor: Handle, partition: int, target: str) -> Moved:
    """See `SupervisorActor.move`. Raises `RayError`."""
    call: Any = supervisor.move
    moved: Moved = ray.get(call.remote(partition, target), timeout=2 * MOVE_TIMEOUT_S)
    return moved


def _count(owners: dict[int, str], name: str) -> int:
    return sum(1 for owner in owners.values() if owner == name)


async def _called(ref: Any, timeout_s: float, name: str) -> Any:
    """The answer to a call, None (and a line in the log) when there is none."""
    try:
        async with asyncio.timeout(timeout_s):
            return await ref
    except (RayError, TimeoutError) as error:
        _log.warning("a call failed", actor=name, error=type(error).__name__)
        return None


def _end_process_on_error(task: asyncio.Task[None]) -> None:
    """A supervisor that does half of its work is worse than one that Ray starts again."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the supervisor failed", error=repr(error))
        os._exit(1)


def create(settings: Settings) -> Handle:
    """The supervisor, started if it does not run yet. It outlives whoever calls this."""
    # On the head node: without that nobody could replace it, and another node takes it with it when it dies.
    actor: Any = ray.remote(num_cpus=0, resources={HEAD_NODE: HEAD_NODE_PART}, max_restarts=-1, max_task_retries=0)(
        SupervisorActor
    )
    handle: Handle = actor.options(name=NAME, namespace=NAMESPACE, lifetime="detached", get_if_exists=True).remote(
        settings
    )
    return handle
