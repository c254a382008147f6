"""A model of the journal's store: fenced, contiguous, durable once written, with replies that may never come.

Rules (those of `actors.ports.Journal`):
1. Appends over one line are executed in order; once one failed, those after it on that line fail too.
2. What is written stays: a restart loses what was under way, never what was written.
3. Trimming drops entries before a mark, which stays; the archive keeps all for the checker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from actors.entry import EMPTY_PAYLOAD, Entry, Mark, sealed
from tests.simulation.world import Line, World

AppendResult = Literal["written", "fenced", "refused", "unknown", "corrupt"]


class JournalModel:
    """One partition's stream. `on_written` is called at the moment at which an entry is durable."""

    def __init__(self, world: World, on_written: Callable[[Entry], None]) -> None:
        self._world = world
        self._on_written = on_written
        self.archive: list[Entry] = []
        self.trimmed_until = 0
        self.hint = 0
        self.is_fenced = True
        self.is_away = False
        self.generation = 0

    @property
    def tail(self) -> Mark:
        if not self.archive:
            return Mark()
        last = self.archive[-1]
        return Mark(last.epoch, last.seq, last.checksum)

    def restart(self, away_ms: int) -> None:
        """The store goes down and comes back with all that was written; what was under way ends unknown."""
        self._world.trace("journal store restarts")
        self._world.note("journal restart")
        self.generation += 1
        self.is_away = True

        def back() -> None:
            self.is_away = False

        self._world.after(away_ms, back)

    def append(self, line: Line, entry: Entry, previous: bytes, done: Callable[[AppendResult, int], None]) -> None:
        """Sends an append; `done` gets the outcome and the projected hint."""
        world = self._world
        delay = (
            world.rng.choice((200, 500, 900)) if world.happens(world.faults.append_slow) else world.rng.randint(1, 8)
        )
        generation = self.generation

        def execute() -> None:
            if line.is_broken or self.is_away or generation != self.generation:
                line.is_broken = True
                result: AppendResult = "unknown"
            elif world.happens(world.faults.append_lost):
                line.is_broken = True
                result = "unknown"
                world.note("append lost before it was written")
                world.trace(f"append {entry.epoch}-{entry.seq} is lost")
            else:
                result = self._write(entry, previous)
                if result == "written" and world.happens(world.faults.append_reply_lost):
                    world.note("append written, reply lost")
                    world.trace(f"append {entry.epoch}-{entry.seq} is written, its reply lost")
                    result = "unknown"
            hint = self.hint
            back = 150 if world.happens(world.faults.append_slow / 2) else world.rng.randint(1, 8)
            line.after(back, lambda: done(result, hint))

        line.after(delay, execute)

    def _write(self, entry: Entry, previous: bytes) -> AppendResult:
        tail = self.tail
        if self.is_fenced and tail.epoch > entry.epoch:
            self._world.note("zombie append fenced")
            return "fenced"
        if self.is_fenced and (tail.epoch, tail.seq + 1, tail.checksum) != (entry.epoch, entry.seq, previous):
            return "corrupt"
        if self._world.happens(self._world.faults.append_refused):
            self._world.note("append refused")
            return "refused"
        self.write(entry)
        return "written"

    def write(self, entry: Entry) -> None:
        self.archive.append(entry)
        self._on_written(entry)

    def open(self, expected_epoch: int | None, at_ms: int, done: Callable[[Entry | str], None]) -> None:
        """Opens the next epoch; `done` gets its first entry, or "fenced" or "away"."""
        world = self._world

        def execute() -> None:
            result: Entry | str = "away"
            if not self.is_away and not world.happens(world.faults.append_lost):
                tail = self.tail
                if expected_epoch is not None and tail.epoch != expected_epoch and self.is_fenced:
                    result = "fenced"
                    world.note("open fenced")
                else:
                    result = sealed(tail.checksum, tail.epoch + 1, tail.seq + 1, at_ms, EMPTY_PAYLOAD)
                    self.write(result)
                    if world.happens(world.faults.append_reply_lost):
                        result = "away"
                        world.note("opened, reply lost")
            world.after(world.rng.randint(1, 8), lambda: done(result))

        world.after(world.rng.randint(1, 20), execute)

    def read(self, after: Mark, limit: int) -> list[Entry] | str:
        """The entries after a mark, or "gap", "corrupt" or "away"."""
        if self.is_away:
            return "away"
        if self.tail.seq < after.seq or (self.tail.seq == after.seq and self.tail != after):
            return "corrupt"
        if after.seq < self.trimmed_until:
            self._world.note("read met a gap")
            return "gap"
        return self.archive[after.seq : after.seq + limit]

    def trim(self, projected: Mark) -> None:
        """Forgets what is before the mark; the entry at the mark stays as the anchor."""
        self.trimmed_until = max(self.trimmed_until, projected.seq - 1)

    def note_projected(self, seq: int) -> None:
        self.hint = max(self.hint, seq)
