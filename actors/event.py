"""The virtual actor Event: an occasion with doors, and who is inside.

Rules:
1. State changes only in `apply`; counts come from the fact, they are never computed here.
2. An event is loaded with the attendance of all its cards, so it can judge any card without asking anybody.
3. A fact at or before `position` changes nothing.
"""

from __future__ import annotations

import msgspec

from actors.facts import EventChanged, EventCreated, PointsPosted, ScanJudged
from actors.terms import EventTerms


class Attendance(msgspec.Struct, gc=False):
    """One card at one event. `admitted_at_ms`, `gate_id`, `device_id` are those of its latest admission; `earned`
    the points earned here, `earned_position` when that score was reached."""

    is_inside: bool = False
    entries: int = 0
    admitted_at_ms: int = 0
    gate_id: str = ""
    device_id: str = ""
    earned: int = 0
    earned_position: int = 0


class Event(msgspec.Struct, gc=False):
    """An event's state. `inside`: people inside now; `admitted`: entries admitted; `refused`: scans refused."""

    tenant_id: str
    event_id: str
    terms: EventTerms
    inside: int = 0
    admitted: int = 0
    refused: int = 0
    attendance: dict[str, Attendance] = msgspec.field(default_factory=dict)
    position: int = 0

    @classmethod
    def created(cls, fact: EventCreated, position: int) -> Event:
        """The event as it is when just created."""
        return cls(fact.tenant_id, fact.event_id, fact.terms, position=position)

    def apply(self, fact: EventChanged | ScanJudged | PointsPosted, position: int) -> None:
        """Takes in a fact about this event."""
        if position <= self.position:
            return
        self.position = position
        if isinstance(fact, ScanJudged):
            self._apply_scan(fact)
        elif isinstance(fact, PointsPosted):
            attendance = self.attendance.get(fact.card_id)
            if attendance is None:
                attendance = self.attendance[fact.card_id] = Attendance()
            attendance.earned = fact.event_earned_after
            attendance.earned_position = position
        else:
            self.terms = fact.terms

    def _apply_scan(self, fact: ScanJudged) -> None:
        assert fact.inside <= max(fact.capacity, self.inside), "an entry never takes the count above the capacity"
        self.inside = fact.inside
        self.admitted = fact.admitted
        self.refused = fact.refused
        if fact.reason:
            return
        attendance = self.attendance.get(fact.card_id)
        if attendance is None:
            attendance = self.attendance[fact.card_id] = Attendance()
        attendance.is_inside = fact.card_inside
        if fact.direction == "entry":
            attendance.entries = fact.card_entries
            attendance.admitted_at_ms = fact.at_ms
            attendance.gate_id = fact.gate_id
            attendance.device_id = fact.device_id
