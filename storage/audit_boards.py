"""The auditor's check of leaderboards as a host would load them: recomputed from the ledger, by the audit's own
calendar."""

from __future__ import annotations

from datetime import date

from actors.ports import EntityStore, LoadRequest
from storage.audit_checks import Findings, LedgerCheck


async def compare_boards(store: EntityStore, partition: int, ledger: LedgerCheck, findings: Findings) -> None:
    """`leaderboards`: the boards that a host would load are those recomputed from the ledger."""
    wanted: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for (tenant_id, card_id), score in ledger.earned.items():
        wanted.setdefault((tenant_id, "all"), {})[card_id] = (score.earned, score.reached)
    for (tenant_id, day, card_id), score in ledger.day_scores.items():
        wanted.setdefault((tenant_id, f"day:{day}"), {})[card_id] = (score.earned, score.reached)
        if score.earned:
            year, week, _ = date(day // 10_000, day // 100 % 100, day % 100).isocalendar()
            for window in (f"week:{year}{week:02}", f"month:{day // 100}"):
                scores = wanted.setdefault((tenant_id, window), {})
                before = scores.get(card_id, (0, 0))
                scores[card_id] = (before[0] + score.earned, max(before[1], score.reached))
    for (tenant_id, event_id, card_id), score in ledger.event_scores.items():
        wanted.setdefault((tenant_id, f"event:{event_id}"), {})[card_id] = (score.earned, score.reached)
    for board, scores in wanted.items():
        loaded = await store.load(partition, LoadRequest(boards=(board,)))
        found: dict[str, tuple[int, int]] = {}
        for row in loaded.boards.get(board, ()):
            before = found.get(row.card_id, (0, 0))
            found[row.card_id] = (before[0] + row.score, max(before[1], row.reached))
        if _above_zero(found) != _above_zero(scores):
            findings.add("leaderboards", f"board {board} as loaded from Postgres is not what the ledger gives")


def _above_zero(scores: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {card_id: score for card_id, score in scores.items() if score[0] > 0}
