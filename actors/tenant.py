"""The virtual actor Tenant: an organisation's settings and rules, and how many cards it has. State changes only in
`apply`.

`cards` counts towards the plan: cards issued since there are plans and not revoked. Facts from before tell no count;
they change nothing here. `issued` is the number of the card that was issued last; it only rises.
"""

from __future__ import annotations

import msgspec

from actors.facts import CardIssued, CardStateChanged, TenantChanged, TenantOpened
from actors.terms import TenantSettings


class Tenant(msgspec.Struct, gc=False):
    """An organisation's state."""

    tenant_id: str
    name: str
    settings: TenantSettings
    cards: int = 0
    position: int = 0
    issued: int = 0

    @classmethod
    def opened(cls, fact: TenantOpened, position: int) -> Tenant:
        """The organisation as it is when just opened."""
        return cls(fact.tenant_id, fact.name, fact.settings, position=position)

    def apply(self, fact: TenantChanged | CardIssued | CardStateChanged, position: int) -> None:
        """Takes in a fact about this tenant or one of its cards."""
        if position <= self.position:
            return
        if isinstance(fact, TenantChanged):
            self.name = fact.name
            self.settings = fact.settings
        elif fact.cards_after >= 0:
            self.cards = fact.cards_after
            if isinstance(fact, CardIssued) and fact.number:
                self.issued = fact.number
        else:
            return
        self.position = position
