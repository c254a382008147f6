"""Read queries for lists: cards, events, devices. Newest first where time matters. (The scan log is in
`storage.scan_log`, a card's ledger in `storage.statements`.)


Rules:
1. Pages are keyset pages: the cursor is the key of the last row that was given out, so a page costs the same however
   deep it lies, and rows that arrive meanwhile neither repeat nor hide others.
2. Every query names its tenant first; a cursor carries no tenant and so opens nothing.
3. Times are milliseconds since 1970. What comes back is what the table holds; rendering is the caller's.
4. All of this is behind the engine by the projector's lag: `is_projected` tells whether Postgres is as far as a fact.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from actors.ports import StoreUnavailable
from storage.postgres import DATA_FAULTS, OUTAGES, Connection, Pool

PAGE_ROWS_MAX = 1_000
BIGINT_MAX = (1 << 63) - 1

Item = dict[str, object]


class BadCursor(ValueError):
    """The cursor is not one that these lists give out."""


class Page(msgspec.Struct, frozen=True):
    """A page of rows; `next_cursor` fetches the one after it, None at the end."""

    items: list[Item]
    next_cursor: str | None


class CardState(msgspec.Struct, frozen=True, gc=False):
    """A card's state and the serial of its credential, and the position at which it came to them."""

    card_id: str
    state: str
    serial: int
    position: int


class CardStates(msgspec.Struct, frozen=True):
    """Some of them; `has_more` tells whether more come after the last."""

    items: list[CardState]
    has_more: bool


_CARDS = """
SELECT card_id, member_id, member_name, tier, state, valid_from_ms, valid_until_ms, issued_at_ms, balance, earned,
    entry_count, number
FROM cards WHERE tenant_id = $1 AND card_id > $2 AND ($4::text IS NULL OR member_id = $4)
    AND ($5::text IS NULL OR state = $5)
ORDER BY card_id LIMIT $3
"""
# A query of its own, so that it goes by the numbers' index. (Above 0 is said for that, too.)
_CARDS_BY_NUMBER = _CARDS.replace("\nORDER BY", " AND number = $6 AND number > 0\nORDER BY")
_EVENTS = """
SELECT event_id, name, state, capacity, doors_open_ms, doors_close_ms, created_at_ms, inside, admitted, refused
FROM events WHERE tenant_id = $1 AND event_id > $2 AND ($4::text IS NULL OR state = $4)
ORDER BY event_id LIMIT $3
"""
# (That positions are above 0 is said twice, for the index that has no others.)
_CARD_STATES = """
SELECT card_id, state, serial, state_position FROM cards
WHERE tenant_id = $1 AND state_position > $2 AND state_position > 0 AND ($2 > 0 OR state <> 'active' OR serial > 0)
ORDER BY state_position LIMIT $3
"""
DEVICE_COLUMNS = (
    "device_id",
    "event_id",
    "gate_id",
    "name",
    "created_at_ms",
    "coalesce(paired_at_ms, created_at_ms) AS paired_at_ms",
    "last_seen_ms",
    "revoked_at_ms",
)
_DEVICES = f"""
SELECT {", ".join(DEVICE_COLUMNS)}
FROM devices WHERE tenant_id = $1 AND device_id > $2 AND ($4::text IS NULL OR event_id = $4)
    AND ($5::boolean IS NULL OR (revoked_at_ms IS NOT NULL) = $5)
ORDER BY device_id LIMIT $3
"""
_POSITION = "SELECT seq FROM positions WHERE partition_id = $1"


async def cards(
    source: Pool | Connection,
    tenant_id: str,
    limit: int,
    cursor: str | None = None,
    *,
    member_id: str | None = None,
    state: str | None = None,
    number: int | None = None,
) -> Page:
    """An organisation's cards, by id; those of one member or in one state, or the one with a number. Raises
    `StoreUnavailable`."""
    key = (tenant_id, cursor or "")
    if number is not None:
        return await _page(source, _CARDS_BY_NUMBER, "card_id", limit, key, (member_id, state, number))
    return await _page(source, _CARDS, "card_id", limit, key, (member_id, state))


async def events(
    source: Pool | Connection, tenant_id: str, limit: int, cursor: str | None = None, *, state: str | None = None
) -> Page:
    """An organisation's events, by id; those in one state. Raises `StoreUnavailable`."""
    return await _page(source, _EVENTS, "event_id", limit, (tenant_id, cursor or ""), (state,))


async def devices(
    source: Pool | Connection,
    tenant_id: str,
    limit: int,
    cursor: str | None = None,
    *,
    event_id: str | None = None,
    is_revoked: bool | None = None,
) -> Page:
    """An organisation's scanner devices, by id; those bound to one event, in force or revoked where asked for. Raises
    `StoreUnavailable`."""
    return await _page(source, _DEVICES, "device_id", limit, (tenant_id, cursor or ""), (event_id, is_revoked))


async def card_states(source: Pool | Connection, tenant_id: str, since: int, limit: int) -> CardStates:
    """The cards whose state or serial changed after position `since`, each as it is now, in the order of the changes;
    with `since` 0 all that are not active or were issued again. Raises `StoreUnavailable`."""
    rows = await fetch(source, _CARD_STATES, tenant_id, since, limit + 1)
    return CardStates([CardState(*row) for row in rows[:limit]], len(rows) > limit)


async def projected_seq(source: Pool | Connection, partition: int) -> int:
    """Up to which seq Postgres holds the partition's journal. Raises `StoreUnavailable`."""
    rows = await fetch(source, _POSITION, partition)
    return rows[0]["seq"] if rows else 0


async def is_projected(source: Pool | Connection, partition: int, seq: int) -> bool:
    """Whether Postgres holds the partition's journal up to `seq`: whoever was told of a fact of it will find its rows.
    Raises `StoreUnavailable`."""
    return await projected_seq(source, partition) >= seq


async def _page(
    source: Pool | Connection,
    query: str,
    cursor_column: str,
    limit: int,
    key: tuple[object, ...],
    filters: tuple[object, ...] = (),
) -> Page:
    """The query's parameters are the key with the cursor last, the number of rows, the filters."""
    count = max(1, min(limit, PAGE_ROWS_MAX))
    # One row more than asked for tells whether there is a next page.
    rows = await fetch(source, query, *key, count + 1, *filters)
    items = [dict(row) for row in rows[:count]]
    return Page(items, str(items[-1][cursor_column]) if len(rows) > count else None)


async def fetch(source: Pool | Connection, query: str, *parameters: object) -> Sequence[asyncpg.Record]:
    """The query's rows. Raises `StoreUnavailable`."""
    try:
        return await source.fetch(query, *parameters)
    except DATA_FAULTS:
        # An id that Postgres cannot even take (a NUL, more than 64 bits) is that of nothing.
        return ()
    except OUTAGES as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


def number_before(cursor: str | None) -> int:
    """The number that a cursor of a list newest first stands for: rows before it come next. Raises `BadCursor`."""
    if cursor is None:
        return BIGINT_MAX
    if not (cursor.isascii() and cursor.isdigit() and int(cursor) <= BIGINT_MAX):
        raise BadCursor(f"not a cursor of this list: {cursor[:40]!r}")
    return int(cursor)
