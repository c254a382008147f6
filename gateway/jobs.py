"""Work that a request leaves behind: stored with it, done row by row by whichever gateway holds its lease.

Rules:
1. Everything that is decided is in Postgres; what is in memory can be lost at any moment.
2. Whoever works on a job holds its lease, by Postgres' clock, and moves `done` only from where it was and under that
   lease (`advance`), in the transaction of what was done. So each row counts once, whoever is killed, or sleeps and
   believes to hold the lease.
3. An organisation has one job of a kind under way at a time (an index of the job's table).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final, Generic, Literal, TypeVar

import msgspec
import structlog

from actors.ports import StoreUnavailable
from gateway import limits
from gateway.cold import ColdStore
from storage.postgres import DATA_FAULTS, Connection

JobState = Literal["queued", "running", "done", "cancelled", "failed"]
OPEN: Final = "state IN ('queued', 'running')"
NOW_MS: Final = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_FREE: Final = f"(lease_until_ms < {NOW_MS} OR lease_holder = {{}})"
_log = structlog.get_logger(__name__)


class Leased(msgspec.Struct, frozen=True):
    """A job to be worked on, and from which row on."""

    tenant_id: str
    job_id: str
    done: int


Lease = TypeVar("Lease", bound=Leased)


class LeaseLost(Exception):
    """The job was cancelled, or another gateway works on it now."""


class JobTable(msgspec.Struct, Generic[Lease], frozen=True):
    """Where jobs of a kind are kept; `key` is the column of their ids. A lease is of the type `lease_type`, whose
    further fields are columns of the same names; taking one also sets `on_lease`."""

    name: str
    key: str
    lease_type: type[Lease]
    on_lease: str = ""

    async def lease(self, connection: Connection, holder: str) -> Lease | None:
        """A job, of whichever organisation, that nobody else works on, for `JOB_LEASE_MS`; None if there is none."""
        free = await connection.fetch(
            f"SELECT tenant_id, {self.key} FROM {self.name} WHERE {OPEN} AND {_FREE.format('$1')} "
            "ORDER BY created_at_ms LIMIT $2",
            holder,
            limits.JOB_CANDIDATES,
        )
        more = "".join(f", {name}" for name in self.lease_type.__struct_fields__[3:])
        for tenant_id, job_id in free:
            # Others may ask at the same time: the first to write it has it.
            row = await connection.fetchrow(
                f"UPDATE {self.name} SET state = 'running', lease_holder = $3, lease_until_ms = {NOW_MS} + $4"
                f"{self.on_lease} WHERE tenant_id = $1 AND {self.key} = $2 AND {OPEN} AND {_FREE.format('$3')} "
                f"RETURNING tenant_id, {self.key}, done{more}",
                tenant_id,
                job_id,
                holder,
                limits.JOB_LEASE_MS,
            )
            if row is not None:
                return self.lease_type(*row)
        return None

    async def give_back(self, connection: Connection, leased: Leased, holder: str, after_ms: int = 0) -> None:
        """Ends the lease, so that another gateway may go on at once, or anyone after `after_ms`."""
        await connection.execute(
            f"UPDATE {self.name} SET lease_holder = '', lease_until_ms = {NOW_MS} - 1 + $4 "
            f"WHERE tenant_id = $1 AND {self.key} = $2 AND lease_holder = $3",
            leased.tenant_id,
            leased.job_id,
            holder,
            after_ms,
        )

    async def advance(
        self, connection: Connection, leased: Leased, holder: str, done: int, counted: dict[str, int]
    ) -> bool:
        """Rule 2: from `leased.done` to `done`, the lease anew, and the columns of `counted` higher by as much. False
        where that is not so any more: whoever calls has to roll back."""
        columns = "".join(f", {name} = {name} + ${number}" for number, name in enumerate(counted, 7))
        status = await connection.execute(
            f"UPDATE {self.name} SET done = $4, lease_until_ms = {NOW_MS} + $5{columns} WHERE tenant_id = $1 "
            f"AND {self.key} = $2 AND state = 'running' AND lease_holder = $3 AND done = $6",
            leased.tenant_id,
            leased.job_id,
            holder,
            done,
            limits.JOB_LEASE_MS,
            leased.done,
            *counted.values(),
        )
        return status == "UPDATE 1"

    async def end(
        self, connection: Connection, tenant_id: str, job_id: str, state: JobState, at_ms: int, reason: str = ""
    ) -> bool:
        """Ends a job that is under way; False if it has ended already."""
        status = await connection.execute(
            f"UPDATE {self.name} SET state = $3, finished_at_ms = $4, reason = $5 "
            f"WHERE tenant_id = $1 AND {self.key} = $2 AND {OPEN}",
            tenant_id,
            job_id,
            state,
            at_ms,
            reason,
        )
        return status == "UPDATE 1"


class JobWork(ABC, Generic[Lease]):
    """Works on jobs of a kind as `holder`, a name that no other gateway has."""

    table: JobTable[Lease]
    FAULTS: ClassVar[tuple[type[Exception], ...]] = DATA_FAULTS  # what would fail again, always

    def __init__(self, cold: ColdStore, holder: str, clock_ms: Callable[[], int]) -> None:
        self._cold = cold
        self._holder = holder
        self._clock_ms = clock_ms

    async def one(self) -> bool:
        """Takes up a job and works on it to its end; False when there is none. Raises `StoreUnavailable`."""
        async with self._cold.connection() as connection:
            leased = await self.table.lease(connection, self._holder)
        if leased is None:
            return False
        try:
            await self._work(leased)
        except LeaseLost:
            _log.info("job given up", kind=self.table.name, job_id=leased.job_id)
        except self.FAULTS as error:
            _log.error("job failed", kind=self.table.name, job_id=leased.job_id, error=repr(error))
            await self._end(leased, "failed", "Some of the rows cannot be stored.")
        except StoreUnavailable:
            # What is missing may be missing for this organisation only: the others' jobs go first.
            async with self._cold.connection() as connection:
                await self.table.give_back(connection, leased, self._holder, limits.JOB_RETRY_MS)
        except asyncio.CancelledError:
            async with self._cold.connection() as connection:
                await self.table.give_back(connection, leased, self._holder)
            raise
        return True

    @abstractmethod
    async def _work(self, leased: Lease) -> None:
        """Works on it to its end. Raises `LeaseLost`, `StoreUnavailable`."""

    @abstractmethod
    async def _end(self, leased: Lease, state: JobState, reason: str = "") -> None:
        """Ends it."""
