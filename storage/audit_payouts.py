"""The auditor's check of leaderboards that were paid out. Pure. Rules as in `storage.audit_checks`; the ranking is
worked out anew from the ledger's scores and the visits, not by the boards' own code."""

from __future__ import annotations

from collections import defaultdict
from datetime import date

from actors.board_facts import BoardPaidOut
from actors.facts import Fact, PointsPosted, TenantChanged, TenantOpened
from storage.audit_checks import Findings, LedgerCheck
from storage.audit_rows import StateRows

_CAUSE = "payout:"
# A card's parts on a board: day, score, position.
_Part = tuple[int, int, int]


class PayoutCheck:
    """`payouts`: a window is paid out once, to those who were first, and each prize is posted."""

    def __init__(self, findings: Findings, ledger: LedgerCheck, states: StateRows) -> None:
        self._findings = findings
        self._ledger = ledger
        self._states = states
        self._boards: dict[str, dict[str, tuple[str, bool]]] = {}
        self._paid: set[str] = set()
        # Prizes that were announced and not posted yet, by payout and card.
        self._owed: dict[tuple[str, str], int] = {}

    def end_entry(self, place: str) -> None:
        """Call it after each entry."""
        for (payout_id, card_id), points in self._owed.items():
            self._add(f"{place}: {payout_id} owes {points} points to {card_id}")
        self._owed.clear()

    def take(self, fact: Fact, place: str) -> None:
        """The next fact; ledger and states have not taken in what follows it."""
        if isinstance(fact, PointsPosted):
            if fact.kind == "award" and fact.cause.startswith(_CAUSE):
                owed = self._owed.pop((fact.cause.removeprefix(_CAUSE), fact.card_id), None)
                if owed != fact.amount:
                    self._add(f"{place} posts {fact.amount} for {fact.cause}, owed {owed}")
        elif isinstance(fact, TenantOpened | TenantChanged):
            own = {one.name: (one.metric, one.is_shared) for one in fact.settings.boards}
            self._boards[fact.tenant_id] = {name: (name, False) for name in ("points", "visits", "streak")} | own
        elif isinstance(fact, BoardPaidOut):
            self._payout(fact, place)

    def _payout(self, fact: BoardPaidOut, place: str) -> None:
        if fact.payout_id in self._paid:
            self._add(f"{place}: {fact.payout_id} is paid out a second time")
        self._paid.add(fact.payout_id)
        for winner in fact.winners:
            if winner.points:
                self._owed[fact.payout_id, winner.card_id] = winner.points
        told = [(winner.rank, winner.card_id, winner.score) for winner in fact.winners]
        metric, is_shared = self._boards.get(fact.tenant_id, {}).get(fact.board, ("", False))
        last = max((rank for rank, _, _ in told), default=1)
        first = [row for row in self._ranking(fact.tenant_id, metric, fact.window, is_shared) if row[0] <= last]
        if told != first:
            self._add(f"{place}: {fact.payout_id} is paid to {told}, first were {first}")

    def _ranking(self, tenant_id: str, metric: str, window: str, is_shared: bool) -> list[tuple[int, str, int]]:
        scores = [(_score(metric, parts), card) for card, parts in self._parts(tenant_id, metric, window).items()]
        ranked = sorted((-score, reached, card) for (score, reached), card in scores if score > 0)
        return [
            (1 + (sum(other < minus for other, _, _ in ranked) if is_shared else place), card, -minus)
            for place, (minus, _, card) in enumerate(ranked)
        ]

    def _parts(self, tenant_id: str, metric: str, window: str) -> dict[str, list[_Part]]:
        """What each card's score in the window is made of."""
        found: dict[str, list[_Part]] = defaultdict(list)
        event_id = window.removeprefix("event:") if window.startswith("event:") else ""
        if metric != "points":
            for owner, day, at, card_id, count, position in self._states.rows.expected["visit_days"].values():
                if owner == tenant_id and count and (at == event_id if event_id else _is_in(day, window)):
                    found[card_id].append((day, count, position))
        elif event_id:
            for (owner, at, card_id), score in self._ledger.event_scores.items():
                if (owner, at) == (tenant_id, event_id):
                    found[card_id].append((0, score.earned, score.reached))
        else:
            for (owner, day, card_id), score in self._ledger.day_scores.items():
                if owner == tenant_id and score.earned and _is_in(day, window):
                    found[card_id].append((day, score.earned, score.reached))
        return found

    def _add(self, finding: str) -> None:
        self._findings.add("payouts", finding)


def _is_in(day: int, window: str) -> bool:
    kind, _, key = window.partition(":")
    if kind != "week":
        return str(day).startswith(key)
    year, week, _ = date(day // 10_000, day // 100 % 100, day % 100).isocalendar()
    return key == f"{year}{week:02}"


def _score(metric: str, parts: list[_Part]) -> tuple[int, int]:
    """A card's score, and when it was reached."""
    if metric != "streak":
        return sum(score for _, score, _ in parts), max(position for _, _, position in parts)
    first: dict[int, int] = {}
    for day, _, position in parts:
        number = date(day // 10_000, day // 100 % 100, day % 100).toordinal()
        first[number] = min(position, first.get(number, position))
    best = (0, 0)
    for start in first:
        length = 0
        while start + length in first:
            length += 1
            best = max(best, (length, -max(first[start + n] for n in range(length))))
    return best[0], -best[1]
