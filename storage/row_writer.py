"""Writes a batch of rows in the caller's transaction, and moves the partition's position with them.

Rules:
1. The position is moved first, by compare-and-set: it locks out every other projector of the partition until the end of
   the transaction, and tells a belated one that it has nothing to do.
2. One statement per table, however many rows: COPY for what is appended, a set-based statement over arrays for states.
3. Every row has to take its change. A row that is missing, newer, or whose ledger stands elsewhere contradicts the
   journal: that is a fault of the data (`PoisonEntry`), never passed over.
4. `Connection` is all that is needed: `execute` and `copy_records_to_table`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

import msgspec
from msgspec.structs import astuple

from actors.entry import Mark
from storage.postgres import Connection
from storage.row_batch import EventChange, RowBatch
from storage.rows import PoisonEntry
from storage.rows_cards import profile_text, visits_text
from storage.state_tables import STATE_TABLES, Row, StateTable

_FIRST_POSITION = """
INSERT INTO positions (partition_id, epoch, seq, checksum) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
_NEXT_POSITION = """
UPDATE positions SET epoch = $2, seq = $3, checksum = $4 WHERE partition_id = $1 AND seq = $5 AND checksum = $6
"""

JOURNAL_ENTRIES = ("partition_id", "seq", "epoch", "version", "at_ms", "checksum", "payload")
REQUESTS = ("tenant_id", "request_id", "partition_id", "position", "at_ms")
SCANS = (
    *("tenant_id", "event_id", "position", "at_ms", "scanned_at_ms", "request_id", "card_id", "gate_id", "device_id"),
    *("direction", "reason", "member_id", "member_name", "tier", "inside", "admitted", "points_awarded"),
    *("points_balance", "first_at_ms", "first_gate_id", "first_device_id"),
)
DETAILED_SCANS = (*SCANS, "zone_id", "session_id", "is_offline", "conflict", "forced", "forced_by")
LEDGER = (
    *("tenant_id", "card_id", "entry_seq", "position", "partition_id", "at_ms", "kind", "amount", "balance_after"),
    *("cause", "note", "rule", "event_id", "reverses", "short_by", "request_id"),
    *("account", "other_after", "held", "due_ms"),
)


def _arrays(types: str) -> str:
    """SQL for a table made of the first parameters, one array a column: "text*2 bigint" is
    `unnest($1::text::text[], $2::text::text[], $3::bigint[])`. Strings come as the text of an array, see
    `text_array`."""
    names = [name for word in types.split() for name, _, times in [word.partition("*")] for _ in range(int(times or 1))]
    casts = (f"text::{name}" if name in ("text", "jsonb") else name for name in names)
    return "unnest(" + ", ".join(f"${number}::{cast}[]" for number, cast in enumerate(casts, 1)) + ")"


_TENANTS_OPENED = f"""
INSERT INTO tenants (tenant_id, name, settings, opened_at_ms, cards, issued, position)
SELECT * FROM {_arrays("text*2 jsonb bigint*4")}
"""
_TENANTS_CHANGED = f"""
UPDATE tenants AS t SET
    name = coalesce(u.name, t.name),
    settings = coalesce(u.settings, t.settings),
    cards = coalesce(u.cards, t.cards),
    issued = coalesce(u.issued, t.issued),
    position = u.position
FROM {_arrays("text*2 jsonb bigint*3")} AS u (tenant_id, name, settings, cards, issued, position)
WHERE t.tenant_id = u.tenant_id AND t.position < u.position
"""
_CARDS_ISSUED = f"""
INSERT INTO cards (tenant_id, card_id, member_id, member_name, tier, valid_from_ms, valid_until_ms, issued_at_ms, state,
    state_position, balance, wallet, entry_count, earned, earned_position, day, day_earned, day_position, position,
    attention, serial, number, tag_uid, visits, tier_due_ms, tier_is_held, profile, birthday_on, birthday_due_ms,
    birthday_year)
SELECT * FROM {
    _arrays(
        "text*5 bigint*3 text bigint*6 integer bigint*3 text bigint*2 text*2 bigint boolean text integer bigint integer"
    )
}
"""
_CHANGE_TYPES = (
    "text*2 bigint text bigint text*3 bigint boolean bigint*3 text*3 integer bigint integer bigint*8 integer bigint*2"
)
# $31, $32: the score (the day's score) changed within the batch, so its position moves even if the present row happens
# to have the same one.
_CARDS_CHANGED = f"""
UPDATE cards AS t SET
    position = u.position,
    state = coalesce(u.state, t.state),
    state_position = coalesce(u.state_position, t.state_position),
    member_name = coalesce(u.member_name, t.member_name),
    attention = coalesce(u.attention, t.attention),
    tier = coalesce(u.tier, t.tier),
    tier_due_ms = coalesce(u.tier_due_ms, t.tier_due_ms),
    tier_is_held = coalesce(u.tier_is_held, t.tier_is_held),
    valid_from_ms = coalesce(u.valid_from_ms, t.valid_from_ms),
    valid_until_ms = coalesce(u.valid_until_ms, t.valid_until_ms),
    serial = coalesce(u.serial, t.serial),
    tag_uid = coalesce(u.tag_uid, t.tag_uid),
    visits = coalesce(u.visits, t.visits),
    profile = coalesce(u.profile, t.profile),
    birthday_on = coalesce(u.birthday_on, t.birthday_on),
    birthday_due_ms = coalesce(u.birthday_due_ms, t.birthday_due_ms),
    birthday_year = coalesce(u.birthday_year, t.birthday_year),
    entry_count = coalesce(u.entry_count, t.entry_count),
    balance = coalesce(u.balance, t.balance),
    wallet = coalesce(u.wallet, t.wallet),
    earned = coalesce(u.earned, t.earned),
    earned_position = CASE WHEN $31::boolean OR u.earned <> t.earned THEN u.earned_position ELSE t.earned_position END,
    day = greatest(u.day, t.day),
    day_earned = CASE WHEN u.day >= t.day THEN u.day_earned ELSE t.day_earned END,
    day_position = CASE WHEN u.day > t.day OR (u.day = t.day AND ($32::boolean OR u.day_earned <> t.day_earned))
        THEN u.day_position ELSE t.day_position END
FROM {_arrays(_CHANGE_TYPES)}
    AS u (tenant_id, card_id, position, state, state_position, member_name, attention, tier, tier_due_ms, tier_is_held,
    valid_from_ms, valid_until_ms, serial, tag_uid, visits, profile, birthday_on, birthday_due_ms, birthday_year,
    first_entry_seq, balance_before, wallet_before, entry_count, balance, wallet, earned, earned_position, day,
    day_earned, day_position)
WHERE t.tenant_id = u.tenant_id AND t.card_id = u.card_id AND t.position < u.position AND (u.first_entry_seq IS NULL
    OR (t.entry_count = u.first_entry_seq - 1 AND t.balance = u.balance_before AND t.wallet = u.wallet_before))
"""
_LOTS = f"""
INSERT INTO lots AS t (tenant_id, card_id, lot, remaining, expires_at_ms, available_from_ms, position)
SELECT * FROM {_arrays("text*2 bigint*5")}
ON CONFLICT (tenant_id, card_id, lot) DO UPDATE SET
    remaining = excluded.remaining, expires_at_ms = excluded.expires_at_ms,
    available_from_ms = excluded.available_from_ms, position = excluded.position
WHERE t.position < excluded.position
"""
_EVENTS_CREATED = f"""
INSERT INTO events (tenant_id, event_id, position, created_at_ms, terms, name, state, capacity, doors_open_ms,
    doors_close_ms, inside, admitted, refused, session_id, left_ms)
SELECT * FROM {_arrays("text*2 bigint*2 jsonb text*2 bigint*6 text bigint")}
"""
_EVENTS_CHANGED = f"""
UPDATE events AS t SET
    position = u.position,
    terms = coalesce(u.terms, t.terms),
    name = coalesce(u.name, t.name),
    state = coalesce(u.state, t.state),
    capacity = coalesce(u.capacity, t.capacity),
    doors_open_ms = coalesce(u.doors_open_ms, t.doors_open_ms),
    doors_close_ms = coalesce(u.doors_close_ms, t.doors_close_ms),
    inside = coalesce(u.inside, t.inside),
    admitted = coalesce(u.admitted, t.admitted),
    refused = coalesce(u.refused, t.refused),
    session_id = coalesce(u.session_id, t.session_id),
    left_ms = coalesce(u.left_ms, t.left_ms)
FROM {_arrays("text*2 bigint*2 jsonb text*2 bigint*6 text bigint")}
    AS u (tenant_id, event_id, position, created_at_ms, terms, name, state, capacity, doors_open_ms, doors_close_ms,
    inside, admitted, refused, session_id, left_ms)
WHERE t.tenant_id = u.tenant_id AND t.event_id = u.event_id AND t.position < u.position
"""
_ATTENDANCE = f"""
INSERT INTO attendance AS t (tenant_id, event_id, card_id, session_id, is_inside, entries, admitted_at_ms, gate_id,
    device_id, earned, earned_position, position, zone_id, seen_ms, answered)
SELECT * FROM {_arrays("text*4 boolean bigint*2 text*2 bigint*3 text bigint text")}
ON CONFLICT (tenant_id, event_id, card_id, session_id) DO UPDATE SET
    is_inside = coalesce(excluded.is_inside, t.is_inside),
    entries = coalesce(excluded.entries, t.entries),
    admitted_at_ms = coalesce(excluded.admitted_at_ms, t.admitted_at_ms),
    gate_id = coalesce(excluded.gate_id, t.gate_id),
    device_id = coalesce(excluded.device_id, t.device_id),
    earned = coalesce(excluded.earned, t.earned),
    earned_position = coalesce(excluded.earned_position, t.earned_position),
    zone_id = coalesce(excluded.zone_id, t.zone_id),
    seen_ms = coalesce(excluded.seen_ms, t.seen_ms),
    answered = coalesce(excluded.answered, t.answered),
    position = excluded.position
WHERE t.position < excluded.position
"""
# Everybody left: all rows of the event are from before, what came after is written afterwards.
_LEFT = """
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, event_id)
WHERE t.tenant_id = u.tenant_id AND t.event_id = u.event_id
"""
_LEFT_ATTENDANCE = f"""
UPDATE attendance AS t SET is_inside = false, zone_id = '' {_LEFT} AND (t.is_inside OR t.zone_id <> '')
"""
_LEFT_ZONES = f"UPDATE event_zones AS t SET inside = 0 {_LEFT} AND t.inside > 0"
# $7: as $31 above.
_DAY_SCORES = f"""
INSERT INTO day_scores AS t (tenant_id, day, card_id, earned, reached, position)
SELECT * FROM {_arrays("text integer text bigint*3")}
ON CONFLICT (tenant_id, day, card_id) DO UPDATE SET
    earned = excluded.earned,
    reached = CASE WHEN $7::boolean OR excluded.earned <> t.earned THEN excluded.reached ELSE t.reached END,
    position = excluded.position
WHERE t.position < excluded.position
"""
# $8: as $31 above, for the best streak. Each fact with a visit changes how many there are.
_VISIT_SCORES = f"""
INSERT INTO visit_scores AS t (tenant_id, card_id, ever, ever_reached, best, best_reached, position)
SELECT * FROM {_arrays("text*2 bigint*5")}
ON CONFLICT (tenant_id, card_id) DO UPDATE SET
    ever = excluded.ever,
    ever_reached = excluded.ever_reached,
    best = excluded.best,
    best_reached = CASE WHEN $8::boolean OR excluded.best <> t.best THEN excluded.best_reached ELSE t.best_reached END,
    position = excluded.position
WHERE t.position < excluded.position
"""

_CLAIMS = """
INSERT INTO claims AS t (tenant_id, partition_id, until_ms)
SELECT u.tenant_id, $3, u.until_ms FROM unnest($1::text::text[], $2::bigint[]) AS u (tenant_id, until_ms)
ON CONFLICT (tenant_id) DO UPDATE SET until_ms = greatest(t.until_ms, excluded.until_ms)
"""
# What postings drew that do not tell the account's balance (`storage.rows_points`, rule 2).
_DRAWN = f"""
INSERT INTO tenant_accounts AS t (tenant_id, account, balance, position)
SELECT * FROM {_arrays("text*2 bigint*2")}
ON CONFLICT (tenant_id, account) DO UPDATE SET
    balance = t.balance + excluded.balance, position = excluded.position
WHERE t.position < excluded.position
"""


@cache
def _upsert(table: StateTable) -> str:
    """The statement that sets rows of a table, each to what a later fact says."""
    key = ", ".join(name for name, _ in table.key)
    sets = ", ".join(f"{name} = excluded.{name}" for name in table.columns[len(table.key) :])
    return (
        f"INSERT INTO {table.name} AS t ({', '.join(table.columns)}) SELECT * FROM {_arrays(table.types)} "
        f"ON CONFLICT ({key}) DO UPDATE SET {sets} WHERE t.position < excluded.position"
    )


class PositionLost(Exception):
    """The partition's position is not where this projector believes: another one moved it. Nothing was written."""


async def write(connection: Connection, batch: RowBatch, expected: Mark, reached: Mark) -> None:
    """Writes the rows that lead from `expected` to `reached`. Raises `PositionLost`, `PoisonEntry` or what asyncpg
    raises; the caller then rolls back."""
    await _move_position(connection, batch.partition, expected, reached)
    await _append(connection, "journal_entries", JOURNAL_ENTRIES, batch.journal_entries)
    await _append(connection, "requests", REQUESTS, batch.requests)
    await _write_set(connection, "claims", _CLAIMS, list(batch.claims.items()), batch.partition)
    await _append(connection, "scans", SCANS, batch.scans)
    await _append(connection, "scans", DETAILED_SCANS, batch.detailed_scans)
    await _append(connection, "ledger", LEDGER, batch.ledger)
    await _write_tenants(connection, batch)
    await _write_cards(connection, batch)
    await _write_events(connection, batch)
    if batch.left:
        for statement in (_LEFT_ATTENDANCE, _LEFT_ZONES):
            await connection.execute(statement, *map(list, zip(*sorted(batch.left), strict=True)))
    await _write_set(connection, "attendance", _ATTENDANCE, [astuple(row) for row in batch.attendance.values()])
    await _write_by_certainty(connection, "day_scores", _DAY_SCORES, batch.day_scores.values(), 1)
    await _write_by_certainty(connection, "visit_scores", _VISIT_SCORES, batch.visit_scores.values(), 1)
    await _write_set(connection, "tenant_accounts", _DRAWN, [(*key, *drawn) for key, drawn in batch.drawn.items()])
    for table in STATE_TABLES:
        rows = batch.states.get(table.name)
        if rows:
            await _write_set(connection, table.name, _upsert(table), list(rows.values()))


async def _move_position(connection: Connection, partition: int, expected: Mark, reached: Mark) -> None:
    place = (partition, reached.epoch, reached.seq, reached.checksum)
    if expected.seq == 0:
        status = await connection.execute(_FIRST_POSITION, *place)
    else:
        status = await connection.execute(_NEXT_POSITION, *place, expected.seq, expected.checksum)
    if _count(status) != 1:
        raise PositionLost(f"partition {partition} is not at {expected.epoch}-{expected.seq} any more")


async def _append(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
    if rows:
        await connection.copy_records_to_table(table, records=rows, columns=columns)


async def _write_set(connection: Connection, table: str, statement: str, rows: Sequence[Row], *more: object) -> None:
    """Runs `statement` with `rows` turned into one array per column, in the order of the key, which is that of the
    index."""
    if not rows:
        return
    as_text = _text_parameters(statement)
    columns = [
        text_array(column) if number in as_text else list(column)
        for number, column in enumerate(zip(*sorted(rows), strict=True), 1)
    ]
    done = _count(await connection.execute(statement, *columns, *more))
    if done != len(rows):
        raise PoisonEntry(
            f"{table}: {len(rows) - done} of {len(rows)} rows did not take their change: they are missing, newer "
            "than the journal, or their ledger stands elsewhere"
        )


@cache
def _text_parameters(statement: str) -> frozenset[int]:
    """The numbers of the parameters that the statement takes as the text of an array."""
    return frozenset(map(int, re.findall(r"\$(\d+)::text::", statement)))


def text_array(values: Sequence[str | None]) -> str:
    """An array of strings as Postgres writes it (PostgreSQL 18, 8.15.2). asyncpg spends 0.25 µs on each string of a
    list and 0.03 µs on the same in this form."""
    try:
        joined = '","'.join(values)  # type: ignore[arg-type]
    except TypeError:
        pass  # a None among them
    else:
        if "\\" not in joined and joined.count('"') == 2 * (len(values) - 1):
            return f'{{"{joined}"}}'
    quoted = (
        "NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values
    )
    return "{" + ",".join(quoted) + "}"


async def _write_by_certainty(
    connection: Connection, table: str, statement: str, changes: Iterable[msgspec.Struct], flag_count: int
) -> None:
    """Runs `statement` once for each combination of the structs' last `flag_count` fields, nearly always one."""
    groups: dict[Row, list[Row]] = {}
    for change in changes:
        values = astuple(change)
        groups.setdefault(values[-flag_count:], []).append(values[:-flag_count])
    for flags, rows in groups.items():
        await _write_set(connection, table, statement, rows, *flags)


async def _write_tenants(connection: Connection, batch: RowBatch) -> None:
    opened: list[Row] = []
    changed: list[Row] = []
    for row in batch.tenants.values():
        settings = None if row.settings is None else msgspec.json.encode(row.settings).decode()
        if row.opened_at_ms is None:
            changed.append((row.tenant_id, row.name, settings, row.cards, row.issued, row.position))
        else:
            counts = (row.cards, row.issued)
            opened.append((row.tenant_id, row.name, settings, row.opened_at_ms, *counts, row.position))
    await _write_set(connection, "tenants", _TENANTS_OPENED, opened)
    await _write_set(connection, "tenants", _TENANTS_CHANGED, changed)


async def _write_cards(connection: Connection, batch: RowBatch) -> None:
    issued: list[Row] = [
        (
            *(card.tenant_id, card.card_id, card.member_id, card.member_name, card.tier),
            *(card.valid_from_ms, card.valid_until_ms, at_ms, card.state),
            batch.issued_and_changed.get((card.tenant_id, card.card_id), 0),
            *(card.balance, card.wallet, card.entry_count, card.earned, card.earned_position),
            *(card.day, card.day_earned, card.day_position, card.position, card.attention),
            *(card.serial, card.number, card.tag_uid, visits_text(card.visits), card.tier_due_ms, card.tier_is_held),
            *(profile_text(card.profile), card.birthday_on, card.birthday_due_ms, card.birthday_year),
        )
        for card, at_ms in batch.cards_issued.values()
    ]
    await _write_set(connection, "cards", _CARDS_ISSUED, issued)
    await _write_by_certainty(connection, "cards", _CARDS_CHANGED, batch.cards_changed.values(), 2)
    await _write_set(connection, "lots", _LOTS, list(batch.lots.values()))


async def _write_events(connection: Connection, batch: RowBatch) -> None:
    created = [_event(event) for event in batch.events.values() if event.created_at_ms is not None]
    changed = [_event(event) for event in batch.events.values() if event.created_at_ms is None]
    await _write_set(connection, "events", _EVENTS_CREATED, created)
    await _write_set(connection, "events", _EVENTS_CHANGED, changed)


def _event(event: EventChange) -> Row:
    terms = event.terms
    known: Row = (None,) * 6
    if terms is not None:
        text = msgspec.json.encode(terms).decode()
        known = (text, terms.name, terms.state, terms.capacity, terms.doors_open_ms, terms.doors_close_ms)
    key = (event.tenant_id, event.event_id, event.position, event.created_at_ms)
    session_id, left_ms = event.session_id, event.left_ms
    if event.created_at_ms is not None:
        session_id, left_ms = session_id or "", left_ms or 0
    return (*key, *known, event.inside, event.admitted, event.refused, session_id, left_ms)


def _count(status: str) -> int:
    """The rows that a statement changed: the last word of its command tag."""
    return int(status.rsplit(" ", 1)[1])
