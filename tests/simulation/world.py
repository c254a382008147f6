"""The simulated world: one virtual clock, one seeded queue of what happens next, and how faulty a seed is.

Rules:
1. Nothing reads a real clock or another source of randomness: a seed is a run, bit for bit.
2. What the real system orders is kept in order by the models (`Line`); everything else happens in random order.
3. Faults end when the world heals; from then on everything has to converge.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

# 20 May 2026, a few seconds before midnight in Ho Chi Minh City, so that a day ends within most runs.
START_MS = 1_779_296_400_000 - 2_500


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass
class Faults:
    """How often what goes wrong, per occasion; drawn for each seed."""

    message_loss: float = 0.0
    message_copies: float = 0.0
    append_lost: float = 0.0
    append_reply_lost: float = 0.0
    append_refused: float = 0.0
    append_slow: float = 0.0
    store_restart: float = 0.0
    load_fails: float = 0.0
    load_slow: float = 0.0
    postgres_outage: float = 0.0
    projector_crash: float = 0.0
    host_crash: float = 0.0
    crash_between_effects: float = 0.0
    host_pause: float = 0.0
    host_close: float = 0.0
    wrong_owner: float = 0.0

    @classmethod
    def drawn(cls, rng: Random) -> Faults:
        """A mix: some faults are absent in some seeds, so that each also shows without the others."""

        def rate(most: float) -> float:
            return rng.choice((0.0, most * rng.random(), most))

        calm = cls(message_loss=rate(0.3), message_copies=rate(0.5), load_fails=rate(0.1), load_slow=rate(0.5))
        if rng.random() < 0.15:
            return calm
        return cls(
            message_loss=rate(0.3),
            message_copies=rate(0.5),
            append_lost=rate(0.04),
            append_reply_lost=rate(0.06),
            append_refused=rate(0.04),
            append_slow=rate(0.2),
            store_restart=rate(0.3),
            load_fails=rate(0.3),
            load_slow=rate(0.5),
            postgres_outage=rate(0.3),
            projector_crash=rate(0.15),
            host_crash=rate(0.2),
            crash_between_effects=rate(0.01),
            host_pause=rate(0.25),
            host_close=rate(0.15),
            wrong_owner=rate(0.25),
        )


class World:
    """Clock, queue, randomness, and a record of what happened."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.now_ms = START_MS
        self.faults = Faults.drawn(self.rng)
        self.seen: Counter[str] = Counter()
        self.trace_lines: list[str] = []
        self.is_tracing = trace
        self._queue: list[tuple[int, float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Does it `delay_ms` from now; what falls on the same millisecond happens in random order."""
        self._count += 1
        heapq.heappush(self._queue, (self.now_ms + int(delay_ms), self.rng.random(), self._count, action))

    def happens(self, rate: float) -> bool:
        """Whether a fault of this rate strikes now."""
        return rate > 0 and self.rng.random() < rate

    def run(self, until_ms: int, is_over: Callable[[], bool] = lambda: False) -> None:
        """Lets the queue run up to a moment."""
        while self._queue and self._queue[0][0] <= until_ms and not is_over():
            at_ms, _, _, action = heapq.heappop(self._queue)
            self.now_ms = at_ms
            action()
        self.now_ms = max(self.now_ms, until_ms) if not is_over() else self.now_ms

    def heal(self) -> None:
        """No fault strikes any more."""
        self.faults = Faults()
        self.trace("heal")

    def note(self, situation: str) -> None:
        """Counts a situation that the whole run of seeds must have met at least once."""
        self.seen[situation] += 1

    def trace(self, line: str) -> None:
        """Records a line of the story, kept short unless the whole is asked for."""
        self.trace_lines.append(f"{self.now_ms - START_MS:>6} {line}")
        if not self.is_tracing and len(self.trace_lines) > 400:
            del self.trace_lines[:200]


class Line:
    """A connection: what goes over it arrives in the order in which it was sent."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._free_ms = 0
        self.is_broken = False

    def after(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Does it after the delay, but not before what was sent earlier."""
        at_ms = max(self._world.now_ms + int(delay_ms), self._free_ms + 1)
        self._free_ms = at_ms
        self._world.after(at_ms - self._world.now_ms, action)
