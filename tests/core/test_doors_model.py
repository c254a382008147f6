"""The doors against a model so simple that it is plainly right: people are names in rooms.

The model knows no attendance, no counts and no facts. A person is in a room (which may be "" for none in particular) or
outside; how many are in a room is found by looking. Whom the model would let in must be let in, whom it would not must
be told the model's reason, and the event's counts must be what one finds by counting.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.door_commands import SendOut
from actors.doors import decide_send_out
from actors.facts import CommandRefused, ScanJudged
from actors.terms import Reentry
from tests.core.build import NOW_MS, scope, signed, tenant
from tests.core.test_doors import GATES, ZONES, Doors, annulled

PEOPLE = st.sampled_from(["ann", "bob", "cy", "dee"])
ROOM_OF = {"main": "", "to_floor": "floor", "to_balcony": "balcony"}
ROOMS = {zone.zone_id: zone.capacity for zone in ZONES}
CAPACITY = 2


class Venue(RuleBasedStateMachine):
    """An event for two people with a floor for one, and where everybody should be."""

    def __init__(self) -> None:
        super().__init__()
        self.rooms: dict[str, str] = {}
        self.entries: dict[str, int] = {}
        self.refused = 0
        self.now = NOW_MS
        # Each person's latest scan, if it let them in, and where they were before it (None: outside).
        self.latest: dict[str, tuple[ScanJudged, str | None, bool]] = {}

    @initialize(reentry=st.sampled_from(["none", "after_exit", "multiple"]), strict=st.booleans())
    def opens(self, reentry: Reentry, strict: bool) -> None:
        self.reentry, self.strict = reentry, strict
        terms = {"zones": ZONES, "gates": GATES, "capacity": CAPACITY}
        self.doors = Doors(reentry=reentry, strict_exit=strict, **terms)

    # --- the model ------------------------------------------------------------------------------------------------

    def is_move(self, who: str, room: str) -> bool:
        return bool(room) and self.rooms.get(who, room) != room

    def is_full(self, who: str, room: str) -> bool:
        if who not in self.rooms and len(self.rooms) >= CAPACITY:
            return True
        limit = ROOMS.get(room, 0)
        return bool(limit) and self.rooms.get(who) != room and list(self.rooms.values()).count(room) >= limit

    def is_here_already(self, who: str) -> bool:
        if self.reentry == "none":
            return self.entries.get(who, 0) > 0
        return self.reentry == "after_exit" and who in self.rooms

    def scan(self, who: str, **more: str) -> ScanJudged:
        self.now += 1
        fact = self.doors.scan(who, self.now, **more)
        self.refused += bool(fact.reason)
        return fact

    # --- what can happen ------------------------------------------------------------------------------------------

    @rule(who=PEOPLE, gate=st.sampled_from(sorted(ROOM_OF)), forced_by=st.sampled_from(["", "", "boss"]))
    def comes_in(self, who: str, gate: str, forced_by: str) -> None:
        room = ROOM_OF[gate]
        moves, before = self.is_move(who, room), self.rooms.get(who)
        expected = "already_admitted" if not moves and self.is_here_already(who) else ""
        if not expected or forced_by:
            expected = "full" if self.is_full(who, room) else ""
        fact = self.scan(who, gate_id=gate, forced_by=forced_by)
        assert fact.reason == expected
        if not expected:
            self.rooms[who] = room
            self.entries[who] = self.entries.get(who, 0) + (not moves)
            self.latest[who] = (fact, before, moves)

    @rule(who=PEOPLE)
    def goes_out(self, who: str) -> None:
        fact = self.scan(who, direction="exit")
        assert fact.reason == ("not_inside" if self.strict and who not in self.rooms else "")
        self.rooms.pop(who, None)
        if not fact.reason:
            self.latest.pop(who, None)

    @rule()
    def everybody_leaves(self) -> None:
        self.now += 1
        self.doors.take(
            decide_send_out(
                scope(tenant(), self.doors.event), signed(SendOut("org", f"out{self.now}", b"", "event")), self.now
            )
        )
        self.rooms.clear()
        self.latest.clear()

    @precondition(lambda self: self.latest)
    @rule(data=st.data())
    def the_turnstile_did_not_turn(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(self.latest)))
        scan, before, moves = self.latest.pop(who)
        self.now += 1
        facts = annulled(self.doors, scan, at_ms=self.now, device_id="dev")
        self.doors.take(facts)
        assert not isinstance(facts[0], CommandRefused)
        self.entries[who] -= not moves
        if before is None:
            del self.rooms[who]
        else:
            self.rooms[who] = before
        (again,) = annulled(self.doors, scan, at_ms=self.now, device_id="dev")
        assert isinstance(again, CommandRefused)
        assert again.reason == "scan_superseded"

    # --- what always holds ----------------------------------------------------------------------------------------

    @invariant()
    def the_counts_are_those_of_the_people(self) -> None:
        if not hasattr(self, "doors"):
            return
        event = self.doors.event
        assert event.inside == len(self.rooms) <= CAPACITY
        assert event.admitted == sum(self.entries.values())
        assert event.refused == self.refused
        for room in ROOMS:
            # It may be more than fit in: somebody whose turnstile did not turn never left, though others came.
            assert event.zones.get(room, 0) == list(self.rooms.values()).count(room)
        inside = {who: seen.zone_id for who, seen in event.attendance.items() if seen.is_inside}
        assert inside == self.rooms


TestVenue = Venue.TestCase
TestVenue.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
