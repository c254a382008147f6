"""The clocks that `serve/` hands to the rest, which read none themselves."""

from __future__ import annotations

import time


def wall_clock_ms() -> int:
    """Milliseconds since 1970: what goes into the journal and to clients."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds that never go backwards: for intervals."""
    return time.monotonic_ns() // 1_000_000


def monotonic_us() -> int:
    """Microseconds that never go backwards: for rates."""
    return time.monotonic_ns() // 1_000
