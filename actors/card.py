"""The virtual actor Card: a member's card with its points.

Rules:
1. State changes only in `apply`; what a fact does not say is not known here.
2. `position` is that of the last fact applied; a fact at or before it changes nothing (loading = row + the journal's
   tail).
3. `balance` = sum of all entries = the pool (points without expiry) + what is left in the lots.
"""

from __future__ import annotations

import msgspec

from actors.card_facts import CardFact, CardReissued, CardRenewed, CardTierChanged, TagAssigned
from actors.door_facts import CardNoted
from actors.facts import CardHolderRenamed, CardIssued, CardStateChanged, PointsPosted
from actors.terms import CardState, Lot


class Card(msgspec.Struct, gc=False):
    """A card's state. `attention` is what staff at a door are told. `day` (yyyymmdd, tenant's time zone) is the day
    that `day_earned` counts, 0 before any award. `serial` is that of the credential that is good, `number` the
    organisation's n-th card (0: from before there were numbers), `tag_uid` its NFC tag, "" for none."""

    tenant_id: str
    card_id: str
    member_id: str
    member_name: str
    tier: str
    valid_from_ms: int
    valid_until_ms: int
    state: CardState = "active"
    balance: int = 0
    earned: int = 0
    earned_position: int = 0
    entry_count: int = 0
    day: int = 0
    day_earned: int = 0
    day_position: int = 0
    lots: tuple[Lot, ...] = ()
    position: int = 0
    attention: str = ""
    serial: int = 0
    number: int = 0
    tag_uid: str = ""

    @classmethod
    def issued(cls, fact: CardIssued, position: int) -> Card:
        """The card as it is when just issued."""
        return cls(
            fact.tenant_id,
            fact.card_id,
            fact.member_id,
            fact.member_name,
            fact.tier,
            fact.valid_from_ms,
            fact.valid_until_ms,
            position=position,
            number=fact.number,
        )

    def apply(
        self, fact: CardStateChanged | CardHolderRenamed | CardNoted | CardFact | PointsPosted, position: int
    ) -> None:
        """Takes in a fact about this card."""
        if position <= self.position:
            return
        self.position = position
        if not isinstance(fact, PointsPosted):
            self._change(fact)
            return
        assert fact.entry_seq == self.entry_count + 1, "ledger entries are contiguous"
        assert fact.balance_after == self.balance + fact.amount, "a balance is the sum of its entries"
        self.entry_count = fact.entry_seq
        self.balance = fact.balance_after
        if fact.earned_after != self.earned:
            self.earned = fact.earned_after
            self.earned_position = position
        if fact.day and (fact.day, fact.day_earned_after) != (self.day, self.day_earned):
            self.day = fact.day
            self.day_earned = fact.day_earned_after
            self.day_position = position
        if fact.lots:
            changed = {lot.lot for lot in fact.lots}
            kept = [lot for lot in self.lots if lot.lot not in changed]
            kept += [lot for lot in fact.lots if lot.remaining]
            self.lots = tuple(sorted(kept, key=lambda lot: (lot.expires_at_ms, lot.lot)))

    def _change(self, fact: CardStateChanged | CardHolderRenamed | CardNoted | CardFact) -> None:
        if isinstance(fact, CardStateChanged):
            self.state = fact.state
        elif isinstance(fact, CardHolderRenamed):
            self.member_name = fact.member_name
        elif isinstance(fact, CardNoted):
            self.attention = fact.attention
        elif isinstance(fact, CardReissued):
            self.serial = fact.serial
        elif isinstance(fact, CardRenewed):
            self.valid_from_ms, self.valid_until_ms = fact.valid_from_ms, fact.valid_until_ms
        elif isinstance(fact, CardTierChanged):
            self.tier = fact.tier
        else:
            self.tag_uid = fact.tag_uid if isinstance(fact, TagAssigned) else ""

    @property
    def pool(self) -> int:
        """Points without expiry; below zero only where the tenant allows an overdraft."""
        return self.balance - sum(lot.remaining for lot in self.lots)

    def available(self, at_ms: int) -> int:
        """What can be spent at `at_ms`: lots that have lapsed by then do not count, though their expiry may not be
        posted yet."""
        if not self.lots:
            return self.balance
        return self.balance - sum(lot.remaining for lot in self.lots if lot.expires_at_ms <= at_ms)
