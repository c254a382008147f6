"""Clocks, pauses and chance, handed in so that tests need not wait or guess."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Timing:
    """`now_s` never goes backwards; `wall_ms` is milliseconds since 1970 by this machine's clock; `uniform(a, b)` is a
    random number between the two."""

    now_s: Callable[[], float] = time.monotonic
    wall_ms: Callable[[], int] = _wall_ms
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.uniform


REAL = Timing()
