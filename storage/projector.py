"""The projector: carries a partition's journal into Postgres, entry by entry, exactly once.

For each of its partitions, over and over: read the entries after the mark, verify their chain, turn them into rows
(`storage.rows`), write rows and mark in one transaction (`storage.row_writer`), tell the writer how far Postgres is,
trim.

Rules:
1. Postgres' position is the truth. After any failure whose outcome is not certain (a COMMIT without an answer above
   all) the mark is read again; nothing goes on from a guess.
2. Several projectors of one partition do no harm: compare-and-set lets one transaction through, the others read the
   mark again.
3. An entry that cannot be projected halts its partition before it; it is reported, never skipped. What comes before it
   in the same batch is projected.
4. An outage is waited for with growing pauses. The loop ends only by `stop`.
5. The journal is trimmed up to the committed position, never beyond.
6. In a rush the doors come first: see `storage.standing_back`.
7. Partitions at rest ask nothing: one question for all of them finds those whose journal has grown.
8. While Postgres writes one transaction, the rows of the next are made. They are dropped if that one fails.

What happens to a partition on an error is decided in `_Course.step` and `Projector._drive`:

| error                                            | then                                                             |
|--------------------------------------------------|------------------------------------------------------------------|
| chain broken, entry undecodable, row contradicts | what comes before is projected, then halt                        |
| Postgres refuses the data of a batch             | its entries one at a time; the one refused alone: halt           |
| `JournalCorrupt`                                 | halt                                                             |
| `JournalGap`                                     | read the mark again; a second gap at that mark: halt             |
| position moved by another projector              | read the mark again, after a pause                               |
| Postgres or journal away, or an answer is lost   | read the mark again, after a growing pause                       |
| anything else (a bug)                            | halt, with the exception as reason                               |
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
import structlog

from actors.entry import Entry, Mark, is_intact
from actors.ports import Journal, JournalCorrupt, JournalError, JournalGap
from storage.postgres import DATA_FAULTS, OUTAGES, Pool
from storage.row_batch import RowBatch
from storage.row_steps import Step, steps
from storage.row_writer import PositionLost, write
from storage.rows import PoisonEntry, add, rows_of
from storage.standing_back import pause_s
from storage.tasks import ended

FACTS_PER_TRANSACTION_MAX = 5_000
BYTES_PER_TRANSACTION_MAX = 4_000_000
ENTRIES_PER_READ_MAX = 500
ENTRIES_PER_READ_FIRST = 20
# A transaction costs about 3 ms of CPU whatever it holds, so it is worth letting entries gather: at low load for a
# moment, longer the more partitions are busy, and at high load until a transaction is worth its cost.
GATHER_S = 0.02
GATHER_S_MAX = 0.25
TRANSACTIONS_PER_S_MAX = 80
FACTS_PER_S_HIGH = 2_000
FACTS_PER_TRANSACTION_AIM = 4_000
# How often all journals are asked for news, and how often a partition looks for itself without any.
NEWS_S = 0.05
IDLE_S_MAX = 5.0
BUSY_S = 1.0
BACKOFF_S_MIN = 0.05
BACKOFF_S_MAX = 2.0
MAINTENANCE_S = 1.0
RATE_WINDOW_S = 10.0

_POSITION = "SELECT epoch, seq, checksum FROM positions WHERE partition_id = $1"

log = structlog.get_logger(__name__)


class PartitionStatus(msgspec.Struct, frozen=True):
    """`seq` is what Postgres holds, `lag_entries` what the journal is known to hold beyond it, `lag_ms` the age of the
    oldest of these. `halted` is why the partition stands still for good, `waiting_for` what it waits for; "" if not."""

    seq: int
    lag_entries: int
    lag_ms: int
    halted: str
    waiting_for: str


class ProjectorStatus(msgspec.Struct, frozen=True):
    """Totals are since the start, rates over the last ten seconds."""

    partitions: dict[int, PartitionStatus]
    transactions_total: int
    entries_total: int
    facts_total: int
    entries_per_s: float
    facts_per_s: float


class _Tally:
    """Counts what was written, in all and lately."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.transactions = self.entries = self.facts = 0
        self._clock = clock
        self._recent: deque[tuple[float, int, int]] = deque()

    def add(self, entries: int, facts: int) -> None:
        self.transactions += 1
        self.entries += entries
        self.facts += facts
        self._recent.append((self._clock(), entries, facts))
        self._forget()

    def _forget(self) -> None:
        while self._recent and self._recent[0][0] < self._clock() - RATE_WINDOW_S:
            self._recent.popleft()

    def rates(self) -> tuple[float, float]:
        self._forget()
        return (
            sum(entries for _, entries, _ in self._recent) / RATE_WINDOW_S,
            sum(facts for _, _, facts in self._recent) / RATE_WINDOW_S,
        )


class _Load(msgspec.Struct):
    """What one transaction takes: entries from `before` to `reached`, and the steps that write their rows. `poison` is
    what is wrong with the entry after them, if anything."""

    before: Mark
    entries: list[Entry]
    fact_count: int
    steps: list[Step]
    reached: Mark
    poison: PoisonEntry | None


class _Course:
    """One partition on its way into Postgres: the mark, what is to be written next, and the entries that were read
    after that."""

    def __init__(self, partition: int, journal: Journal, pool: Pool, tally: _Tally) -> None:
        self.partition = partition
        self.mark: Mark | None = None
        self.pending: deque[Entry] = deque()
        self._next: _Load | None = None
        # For the status only, and kept when the mark is forgotten: what was last known.
        self.projected_seq = 0
        self.tail_seq = 0
        self.oldest_at_ms: int | None = None
        self.written_at = 0.0
        self.facts_per_s = 0.0
        self.is_growing = False
        self.news = asyncio.Event()
        self._projected_at_ms = 0
        self._entry_bytes = 1
        self._journal = journal
        self._pool = pool
        self._tally = tally
        self._trimmed_seq = -1
        self._noted_seq = -1
        self._maintained_at = 0.0
        self._looked_at_seq = 0
        self._gap_at: Mark | None = None
        self._read_limit = ENTRIES_PER_READ_FIRST
        # The last read came back with as much as it asked for: more is waiting.
        self._was_full = False
        # Set when Postgres refused a batch: one entry at a time until all that was read is through.
        self._is_careful = False

    def forget(self) -> None:
        """Something is uncertain: the next step begins with Postgres' position."""
        self.mark = self._next = None
        self.pending.clear()

    async def step(self) -> bool:
        """One transaction, or none when there is nothing to write. Returns whether more is waiting to be written at
        once."""
        if self.mark is None:
            self.mark = await self._position()
        if self._next is None:
            await self._read(self.mark)
            self._next = await self._gather(self.mark) if self.pending else None
        load, self._next = self._next, None
        if load is not None:
            is_written = await self._write(load) if load.entries else True
            if load.poison is not None and is_written:
                raise load.poison
        await self._maintain()
        return self._next is not None or bool(self.pending)

    def backlog(self, now_ms: int) -> tuple[int, int]:
        """What waits in the journal, as far as is known: how old it is in ms, and its bytes."""
        entries = max(0, self.tail_seq - self.projected_seq)
        return (now_ms - self._projected_at_ms if entries else 0), entries * self._entry_bytes

    async def _position(self) -> Mark:
        row = await self._pool.fetchrow(_POSITION, self.partition)
        mark = Mark(row["epoch"], row["seq"], row["checksum"]) if row else Mark()
        self.projected_seq = mark.seq
        return mark

    async def _read(self, mark: Mark) -> None:
        if self.pending:
            return
        self._is_careful = False
        try:
            self.pending.extend(await self._journal.read(self.partition, mark, self._read_limit))
        except JournalGap as gap:
            if self._gap_at == mark:
                raise JournalCorrupt(f"Postgres stands at {mark.epoch}-{mark.seq}, and {gap}") from gap
            self._gap_at = mark
            raise
        self._gap_at = None
        self._was_full = len(self.pending) >= self._read_limit
        self._note_oldest()
        if self.pending:
            self.tail_seq = max(self.tail_seq, self.pending[-1].seq)
            # About as many bytes as two transactions take, whatever the size of entries is just now.
            self._entry_bytes = 1 + sum(len(entry.payload) for entry in self.pending) // len(self.pending)
            self._read_limit = max(1, min(ENTRIES_PER_READ_MAX, 2 * BYTES_PER_TRANSACTION_MAX // self._entry_bytes))

    async def _gather(self, mark: Mark) -> _Load:
        """The rows of the next entries, as many as fit a transaction. Between two entries others have their turn, among
        them the transaction before."""
        batch = RowBatch(self.partition)
        taken: list[Entry] = []
        before = mark
        while self.pending:
            entry = self.pending[0]
            try:
                _verify(before, entry)
                add(batch, entry)
            except PoisonEntry as poison:
                # What the bad entry may have left in the batch goes away with it.
                return await self._load(mark, taken, rows_of(self.partition, taken), before, poison)
            taken.append(self.pending.popleft())
            before = Mark(entry.epoch, entry.seq, entry.checksum)
            if (
                self._is_careful
                or batch.fact_count >= FACTS_PER_TRANSACTION_MAX
                or batch.payload_bytes >= BYTES_PER_TRANSACTION_MAX
            ):
                break
            await asyncio.sleep(0)
        return await self._load(mark, taken, batch, before, None)

    async def _load(
        self, mark: Mark, taken: list[Entry], batch: RowBatch, reached: Mark, poison: PoisonEntry | None
    ) -> _Load:
        todo: list[Step] = []
        for step in steps(batch):
            todo.append(step)
            await asyncio.sleep(0)
        return _Load(mark, taken, batch.fact_count, todo, reached, poison)

    async def _write(self, load: _Load) -> bool:
        """Returns whether the load was written; if not, its entries are to be tried one at a time."""
        last = load.entries[-1]
        commit = asyncio.create_task(self._commit(load))
        try:
            if load.poison is None and not self._is_careful:
                if not self.pending and self._was_full:
                    await self._read(load.reached)
                if self.pending:
                    self._next = await self._gather(load.reached)
        finally:
            try:
                await commit
            except (PoisonEntry, *DATA_FAULTS) as error:
                if len(load.entries) == 1:
                    raise PoisonEntry(f"{last.epoch}-{last.seq}: {type(error).__name__}: {error}") from error
                self._is_careful = True
        if self._is_careful and len(load.entries) > 1:
            self._put_back(load)
            return False
        self.mark = load.reached
        self.projected_seq = load.reached.seq
        self._projected_at_ms = last.at_ms
        self._note_oldest()
        self._tally.add(len(load.entries), load.fact_count)
        now = time.monotonic()
        self.facts_per_s = load.fact_count / max(now - self.written_at, GATHER_S)
        self.written_at = now
        await self._note(load.reached)
        return True

    def _put_back(self, load: _Load) -> None:
        """What was taken is pending again."""
        following = self._next.entries if self._next is not None else []
        self.pending.extendleft(reversed([*load.entries, *following]))
        self._next = None

    def _note_oldest(self) -> None:
        """How old the oldest entry is that was read and not written."""
        waiting = self._next.entries if self._next is not None and self._next.entries else self.pending
        self.oldest_at_ms = waiting[0].at_ms if waiting else None

    async def _note(self, mark: Mark) -> None:
        await self._journal.note_projected(self.partition, mark.seq)
        self._noted_seq = mark.seq

    async def _commit(self, load: _Load) -> None:
        connection = await self._pool.acquire()
        is_done = False
        try:
            transaction = connection.transaction()
            await transaction.start()
            await write(connection, self.partition, load.steps, load.before, load.reached)
            await transaction.commit()
            is_done = True
        finally:
            if not is_done:
                # Rolls back on the server, and does not wait for an answer that may not come.
                connection.terminate()
            await self._pool.release(connection)

    async def _maintain(self) -> None:
        """Trims the journal, and looks how far ahead it is; not at every step, neither is urgent."""
        now = time.monotonic()
        if self.mark is None or now < self._maintained_at + MAINTENANCE_S:
            return
        self._maintained_at = now
        tail_seq = (await self._journal.tail(self.partition)).seq
        self.is_growing = tail_seq > self._looked_at_seq
        self.tail_seq = self._looked_at_seq = tail_seq
        if self.mark.seq != self._noted_seq:
            # A projector may have died between its commit and the hint, and nothing may come after that for long.
            await self._note(self.mark)
        if self.mark.seq > self._trimmed_seq:
            await self._journal.trim(self.partition, self.mark)
            self._trimmed_seq = self.mark.seq


def _verify(before: Mark, entry: Entry) -> None:
    if entry.seq != before.seq + 1 or entry.epoch < before.epoch:
        raise PoisonEntry(f"{entry.epoch}-{entry.seq}: does not follow {before.epoch}-{before.seq}")
    if not is_intact(before.checksum, entry):
        raise PoisonEntry(f"{entry.epoch}-{entry.seq}: its checksum does not follow from {before.epoch}-{before.seq}")


class Projector:
    """Projects `partitions`, each in a task of its own. The pool's size bounds how many transactions run at once.

    `now_ms` tells the time that lags are measured against, `is_busy` whether others want the CPU (rule 6)."""

    def __init__(
        self,
        journal: Journal,
        pool: Pool,
        partitions: Sequence[int],
        now_ms: Callable[[], int],
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._now_ms = now_ms
        self._is_machine_busy = is_busy
        self._tally = _Tally(time.monotonic)
        self._courses = {partition: _Course(partition, journal, pool, self._tally) for partition in partitions}
        self._halted: dict[int, str] = {}
        self._waiting: dict[int, str] = {}
        self._journal = journal
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()

    async def run(self) -> None:
        """Returns after `stop`, when no transaction is under way any more. Journal and pool stay open: they are the
        caller's."""
        self._stopped.clear()
        tasks = {asyncio.create_task(self._drive(course)): course for course in self._courses.values()}
        looking_out = asyncio.create_task(self._look_out())
        try:
            running = set(tasks)
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    error = task.exception()
                    if error is not None:
                        self._halt(tasks[task].partition, error)
            await self._stopping.wait()
        finally:
            await ended(*tasks, looking_out)
            self._stopped.set()

    async def stop(self) -> None:
        """Ends `run` between two transactions, and returns when it has ended."""
        self._stopping.set()
        for course in self._courses.values():
            course.news.set()
        await self._stopped.wait()

    def status(self) -> ProjectorStatus:
        """How far each partition is, and why where it does not move."""
        entries_per_s, facts_per_s = self._tally.rates()
        return ProjectorStatus(
            partitions={partition: self._status(course) for partition, course in self._courses.items()},
            transactions_total=self._tally.transactions,
            entries_total=self._tally.entries,
            facts_total=self._tally.facts,
            entries_per_s=entries_per_s,
            facts_per_s=facts_per_s,
        )

    def _status(self, course: _Course) -> PartitionStatus:
        oldest_at_ms = course.oldest_at_ms
        return PartitionStatus(
            seq=course.projected_seq,
            lag_entries=max(0, course.tail_seq - course.projected_seq),
            lag_ms=max(0, self._now_ms() - oldest_at_ms) if oldest_at_ms is not None else 0,
            halted=self._halted.get(course.partition, ""),
            waiting_for=self._waiting.get(course.partition, ""),
        )

    async def _drive(self, course: _Course) -> None:
        failures = 0
        while not self._stopping.is_set():
            begun_s = time.monotonic()
            try:
                is_full = await course.step()
            except (PoisonEntry, JournalCorrupt) as error:
                self._halt(course.partition, error)
                return
            except (PositionLost, JournalError, *OUTAGES) as error:
                course.forget()
                failures += 1
                self._wait_for(course.partition, error, failures)
                await self._pause(_backoff_s(failures))
                continue
            failures = 0
            self._waiting.pop(course.partition, None)
            if course.is_growing and course.facts_per_s >= FACTS_PER_S_HIGH and self._is_machine_busy():
                await self._pause(pause_s(time.monotonic() - begun_s, *course.backlog(self._now_ms())))
            elif not is_full:
                await (self._pause(self._gather_s(course)) if self._is_busy(course) else self._rest(course))

    async def _rest(self, course: _Course) -> None:
        """Until there is news (rule 7)."""
        course.news.clear()
        if not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S_MAX):
                    await course.news.wait()

    async def _look_out(self) -> None:
        """Rule 7. Where the journal does not answer, each partition finds out for itself."""
        courses = list(self._courses.values())
        while True:
            await asyncio.sleep(NEWS_S)
            if all(course.news.is_set() for course in courses):
                continue
            try:
                tails = await self._journal.tail_seqs([course.partition for course in courses])
            except JournalError:
                tails = [course.projected_seq + 1 for course in courses]
            for course, tail_seq in zip(courses, tails, strict=True):
                if tail_seq != course.projected_seq:
                    course.news.set()

    def _is_busy(self, course: _Course) -> bool:
        return course.written_at > time.monotonic() - BUSY_S

    def _gather_s(self, course: _Course) -> float:
        busy = sum(map(self._is_busy, self._courses.values()))
        least_s = max(GATHER_S, busy / TRANSACTIONS_PER_S_MAX)
        if course.facts_per_s < FACTS_PER_S_HIGH:
            return least_s
        return max(least_s, min(GATHER_S_MAX, FACTS_PER_TRANSACTION_AIM / course.facts_per_s))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _halt(self, partition: int, error: BaseException) -> None:
        self._halted[partition] = f"{type(error).__name__}: {error}"
        self._waiting.pop(partition, None)
        log.error("partition_halted", partition=partition, reason=self._halted[partition], exc_info=error)

    def _wait_for(self, partition: int, error: BaseException, failures: int) -> None:
        self._waiting[partition] = f"{type(error).__name__}: {error}"
        if failures == 1:
            log.warning("projection_waits", partition=partition, reason=self._waiting[partition])


def _backoff_s(failures: int) -> float:
    return min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0)
