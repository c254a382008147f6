"""Rates by the generic cell rate algorithm (GCRA), pure, and the port behind which the counts are kept.

Rules:
1. GCRA in its "virtual scheduling" form: ATM Forum, Traffic Management Specification 4.0 (af-tm-0056.000), annex C, and
   ITU-T I.371. All that is kept of a key is its *theoretical arrival time* (TAT): when it would be next if it had kept
   exactly to its rate. An operation moves the TAT by one emission interval, and passes as long as the TAT is not
   further ahead of now than the burst allows.
2. Times are integer microseconds of one clock, which the store chooses. A TAT too far ahead to be true (the clock was
   set back) is pulled in: nobody is locked out for longer than twice a burst takes.
3. A cost above the burst passes only when nothing else is used up, and leaves a debt. A cost below zero gives back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol, Self

import msgspec

US_PER_S = 1_000_000
_PERIODS_S = {"s": 1, "min": 60, "h": 3_600}
_TEXT = re.compile(r"(?P<count>[1-9]\d{0,8})/(?P<period>s|min|h)(?: burst (?P<burst>[1-9]\d{0,8}))?\Z")


class Rate(msgspec.Struct, frozen=True, gc=False):
    """`burst` operations at once, and one more each `interval_us`."""

    interval_us: int
    burst: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads "100/s", "30/min burst 10", "1000/h". Without a burst it is what one period gives. Raises
        `ValueError`."""
        found = _TEXT.match(text)
        if found is None:
            raise ValueError(f"{text!r} is no rate; write it like '100/s', '30/min burst 10' or '1000/h'")
        count = int(found["count"])
        interval_us = _PERIODS_S[found["period"]] * US_PER_S // count
        if interval_us == 0:
            raise ValueError(f"{text!r} is faster than one in a microsecond")
        return cls(interval_us, int(found["burst"] or count))

    @property
    def window_s(self) -> int:
        """How long a used-up burst takes to come back, in seconds, at least 1."""
        return max(1, -(-self.interval_us * self.burst // US_PER_S))


class Ask(msgspec.Struct, frozen=True, gc=False):
    """`cost` operations of `key`."""

    key: str
    rate: Rate
    cost: int = 1


class Grant(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What became of an `Ask`: how many operations were granted, how many more would be now, after how long what was
    asked would be granted (0: it was), and when nothing will be used up any more."""

    granted: int
    remaining: int
    retry_after_us: int
    reset_us: int


def take(tat_us: int, now_us: int, rate: Rate, cost: int) -> tuple[int, Grant]:
    """All that is asked, or nothing. Returns the TAT after it."""
    tat_us = _believable(tat_us, now_us, rate)
    after_us = _believable(tat_us + cost * rate.interval_us, now_us, rate)
    retry_after_us = tat_us + min(cost, rate.burst) * rate.interval_us - now_us - rate.burst * rate.interval_us
    if cost > 0 and retry_after_us > 0:
        return tat_us, Grant(0, _remaining(tat_us, now_us, rate), retry_after_us, tat_us - now_us)
    return after_us, Grant(cost, _remaining(after_us, now_us, rate), 0, max(0, after_us - now_us))


def take_some(tat_us: int, now_us: int, rate: Rate, cost: int) -> tuple[int, Grant]:
    """As much of what is asked as there is. Returns the TAT after it."""
    tat_us = _believable(tat_us, now_us, rate)
    granted = min(cost, _remaining(tat_us, now_us, rate))
    after_us = tat_us + granted * rate.interval_us
    retry_after_us = 0
    if granted < cost:
        retry_after_us = max(1, after_us + rate.interval_us - now_us - rate.burst * rate.interval_us)
    return after_us, Grant(granted, _remaining(after_us, now_us, rate), retry_after_us, after_us - now_us)


def _believable(tat_us: int, now_us: int, rate: Rate) -> int:
    """Never in the past (what was not used is not saved up beyond the burst) and never further ahead than rule 2."""
    return min(max(tat_us, now_us), now_us + 2 * rate.burst * rate.interval_us)


def _remaining(tat_us: int, now_us: int, rate: Rate) -> int:
    return max(0, (rate.burst * rate.interval_us - (tat_us - now_us)) // rate.interval_us)


class RateStoreAway(Exception):
    """The counts cannot be reached now. The operation may have been counted or not."""


class RateStore(Protocol):
    """Where the counts are. A key that is asked for with another rate goes on from its TAT. Keys that are not used
    disappear once nothing of them is used up."""

    async def take(self, asks: Sequence[Ask]) -> list[Grant]:
        """All of all keys or nothing of any, in one step that nothing can come between; one `Grant` each, in order.
        Where one refuses, the others have `granted` 0 too, and tell by `retry_after_us` 0 that it was not them. A key
        must not come twice. Raises `RateStoreAway`."""

    async def take_some(self, asks: Sequence[Ask]) -> list[Grant]:
        """Of each key as much as there is, independent of the others. Raises `RateStoreAway`."""
