"""Leaderboards: ties, rows around a card, and the lazy order against a plain recomputation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.board import Board, PartsBoard, fault_of_boards, streak_of
from actors.ports import BoardScore
from actors.terms import BoardTerms, Metric


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


class TestDays:
    """A board over several days."""

    def test_a_score_is_the_sum_of_its_days_and_reached_when_the_last_of_them_was(self) -> None:
        the_board = PartsBoard(
            "points",
            [
                BoardScore("a", "Ann", 5, 3, 20261123),
                BoardScore("b", "Bob", 9, 4, 20261123),
                BoardScore("a", "Ann", 4, 6, 20261124),
                BoardScore("c", "Cy", -2, 7, 20261124),
            ],
        )
        assert top(the_board) == [(1, "b", 9), (2, "a", 9)]
        the_board.set_part("c", "Cy", (20261125, ""), 11, 8)
        assert top(the_board) == [(1, "b", 9), (2, "a", 9), (3, "c", 9)]
        the_board.set_part("b", "Bob", (20261123, ""), 10, 9)
        the_board.set_part("b", "Bob", (20261123, ""), 9, 10)
        assert [card for _, card, _ in top(the_board)] == ["a", "c", "b"]

    def test_a_day_that_comes_to_nothing_is_as_if_it_had_not_been(self) -> None:
        the_board = PartsBoard(
            "points", [BoardScore("a", "Ann", 5, 3, 20261123), BoardScore("b", "Bob", 5, 4, 20261123)]
        )
        the_board.set_part("a", "Ann", (20261124, ""), 5, 6)
        the_board.set_part("a", "Ann", (20261124, ""), 0, 7)
        assert top(the_board) == [(1, "a", 5), (2, "b", 5)]
        the_board.set_part("a", "Ann", (20261123, ""), 0, 8)
        the_board.set_part("c", "Cy", (20261124, ""), 0, 9)
        assert top(the_board) == [(1, "b", 5)]

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2, 3]), st.integers(-3, 4), st.booleans())),
        st.integers(0, 30),
    )
    def test_it_goes_on_from_where_it_was_loaded(
        self, changes: list[tuple[str, int, int, bool]], loaded_after: int
    ) -> None:
        days: dict[tuple[str, int], tuple[int, int]] = {}
        the_board = PartsBoard("points", ())
        for reached, (card_id, day, score, looks) in enumerate(changes, 1):
            if reached - 1 == loaded_after:
                rows = [(card, day, *score) for (card, day), score in days.items() if score[0]]
                the_board = PartsBoard(
                    "points", [BoardScore(card, "Ann", score, at, day) for card, day, score, at in rows]
                )
            the_board.set_part(card_id, "Ann", (day, ""), score, reached)
            if days.get((card_id, day), (0, 0))[0] != score:
                days[card_id, day] = (score, reached)
            if looks:
                assert [(card, score) for _, card, score in top(the_board)] == self._ranked(days)
        assert [(card, score) for _, card, score in top(the_board)] == self._ranked(days)

    @staticmethod
    def _ranked(days: dict[tuple[str, int], tuple[int, int]]) -> list[tuple[str, int]]:
        cards = {card for card, _ in days}
        parts = {card: [score for (who, _), score in days.items() if who == card and score[0]] for card in cards}
        sums = [(-sum(p for p, _ in own), max(at for _, at in own), card) for card, own in parts.items() if own]
        return [(card, -minus) for minus, _, card in sorted(sums) if minus < 0]


def parts(metric: Metric, *visits: tuple[str, int, str, int]) -> PartsBoard:
    """A board of visits: card, day, event and position."""
    return PartsBoard(metric, [BoardScore(card, card.upper(), 1, at, day, where) for card, day, where, at in visits])


class TestVisits:
    """Boards of visits and of days in a row."""

    def test_visits_are_counted_and_reached_with_the_last(self) -> None:
        the_board = parts("visits", ("a", 20261123, "x", 1), ("a", 20261123, "y", 4), ("b", 20261123, "x", 2))
        the_board.set_part("b", "B", (20261125, "x"), 1, 3)
        assert top(the_board) == [(1, "b", 2), (2, "a", 2)]
        the_board.set_part("b", "", (20261125, "x"), 0, 5)
        the_board.set_part("b", "", (20261123, "x"), 0, 6)
        the_board.set_part("b", "", (20261123, "x"), 0, 7)
        assert top(the_board) == [(1, "a", 2)]
        assert the_board.view("visits", "", 1, 0, "").rows[0].member_name == "A"

    @pytest.mark.parametrize(
        ("days", "streak", "reached"),
        [
            ([(20261130, 1), (20261201, 2)], 2, 2),
            ([(20280228, 1), (20280229, 2), (20280301, 3)], 3, 3),
            ([(20270228, 1), (20270301, 2)], 2, 2),
            ([(20261123, 1), (20261125, 2)], 1, 1),
            ([(20261125, 1), (20261123, 2), (20261124, 3)], 3, 3),  # the gap is filled late
            ([(20261101, 9), (20261102, 8), (20261105, 3), (20261106, 4)], 2, 4),  # two as long: the earlier one
            ([(20261101, 5), (20261101, 2)], 1, 2),  # two events on a day
        ],
    )
    def test_a_streak_is_the_most_days_in_a_row(self, days: list[tuple[int, int]], streak: int, reached: int) -> None:
        made = {(day, f"evt_{n}"): (1, at) for n, (day, at) in enumerate(days)}
        assert streak_of(made) == (streak, reached)

    def test_without_a_visit_there_is_no_streak(self) -> None:
        the_board = parts("streak", ("a", 20261123, "x", 1), ("a", 20261124, "x", 2))
        the_board.set_part("a", "", (20261123, "x"), 0, 3)
        assert top(the_board) == [(1, "a", 1)]
        the_board.set_part("a", "", (20261124, "x"), 0, 4)
        assert top(the_board) == []


class TestSharedRanks:
    def test_equals_have_the_rank_of_the_first_of_them(self) -> None:
        the_board = board(("a", 9, 1), ("b", 7, 2), ("c", 7, 3), ("d", 7, 4), ("e", 5, 5))

        def ranks(limit: int, offset: int, around: str = "") -> tuple[int, list[tuple[int, str]]]:
            view = the_board.view("regulars", "all", limit, offset, around, is_shared=True)
            return view.around_rank, [(row.rank, row.card_id) for row in view.rows]

        assert ranks(9, 0) == (0, [(1, "a"), (2, "b"), (2, "c"), (2, "d"), (5, "e")])
        assert ranks(2, 2) == (0, [(2, "c"), (2, "d")])
        assert ranks(3, 0, "d") == (2, [(2, "c"), (2, "d"), (5, "e")])
        assert ranks(3, 0, "nobody") == (0, [])


@pytest.mark.parametrize(
    ("boards", "grace_ms", "fault"),
    [
        ((), 0, ""),
        ((BoardTerms("regulars", "visits", True),), 144 * 3_600_000, ""),
        ((BoardTerms("Regulars", "visits"),), 0, "board 'Regulars': a name has 1 to 40 of a to z, 0 to 9 and _"),
        ((BoardTerms("", "visits"),), 0, "board '': a name has 1 to 40 of a to z, 0 to 9 and _"),
        ((BoardTerms("points", "visits"),), 0, "there is a board 'points' already"),
        ((BoardTerms("a", "visits"), BoardTerms("a", "points")), 0, "there is a board 'a' already"),
        (
            tuple(BoardTerms(f"b{n}", "points") for n in range(21)),
            0,
            "an organisation has at most 20 boards of its own",
        ),
        ((), -1, "the grace is 0 to 518400000 ms"),
        ((), 144 * 3_600_000 + 1, "the grace is 0 to 518400000 ms"),
    ],
)
def test_an_organisations_own_boards(boards: tuple[BoardTerms, ...], grace_ms: int, fault: str) -> None:
    found = fault_of_boards(boards, grace_ms)
    assert found.startswith(fault)
    assert bool(found) == bool(fault)
