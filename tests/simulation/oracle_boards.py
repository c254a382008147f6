"""The oracle of leaderboards: every board in full, from the scores that postings tell, after each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date

from actors.facts import PointsPosted

# Score and the position at which it was reached, by card.
Scores = dict[str, tuple[int, int]]
# Cards and scores, best first.
Ranking = list[tuple[str, int]]


def span_of(kind: str, day: int) -> str:
    """The key of the week or month of a day."""
    year, week, _ = date(day // 10_000, day // 100 % 100, day % 100).isocalendar()
    return f"{year}{week:02}" if kind == "week" else str(day // 100)


class BoardOracle:
    """All boards of all organisations."""

    def __init__(self) -> None:
        self._boards: dict[tuple[str, str], Scores] = defaultdict(dict)
        # By tenant and card: its days, each with score and position.
        self._days: dict[tuple[str, str], dict[int, tuple[int, int]]] = defaultdict(dict)

    def take(self, fact: PointsPosted, position: int) -> Iterator[tuple[str, Ranking]]:
        """The windows whose order a posting changes, each with its new order."""
        scores = [("all", fact.earned_after), (f"day:{fact.day}", fact.day_earned_after)]
        if fact.event_id:
            scores.append((f"event:{fact.event_id}", fact.event_earned_after))
        for window, score in scores:
            if self._boards[fact.tenant_id, window].get(fact.card_id, (0, 0))[0] != score:
                yield window, self._ranked(fact, window, (score, position))
        days = self._days[fact.tenant_id, fact.card_id]
        if days.get(fact.day, (0, 0))[0] != fact.day_earned_after:
            days[fact.day] = (fact.day_earned_after, position)
            for kind in ("week", "month"):
                parts = [days[day] for day in days if span_of(kind, day) == span_of(kind, fact.day) and days[day][0]]
                total = (sum(score for score, _ in parts), max((reached for _, reached in parts), default=0))
                window = f"{kind}:{span_of(kind, fact.day)}"
                yield window, self._ranked(fact, window, total)

    def _ranked(self, fact: PointsPosted, window: str, score: tuple[int, int]) -> Ranking:
        board = self._boards[fact.tenant_id, window]
        board[fact.card_id] = score
        ranked = sorted((-points, reached, card) for card, (points, reached) in board.items() if points > 0)
        return [(card, -negative) for negative, _, card in ranked]
