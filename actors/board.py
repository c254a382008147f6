"""The virtual actor Leaderboard: cards ranked by score, ties by who reached the score first.

Rules:
1. A score comes from a fact and is absolute; the same fact twice changes nothing.
2. A change costs the same, and so does a look, however many cards there are and have changed (`actors.ranking`).
3. Over a week or a month, and for visits and streaks over any time that ends, a score is made of the card's parts, by
   day and event, in whatever order they came: the sum of points, the number of visits, the most days in a row.
4. With shared ranks, cards of one score have the rank of the first of them; they stand in the same order all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import cast

from actors.calendar import day_number
from actors.ports import BoardScore
from actors.ranking import Ranking
from actors.replies import BoardRow, BoardView
from actors.terms import BOARD_GRACE_MS_MAX, BOARDS_PER_TENANT_MAX, BoardTerms, Metric
from actors.windows import is_of_parts, metric_and_window

# Those of every organisation.
BOARDS = (BoardTerms("points", "points"), BoardTerms("visits", "visits"), BoardTerms("streak", "streak"))
_NAME = re.compile(r"[a-z0-9_]{1,40}")
# By day and event ("": of none): a score that is not zero, and the position at which it was reached.
Parts = dict[tuple[int, str], tuple[int, int]]


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

    def view(
        self, board: str, window: str, limit: int, offset: int, around: str, *, is_shared: bool = False
    ) -> BoardView:
        """The top rows after `offset`, or, with `around`, the rows around that card (it is in the middle where it
        can be); `is_shared` as in rule 4."""
        around_rank = 0
        start = offset
        if around:
            score = self._scores.get(around)
            if score is None:
                return BoardView(board, window, len(self._scores), ())
            around_rank = self._ranking.rank(around, score.score, score.reached)
            start = max(0, around_rank - 1 - limit // 2)
            if is_shared:
                around_rank = self._ranking.rank_of(score.score)
        found = list(islice(self._ranking.after(start), limit))
        ranks = {score: self._ranking.rank_of(score) for score in {score for _, score in found}} if is_shared else {}
        rows = tuple(
            BoardRow(ranks.get(score, place), card_id, self._scores[card_id].member_name, score)
            for place, (card_id, score) in enumerate(found, start + 1)
        )
        return BoardView(board, window, len(self._scores), rows, around_rank)


class PartsBoard(Board):
    """A board whose scores are made of parts (rule 3): what a card has on a day of the window, at an event of it. Each
    of the scores that it begins with is a card's part."""

    def __init__(self, metric: Metric, scores: Iterable[BoardScore]) -> None:
        super().__init__(())
        self._score_of = _SCORES[metric]
        # A sum that comes out the same is none; a visit that is told again is reached again, as its row is.
        self._is_sum = metric == "points"
        self._parts: dict[str, Parts] = {}
        for score in scores:
            self.set_part(score.card_id, score.member_name, (score.day, score.event_id), score.score, score.reached)

    def set_part(self, card_id: str, member_name: str, part: tuple[int, str], score: int, reached: int) -> None:
        """What a card has on a day at an event is `score` since position `reached`. `member_name` is "" where that is
        not known, because something is taken back."""
        parts = self._parts.get(card_id)
        if parts is None:
            parts = self._parts[card_id] = {}
        before = parts.get(part, (0, 0))
        if reached <= before[1] or (score == before[0] and self._is_sum):
            return
        if score:
            parts[part] = (score, reached)
        else:
            parts.pop(part, None)
        present = self._scores.get(card_id)
        if not member_name and present is not None:
            member_name = present.member_name
        self._put(card_id, member_name, *self._score_of(parts), present)


def points_of(parts: Parts) -> tuple[int, int]:
    """The sum of the parts, reached when the last of them was."""
    return sum(score for score, _ in parts.values()), max((at for _, at in parts.values()), default=0)


def visits_of(parts: Parts) -> tuple[int, int]:
    """How many there are, reached with the last."""
    return len(parts), max((at for _, at in parts.values()), default=0)


def streak_of(parts: Parts) -> tuple[int, int]:
    """The most days in a row, reached when the last of them was: the first time that so many came together."""
    days: dict[int, int] = {}
    for (day, _), (_, at) in parts.items():
        number = day_number(day)
        days[number] = min(days.get(number, at), at)
    best, best_at, length, at = 0, 0, 0, 0
    for number in sorted(days):
        follows = number - 1 in days
        length, at = (length + 1, max(at, days[number])) if follows else (1, days[number])
        if length > best or (length == best and at < best_at):
            best, best_at = length, at
    return best, best_at


_SCORES: dict[Metric, Callable[[Parts], tuple[int, int]]] = {
    "points": points_of,
    "visits": visits_of,
    "streak": streak_of,
}


def board_over(key: str, scores: Iterable[BoardScore]) -> Board:
    """The board that is kept under this key (`actors.windows`), beginning with these scores."""
    metric, window = metric_and_window(key)
    if is_of_parts(metric, window):
        return PartsBoard(cast(Metric, metric), scores)
    return Board(scores)


def terms_of(name: str, own: tuple[BoardTerms, ...]) -> BoardTerms | None:
    """The board of that name, everybody's or one of the organisation's own."""
    return next((one for one in (*BOARDS, *own) if one.name == name), None)


def fault_of_boards(boards: tuple[BoardTerms, ...], grace_ms: int) -> str:
    """What is wrong with an organisation's own boards and their grace, "" if nothing."""
    if not 0 <= grace_ms <= BOARD_GRACE_MS_MAX:
        return f"the grace is 0 to {BOARD_GRACE_MS_MAX} ms"
    if len(boards) > BOARDS_PER_TENANT_MAX:
        return f"an organisation has at most {BOARDS_PER_TENANT_MAX} boards of its own"
    names = [one.name for one in (*BOARDS, *boards)]
    for one in boards:
        if not _NAME.fullmatch(one.name):
            return f"board {one.name!r}: a name has 1 to 40 of a to z, 0 to 9 and _"
        if names.count(one.name) > 1:
            return f"there is a board {one.name!r} already"
    return ""
