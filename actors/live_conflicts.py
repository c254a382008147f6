"""What the live line of an event tells of its list of conflicts: which came about, and which were resolved.

Rules:
1. Whoever follows from a snapshot on and takes in every change has the event's list (`actors.conflicts`), as far as it
   is about cards whose scans were all heard here: those that had not been at the event when the line began.
2. What may have changed for any other card is not guessed: the line says that the list has to be looked up.
3. Memory is bounded: beyond `HEARD_SCANS_MAX` all cards are such others.
4. An event whose scanners all have a network pays for one note a scan, and only while somebody follows it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from actors.conflicts import Conflict, TimedScan, conflicts_in, place_in_time
from actors.door_facts import ScanAnnulled
from actors.event import Event, attendance_key
from actors.facts import ScanDetails, ScanJudged
from actors.replies import ConflictChange
from actors.terms import Reentry

# Changes that wait for their update; beyond, the list has to be looked up.
CHANGES_WAITING_MAX = 10_000
# Scans that are remembered of one event, some 600 bytes each.
HEARD_SCANS_MAX = 50_000

_PLAIN: Final = ScanDetails()

# What a conflict is told by: its scan, the other one ("": none) and the reason.
_Identity = tuple[str, str, str]


class HeardConflicts:
    """The conflicts among an event's scans that were heard. `resolved`: scans that were in one and are in none now."""

    def __init__(self, event: Event) -> None:
        # Attendance is by card, or by card and session.
        self.strangers = set(event.attendance)
        self.resolved: set[str] = set()
        self._reentry = event.terms.reentry
        self._heard: dict[str, list[ScanJudged]] = {}
        self._heard_count = 0
        self._hears_all = True
        # Cards that an offline scanner let in or out, with their conflicts.
        self._found: dict[str, dict[_Identity, None]] = {}
        self._waiting: deque[ConflictChange] = deque()
        self._must_look_up = False

    @property
    def has_more(self) -> bool:
        """Whether something waits to be told."""
        return bool(self._waiting)

    def knows(self, card_id: str, session_id: str = "") -> bool:
        """Whether all scans of the card were heard."""
        strangers = self.strangers
        is_stranger = card_id in strangers or (session_id and attendance_key(card_id, session_id) in strangers)
        return self._hears_all and not is_stranger

    def take(self, fact: ScanJudged) -> None:
        """Takes in a durable scan."""
        if fact.reason or not fact.card_id:
            return
        details = fact.details or _PLAIN
        if not fact.member_id:
            # An unknown card has no attendance that would tell whether it was here before.
            self.strangers.add(fact.card_id)
        if not self.knows(fact.card_id, details.session_id):
            self._must_look_up |= details.is_offline
            return
        if self._heard_count >= HEARD_SCANS_MAX:
            self._forget()
            return
        self._heard_count += 1
        heard = self._heard.get(fact.card_id)
        if heard is None:
            heard = self._heard[fact.card_id] = []
        heard.append(fact)
        if details.is_offline:
            self._found.setdefault(fact.card_id, {})
        if fact.card_id in self._found:
            self._compare(fact.card_id)

    def take_annulment(self, fact: ScanAnnulled) -> None:
        """Takes in that an admission was undone."""
        heard = self._heard.get(fact.card_id)
        if heard is None or not self.knows(fact.card_id, fact.session_id):
            self._must_look_up = True
            return
        heard[:] = [scan for scan in heard if scan.request_id != fact.scan_id]
        if fact.card_id in self._found:
            self._compare(fact.card_id)

    def take_reentry(self, reentry: Reentry) -> None:
        """Takes in how the event lets people come back now: it decides on all conflicts there were."""
        if reentry == self._reentry:
            return
        self._reentry = reentry
        self._must_look_up |= bool(self.strangers) or not self._hears_all
        for card_id in self._found:
            self._compare(card_id)

    def told(self, count_max: int) -> tuple[tuple[ConflictChange, ...], bool]:
        """The next changes, at most so many, and whether the list has to be looked up. Told once."""
        count = min(len(self._waiting), count_max)
        must_look_up, self._must_look_up = self._must_look_up, False
        return tuple(self._waiting.popleft() for _ in range(count)), must_look_up

    def _compare(self, card_id: str) -> None:
        """Notes what has changed about a card's conflicts."""
        before = self._found[card_id]
        timeline = sorted(map(_timed, self._heard[card_id]), key=place_in_time)
        now = self._found[card_id] = {_identity(one): None for one in conflicts_in(timeline, self._reentry)}
        for identity in before:
            if identity not in now:
                self._note(card_id, identity, is_resolved=True)
        for identity in now:
            if identity not in before:
                self._note(card_id, identity, is_resolved=False)
        named = _named(now)
        self.resolved -= named
        self.resolved |= _named(before) - named

    def _note(self, card_id: str, identity: _Identity, *, is_resolved: bool) -> None:
        if len(self._waiting) >= CHANGES_WAITING_MAX:
            self._must_look_up = True
            return
        self._waiting.append(ConflictChange(card_id, *identity, is_resolved))

    def _forget(self) -> None:
        """Rule 3."""
        self._hears_all = False
        self._must_look_up |= bool(self._found)
        self._heard.clear()
        self._found.clear()


def _timed(fact: ScanJudged) -> TimedScan:
    details = fact.details or _PLAIN
    return TimedScan(
        fact.card_id,
        fact.member_id,
        fact.member_name,
        details.session_id,
        fact.request_id,
        fact.direction,
        fact.scanned_at_ms if details.is_offline else fact.at_ms,
        fact.gate_id,
        fact.device_id,
        details.zone_id,
        details.is_offline,
        details.conflict,
    )


def _identity(conflict: Conflict) -> _Identity:
    other = conflict.other
    return conflict.scan.scan_id, other.scan_id if other is not None else "", conflict.reason


def _named(identities: dict[_Identity, None]) -> set[str]:
    return {scan_id for scan_id, other_id, _ in identities for scan_id in (scan_id, other_id) if scan_id}
