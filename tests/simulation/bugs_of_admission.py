"""Bugs in admission conditions, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import actors.admission
import actors.checkin
import actors.event_terms
from actors.door_condition import DoorCondition
from rules.conditions import EvaluationFailed
from tests.simulation.planting import around, planted


@planted
def a_condition_is_not_looked_at() -> Iterator[None]:
    with patch.object(actors.admission, "_holds", lambda *_: True):
        yield


@planted
def a_condition_without_a_value_lets_in() -> Iterator[None]:
    def holds(original: Any, self: Any, moment: Any) -> bool:
        try:
            return bool(original(self, moment))
        except EvaluationFailed:
            return True

    with around(DoorCondition, "holds", holds):
        yield


@planted
def a_condition_does_not_count_the_admission_itself() -> Iterator[None]:
    original = actors.admission._holds

    def holds(*told: Any) -> bool:
        return original(*told[:-1], told[-1] - 1)

    with patch.object(actors.admission, "_holds", holds):
        yield


@planted
def an_exit_must_meet_the_condition() -> Iterator[None]:
    original = actors.checkin._reason_at_door

    def reason(event: Any, command: Any, at_ms: int) -> str:
        found = original(event, command, at_ms)
        is_odd = command.direction == "exit" and event.terms.admission.condition
        return found or ("not_eligible" if is_odd else "")

    with patch.object(actors.checkin, "_reason_at_door", reason):
        yield


@planted
def a_condition_that_is_none_is_saved() -> Iterator[None]:
    with patch.object(actors.event_terms, "_fault_of_condition", lambda terms: ""):
        yield
