"""Leaderboards for the entity store in memory, from facts and replayed states (`storage.memory_store`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from actors.door_facts import ScanAnnulled
from actors.facts import Fact, PointsPosted, ScanJudged
from actors.ports import BoardScore
from actors.windows import ALL_WINDOW, EVENT_WINDOW, days_of, is_of_parts, metric_and_window
from storage.replay import WorldState

# A score and the position at which it was reached.
_Reached = tuple[int, int]
# A card, its score, and of which part.
_Found = tuple[Any, ...]
_Key = TypeVar("_Key")


class Scores:
    """What boards are made of beyond the states of cards and events."""

    def __init__(self) -> None:
        # By tenant, day and card.
        self._points: dict[tuple[str, int, str], _Reached] = {}
        # By tenant, day, event and card: the visits there are.
        self._visits: dict[tuple[str, int, str, str], _Reached] = {}
        # By metric, tenant and card: what it has of all time.
        self._ever: dict[tuple[str, str, str], _Reached] = {}

    def take(self, fact: Fact, position: int) -> None:
        """The next fact."""
        if isinstance(fact, PointsPosted):
            if fact.day:
                _set(self._points, (fact.tenant_id, fact.day, fact.card_id), fact.day_earned_after, position)
        elif isinstance(fact, ScanJudged | ScanAnnulled) and fact.visit_day and fact.visits is not None:
            count = 1 if isinstance(fact, ScanJudged) else 0
            if fact.part.day:
                self._visits[fact.tenant_id, *fact.part, fact.card_id] = (count, position)
            _set(self._ever, ("visits", fact.tenant_id, fact.card_id), fact.visits.ever, position)
            _set(self._ever, ("streak", fact.tenant_id, fact.card_id), fact.visits.best_streak, position)

    def board(self, world: WorldState, tenant_id: str, key: str) -> list[BoardScore]:
        """The scores above zero, best first, then who reached theirs first; on boards of parts each part."""
        metric, window = metric_and_window(key)
        found = self._of_points(world, tenant_id, window) if metric == "points" else self._of(metric, tenant_id, window)
        rows = [
            BoardScore(card_id, world.cards[tenant_id, card_id].member_name, *score, *part)
            for card_id, score, *part in found
            if score[0] > 0 or (score[0] and is_of_parts(metric, window))
        ]
        if is_of_parts(metric, window):
            return sorted(rows, key=lambda row: (row.day, row.event_id, row.card_id))
        return sorted(rows, key=lambda row: (-row.score, row.reached))

    def _of_points(self, world: WorldState, tenant_id: str, window: str) -> Iterator[_Found]:
        if window == ALL_WINDOW:
            for (owner, card_id), card in world.cards.items():
                if owner == tenant_id:
                    yield card_id, (card.earned, card.earned_position)
        elif window.startswith(EVENT_WINDOW):
            event = world.events.get((tenant_id, window.removeprefix(EVENT_WINDOW)))
            for card_id, seen in (event.attendance if event is not None else {}).items():
                yield card_id, (seen.earned, seen.earned_position)
        else:
            first, last = days_of(window)
            for (owner, day, card_id), score in self._points.items():
                if owner == tenant_id and first <= day <= last:
                    yield (card_id, score, day) if first < last else (card_id, score)

    def _of(self, metric: str, tenant_id: str, window: str) -> Iterator[_Found]:
        if window == ALL_WINDOW:
            for (counted, owner, card_id), score in self._ever.items():
                if (counted, owner) == (metric, tenant_id):
                    yield card_id, score
            return
        is_event = window.startswith(EVENT_WINDOW)
        first, last = (0, 0) if is_event else days_of(window)
        for (owner, day, where, card_id), score in self._visits.items():
            if owner == tenant_id and (window == EVENT_WINDOW + where if is_event else first <= day <= last):
                yield card_id, score, day, where


def _set(scores: dict[_Key, _Reached], key: _Key, score: int, position: int) -> None:
    if key not in scores or scores[key][0] != score:
        scores[key] = (score, position)
