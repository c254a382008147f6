"""Who may ask how often: the named limits of the edge, and what an answer says about them.

Rules:
1. A limit is a name of `limits.RATES` and a key: the caller, device, organisation or address that is limited. Operators
   set other rates by `MASTERVIP_RATES`. A rate "NAME-PLAN" goes before "NAME" for organisations on that plan.
2. `admit` is the hot path, on leases (`gateway.leases`): it does not wait. Everything else counts in the store.
3. **No limit is a reason for a 5xx.** While the store is away each gateway counts for itself, and says so once.
4. A refused operation uses up nothing. N operations in one request count N.
5. A key known to be used up is refused without asking the store, so that a flood costs it nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from gateway import limits
from gateway.identity.callers import Caller
from gateway.leases import LeaseBook
from gateway.memory_rates import MemoryRates
from gateway.problems import Problem
from gateway.rates import Ask, Grant, Rate, RateStore, RateStoreAway

LIMITED: Final = "rate_limited"
Headers = list[tuple[bytes, bytes]]
Limited = tuple[str, str] | tuple[str, str, int]
"""Name of the limit, key, and how many operations if not one."""
_Take = Callable[[Sequence[Ask]], Awaitable[list[Grant]]]
_log = structlog.get_logger(__name__)


class Standing(msgspec.Struct, frozen=True):
    """Where a key stands with one limit."""

    name: str
    rate: Rate
    grant: Grant


class SteadyRates:
    """A `RateStore` that never fails: `first`, and while that is away `spare` (rule 3)."""

    def __init__(self, first: RateStore, spare: RateStore, clock_us: Callable[[], int]) -> None:
        self._first = first
        self._spare = spare
        self._clock_us = clock_us
        self._away_until_us = 0
        self._is_away = False

    async def take(self, asks: Sequence[Ask]) -> list[Grant]:
        """See `RateStore`."""
        return await self._ask(self._first.take, self._spare.take, asks)

    async def take_some(self, asks: Sequence[Ask]) -> list[Grant]:
        """See `RateStore`."""
        return await self._ask(self._first.take_some, self._spare.take_some, asks)

    async def _ask(self, first: _Take, spare: _Take, asks: Sequence[Ask]) -> list[Grant]:
        if self._clock_us() >= self._away_until_us:
            try:
                grants = await first(asks)
            except RateStoreAway as error:
                self._went_away(error)
            else:
                self._came_back()
                return grants
        return await spare(asks)

    def _went_away(self, error: RateStoreAway) -> None:
        self._away_until_us = self._clock_us() + limits.RATE_STORE_RETRY_MS * 1_000
        if not self._is_away:
            self._is_away = True
            _log.warning("rate limits: Redis is away, each gateway counts for itself", error=str(error))

    def _came_back(self) -> None:
        if self._is_away:
            self._is_away = False
            _log.info("rate limits: Redis is back, gateways count together")


class Limiter:
    """The limits of one gateway. `clock_us` is a monotonic clock; `plan_of` names an organisation's plan, from memory.
    `run` must be running."""

    def __init__(
        self,
        store: RateStore,
        clock_us: Callable[[], int],
        rates: Mapping[str, Rate] | None = None,
        plan_of: Callable[[str], str] = lambda _tenant_id: "",
    ) -> None:
        self._store = SteadyRates(store, MemoryRates(clock_us, limits.RATE_KEYS_MAX), clock_us)
        self._leases = LeaseBook(self._store)
        self._clock_us = clock_us
        self._rates = {**limits.RATES, **(rates or {})}
        self._plan_of = plan_of
        self._used_up_until_us: dict[str, int] = {}
        self.refused_count = 0

    async def run(self) -> None:
        """Keeps the leases filled, until cancelled."""
        await self._leases.run()

    def rate(self, name: str, tenant_id: str = "") -> Rate:
        """The rate of a limit (rule 1). Raises `KeyError` for a name that is none."""
        if tenant_id:
            by_plan = self._rates.get(f"{name}-{self._plan_of(tenant_id)}")
            if by_plan is not None:
                return by_plan
        return self._rates[name]

    # --- check-ins ----------------------------------------------------------------------------------------------------

    def admit(self, caller: Caller, cost: int = 1) -> int:
        """0 when so many check-ins may pass; they are counted then. Else after how many milliseconds to try again."""
        tenant_id = caller.tenant_id
        name, key = _scanner(caller)
        book = self._leases
        own = book.lease(f"{name}:{tenant_id}:{key}", self.rate(name, tenant_id))
        org = book.lease("checkins-org:" + tenant_id, self.rate("checkins-org", tenant_id))
        # Both are asked, so that both are refilled.
        if book.has(own, cost) & book.has(org, cost):
            own.left -= cost
            org.left -= cost
            return 0
        self.refused_count += cost
        return max(limits.LEASE_RETRY_MS, own.rate.interval_us // 1_000, org.rate.interval_us // 1_000)

    def refusal(self, caller: Caller, wait_ms: int) -> Problem:
        """What to tell whom `admit` has refused."""
        name, key = _scanner(caller)
        standings = []
        for limit, whose in ((name, f"{caller.tenant_id}:{key}"), ("checkins-org", caller.tenant_id)):
            rate = self.rate(limit, caller.tenant_id)
            lease = self._leases.lease(f"{limit}:{whose}", rate)
            if not self._leases.has(lease, 1):
                standings.append(Standing(limit, rate, Grant(0, 0, wait_ms * 1_000, wait_ms * 1_000)))
        return _refusal(standings, wait_ms * 1_000)

    # --- everything else ----------------------------------------------------------------------------------------------

    async def check(self, *limited: Limited, tenant_id: str = "") -> list[Standing]:
        """Counts one operation (or as many as said) of each, all or none. Raises `Problem` (429)."""
        names = [each[0] for each in limited]
        asks = [
            Ask(f"{each[0]}:{each[1]}", self.rate(each[0], tenant_id), each[2] if len(each) == 3 else 1)
            for each in limited
        ]
        grants = self._known(asks) or await self._store.take(asks)
        standings = [Standing(name, ask.rate, grant) for name, ask, grant in zip(names, asks, grants, strict=True)]
        wait_us = max((grant.retry_after_us for grant in grants), default=0)
        if wait_us:
            self._remember(asks, grants)
            self.refused_count += 1
            raise _refusal([standing for standing in standings if standing.grant.retry_after_us], wait_us)
        return standings

    async def give_back(self, *limited: Limited) -> None:
        """Undoes `check`: for limits that count failures alone, where it turned out to be none."""
        asks = [
            Ask(f"{each[0]}:{each[1]}", self.rate(each[0]), -(each[2] if len(each) == 3 else 1)) for each in limited
        ]
        for ask in asks:
            self._used_up_until_us.pop(ask.key, None)
        await self._store.take(asks)

    def used_up_ms(self, name: str, key: str) -> int:
        """For how long, as far as this gateway knows, nothing is left; 0 when it knows of none."""
        until_us = self._used_up_until_us.get(f"{name}:{key}", 0)
        return max(0, -(-(until_us - self._clock_us()) // 1_000))

    def _known(self, asks: Sequence[Ask]) -> list[Grant]:
        """The refusals that need not be asked for (rule 5); empty if there are none."""
        now_us = self._clock_us()
        waits_us = [max(0, self._used_up_until_us.get(ask.key, 0) - now_us) if ask.cost else 0 for ask in asks]
        if not any(waits_us):
            return []
        return [
            Grant(0, 0 if wait_us else ask.rate.burst, wait_us, wait_us)
            for ask, wait_us in zip(asks, waits_us, strict=True)
        ]

    def _remember(self, asks: Sequence[Ask], grants: Sequence[Grant]) -> None:
        now_us = self._clock_us()
        for ask, grant in zip(asks, grants, strict=True):
            # A larger operation that finds no room says nothing about a smaller one.
            if grant.retry_after_us and not grant.remaining:
                if len(self._used_up_until_us) >= limits.RATE_KEYS_MAX:
                    self._used_up_until_us.clear()
                self._used_up_until_us[ask.key] = now_us + min(grant.retry_after_us, ask.rate.interval_us)


def _scanner(caller: Caller) -> tuple[str, str]:
    """The limit and the key of who checks in."""
    if caller.device_id:
        return "checkins-device", caller.device_id
    if caller.key_id:
        return "checkins-key", caller.key_id
    return "checkins-account", caller.account_id


def caller_limit(caller: Caller) -> tuple[str, str]:
    """The limit and the key of a caller of the ordinary routes."""
    if caller.device_id:
        return "rest-device", f"{caller.tenant_id}:{caller.device_id}"
    if caller.key_id:
        return "rest-key", f"{caller.tenant_id}:{caller.key_id}"
    return "rest-account", caller.account_id or caller.role


def rate_headers(standings: Sequence[Standing]) -> Headers:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10, structured fields): for each limit
    the quota `q` in a window of `w` seconds; what remains, `r`, and after how many seconds all is there again, `t`."""
    policy = ", ".join(f'"{each.name}";q={each.rate.burst};w={each.rate.window_s}' for each in standings)
    state = ", ".join(
        f'"{each.name}";r={each.grant.remaining};t={-(-each.grant.reset_us // 1_000_000)}' for each in standings
    )
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", state.encode())]


def _refusal(refused: Sequence[Standing], wait_us: int) -> Problem:
    names = " and ".join(repr(each.name) for each in refused)
    return Problem(
        LIMITED,
        f"The limit {names} is used up." if names else "",
        retry_after_ms=max(1, -(-wait_us // 1_000)),
        headers=rate_headers(refused),
    )
