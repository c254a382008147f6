"""The ledger against a model so simple that it is plainly right: every point is a coin with a life of its own.

The model knows no lots, no pool and no entries. A coin is pending, free, held or gone; time passes by looking at each.
Money is a number. What the model allows must be done, what it forbids refused, and the balances must agree at all
times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from actors.commands import AwardPoints, RedeemPoints, ReversePoints
from actors.points_commands import CapturePoints, ConfirmPoints, HoldPoints, ReleasePoints, TransferPoints
from actors.terms import FAR_MS
from tests.core.build import NOW_MS
from tests.core.test_holds import HEAD, Bank

NEVER = FAR_MS


@dataclass
class Coin:
    """One point: the award it is of, when it lapses, from when it can be spent, and the hold that has it."""

    award: int
    expires: int
    since: int
    hold: int = 0


class Ledger(RuleBasedStateMachine):
    """A card, and the coins that it should have."""

    awards = Bundle("awards")
    spendings = Bundle("spendings")
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.bank = Bank()
        self.now = NOW_MS
        self.coins: list[Coin] = []
        self.money = 0
        self.sent = 0
        self.until: dict[int, int] = {}

    # --- the model ------------------------------------------------------------------------------------------------

    def free(self) -> list[Coin]:
        """What can be spent, in spending order; of those that never expire any will do."""
        found = [coin for coin in self.coins if not coin.hold and coin.since <= self.now]
        return sorted(found, key=lambda coin: (coin.expires, coin.award))

    def pass_time(self) -> None:
        for coin in self.coins:
            if coin.hold and self.until[coin.hold] <= self.now:
                coin.hold = 0
        self.coins = [coin for coin in self.coins if coin.hold or coin.expires > self.now]

    def ask(self, command: Any) -> str:
        return self.bank.ask(command, self.now)

    @property
    def last(self) -> int:
        return len(self.bank.entries["card"])

    # --- what can happen ------------------------------------------------------------------------------------------

    @rule(ms=st.integers(1, 60))
    def time_passes(self, ms: int) -> None:
        self.now += ms
        self.pass_time()

    @rule()
    def somebody_looks(self) -> None:
        self.bank.wake(self.now)

    @rule(
        target=awards,
        amount=st.integers(1, 12),
        life=st.sampled_from([0, 15, 40, 90]),
        wait=st.sampled_from([0, 0, 10, 60, NEVER]),
    )
    def award(self, amount: int, life: int, wait: int) -> tuple[int, int]:
        expires = self.now + life if life else 0
        since = wait if wait in (0, NEVER) else self.now + wait
        reason = self.ask(AwardPoints(*HEAD, amount, "", expires, since))
        if since not in (0, NEVER) and since >= (expires or NEVER):
            assert reason == "pending_invalid"
            return (0, 0)
        assert reason == ""
        self.coins += [Coin(self.last, expires or NEVER, since) for _ in range(amount)]
        return (self.last, amount)

    @rule(target=spendings, amount=st.integers(1, 15))
    def redeem(self, amount: int) -> tuple[int, list[Coin]]:
        free = self.free()
        reason = self.ask(RedeemPoints(*HEAD, amount))
        if amount > len(free):
            assert reason == "insufficient_points"
            return (0, [])
        assert reason == ""
        self.coins = [coin for coin in self.coins if not any(coin is taken for taken in free[:amount])]
        return (self.last, free[:amount])

    @rule(spending=consumes(spendings))
    def take_back_a_spending(self, spending: tuple[int, list[Coin]]) -> None:
        entry, coins = spending
        reason = self.ask(ReversePoints(*HEAD, entry))
        assert reason == ("" if entry else "entry_unknown")
        self.coins += coins
        self.pass_time()
        if entry:
            assert self.ask(ReversePoints(*HEAD, entry)) == "already_reversed"

    @rule(award=consumes(awards))
    def take_back_an_award(self, award: tuple[int, int]) -> None:
        entry, amount = award
        # One that never expires is like any other point once it is confirmed: then any will do.
        has_lot = any(lot.lot == entry for lot in self.bank.card.lots)
        reason = self.ask(ReversePoints(*HEAD, entry))
        assert reason == ("" if entry else "entry_unknown")
        if not entry:
            return
        own = [coin for coin in self.coins if coin.award == entry and not coin.hold and has_lot]
        others = [coin for coin in self.free() if not any(coin is one for one in own)]
        pending = [coin for coin in self.coins if not coin.hold and coin.since > self.now]
        pending.sort(key=lambda coin: (coin.expires, coin.award))
        pending = [coin for coin in pending if not any(coin is one for one in own)]
        taken = [*own, *others, *pending][:amount]
        self.coins = [coin for coin in self.coins if not any(coin is one for one in taken)]
        assert self.bank.entries["card"][-1].short_by == amount - len(taken)

    @rule(award=awards)
    def confirm(self, award: tuple[int, int]) -> None:
        entry, _ = award
        waiting = [coin for coin in self.coins if coin.award == entry and coin.since > self.now]
        reason = self.ask(ConfirmPoints(*HEAD, entry))
        assert reason == ("" if waiting else "entry_not_pending" if entry else "entry_unknown")
        for coin in waiting:
            coin.since = 0

    @rule(target=holds, amount=st.integers(1, 12), life=st.integers(5, 80))
    def hold(self, amount: int, life: int) -> int:
        free = self.free()
        reason = self.ask(HoldPoints(*HEAD, amount, "", self.now + life))
        if amount > len(free):
            assert reason == "insufficient_points"
            return 0
        assert reason == ""
        self.until[self.last] = self.now + life
        for coin in free[:amount]:
            coin.hold = self.last
        return self.last

    @rule(hold=holds, part=st.sampled_from([None, 1, 3, 30]))
    def capture(self, hold: int, part: int | None) -> None:
        self._end(hold, CapturePoints(*HEAD, hold, part), part, is_capture=True)

    @rule(hold=holds)
    def release(self, hold: int) -> None:
        self._end(hold, ReleasePoints(*HEAD, hold), 0, is_capture=False)

    def _end(self, hold: int, command: Any, part: int | None, *, is_capture: bool) -> None:
        held = sorted((c for c in self.coins if hold and c.hold == hold), key=lambda coin: (coin.expires, coin.award))
        ended = {entry.reverses: entry.kind for entry in self.bank.entries["card"] if entry.held < 0}
        reason = self.ask(command)
        if not held:
            names = {"capture": "hold_captured", "release": "hold_released", "lapse": "hold_lapsed"}
            assert reason == (names[ended.get(hold, "lapse")] if hold else "hold_unknown")
            return
        wanted = len(held) if part is None else part
        if is_capture and wanted > len(held):
            assert reason == "amount_invalid"
            return
        assert reason == ""
        self.coins = [coin for coin in self.coins if not any(coin is one for one in held[:wanted])]
        for coin in held[wanted:]:
            coin.hold = 0
        self.pass_time()

    @rule(amount=st.integers(1, 12))
    def transfer(self, amount: int) -> None:
        free = self.free()
        reason = self.ask(TransferPoints(*HEAD, "card2", amount))
        assert reason == ("insufficient_points" if amount > len(free) else "")
        if not reason:
            self.sent += amount
            self.coins = [coin for coin in self.coins if not any(coin is taken for taken in free[:amount])]

    @rule(amount=st.integers(1, 50))
    def top_up(self, amount: int) -> None:
        assert self.ask(AwardPoints(*HEAD, amount, account="wallet")) == ""
        self.money += amount

    @rule(amount=st.integers(1, 80))
    def pay(self, amount: int) -> None:
        reason = self.ask(RedeemPoints(*HEAD, amount, account="wallet"))
        assert reason == ("insufficient_funds" if amount > self.money else "")
        self.money -= 0 if reason else amount

    # --- what always holds ----------------------------------------------------------------------------------------

    @invariant()
    def the_card_shows_what_there_is(self) -> None:
        card = self.bank.card
        assert card.available(self.now) == len(self.free())
        assert card.pending(self.now) == sum(coin.since > self.now and not coin.hold for coin in self.coins)
        assert card.held("points", self.now) == sum(coin.hold > 0 for coin in self.coins)
        assert card.wallet == card.wallet_available(self.now) == self.money

    @invariant()
    def once_time_is_posted_the_balance_is_what_there_is(self) -> None:
        entries = self.bank.entries["card"]
        if entries and entries[-1].at_ms == self.now:
            assert self.bank.card.balance == len(self.coins)

    @invariant()
    def the_ledger_adds_up(self) -> None:
        balances = {"points": 0, "wallet": 0}
        for seq, entry in enumerate(self.bank.entries["card"], 1):
            balances[entry.account] += entry.amount
            assert (entry.entry_seq, entry.balance_after) == (seq, balances[entry.account])
            assert min(balances.values()) >= 0
        sent = sum(entry.amount for entry in self.bank.entries["card2"] if entry.kind == "transfer")
        assert sent == self.sent
        accounts = self.bank.tenant.accounts
        cards = self.bank.cards.values()
        assert sum(accounts.values()) + sum(one.balance + one.wallet for one in cards) == 0
        assert accounts.get("points:transferred", 0) == 0


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
