"""The chaos run: processes are killed, one after the other, while clients keep book; then nothing may be missing.

    python -m tests.chaos.run --kills 200 [--seed N] [--data DIR] [--seconds-between S] [--rate R]
    python -m tests.chaos.run --kills 0 --postgres-away-seconds 300 --rate 1000
    python -m tests.chaos.run --kills 0 --zombie-seconds 60

Rules:
1. `kill -9`, of a random process of a random kind, at a random moment, under load on organisations in several
   partitions.
2. After each kill it is measured how long the slowest of the clients waited for its next answer (to a try begun after
   the kill), and when the system was whole again: the process replaced, and in Postgres all that the journal held by
   then. Only after that comes the next kill.
3. At the end the clients' book is audited against journal, memory and Postgres. Exit status 0 only if every invariant
   holds and no client was ever told anything wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import redis as redis_sync
from redis.backoff import NoBackoff
from redis.retry import Retry

from actors.ids import CLOCK_AHEAD_MS_MAX, partition_of
from tests.chaos.load_client import Load
from tests.support.running import Running

KINDS = ("host", "gateway", "projector", "redis", "postgres")
WEIGHTS = (30, 20, 20, 15, 15)
HOSTS = 2
GATEWAYS = 2
ORGANISATIONS = 3
MEMBERS = 90
RATE_DEFAULT = 150.0
RECOVERY_TIMEOUT_S = 90.0
BACK_TIMEOUT_S = 90.0
POLL_S = 0.05
# For so long after a partition was opened, whether a request id is new is looked up in Postgres (`actors.requests`).
SETTLES_S = CLOCK_AHEAD_MS_MAX / 1000 + 2.0

Json = dict[str, Any]


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


class Chaos:
    """A running system under load, and the means to hurt it."""

    def __init__(
        self,
        running: Running,
        organisations: list[Json],
        acks: Path,
        *,
        rate: float,
        seed: int,
        reverses: bool = True,
    ) -> None:
        self.running = running
        self.acks = acks
        self.load = Load(running.base_url, organisations, acks, rate=rate, seed=seed, reverses=reverses)
        self.recoveries: dict[str, list[float]] = defaultdict(list)
        self.mended: dict[str, list[float]] = defaultdict(list)
        self._rng = random.Random(seed)
        found = running.connection()
        self._partitions = found.partitions
        self._postgres_url = found.postgres_url
        self._redis = redis_sync.Redis.from_url(found.redis_url, socket_timeout=2, retry=Retry(NoBackoff(), 0))
        self._expected = {kind: len(pids) for kind, pids in found.pids.items()}
        self._epochs: dict[int, int] = {}

    async def begin(self) -> None:
        """Starts the load, and returns when every card has been brought to memory."""
        self.load.start()
        await self.load.wait_until_all_met(RECOVERY_TIMEOUT_S)
        self.load.tally.mark()
        await self.load.wait_until_answered(RECOVERY_TIMEOUT_S)

    async def settle(self) -> None:
        """Returns once memory alone is enough for what the clients ask: since every partition was opened, all cards
        were brought to memory, and request ids are younger than that. A host that stood still for a second just before
        would otherwise make a test of Postgres' absence one of a failover in it."""
        while (epochs := await self._asked(self.epochs)) != self._epochs:
            self._epochs = epochs
            self.load.meet_all_again()
            await asyncio.sleep(SETTLES_S)
            await self.load.wait_until_all_met(RECOVERY_TIMEOUT_S)

    async def kill(self, kind: str) -> None:
        """Kills one process of a kind, and waits until the system is whole again."""
        pid = self._rng.choice(await asyncio.to_thread(self.running.pids, kind))
        await asyncio.sleep(self._rng.uniform(0, 0.2))
        self.load.tally.mark()
        killed_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        waited_s = await self.load.wait_until_answered(RECOVERY_TIMEOUT_S)
        self.recoveries[kind].append(waited_s)
        await self._wait_until_back(kind, pid)
        mended_s = await self.wait_until_projected() - killed_s
        self.mended[kind].append(mended_s)
        say(f"{kind:9} {pid:7}  answered after {waited_s:6.3f} s, whole again after {mended_s:6.3f} s")

    async def _wait_until_back(self, kind: str, killed_pid: int) -> None:
        deadline_s = time.monotonic() + BACK_TIMEOUT_S
        while True:
            pids = self.running.connection().pids[kind]
            if killed_pid not in pids and len(pids) >= self._expected[kind]:
                return
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{kind} {killed_pid} was not replaced within {BACK_TIMEOUT_S} s: there are {pids}")
            self.load.check()
            await asyncio.sleep(POLL_S)

    async def wait_until_projected(self) -> float:
        """Waits until Postgres holds all that the journal held a moment ago; returns when that was seen."""
        deadline_s = time.monotonic() + BACK_TIMEOUT_S
        goal = await self._asked(self.written)
        while True:
            held = await self._asked(self.projected)
            behind = {
                number: goal[number] - held.get(number, 0) for number in goal if goal[number] > held.get(number, 0)
            }
            if not behind:
                return time.monotonic()
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"Postgres stays behind by {behind} entries")
            await asyncio.sleep(POLL_S)

    async def _asked(self, question: Any) -> dict[int, int]:
        """The answer of a store that may be away just now."""
        deadline_s = time.monotonic() + BACK_TIMEOUT_S
        while True:
            try:
                answer: dict[int, int] = await question()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, redis_sync.RedisError):
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(POLL_S)
            else:
                return answer

    async def written(self) -> dict[int, int]:
        """The journal's last seq by partition."""
        return await self._fences("seq")

    async def epochs(self) -> dict[int, int]:
        """The epoch by partition: it changes when the partition is opened."""
        return await self._fences("epoch")

    async def _fences(self, name: str) -> dict[int, int]:
        def read() -> dict[int, int]:
            keys = {number: f"mv:{{p{number:02d}}}:fence" for number in range(self._partitions)}
            return {number: int(self._redis.hget(key, name) or 0) for number, key in keys.items()}  # type: ignore[arg-type]

        return await asyncio.to_thread(read)

    async def projected(self) -> dict[int, int]:
        """Postgres' position by partition."""
        session = await asyncpg.connect(self._postgres_url, timeout=2)
        try:
            rows = await session.fetch("SELECT partition_id, seq FROM positions", timeout=2)
        finally:
            session.terminate()
        return {row["partition_id"]: row["seq"] for row in rows}

    async def run(self, kills: int, seconds_between: float) -> None:
        """The kills. Every kind comes in turn at first, so that a short run has them all."""
        kinds = list(KINDS) if kills >= len(KINDS) else []
        self._rng.shuffle(kinds)
        kinds += self._rng.choices(KINDS, WEIGHTS, k=kills - len(kinds))
        for number, kind in enumerate(kinds, 1):
            await asyncio.sleep(self._rng.uniform(0.2, 1.8) * seconds_between)
            say(f"kill {number} of {kills}: {self.load.tally.acked} acknowledged so far")
            await self.kill(kind)

    async def zombie(self, seconds: float) -> Json:
        """Stops the owner of the first organisation's partition for a while; somebody else takes over meanwhile."""
        partition = partition_of(self.load.workers[0].tenant, self._partitions)
        name, pid = await asyncio.to_thread(self.running.owner, partition)
        self.load.tally.mark()
        os.kill(pid, signal.SIGSTOP)
        try:
            waited_s = await self.load.wait_until_answered(RECOVERY_TIMEOUT_S)
            self.recoveries["zombie"].append(waited_s)
            say(f"{name} ({pid}) stands still; answered after {waited_s:.3f} s")
            await asyncio.sleep(max(0.0, seconds - waited_s))
        finally:
            os.kill(pid, signal.SIGCONT)
        successor, _ = await asyncio.to_thread(self.running.owner, partition)
        await asyncio.sleep(2.0)
        return {"zombie": name, "successor": successor, "partition": partition, "answered_after_s": waited_s}

    async def postgres_away(self, seconds: float) -> Json:
        """Stops Postgres, with all its processes, for a while. Check-ins go on; write-behind catches up afterwards."""
        await self.settle()
        trouble_before, acked_before = sum(self.load.tally.trouble.values()), self.load.tally.acked
        async with self._without_postgres():
            self.load.tally.mark()
            await self.load.wait_until_answered(RECOVERY_TIMEOUT_S)
            await asyncio.sleep(seconds)
        acked = self.load.tally.acked - acked_before
        back_s = time.monotonic()
        drained_s = await self.wait_until_projected() - back_s
        figures = {
            "away_s": seconds,
            "acked_meanwhile": acked,
            "trouble": sum(self.load.tally.trouble.values()) - trouble_before,
            "drained_s": round(drained_s, 2),
            "drained_times_faster": round(seconds / max(drained_s, 0.001), 1),
        }
        say(f"Postgres away: {figures}")
        return figures

    async def silence_without_postgres(self, seconds: float) -> Json:
        """While Postgres is away, the owner of the first organisation's partition stands still for a while."""
        await self.settle()
        partition = partition_of(self.load.workers[0].tenant, self._partitions)
        name, pid = await asyncio.to_thread(self.running.owner, partition)
        async with self._without_postgres():
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(pid, signal.SIGCONT)
            self.load.tally.mark()
            waited_s = await self.load.wait_until_answered(RECOVERY_TIMEOUT_S)
            later, _ = await asyncio.to_thread(self.running.owner, partition)
        await self.wait_until_projected()
        return {"silent": name, "owner_later": later, "answered_after_s": waited_s}

    @asynccontextmanager
    async def _without_postgres(self) -> AsyncIterator[None]:
        """Postgres, with all its processes, stands still meanwhile."""
        tree = await asyncio.to_thread(lambda: self.running.tree(self.running.pids("postgres")[0]))
        for pid in tree:
            _send(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(tree):
                _send(pid, signal.SIGCONT)

    async def end(self) -> Json:
        """Stops the load and audits. Returns the audit's document with the clients' figures."""
        await self.load.stop()
        document = await asyncio.to_thread(self.running.audit, self.acks)
        tally = self.load.tally
        ordered = sorted(tally.latencies_s)
        return document | {
            "acked": tally.acked,
            "tries": tally.tries,
            "replayed": tally.replayed,
            "trouble": dict(tally.trouble),
            "wrong": tally.wrong[:20],
            "latency_p50_ms": round(ordered[len(ordered) // 2] * 1000, 1),
            "latency_p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 1),
            "latency_max_ms": round(ordered[-1] * 1000, 1),
            "slowest": tally.slowest[1],
        }

    def table(self) -> str:
        """Recovery times by kind."""
        lines = [
            f"{'killed':9} {'times':>5} {'median s':>9} {'p99 s':>9} {'max s':>9} {'whole again: med':>20} {'max s':>8}"
        ]
        for kind, waits in sorted(self.recoveries.items()):
            ordered = sorted(waits)
            p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
            mended = self.mended.get(kind) or [0.0]
            lines.append(
                f"{kind:9} {len(waits):5} {statistics.median(waits):9.3f} {p99:9.3f} {ordered[-1]:9.3f} "
                f"{statistics.median(mended):20.3f} {max(mended):8.3f}"
            )
        return "\n".join(lines)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # a backend that ended by itself


def verdict(document: Json) -> list[str]:
    """What is wrong with the outcome; nothing if all is well."""
    wrong = [f"{finding['check']}: {finding['detail']}" for finding in document["findings"]]
    wrong += [f"told: {text}" for text in document["wrong"]]
    if not document["ok"] and not wrong:
        wrong.append(f"the audit failed: {document}")
    return wrong


async def chaos(options: argparse.Namespace, directory: Path) -> int:
    """The whole run."""
    with Running(directory / "data", hosts=HOSTS, gateways=GATEWAYS) as running:
        say(f"a system on {running.data}, seed {options.seed}")
        organisations = running.organisations(ORGANISATIONS, MEMBERS)
        run = Chaos(
            running,
            organisations,
            directory / "acks.jsonl",
            rate=options.rate,
            seed=options.seed,
            reverses=not options.postgres_away_seconds,
        )
        begun_s = time.monotonic()
        stuck: list[str] = []
        try:
            await run.begin()
            if options.zombie_seconds:
                say(str(await run.zombie(options.zombie_seconds)))
            if options.postgres_away_seconds:
                await run.postgres_away(options.postgres_away_seconds)
            await run.run(options.kills, options.seconds_between)
        except TimeoutError as error:
            stuck.append(f"stuck: {error}")  # the audit may tell why
        took_s = time.monotonic() - begun_s
        document = await run.end()
    wrong = [*stuck, *verdict(document)]
    say(run.table())
    say(
        f"{document['acked']} commands acknowledged in {took_s:.0f} s, {document['tries']} tries, "
        f"{document['replayed']} replayed; latency p50 {document['latency_p50_ms']} ms, "
        f"p99 {document['latency_p99_ms']} ms, max {document['latency_max_ms']} ms"
    )
    say(f"trouble on the way: {document['trouble']}")
    say(f"audit: {document['entries']} entries, {document['facts']} facts, {document['live_actors']} actors in memory")
    for text in wrong:
        say(f"WRONG {text}")
    say("nothing lost, nothing twice" if not wrong else f"NOT ALL WELL; seed {options.seed}, kept in {directory}")
    return 1 if wrong else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description="Kill processes under load, audit.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seconds-between", type=float, default=0.5, help="mean pause before a kill")
    parser.add_argument("--rate", type=float, default=RATE_DEFAULT, help="commands a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--data", type=Path, help="where to work, kept afterwards; else a temporary directory")
    parser.add_argument(
        "--zombie-seconds", type=float, default=0.0, help="first stop the owner of a partition for so long"
    )
    parser.add_argument("--postgres-away-seconds", type=float, default=0.0, help="first stop Postgres for so long")
    options = parser.parse_args()
    if options.data is not None:
        options.data.mkdir(parents=True, exist_ok=True)
        return asyncio.run(chaos(options, options.data))
    with tempfile.TemporaryDirectory(prefix="mv-chaos-", ignore_cleanup_errors=True) as directory:
        return asyncio.run(chaos(options, Path(directory)))


if __name__ == "__main__":
    sys.exit(main())
