"""Time for a client under test: pauses are noted instead of waited for, and chance is what the test says."""

from __future__ import annotations

import asyncio

from gateway.client.retry import RetryPolicy
from gateway.client.timing import Timing

# For sockets: no pause where it is random, real time otherwise.
NO_PAUSE = Timing(uniform=lambda low, high: low)
QUICK = RetryPolicy(first_pause_s=0.01, pause_s_max=0.05, deadline_s=10.0, try_timeout_s=2.0)

NOW_MS = 1_795_341_600_000  # 2026-11-22T10:00:00Z


class FakeTiming:
    """`timing` is for the client. Every pause moves both clocks by its length and gives the loop a turn."""

    def __init__(self, chance: float = 0.0) -> None:
        self.chance = chance
        self.now_s = 1_000.0
        self.pauses: list[float] = []
        self.timing = Timing(lambda: self.now_s, self._wall_ms, self._sleep, self._uniform)

    def _wall_ms(self) -> int:
        return NOW_MS + round((self.now_s - 1_000.0) * 1_000)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.chance
