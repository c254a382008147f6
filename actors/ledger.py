"""Postings to a card's ledger: which lots an amount comes from, and the facts that say so.

Rules:
1. Spending takes the lot that expires soonest first, then the oldest, points without expiry last; never pending ones.
2. What has fallen due (lots that lapsed, holds that lapsed) is posted before anything else happens to the card, in the
   order of the times at which it fell due, and of a lot only what is left of it. So it makes no difference when anybody
   looks. Pending points that become spendable by time need no entry: nothing moves.
3. A hold takes its points out of their lots, in spending order. While it is open they neither lapse nor are spent; what
   comes back goes into the lots that it came from, with their old expiry, and lapses at once if that has passed.
4. A reversal gives back to the lots that the points came from, with their old expiry; those that lapsed meanwhile live
   on for the organisation's grace period. It happens once.
5. What a reversal takes, it takes from the award's own lot, then as spending does, then from what is pending, then
   below zero as far as the organisation's overdraft allows.
6. A balance goes below zero only as far as that overdraft, a wallet's never.
7. What is earned, or taken back, counts on its own day as long as that is not frozen (`actors.freezing`).
8. Each posting moves an account of the organisation by as much the other way (`actors.accounts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from actors.accounts import contra_of
from actors.calendar import local_day
from actors.card import Card
from actors.facts import AlarmSet, Fact, PointsPosted
from actors.freezing import day_now, is_open
from actors.seldom import with_seldom
from actors.tenant import Tenant
from actors.terms import FAR_MS, POOL, Account, EarnedDay, EntryKind, Hold, Lot, Taking
from actors.tiers import Standing, TierFact, fallen_due, points_in_window, risen, standing_of

BALANCE_MAX = 10**15
# What the cause of an award for a coupon begins with; the id of the redemption follows.
COUPON_CAUSE = "coupon:"


class LedgerDraft:
    """Builds a run of postings for one card, each on top of the one before, without touching card or organisation.
    `before` is the draft of another card in the same decision: the organisation's accounts go on from there. `day` is
    where counts what is earned at `earned_ms`, 0: now."""

    def __init__(
        self,
        tenant: Tenant,
        card: Card,
        at_ms: int,
        before: LedgerDraft | None = None,
        earned_ms: int = 0,
        standing: Standing | None = None,
    ) -> None:
        self._tenant = tenant
        self._card = card
        self._at_ms = at_ms
        self._today = self.day = local_day(at_ms, tenant.settings.time_zone)
        if self.day < card.day:
            self._today = self.day = day_now(tenant.settings, card, at_ms)
        if earned_ms and earned_ms != at_ms:
            day = local_day(earned_ms, tenant.settings.time_zone)
            if is_open(tenant.settings, card, day, at_ms):
                self.day = day
        self._entry_count = card.entry_count
        self._earned = card.earned
        # What the card has earned on `day`; by day, on other days that are changed here.
        self._day_earned = card.day_earned if card.day == self.day else card.earned_on(self.day)
        self._other_days: dict[int, int] | None = None
        self._moved: dict[str, int] = before._moved if before is not None else {}
        self.balance = card.balance
        self.wallet = card.wallet
        self.lots: dict[int, Lot] = {lot.lot: lot for lot in card.lots} if card.lots else {}
        self.holds: dict[int, Hold] = {hold.hold: hold for hold in card.holds} if card.seldom.holds else {}
        self.facts: list[PointsPosted] = []
        # In organisations with tiers by points: the sums of days that were changed; what fell due about the tier.
        self._has_tiers = tenant.settings.tiers is not None
        self._earned_ms = earned_ms or at_ms
        self._earned_days: dict[int, EarnedDay] = {}
        self._due: list[TierFact] = []
        self._standing = standing
        # When the card's birthday comes next, with what is decided here.
        self.birthday_due_ms = card.seldom.birthday_due_ms

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
        reversed_on: int = 0,
        event_earned_after: int = 0,
        lots: tuple[Lot, ...] = (),
        takings: tuple[Taking, ...] = (),
        reverses: int = 0,
        short_by: int = 0,
        account: Account = "points",
        held: int = 0,
        due_ms: int = 0,
    ) -> PointsPosted:
        """Adds one entry. `earned` is the change of the scores, counted on `earned_day` where that is open; it is of
        today otherwise. `reversed_on` is the day to whose sum a reversed award was added, 0: to none."""
        self._entry_count += 1
        self._earned += earned
        if earned and earned_day == self.day:
            day = earned_day
            self._day_earned = day_earned = self._day_earned + earned
        else:
            day, day_earned = self._on_other_day(earned, earned_day)
        is_points = account == "points"
        self.balance += amount if is_points else 0
        self.wallet += 0 if is_points else amount
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
            self.balance if is_points else self.wallet,
            cause,
            note,
            rule,
            event_id,
            day,
            self._earned,
            day_earned,
            event_earned_after,
            lots,
            takings,
            reverses,
            short_by,
            account,
            self.wallet if is_points else self.balance,
            self._contra_after(account, kind, amount) if amount else None,
            held,
            due_ms,
            earned_on=self._earn(earned, reversed_on) if self._has_tiers or reversed_on else None,
        )
        self.facts.append(fact)
        return fact

    def _on_other_day(self, earned: int, day: int) -> tuple[int, int]:
        """The day of a posting that is not of `day`, and what the card has earned on it."""
        if not earned or not day or not is_open(self._tenant.settings, self._card, day, self._at_ms):
            day, earned = self._today, 0
        if day == self.day:
            return day, self._day_earned
        days = self._other_days
        if days is None:
            days = self._other_days = {}
        days[day] = sum_of_day = (days[day] if day in days else self._card.earned_on(day)) + earned
        return day, sum_of_day

    def _earn(self, earned: int, reversed_on: int) -> EarnedDay | None:
        """The sum of the day of what is earned, as it is from now on. What was earned so long ago that it is not
        remembered any more has none."""
        if not earned or (earned < 0 and not reversed_on):
            return None
        day = reversed_on or local_day(self._earned_ms, self._tenant.settings.time_zone)
        before = self._earned_days.get(day)
        if before is None:
            before = next((one for one in self._card.earned_days if one.day == day), None)
        if before is None and earned < 0:
            return None
        after = EarnedDay(day, (before.points if before is not None else 0) + earned)
        self._earned_days[day] = after
        return after

    def _contra_after(self, account: Account, kind: EntryKind, amount: int) -> int:
        contra = contra_of(account, kind, amount)
        before = self._moved.get(contra)
        if before is None:
            before = self._tenant.accounts.get(contra, 0)
        self._moved[contra] = after = before - amount
        return after

    @property
    def lot_count(self) -> int:
        """The lots with something in them."""
        return sum(lot.remaining > 0 for lot in self.lots.values())

    @property
    def next_seq(self) -> int:
        """The number of the entry that comes next."""
        return self._entry_count + 1

    @property
    def standing(self) -> Standing:
        """The card's tier with all that has been decided here."""
        return self._standing if self._standing is not None else standing_of(self._card)

    def stand(self, standing: Standing) -> None:
        """Another tier was decided."""
        self._standing = standing

    def window_points(self) -> int:
        """The points that count for the tier, with those that were earned here."""
        terms, zone = self._tenant.settings.tiers, self._tenant.settings.time_zone
        if terms is None:
            return 0
        return points_in_window(self._earned_sums(), local_day(self._at_ms, zone), terms.window_days)

    @property
    def due(self) -> Sequence[TierFact]:
        """What fell due about the tier; it goes before the postings."""
        return self._due

    def finished(self, more: Sequence[Fact] = ()) -> list[Fact]:
        """The postings, `more` that came of them, the rise of the tier, and the card's alarm where they change it."""
        facts: list[Fact] = [*self._due, *self.facts, *more]
        if self._has_tiers:
            facts += self.rise()
        return facts + self.alarm()

    def alarm(self) -> list[Fact]:
        """The card's alarm where all that was decided here changes it."""
        card = self._card
        if not self.lots and not self.holds and not card.seldom.holds and self._standing is None:
            return []  # lots that are used up would be here, with nothing in them
        wake_ms = self._wake_ms()
        if wake_ms == card_alarm_ms(card.lots, card.holds, card.tier_due_ms, card.birthday_due_ms):
            return []
        return [self._alarm(wake_ms, rang=False)]

    def woken(self, *first: Fact) -> list[Fact]:
        """What the alarm led to; `first` goes before what is posted."""
        return [self.rang(), *self._due, *first, *self.facts]

    def rang(self) -> AlarmSet:
        """The alarm rang, and is set to what comes next after all that was decided here."""
        return self._alarm(self._wake_ms(), rang=True)

    def _wake_ms(self) -> int:
        tier_due_ms = self._card.tier_due_ms if self._standing is None else self._standing.due_ms
        return card_alarm_ms(self.lots.values(), self.holds.values(), tier_due_ms, self.birthday_due_ms)

    def rise(self) -> list[TierFact]:
        """What the points that were earned, if any were, do to the card's tier."""
        earning = next((fact for fact in reversed(self.facts) if fact.kind == "award" and fact.earned_on), None)
        if earning is None:
            return []
        earned, cause, rule = self._earned_sums(), earning.cause, earning.rule
        facts, self._standing = risen(self._tenant, self._card, self.standing, earned, self._at_ms, cause, rule)
        return facts

    def _earned_sums(self) -> tuple[EarnedDay, ...]:
        changed = self._earned_days
        return (*(one for one in self._card.earned_days if one.day not in changed), *changed.values())

    def _alarm(self, wake_ms: int, *, rang: bool) -> AlarmSet:
        card = self._card
        return AlarmSet(card.tenant_id, "", b"", self._at_ms, "card", card.card_id, wake_ms, rang)

    # --- what falls due ---------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Posts all that has fallen due (rule 2)."""
        if 0 < self._card.seldom.tier_due_ms <= self._at_ms and self._standing is None:
            self._due, self._standing = fallen_due(self._tenant, self._card, self._at_ms)
        if not self.lots and not self.holds:
            return
        due = [hold for hold in self.holds.values() if hold.lapses_at_ms <= self._at_ms]
        for hold in sorted(due, key=lambda hold: (hold.lapses_at_ms, hold.hold)):
            self._expire_lapsed(hold.lapses_at_ms - 1)
            self.end_hold("lapse", hold, 0, f"hold:{hold.hold}")
        self._expire_lapsed(self._at_ms)

    def _expire_lapsed(self, until_ms: int) -> None:
        for lot in sorted(self.lots.values(), key=_spending_order):
            if lot.remaining > 0 and lot.expires_at_ms <= until_ms:
                self.post(
                    "expire",
                    -lot.remaining,
                    f"expiry:{lot.lot}",
                    lots=(_with(lot, 0),),
                    takings=(Taking(lot.lot, lot.remaining),),
                )

    # --- what is taken, and given back ------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """The points that are put aside."""
        return sum(hold.held for hold in self.holds.values() if hold.account == "points")

    @property
    def pool(self) -> int:
        """Points without expiry that are not held."""
        return self.balance - sum(lot.remaining for lot in self.lots.values()) - self.held

    def take(
        self, amount: int, first: int = POOL, *, is_reversal: bool = False
    ) -> tuple[tuple[Lot, ...], tuple[Taking, ...]]:
        """What `amount` points are taken from (rule 1; with `is_reversal` rule 5, `first` being the own lot). Returns
        the changed lots and the takings; the caller has made sure that so much may be taken."""
        lots = sorted(self.lots.values(), key=_spending_order)
        active = [lot for lot in lots if lot.available_from_ms <= self._at_ms and lot.lot != first]
        own = [lot for lot in lots if lot.lot == first]
        changed: list[Lot] = []
        takings: list[Taking] = []
        rest = _take(amount, [*own, *active], changed, takings)
        if is_reversal:
            from_pool = min(rest, max(0, self.pool))
            pending = [lot for lot in lots if lot.available_from_ms > self._at_ms and lot.lot != first]
            rest = from_pool + _take(rest - from_pool, pending, changed, takings)
        if rest:
            takings.append(Taking(POOL, rest))
        return tuple(changed), tuple(takings)

    def give_back(self, spent: PointsPosted, grace_ms: int) -> tuple[tuple[Lot, ...], tuple[Taking, ...]]:
        """The lots as they are once the points that `spent` took are back in them (rule 4)."""
        expiry_of = {lot.lot: lot.expires_at_ms for lot in spent.lots}
        back = []
        for taking in spent.takings:
            if taking.lot != POOL:
                expires_at_ms = expiry_of[taking.lot]
                if expires_at_ms <= self._at_ms:
                    expires_at_ms = self._at_ms + grace_ms
                back.append(Lot(taking.lot, taking.amount, expires_at_ms))
        return self._filled(back), tuple(Taking(taking.lot, -taking.amount) for taking in spent.takings)

    def _filled(self, back: Iterable[Lot]) -> tuple[Lot, ...]:
        """The lots as they are with so much more in them. One that is there already keeps the later expiry."""
        changed = []
        for lot in back:
            present = self.lots.get(lot.lot)
            if present is None or not present.remaining:
                changed.append(lot)
            else:
                expires_at_ms = max(present.expires_at_ms, lot.expires_at_ms)
                changed.append(Lot(lot.lot, present.remaining + lot.remaining, expires_at_ms))
        return tuple(changed)

    # --- holds --------------------------------------------------------------------------------------------------------

    def hold(self, account: Account, amount: int, lapses_at_ms: int, **more: Any) -> PointsPosted:
        """Puts `amount` aside; the caller has made sure that so much is available."""
        lots, takings = self.take(amount) if account == "points" else ((), (Taking(POOL, amount),))
        fact = self.post(
            "hold",
            0,
            "request",
            lots=lots,
            takings=takings,
            account=account,
            held=amount,
            due_ms=lapses_at_ms,
            **more,
        )
        expiry_of = {lot.lot: lot.expires_at_ms for lot in lots}
        parts = tuple(Lot(taking.lot, taking.amount, expiry_of.get(taking.lot, FAR_MS)) for taking in takings)
        self.holds[fact.entry_seq] = Hold(fact.entry_seq, account, amount, lapses_at_ms, parts)
        return fact

    def end_hold(self, kind: EntryKind, hold: Hold, captured: int, cause: str, **more: Any) -> PointsPosted:
        """Ends a hold: what is captured goes, from its parts in their order, the rest comes back (rule 3)."""
        del self.holds[hold.hold]
        takings: list[Taking] = []
        back: list[Lot] = []
        rest = captured
        for part in hold.parts:
            taken = min(rest, part.remaining)
            rest -= taken
            if taken:
                takings.append(Taking(part.lot, taken))
            if part.lot != POOL:
                back.append(_with(part, part.remaining - taken))
        if not captured:
            takings = [Taking(part.lot, -part.remaining) for part in hold.parts]
        return self.post(
            kind,
            -captured,
            cause,
            # All of its lots, also those that nothing came back to: a reversal finds their expiry here.
            lots=self._filled(back),
            takings=tuple(takings),
            reverses=hold.hold,
            account=hold.account,
            held=-hold.held,
            due_ms=hold.lapses_at_ms,
            **more,
        )

    def matured(self) -> tuple[Lot, ...]:
        """Lots that were pending, are so no longer and never expire: emptied, for they are the pool's from now on."""
        return tuple(
            _with(lot, 0)
            for lot in self.lots.values()
            if lot.remaining and lot.expires_at_ms == FAR_MS and lot.available_from_ms <= self._at_ms
        )


def _take(amount: int, lots: Sequence[Lot], changed: list[Lot], takings: list[Taking]) -> int:
    """Takes from these lots in their order; returns what they do not have."""
    for lot in lots:
        part = min(amount, lot.remaining)
        if part > 0:
            changed.append(_with(lot, lot.remaining - part))
            takings.append(Taking(lot.lot, part))
            amount -= part
    return amount


def _with(lot: Lot, remaining: int) -> Lot:
    return Lot(lot.lot, remaining, lot.expires_at_ms, lot.available_from_ms)


def _spending_order(lot: Lot) -> tuple[int, int]:
    return (lot.expires_at_ms, lot.lot)


def tier_settled(tenant: Tenant, card: Card, at_ms: int) -> tuple[list[Fact], Card]:
    """What has fallen due about a card's tier, and the card as it is after that."""
    facts, standing = fallen_due(tenant, card, at_ms)
    seldom = with_seldom(card.seldom, tier_due_ms=standing.due_ms, tier_is_held=standing.is_held)
    after = msgspec.structs.replace(card, tier=standing.tier, seldom=seldom)
    return [*facts, *card_alarm(card, standing.due_ms, at_ms)], after


def card_alarm(card: Card, tier_due_ms: int, at_ms: int, birthday_due_ms: int | None = None) -> list[Fact]:
    """The card's alarm where another time at which its tier is looked at, or its birthday comes, changes it."""
    due_ms = card.birthday_due_ms if birthday_due_ms is None else birthday_due_ms
    wake_ms = card_alarm_ms(card.lots, card.holds, tier_due_ms, due_ms)
    if wake_ms == card_alarm_ms(card.lots, card.holds, card.tier_due_ms, card.birthday_due_ms):
        return []
    return [AlarmSet(card.tenant_id, "", b"", at_ms, "card", card.card_id, wake_ms)]


def card_alarm_ms(lots: Iterable[Lot], holds: Iterable[Hold], *due_ms: int) -> int:
    """When the first of these lots or holds lapses, or of these other times (0: not) comes; 0: none of it."""
    times = [lot.expires_at_ms for lot in lots if lot.remaining > 0]
    times += [hold.lapses_at_ms for hold in holds]
    times += [one for one in due_ms if one]
    first = min(times, default=FAR_MS)
    return 0 if first == FAR_MS else first
