"""Bugs in how visits are counted, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec

import actors.checkin
import actors.doors
import actors.offline
import actors.visits
from actors.calendar import local_day
from tests.simulation.planting import planted


@planted
def a_visit_is_of_the_day_on_which_it_is_told() -> Iterator[None]:
    """The late scan's own day is not looked at: the card's last one is as good."""
    original = actors.checkin.visit_of

    def visit_of(tenant: Any, card: Any, event: Any, at_ms: int) -> Any:
        found, day = original(tenant, card, event, at_ms)
        if 0 < day < card.visits.day:
            visits, is_new = actors.visits.admitted(card.visits, card.visits.day, event.event_id)
            return visits, card.visits.day if is_new else 0
        return found, day

    with patch.object(actors.offline, "visit_of", visit_of):
        yield


@planted
def coming_back_is_a_visit() -> Iterator[None]:
    original = actors.visits.admitted

    def admitted(visits: Any, day: int, event_id: str) -> Any:
        return original(msgspec.structs.replace(visits, recent=()), day, event_id)

    with patch.object(actors.checkin, "admitted", admitted):
        yield


@planted
def a_late_visit_mends_no_streak() -> Iterator[None]:
    original = actors.visits._counted

    def counted(visits: Any, *more: Any) -> Any:
        found = original(visits, *more)
        return msgspec.structs.replace(found, streak=visits.streak, best_streak=visits.best_streak)

    with patch.object(actors.visits, "_counted", counted):
        yield


@planted
def a_visit_of_any_day_is_of_this_month() -> Iterator[None]:
    original = actors.visits.admitted

    def admitted(visits: Any, day: int, event_id: str) -> Any:
        after, is_new = original(visits, day, event_id)
        if after is not None and is_new and day < visits.day:
            after = msgspec.structs.replace(after, this_month=visits.this_month + 1)
        return after, is_new

    with patch.object(actors.checkin, "admitted", admitted):
        yield


@planted
def an_annulled_visit_stays() -> Iterator[None]:
    with patch.object(actors.doors, "taken_back", lambda visits, day, event_id: None):
        yield


@planted
def days_of_visits_are_those_of_utc() -> Iterator[None]:
    with patch.object(actors.checkin, "local_day", lambda at_ms, zone: local_day(at_ms, "UTC")):
        yield


@planted
def a_streak_goes_on_over_a_gap() -> Iterator[None]:
    original = actors.visits._on_new_day

    def on_new_day(visits: Any, day: int, event_id: str) -> Any:
        found = original(visits, day, event_id)
        return msgspec.structs.replace(found, streak=visits.streak + 1)

    with patch.object(actors.visits, "_on_new_day", on_new_day):
        yield
