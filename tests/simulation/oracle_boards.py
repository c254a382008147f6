"""The oracle of leaderboards: every board in full, from the scores that postings tell and the visits that scans tell,
after each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date

from actors.door_facts import ScanAnnulled
from actors.facts import PointsPosted, ScanJudged

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

        # By tenant and card: when each visit was made, by day and event.
        self._visits: dict[tuple[str, str], dict[tuple[date, str], int]] = defaultdict(dict)

    def take(self, fact: PointsPosted, position: int) -> Iterator[tuple[str, Ranking]]:
        """The boards whose order a posting changes, each with its new order."""
        scores = [("all", fact.earned_after), (f"day:{fact.day}", fact.day_earned_after)]
        if fact.event_id:
            scores.append((f"event:{fact.event_id}", fact.event_earned_after))
        for window, score in scores:
            if self._boards[fact.tenant_id, f"points/{window}"].get(fact.card_id, (0, 0))[0] != score:
                yield f"points/{window}", self._ranked(fact, f"points/{window}", (score, position))
        days = self._days[fact.tenant_id, fact.card_id]
        if days.get(fact.day, (0, 0))[0] != fact.day_earned_after:
            days[fact.day] = (fact.day_earned_after, position)
            for kind in ("week", "month"):
                parts = [days[day] for day in days if span_of(kind, day) == span_of(kind, fact.day) and days[day][0]]
                total = (sum(score for score, _ in parts), max((reached for _, reached in parts), default=0))
                board = f"points/{kind}:{span_of(kind, fact.day)}"
                yield board, self._ranked(fact, board, total)

    def take_visit(self, fact: ScanJudged | ScanAnnulled, position: int) -> Iterator[tuple[str, Ranking]]:
        """The boards whose order a visit changes, or one that is taken back."""
        assert fact.visits is not None
        visits = self._visits[fact.tenant_id, fact.card_id]
        for board, ever in (("visits/all", fact.visits.ever), ("streak/all", fact.visits.best_streak)):
            if self._boards[fact.tenant_id, board].get(fact.card_id, (0, 0))[0] != ever:
                yield board, self._ranked(fact, board, (ever, position))
        number, event_id = fact.counts_as or (fact.visit_day, fact.event_id)
        if not number:
            return
        day = date(number // 10_000, number // 100 % 100, number % 100)
        if isinstance(fact, ScanJudged):
            visits[day, event_id] = position
        else:
            visits.pop((day, event_id), None)
        windows = [f"day:{number}", f"week:{span_of('week', number)}", f"month:{span_of('month', number)}"]
        for window in (*windows, f"event:{event_id}"):
            mine = {key: at for key, at in visits.items() if _is_in(window, *key)}
            count = (len(mine), max(mine.values(), default=0))
            yield f"visits/{window}", self._ranked(fact, f"visits/{window}", count)
            yield f"streak/{window}", self._ranked(fact, f"streak/{window}", _longest(mine))

    def ranking(self, tenant_id: str, key: str) -> Ranking:
        """A board as it is now."""
        scores = self._boards[tenant_id, key].items()
        return [
            (card, -negative) for negative, _, card in sorted((-one, at, card) for card, (one, at) in scores if one > 0)
        ]

    def _ranked(self, fact: PointsPosted | ScanJudged | ScanAnnulled, key: str, score: tuple[int, int]) -> Ranking:
        board = self._boards[fact.tenant_id, key]
        board[fact.card_id] = score
        return self.ranking(fact.tenant_id, key)


def _is_in(window: str, day: date, event_id: str) -> bool:
    kind, _, key = window.partition(":")
    if kind == "event":
        return event_id == key
    number = day.year * 10_000 + day.month * 100 + day.day
    return key == (str(number) if kind == "day" else span_of(kind, number))


def _longest(visits: dict[tuple[date, str], int]) -> tuple[int, int]:
    """The most days in a row, and when that was first reached: every run of days is tried."""
    first: dict[int, int] = {}
    for (day, _), position in visits.items():
        first[day.toordinal()] = min(position, first.get(day.toordinal(), position))
    found = (0, 0)
    for start in first:
        length = 0
        while start + length in first:
            length += 1
            reached = max(first[start + n] for n in range(length))
            found = max(found, (length, -reached))
    return found[0], -found[1]
