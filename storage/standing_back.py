"""When the projector leaves the CPU to the doors: write-behind is there to carry a rush over into the time after it.

Rules:
1. It stands back only while the machine has next to no idle CPU and the journal grows. Neither is so once the rush is
   over, so what has gathered is then written at full speed.
2. The more is waiting, the less it stands back. At a backlog of `BACKLOG_MS_MAX`, or `BACKLOG_BYTES_MAX`, not at all:
   lists must not grow stale without bound, nor the journal, nor what a host that opens a partition has to replay.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

BACKLOG_MS_MAX = 10_000
BACKLOG_BYTES_MAX = 128 * 1024 * 1024
# The least part of the time that the projector works.
WORK_SHARE_MIN = 0.1
# Below this share of idle CPU the machine counts as busy.
IDLE_SHARE_BUSY = 0.15
LOOK_INTERVAL_S = 0.25
PAUSE_S_MAX = 1.0


def pause_s(worked_s: float, backlog_ms: int, backlog_bytes: int) -> float:
    """How long to rest after having worked for `worked_s` (rule 2), if rule 1 holds."""
    fullness = max(backlog_ms / BACKLOG_MS_MAX, backlog_bytes / BACKLOG_BYTES_MAX)
    work_share = WORK_SHARE_MIN + (1.0 - WORK_SHARE_MIN) * min(1.0, max(0.0, fullness)) ** 2
    return min(PAUSE_S_MAX, worked_s * (1.0 / work_share - 1.0))


class MachineLoad:
    """Whether the machine is busy, looked at every `LOOK_INTERVAL_S` at most. A machine that does not tell is idle."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._looked_at_s = clock_s()
        self._idle_s, self._all_s = _cpu_s()
        self._is_busy = False

    def is_busy(self) -> bool:
        """Rule 1, as it was in the last interval."""
        now_s = self._clock_s()
        if now_s - self._looked_at_s >= LOOK_INTERVAL_S:
            self._looked_at_s = now_s
            idle_s, all_s = _cpu_s()
            took_s = all_s - self._all_s
            self._is_busy = took_s > 0 and (idle_s - self._idle_s) / took_s < IDLE_SHARE_BUSY
            self._idle_s, self._all_s = idle_s, all_s
        return self._is_busy


def _cpu_s() -> tuple[float, float]:
    """CPU seconds of all cores since the machine started: idle, and all."""
    times = psutil.cpu_times()
    return times.idle + getattr(times, "iowait", 0.0), sum(times)
