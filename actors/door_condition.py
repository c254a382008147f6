"""The condition of an event's admission rule: a CEL expression of what a door knows. Pure.

Rules:
1. It names what a rule's condition on check-ins names (`rules.environment`), and means the same: counts are those that
   they would be with this admission (somebody who only changes zones is not admitted anew), times are those of the
   organisation's time zone, points those that the card can spend now.
2. It is within the bounds of `rules.limits`, and compiled once for each version of an event.
3. Where it has no value (an attribute is missing) it says no, and the scan's record says why: an event that asks more
   than is known of somebody has not said that they may come in. A supervisor can force what `has()` would have saved.
4. What has known types and cannot fail is a Python function of the actors themselves (`quick`); CEL does the rest, of a
   moment. A text that does not compile, because it was saved under other bounds, has no value either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from actors.profiles import attributes_of
from rules.conditions import BadExpression, Condition, EvaluationFailed, compile_condition
from rules.expression_python import direct_which_of
from rules.moment import Moment
from rules.schedule import local_time

DAY_MS = 24 * 3_600_000
DOOR_ARGUMENTS = ("card", "event", "command", "visits", "entries", "at_ms", "happened_ms", "zone")
# The fields of a check-in's moment, of the actors themselves. (Visits are as of the day of the scan.)
DOOR_PATHS = {
    "at_ms": "happened_ms",
    "card.card_id": "card.card_id",
    "card.tier": "card.tier",
    "card.points": "card.available(at_ms)",
    "card.earned": "card.earned",
    "card.wallet": "card.wallet",
    "card.issued_days": "days(card.issued_at_ms, happened_ms)",
    "member.member_id": "card.member_id",
    "member.birthday": "card.profile.birthday",
    "member.birth_year": "card.profile.birth_year",
    "member.attributes": "attributes(card.profile.attributes)",
    "counts.visits_today": "visits.today",
    "counts.visits_week": "visits.this_week",
    "counts.visits_event": "entries",
    "counts.visits_ever": "visits.ever",
    "counts.streak_days": "visits.streak",
    "event.event_id": "event.event_id",
    "event.name": "event.terms.name",
    "event.tags": "event.terms.tags",
    "event.doors_open_ms": "event.terms.doors_open_ms",
    "scan.gate_id": "command.gate_id",
    "scan.direction": "command.direction",
    "scan.device_id": "command.device_id",
    "scan.offline": "command.is_offline",
    **{
        f"now.{name}": f"local_time(happened_ms, zone).{name}"
        for name in ("year", "month", "day", "hour", "minute", "weekday", "date")
    },
}


def whole_days(since_ms: int, until_ms: int) -> int:
    """The whole days since then, 0 where that is not known."""
    return max(0, until_ms - since_ms) // DAY_MS if since_ms else 0


DOOR_NAMES = {"local_time": local_time, "days": whole_days, "attributes": attributes_of}


class DoorCondition:
    """A condition, ready to be asked. `error` is why the text is none; `quick` as of rule 4, of `DOOR_ARGUMENTS`, None
    where only a moment will do."""

    def __init__(self, text: str) -> None:
        found = compile_condition(text, "checkin")
        self.error: Final = found if isinstance(found, BadExpression) else None
        self._condition: Final[Condition | None] = found if isinstance(found, Condition) else None
        code = self._condition.expression.code if self._condition is not None else None
        self.quick: Final[Callable[..., Any] | None] = (
            direct_which_of([code], DOOR_PATHS, DOOR_ARGUMENTS, DOOR_NAMES) if code is not None else None
        )

    def holds(self, moment: Moment) -> bool:
        """Raises `EvaluationFailed`."""
        if self._condition is None:
            raise EvaluationFailed("not_computable")
        return self._condition.holds(moment)
