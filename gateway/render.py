"""Outcomes as clients see them (contract.md): verdicts for REST and for sockets, ledger entries, times.

Rules:
1. REST has RFC 3339 times with milliseconds, sockets integer milliseconds; otherwise the two are the same maps.
2. What is not known is null: `card_id`, `member` and `tier` of an unknown card, `attendance` and `points` of a scan
   that never reached the engine (its credential failed at the edge).
"""

from __future__ import annotations

from functools import lru_cache
from time import gmtime, strftime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from actors.facts import PointsPosted, ScanDetails, ScanJudged
from actors.refusals import CREDENTIAL_INVALID
from actors.replies import Done


class Member(msgspec.Struct, frozen=True, gc=False):
    id: str
    name: str


class AttendanceCounts(msgspec.Struct, frozen=True, gc=False):
    inside: int
    admitted: int
    capacity: int


class PointsAwarded(msgspec.Struct, frozen=True, gc=False):
    awarded: int
    balance: int


class First(msgspec.Struct, frozen=True, gc=False):
    """The admission that an `already_admitted` scan repeats."""

    at: str
    gate_id: str | None
    device_id: str | None


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The answer to `POST /v1/checkins`. From `offline` on, what there is to tell of a scan that is not ordinary:
    `conflict` is why an offline scanner should not have let the person in, `forced` the reason that a supervisor
    overrode, `message` the admission rule's, `attention` what the staff should know, `questions` the ids of those that
    the person has not answered."""

    scan_id: str
    verdict: str
    reason: str | None
    replayed: bool
    event_id: str
    card_id: str | None
    member: Member | None
    tier: str | None
    at: str
    attendance: AttendanceCounts | None
    points: PointsAwarded | None
    first: First | None
    offline: bool | UnsetType = UNSET
    conflict: str | UnsetType = UNSET
    forced: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    attention: str | UnsetType = UNSET
    questions: tuple[str, ...] | UnsetType = UNSET
    zone_id: str | UnsetType = UNSET
    left_zone_id: str | UnsetType = UNSET
    session_id: str | UnsetType = UNSET


class FirstInFrame(msgspec.Struct, frozen=True, gc=False):
    """The admission that an `already_admitted` scan repeats."""

    at: Annotated[int, Meta(description="milliseconds since 1970, UTC")]
    gate_id: str | None
    device_id: str | None


class VerdictFrame(msgspec.Struct, frozen=True, gc=False, tag_field="t", tag="verdict"):
    """The verdict on a scan, sent once it is durable: that of `POST /v1/checkins`, with the client's `id`."""

    id: str
    scan_id: str
    verdict: Literal["admitted", "refused"]
    reason: Annotated[str, Meta(description="a code of ScanReason")] | None
    replayed: bool
    event_id: str
    card_id: str | None
    member: Member | None
    tier: str | None
    at: Annotated[int, Meta(description="milliseconds since 1970, UTC")]
    attendance: AttendanceCounts | None
    points: PointsAwarded | None
    first: FirstInFrame | None
    offline: bool | UnsetType = UNSET
    conflict: str | UnsetType = UNSET
    forced: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    attention: str | UnsetType = UNSET
    questions: tuple[str, ...] | UnsetType = UNSET
    zone_id: str | UnsetType = UNSET
    left_zone_id: str | UnsetType = UNSET
    session_id: str | UnsetType = UNSET


class LedgerEntryView(msgspec.Struct, frozen=True, gc=False):
    """A ledger entry; `amount` is signed. `reverses` is the entry undone, `short_by` what of it could not be taken.
    `held` is how much more (a hold's end: less) is put aside, `due_at` when the hold lapses."""

    seq: int
    kind: str
    amount: int
    balance_after: int
    at: str
    cause: str
    request_id: str | None
    note: str
    rule: str | None
    event_id: str | None
    reverses: int | None
    short_by: int
    account: str
    held: int
    due_at: str | None


class PointsAnswer(msgspec.Struct, frozen=True, gc=False):
    """The answer to `POST /v1/cards/{id}/points/…` and `/wallet/…`; `balance` is that of the entry's account."""

    request_id: str
    replayed: bool
    card_id: str
    balance: int
    entry: LedgerEntryView


_encode = msgspec.json.Encoder().encode


@lru_cache(4096)
def _second(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))


def rfc3339(at_ms: int) -> str:
    """A time as `2026-11-22T10:00:00.123Z`."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


def rfc3339_or_none(at_ms: int) -> str | None:
    """The same; None for 0, "not set"."""
    return rfc3339(at_ms) if at_ms else None


def card_state(state: str, valid_until_ms: int, now_ms: int) -> str:
    """A card's state as it is shown: one that is active and whose validity is over is "expired". Nothing of that is
    stored; a renewal ends it."""
    return "expired" if state == "active" and 0 < valid_until_ms <= now_ms else state


def verdict(fact: ScanJudged, replayed: bool) -> Verdict:
    """The verdict for REST."""
    is_known = fact.member_id != ""
    return Verdict(
        fact.request_id,
        "refused" if fact.reason else "admitted",
        fact.reason or None,
        replayed,
        fact.event_id,
        fact.card_id or None,
        Member(fact.member_id, fact.member_name) if is_known else None,
        fact.tier or None,
        rfc3339(fact.at_ms),
        AttendanceCounts(fact.inside, fact.admitted, fact.capacity) if fact.capacity else None,
        PointsAwarded(fact.points_awarded, fact.points_balance) if is_known else None,
        First(rfc3339(fact.first_at_ms), fact.first_gate_id or None, fact.first_device_id or None)
        if fact.first_at_ms
        else None,
        *(_details(fact.details) if fact.details is not None else ()),
    )


def verdict_json(fact: ScanJudged, replayed: bool) -> bytes:
    """The verdict as the body of a REST answer."""
    return _encode(verdict(fact, replayed))


def verdict_frame(fact: ScanJudged, replayed: bool, client_id: str) -> VerdictFrame:
    """The verdict for a socket, to be encoded as JSON or MessagePack."""
    is_known = fact.member_id != ""
    return VerdictFrame(
        client_id,
        fact.request_id,
        "refused" if fact.reason else "admitted",
        fact.reason or None,
        replayed,
        fact.event_id,
        fact.card_id or None,
        Member(fact.member_id, fact.member_name) if is_known else None,
        fact.tier or None,
        fact.at_ms,
        AttendanceCounts(fact.inside, fact.admitted, fact.capacity) if fact.capacity else None,
        PointsAwarded(fact.points_awarded, fact.points_balance) if is_known else None,
        FirstInFrame(fact.first_at_ms, fact.first_gate_id or None, fact.first_device_id or None)
        if fact.first_at_ms
        else None,
        *(_details(fact.details) if fact.details is not None else ()),
    )


def _details(details: ScanDetails) -> tuple[Any, ...]:
    """The verdicts' fields from `offline` on."""
    told = (
        details.is_offline,
        details.conflict,
        details.forced,
        details.message,
        details.attention,
        details.questions,
        details.zone_id,
        details.left_zone_id,
        details.session_id,
    )
    return tuple(value or UNSET for value in told)


def points_answer(fact: PointsPosted, replayed: bool) -> PointsAnswer:
    """The outcome of what moves points or money."""
    return PointsAnswer(fact.request_id, replayed, fact.card_id, fact.balance_after, ledger_entry(fact))


def ledger_entry(fact: PointsPosted) -> LedgerEntryView:
    """A ledger entry."""
    return LedgerEntryView(
        fact.entry_seq,
        fact.kind,
        fact.amount,
        fact.balance_after,
        rfc3339(fact.at_ms),
        fact.cause,
        fact.request_id or None,
        fact.note,
        fact.rule or None,
        fact.event_id or None,
        fact.reverses or None,
        fact.short_by,
        fact.account,
        fact.held,
        rfc3339_or_none(fact.due_ms),
    )


def refused_at_edge(
    tenant_id: str, request_id: str, event_id: str, gate_id: str, device_id: str, direction: str, at_ms: int
) -> Done:
    """The verdict on a credential that is not one of this tenant's: it never reaches the engine, so nothing else is
    known."""
    return Done(
        ScanJudged(
            tenant_id=tenant_id,
            request_id=request_id,
            fingerprint=b"",
            at_ms=at_ms,
            event_id=event_id,
            card_id="",
            gate_id=gate_id,
            device_id=device_id,
            direction="exit" if direction == "exit" else "entry",
            scanned_at_ms=at_ms,
            reason=CREDENTIAL_INVALID,
            member_id="",
            member_name="",
            tier="",
            inside=0,
            admitted=0,
            refused=0,
            capacity=0,
            card_inside=False,
            card_entries=0,
            points_awarded=0,
            points_balance=0,
        )
    )
