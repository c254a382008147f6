"""What is asked at an event's doors besides check-ins."""

from __future__ import annotations

import msgspec


class AnnulScan(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """The turnstile did not turn: the admission that scan `scan_id` led to is undone. A device may annul its own; who
    has no device (`device_id` "") may annul any."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    event_id: str
    scan_id: str
    device_id: str = ""


class SendOut(msgspec.Struct, frozen=True, array_like=True, tag=31):
    """Everybody who is inside is taken to have left."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    event_id: str


class ChangeAdmissionList(msgspec.Struct, frozen=True, array_like=True, tag=32):
    """Puts cards on an event's list and takes others off; those that are there, or not, already make no difference."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    event_id: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class AnswerQuestions(msgspec.Struct, frozen=True, array_like=True, tag=33):
    """A person's answers to an event's questions, as (question, answer); an answer given again replaces the first."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    event_id: str
    card_id: str
    answers: tuple[tuple[str, str], ...]


class NoteCard(msgspec.Struct, frozen=True, array_like=True, tag=34):
    """What the staff at a door are told when the card is scanned; "" for nothing."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    attention: str


DoorCommand = AnnulScan | SendOut | ChangeAdmissionList | AnswerQuestions | NoteCard
