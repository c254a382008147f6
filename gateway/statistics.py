"""An event's scans counted: in total, by gate and by time, for a span that has an end.

Rules:
1. Postgres counts, over the scans of the span alone (`storage.scan_log`, rule 3), and has
   `limits.STATISTICS_TIMEOUT_MS` for it, the wait for others who count included. Beyond that the answer is 503.
2. Buckets begin where days do in the event's time zone. Those of a minute or an hour are counted from there, so where
   clocks change they stay as long as they are: a day has 23, 24 or 25 hours. Only those with scans are told.
3. A gate that the event does not have (a scan that named none, or a wrong one) goes under "".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from actors.calendar import window_bounds
from gateway import limits
from gateway.cold import ColdStore
from gateway.problems import FieldError, Problem
from storage.scan_log import Count, counts_of_event, newest_at_ms

Step = Literal["minute", "hour", "day"]
STEP_MS: dict[Step, int] = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}


class Tally(msgspec.Struct):
    """Scans that led to an entry or an exit, and those that were refused, by reason; of all of these, those that were
    offline, forced, or annulled since."""

    admitted: int = 0
    exits: int = 0
    refused: int = 0
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    offline: int = 0
    forced: int = 0
    annulled: int = 0

    def add(self, count: Count) -> None:
        """Takes some more scans in."""
        self.offline += count.offline
        self.forced += count.forced
        self.annulled += count.annulled
        if count.is_refused:
            self.refused += count.scans
            if count.reason:
                self.reasons[count.reason] = self.reasons.get(count.reason, 0) + count.scans
        elif count.direction == "exit":
            self.exits += count.scans
        else:
            self.admitted += count.scans


class Statistics(msgspec.Struct, frozen=True):
    """What was counted: in total, by gate id, and by the beginning of the bucket, in order."""

    totals: Tally
    gates: dict[str, Tally]
    buckets: dict[int, Tally]


def bucket_starts(span: tuple[int, int], step: Step, time_zone: str) -> list[int]:
    """When the buckets of a span (from, before) begin, the first not after it does. Raises `Problem` (400) for more
    than there may be."""
    since_ms, until_ms = span
    if (until_ms - since_ms) // STEP_MS[step] > limits.STATISTICS_BUCKETS_MAX:
        raise _too_many(step)
    starts = [start for start in _starts(span, step, time_zone) if start + STEP_MS[step] > since_ms or step == "day"]
    if len(starts) > limits.STATISTICS_BUCKETS_MAX:
        raise _too_many(step)
    return starts


def _starts(span: tuple[int, int], step: Step, time_zone: str) -> Iterator[int]:
    """Those of all days of the span."""
    at_ms = span[0]
    while at_ms < span[1]:
        day = window_bounds("day", at_ms, time_zone)
        yield from [day.start_ms] if step == "day" else range(day.start_ms, min(day.end_ms, span[1]), STEP_MS[step])
        at_ms = day.end_ms


def _too_many(step: Step) -> Problem:
    detail = f"At most {limits.STATISTICS_BUCKETS_MAX} {step}s at a time: ask for a shorter span or a coarser step."
    return Problem("malformed", detail, [FieldError(detail, parameter="step")])


class Statistician:
    """Counts for this gateway's organisations, few at a time."""

    def __init__(self, cold: ColdStore) -> None:
        self._cold = cold
        self._reads = asyncio.Semaphore(limits.STATISTICS_READS_MAX)

    async def last_day(self, tenant_id: str, event_id: str, time_zone: str, now_ms: int) -> tuple[int, int]:
        """The local day of the event's newest scan; today without any. Raises `StoreUnavailable`."""
        async with self._cold.connection() as connection:
            newest_ms = await newest_at_ms(connection, tenant_id, event_id)
        day = window_bounds("day", now_ms if newest_ms is None else newest_ms, time_zone)
        return day.start_ms, day.end_ms

    async def count(
        self, tenant_id: str, event_id: str, span: tuple[int, int], starts_ms: Sequence[int], gate_ids: Sequence[str]
    ) -> Statistics:
        """Rule 1. Raises `Problem` (503), `StoreUnavailable`."""
        timeout_s = limits.STATISTICS_TIMEOUT_MS / 1_000
        try:
            async with asyncio.timeout(timeout_s), self._reads, self._cold.connection() as connection:
                counts = await counts_of_event(
                    connection, tenant_id, event_id, starts_ms, span, gate_ids, 2 * timeout_s
                )
        except TimeoutError:
            detail = "Counting takes too long now. Ask for a shorter span, or later."
            raise Problem("unavailable", detail, retry_after_ms=limits.STATISTICS_TIMEOUT_MS) from None
        totals, gates, buckets = Tally(), dict[str, Tally](), dict[int, Tally]()
        for count in counts:
            if count.bucket is None:
                totals.add(count)
                gates.setdefault(count.gate_id, Tally()).add(count)
            else:
                buckets.setdefault(starts_ms[count.bucket], Tally()).add(count)
        return Statistics(totals, gates, dict(sorted(buckets.items())))
