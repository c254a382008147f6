"""Lists of what the projector has written, a page at a time: cards, events, ledgers, scans; and of members.

Rules:
1. Read-your-writes: `is_projected` waits, for 2 s at most, until Postgres holds all that this gateway had seen
   confirmed when the request came in. Where it does not, the list says `"stale": true`. (What other gateways confirmed
   meanwhile may be missing.)
2. Pages follow the primary key, so a page costs the same wherever it is. A cursor names the list and its filters; for
   another list or other filters it is refused.
3. `tenant_id` leads every condition.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Generic, TypeVar

import msgspec

from actors.terms import EventTerms
from gateway import limits
from gateway.cold import ColdStore, MemberRow
from gateway.problems import FieldError, Problem

Row = TypeVar("Row")
Key = TypeVar("Key", str, int)


class Page(msgspec.Struct, Generic[Row], frozen=True):
    """Some rows, and the cursor of the next page; None at the end."""

    rows: list[Row]
    next_cursor: str | None


class CardRow(msgspec.Struct, frozen=True):
    """A card as projected."""

    card_id: str
    member_id: str
    member_name: str
    tier: str
    state: str
    valid_from_ms: int
    valid_until_ms: int
    balance: int


class EventRow(msgspec.Struct, frozen=True):
    """An event as projected."""

    event_id: str
    terms: EventTerms


class LedgerRow(msgspec.Struct, frozen=True):
    """An entry of a card's ledger."""

    entry_seq: int
    kind: str
    amount: int
    balance_after: int
    at_ms: int
    cause: str
    request_id: str
    note: str
    rule: str
    event_id: str
    reverses: int
    short_by: int


class ScanRow(msgspec.Struct, frozen=True):
    """A judged scan."""

    position: int
    request_id: str
    at_ms: int
    scanned_at_ms: int
    card_id: str
    member_id: str
    member_name: str
    tier: str
    gate_id: str
    device_id: str
    direction: str
    reason: str
    inside: int
    points_awarded: int


class ScanFilter(msgspec.Struct, frozen=True):
    """Which scans; None: all. `is_admitted` tells admissions from refusals."""

    is_admitted: bool | None = None
    reason: str | None = None
    card_id: str | None = None
    gate_id: str | None = None
    device_id: str | None = None


async def is_projected(cold: ColdStore, confirmed: tuple[int, int] | None) -> bool:
    """Rule 1. `confirmed` is a partition and a journal seq."""
    if confirmed is None:
        return True
    partition, seq = confirmed
    for wait in range(limits.READ_YOUR_WRITES_WAIT_MAX_MS // limits.READ_YOUR_WRITES_POLL_MS + 1):
        if wait:
            await asyncio.sleep(limits.READ_YOUR_WRITES_POLL_MS / 1000)
        async with cold.connection() as connection:
            held = await connection.fetchval("SELECT seq FROM positions WHERE partition_id = $1", partition)
        if held is not None and held >= seq:
            return True
    return False


async def list_members(cold: ColdStore, tenant_id: str, limit: int, cursor: str | None) -> Page[MemberRow]:
    """All members, by id."""
    scope = ("members", tenant_id)
    async with cold.connection() as connection:
        rows = await connection.fetch(
            "SELECT member_id, name, email, phone, created_at_ms FROM members "
            "WHERE tenant_id = $1 AND member_id > $2 ORDER BY member_id LIMIT $3",
            tenant_id,
            _after(cursor, scope, ""),
            limit + 1,
        )
    return _page([MemberRow(*row) for row in rows], limit, scope, "member_id")


async def list_cards(
    cold: ColdStore, tenant_id: str, member_id: str | None, limit: int, cursor: str | None
) -> Page[CardRow]:
    """All cards, or a member's, by id (that is, oldest first)."""
    scope = ("cards", tenant_id, member_id)
    condition = "AND member_id = $4 " if member_id is not None else ""
    async with cold.connection() as connection:
        rows = await connection.fetch(
            "SELECT card_id, member_id, member_name, tier, state, valid_from_ms, valid_until_ms, balance FROM cards "
            f"WHERE tenant_id = $1 AND card_id > $2 {condition}ORDER BY card_id LIMIT $3",
            *(tenant_id, _after(cursor, scope, ""), limit + 1),
            *(() if member_id is None else (member_id,)),
        )
    return _page([CardRow(*row) for row in rows], limit, scope, "card_id")


async def list_events(cold: ColdStore, tenant_id: str, limit: int, cursor: str | None) -> Page[EventRow]:
    """All events, newest first."""
    scope = ("events", tenant_id)
    async with cold.connection() as connection:
        rows = await connection.fetch(
            "SELECT event_id, terms FROM events WHERE tenant_id = $1 AND event_id < $2 ORDER BY event_id DESC LIMIT $3",
            tenant_id,
            _after(cursor, scope, "\x7f"),
            limit + 1,
        )
    events = [EventRow(row["event_id"], msgspec.json.decode(row["terms"], type=EventTerms)) for row in rows]
    return _page(events, limit, scope, "event_id")


async def list_ledger(cold: ColdStore, tenant_id: str, card_id: str, limit: int, cursor: str | None) -> Page[LedgerRow]:
    """A card's ledger, newest first."""
    scope = ("ledger", tenant_id, card_id)
    async with cold.connection() as connection:
        rows = await connection.fetch(
            "SELECT entry_seq, kind, amount, balance_after, at_ms, cause, request_id, note, rule, event_id, reverses, "
            "short_by FROM ledger WHERE tenant_id = $1 AND card_id = $2 AND entry_seq < $3 "
            "ORDER BY entry_seq DESC LIMIT $4",
            tenant_id,
            card_id,
            _after(cursor, scope, limits.SAFE_INTEGER_MAX),
            limit + 1,
        )
    return _page([LedgerRow(*row) for row in rows], limit, scope, "entry_seq")


async def list_scans(
    cold: ColdStore, tenant_id: str, event_id: str, wanted: ScanFilter, limit: int, cursor: str | None
) -> Page[ScanRow]:
    """An event's scans, newest first."""
    scope = ("scans", tenant_id, event_id, *msgspec.structs.astuple(wanted))
    async with cold.connection() as connection:
        rows = await connection.fetch(
            "SELECT position, request_id, at_ms, scanned_at_ms, card_id, member_id, member_name, tier, gate_id, "
            "device_id, direction, reason, inside, points_awarded FROM scans "
            "WHERE tenant_id = $1 AND event_id = $2 AND position < $3 "
            "AND ($5::boolean IS NULL OR (reason = '') = $5) AND ($6::text IS NULL OR reason = $6) "
            "AND ($7::text IS NULL OR card_id = $7) AND ($8::text IS NULL OR gate_id = $8) "
            "AND ($9::text IS NULL OR device_id = $9) ORDER BY position DESC LIMIT $4",
            tenant_id,
            event_id,
            _after(cursor, scope, 2**63 - 1),
            limit + 1,
            *msgspec.structs.astuple(wanted),
        )
    return _page([ScanRow(*row) for row in rows], limit, scope, "position")


def _page(rows: list[Row], limit: int, scope: Sequence[object], key: str) -> Page[Row]:
    if len(rows) <= limit:
        return Page(rows, None)
    rows = rows[:limit]
    token = msgspec.msgpack.encode((_mark(scope), getattr(rows[-1], key)))
    return Page(rows, base64.urlsafe_b64encode(token).rstrip(b"=").decode())


def _after(cursor: str | None, scope: Sequence[object], start: Key) -> Key:
    """The key after which the page begins. Raises `Problem` for a cursor that is not this list's."""
    if cursor is None:
        return start
    kind: Any = tuple[bytes, type(start)]  # type: ignore[misc]
    try:
        mark, key = msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=kind)
    except (msgspec.DecodeError, binascii.Error, UnicodeError):
        mark, key = b"", start
    if mark != _mark(scope) or (isinstance(key, int) and not -(2**63) <= key < 2**63) or _has_nul(key):
        detail = "The cursor was not made for this list with these filters."
        raise Problem("cursor_invalid", detail, [FieldError(detail, parameter="cursor")])
    return key  # type: ignore[no-any-return]


def _has_nul(key: str | int) -> bool:
    """NUL cannot be sent to Postgres."""
    return isinstance(key, str) and "\0" in key


def _mark(scope: Sequence[object]) -> bytes:
    return blake2b(msgspec.msgpack.encode(scope), digest_size=8).digest()
