"""The model's rows that leaderboards and cards need by day (`tests.simulation.postgres_model`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from actors.door_facts import ScanAnnulled
from actors.facts import ScanJudged
from actors.ports import BoardScore
from actors.terms import EarnedDay
from tests.simulation.oracle_boards import span_of


class VisitRows:
    """Visits by day and event, and what cards have of all time."""

    def __init__(self) -> None:
        # By tenant, card, day and event: how many, since when.
        self._days: dict[tuple[str, str, int, str], tuple[int, int]] = {}
        # By tenant, card and metric.
        self._ever: dict[tuple[str, str, str], tuple[int, int]] = {}

    def write(self, fact: ScanJudged | ScanAnnulled, position: int) -> None:
        """The rows that a scan or an annulment leads to."""
        if not fact.visit_day or fact.visits is None:
            return
        who = (fact.tenant_id, fact.card_id)
        part = fact.counts_as or (fact.visit_day, fact.event_id)
        if part[0]:
            self._days[*who, *part] = (int(isinstance(fact, ScanJudged)), position)
        for metric, ever in (("visits", fact.visits.ever), ("streak", fact.visits.best_streak)):
            if self._ever.get((*who, metric), (0, 0))[0] != ever:
                self._ever[*who, metric] = (ever, position)

    def board(self, tenant_id: str, metric: str, kind: str, key: str, names: Mapping[str, str]) -> list[BoardScore]:
        """The rows of a board."""
        if kind == "all":
            return [
                BoardScore(card_id, names[card_id], *score)
                for (tenant, card_id, counted), score in self._ever.items()
                if (tenant, counted) == (tenant_id, metric) and score[0]
            ]
        return [
            BoardScore(card_id, names[card_id], *score, day, event_id)
            for (tenant, card_id, day, event_id), score in self._days.items()
            if tenant == tenant_id and score[0] and key == _key(kind, day, event_id)
        ]


def past_days(
    scores: Mapping[tuple[str, int], Mapping[str, BoardScore]], tenant_id: str, card_id: str, latest: int
) -> tuple[EarnedDay, ...]:
    """What the card earned on the week of days before its latest."""
    if not latest:
        return ()
    end = date(latest // 10_000, latest // 100 % 100, latest % 100)
    days = [int((end - timedelta(days=ago)).strftime("%Y%m%d")) for ago in range(7, 0, -1)]
    found = [(day, scores.get((tenant_id, day), {}).get(card_id)) for day in days]
    return tuple(EarnedDay(day, score.score) for day, score in found if score is not None and score.score)


def _key(kind: str, day: int, event_id: str) -> str:
    if kind == "event":
        return event_id
    return str(day) if kind == "day" else span_of(kind, day)
