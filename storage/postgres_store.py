"""The entity store on Postgres: reads back what the projector wrote.

Rules:
1. A load is one snapshot: position and all that is asked come from one read-only transaction, so rows and position
   agree. (Across the nodes of a Citus cluster there is no common snapshot, and rows may be newer than the position.
   States carry their own position and pass over facts that they hold already, so replay from the mark is right all the
   same.)
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

from actors.card import Card, days_kept
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
    TenantCard,
    TenantEvent,
    TenantLedgerEntry,
    TenantRequest,
)
from actors.profiles import NO_PROFILE, Profile
from actors.tenant import Tenant
from actors.terms import TIER_WINDOW_DAYS_MAX, EarnedDay, EventTerms, Hold, Lot, TenantSettings
from actors.visits import NO_VISITS, Visits
from actors.windows import ALL_WINDOW, EVENT_WINDOW, days_of
from storage.other_actors import load_others
from storage.postgres import OUTAGES, Connection, Pool
from storage.stored_rules import add_rules, uses_of

PAGE_ROWS = 5_000
BIGINT_BOUND = 1 << 63

_POSITION = "SELECT epoch, seq, checksum FROM positions WHERE partition_id = $1"
_CLAIMS = "SELECT tenant_id, until_ms FROM claims WHERE partition_id = $1"
_TENANTS = "SELECT tenant_id, name, settings, cards, position, issued FROM tenants WHERE tenant_id = ANY($1::text[])"
_CARDS = """
SELECT t.tenant_id, t.card_id, t.member_id, t.member_name, t.tier, t.valid_from_ms, t.valid_until_ms, t.state,
    t.balance, t.earned, t.earned_position, t.entry_count, t.day, t.day_earned, t.day_position, t.wallet, t.attention,
    t.serial, t.number, t.tag_uid, t.visits, t.issued_at_ms, t.tier_due_ms, t.tier_is_held, t.profile,
    t.birthday_on, t.birthday_due_ms, t.birthday_year, t.position
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, card_id) JOIN cards AS t USING (tenant_id, card_id)
"""
_WALK = """
SELECT card_id FROM cards WHERE tenant_id = $1 AND card_id > $2 AND issued_at_ms <= $3 ORDER BY card_id LIMIT $4
"""
_LOTS = """
SELECT t.tenant_id, t.card_id, t.lot, t.remaining, t.expires_at_ms, t.available_from_ms
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, card_id) JOIN lots AS t USING (tenant_id, card_id)
WHERE t.remaining > 0 ORDER BY t.tenant_id, t.card_id, t.expires_at_ms, t.lot
"""
_HOLDS = """
SELECT t.tenant_id, t.card_id, t.entry_seq, t.account, t.held, t.lapses_at_ms, t.parts
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, card_id) JOIN holds AS t USING (tenant_id, card_id)
WHERE t.state = 'open' ORDER BY t.tenant_id, t.card_id, t.entry_seq
"""
# No more days than a card remembers have rows within its window, so the latest ones are enough.
_EARNED_DAYS = """
SELECT u.tenant_id, u.card_id, t.day, t.points FROM unnest($1::text[], $2::text[]) AS u (tenant_id, card_id)
CROSS JOIN LATERAL (SELECT day, points FROM earned_days AS e
    WHERE e.tenant_id = u.tenant_id AND e.card_id = u.card_id ORDER BY day DESC LIMIT $3) AS t
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

_ALARMS = """
SELECT wake_ms, tenant_id, kind, entity_id FROM alarms
WHERE partition_id = $1 AND wake_ms > 0 AND wake_ms <= $2 ORDER BY wake_ms LIMIT $3
"""

_settings_decoder = msgspec.json.Decoder(TenantSettings)
_terms_decoder = msgspec.json.Decoder(EventTerms)
_visits_decoder = msgspec.json.Decoder(Visits)
_profile_decoder = msgspec.json.Decoder(Profile)
_parts_decoder = msgspec.json.Decoder(tuple[Lot, ...])

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
        async with self._snapshot() as connection:
            return Loaded(
                projected=await _position(connection, partition),
                tenants=await _tenants(connection, [key for key in request.tenants if _can_exist((key,))]),
                cards=await _cards(connection, list(filter(_can_exist, request.cards))),
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
        try:
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
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


async def _cards(connection: Connection, keys: list[TenantCard]) -> dict[TenantCard, Card]:
    if not keys:
        return {}
    lots: dict[TenantCard, list[Lot]] = {}
    for tenant_id, card_id, *lot in await connection.fetch(_LOTS, *_columns(keys)):
        lots.setdefault((tenant_id, card_id), []).append(Lot(*lot))
    holds: dict[TenantCard, list[Hold]] = {}
    for tenant_id, card_id, *hold, parts in await connection.fetch(_HOLDS, *_columns(keys)):
        holds.setdefault((tenant_id, card_id), []).append(Hold(*[*hold, _parts_decoder.decode(parts)]))
    cards: dict[TenantCard, Card] = {}
    uses = await uses_of(connection, list(_columns(keys)))
    earned: dict[TenantCard, list[EarnedDay]] = {}
    for tenant_id, card_id, *day in await connection.fetch(_EARNED_DAYS, *_columns(keys), TIER_WINDOW_DAYS_MAX):
        earned.setdefault((tenant_id, card_id), []).append(EarnedDay(*day))
    for row in await connection.fetch(_CARDS, *_columns(keys)):
        *values, wallet, attention, serial, number, tag_uid, visits, issued_at_ms, due_ms, is_held = row[:-5]
        profile, *birthday, position = row[-5:]
        key = (values[0], values[1])
        parts = (tuple(lots.get(key, ())), wallet, tuple(holds.get(key, ())))
        came = _visits_decoder.decode(visits) if visits else NO_VISITS
        known = _profile_decoder.decode(profile) if profile else NO_PROFILE
        more = (issued_at_ms, uses.get(key, ()), due_ms, is_held, days_kept(earned.get(key, ())), known, *birthday)
        cards[key] = Card(*[*values, *parts, position, attention, serial, number, tag_uid, came, *more])
    return cards


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


async def _board(connection: Connection, tenant_id: str, window: str) -> list[BoardScore]:
    """The scores above zero, best first, then who reached theirs first; over several days those of each day that are
    not zero."""
    if window == ALL_WINDOW:
        pages = _pages(connection, _ALL_BOARD, tenant_id)
    elif window.startswith(EVENT_WINDOW):
        pages = _pages(connection, _EVENT_BOARD, tenant_id, window.removeprefix(EVENT_WINDOW))
    else:
        first, last = days_of(window)
        query = (_DAY_BOARD, first) if first == last else (_DAYS_BOARD, first, last)
        pages = _pages(connection, query[0], tenant_id, *query[1:])
    return [BoardScore(*row) async for page in pages for row in page]


async def _pages(connection: Connection, query: str, *parameters: object) -> AsyncIterator[list[asyncpg.Record]]:
    cursor = await connection.cursor(query, *parameters)
    while page := await cursor.fetch(PAGE_ROWS):
        yield page


def _columns(keys: Iterable[tuple[object, ...]]) -> Iterable[list[object]]:
    return map(list, zip(*keys, strict=True))
