"""The virtual actor Card: a member's card with its points and its wallet.

Rules:
1. State changes only in `apply`; what a fact does not say is not known here.
2. `position` is that of the last fact applied; a fact at or before it changes nothing (loading = row + the journal's
   tail).
3. `balance` = sum of all entries of the points = the pool (points without expiry) + what is left in the lots + what is
   held. What a hold puts aside has left its lots: it neither lapses nor is spent while the hold is open.
4. What only time changes needs no fact: a lot that has lapsed counts no more, one that was pending until a time counts
   from then on (`available`), whether or not anybody has looked.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from sys import intern

import msgspec

from actors.calendar import add_days
from actors.card_facts import CardFact, CardReissued, CardRenewed, CardTierChanged, TagAssigned, TierReviewed
from actors.door_facts import CardNoted, ScanAnnulled
from actors.facts import CardHolderRenamed, CardIssued, CardStateChanged, PointsPosted, ScanJudged
from actors.member_facts import BirthdayCame, CardHolderDescribed, MemberFact
from actors.profiles import Profile
from actors.rule_facts import RulesApplied, RuleUnitsReturned, RuleUse
from actors.seldom import NOTHING_SELDOM, Seldom, with_seldom
from actors.terms import FAR_MS, POOL, TIER_WINDOW_DAYS_MAX, Account, CardState, EarnedDay, Hold, Lot
from actors.visits import NO_VISITS, Visits

# Of so many days before its latest one a card remembers what it earned on them.
DAYS_REMEMBERED = 7

CardMoved = CardStateChanged | CardHolderRenamed | CardNoted | CardFact | RulesApplied | RuleUnitsReturned | MemberFact


class Card(msgspec.Struct, gc=False):
    """A card's state. `attention` is what staff at a door are told. `day` (yyyymmdd, tenant's time zone) is the day
    that `day_earned` counts, 0 before any award. `serial` is that of the credential that is good, `number` the
    organisation's n-th card (0: from before there were numbers), `tag_uid` its NFC tag, "" for none.

    `tier_due_ms` is when the tier is looked at next (0: not), `tier_is_held` that a person set it until then;
    `earned_days` are what it goes by, the sums of the last `TIER_WINDOW_DAYS_MAX` days up to the latest.

    `past_days` are the scores, not zero, of the `DAYS_REMEMBERED` days before `day`.

    `profile` is what rules know of the holder. The birthday comes next on local day `birthday_on` (yyyymmdd), which
    begins at `birthday_due_ms` (0: never), and came last in the year `birthday_year` (`actors.birthdays`).

    What most cards never have is in `seldom`, and read as if it were here; what every check-in asks reads it there,
    which saves a call."""

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
    wallet: int = 0
    position: int = 0
    serial: int = 0
    number: int = 0
    visits: Visits = NO_VISITS
    issued_at_ms: int = 0
    past_days: tuple[EarnedDay, ...] = ()
    seldom: Seldom = NOTHING_SELDOM

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
            issued_at_ms=fact.at_ms,
            seldom=with_seldom(
                NOTHING_SELDOM,
                profile=fact.profile,
                birthday_on=fact.birthday_on,
                birthday_due_ms=fact.birthday_due_ms,
            ),
        )

    def apply(self, fact: CardMoved | PointsPosted | ScanJudged | ScanAnnulled, position: int) -> None:
        """Takes in a fact about this card."""
        if position <= self.position:
            return
        self.position = position
        if type(fact) is PointsPosted:
            self._post(fact, position)
        elif type(fact) is RulesApplied:
            self._count_rules(fact)
        elif isinstance(fact, (ScanJudged, ScanAnnulled)):
            assert fact.visits is not None, "other scans are not about the card"
            self.visits = fact.visits
        else:
            self._change(fact)

    def _post(self, fact: PointsPosted, position: int) -> None:
        assert fact.entry_seq == self.entry_count + 1, "ledger entries are contiguous"
        is_points = fact.account == "points"
        before, other = (self.balance, self.wallet) if is_points else (self.wallet, self.balance)
        assert fact.balance_after == before + fact.amount, "a balance is the sum of its entries"
        assert fact.other_after == other, "an entry moves one account"
        self.entry_count = fact.entry_seq
        if is_points:
            self.balance = fact.balance_after
        else:
            self.wallet = fact.balance_after
        if fact.earned_after != self.earned:
            self.earned = fact.earned_after
            self.earned_position = position
        if fact.day and (fact.day, fact.day_earned_after) != (self.day, self.day_earned):
            if fact.day != self.day and (fact.day < self.day or self.day_earned or self.past_days):
                self._keep_past(fact.day, fact.day_earned_after)
            if fact.day >= self.day:
                self.day = fact.day
                self.day_earned = fact.day_earned_after
                self.day_position = position
        if fact.lots:
            changed = {lot.lot for lot in fact.lots}
            kept = [lot for lot in self.lots if lot.lot not in changed]
            kept += [lot for lot in fact.lots if lot.remaining]
            self.lots = tuple(sorted(kept, key=lambda lot: (lot.expires_at_ms, lot.lot)))
        if fact.earned_on is not None:
            others = [one for one in self.earned_days if one.day != fact.earned_on.day]
            self._set(earned_days=days_kept([*others, fact.earned_on]))
        if fact.held:
            self._hold(fact)

    def _keep_past(self, day: int, earned: int) -> None:
        """The scores of days before the latest, with one of an earlier day or before one of a later day."""
        past = {one.day: one.points for one in self.past_days}
        past[self.day] = self.day_earned
        past[day] = earned
        latest = max(day, self.day)
        first = add_days(latest, -DAYS_REMEMBERED)
        self.past_days = _days(tuple([one for one in sorted(past.items()) if first <= one[0] < latest and one[1]]))

    def earned_on(self, day: int) -> int:
        """The score of a day that the card remembers, or of one that is new."""
        if day == self.day:
            return self.day_earned
        for one in self.past_days:
            if one.day == day:
                return one.points
        return 0

    def _hold(self, fact: PointsPosted) -> None:
        if fact.held > 0:
            made = Hold(fact.entry_seq, fact.account, fact.held, fact.due_ms, held_parts(fact))
            self._set(holds=(*self.holds, made))
            return
        kept = tuple(hold for hold in self.seldom.holds if hold.hold != fact.reverses)
        assert len(kept) == len(self.holds) - 1, "a hold ends once"
        self._set(holds=kept)

    def _change(self, fact: CardMoved) -> None:
        if isinstance(fact, CardStateChanged):
            self.state = fact.state
        elif isinstance(fact, CardHolderRenamed):
            self.member_name = fact.member_name
        elif isinstance(fact, CardNoted):
            self._set(attention=fact.attention)
        elif isinstance(fact, CardReissued):
            self.serial = fact.serial
        elif isinstance(fact, CardRenewed):
            self.valid_from_ms, self.valid_until_ms = fact.valid_from_ms, fact.valid_until_ms
        elif isinstance(fact, CardTierChanged):
            self.tier = intern(fact.tier)
            self._set(tier_due_ms=fact.due_ms, tier_is_held=fact.is_held)
        elif isinstance(fact, TierReviewed):
            self._set(tier_due_ms=fact.due_ms, tier_is_held=False)
        elif isinstance(fact, CardHolderDescribed | BirthdayCame):
            self._set(birthday_on=fact.birthday_on, birthday_due_ms=fact.birthday_due_ms)
            if isinstance(fact, CardHolderDescribed):
                self._set(profile=fact.profile)
            elif fact.came_on:
                self._set(birthday_year=fact.came_on // 10_000)
        elif isinstance(fact, RuleUnitsReturned):
            self._count_rules(fact)
        else:
            self._set(tag_uid=fact.tag_uid if isinstance(fact, TagAssigned) else "")

    def _count_rules(self, fact: RulesApplied | RuleUnitsReturned) -> None:
        uses = {step.use.rule_id: step.use for step in fact.steps if step.use is not None}
        if uses:
            uses = {use.rule_id: use for use in self.rule_uses} | uses
            self._set(rule_uses=tuple(use for _, use in sorted(uses.items())))

    def _set(self, **changes: object) -> None:
        self.seldom = with_seldom(self.seldom, **changes)

    @property
    def attention(self) -> str:
        return self.seldom.attention

    @property
    def tag_uid(self) -> str:
        return self.seldom.tag_uid

    @property
    def holds(self) -> tuple[Hold, ...]:
        return self.seldom.holds

    @property
    def rule_uses(self) -> tuple[RuleUse, ...]:
        return self.seldom.rule_uses

    @property
    def tier_due_ms(self) -> int:
        return self.seldom.tier_due_ms

    @property
    def tier_is_held(self) -> bool:
        return self.seldom.tier_is_held

    @property
    def earned_days(self) -> tuple[EarnedDay, ...]:
        return self.seldom.earned_days

    @property
    def profile(self) -> Profile:
        return self.seldom.profile

    @property
    def birthday_on(self) -> int:
        return self.seldom.birthday_on

    @property
    def birthday_due_ms(self) -> int:
        return self.seldom.birthday_due_ms

    @property
    def birthday_year(self) -> int:
        return self.seldom.birthday_year

    @property
    def pool(self) -> int:
        """Points without expiry that are not held; below zero only where the tenant allows an overdraft."""
        in_holds = sum(hold.held for hold in self.seldom.holds if hold.account == "points")
        return self.balance - sum(lot.remaining for lot in self.lots) - in_holds

    def available(self, at_ms: int) -> int:
        """What can be spent of the points at `at_ms`: neither lots that have lapsed by then or are pending, nor what is
        held. What has fallen due by then counts as done, though it may not be posted yet."""
        if not self.lots and not self.seldom.holds:
            return self.balance
        found = self.balance
        for lot in self.lots:
            if lot.expires_at_ms <= at_ms or lot.available_from_ms > at_ms:
                found -= lot.remaining
        for hold in self.seldom.holds:
            if hold.account == "points":
                is_open = hold.lapses_at_ms > at_ms
                found -= sum(part.remaining for part in hold.parts if is_open or part.expires_at_ms <= at_ms)
        return found

    def wallet_available(self, at_ms: int) -> int:
        """What can be spent of the wallet at `at_ms`."""
        return self.wallet - self.held("wallet", at_ms)

    def held(self, account: Account, at_ms: int) -> int:
        """What the holds put aside that are open at `at_ms`."""
        return sum(hold.held for hold in self.seldom.holds if hold.account == account and hold.lapses_at_ms > at_ms)

    def pending(self, at_ms: int) -> int:
        """Points that show but cannot be spent yet at `at_ms`."""
        return sum(lot.remaining for lot in self.lots if lot.available_from_ms > at_ms and lot.expires_at_ms > at_ms)


# Many cards earn the same on the same days: equal days are one object.
@lru_cache(maxsize=8192)
def _days(days: tuple[tuple[int, int], ...]) -> tuple[EarnedDay, ...]:
    return tuple([EarnedDay(*one) for one in days])


def days_kept(days: Iterable[EarnedDay]) -> tuple[EarnedDay, ...]:
    """Those days' sums that a card remembers, in their order."""
    kept = sorted(days, key=lambda one: one.day)
    before = add_days(kept[-1].day, -TIER_WINDOW_DAYS_MAX) if kept else 0
    return tuple(one for one in kept if one.day > before)


def held_parts(fact: PointsPosted) -> tuple[Lot, ...]:
    """What a hold puts aside of which lot, with the lots' expiry."""
    expiry_of = {lot.lot: lot.expires_at_ms for lot in fact.lots}
    expiry_of[POOL] = FAR_MS
    return tuple(Lot(taking.lot, taking.amount, expiry_of[taking.lot]) for taking in fact.takings)
