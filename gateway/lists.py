"""Lists for clients, on the queries of `storage.logs`: cursors and typed rows.

Rules:
1. Read-your-writes: before a list is read, `gateway.freshness` waits until Postgres holds all that was confirmed when
   the request came in. Where it does not in time, the list says `"stale": true`.
2. A cursor names its list and filters besides the place; for another list or other filters it is refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

import msgspec

from gateway import limits
from gateway.devices import DeviceRow
from gateway.problems import FieldError, Problem
from storage import logs
from storage.postgres import Pool
from storage.scan_log import ScanFilter, scans_of_event
from storage.statements import LedgerFilter, ledger_of_card

Row = TypeVar("Row")


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
    number: int


class EventRow(msgspec.Struct, frozen=True):
    """An event as projected."""

    event_id: str
    name: str
    state: str
    capacity: int
    doors_open_ms: int
    doors_close_ms: int
    inside: int
    admitted: int
    refused: int


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
    account: str
    held: int
    due_ms: int


class ScanRow(msgspec.Struct, frozen=True):
    """A judged scan."""

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
    zone_id: str
    session_id: str
    is_offline: bool
    conflict: str
    forced: str
    forced_by: str
    annulled_at_ms: int


async def list_cards(
    pool: Pool, tenant_id: str, member_id: str | None, limit: int, cursor: str | None, *, number: int | None = None
) -> Page[CardRow]:
    """All cards, a member's, or the one with a number, by id (that is, oldest first)."""
    return await _list(
        CardRow,
        ("cards", tenant_id, member_id, *(() if number is None else (str(number),))),
        cursor,
        lambda after: logs.cards(pool, tenant_id, limit, after, member_id=member_id, number=number),
    )


async def list_events(pool: Pool, tenant_id: str, limit: int, cursor: str | None) -> Page[EventRow]:
    """All events, by id (that is, oldest first)."""
    return await _list(
        EventRow, ("events", tenant_id), cursor, lambda after: logs.events(pool, tenant_id, limit, after)
    )


async def list_devices(
    pool: Pool, tenant_id: str, event_id: str | None, is_revoked: bool | None, limit: int, cursor: str | None
) -> Page[DeviceRow]:
    """Scanner devices, by id; of one event, in force or revoked where asked for."""
    return await _list(
        DeviceRow,
        ("devices", tenant_id, event_id, is_revoked),
        cursor,
        lambda after: logs.devices(pool, tenant_id, limit, after, event_id=event_id, is_revoked=is_revoked),
    )


async def list_ledger(
    pool: Pool, tenant_id: str, card_id: str, which: LedgerFilter, limit: int, cursor: str | None
) -> Page[LedgerRow]:
    """A card's ledger, newest first."""
    return await _list(
        LedgerRow,
        ("ledger", tenant_id, card_id, *msgspec.structs.astuple(which)),
        cursor,
        lambda after: ledger_of_card(pool, tenant_id, card_id, which, limit, after),
    )


async def list_scans(
    pool: Pool, tenant_id: str, event_id: str, which: ScanFilter, limit: int, cursor: str | None
) -> Page[ScanRow]:
    """An event's scans, newest first. A page may be short, even empty, although others follow: see
    `storage.scan_log`, rule 1."""
    looked_at_max = limits.SCANS_LOOKED_AT_MAX
    return await _list(
        ScanRow,
        ("scans", tenant_id, event_id, *msgspec.structs.astuple(which)),
        cursor,
        lambda after: scans_of_event(pool, tenant_id, event_id, which, limit, after, looked_at_max=looked_at_max),
    )


async def all_scans(
    pool: Pool, tenant_id: str, event_id: str, which: ScanFilter, cursor: str | None
) -> AsyncGenerator[Sequence[ScanRow]]:
    """An event's scans from a cursor on to the last, in pages that are not empty. No connection is held between
    them."""
    while True:
        page = await list_scans(pool, tenant_id, event_id, which, limits.EXPORT_PAGE_ROWS, cursor)
        if page.rows:
            yield page.rows
        cursor = page.next_cursor
        if cursor is None:
            return


async def page_of(
    scope: tuple[object, ...],
    cursor: str | None,
    limit: int,
    read: Callable[[str, int], Awaitable[list[Row]]],
    key: Callable[[Row], str],
) -> Page[Row]:
    """One page of what is read otherwise; rule 2. `read` gets the key of the last row that was given out ("" at first)
    and how many rows to bring, and brings them in the order of their keys. It raises `storage.logs.BadCursor` for what
    cannot be a key."""
    mark = _mark(scope)
    try:
        # One row more than asked for tells whether there is a next page.
        rows = await read("" if cursor is None else _place(cursor, mark), limit + 1)
    except logs.BadCursor:
        raise _not_ours() from None
    next_cursor = _cursor(mark, key(rows[limit - 1])) if len(rows) > limit else None
    return Page(rows[:limit], next_cursor)


async def _list(
    kind: type[Row],
    scope: tuple[object, ...],
    cursor: str | None,
    read: Callable[[str | None], Awaitable[logs.Page]],
) -> Page[Row]:
    """One page; rule 2."""
    mark = _mark(scope)
    try:
        page = await read(None if cursor is None else _place(cursor, mark))
    except logs.BadCursor:
        raise _not_ours() from None
    next_cursor = None if page.next_cursor is None else _cursor(mark, page.next_cursor)
    return Page([msgspec.convert(item, kind) for item in page.items], next_cursor)


def _mark(scope: tuple[object, ...]) -> bytes:
    return blake2b(msgspec.msgpack.encode(scope), digest_size=8).digest()


def _cursor(mark: bytes, place: str) -> str:
    token = msgspec.msgpack.encode((mark, place))
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def _place(cursor: str, mark: bytes) -> str:
    """The place that a cursor stands for. Raises `Problem` for a cursor that is not this list's."""
    try:
        token = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        found_mark, place = msgspec.msgpack.decode(token, type=tuple[bytes, str])
    except (msgspec.DecodeError, binascii.Error, UnicodeError):
        raise _not_ours() from None
    if found_mark != mark or not place.isprintable():  # Postgres would stumble over a NUL
        raise _not_ours()
    return place


def _not_ours() -> Problem:
    detail = "The cursor was not made for this list with these filters."
    return Problem("cursor_invalid", detail, [FieldError(detail, parameter="cursor")])
