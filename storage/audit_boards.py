"""The auditor's check of leaderboards as a host would load them: recomputed from the ledger and the visits, by the
audit's own calendar."""

from __future__ import annotations

from datetime import date

from actors.ports import EntityStore, LoadRequest
from storage.audit_checks import Findings, LedgerCheck
from storage.audit_rows import StateRows


async def compare_boards(
    store: EntityStore, partition: int, ledger: LedgerCheck, states: StateRows, findings: Findings
) -> None:
    """`leaderboards`: the boards that a host would load are those recomputed from the ledger and the visits."""
    await _compare_visits(store, partition, states, findings)
    wanted: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for (tenant_id, card_id), score in ledger.earned.items():
        wanted.setdefault((tenant_id, "all"), {})[card_id] = (score.earned, score.reached)
    for (tenant_id, day, card_id), score in ledger.day_scores.items():
        wanted.setdefault((tenant_id, f"day:{day}"), {})[card_id] = (score.earned, score.reached)
        if score.earned:
            for window in _windows(day)[1:]:
                scores = wanted.setdefault((tenant_id, window), {})
                before = scores.get(card_id, (0, 0))
                scores[card_id] = (before[0] + score.earned, max(before[1], score.reached))
    for (tenant_id, event_id, card_id), score in ledger.event_scores.items():
        wanted.setdefault((tenant_id, f"event:{event_id}"), {})[card_id] = (score.earned, score.reached)
    for board, scores in wanted.items():
        key = (board[0], f"points/{board[1]}")
        loaded = await store.load(partition, LoadRequest(boards=(key,)))
        found: dict[str, tuple[int, int]] = {}
        for row in loaded.boards.get(key, ()):
            before = found.get(row.card_id, (0, 0))
            found[row.card_id] = (before[0] + row.score, max(before[1], row.reached))
        if _above_zero(found) != _above_zero(scores):
            findings.add("leaderboards", f"board {board} as loaded from Postgres is not what the ledger gives")


async def _compare_visits(store: EntityStore, partition: int, states: StateRows, findings: Findings) -> None:
    wanted: dict[tuple[str, str], set[tuple[str, int, int, int, str]]] = {}
    for tenant_id, card_id, ever, ever_at, best, best_at, _ in states.visit_scores.values():
        for key, score in (("visits/all", (ever, ever_at)), ("streak/all", (best, best_at))):
            if score[0]:
                wanted.setdefault((tenant_id, key), set()).add((card_id, *score, 0, ""))
    for tenant_id, day, event_id, card_id, visits, position in states.rows.expected["visit_days"].values():
        for window in (*_windows(day), f"event:{event_id}"):
            for metric in ("visits", "streak"):
                parts = wanted.setdefault((tenant_id, f"{metric}/{window}"), set())
                if visits:
                    parts.add((card_id, visits, position, day, event_id))
    for board, parts in wanted.items():
        loaded = await store.load(partition, LoadRequest(boards=(board,)))
        found = {(row.card_id, row.score, row.reached, row.day, row.event_id) for row in loaded.boards.get(board, ())}
        if found != parts:
            findings.add("leaderboards", f"board {board} as loaded from Postgres is not what the visits give")


def _windows(day: int) -> tuple[str, ...]:
    """The windows of a day; none of what is no day, which other checks find."""
    try:
        year, week, _ = date(day // 10_000, day // 100 % 100, day % 100).isocalendar()
    except ValueError:
        return ()
    return f"day:{day}", f"week:{year}{week:02}", f"month:{day // 100}"


def _above_zero(scores: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {card_id: score for card_id, score in scores.items() if score[0] > 0}
