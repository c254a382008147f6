"""What is told of leaderboards: each view must be that of some moment since it was asked for (invariant 16)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from actors.door_facts import ScanAnnulled
from actors.facts import Fact, PointsPosted, ScanJudged
from actors.queries import GetBoard, Query
from actors.replies import BoardView
from actors.terms import BoardTerms
from tests.simulation.history import History
from tests.simulation.oracle_boards import BoardOracle, Ranking

EVERYBODYS = {("points", "points", False), ("visits", "visits", False), ("streak", "streak", False)}


class BoardsTold:
    """Every board at each position of the journal."""

    def __init__(self, oracle: BoardOracle) -> None:
        self._oracle = oracle
        self._history: dict[tuple[str, str], History] = defaultdict(History)
        # By tenant: name, metric and whether ranks are shared, of all boards that it had at any time.
        self._boards: dict[str, set[tuple[str, str, bool]]] = defaultdict(lambda: set(EVERYBODYS))

    def define(self, tenant_id: str, boards: Iterable[BoardTerms]) -> None:
        """The organisation has these boards of its own from now on."""
        self._boards[tenant_id] |= {(one.name, one.metric, one.is_shared) for one in boards}

    def take(self, fact: Fact, position: int) -> None:
        """The next fact."""
        if isinstance(fact, PointsPosted):
            changed = self._oracle.take(fact, position)
        elif isinstance(fact, ScanJudged | ScanAnnulled) and fact.visit_day:
            changed = self._oracle.take_visit(fact, position)
        else:
            return
        for board, rows in changed:
            self._history[fact.tenant_id, board].add(position, rows)

    def explain(self, tenant_id: str, view: BoardView, since: int, query: Query | None = None) -> str:
        """Why the view is wrong, "" where it is that of a moment since then."""
        asked = query if isinstance(query, GetBoard) else None
        seen: list[Any] = []
        for name, metric, is_shared in self._boards[tenant_id]:
            if name != view.board:
                continue
            history = self._history[tenant_id, f"{metric}/{view.window}"]
            is_new = not history.positions or history.positions[0] > since
            seen = history.since(since)
            if (is_new and not view.size and not view.rows) or any(
                _is_view(view, rows, asked, is_shared) for rows in seen
            ):
                return ""
        return f"no prefix of the journal gives board {view}, but {seen}"


def _is_view(view: BoardView, rows: Ranking, asked: GetBoard | None, is_shared: bool) -> bool:
    shown = [(row.rank, row.card_id, row.score) for row in view.rows]
    start, limit, rank = 0, 10, 0
    if asked is not None:
        start, limit = asked.offset, asked.limit
        places = [n for n, (card, _) in enumerate(rows) if card == asked.around]
        if asked.around:
            start, limit = (max(0, places[0] - limit // 2), limit) if places else (0, 0)
            rank = _rank(rows, places[0], is_shared) if places else 0
    wanted = [(_rank(rows, start + n, is_shared), *row) for n, row in enumerate(rows[start : start + limit])]
    return (shown, view.size, view.around_rank) == (wanted, len(rows), rank)


def _rank(rows: Ranking, place: int, is_shared: bool) -> int:
    return 1 + (sum(score > rows[place][1] for _, score in rows) if is_shared else place)
