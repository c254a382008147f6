"""What came back, counted so that a client that runs for an hour needs no more memory than one that runs for a second.

Rules:
1. Latencies are counted in steps of `STEP_US`; a percentile is the upper end of its step, so never too good. What
   took longer than `LATENCY_S_MAX` counts as that long.
2. Only answers within the measured time count; `answers` are all that came, so that they can be compared with what
   the stores hold.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from math import ceil

STEP_US = 10
LATENCY_S_MAX = 20.0
_STEPS_PER_S = 1_000_000 // STEP_US
_LAST = int(LATENCY_S_MAX * _STEPS_PER_S)
PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
# The curve of the report: what part of the answers had come within the latency.
CURVE_PARTS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0)


class Tally:
    """Counts answers."""

    def __init__(self) -> None:
        self.is_measuring = False
        self.is_over = False
        self.outcomes: Counter[str] = Counter()
        self.scans = 0
        self.answers = 0
        self.per_interval: list[int] = []
        self._counted = 0
        self._latencies = array("I", bytes(4 * (_LAST + 1)))

    def done(self, started_s: float, now_s: float, outcome: str) -> None:
        """One answer."""
        self.answers += 1
        if self.is_measuring:
            self.scans += 1
            step = int((now_s - started_s) * _STEPS_PER_S)
            self._latencies[step if step < _LAST else _LAST] += 1
            self.outcomes[outcome] += 1

    def interval(self) -> None:
        """Another interval of the measured time is over."""
        self.per_interval.append(self.scans - self._counted)
        self._counted = self.scans

    def latency_ms(self, parts: Sequence[float]) -> list[float]:
        """The latency within which each part of the answers came; parts ascend. Zeros when nothing came."""
        found: list[float] = []
        wanted = [max(1, ceil(part * self.scans)) for part in parts]
        seen = 0
        steps = iter(enumerate(self._latencies, 1))
        at_ms = 0.0
        for rank in wanted:
            while seen < rank and self.scans:
                step, count = next(steps)
                seen += count
                at_ms = step * STEP_US / 1000
            found.append(round(at_ms, 3))
        return found

    def percentiles_ms(self) -> dict[str, float]:
        """By name."""
        return dict(zip(PERCENTILES, self.latency_ms(list(PERCENTILES.values())), strict=True))

    def curve_ms(self) -> list[tuple[float, float]]:
        """(part of the answers, latency)."""
        return list(zip(CURVE_PARTS, self.latency_ms(CURVE_PARTS), strict=True))
