"""How a scanner judges alone. Pure: what it knows and what it has seen go in, a reason (or "") comes out.

Rules:
1. The reasons are those of the system, looked at in the system's order; the first that fails is the reason.
2. What a scanner cannot know is no reason to refuse: whether the event is full, and what became of the card at other
   gates. The system sets that right when it hears of the scan, and lists it among the event's conflicts.
3. A card that may not be let in is `card_revoked`, though it may be suspended: the list does not tell which. Whether a
   card's own dates have been changed since its credential was issued is not told either; the credential's count.
4. Of a rotating credential all counts but its code. An NFC tag's tap cannot be read without the system's keys: it is
   refused as `credential_invalid`, and whoever taps shows the code instead.
5. Nobody is kept inside: an exit of somebody who is not known to be inside is let through.
6. Times are milliseconds since 1970 by the system's clock.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from actors.calendar import local_day, moment_of, previous_day
from actors.refusals import (
    ALREADY_ADMITTED,
    CARD_REVOKED,
    CREDENTIAL_EXPIRED,
    CREDENTIAL_INVALID,
    EVENT_CANCELLED,
    EVENT_CLOSED,
    EVENT_NOT_OPEN,
    GATE_CLOSED,
    GATE_UNKNOWN,
    NOT_ELIGIBLE,
)
from actors.terms import Direction
from gateway.credentials import CredentialClaims
from loadtest.offline.known import Event, Known


class Seen(msgspec.Struct, frozen=True):
    """What this scanner itself has seen of a card in a session: how often it came in, and the last time that it was let
    in or out: when, whether that was in, and to which zone."""

    entries: int = 0
    is_inside: bool = False
    zone_id: str = ""
    at_ms: int = 0


class Presented(msgspec.Struct, frozen=True):
    """What somebody held before the scanner. `claims` are the credential's, None where it was not readable; `gate_id`
    "": the scanner stands at no gate."""

    claims: CredentialClaims | None
    direction: Direction
    gate_id: str
    at_ms: int


def session_of(event: Event, at_ms: int) -> str:
    """The id of the session at this time, "" where there is none."""
    session = event.session_at(_moment(at_ms))
    return session.id if session is not None else ""


def zone_of(event: Event, gate_id: str) -> str:
    """The id of the zone behind a gate, "" where there is none."""
    gate = event.gate(gate_id)
    return (gate.zone_id or "") if gate is not None else ""


def reason_against(known: Known, presented: Presented, seen: Seen) -> str:
    """Why the person is refused, "" if they are not."""
    return (
        _reason_of_card(known, presented.claims, presented.at_ms)
        or _reason_at_door(known.event, presented.gate_id, presented.at_ms)
        or (_reason_of_entry(known, presented, seen) if presented.direction == "entry" else "")
    )


def _reason_of_card(known: Known, claims: CredentialClaims | None, at_ms: int) -> str:
    if claims is None or claims.serial < known.serials.get(claims.card_id, 0):
        return CREDENTIAL_INVALID
    if claims.valid_from_ms > at_ms or 0 < claims.valid_until_ms <= at_ms:
        return CREDENTIAL_EXPIRED
    return CARD_REVOKED if claims.card_id in known.barred else ""


def _reason_at_door(event: Event, gate_id: str, at_ms: int) -> str:
    at = _moment(at_ms)
    if event.state == "cancelled":
        return EVENT_CANCELLED
    if event.doors_open is not None and at < event.doors_open:
        return EVENT_NOT_OPEN
    if event.state == "closed" or (event.doors_close is not None and event.doors_close <= at):
        return EVENT_CLOSED
    if event.sessions and event.session_at(at) is None:
        return EVENT_NOT_OPEN if at < event.sessions[-1].doors_open else EVENT_CLOSED
    if not gate_id:
        return ""
    gate = event.gate(gate_id)
    if gate is None:
        return GATE_UNKNOWN
    return "" if gate.open else GATE_CLOSED


def _reason_of_entry(known: Known, presented: Presented, seen: Seen) -> str:
    event, claims = known.event, presented.claims
    assert claims is not None, "the card was looked at before"
    if event.admission.tiers and claims.tier not in event.admission.tiers:
        return NOT_ELIGIBLE
    if event.admission.list_only and claims.card_id not in known.listed:
        return NOT_ELIGIBLE
    is_inside = seen.is_inside and seen.at_ms >= _all_left_ms(event, presented.at_ms)
    zone_id = zone_of(event, presented.gate_id)
    if zone_id and is_inside and seen.zone_id != zone_id:
        return ""  # from one zone to another
    if event.reentry == "none" and seen.entries:
        return ALREADY_ADMITTED
    return ALREADY_ADMITTED if is_inside and event.reentry == "after_exit" else ""


def _all_left_ms(event: Event, at_ms: int) -> int:
    """When everybody was last taken to have left."""
    if event.exit_all_at is None:
        return 0
    hour, minute = map(int, event.exit_all_at.split(":"))
    day = local_day(at_ms, event.time_zone)
    today_ms = moment_of(day, hour, minute, event.time_zone)
    return today_ms if today_ms <= at_ms else moment_of(previous_day(day), hour, minute, event.time_zone)


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1_000, UTC)
