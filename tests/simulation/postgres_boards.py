"""The model's rows that leaderboards and cards need by day (`tests.simulation.postgres_model`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from msgspec import structs

from actors.board_facts import BoardPaidOut
from actors.door_facts import ScanAnnulled
from actors.facts import PointsPosted, ScanJudged
from actors.payout import Payout
from actors.ports import BoardScore
from actors.terms import EarnedDay
from tests.simulation.oracle_boards import span_of


class BoardRows:
    """Visits by day and event, what cards have of all time, and what was paid out."""

    def __init__(self) -> None:
        # By tenant and day.
        self._points: dict[tuple[str, int], dict[str, BoardScore]] = {}
        # By tenant, card, day and event: how many, since when.
        self._days: dict[tuple[str, str, int, str], tuple[int, int]] = {}
        # By tenant, card and metric.
        self._ever: dict[tuple[str, str, str], tuple[int, int]] = {}
        self.payouts: dict[tuple[str, str], Payout] = {}

    def post(self, fact: PointsPosted, position: int) -> None:
        """The row of a day's score."""
        scores = self._points.setdefault((fact.tenant_id, fact.day), {})
        before = scores.get(fact.card_id)
        if before is None or before.score != fact.day_earned_after:
            scores[fact.card_id] = BoardScore(fact.card_id, fact.member_name, fact.day_earned_after, position)

    def past_days(self, tenant_id: str, card_id: str, latest: int) -> tuple[EarnedDay, ...]:
        """What the card earned on the week of days before its latest."""
        if not latest:
            return ()
        end = date(latest // 10_000, latest // 100 % 100, latest % 100)
        days = [int((end - timedelta(days=ago)).strftime("%Y%m%d")) for ago in range(7, 0, -1)]
        found = [(day, self._points.get((tenant_id, day), {}).get(card_id)) for day in days]
        return tuple(EarnedDay(day, score.score) for day, score in found if score is not None and score.score)

    def of_days(self, tenant_id: str, kind: str, key: str) -> list[BoardScore]:
        """The rows of a board of points by days."""
        if kind == "day":
            return [score for score in self._points.get((tenant_id, int(key)), {}).values() if score.score > 0]
        return [
            structs.replace(score, day=day)
            for (tenant, day), scores in self._points.items()
            for score in scores.values()
            if tenant == tenant_id and score.score and key == span_of(kind, day)
        ]

    def pay_out(self, fact: BoardPaidOut, position: int) -> None:
        """The row of a window that was paid out."""
        made = Payout(fact.tenant_id, fact.board, fact.window, fact.at_ms, fact.winners, position)
        self.payouts[fact.tenant_id, f"{fact.tenant_id}/payout/{fact.board}/{fact.window}"] = made

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


def _key(kind: str, day: int, event_id: str) -> str:
    if kind == "event":
        return event_id
    return str(day) if kind == "day" else span_of(kind, day)
