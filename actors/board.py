"""The virtual actor Leaderboard: cards ranked by score, ties by who reached the score first.

Rules:
1. A score comes from a fact and is absolute; the same fact twice changes nothing.
2. A change costs the same, and so does a look, however many cards there are and have changed (`actors.ranking`).
3. A week's or month's score is the sum of its days' scores, and was reached when the last of those changed that are not
   zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from actors.ports import BoardScore
from actors.ranking import Ranking
from actors.replies import BoardRow, BoardView


class Board:
    """One board over one window. Only cards with a score above zero are on it."""

    def __init__(self, scores: Iterable[BoardScore]) -> None:
        self._scores: dict[str, BoardScore] = {score.card_id: score for score in scores if score.score > 0}
        self._ranking = Ranking()
        for score in self._scores.values():
            self._ranking.add(score.card_id, score.score, score.reached)

    def __len__(self) -> int:
        return len(self._scores)

    def set(self, card_id: str, member_name: str, score: int, reached: int) -> None:
        """A card's score is `score` since position `reached`."""
        before = self._scores.get(card_id)
        if before is not None and (reached <= before.reached or score == before.score):
            return
        self._put(card_id, member_name, score, reached, before)

    def _put(self, card_id: str, member_name: str, score: int, reached: int, before: BoardScore | None) -> None:
        if before is not None:
            self._ranking.remove(card_id, before.score, before.reached)
        if score > 0:
            self._ranking.add(card_id, score, reached)
            self._scores[card_id] = BoardScore(card_id, member_name, score, reached)
        else:
            self._scores.pop(card_id, None)

    def rename(self, card_id: str, member_name: str) -> bool:
        """A card's holder is called `member_name`; False where that changes nothing here."""
        score = self._scores.get(card_id)
        if score is None or score.member_name == member_name:
            return False
        self._scores[card_id] = BoardScore(card_id, member_name, score.score, score.reached)
        return True

    def view(self, board: str, window: str, limit: int, offset: int, around: str) -> BoardView:
        """The top rows after `offset`, or, with `around`, the rows around that card (it is in the middle where it
        can be)."""
        rank = 0
        start = offset
        if around:
            score = self._scores.get(around)
            if score is None:
                return BoardView(board, window, len(self._scores), ())
            rank = self._ranking.rank(around, score.score, score.reached)
            start = max(0, rank - 1 - limit // 2)
        rows = tuple(
            BoardRow(start + n + 1, card_id, self._scores[card_id].member_name, score)
            for n, (card_id, score) in enumerate(islice(self._ranking.after(start), limit))
        )
        return BoardView(board, window, len(self._scores), rows, rank)


class DaysBoard(Board):
    """A board over several days (rule 3). Each of the scores that it begins with is a card's on one of the days."""

    def __init__(self, scores: Iterable[BoardScore]) -> None:
        super().__init__(())
        # By card and day: score and position at which it was reached.
        self._days: dict[str, dict[int, tuple[int, int]]] = {}
        for score in scores:
            self.set_day(score.card_id, score.member_name, score.day, score.score, score.reached)

    def set_day(self, card_id: str, member_name: str, day: int, score: int, reached: int) -> None:
        """A card's score on a day is `score` since position `reached`."""
        days = self._days.setdefault(card_id, {})
        before = days.get(day, (0, 0))
        if reached <= before[1] or score == before[0]:
            return
        if score:
            days[day] = (score, reached)
        else:
            del days[day]
        total = sum(one for one, _ in days.values())
        last = max((at for _, at in days.values()), default=0)
        self._put(card_id, member_name, total, last, self._scores.get(card_id))


def board_over(window: str, scores: Iterable[BoardScore]) -> Board:
    """The board over a window (`actors.windows`) that begins with these scores."""
    return DaysBoard(scores) if window.startswith(("week:", "month:")) else Board(scores)
