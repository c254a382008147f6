"""Hosts as the simulator runs them: each holds the production `Partition` and carries out its effects with delays,
crashes between any two of them, pauses (and comes back as a zombie), closes; and a supervisor that is sometimes wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from actors.codec import Message
from actors.effects import Append, Deliver, Effect, Halted, Load, OpenJournal, Publish
from actors.entry import Entry, Mark
from actors.limits import Limits
from actors.partition import OpenFailure, Partition
from actors.replies import Digest, Reply
from tests.simulation.journal_model import AppendResult, JournalModel
from tests.simulation.postgres_model import PostgresModel
from tests.simulation.world import Line, Violation, World

READ_MAX = 3


class Watcher:
    """What the checker sees of the hosts. The default sees nothing."""

    def received(self, token: Token, partition: Partition) -> None:
        """A message reached a partition."""

    def delivered(self, token: Token, reply: Reply, partition: Partition) -> None:
        """A reply left a partition."""

    def published(self, digest: Digest, partition: Partition) -> None:
        """A live update left a partition."""

    def halted(self, reason: str) -> None:
        """A partition stopped."""

    def after_input(self, partition: Partition) -> None:
        """A partition has taken an input in, and its effects were started."""


class Token:
    """A message on its way through one life of one host."""

    __slots__ = ("answered", "life", "message", "number", "on_reply", "seen_seq", "tail_seq")

    def __init__(self, message: Message, on_reply: Callable[[Reply], None]) -> None:
        self.message = message
        self.on_reply = on_reply
        self.life: Life | None = None
        self.number = 0
        self.seen_seq = 0
        self.tail_seq = 0
        self.answered = 0


class Life:
    """One process of a host: from its start to its crash."""

    def __init__(self, host: HostModel) -> None:
        self.host = host
        self.partition = host.make_partition(0, host.limits)
        self.line = Line(host.world)
        self.tokens: list[Token] = []
        self.is_over = False


class HostModel:
    """One host, over several lives."""

    def __init__(
        self,
        name: str,
        world: World,
        journal: JournalModel,
        postgres: PostgresModel,
        limits: Limits,
        watcher: Watcher,
        make_partition: Callable[[int, Limits], Partition] = Partition,
    ) -> None:
        self.name = name
        self.world = world
        self.limits = limits
        self.make_partition = make_partition
        self._journal = journal
        self._postgres = postgres
        self._watcher = watcher
        # Hosts keep time by NTP; the core is told so by `clock_ahead_ms_max`.
        self.skew_ms = world.rng.randint(-limits.clock_ahead_ms_max // 3, limits.clock_ahead_ms_max // 3)
        self._paused: list[Callable[[], None]] | None = None
        self.tick_ms = world.rng.choice((20, 60, 150))
        self.life = Life(self)
        self._schedule_tick(self.life)

    @property
    def now_ms(self) -> int:
        return self.world.now_ms + self.skew_ms

    @property
    def is_paused(self) -> bool:
        return self._paused is not None

    # --- lives ------------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Dies with all its memory; what it sent may still arrive."""
        self.world.trace(f"{self.name} crashes")
        self.world.note("host crash")
        self.life.is_over = True
        self._paused = None
        if self.world.rng.random() < 0.5:
            self.life.line.is_broken = True
        self.life = Life(self)
        self._schedule_tick(self.life)

    def pause(self, length_ms: int) -> None:
        """Stops running; everything waits, then goes on as if nothing had been."""
        if self._paused is not None:
            return
        self.world.trace(f"{self.name} pauses")
        self.world.note("host pause")
        self._paused = []
        life = self.life

        def resume() -> None:
            if self.life is life and self._paused is not None:
                waiting, self._paused = self._paused, None
                self.world.trace(f"{self.name} goes on, epoch {life.partition.epoch}")
                for action in waiting:
                    if not life.is_over:
                        action()

        self.world.after(length_ms, resume)

    def _schedule_tick(self, life: Life) -> None:
        def tick() -> None:
            if not life.is_over:
                self._feed(life, life.partition.tick)
                self._read_hint(life)
                self._schedule_tick(life)

        self.world.after(self.tick_ms, lambda: self._when_running(life, tick))

    def _read_hint(self, life: Life) -> None:
        """An idle partition has no append to learn Postgres' position from."""
        partition = life.partition
        if partition.state != "open" or self.world.rng.random() < 0.4 or self._journal.is_away:
            return
        hint = self._journal.hint

        def report() -> None:
            if partition.state == "open":
                self._feed(life, partition.on_projected, hint)

        self.world.after(self.world.rng.randint(1, 10), lambda: self._when_running(life, report))

    def _when_running(self, life: Life, action: Callable[[], None]) -> None:
        if life.is_over:
            return
        if self._paused is not None:
            self._paused.append(action)
        else:
            action()

    # --- what others ask of it --------------------------------------------------------------------------------------

    def adopt(self) -> None:
        life = self.life

        def opens() -> None:
            if life.partition.state == "closed":
                self._feed(life, life.partition.open)

        self._when_running(life, opens)

    def release(self) -> None:
        life = self.life
        self._when_running(life, lambda: self._feed(life, life.partition.close))

    def submit(self, tokens: Sequence[Token]) -> None:
        """A batch arrives."""
        life = self.life

        def receive() -> None:
            for token in tokens:
                token.life = life
                token.number = len(life.tokens)
                life.tokens.append(token)
                self._watcher.received(token, life.partition)
            self._feed(life, life.partition.receive, [(token, token.message) for token in tokens])

        self._when_running(life, receive)

    # --- effects ----------------------------------------------------------------------------------------------------

    def _feed(self, life: Life, take: Callable[..., list[Effect]], *args: Any) -> None:
        effects = take(*args, self.now_ms)
        for effect in effects:
            if self.world.happens(self.world.faults.crash_between_effects):
                self.world.note("crash between effects")
                self.crash()
                return
            self._start(life, effect)
        self._watcher.after_input(life.partition)

    def _start(self, life: Life, effect: Effect) -> None:
        match effect:
            case Append():
                self._append(life, effect)
            case Load():
                self._load(life, effect)
            case OpenJournal():
                self._open(life, effect)
            case Deliver():
                for token, reply in effect.replies:
                    assert isinstance(token, Token)
                    token.answered += 1
                    if token.answered > 1:
                        raise Violation(f"a second reply to {token.message}")
                    self._watcher.delivered(token, reply, life.partition)
                    token.on_reply(reply)
            case Publish():
                for digest in effect.digests:
                    self._watcher.published(digest, life.partition)
            case Halted():
                self.world.trace(f"{self.name} halts: {effect.reason}")
                self._watcher.halted(effect.reason)

    def _append(self, life: Life, effect: Append) -> None:
        entry = effect.entry
        partition = life.partition
        if life.line.is_broken:
            life.line = Line(self.world)

        def done(result: AppendResult, hint: int) -> None:
            def report() -> None:
                if result == "written":
                    self._feed(life, partition.on_appended, entry.epoch, entry.seq, hint)
                else:
                    if result == "unknown":
                        self.world.note("append outcome unknown")
                    self._feed(life, partition.on_append_failed, entry.epoch, result == "fenced")

            self._when_running(life, report)

        self._journal.append(life.line, entry, effect.previous, done)

    def _load(self, life: Life, effect: Load) -> None:
        world = self.world
        timeout_ms = self.limits.load_timeout_ms
        delay = world.rng.randint(1, 10)
        back = world.rng.randint(1, 10)
        if world.happens(world.faults.load_slow):
            delay, back = world.rng.randint(0, timeout_ms // 4), world.rng.randint(timeout_ms // 3, timeout_ms)

        def read() -> None:
            fails = self._postgres.is_away or world.happens(world.faults.load_fails) or delay + back > timeout_ms
            if fails:
                world.note("load failed")
                world.after(
                    max(1, timeout_ms - delay),
                    lambda: self._when_running(
                        life, lambda: self._feed(life, life.partition.on_load_failed, effect.load_id)
                    ),
                )
                return
            loaded = self._postgres.load(effect.request)

            def report() -> None:
                if self._postgres.position.seq > loaded.projected.seq:
                    world.note("load older than the present")
                self._feed(life, life.partition.on_loaded, effect.load_id, loaded)

            world.after(back, lambda: self._when_running(life, report))

        world.after(delay, read)

    def _open(self, life: Life, effect: OpenJournal) -> None:
        attempt = effect.attempt
        life.line = Line(self.world)

        def failed(failure: OpenFailure, detail: str) -> None:
            delay = self.world.rng.randint(10, 60) if failure == "away" else 0
            self.world.after(
                delay,
                lambda: self._when_running(
                    life, lambda: self._feed(life, life.partition.on_open_failed, attempt, failure, detail)
                ),
            )

        def opened(result: Entry | str) -> None:
            if life.is_over:
                return
            if isinstance(result, Entry):
                self.world.trace(f"{self.name} opened epoch {result.epoch} at {result.seq}")
                self._read_journal(life, attempt, result, failed)
            else:
                failed("fenced" if result == "fenced" else "away", result)

        self._journal.open(effect.expected_epoch, self.now_ms, opened)

    def _read_journal(
        self, life: Life, attempt: int, opening: Entry, failed: Callable[[OpenFailure, str], None]
    ) -> None:
        """Position, then the entries after it a few at a time; others go on meanwhile."""
        world = self.world

        def start() -> None:
            if self._postgres.is_away:
                failed("away", "postgres")
                return
            position = self._postgres.position
            world.after(
                world.rng.randint(1, 15), lambda: self._when_running(life, lambda: read(position, position, []))
            )

        def read(position: Mark, after: Mark, entries: list[Entry]) -> None:
            if after.seq >= opening.seq:
                self._feed(life, life.partition.on_opened, attempt, opening, position, entries, self._postgres.claims)
                return
            found = self._journal.read(after, READ_MAX)
            if isinstance(found, str):
                if found == "gap":
                    start()
                else:
                    failed("corrupt" if found == "corrupt" else "away", found)
                return
            last = found[-1]
            mark = Mark(last.epoch, last.seq, last.checksum)
            more = [*entries, *found]
            world.after(world.rng.randint(0, 4), lambda: self._when_running(life, lambda: read(position, mark, more)))

        self._when_running(life, start)


class Supervisor:
    """Believes that one host has the partition, moves it when that one seems gone, and is sometimes wrong."""

    def __init__(self, world: World, hosts: list[HostModel]) -> None:
        self._world = world
        self._hosts = hosts
        self.owner = hosts[0]

    def start(self) -> None:
        self._look()

    def _look(self) -> None:
        world = self._world
        state = self.owner.life.partition.state
        if world.happens(world.faults.wrong_owner / 4):
            world.note("wrong owner")
            self.owner = world.rng.choice(self._hosts)
            self.owner.adopt()
        elif self.owner.is_paused:
            self.owner = world.rng.choice([host for host in self._hosts if host is not self.owner])
            self.owner.adopt()
        elif state == "closed":
            if not self._hosts[0].is_paused and world.rng.random() < 0.5:
                self.owner = world.rng.choice(self._hosts)
            self.owner.adopt()
        world.after(world.rng.randint(60, 250), self._look)


class Trouble:
    """Strikes hosts and stores now and then, until the world heals."""

    def __init__(
        self, world: World, hosts: list[HostModel], journal: JournalModel, postgres: PostgresModel, until_ms: int
    ) -> None:
        self._world = world
        self._hosts = hosts
        self._journal = journal
        self._postgres = postgres
        self._until_ms = until_ms

    def start(self) -> None:
        self._world.after(self._world.rng.randint(50, 400), self._strike)

    def _strike(self) -> None:
        world, faults = self._world, self._world.faults
        if world.now_ms >= self._until_ms:
            return
        host = world.rng.choice(self._hosts)
        if world.happens(faults.host_crash):
            host.crash()
        if world.happens(faults.host_pause):
            host.pause(world.rng.choice((80, 300, 900, 2_000)))
        if world.happens(faults.host_close):
            world.trace(f"{host.name} is told to close")
            world.note("graceful close")
            host.release()
        if world.happens(faults.store_restart) and not self._journal.is_away:
            self._journal.restart(world.rng.randint(5, 300))
        if world.happens(faults.postgres_outage) and not self._postgres.is_away:
            self._postgres.outage(world.rng.choice((50, 300, 1_200)))
        self.start()
