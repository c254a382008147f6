"""Bugs in leaderboards, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import msgspec

import actors.board
import actors.calendar
import actors.card
import actors.checkin
import actors.door_rules
import actors.freezing
import actors.ledger
import actors.live
import actors.partition
import actors.paying_out
from actors.board import Board, PartsBoard
from actors.ranking import Ranking
from actors.scope import Scope
from actors.windows import keys_of_day
from tests.simulation.planting import planted


@planted
def a_week_is_its_last_day() -> Iterator[None]:
    """The score of the day stands for that of the days together."""
    with patch.object(PartsBoard, "set_part", lambda board, card, name, _, score, at: board.set(card, name, score, at)):
        yield


@planted
def a_board_that_is_loaded_knows_one_day() -> Iterator[None]:
    def over(window: str, scores: Iterable[Any]) -> Board:
        first: dict[str, Any] = {}
        for score in scores:
            first.setdefault(score.card_id, score)
        return actors.board.board_over(window, first.values())

    with patch.object(actors.partition, "board_over", over):
        yield


@planted
def a_month_hears_nothing_of_what_is_taken_back() -> Iterator[None]:
    original = actors.live.Views.take_points

    def take_points(views: Any, fact: Any, position: int) -> None:
        hidden = {} if fact.kind != "reverse" else {"keys_of_day": lambda *day: keys_of_day(*day)[:2]}
        with patch.multiple(actors.live, **hidden):
            original(views, fact, position)

    with patch.object(actors.live.Views, "take_points", take_points):
        yield


@planted
def a_visit_that_is_taken_back_stays_on_the_boards() -> Iterator[None]:
    original = actors.live.Views.take_visit

    def take_visit(views: Any, fact: Any, name: str, count: int, position: int) -> None:
        if count:
            original(views, fact, name, count, position)

    with patch.object(actors.live.Views, "take_visit", take_visit):
        yield


@planted
def a_streak_goes_on_over_a_day_without_a_visit() -> Iterator[None]:
    with patch.object(actors.board, "day_number", lambda day: actors.calendar.day_number(day) // 3):
        yield


@planted
def ranks_that_are_shared_leave_none_out() -> Iterator[None]:
    """After two first ones comes the second, not the third."""
    with patch.object(Ranking, "rank_of", lambda ranking, score: 1 + sum(one > score for one in ranking._equals)):
        yield


@planted
def what_is_frozen_still_moves() -> Iterator[None]:
    with patch.object(actors.freezing, "first_open_day", lambda settings, at_ms: 0):
        yield


@planted
def what_is_told_late_counts_today() -> Iterator[None]:
    with patch.object(actors.ledger, "is_open", lambda settings, card, day, at_ms: False):
        yield


@planted
def a_late_day_is_all_that_was_earned_on_it() -> Iterator[None]:
    """The days before the latest are forgotten."""
    with patch.object(actors.card.Card, "_keep_past", lambda card, day, earned: None):
        yield


@planted
def an_events_board_is_never_frozen() -> Iterator[None]:
    with patch.object(actors.door_rules, "is_event_frozen", lambda settings, terms, at_ms: False):
        yield


@planted
def a_visit_of_a_frozen_day_counts_there() -> Iterator[None]:
    with patch.object(actors.checkin, "part_of_visit", lambda *told: None):
        yield


@planted
def a_board_is_paid_out_before_it_is_frozen() -> Iterator[None]:
    original = actors.paying_out._frozen_ms
    with patch.object(actors.paying_out, "_frozen_ms", lambda *asked: min(1, original(*asked))):
        yield


@planted
def prizes_go_to_cards_that_are_suspended() -> Iterator[None]:
    original = actors.paying_out._paid

    def paid(scope: Any, command: Any, rows: Any, at_ms: int) -> Any:
        cards = scope.find_all([("card", row.card_id) for row in rows])
        with ExitStack() as stack:
            for card in cards:
                stack.enter_context(patch.object(card, "state", "active"))
            return original(scope, command, rows, at_ms)

    with patch.object(actors.paying_out, "_paid", paid):
        yield


@planted
def what_was_paid_out_is_forgotten() -> Iterator[None]:
    original = Scope.find

    def find(scope: Any, kind: str, own_id: str) -> Any:
        found = original(scope, kind, own_id)
        return None if kind == "payout" else found

    with patch.object(Scope, "find", find):
        yield


@planted
def a_shared_rank_has_the_next_ones_prize() -> Iterator[None]:
    original = actors.paying_out._paid

    def paid(scope: Any, command: Any, rows: Any, at_ms: int) -> Any:
        apart = [msgspec.structs.replace(row, rank=n) for n, row in enumerate(rows[: len(command.prizes)], 1)]
        return original(scope, command, apart, at_ms)

    with patch.object(actors.paying_out, "_paid", paid):
        yield
