"""The virtual actor Event: an occasion with doors, and who is inside.

Rules:
1. State changes only in `apply`; counts come from the fact, they are never computed here.
2. An event is loaded with the attendance of all its cards, so it can judge any card without asking anybody.
3. A fact at or before `position` changes nothing.
4. Attendance of a session is kept for itself (`attendance_key`); what a card earned at the event stands with its
   attendance outside of sessions.
5. Where a card is, its latest scan says, by the time of the scan (`seen_ms`) and not of its arrival: a scan uploaded
   late counts, but does not call anybody back. Everybody's leaving at `left_ms` is such a scan of all.
"""

from __future__ import annotations

import msgspec

from actors.door_facts import AdmissionListChanged, EveryoneLeft, QuestionsAnswered, ScanAnnulled
from actors.facts import EventChanged, EventCreated, PointsPosted, ScanDetails, ScanJudged
from actors.terms import EventTerms


class Attendance(msgspec.Struct, gc=False):
    """One card at one event (or session). `admitted_at_ms`, `gate_id`, `device_id` are those of its latest admission;
    `earned` the points earned here, `earned_position` when that score was reached. `seen_ms` is the time of its latest
    scan, `answered` the questions that were answered."""

    is_inside: bool = False
    entries: int = 0
    admitted_at_ms: int = 0
    gate_id: str = ""
    device_id: str = ""
    earned: int = 0
    earned_position: int = 0
    zone_id: str = ""
    seen_ms: int = 0
    answered: tuple[str, ...] = ()


_ORDINARY = ScanDetails()


def attendance_key(card_id: str, session_id: str) -> str:
    """The key of a card's attendance of a session ("": of the event). Ids have no "/"."""
    return f"{card_id}/{session_id}" if session_id else card_id


class Event(msgspec.Struct, gc=False):
    """An event's state. `inside`: people inside now; `admitted`: entries admitted; `refused`: scans refused. `zones`
    are the people by zone, `session_id` the session under way, `listed` the cards on the admission list."""

    tenant_id: str
    event_id: str
    terms: EventTerms
    inside: int = 0
    admitted: int = 0
    refused: int = 0
    attendance: dict[str, Attendance] = msgspec.field(default_factory=dict)
    position: int = 0
    zones: dict[str, int] = msgspec.field(default_factory=dict)
    session_id: str = ""
    left_ms: int = 0
    listed: set[str] = msgspec.field(default_factory=set)

    @classmethod
    def created(cls, fact: EventCreated, position: int) -> Event:
        """The event as it is when just created."""
        return cls(fact.tenant_id, fact.event_id, fact.terms, position=position)

    def apply(
        self,
        fact: EventChanged
        | ScanJudged
        | PointsPosted
        | ScanAnnulled
        | EveryoneLeft
        | AdmissionListChanged
        | QuestionsAnswered,
        position: int,
    ) -> None:
        """Takes in a fact about this event."""
        if position <= self.position:
            return
        self.position = position
        if type(fact) is ScanJudged:
            self._apply_scan(fact)
        elif type(fact) is PointsPosted:
            attendance = self._attended(fact.card_id)
            attendance.earned = fact.event_earned_after
            attendance.earned_position = position
        elif isinstance(fact, EventChanged):
            self.terms = fact.terms
        elif isinstance(fact, ScanAnnulled):
            self._apply_annulment(fact)
        elif isinstance(fact, EveryoneLeft):
            self._apply_leaving(fact)
        elif isinstance(fact, AdmissionListChanged):
            self.listed.update(fact.added)
            self.listed.difference_update(fact.removed)
        else:
            self._attended(fact.card_id).answered = fact.answered

    def _attended(self, key: str) -> Attendance:
        attendance = self.attendance.get(key)
        if attendance is None:
            attendance = self.attendance[key] = Attendance()
        return attendance

    def _apply_scan(self, fact: ScanJudged) -> None:
        details = fact.details
        is_over = details is not None and (details.is_offline or details.forced)
        assert is_over or fact.inside <= max(fact.capacity, self.inside), "an entry never takes it above the capacity"
        self.inside = fact.inside
        self.admitted = fact.admitted
        self.refused = fact.refused
        if fact.reason:
            return
        if details is None:
            self._apply_presence(fact, self._attended(fact.card_id), _ORDINARY, fact.at_ms)
            return
        if not fact.member_id:
            return  # an unknown card, let in without a network: counted nowhere
        if details.left_zone_id:
            self.zones[details.left_zone_id] = details.left_zone_inside
        if details.zone_id:
            self.zones[details.zone_id] = details.zone_inside
        attendance = self._attended(attendance_key(fact.card_id, details.session_id))
        self._apply_presence(fact, attendance, details, fact.scanned_at_ms if details.is_offline else fact.at_ms)

    @staticmethod
    def _apply_presence(fact: ScanJudged, attendance: Attendance, details: ScanDetails, seen_ms: int) -> None:
        attendance.is_inside = fact.card_inside
        if fact.direction == "entry":
            attendance.entries = fact.card_entries
            if details.is_latest_entry:
                attendance.admitted_at_ms = seen_ms
                attendance.gate_id = fact.gate_id
                attendance.device_id = fact.device_id
        if details.is_latest:
            attendance.seen_ms = seen_ms
            attendance.zone_id = details.zone_id

    def _apply_annulment(self, fact: ScanAnnulled) -> None:
        self.inside = fact.inside
        self.admitted = fact.admitted
        if fact.zone_id:
            self.zones[fact.zone_id] = fact.zone_inside
        if fact.back_zone_id:
            self.zones[fact.back_zone_id] = fact.back_zone_inside
        attendance = self.attendance[attendance_key(fact.card_id, fact.session_id)]
        attendance.is_inside = fact.card_inside
        attendance.entries = fact.card_entries
        attendance.zone_id = fact.back_zone_id
        attendance.seen_ms = fact.at_ms
        if not fact.card_inside:
            attendance.admitted_at_ms = 0
            attendance.gate_id = attendance.device_id = ""

    def _apply_leaving(self, fact: EveryoneLeft) -> None:
        self.inside = 0
        self.zones = dict.fromkeys(self.zones, 0)
        self.left_ms = fact.left_ms
        if fact.session_id:
            self.session_id = fact.session_id
        for attendance in self.attendance.values():
            attendance.is_inside = False
            attendance.zone_id = ""
