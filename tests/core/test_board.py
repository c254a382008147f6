"""Leaderboards: ties, rows around a card, and the lazy order against a plain recomputation."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.board import Board
from actors.ports import BoardScore


def board(*scores: tuple[str, int, int]) -> Board:
    return Board(BoardScore(card_id, "Ann", score, reached) for card_id, score, reached in scores)


def top(the_board: Board, limit: int = 100, offset: int = 0) -> list[tuple[int, str, int]]:
    view = the_board.view("points", "all", limit, offset, "")
    return [(row.rank, row.card_id, row.score) for row in view.rows]


def test_a_tie_goes_to_who_reached_the_score_first() -> None:
    the_board = board(("b", 10, 2), ("a", 10, 3), ("c", 10, 1))
    assert [card for _, card, _ in top(the_board)] == ["c", "b", "a"]
    the_board.set("d", "Ann", 10, 4)
    the_board.set("c", "Ann", 12, 5)
    the_board.set("c", "Ann", 10, 6)
    assert [card for _, card, _ in top(the_board)] == ["b", "a", "d", "c"]


def test_the_same_score_again_keeps_its_place_and_an_older_fact_changes_nothing() -> None:
    the_board = board(("a", 10, 5), ("b", 10, 6))
    the_board.set("a", "Ann", 10, 9)
    the_board.set("b", "Ann", 99, 6)
    the_board.set("b", "Ann", 99, 3)
    assert top(the_board) == [(1, "a", 10), (2, "b", 10)]


def test_only_scores_above_zero_are_on_the_board() -> None:
    the_board = board(("a", 10, 1), ("b", 0, 2))
    the_board.set("a", "Ann", 0, 3)
    the_board.set("c", "Ann", -5, 4)
    assert (len(the_board), top(the_board)) == (0, [])
    the_board.set("a", "Ann", 1, 5)
    assert top(the_board) == [(1, "a", 1)]


def test_around_a_card() -> None:
    the_board = board(*((f"c{n}", 100 - n, n + 1) for n in range(10)))

    def around(card_id: str, limit: int) -> tuple[int, list[int]]:
        view = the_board.view("points", "all", limit, 0, card_id)
        return view.around_rank, [row.rank for row in view.rows]

    assert around("c4", 3) == (5, [4, 5, 6])
    assert around("c0", 3) == (1, [1, 2, 3])
    assert around("c9", 3) == (10, [9, 10])
    assert around("nobody", 3) == (0, [])


def test_a_page_further_down() -> None:
    the_board = board(*((f"c{n}", 100 - n, n + 1) for n in range(10)))
    assert top(the_board, 2, 4) == [(5, "c4", 96), (6, "c5", 95)]
    assert top(the_board, 2, 20) == []


CHANGES = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-2, 6), st.booleans()), max_size=60)


@settings(max_examples=200, deadline=None)
@given(CHANGES)
def test_the_lazy_order_is_the_recomputed_order(changes: list[tuple[str, int, bool]]) -> None:
    the_board = board()
    plain: dict[str, tuple[int, int]] = {}
    for reached, (card_id, score, looks) in enumerate(changes, 1):
        the_board.set(card_id, "Ann", score, reached)
        if plain.get(card_id, (0, 0))[0] != max(score, 0):
            plain[card_id] = (max(score, 0), reached)
        if looks or reached == len(changes):
            ranked = sorted((-score, at, card) for card, (score, at) in plain.items() if score > 0)
            assert [(card, score) for _, card, score in top(the_board)] == [(card, -minus) for minus, _, card in ranked]
            assert len(the_board) == len(ranked)
