"""Postings to a card's points ledger: which lots an amount comes from, and the facts that say so.

Rules:
1. Spending takes the lot that expires soonest first, then the oldest, points without expiry last.
2. A lot that has lapsed is posted as expired before anything else happens to the card, and only with what is left of
   it.
3. A reversal gives back to the lots that the points came from, with their old expiry; it happens once.
4. A balance goes below zero only as far as the tenant's overdraft allows.
"""

from __future__ import annotations

from collections.abc import Iterable

from actors.card import Card
from actors.facts import AlarmSet, Fact, PointsPosted
from actors.terms import POOL, EntryKind, Lot, Taking

BALANCE_MAX = 10**15
# What the cause of an award for a coupon begins with; the id of the redemption follows.
COUPON_CAUSE = "coupon:"


class LedgerDraft:
    """Builds a run of postings for one card, each on top of the one before, without touching the card itself."""

    def __init__(self, card: Card, at_ms: int, day: int) -> None:
        self._card = card
        self._at_ms = at_ms
        # A card remembers the score of one day only: were its day to go back (its tenant moved west, a slower clock
        # took over), the earlier day's score would begin again at nothing. So the points count for the later day.
        self.day = day = max(day, card.day)
        self._entry_count = card.entry_count
        self._earned = card.earned
        self._day_earned = card.day_earned if card.day == day else 0
        self.balance = card.balance
        self.lots: dict[int, Lot] = {lot.lot: lot for lot in card.lots}
        self.facts: list[PointsPosted] = []

    def post(
        self,
        kind: EntryKind,
        amount: int,
        cause: str,
        *,
        request_id: str = "",
        fingerprint: bytes = b"",
        note: str = "",
        rule: str = "",
        event_id: str = "",
        earned: int = 0,
        earned_day: int = 0,
        event_earned_after: int = 0,
        lots: tuple[Lot, ...] = (),
        takings: tuple[Taking, ...] = (),
        reverses: int = 0,
        short_by: int = 0,
    ) -> PointsPosted:
        """Adds one entry. `earned` is the change of the scores, counted for today only if `earned_day` is today."""
        self._entry_count += 1
        self._earned += earned
        if earned_day == self.day:
            self._day_earned += earned
        self.balance += amount
        for lot in lots:
            self.lots[lot.lot] = lot
        fact = PointsPosted(
            self._card.tenant_id,
            request_id,
            fingerprint,
            self._at_ms,
            self._card.card_id,
            self._card.member_name,
            self._entry_count,
            kind,
            amount,
            self.balance,
            cause,
            note,
            rule,
            event_id,
            self.day,
            self._earned,
            self._day_earned,
            event_earned_after,
            lots,
            takings,
            reverses,
            short_by,
        )
        self.facts.append(fact)
        return fact

    def finished(self) -> list[Fact]:
        """The postings, and the card's alarm where they change it."""
        wake_ms = card_alarm_ms(self.lots.values())
        if wake_ms == card_alarm_ms(self._card.lots):
            return list(self.facts)
        return [*self.facts, self._alarm(wake_ms, rang=False)]

    def woken(self) -> list[Fact]:
        """What the alarm led to."""
        return [self._alarm(card_alarm_ms(self.lots.values()), rang=True), *self.facts]

    def _alarm(self, wake_ms: int, *, rang: bool) -> AlarmSet:
        card = self._card
        return AlarmSet(card.tenant_id, "", b"", self._at_ms, "card", card.card_id, wake_ms, rang)

    def expire_lapsed(self) -> None:
        """Posts the expiry of every lot that has lapsed."""
        for lot in sorted(self.lots.values(), key=_spending_order):
            if lot.remaining > 0 and lot.expires_at_ms <= self._at_ms:
                self.post(
                    "expire",
                    -lot.remaining,
                    f"expiry:{lot.lot}",
                    lots=(Lot(lot.lot, 0, lot.expires_at_ms),),
                    takings=(Taking(lot.lot, lot.remaining),),
                )

    def take(self, amount: int, first: int = POOL) -> tuple[tuple[Lot, ...], tuple[Taking, ...]]:
        """What `amount` points are taken from: lot `first` if it still has some, then in spending order, the pool
        for the rest. Returns the changed lots and the takings; the caller has made sure that so much may be taken."""
        changed: list[Lot] = []
        takings: list[Taking] = []
        rest = amount
        for lot in sorted(self.lots.values(), key=lambda lot: (lot.lot != first, *_spending_order(lot))):
            part = min(rest, lot.remaining)
            if part > 0:
                changed.append(Lot(lot.lot, lot.remaining - part, lot.expires_at_ms))
                takings.append(Taking(lot.lot, part))
                rest -= part
        if rest:
            takings.append(Taking(POOL, rest))
        return tuple(changed), tuple(takings)

    def give_back(self, redeemed: PointsPosted) -> tuple[tuple[Lot, ...], tuple[Taking, ...]]:
        """The lots as they are once the points that `redeemed` took are back in them."""
        expiry_of = {lot.lot: lot.expires_at_ms for lot in redeemed.lots}
        changed = []
        for taking in redeemed.takings:
            if taking.lot != POOL:
                present = self.lots.get(taking.lot)
                remaining = present.remaining if present else 0
                changed.append(Lot(taking.lot, remaining + taking.amount, expiry_of[taking.lot]))
        return tuple(changed), tuple(Taking(taking.lot, -taking.amount) for taking in redeemed.takings)


def _spending_order(lot: Lot) -> tuple[int, int]:
    return (lot.expires_at_ms, lot.lot)


def card_alarm_ms(lots: Iterable[Lot]) -> int:
    """When the first of these lots lapses; 0: none does."""
    return min((lot.expires_at_ms for lot in lots if lot.remaining > 0), default=0)
