"""Bugs at doors, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec

import actors.checkin
import actors.doors
import actors.live_conflicts
import actors.offline
from actors.door_commands import AnnulScan
from actors.event import Event
from actors.handlers import HANDLERS
from actors.live_conflicts import HeardConflicts
from actors.live_sources import FEED_SCANS_MAX, Feed
from actors.replies import EventFeed
from tests.simulation.planting import around, deciding, planted


@planted
def zone_off_by_one() -> Iterator[None]:
    def no_room(original: Any, door: Any) -> str:
        people = door.event.zones.get(door.zone_id, 0)
        bounds = {zone.zone_id: zone.capacity for zone in door.event.terms.zones}
        found = str(original(door))
        return "" if found == "full" and people == bounds.get(door.zone_id) and door.seen.is_inside else found

    original = actors.checkin._no_room
    with patch.object(actors.checkin, "_no_room", lambda door: no_room(original, door)):
        yield


@planted
def a_conflict_is_told_only_among_the_last_scans() -> Iterator[None]:
    original = Feed.update

    def update(feed: Feed, durable_seq: int) -> EventFeed:
        told = original(feed, durable_seq)
        return msgspec.structs.replace(told, scans=told.scans[-FEED_SCANS_MAX:])

    with patch.object(Feed, "update", update):
        yield


@planted
def a_conflict_stands_on_the_live_line_after_an_annulment() -> Iterator[None]:
    with patch.object(HeardConflicts, "take_annulment", lambda heard, fact: None):
        yield


@planted
def a_later_upload_takes_no_conflict_back() -> Iterator[None]:
    original = HeardConflicts._note

    def note(heard: HeardConflicts, card_id: str, identity: Any, *, is_resolved: bool) -> None:
        if not is_resolved:
            original(heard, card_id, identity, is_resolved=False)

    with patch.object(HeardConflicts, "_note", note):
        yield


@planted
def a_conflict_with_a_later_scan_is_not_told_live() -> Iterator[None]:
    original = actors.live_conflicts.place_in_time

    def place(scan: Any) -> Any:
        return original(msgspec.structs.replace(scan, seen_ms=0))

    with patch.object(actors.live_conflicts, "place_in_time", place):
        yield


@planted
def a_move_is_counted_as_an_entry() -> Iterator[None]:
    with patch.object(actors.checkin, "_is_move", lambda door: False):
        yield


@planted
def the_zone_left_stays_full() -> Iterator[None]:
    def zones_of(original: Any, door: Any, command: Any) -> Any:
        return msgspec.structs.replace(original(door, command), left_zone_id="", left_zone_inside=0)

    original = actors.checkin.zones_of
    with patch.object(actors.checkin, "zones_of", lambda *args: zones_of(original, *args)):
        yield


@planted
def some_stay_inside_when_everybody_leaves() -> Iterator[None]:
    def leaves(original: Any, self: Any, fact: Any) -> None:
        inside = [seen for seen in self.attendance.values() if seen.is_inside]
        original(self, fact)
        for seen in inside[:1]:
            seen.is_inside = True

    with around(Event, "_apply_leaving", leaves):
        yield


@planted
def an_upload_calls_people_back() -> Iterator[None]:
    def come(original: Any, event: Any, *args: Any) -> Any:
        door, before = original(event, *args)
        return msgspec.structs.replace(door, event=msgspec.structs.replace(door.event, left_ms=0)), before

    original = actors.offline.come_to_door
    with patch.object(actors.offline, "come_to_door", lambda *args: come(original, *args)):
        yield


@planted
def the_last_upload_says_where_the_card_is() -> Iterator[None]:
    def moved(original: Any, card: Any, door: Any, command: Any, at_ms: int, seen_ms: int, *rest: Any) -> Any:
        seen = msgspec.structs.replace(door.seen, seen_ms=0)
        return original(card, msgspec.structs.replace(door, seen=seen), command, at_ms, seen_ms, *rest)

    original = actors.offline._moved
    with patch.object(actors.offline, "_moved", lambda *args: moved(original, *args)):
        yield


@planted
def everything_can_be_forced() -> Iterator[None]:
    with patch.object(actors.checkin, "NEVER_FORCED", frozenset({"credential_invalid"})):
        yield


@planted
def annulled_twice() -> Iterator[None]:
    def apply(original: Any, self: Any, fact: Any) -> None:
        seen = self.attendance.get(fact.card_id)
        seen_ms = seen.seen_ms if seen is not None else 0
        original(self, fact)
        if seen is not None and not fact.session_id:
            seen.seen_ms, seen.is_inside = seen_ms, True

    with around(Event, "_apply_annulment", apply):
        yield


@planted
def annulled_points_stay() -> Iterator[None]:
    with patch.object(actors.doors, "_taken_back", lambda scope, scan, at_ms: []):
        yield


@planted
def any_device_annuls() -> Iterator[None]:
    original = HANDLERS[AnnulScan].decide
    with deciding(
        AnnulScan, lambda scope, command, at_ms: original(scope, msgspec.structs.replace(command, device_id=""), at_ms)
    ):
        yield
