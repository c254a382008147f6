"""Rate limits on the hot path: allowance leased from the `RateStore` in chunks, in the background, spent from memory.

Rules:
1. What is spent is subtracted from a lease in memory. Nothing waits for that and nothing asks the store; a lease that
   runs low is marked.
2. `refill` asks the store for what the marked leases lack up to their chunk, all in one call, at most every
   `LEASE_REFILL_MS`. A chunk is `LEASE_CHUNK_MS` worth of the rate and at least `LEASE_CHUNK_MIN`.
3. A lease begins with nothing and may be overdrawn by one chunk: so the first operations need not wait, and they are
   paid for by the first refill. **That is the error**: within any time t, N gateways together let pass at most
   rate · t + burst + 2 · N · chunk (a chunk leased earlier and not yet spent, and a chunk overdrawn, on each).
4. What is leased and not spent is spent later or lost; it never adds up beyond one chunk a gateway.
5. At most `entries_max` keys are kept. The lease that was made first makes room: what it held is lost, what it owed is
   forgiven (one chunk; whoever wants to gain by that must have so many valid keys).
6. The store never fails here: `gateway.limiter` puts one behind it that counts for itself while Redis is away. Then
   each gateway grants the whole rate by itself.
"""

from __future__ import annotations

import asyncio

import msgspec

from gateway import limits
from gateway.rates import Ask, Rate, RateStore


class Lease(msgspec.Struct, gc=False):
    """What one key may still do here. `left` is between -`chunk` and `chunk`."""

    key: str
    rate: Rate
    chunk: int
    low: int
    left: int = 0
    is_marked: bool = False


def chunk_of(rate: Rate) -> int:
    """How much is leased at a time (rule 2)."""
    worth = limits.LEASE_CHUNK_MS * 1_000 // rate.interval_us
    return min(max(worth, limits.LEASE_CHUNK_MIN), rate.burst)


class LeaseBook:
    """The leases of one gateway. `run` must be running for them to be refilled."""

    def __init__(self, store: RateStore, entries_max: int = limits.LEASES_MAX) -> None:
        self._store = store
        self._entries_max = entries_max
        self._leases: dict[str, Lease] = {}
        self._low: dict[str, Lease] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._leases)

    def lease(self, key: str, rate: Rate) -> Lease:
        """The key's lease, new if need be. A rate that has changed holds from now on."""
        lease = self._leases.get(key)
        if lease is None:
            if len(self._leases) >= self._entries_max:
                del self._leases[next(iter(self._leases))]
            chunk = chunk_of(rate)
            lease = self._leases[key] = Lease(key, rate, chunk, chunk // 2)
        elif lease.rate is not rate and lease.rate != rate:
            lease.rate, lease.chunk = rate, chunk_of(rate)
            lease.low = lease.chunk // 2
            lease.left = min(lease.left, lease.chunk)
        return lease

    def has(self, lease: Lease, cost: int) -> bool:
        """Whether `cost` operations may pass. A lease that runs low by them is marked for a refill."""
        left = lease.left - cost
        if left < lease.low and not lease.is_marked:
            lease.is_marked = True
            self._low[lease.key] = lease
            self._wake.set()
        return left >= -lease.chunk

    async def refill(self) -> None:
        """Fills up the marked leases, as far as the store gives."""
        marked, self._low = list(self._low.values()), {}
        for start in range(0, len(marked), limits.LEASES_PER_REFILL_MAX):
            some = marked[start : start + limits.LEASES_PER_REFILL_MAX]
            asks = [Ask(lease.key, lease.rate, max(0, lease.chunk - lease.left)) for lease in some]
            for lease, grant in zip(some, await self._store.take_some(asks), strict=True):
                lease.left += grant.granted
                lease.is_marked = False

    async def run(self) -> None:
        """Refills until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.refill()
            await asyncio.sleep(limits.LEASE_REFILL_MS / 1_000)
