"""A board of a million members: a change of a score, and a look at somebody's rank with neighbours."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from actors.board import Board
from actors.ports import BoardScore

Bench = Callable[..., Any]


@pytest.fixture(scope="module")
def board(members: int) -> Board:
    return Board(BoardScore(f"card_{n:020d}", "Ann", 1 + n * 7919 % 5_000, n) for n in range(members))


def test_change(benchmark: Bench, board: Board, members: int) -> None:
    numbers = count(members)

    def change() -> None:
        number = next(numbers)
        board.set(f"card_{number * 7919 % members:020d}", "Ann", 1 + number * 104_729 % 5_000, number)

    benchmark(change)


def test_rank_with_neighbours(benchmark: Bench, board: Board, members: int) -> None:
    who = f"card_{members // 2:020d}"
    view = benchmark(board.view, "points", "all", 11, 0, who)
    assert who in [row.card_id for row in view.rows]
