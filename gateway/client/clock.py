"""How far this machine's clock is from the server's, measured with pings. Pure.

Rules:
1. A ping's answer carries the server's time; it was read about half-way between sending and receiving. The less time
   between the two, the less it can be wrong: as NTP does (RFC 5905 §10), the samples with the shortest round trips
   count, and of those the median.
2. Samples tie the server's time to the monotonic clock: setting this machine's clock does not spoil them.
3. A new connection begins a new series: the monotonic clock stands still while a machine sleeps.
"""

from __future__ import annotations

from collections import deque
from statistics import median

SAMPLES_MAX = 16
BEST_SAMPLES = 4


class ServerClock:
    """The server's time, once the first answer has come."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX)
        self._base_ms: float | None = None
        self._begins_anew = False

    @property
    def is_known(self) -> bool:
        """Whether anything has been measured."""
        return self._base_ms is not None

    def begin(self) -> None:
        """Drops the samples when the next one is there (rule 3)."""
        self._begins_anew = True

    def add(self, sent_s: float, received_s: float, server_ms: int) -> None:
        """One ping and its answer, by the monotonic clock."""
        if self._begins_anew:
            self._begins_anew = False
            self._samples.clear()
        base_ms = server_ms - 1_000 * (sent_s + received_s) / 2
        self._samples.append((received_s - sent_s, base_ms))
        best = sorted(self._samples)[:BEST_SAMPLES]
        self._base_ms = median(base for _, base in best)

    def offset_ms(self, now_s: float, wall_ms: int) -> float:
        """Server's clock minus this machine's, 0 while nothing is known; `now_s` and `wall_ms` are the same moment."""
        if self._base_ms is None:
            return 0.0
        return 1_000 * now_s + self._base_ms - wall_ms
