"""What a gateway keeps in memory of organisations, for where nobody can wait: allowed origins, and plans.

Rules:
1. All of it comes from Postgres: every `MIRROR_INTERVAL_S`, and soon after news of an organisation. In between, and
   while Postgres is away, it is as it was.
2. Origins are those of all open organisations; plans only of organisations that were asked about in this interval or
   the one before. A plan that is not known yet is "", and known soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from gateway.access_feed import AccessChange
from gateway.orgs import limits
from storage.postgres import OUTAGES, Pool

_ORIGINS = "SELECT tenant_id, allowed_origins FROM org_profiles WHERE state = 'open' AND allowed_origins <> '{}'"
# `settings` is actors.terms.TenantSettings as an array; organisations from before there were plans have none in it.
_PLANS = "SELECT tenant_id, coalesce(settings ->> 3, 'premium') FROM tenants WHERE tenant_id = ANY($1::text[])"
_log = structlog.get_logger(__name__)


class OrgMirror:
    """Implements `gateway.cors.TenantOrigins`, and `plan_of` for `gateway.limiter.Limiter`. `run` must be running."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._origins: Mapping[str, frozenset[str]] = {}
        self._all_origins: frozenset[str] = frozenset()
        self._plans: dict[str, str] = {}
        self._asked: set[str] = set()
        self._asked_before: set[str] = set()
        self._wake = asyncio.Event()

    def allows(self, tenant_id: str, origin: str) -> bool:
        """See `TenantOrigins`."""
        return origin in self._origins.get(tenant_id, ())

    def is_known(self, origin: str) -> bool:
        """See `TenantOrigins`."""
        return origin in self._all_origins

    def plan_of(self, tenant_id: str) -> str:
        """The organisation's plan, "" as long as it is not known."""
        if len(self._asked) < limits.MIRROR_PLANS_MAX:
            self._asked.add(tenant_id)
        plan = self._plans.get(tenant_id)
        if plan is None:
            self._wake.set()
            return ""
        return plan

    def on_change(self, change: AccessChange) -> None:
        """Looks again soon where the news is about an organisation, or about anything."""
        if change.kind in ("org", "everything"):
            self._wake.set()

    async def load(self) -> None:
        """Looks now."""
        asked = self._asked | self._asked_before
        try:
            origins = await self._pool.fetch(_ORIGINS)
            plans = await self._pool.fetch(_PLANS, sorted(asked)) if asked else []
        except OUTAGES as outage:
            _log.warning("organisations not looked up", error=repr(outage))
            return
        self._origins = {row[0]: frozenset(row[1]) for row in origins}
        self._all_origins = frozenset().union(*self._origins.values())
        self._plans = {row[0]: row[1] for row in plans}

    async def run(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            self._wake.clear()
            await self.load()
            await asyncio.sleep(limits.MIRROR_PAUSE_S)
            try:
                async with asyncio.timeout(limits.MIRROR_INTERVAL_S):
                    await self._wake.wait()
            except TimeoutError:
                self._asked_before, self._asked = self._asked, set()
