"""The host: the thin asynchronous shell around partitions. It carries out their effects and reports back; it decides
nothing.

Rules:
1. A partition is driven by one event loop; its inputs are synchronous, so nothing interleaves with a turn.
2. Appends of a partition are started in order; the journal port keeps that order, and reports come back in it.
3. A batch is answered when all of it is decided and durable, except for messages that wait for a load: these are
   deferred to a ticket, so that they do not hold up the rest.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Callable, Coroutine, Sequence
from typing import ParamSpec, Protocol, cast

import msgspec
import structlog

from actors.codec import Answers, Message, decode_messages, encode_answers
from actors.digests import digest_of
from actors.effects import Append, Deliver, Effect, Halted, Load, OpenJournal, Publish
from actors.entry import Entry, Mark
from actors.ids import partition_of
from actors.limits import Limits
from actors.partition import OpenFailure, Partition
from actors.ports import (
    EntityStore,
    Fenced,
    Journal,
    JournalCorrupt,
    JournalError,
    JournalGap,
    OutcomeUnknown,
    StoreUnavailable,
)
from actors.replies import Deferred, Digest, Reply

TICK_MS = 25
READ_ENTRIES_MAX = 500
TICKETS_MAX = 10_000
TICKET_MS_MAX = 60_000
REOPEN_DELAY_MS = (100, 400)
HINT_EVERY_TICKS = 20
# How long after a turn the rest of a batch is waited for before what waits for a load is deferred.
DEFER_AFTER_MS = 15

P = ParamSpec("P")

_log = structlog.get_logger(__name__)


class Publisher(Protocol):
    """Where live updates go. May lose them (subscribers notice by the offset), must not block."""

    def publish(self, digests: Sequence[Digest]) -> None:
        """Sends these on."""


class HostHealth(msgspec.Struct, frozen=True):
    """A sign of life: when the loop last beat, and the state of each partition that was adopted here."""

    name: str
    beat_ms: int
    partitions: dict[int, str]


class PartitionStatus(msgspec.Struct, frozen=True):
    """Figures of one partition, for operators."""

    number: int
    state: str
    epoch: int
    seq: int
    durable_seq: int
    projected_seq: int
    unprojected_bytes: int
    waiting: int
    tenants: int
    cards: int
    events: int
    halt_reason: str


class _Batch:
    """Messages that came together, and where their replies gather."""

    __slots__ = ("arrived_ms", "done", "missing", "replies")

    def __init__(self, size: int, done: asyncio.Future[None], arrived_ms: int) -> None:
        self.replies: list[Reply | None] = [None] * size
        self.missing = size
        self.done = done
        self.arrived_ms = arrived_ms


class Host:
    """Runs partitions on the current event loop."""

    def __init__(
        self,
        name: str,
        journal: Journal,
        store: EntityStore,
        publisher: Publisher,
        clock_ms: Callable[[], int],
        partition_count: int,
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self._journal = journal
        self._store = store
        self._publisher = publisher
        self._clock_ms = clock_ms
        self._partition_count = partition_count
        self._limits = limits or Limits()
        self._partitions: dict[int, Partition] = {}
        self._tenant_partition: dict[str, int] = {}
        self._tickets: dict[int, _Batch] = {}
        self._next_ticket = 1
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._beat_ms = 0

    async def start(self) -> None:
        """Begins to beat."""
        self._beat_ms = self._clock_ms()
        self._ticker = asyncio.create_task(self._tick_forever())

    async def stop(self) -> None:
        """Ends at once; what is unanswered stays so."""
        if self._ticker is not None:
            self._ticker.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *([self._ticker] if self._ticker else []), return_exceptions=True)
        self._ticker = None

    async def drain(self, timeout_ms: int = 5_000) -> None:
        """Waits until nothing is being decided or written."""
        end_ms = self._clock_ms() + timeout_ms
        while self._clock_ms() < end_ms:
            opened = [partition for partition in self._partitions.values() if partition.state == "open"]
            if all(partition.waiting_count == 0 and partition.last == partition.durable for partition in opened):
                return
            await asyncio.sleep(TICK_MS / 1000)

    async def adopt(self, partitions: Sequence[int]) -> None:
        """Starts opening those of these that are closed; the others stay as they are."""
        for number in partitions:
            partition = self._partitions.get(number)
            if partition is None:
                partition = self._partitions[number] = Partition(number, self._limits)
            if partition.state == "closed":
                self._feed(partition, partition.open, self._clock_ms())

    async def release(self, partitions: Sequence[int]) -> None:
        """Closes these."""
        for number in partitions:
            partition = self._partitions.get(number)
            if partition is not None:
                self._feed(partition, partition.close, self._clock_ms())

    def health(self) -> HostHealth:
        """A sign of life; may be asked from any thread."""
        states = {number: partition.state for number, partition in list(self._partitions.items())}
        return HostHealth(self.name, self._beat_ms, dict(states))

    def status(self) -> list[PartitionStatus]:
        """Figures of all partitions."""
        return [
            PartitionStatus(
                partition.number,
                partition.state,
                partition.epoch,
                partition.last.seq,
                partition.durable.seq,
                partition.projected_seq,
                partition.unprojected_bytes,
                partition.waiting_count,
                len(partition.residents.tenants),
                len(partition.residents.cards),
                len(partition.residents.events),
                partition.halt_reason,
            )
            for _, partition in sorted(self._partitions.items())
        ]

    async def state_digests(self, number: int) -> dict[str, bytes]:
        """For the audit: the digest of every actor in memory, by its id. Call it on a drained system."""
        partition = self._partitions.get(number)
        if partition is None or partition.state != "open":
            return {}
        residents = partition.residents
        actors = (actor for present in residents.actors.values() for actor in present.items())
        return {key: digest_of(actor) for key, actor in actors}

    # --- messages -----------------------------------------------------------------------------------------------------

    async def submit(self, batch: bytes) -> bytes:
        """Answers an encoded batch of messages (`actors.codec`)."""
        messages = decode_messages(batch)
        now_ms = self._clock_ms()
        gathered = _Batch(len(messages), asyncio.get_running_loop().create_future(), now_ms)
        by_partition: dict[int, list[tuple[object, Message]]] = {}
        for index, message in enumerate(messages):
            number = self._tenant_partition.get(message.tenant_id)
            if number is None:
                number = self._partition_number(message.tenant_id)
            by_partition.setdefault(number, []).append(((gathered, index), message))
        for number, tokens in by_partition.items():
            partition = self._partitions.get(number)
            if partition is None:
                partition = self._partitions[number] = Partition(number, self._limits)
            self._feed(partition, partition.receive, tokens, now_ms)
        if gathered.missing and any(self._partitions[number].parked_count for number in by_partition):
            await asyncio.wait((gathered.done,), timeout=DEFER_AFTER_MS / 1000)
            if gathered.missing and len(self._tickets) < TICKETS_MAX:
                return self._deferred(gathered)
        if gathered.missing:
            await gathered.done
        return encode_answers(Answers(gathered.replies))  # type: ignore[arg-type]

    async def collect(self, ticket: int) -> bytes:
        """The replies that were deferred under this ticket, in order, once they are all there. An unknown ticket has
        none."""
        batch = self._tickets.get(ticket)
        if batch is None:
            return encode_answers(Answers([]))
        try:
            if batch.missing:
                await batch.done
        finally:
            self._tickets.pop(ticket, None)
        return encode_answers(Answers([reply for reply in batch.replies if reply is not None]))

    def _deferred(self, batch: _Batch) -> bytes:
        now = Answers([reply if reply is not None else Deferred() for reply in batch.replies], self._next_ticket)
        # From here on only what comes later is gathered; what is answered now must not be told twice.
        batch.replies = [None] * len(batch.replies)
        self._tickets[self._next_ticket] = batch
        self._next_ticket += 1
        return encode_answers(now)

    def _partition_number(self, tenant_id: str) -> int:
        if len(self._tenant_partition) > 100_000:
            self._tenant_partition.clear()
        number = self._tenant_partition[tenant_id] = partition_of(tenant_id, self._partition_count)
        return number

    # --- effects ------------------------------------------------------------------------------------------------------

    def _feed(self, partition: Partition, take: Callable[P, list[Effect]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Gives a partition an input and carries out what it leads to. A bug in the core stops this partition and no
        other: going on from a state that broke its own assertions would be a guess."""
        state = partition.state
        try:
            effects = take(*args, **kwargs)
        except (AssertionError, LookupError, TypeError, ValueError, AttributeError) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__} at {place.name}:{place.lineno}: {error}"
            effects = partition.halt(reason, self._clock_ms())
        if partition.state != state:
            self._note_state(partition)
        for effect in effects:
            match effect:
                case Deliver():
                    for token, reply in effect.replies:
                        batch, index = cast(tuple[_Batch, int], token)
                        batch.replies[index] = reply
                        batch.missing -= 1
                        if not batch.missing and not batch.done.done():
                            batch.done.set_result(None)
                case Append():
                    self._spawn(partition, self._append(partition, effect))
                case Publish():
                    self._publisher.publish(effect.digests)
                case Load():
                    self._spawn(partition, self._load(partition, effect))
                case OpenJournal():
                    self._spawn(partition, self._open(partition, effect))
                case Halted():
                    pass

    def _note_state(self, partition: Partition) -> None:
        note = _log.error if partition.state == "halted" else _log.info
        more = {"reason": partition.halt_reason} if partition.halt_reason else {}
        note(f"partition is {partition.state}", partition=partition.number, epoch=partition.epoch, **more)

    def _spawn(self, partition: Partition, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                # Not one of the port's own exceptions: a bug. What was to be reported never will be.
                self._feed(partition, partition.halt, f"{type(error).__name__}: {error}", self._clock_ms())

        task.add_done_callback(done)

    async def _append(self, partition: Partition, effect: Append) -> None:
        entry = effect.entry
        try:
            hint = await self._journal.append(partition.number, entry, effect.previous)
        except JournalError as error:
            is_fenced = isinstance(error, Fenced)
            why = f"{type(error).__name__}: {error}"
            _log.warning("an entry was not appended", partition=partition.number, seq=entry.seq, why=why)
            self._feed(partition, partition.on_append_failed, entry.epoch, is_fenced, self._clock_ms())
            return
        self._feed(partition, partition.on_appended, entry.epoch, entry.seq, hint, self._clock_ms())

    async def _load(self, partition: Partition, effect: Load) -> None:
        try:
            async with asyncio.timeout(self._limits.load_timeout_ms / 1000):
                loaded = await self._store.load(partition.number, effect.request)
        except (StoreUnavailable, TimeoutError):
            self._feed(partition, partition.on_load_failed, effect.load_id, self._clock_ms())
            return
        self._feed(partition, partition.on_loaded, effect.load_id, loaded, self._clock_ms())

    async def _open(self, partition: Partition, effect: OpenJournal) -> None:
        failure: OpenFailure
        try:
            opening = await self._journal.open(partition.number, effect.expected_epoch, self._clock_ms())
            projected, entries = await self._read_journal(partition.number, opening)
            claims = await self._store.claims(partition.number)
        except Fenced as error:
            failure, detail = "fenced", str(error)
        except JournalCorrupt as error:
            failure, detail = "corrupt", str(error)
        except (JournalError, StoreUnavailable) as error:
            failure, detail = "away", str(error)
            await asyncio.sleep(random.uniform(*REOPEN_DELAY_MS) / 1000)
        else:
            now_ms = self._clock_ms()
            self._feed(partition, partition.on_opened, effect.attempt, opening, projected, entries, claims, now_ms)
            return
        self._feed(partition, partition.on_open_failed, effect.attempt, failure, detail, self._clock_ms())

    async def _read_journal(self, number: int, opening: Entry) -> tuple[Mark, list[Entry]]:
        """Postgres' position, and the entries after it up to the opening one."""
        while True:
            projected = await self._store.position(number)
            entries: list[Entry] = []
            after = projected
            try:
                while after.seq < opening.seq:
                    read = await self._journal.read(number, after, READ_ENTRIES_MAX)
                    if not read:
                        raise OutcomeUnknown("the journal ended while it was being read")
                    entries += read
                    after = Mark(read[-1].epoch, read[-1].seq, read[-1].checksum)
            except JournalGap:
                # The projector went on and trimmed meanwhile: its new position has what is gone from the journal.
                continue
            return projected, entries

    # --- time ---------------------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_MS / 1000)
            now_ms = self._beat_ms = self._clock_ms()
            for partition in list(self._partitions.values()):
                self._feed(partition, partition.tick, now_ms)
            for ticket in [t for t, batch in self._tickets.items() if batch.arrived_ms < now_ms - TICKET_MS_MAX]:
                del self._tickets[ticket]
            ticks += 1
            if ticks % HINT_EVERY_TICKS == 0:
                for partition in list(self._partitions.values()):
                    if partition.state == "open" and partition.projected_seq < partition.durable.seq:
                        self._spawn(partition, self._read_hint(partition))

    async def _read_hint(self, partition: Partition) -> None:
        """An idle partition has no append to learn Postgres' position from."""
        try:
            hint = await self._journal.projected_hint(partition.number)
        except JournalError:
            return
        self._feed(partition, partition.on_projected, hint, self._clock_ms())
