"""The auditor's checks of double entry, holds and transfers, counted from the facts a second time. Pure.

Rules:
1. Double entry goes by the balances that facts tell, not by their amounts: what a card's balance changed, an account of
   the organisation changed the other way, in the same fact. Facts from before there were such accounts tell no balance
   of one; it is counted for them.
2. A hold is reserved once and ends once; at its end what was reserved is captured or let go.
3. A transfer is whole before the next request is answered, and within one journal entry.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from actors.accounts import contra_of
from actors.facts import AlarmSet, Fact, PointsPosted
from actors.terms import FAR_MS, Lot
from storage.audit_checks import Findings

Row = tuple[Any, ...]
_ENDS = ("capture", "release", "lapse")


class _Hold(msgspec.Struct):
    row: Row
    is_open: bool = True


class AccountsCheck:
    """`double_entry`, `holds` and `transfers`."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        # What facts said last: of a card's account, and of an organisation's with the position.
        self._cards: dict[tuple[str, str, str], int] = {}
        self._accounts: dict[tuple[str, str], tuple[int, int]] = {}
        self._totals: defaultdict[str, int] = defaultdict(int)
        self._holds: dict[tuple[str, str, int], _Hold] = {}
        # The transfer under way: tenant, giver, receiver, account, and what has not arrived yet.
        self._transfer: tuple[str, str, str, str, int] | None = None

    def begin_entry(self) -> None:
        """A new journal entry: a transfer is in one, or nowhere."""
        self._end_transfer("the end of the entry")

    def take(self, fact: Fact, position: int, place: str) -> None:
        """The next fact."""
        if fact.request_id or (isinstance(fact, AlarmSet) and fact.rang):
            self._end_transfer(place)
        if isinstance(fact, PointsPosted):
            self._balances(fact, position, place)
            if fact.kind == "transfer":
                self._take_transfer(fact, place)
            if fact.held or fact.kind in ("hold", *_ENDS):
                self._take_hold(fact, position, place)

    def _balances(self, fact: PointsPosted, position: int, place: str) -> None:
        card = (fact.tenant_id, fact.card_id, fact.account)
        change = fact.balance_after - self._cards.get(card, 0)
        self._cards[card] = fact.balance_after
        self._totals[fact.tenant_id] += change
        if fact.amount:
            key = (fact.tenant_id, contra_of(fact.account, fact.kind, fact.amount))
            before = self._accounts.get(key, (0, 0))[0]
            after = before - fact.amount if fact.contra_after is None else fact.contra_after
            self._accounts[key] = (after, position)
            self._totals[fact.tenant_id] += after - before
        total = self._totals[fact.tenant_id]
        if total:
            self._findings.add("double_entry", f"{place}: all accounts of {fact.tenant_id} sum to {total}")
            self._totals[fact.tenant_id] = 0

    def _take_hold(self, fact: PointsPosted, position: int, place: str) -> None:
        key = (fact.tenant_id, fact.card_id)
        if fact.kind == "hold":
            parts = self._parts(fact)
            if fact.held <= 0 or fact.amount or sum(part.remaining for part in parts) != fact.held:
                self._findings.add("holds", f"{place} puts {fact.held} aside, of {parts}, and posts {fact.amount}")
            text = msgspec.json.encode(parts).decode()
            row = (*key, fact.entry_seq, fact.account, fact.held, 0, fact.due_ms, "open", text, position)
            self._holds[*key, fact.entry_seq] = _Hold(row)
            return
        hold = self._holds.get((*key, fact.reverses))
        if hold is None or not hold.is_open or fact.kind not in _ENDS:
            self._findings.add("holds", f"{place} ({fact.kind}) ends hold {fact.reverses} of {key}, which is not open")
            return
        hold.is_open = False
        account, reserved, lapses_at_ms = hold.row[3], hold.row[4], hold.row[6]
        captured = -fact.amount
        is_whole = 1 <= captured <= reserved if fact.kind == "capture" else captured == 0
        is_late = fact.at_ms >= lapses_at_ms
        if not is_whole or -fact.held != reserved or fact.account != account or is_late != (fact.kind == "lapse"):
            self._findings.add(
                "holds", f"{place} ({fact.kind}) takes {captured} and lets go {fact.held} of {hold.row} at {fact.at_ms}"
            )
        row = (*key, fact.reverses, account, reserved, captured, lapses_at_ms, fact.kind, "[]", position)
        hold.row = row

    @staticmethod
    def _parts(fact: PointsPosted) -> list[Lot]:
        expires = {lot.lot: lot.expires_at_ms for lot in fact.lots}
        return [Lot(taking.lot, taking.amount, expires.get(taking.lot, FAR_MS)) for taking in fact.takings]

    def _take_transfer(self, fact: PointsPosted, place: str) -> None:
        if fact.amount < 0:
            receiver = fact.cause.removeprefix("transfer-to:")
            self._transfer = (fact.tenant_id, fact.card_id, receiver, fact.account, -fact.amount)
            return
        giver = fact.cause.removeprefix("transfer-from:")
        if self._transfer is None or self._transfer[:4] != (fact.tenant_id, giver, fact.card_id, fact.account):
            self._findings.add("transfers", f"{place} gives {fact.card_id} {fact.amount} that nobody gave")
            return
        self._transfer = (*self._transfer[:4], self._transfer[4] - fact.amount)

    def _end_transfer(self, place: str) -> None:
        if self._transfer is not None and self._transfer[4]:
            _, giver, receiver, _, left = self._transfer
            self._findings.add("transfers", f"before {place}: {left} of what {giver} gave did not reach {receiver}")
        self._transfer = None

    def expected(self) -> dict[str, dict[Row, Row]]:
        """The rows of holds and accounts, by table and key."""
        return {
            "holds": {key: hold.row for key, hold in self._holds.items()},
            "tenant_accounts": {key: (*key, *account) for key, account in self._accounts.items()},
        }

    def compare_rows(self, cards: Iterable[Row], accounts: Iterable[Row]) -> None:
        """`double_entry` in Postgres. `cards` are tenant and balances, `accounts` tenant and balance of every row."""
        totals: defaultdict[str, int] = defaultdict(int)
        for tenant_id, *balances in (*cards, *accounts):
            totals[tenant_id] += sum(balances)
        for tenant_id, total in totals.items():
            if total:
                self._findings.add("double_entry", f"all rows of accounts of {tenant_id} sum to {total}")
