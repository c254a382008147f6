"""The long form of `test_every_operation_answers_as_documented`: every operation of the OpenAPI document, thousands of
times, as callers of every kind and as nobody, with ids that exist and with ids that do not.

    python -m tests.conformance.fuzz --cases 100000 [--jobs 2] [--seed N] [--only WORD]

Rules:
1. Each job has a system of its own on stores of its own; the operations are dealt out among the jobs.
2. What ends the caller's session comes last, and what ends an organisation names one that nobody calls from.
3. A finding names the operation and the request; the same seed and jobs find it again. An operation ends with its first
   finding. Exit status 0 only without findings.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from schemathesis.core.failures import FailureGroup

from storage.embedded_postgres import EmbeddedPostgres
from storage.process import free_port
from tests.edge.edge import FakeEdge
from tests.security.clerk import ENDS_THE_ORG, ENDS_THE_SESSION, USES_UP_THE_CALLER
from tests.security.fields import IDS, entry
from tests.security.people import seats_of
from tests.security.surface import Surface
from tests.security.world import MAKERS, World
from tests.support.databases import make_template, temporary_database
from tests.support.document_fuzz import Served, exercise

ENDS_SOMETHING = (*ENDS_THE_SESSION, *USES_UP_THE_CALLER, *ENDS_THE_ORG, "POST /v1/auth/change-password")


@dataclass
class Result:
    """What a job found."""

    statuses: Counter[int] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def name_of(operation: Any) -> str:
    """Such as "GET /v1/orgs"."""
    return f"{operation.method.upper()} {operation.path}"


def dealt(operations: Sequence[Any], job: int, jobs: int, only: str) -> list[Any]:
    """A job's operations, in their order (rule 2)."""
    chosen = [operation for operation in operations if only in name_of(operation)]
    return sorted(chosen[job::jobs], key=lambda operation: name_of(operation) in ENDS_SOMETHING)


async def settled(served: Served) -> World:
    """Two organisations with everything in them."""
    world = World(served.system)
    await world.settle()
    for tenant in world.tenants:
        tenant.seats = await seats_of(world, tenant)
    return world


async def named(world: World, operation: str) -> dict[str, str]:
    """Ids for the names of path parameters."""
    tenant = world.tenants[operation in ENDS_THE_ORG]
    kinds = {name: entry(IDS, operation, name) for name in IDS if " " not in name}
    return {name: await tenant.shared.get(kind) for name, kind in kinds.items() if kind in MAKERS}


def work(job: int, jobs: int, cases: int, seed: int, only: str) -> Result:
    """One job: `cases` for each of its operations."""
    result = Result()
    with tempfile.TemporaryDirectory(prefix="mastervip-fuzz-") as directory:
        server = EmbeddedPostgres(Path(directory), free_port())
        server.start()
        try:
            asyncio.run(_prepared(server.url, job, jobs, cases, seed, only, result))
        finally:
            server.stop()
    return result


async def _prepared(url: str, job: int, jobs: int, cases: int, seed: int, only: str, result: Result) -> None:
    async with temporary_database(url, await make_template(url)) as database:
        await asyncio.to_thread(_fuzz, database, job, jobs, cases, seed, only, result)


def _fuzz(database: str, job: int, jobs: int, cases: int, seed: int, only: str, result: Result) -> None:
    with Served(database) as served:
        world = served.run(settled(served))
        seats = [seat.token for seat in world.tenants[0].seats]
        # Most often somebody who may: else most requests would end at the door.
        tokens = st.sampled_from([*seats, "", *[world.tenants[0].key] * len(seats)])
        operations = dealt(served.operations(), job, jobs, only)
        for number, operation in enumerate(operations, 1):
            name, began_s, before = name_of(operation), time.monotonic(), result.statuses.total()
            ids = served.run(named(world, name))

            def answered(status: int) -> None:
                result.statuses[status] += 1

            try:
                exercise(operation, tokens, cases, ids=ids, number=seed, on_answer=answered)
            except FailureGroup as failure:
                result.findings.append(f"{name}: {[str(each) for each in failure.exceptions]}")
                say(f"FOUND {result.findings[-1]}")
            rate = (result.statuses.total() - before) / (time.monotonic() - began_s)
            say(f"job {job}: {number}/{len(operations)} {name}: {rate:.0f} a second")


def main() -> int:
    """Exit status 0: no answer was other than documented."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000, help="how many in all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="WORD", help="operations with this in their name")
    options = parser.parse_args()
    began_s = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        each = -(-options.cases // operations_count(options.only))
        jobs = [(job, options.jobs, each, options.seed, options.only) for job in range(options.jobs)]
        results = pool.starmap(work, jobs)
    statuses = sum((result.statuses for result in results), Counter())
    findings = [finding for result in results for finding in result.findings]
    say(f"{statuses.total()} cases in {time.monotonic() - began_s:.0f} s: {dict(sorted(statuses.items()))}")
    say(f"{len(findings)} findings" + "".join(f"\n  {finding}" for finding in findings))
    return 1 if findings else 0


def operations_count(only: str) -> int:
    """How many operations the document has with this in their name."""
    return max(1, len([each for each in Surface(FakeEdge().app).operations if only in each.name]))


if __name__ == "__main__":
    sys.exit(main())
