"""The auditor's check of plans: how many cards an organisation has, counted from the facts a second time. Pure.

Rules:
1. A card counts from its issue until it is revoked for the first time. Cards whose facts tell no count, from before
   there were plans, do not count; revoking one makes room, but never below zero.
2. On the Free plan no card is issued beyond `CARDS_PER_FREE_TENANT_MAX`; cards that were there before the plan stay.
3. Where every card of an organisation counts, the count is also that of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actors.facts import CardIssued, CardStateChanged, Fact, TenantChanged, TenantOpened
from actors.terms import CARDS_PER_FREE_TENANT_MAX, Plan
from storage.audit_checks import Findings

Row = tuple[Any, ...]


class PlanCheck:
    """`plans`: the count that facts carry is that of the history, and no plan is exceeded."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._plans: dict[str, Plan] = {}
        self._counts: dict[str, int] = {}
        self._revoked: set[tuple[str, str]] = set()
        self._uncounted: set[str] = set()

    def take(self, fact: Fact, place: str) -> None:
        """The next fact."""
        tenant_id = fact.tenant_id
        if isinstance(fact, TenantOpened | TenantChanged):
            self._plans[tenant_id] = fact.settings.plan
        elif isinstance(fact, CardIssued):
            self._compare(fact, 1, place)
            if self._plans.get(tenant_id) == "free" and fact.cards_after > CARDS_PER_FREE_TENANT_MAX:
                self._findings.add("plans", f"{place} issues card {fact.cards_after} of {tenant_id}, which is on Free")
        elif isinstance(fact, CardStateChanged):
            key = (tenant_id, fact.card_id)
            is_freed = fact.state == "revoked" and key not in self._revoked
            if is_freed:
                self._revoked.add(key)
            self._compare(fact, -is_freed, place)

    def _compare(self, fact: CardIssued | CardStateChanged, change: int, place: str) -> None:
        tenant_id = fact.tenant_id
        if fact.cards_after < 0:
            self._uncounted.add(tenant_id)
            return
        counted = max(0, self._counts.get(tenant_id, 0) + change)
        if fact.cards_after != counted:
            self._findings.add("plans", f"{place}: {tenant_id} has {fact.cards_after} cards, counted {counted}")
        self._counts[tenant_id] = fact.cards_after

    def compare_rows(self, counts: Iterable[Row], states: Iterable[Row]) -> None:
        """Rule 3. `counts` are tenant and count of every row of a tenant, `states` tenant and state of every card's."""
        in_force: dict[str, int] = {}
        for tenant_id, state in states:
            in_force[tenant_id] = in_force.get(tenant_id, 0) + (state != "revoked")
        for tenant_id, count in counts:
            found = in_force.get(tenant_id, 0)
            if tenant_id not in self._uncounted and count != found:
                self._findings.add("plans", f"{tenant_id} says it has {count} cards, {found} rows are not revoked")
