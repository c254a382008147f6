"""How far a peer's clock is off, measured with pings. Pure.

Rules:
1. A ping carries our time as its number; the peer's answer carries the peer's. The peer read its clock somewhere
   between the sending and the answer, about half-way: so the measurement is off by half of the time between them at
   most.
2. Of several measurements the most exact one counts. One grows less exact as it ages, because clocks drift.
3. Only the ping that is open is answered, and once: a peer that makes up numbers measures nothing.
"""

from __future__ import annotations

from typing import Final

# How fast two cheap clocks drift apart.
DRIFT_PPM: Final = 100
# What a hello tells is late by the way here, which nobody knows: any ping is better.
HELLO_ERROR_MS: Final = 60_000


class PeerClock:
    """`offset_ms` is how far the peer's clock is ahead of ours, None until it was measured. Times are milliseconds
    since 1970."""

    __slots__ = ("_error_ms", "_measured_ms", "_open_ms", "offset_ms")

    def __init__(self) -> None:
        self.offset_ms: int | None = None
        self._error_ms = 0.0
        self._measured_ms = 0
        self._open_ms: int | None = None

    def ping(self, now_ms: int) -> int:
        """The number for a ping that is sent now."""
        self._open_ms = now_ms
        return now_ms

    def pong(self, now_ms: int, n: int, peer_ms: int) -> None:
        """The peer has answered ping `n` with its time."""
        if n != self._open_ms:
            return
        self._open_ms = None
        if now_ms >= n:  # else our own clock was set back meanwhile
            self._take(now_ms, peer_ms - (n + now_ms) // 2, (now_ms - n) / 2)

    def hello(self, now_ms: int, peer_ms: int) -> None:
        """The peer has told its time by itself."""
        self._take(now_ms, peer_ms - now_ms, HELLO_ERROR_MS)

    def _take(self, now_ms: int, offset_ms: int, error_ms: float) -> None:
        aged_ms = self._error_ms + abs(now_ms - self._measured_ms) * DRIFT_PPM / 1_000_000
        if self.offset_ms is None or error_ms <= aged_ms:
            self.offset_ms, self._error_ms, self._measured_ms = offset_ms, error_ms, now_ms
