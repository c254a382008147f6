"""The frames that the server sends, as types: what `/docs/sockets` and its JSON Schema are made of.

The server encodes maps (and `VerdictFrame`) for speed; that they are these, the tests of the sockets hold against every
frame that they receive (`tests/support/socket_edge.py`). What one of these types does not name is sent to nobody.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.render import VerdictFrame

TimeMs = Annotated[int, Meta(description="milliseconds since 1970, UTC")]
OffsetMs = Annotated[int, Meta(description="milliseconds that your clock is ahead of the server's")]
PauseMs = Annotated[int, Meta(description="milliseconds to wait first")]
People = Annotated[int, Meta(description="people")]
Points = Annotated[int, Meta(description="points")]
Reason = Annotated[str, Meta(description="a code of ScanReason")]
Cursor = Annotated[str, Meta(description="send it back as it is, in `resume`")]
Seq = Annotated[int, Meta(description="grows with each change")]


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Frame(_Told, frozen=True, tag_field="t", forbid_unknown_fields=True):
    pass


class GateTold(_Told, frozen=True):
    """A door of the event."""

    id: str
    name: str
    is_open: bool
    zone_id: Annotated[str, Meta(description="the zone that it leads into")] | None


class ZoneTold(_Told, frozen=True):
    """A part of the house."""

    id: str
    name: str
    capacity: People | None
    inside: People


class SessionTold(_Told, frozen=True):
    """A day or part of the event, with attendance of its own."""

    id: str
    name: str
    doors_open: TimeMs
    doors_close: TimeMs


class AdmissionTold(_Told, frozen=True):
    """Who may come in."""

    tiers: Annotated[list[str], Meta(description="none: all")]
    list_only: bool
    condition: Annotated[str, Meta(description="CEL, see /docs/rules")] | None


class QuestionTold(_Told, frozen=True):
    """What is asked at the door."""

    id: str
    text: str
    choices: Annotated[list[str], Meta(description="none: any answer")]
    required: bool


class EventTold(_Told, frozen=True):
    """The event that a scanner is at."""

    id: str
    name: str
    state: str
    time_zone: str
    doors_open: TimeMs | None
    doors_close: TimeMs | None
    reentry: Literal["none", "after_exit", "multiple"]
    capacity: People
    inside: People
    admitted: Annotated[int, Meta(description="entries")]
    refused: Annotated[int, Meta(description="scans")]
    gates: list[GateTold]
    zones: list[ZoneTold]
    sessions: list[SessionTold]
    admission: AdmissionTold
    questions: list[QuestionTold]


class ScanWelcome(_Frame, frozen=True, tag="welcome"):
    """Answers the hello. Scans may be sent from now on."""

    session: str
    now: TimeMs
    clock_offset_ms: OffsetMs | None
    max_frame_bytes: Annotated[int, Meta(description="bytes that a frame of yours may have")]
    event: EventTold
    max_in_flight: Annotated[int, Meta(description="scans that may wait for a verdict")]
    cursor: Cursor


class LiveWelcome(_Frame, frozen=True, tag="welcome"):
    """Answers a hello. Where the token came in a header, none is needed, and topics may be asked for at once."""

    session: str
    now: TimeMs
    clock_offset_ms: OffsetMs | None
    max_frame_bytes: Annotated[int, Meta(description="bytes that a frame of yours may have")]
    max_subscriptions: Annotated[int, Meta(description="topics at a time")]


class ErrorFrame(_Frame, frozen=True, tag="error"):
    """Something could not be done; what the frame names had no effect. Before a close, it says why."""

    code: Annotated[str, Meta(description="a code of SocketCode, or of ProblemCode where the engine answered")]
    message: Annotated[str, Meta(description="for people")]
    id: Annotated[str, Meta(description="of the scan or annulment")] | UnsetType = UNSET
    topic: Annotated[str, Meta(description="of the subscription")] | UnsetType = UNSET
    retry_after_ms: PauseMs | UnsetType = UNSET


class Verdicts(_Frame, frozen=True, tag="verdicts"):
    """Answers a frame of scans, each by itself and in any order. What takes long follows in a frame of its own."""

    items: list[VerdictFrame | ErrorFrame]


class Annulled(_Frame, frozen=True, tag="annulled"):
    """The admission was taken back."""

    id: Annotated[str, Meta(description="of your frame")]
    scan_id: str
    card_id: str
    at: TimeMs
    inside: People
    admitted: Annotated[int, Meta(description="entries")]
    replayed: Annotated[bool, Meta(description="it had been annulled under this id before")]


class Attendance(_Frame, frozen=True, tag="attendance"):
    """The event's counts, when they have changed."""

    event_id: str
    inside: People
    admitted: Annotated[int, Meta(description="entries")]
    capacity: People
    seq: Seq


class Revoked(_Frame, frozen=True, tag="revoked"):
    """Which cards may not come in (`cards`), and which may again (`restored`): first the list, then each change."""

    cards: list[str]
    restored: list[str]
    cursor: Cursor
    serials: Annotated[dict[str, int], Meta(description="of these cards refuse credentials of a lower serial")] | (
        UnsetType
    ) = UNSET
    reset: Annotated[bool, Meta(description="forget all that you had")] | UnsetType = UNSET
    more: Annotated[bool, Meta(description="the list goes on in the next frame")] | UnsetType = UNSET


class PingTold(_Frame, frozen=True, tag="ping"):
    """Asks for your time: answer with a pong of the same `n`."""

    n: int


class PongTold(_Frame, frozen=True, tag="pong"):
    """Answers your ping."""

    n: int
    now: TimeMs
    clock_offset_ms: OffsetMs | UnsetType = UNSET


class Reconnect(_Frame, frozen=True, tag="reconnect"):
    """This gateway is going away; it serves you until you have come back to another one."""

    after_ms: PauseMs


class NameTold(_Told, frozen=True):
    """A member on a board."""

    name: str


class MemberTold(_Told, frozen=True):
    """A member."""

    id: str
    name: str


class FirstTold(_Told, frozen=True):
    """The admission that a scan repeats."""

    at: TimeMs
    gate_id: str | None
    gate_name: str | None
    device_id: str | None


class ScanTold(_Told, frozen=True):
    """A scan on an event's line. What is not known of an unknown card is null."""

    scan_id: str
    at: TimeMs
    verdict: Literal["admitted", "refused"]
    reason: Reason | None
    direction: Literal["entry", "exit"]
    card_id: str | None
    member: NameTold | None
    tier: str | None
    gate_id: str | None
    gate_name: str | None
    device_id: str | None
    points: Points
    conflict: (
        Annotated[str, Meta(description="why a scanner without a network should not have let them in (ScanReason)")]
        | None
    )
    conflict_resolved: Annotated[bool, Meta(description="it was in a conflict of the event's list, and is in none now")]
    forced: Annotated[str, Meta(description="the ScanReason that a supervisor overrode")] | None
    scanned_at: Annotated[int, Meta(description="milliseconds since 1970, UTC, by a scanner without a network")] | None
    first: FirstTold | None


class ConflictChangeTold(_Told, frozen=True):
    """A conflict came into the event's list, or left it (`resolved`). `scan_id`, `other_scan_id` and `reason` together
    say which, as in GET /v1/events/{id}/conflicts."""

    card_id: str
    scan_id: str
    other_scan_id: str | None
    reason: Reason
    resolved: bool


class EventData(_Told, frozen=True):
    """Of topic event:ID. A snapshot has the last scans; an update those since the update before, and of conflicts
    every one."""

    event_id: str
    name: str
    inside: People
    admitted: Annotated[int, Meta(description="entries")]
    refused: Annotated[int, Meta(description="scans")]
    capacity: People
    seq: Seq
    scans: list[ScanTold]
    conflicts_left_out: Annotated[int, Meta(description="scans with a conflict that were too many to be told")]
    conflict_changes: Annotated[list[ConflictChangeTold], Meta(description="in their order; none in a snapshot")]
    look_up_conflicts: Annotated[bool, Meta(description="the list may have changed beyond that: ask for it")]


class RowTold(_Told, frozen=True):
    """A place on a leaderboard."""

    rank: int
    card_id: str
    member: NameTold
    score: Annotated[int, Meta(description="points, visits or days, as the board counts")]


class BoardData(_Told, frozen=True):
    """Of topic leaderboard:BOARD[:WINDOW]: the top rows, always all of them."""

    board: str
    window: str
    size: Annotated[int, Meta(description="cards on the board")]
    items: list[RowTold]


class CardData(_Told, frozen=True):
    """Of topic card:ID: the whole, always."""

    card_id: str
    member: MemberTold
    tier: str
    state: str
    balance: Points
    earned: Points
    entries: Annotated[int, Meta(description="entries of its ledger")]
    seq: Seq


Data = TypeVar("Data")


class Snapshot(_Frame, Generic[Data], frozen=True, tag="snapshot"):
    """The whole of a topic: forget what you had of it."""

    topic: str
    epoch: Annotated[int, Meta(description="offsets of one epoch follow each other")]
    offset: int
    data: Data
    recovered: Annotated[bool, Meta(description="false: you asked for what you missed, and it is gone")] | UnsetType = (
        UNSET
    )


class Update(_Frame, Generic[Data], frozen=True, tag="update"):
    """What is new of a topic. Offsets grow by one; where one is missing, subscribe again with `since`."""

    topic: str
    offset: int
    data: Data


SCAN_TOLD: Final[tuple[Any, ...]] = (
    *(ScanWelcome, VerdictFrame, Verdicts, Annulled, Attendance, Revoked),
    *(PingTold, PongTold, Reconnect, ErrorFrame),
)
LIVE_TOLD: Final[tuple[Any, ...]] = (
    *(LiveWelcome, Snapshot[EventData], Snapshot[BoardData], Snapshot[CardData]),
    *(Update[EventData], Update[BoardData], Update[CardData]),
    *(PingTold, PongTold, Reconnect, ErrorFrame),
)
