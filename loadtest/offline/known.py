"""What a scanner has to know to judge alone. `kept` puts it on disk, `refresh` brings it up to date."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from gateway.published_keys import PublishedKeys


class Device(msgspec.Struct, frozen=True):
    """Who the scanner is. `gate_id` "": it stands at none."""

    device_id: str
    org_id: str
    event_id: str
    gate_id: str = ""


class Gate(msgspec.Struct, frozen=True):
    """An entrance; whoever comes in by it is in its zone, if it has one."""

    id: str
    open: bool
    zone_id: str | None = None


class Session(msgspec.Struct, frozen=True):
    """A day or a show of an event, attended for itself."""

    id: str
    doors_open: datetime
    doors_close: datetime


class Admission(msgspec.Struct, frozen=True):
    """Who is let in: cards of these tiers (none named: of any), and with `list_only` those on the list. A `condition`
    is about more than a scanner knows; its no becomes a conflict when the scan is uploaded."""

    tiers: tuple[str, ...] = ()
    list_only: bool = False
    message: str = ""


class Event(msgspec.Struct, frozen=True):
    """What counts at the doors, of the answer to `GET /v1/events/{id}`; its other fields are left out."""

    id: str
    name: str
    state: str
    time_zone: str
    reentry: Literal["none", "after_exit", "multiple"]
    doors_open: datetime | None = None
    doors_close: datetime | None = None
    gates: tuple[Gate, ...] = ()
    sessions: tuple[Session, ...] = ()
    admission: Admission = Admission()
    exit_all_at: str | None = None

    def gate(self, gate_id: str) -> Gate | None:
        """The gate with this id."""
        return next((gate for gate in self.gates if gate.id == gate_id), None)

    def session_at(self, at: datetime) -> Session | None:
        """The session whose doors are open."""
        return next((one for one in self.sessions if one.doors_open <= at < one.doors_close), None)


class CardChanges(msgspec.Struct, frozen=True):
    """News about cards, from `GET /v1/cards/revocations` or a `revoked` frame: those that may not be let in, those that
    may again, and the lowest serial that is good. `reset`: forget what was known. With it, all up to `cursor` is
    known."""

    cursor: str
    cards: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    serials: Mapping[str, int] = {}
    reset: bool = False


class Known(msgspec.Struct):
    """All of it. `clock_ahead_ms` is how far the system's clock is ahead of this machine's."""

    event: Event
    keys: PublishedKeys
    barred: set[str]
    serials: dict[str, int]
    listed: set[str]
    cursor: str
    clock_ahead_ms: int
