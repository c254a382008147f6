"""The virtual actor Tenant: an organisation's settings and rules, how many cards it has, and its side of the double
entry (`actors.accounts`). State changes only in `apply`.

`cards` counts towards the plan: cards issued since there are plans and not revoked. Facts from before tell no count;
they change nothing here. `issued` is the number of the card that was issued last; it only rises.

`accounts` has a position of its own: it changes with every posting to any card, settings nearly never, and each is
stored by itself.
"""

from __future__ import annotations

import msgspec

from actors.accounts import contra_of
from actors.facts import CardIssued, CardStateChanged, PointsPosted, TenantChanged, TenantOpened
from actors.terms import TenantSettings


class Tenant(msgspec.Struct, gc=False):
    """An organisation's state."""

    tenant_id: str
    name: str
    settings: TenantSettings
    cards: int = 0
    position: int = 0
    accounts: dict[str, int] = {}
    accounts_position: int = 0
    issued: int = 0

    @classmethod
    def opened(cls, fact: TenantOpened, position: int) -> Tenant:
        """The organisation as it is when just opened."""
        return cls(fact.tenant_id, fact.name, fact.settings, position=position)

    def apply(self, fact: TenantChanged | CardIssued | CardStateChanged | PointsPosted, position: int) -> None:
        """Takes in a fact about this tenant or one of its cards."""
        if isinstance(fact, PointsPosted):
            if fact.amount and position > self.accounts_position:
                self._post(fact, position)
            return
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

    def _post(self, fact: PointsPosted, position: int) -> None:
        contra = contra_of(fact.account, fact.kind, fact.amount)
        after = self.accounts.get(contra, 0) - fact.amount
        assert fact.contra_after is None or fact.contra_after == after, "accounts are the sum of what was drawn on them"
        self.accounts[contra] = after
        self.accounts_position = position
