"""The entity store on Postgres: reads back what the projector wrote.

Rules:
1. A load is one snapshot: position and all that is asked come from one read-only transaction, so rows and position
   agree. (Across the nodes of a Citus cluster there is no common snapshot, and rows may be newer than the position.
   States carry their own position and pass over facts that they hold already, so replay from the mark is right all the
   same. That also goes for a load of cards alone, the most frequent one, which saves beginning and ending a
   transaction: the position is read first, so the rows are as new or newer.)
2. Look-ups go by arrays of keys, the tenant first: the number of round trips does not depend on how much is asked.
3. What may be large (an event's attendance, a board) comes in pages, so that the reader's event loop is never held up;
   each round trip has its own timeout.
4. Outcomes are not stored twice: requests and ledger entries lead to their fact in the journal's archive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import asyncpg
import msgspec

from actors.codec import decode_facts
from actors.entry import Entry, Mark
from actors.event import Attendance, Event, attendance_key
from actors.facts import Fact, PointsPosted
from actors.ids import POSITION_INDEX_BITS, seq_of
from actors.ports import (
    Alarm,
    BoardScore,
    LedgerEntry,
    Loaded,
    LoadRequest,
    StoreUnavailable,
    TenantEvent,
    TenantLedgerEntry,
    TenantRequest,
)
from actors.tenant import Tenant
from actors.terms import EventTerms, TenantSettings
from actors.windows import ALL_WINDOW, EVENT_WINDOW, days_of, metric_and_window
from storage.other_actors import load_others
from storage.postgres import OUTAGES, Connection, Pool
from storage.stored_cards import load_cards
from storage.stored_rules import add_rules

PAGE_ROWS = 5_000
BIGINT_BOUND = 1 << 63

_POSITION = "SELECT epoch, seq, checksum FROM positions WHERE partition_id = $1"
_CLAIMS = "SELECT tenant_id, until_ms FROM claims WHERE partition_id = $1"
_TENANTS = "SELECT tenant_id, name, settings, cards, position, issued FROM tenants WHERE tenant_id = ANY($1::text[])"
_WALK = """
SELECT card_id FROM cards WHERE tenant_id = $1 AND card_id > $2 AND issued_at_ms <= $3 ORDER BY card_id LIMIT $4
"""
_ACCOUNTS = "SELECT tenant_id, account, balance, position FROM tenant_accounts WHERE tenant_id = ANY($1::text[])"
_EVENTS = """
SELECT t.tenant_id, t.event_id, t.terms, t.inside, t.admitted, t.refused, t.position, t.session_id, t.left_ms
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, event_id) JOIN events AS t USING (tenant_id, event_id)
"""
_ATTENDANCE = """
SELECT card_id, coalesce(is_inside, false), coalesce(entries, 0), coalesce(admitted_at_ms, 0), coalesce(gate_id, ''),
    coalesce(device_id, ''), coalesce(earned, 0), coalesce(earned_position, 0), coalesce(zone_id, ''),
    coalesce(seen_ms, 0), coalesce(answered, ''), session_id
FROM attendance WHERE tenant_id = $1 AND event_id = $2
"""
_ZONES = "SELECT zone_id, inside FROM event_zones WHERE tenant_id = $1 AND event_id = $2"
_LISTED = "SELECT card_id FROM admission_list WHERE tenant_id = $1 AND event_id = $2 AND is_listed"
_REQUESTS = """
SELECT t.tenant_id, t.request_id, t.partition_id, t.position
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, request_id) JOIN requests AS t USING (tenant_id, request_id)
"""
_LEDGER_ENTRIES = """
SELECT t.tenant_id, t.card_id, t.entry_seq, t.partition_id, t.position, coalesce((SELECT r.kind
    FROM ledger AS r
    WHERE r.tenant_id = t.tenant_id AND r.card_id = t.card_id AND r.reverses > 0 AND r.reverses = t.entry_seq), '')
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u (tenant_id, card_id, entry_seq)
JOIN ledger AS t USING (tenant_id, card_id, entry_seq)
"""
_JOURNAL_ENTRIES = """
SELECT t.partition_id, t.seq, t.epoch, t.version, t.at_ms, t.checksum, t.payload
FROM unnest($1::integer[], $2::bigint[]) AS u (partition_id, seq) JOIN journal_entries AS t USING (partition_id, seq)
"""
_ALL_BOARD = """
SELECT card_id, member_name, earned, earned_position FROM cards WHERE tenant_id = $1 AND earned > 0
ORDER BY earned DESC, earned_position
"""
_DAY_BOARD = """
SELECT t.card_id, c.member_name, t.earned, t.reached FROM day_scores AS t JOIN cards AS c USING (tenant_id, card_id)
WHERE t.tenant_id = $1 AND t.day = $2 AND t.earned > 0 ORDER BY t.earned DESC, t.reached
"""
_DAYS_BOARD = """
SELECT t.card_id, c.member_name, t.earned, t.reached, t.day
FROM day_scores AS t JOIN cards AS c USING (tenant_id, card_id)
WHERE t.tenant_id = $1 AND t.day BETWEEN $2 AND $3 AND t.earned <> 0 ORDER BY t.day, t.card_id
"""
_EVENT_BOARD = """
SELECT t.card_id, c.member_name, t.earned, t.earned_position
FROM attendance AS t JOIN cards AS c USING (tenant_id, card_id)
WHERE t.tenant_id = $1 AND t.event_id = $2 AND t.earned > 0 ORDER BY t.earned DESC, t.earned_position
"""
_VISITS_OF_ALL = """
SELECT t.card_id, c.member_name, t.ever, t.ever_reached
FROM visit_scores AS t JOIN cards AS c USING (tenant_id, card_id)
WHERE t.tenant_id = $1 AND t.ever > 0 ORDER BY t.ever DESC, t.ever_reached
"""
_STREAKS_OF_ALL = """
SELECT t.card_id, c.member_name, t.best, t.best_reached
FROM visit_scores AS t JOIN cards AS c USING (tenant_id, card_id)
WHERE t.tenant_id = $1 AND t.best > 0 ORDER BY t.best DESC, t.best_reached
"""
_VISITS = """
SELECT t.card_id, c.member_name, t.visits, t.position, t.day, t.event_id
FROM visit_days AS t JOIN cards AS c USING (tenant_id, card_id)
WHERE t.tenant_id = $1 AND t.visits > 0 AND {which} ORDER BY t.day, t.event_id, t.card_id
"""
_VISITS_OF_DAYS = _VISITS.format(which="t.day BETWEEN $2 AND $3")
_VISITS_OF_EVENT = _VISITS.format(which="t.event_id = $2")

_ALARMS = """
SELECT wake_ms, tenant_id, kind, entity_id FROM alarms
WHERE partition_id = $1 AND wake_ms > 0 AND wake_ms <= $2 ORDER BY wake_ms LIMIT $3
"""

_settings_decoder = msgspec.json.Decoder(TenantSettings)
_terms_decoder = msgspec.json.Decoder(EventTerms)

# By metric: over all time, an event, several days.
_BOARDS = {
    "points": (_ALL_BOARD, _EVENT_BOARD, _DAYS_BOARD),
    "visits": (_VISITS_OF_ALL, _VISITS_OF_EVENT, _VISITS_OF_DAYS),
    "streak": (_STREAKS_OF_ALL, _VISITS_OF_EVENT, _VISITS_OF_DAYS),
}

# Where a fact stands: partition and position.
_Place = tuple[int, int]


class PostgresStore:
    """Implements `actors.ports.EntityStore` on a pool of `storage.postgres.reader_pool`, of the primary."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def position(self, partition: int) -> Mark:
        async with self._snapshot() as connection:
            return await _position(connection, partition)

    async def claims(self, partition: int) -> dict[str, int]:
        async with self._snapshot() as connection:
            return {row[0]: row[1] for row in await connection.fetch(_CLAIMS, partition)}

    async def load(self, partition: int, request: LoadRequest) -> Loaded:
        cards = list(filter(_can_exist, request.cards))
        if cards and request == LoadRequest(cards=request.cards):
            async with self._connection() as connection:
                projected = await _position(connection, partition)
                return Loaded(projected=projected, cards=await load_cards(connection, cards))
        async with self._snapshot() as connection:
            return Loaded(
                projected=await _position(connection, partition),
                tenants=await _tenants(connection, [key for key in request.tenants if _can_exist((key,))]),
                cards=await load_cards(connection, cards),
                events=await _events(connection, list(filter(_can_exist, request.events))),
                requests=await _requests(connection, list(filter(_can_exist, request.requests))),
                ledger_entries=await _ledger_entries(connection, list(filter(_can_exist, request.ledger_entries))),
                boards={key: await _board(connection, *key) if _can_exist(key) else [] for key in request.boards},
                others=await load_others(connection, list(filter(_can_exist, request.others))),
                alarms=await _alarms(connection, partition, request),
                walks={key: await _walk(connection, *key) if _can_exist(key[:2]) else () for key in request.walks},
            )

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Connection]:
        async with (
            self._connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except OUTAGES as error:
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


def _can_exist(key: tuple[str | int, ...]) -> bool:
    """Whether Postgres could hold such a key. Ids come from clients: one that no row can have (a NUL, half a surrogate
    pair, more than 64 bits) is absent like any other, and must not fail the load of everything that is asked with
    it."""
    return all(
        -BIGINT_BOUND <= part < BIGINT_BOUND
        if isinstance(part, int)
        else "\0" not in part and not any("\ud800" <= letter <= "\udfff" for letter in part)
        for part in key
    )


async def _position(connection: Connection, partition: int) -> Mark:
    row = await connection.fetchrow(_POSITION, partition)
    return Mark(row["epoch"], row["seq"], row["checksum"]) if row else Mark()


async def _tenants(connection: Connection, keys: list[str]) -> dict[str, Tenant]:
    if not keys:
        return {}
    tenants = {
        tenant_id: Tenant(tenant_id, name, _settings_decoder.decode(settings), cards, position, issued=issued)
        for tenant_id, name, settings, cards, position, issued in await connection.fetch(_TENANTS, list(keys))
    }
    for tenant_id, account, balance, position in await connection.fetch(_ACCOUNTS, list(keys)):
        tenant = tenants[tenant_id]
        tenant.accounts[account] = balance
        tenant.accounts_position = max(tenant.accounts_position, position)
    await add_rules(connection, tenants)
    return tenants


async def _events(connection: Connection, keys: list[TenantEvent]) -> dict[TenantEvent, Event]:
    rows = await connection.fetch(_EVENTS, *_columns(keys)) if keys else ()
    events: dict[TenantEvent, Event] = {}
    for tenant_id, event_id, terms, inside, admitted, refused, position, session_id, left_ms in rows:
        attendance: dict[str, Attendance] = {}
        async for page in _pages(connection, _ATTENDANCE, tenant_id, event_id):
            for card_id, *values, answered, of_session in page:
                answers = tuple(answered.split(",")) if answered else ()
                attendance[attendance_key(card_id, of_session)] = Attendance(*[*values, answers])
        counts = (inside, admitted, refused, attendance, position)
        zones = dict(map(tuple, await connection.fetch(_ZONES, tenant_id, event_id)))
        listed = {card_id async for page in _pages(connection, _LISTED, tenant_id, event_id) for (card_id,) in page}
        events[tenant_id, event_id] = Event(
            tenant_id, event_id, _terms_decoder.decode(terms), *counts, zones, session_id, left_ms, listed
        )
    return events


async def _requests(connection: Connection, keys: list[TenantRequest]) -> dict[TenantRequest, tuple[Fact, int]]:
    if not keys:
        return {}
    places: dict[TenantRequest, _Place] = {}
    for tenant_id, request_id, partition, position in await connection.fetch(_REQUESTS, *_columns(keys)):
        places[tenant_id, request_id] = (partition, position)
    facts = await _facts(connection, places.values())
    return {key: (facts[place], place[1]) for key, place in places.items()}


async def _ledger_entries(
    connection: Connection, keys: list[TenantLedgerEntry]
) -> dict[TenantLedgerEntry, LedgerEntry]:
    if not keys:
        return {}
    found: dict[TenantLedgerEntry, tuple[_Place, str]] = {}
    rows = await connection.fetch(_LEDGER_ENTRIES, *_columns(keys))
    for tenant_id, card_id, entry_seq, partition, position, reversed_by in rows:
        found[tenant_id, card_id, entry_seq] = ((partition, position), reversed_by)
    facts = await _facts(connection, (place for place, _ in found.values()))
    entries: dict[TenantLedgerEntry, LedgerEntry] = {}
    for key, (place, reversed_by) in found.items():
        fact = facts[place]
        assert isinstance(fact, PointsPosted), "a ledger row stands for a posting"
        entries[key] = LedgerEntry(fact, reversed_by)
    return entries


async def _facts(connection: Connection, places: Iterable[_Place]) -> dict[_Place, Fact]:
    """The facts at these places, from the journal's archive."""
    wanted = set(places)
    by_entry: dict[tuple[int, int], list[Fact]] = {}
    entries = sorted({(partition, seq_of(position)) for partition, position in wanted})
    rows = await connection.fetch(_JOURNAL_ENTRIES, *_columns(entries)) if entries else ()
    for partition, seq, epoch, version, at_ms, checksum, payload in rows:
        by_entry[partition, seq] = decode_facts(Entry(epoch, seq, at_ms, checksum, payload, version))
    index_mask = (1 << POSITION_INDEX_BITS) - 1
    return {
        (partition, position): by_entry[partition, seq_of(position)][position & index_mask]
        for partition, position in wanted
    }


async def _alarms(connection: Connection, partition: int, request: LoadRequest) -> tuple[Alarm, ...]:
    if not request.alarms_until_ms:
        return ()
    rows = await connection.fetch(_ALARMS, partition, request.alarms_until_ms, request.alarms_max)
    return tuple(Alarm(*row) for row in rows)


async def _walk(connection: Connection, tenant_id: str, after: str, until_ms: int, count: int) -> tuple[str, ...]:
    return tuple(row[0] for row in await connection.fetch(_WALK, tenant_id, after, until_ms, count))


async def _board(connection: Connection, tenant_id: str, key: str) -> list[BoardScore]:
    """The scores above zero, best first, then who reached theirs first; on boards of parts each part."""
    metric, window = metric_and_window(key)
    of_all, of_event, of_days = _BOARDS[metric]
    if window == ALL_WINDOW:
        pages = _pages(connection, of_all, tenant_id)
    elif window.startswith(EVENT_WINDOW):
        pages = _pages(connection, of_event, tenant_id, window.removeprefix(EVENT_WINDOW))
    else:
        first, last = days_of(window)
        if metric == "points" and first == last:
            pages = _pages(connection, _DAY_BOARD, tenant_id, first)
        else:
            pages = _pages(connection, of_days, tenant_id, first, last)
    return [BoardScore(*row) async for page in pages for row in page]


async def _pages(connection: Connection, query: str, *parameters: object) -> AsyncIterator[list[asyncpg.Record]]:
    cursor = await connection.cursor(query, *parameters)
    while page := await cursor.fetch(PAGE_ROWS):
        yield page


def _columns(keys: Iterable[tuple[object, ...]]) -> Iterable[list[object]]:
    return map(list, zip(*keys, strict=True))
