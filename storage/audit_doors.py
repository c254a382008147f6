"""The auditor's check of what happens at doors: who is inside is counted a second time, scan by scan. Pure.

Rules as in `storage.audit_checks`. Scans that scanners without a network decided, and those that a supervisor forced,
may break what others must keep; that they say so is checked, and that they are counted all the same.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from actors.card_facts import CardTierChanged
from actors.door_facts import AdmissionListChanged, EveryoneLeft, QuestionsAnswered, ScanAnnulled
from actors.facts import CardIssued, CardStateChanged, EventChanged, EventCreated, Fact, ScanDetails, ScanJudged
from actors.refusals import ALREADY_ADMITTED, SCAN_REASONS
from actors.terms import ANNUL_MS_MAX, EventTerms
from storage.audit_checks import Findings

TenantThing = tuple[str, str]
# Tenant, event, card and session.
AttendanceKey = tuple[str, str, str, str]
_PLAIN = ScanDetails()


class Attended(msgspec.Struct, gc=False):
    """A card at an event, counted anew. `position` is that of the last fact about it."""

    is_inside: bool = False
    entries: int = 0
    zone_id: str = ""
    seen_ms: int = 0
    position: int = 0
    first: tuple[int, str, str] = (0, "", "")


class _Doors(msgspec.Struct):
    terms: EventTerms
    inside: int = 0
    admitted: int = 0
    refused: int = 0
    zones: Counter[str] = msgspec.field(default_factory=Counter)
    listed: set[str] = msgspec.field(default_factory=set)


class AttendanceCheck:
    """`attendance`: inside = ins - outs ≤ capacity at every prefix, of event and zone; counts, re-entry, lists,
    `first`, annulments are as history says."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._doors: dict[TenantThing, _Doors] = {}
        self._cards: dict[TenantThing, tuple[str, str]] = {}
        self._admissions: dict[TenantThing, tuple[ScanJudged, bool]] = {}
        self._inside: dict[TenantThing, set[AttendanceKey]] = {}
        self.attended: dict[AttendanceKey, Attended] = {}

    def take(self, fact: Fact, position: int, place: str) -> None:
        """The next fact."""
        if isinstance(fact, CardIssued):
            self._cards[fact.tenant_id, fact.card_id] = ("active", fact.tier)
        elif isinstance(fact, CardStateChanged):
            _, tier = self._cards.get((fact.tenant_id, fact.card_id), ("", ""))
            self._cards[fact.tenant_id, fact.card_id] = (fact.state, tier)
        elif isinstance(fact, CardTierChanged):
            state, _ = self._cards.get((fact.tenant_id, fact.card_id), ("", ""))
            self._cards[fact.tenant_id, fact.card_id] = (state, fact.tier)
        elif isinstance(fact, EventCreated):
            self._doors[fact.tenant_id, fact.event_id] = _Doors(fact.terms)
        elif isinstance(
            fact, ScanJudged | EventChanged | ScanAnnulled | EveryoneLeft | AdmissionListChanged | QuestionsAnswered
        ):
            doors = self._doors.get((fact.tenant_id, fact.event_id))
            if doors is None:
                self._note(f"{place} is about event {fact.event_id}, which does not exist")
            else:
                self._at_doors(fact, doors, position, place)

    def _at_doors(
        self,
        fact: ScanJudged | EventChanged | ScanAnnulled | EveryoneLeft | AdmissionListChanged | QuestionsAnswered,
        doors: _Doors,
        position: int,
        place: str,
    ) -> None:
        if isinstance(fact, ScanJudged):
            self._scan(fact, doors, position, place)
        elif isinstance(fact, EventChanged):
            doors.terms = fact.terms
            if doors.inside > fact.terms.capacity:
                self._note(f"{place}: capacity {fact.terms.capacity} below {doors.inside} inside")
        elif isinstance(fact, ScanAnnulled):
            self._annulment(fact, doors, position, place)
        elif isinstance(fact, EveryoneLeft):
            self._leaving(fact, doors, place)
        elif isinstance(fact, AdmissionListChanged):
            doors.listed = (doors.listed | set(fact.added)) - set(fact.removed)
            if fact.size != len(doors.listed):
                self._note(f"{place}: {fact.size} cards are said to be on the list, counted {len(doors.listed)}")
        else:
            key = (fact.tenant_id, fact.event_id, fact.card_id, "")
            self.attended.setdefault(key, Attended()).position = position

    def _note(self, detail: str) -> None:
        self._findings.add("attendance", detail)

    def _scan(self, fact: ScanJudged, doors: _Doors, position: int, place: str) -> None:
        details = fact.details or _PLAIN
        key = (fact.tenant_id, fact.event_id, fact.card_id, details.session_id)
        seen = self.attended.get(key) or Attended()
        if fact.reason:
            self._refusal(fact, doors, seen, place)
        elif fact.member_id:
            self.attended[key] = seen
            seen.position = position
            if fact.direction == "entry":
                self._admissions[fact.tenant_id, fact.request_id] = (fact, False)
            self._is_allowed(fact, details, doors, seen, place)
            self._presence(fact, details, doors, seen, key)
        elif not details.is_offline:
            self._note(f"{place} admits card {fact.card_id}, which is not known")
        first = (fact.first_at_ms, fact.first_gate_id, fact.first_device_id)
        if ALREADY_ADMITTED not in (fact.reason, details.conflict) and first != (0, "", ""):
            self._note(f"{place}: it repeats {first}, though it repeats nothing")
        counted = (doors.inside, doors.admitted, doors.refused, doors.terms.capacity, seen.is_inside, seen.entries)
        said = (fact.inside, fact.admitted, fact.refused, fact.capacity, fact.card_inside, fact.card_entries)
        if counted != said:
            self._note(
                f"{place}: inside, admitted, refused, capacity, card inside, entries are {said}, counted {counted}"
            )
            doors.inside, doors.admitted, doors.refused = fact.inside, fact.admitted, fact.refused
        entered, left = (details.zone_id, details.zone_inside), (details.left_zone_id, details.left_zone_inside)
        for zone_id, people in (entered, left):
            if zone_id and doors.zones[zone_id] != people:
                self._note(f"{place}: {people} are said to be in zone {zone_id}, counted {doors.zones[zone_id]}")

    def _refusal(self, fact: ScanJudged, doors: _Doors, seen: Attended, place: str) -> None:
        doors.refused += 1
        if fact.reason not in SCAN_REASONS:
            self._note(f"{place}: refused for {fact.reason!r}, which is no known reason")
        first = (fact.first_at_ms, fact.first_gate_id, fact.first_device_id)
        if fact.reason == ALREADY_ADMITTED and not (fact.details or _PLAIN).is_offline and first != seen.first:
            self._note(f"{place}: it repeats {first}, the history says {seen.first}")

    def _is_allowed(self, fact: ScanJudged, details: ScanDetails, doors: _Doors, seen: Attended, place: str) -> None:
        if details.is_offline:
            if details.conflict and details.conflict not in SCAN_REASONS:
                self._note(f"{place}: conflicts for {details.conflict!r}, which is no known reason")
            return
        terms, is_forced = doors.terms, bool(details.forced)
        state, tier = self._cards.get((fact.tenant_id, fact.card_id), ("not known", ""))
        if state != "active" and not (is_forced and state == "suspended"):
            self._note(f"{place} admits card {fact.card_id}, which is {state}")
        if fact.direction == "exit":
            if not seen.is_inside and terms.strict_exit:
                self._note(f"{place} lets {fact.card_id} out, who is not inside")
            return
        admission = terms.admission
        is_eligible = tier in (admission.tiers or (tier,)) and (not admission.list_only or fact.card_id in doors.listed)
        if not is_eligible and not is_forced:
            self._note(f"{place} admits {fact.card_id}, whom the event does not let in")
        is_again = (seen.is_inside and terms.reentry != "multiple") or (seen.entries and terms.reentry == "none")
        if is_again and not is_forced and not details.is_move:
            self._note(f"{place} admits {fact.card_id} again (re-entry: {terms.reentry})")
        if not seen.is_inside and doors.inside >= terms.capacity:
            self._note(f"{place}: {doors.inside} were inside, capacity is {terms.capacity}")
        bounds = {zone.zone_id: zone.capacity for zone in terms.zones}
        bound = bounds.get(details.zone_id, 0)
        is_in_zone = seen.is_inside and seen.zone_id == details.zone_id
        if bound and not is_in_zone and doors.zones[details.zone_id] >= bound:
            self._note(f"{place}: {doors.zones[details.zone_id]} were in zone {details.zone_id}, capacity is {bound}")

    def _presence(
        self, fact: ScanJudged, details: ScanDetails, doors: _Doors, seen: Attended, key: AttendanceKey
    ) -> None:
        is_entry = fact.direction == "entry"
        when = fact.scanned_at_ms if details.is_offline else fact.at_ms
        if is_entry and (details.is_offline or not details.is_move):
            doors.admitted += 1
            seen.entries += 1
        if is_entry and details.is_latest_entry:
            seen.first = (when, fact.gate_id, fact.device_id)
        if not details.is_latest:
            return
        self._move(key, seen, doors, is_entry, details.zone_id if is_entry else "")
        seen.seen_ms = when

    def _move(self, key: AttendanceKey, seen: Attended, doors: _Doors, is_inside: bool, zone_id: str) -> None:
        """The card is (not) inside from now on, and in this zone."""
        if seen.is_inside and seen.zone_id:
            doors.zones[seen.zone_id] -= 1
        if is_inside and zone_id:
            doors.zones[zone_id] += 1
        doors.inside += is_inside - seen.is_inside
        seen.is_inside, seen.zone_id = is_inside, zone_id
        inside = self._inside.setdefault(key[:2], set())
        if is_inside:
            inside.add(key)
        else:
            inside.discard(key)

    def _annulment(self, fact: ScanAnnulled, doors: _Doors, position: int, place: str) -> None:
        scan, is_annulled = self._admissions.get((fact.tenant_id, fact.scan_id), (None, False))
        if scan is None or is_annulled or (scan.event_id, scan.card_id) != (fact.event_id, fact.card_id):
            self._note(f"{place} annuls scan {fact.scan_id}, which is no admission that stands")
            return
        self._admissions[fact.tenant_id, fact.scan_id] = (scan, True)
        if fact.at_ms - scan.at_ms > ANNUL_MS_MAX or fact.device_id not in ("", scan.device_id):
            self._note(f"{place} annuls scan {fact.scan_id} too late, or for another device")
        details = scan.details or _PLAIN
        key = (fact.tenant_id, fact.event_id, fact.card_id, details.session_id)
        seen = self.attended[key]
        was_in = details.left_zone_id or (details.zone_id if details.was_inside else "")
        self._move(key, seen, doors, details.is_move or details.was_inside, was_in)
        if not details.is_move:
            seen.entries -= 1
            doors.admitted -= 1
        if not seen.is_inside:
            seen.first = (0, "", "")
        seen.seen_ms, seen.position = fact.at_ms, position
        counted = (doors.inside, doors.admitted, seen.entries, seen.is_inside)
        said = (fact.inside, fact.admitted, fact.card_entries, fact.card_inside)
        if counted != said:
            self._note(f"{place}: inside, admitted, entries, card inside are {said}, counted {counted}")

    def _leaving(self, fact: EveryoneLeft, doors: _Doors, place: str) -> None:
        if fact.count != doors.inside:
            self._note(f"{place}: {fact.count} are said to have left, counted {doors.inside}")
        for key in list(self._inside.get((fact.tenant_id, fact.event_id), ())):
            self._move(key, self.attended[key], doors, False, "")
        if doors.inside:
            self._note(f"{place}: everybody left, {doors.inside} are still inside")
            doors.inside = 0
