"""The virtual actor Tenant: an organisation's settings and rules. State changes only in `apply`."""

from __future__ import annotations

import msgspec

from actors.facts import TenantChanged, TenantOpened
from actors.terms import TenantSettings


class Tenant(msgspec.Struct, gc=False):
    """An organisation's state."""

    tenant_id: str
    name: str
    settings: TenantSettings
    position: int = 0

    @classmethod
    def opened(cls, fact: TenantOpened, position: int) -> Tenant:
        """The organisation as it is when just opened."""
        return cls(fact.tenant_id, fact.name, fact.settings, position)

    def apply(self, fact: TenantChanged, position: int) -> None:
        """Takes in a fact about this tenant."""
        if position <= self.position:
            return
        self.position = position
        self.name = fact.name
        self.settings = fact.settings
