"""`RateStore` within one process: for tests, and for a gateway on its own while Redis is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from gateway.rates import Ask, Grant, take, take_some


class MemoryRates:
    """The counts. `clock_us` must not go backwards. When `keys_max` keys are in use, those that are over make room, or
    else those that were used first: they start anew."""

    def __init__(self, clock_us: Callable[[], int], keys_max: int) -> None:
        self._clock_us = clock_us
        self._keys_max = keys_max
        self._tats: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._tats)

    async def take(self, asks: Sequence[Ask]) -> list[Grant]:
        """See `RateStore`."""
        now_us = self._clock_us()
        results = [take(self._tats.get(ask.key, 0), now_us, ask.rate, ask.cost) for ask in asks]
        if any(grant.retry_after_us for _, grant in results):
            untouched = [take(self._tats.get(ask.key, 0), now_us, ask.rate, 0) for ask in asks]
            return [
                Grant(0, now.remaining, asked.retry_after_us, now.reset_us)
                for (_, asked), (_, now) in zip(results, untouched, strict=True)
            ]
        for ask, (tat_us, _) in zip(asks, results, strict=True):
            self._keep(ask.key, tat_us, now_us)
        return [grant for _, grant in results]

    async def take_some(self, asks: Sequence[Ask]) -> list[Grant]:
        """See `RateStore`."""
        now_us = self._clock_us()
        grants = []
        for ask in asks:
            tat_us, grant = take_some(self._tats.get(ask.key, 0), now_us, ask.rate, ask.cost)
            self._keep(ask.key, tat_us, now_us)
            grants.append(grant)
        return grants

    def _keep(self, key: str, tat_us: int, now_us: int) -> None:
        if tat_us <= now_us:
            self._tats.pop(key, None)
            return
        if key not in self._tats and len(self._tats) >= self._keys_max:
            self._tats = {kept: at_us for kept, at_us in self._tats.items() if at_us > now_us}
            if len(self._tats) >= self._keys_max:
                # An eighth at a time, so that a flood of keys costs each of them little.
                for first in list(islice(self._tats, self._keys_max // 8 + 1)):
                    del self._tats[first]
        self._tats[key] = tat_us
