"""How many of one kind of long work are under way at a gateway: for all its organisations together, and for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.problems import Problem


class Slots:
    """Places for `at_once_max` of `what`, of which one organisation may have `per_tenant_max`. Nobody waits here."""

    def __init__(self, what: str, at_once_max: int, per_tenant_max: int, retry_after_ms: int) -> None:
        self._what = what
        self._at_once_max = at_once_max
        self._per_tenant_max = per_tenant_max
        self._retry_after_ms = retry_after_ms
        self._taken: Counter[str] = Counter()

    @property
    def taken_count(self) -> int:
        """How many are taken."""
        return self._taken.total()

    @contextmanager
    def hold(self, tenant_id: str) -> Iterator[None]:
        """A place until the end of the block. Raises `Problem`: 429 where the organisation has all of its own, 503
        where the gateway has none."""
        if self._taken[tenant_id] >= self._per_tenant_max:
            detail = f"An organisation has at most {self._per_tenant_max} {self._what} at a time."
            raise Problem("rate_limited", detail, retry_after_ms=self._retry_after_ms)
        if self.taken_count >= self._at_once_max:
            raise Problem("unavailable", f"Too many {self._what} are under way.", retry_after_ms=self._retry_after_ms)
        self._taken[tenant_id] += 1
        try:
            yield
        finally:
            self._taken[tenant_id] -= 1
            if not self._taken[tenant_id]:
                del self._taken[tenant_id]
