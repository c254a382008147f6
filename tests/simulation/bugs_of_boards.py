"""Bugs in leaderboards, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from unittest.mock import patch

import actors.board
import actors.live
import actors.partition
from actors.board import Board, DaysBoard
from actors.windows import windows_of
from tests.simulation.planting import planted


@planted
def a_week_is_its_last_day() -> Iterator[None]:
    """The score of the day stands for that of the days together."""
    with patch.object(DaysBoard, "set_day", lambda board, card, name, _, score, at: board.set(card, name, score, at)):
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
        hidden = {} if fact.kind != "reverse" else {"windows_of": lambda day: windows_of(day)[:2]}
        with patch.multiple(actors.live, **hidden):
            original(views, fact, position)

    with patch.object(actors.live.Views, "take_points", take_points):
        yield
