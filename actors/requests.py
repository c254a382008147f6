"""Remembering request ids: which were answered, with which fact, and when memory alone can tell that an id is new.

An id that is not remembered is certainly new if memory is complete (nothing was ever forgotten), or if the id is a
UUIDv7 made after everything that was forgotten. Any other id costs a look-up in Postgres, which holds all that was
forgotten: an id is only forgotten once it is projected.

Clocks that run ahead make ids that are older than they say. How far they went is remembered for each tenant (its
claim, kept in Postgres too): an id within the claim is looked up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from actors.facts import Fact
from actors.ids import claimed_ahead_ms, uuid7_time_ms
from actors.limits import Limits

RequestKey = tuple[str, str]


class RequestMemory:
    """The request ids of one partition that are still in memory."""

    def __init__(
        self, limits: Limits, *, is_complete: bool, forgotten_until_ms: int, claims: Mapping[str, int]
    ) -> None:
        """Everything that memory lacks was decided at or before `forgotten_until_ms`, unless `is_complete`; its ids
        claim to be no younger than that and its tenant's claim."""
        self._limits = limits
        self._claims = dict(claims)
        self._is_complete = is_complete
        self._forgotten_until_ms = forgotten_until_ms
        self._known: dict[RequestKey, tuple[Fact, int]] = {}
        self._order: deque[RequestKey] = deque()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: RequestKey) -> tuple[Fact, int] | None:
        """The fact that answered this request, and its position."""
        return self._known.get(key)

    def remember(self, key: RequestKey, fact: Fact, position: int) -> None:
        """Takes in an answered request; facts come in the order of their positions."""
        assert key not in self._known, "exactly one effect per request id"
        self._known[key] = (fact, position)
        self._order.append(key)

    def is_certainly_new(self, key: RequestKey, now_ms: int) -> bool:
        """Whether a request that is not remembered can be taken for new without asking Postgres."""
        if self._is_complete:
            return True
        tenant_id, request_id = key
        made_ms = uuid7_time_ms(request_id)
        if made_ms is None or made_ms <= self._claims.get(tenant_id, 0):
            return False
        ahead_ms = self._limits.clock_ahead_ms_max
        return self._forgotten_until_ms + ahead_ms < made_ms <= now_ms + ahead_ms

    def forget(self, projected_position: int, now_ms: int) -> None:
        """Drops the oldest ids over the limit, if they are projected and no look-up under way can have missed them."""
        old_ms = now_ms - self._limits.memory_ms_min
        while len(self._order) > self._limits.requests_remembered_max:
            key = self._order[0]
            fact, position = self._known[key]
            at_ms = fact.at_ms
            if position > projected_position or at_ms > old_ms:
                return
            self._order.popleft()
            del self._known[key]
            self._is_complete = False
            self._forgotten_until_ms = max(self._forgotten_until_ms, at_ms)
            claimed_ms = claimed_ahead_ms(key[1], at_ms, self._limits.clock_ahead_ms_max)
            if claimed_ms:
                self._claims[key[0]] = max(claimed_ms, self._claims.get(key[0], 0))
