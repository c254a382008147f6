"""What writing a batch of rows takes, step by step, with all that Postgres is sent already encoded: made while Postgres
is busy with the batch before (`storage.projector`, rule 8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import astuple

from storage import row_statements as sql
from storage.postgres_texts import array, copy_rows
from storage.row_batch import CardChange, EventChange, RowBatch
from storage.rows_cards import profile_text, visits_text
from storage.state_tables import STATE_TABLES, Row

_CARD_FIELDS = CardChange.__struct_fields__
_RARE_FROM = _CARD_FIELDS.index("state")
_FLAGS_FROM = _CARD_FIELDS.index("earned_is_certain")


class Append(msgspec.Struct, frozen=True, gc=False):
    """Rows for COPY: encoded, or, where they hold bytes, as they are."""

    table: str
    columns: tuple[str, ...]
    rows: bytes | list[Row]


class Change(msgspec.Struct, frozen=True, gc=False):
    """A statement which `count` rows have to take; None: as many as there are."""

    table: str
    statement: str
    parameters: tuple[object, ...]
    count: int | None


Step = Append | Change


def steps(batch: RowBatch) -> Iterator[Step]:
    """In the order in which they are to be done."""
    if batch.journal_entries:
        yield Append("journal_entries", sql.JOURNAL_ENTRIES, batch.journal_entries)
    yield from _append("requests", sql.REQUESTS, batch.requests)
    yield from _set("claims", sql.CLAIMS, list(batch.claims.items()), batch.partition)
    yield from _append("scans", sql.SCANS, batch.scans)
    yield from _append("scans", sql.DETAILED_SCANS, batch.detailed_scans)
    yield from _append("ledger", sql.LEDGER, batch.ledger)
    yield from _tenants(batch)
    yield from _cards(batch)
    yield from _events(batch)
    if batch.left:
        events = tuple(map(list, zip(*sorted(batch.left), strict=True)))
        yield Change("attendance", sql.LEFT_ATTENDANCE, events, None)
        yield Change("event_zones", sql.LEFT_ZONES, events, None)
    yield from _set("attendance", sql.ATTENDANCE, [astuple(row) for row in batch.attendance.values()])
    yield from _set_by_flags("day_scores", sql.DAY_SCORES, map(astuple, batch.day_scores.values()), 1)
    yield from _set_by_flags("visit_scores", sql.VISIT_SCORES, map(astuple, batch.visit_scores.values()), 1)
    yield from _set("tenant_accounts", sql.DRAWN, [(*key, *drawn) for key, drawn in batch.drawn.items()])
    for table in STATE_TABLES:
        rows = batch.states.get(table.name)
        if rows:
            yield from _set(table.name, sql.upsert(table), list(rows.values()))


def _append(table: str, columns: tuple[str, ...], rows: list[Row]) -> Iterator[Step]:
    if rows:
        yield Append(table, columns, copy_rows(rows))


def _set(table: str, statement: str, rows: Sequence[Row], *more: object) -> Iterator[Step]:
    """`statement` with `rows` turned into one array per column, in the order of the key, which is that of the index."""
    if rows:
        yield Change(table, statement, (*map(array, zip(*sorted(rows), strict=True)), *more), len(rows))


def _set_by_flags(table: str, statement: str, rows: Iterable[Row], flag_count: int) -> Iterator[Step]:
    """`statement` once for each combination of the rows' last `flag_count` fields, nearly always one."""
    groups: dict[Row, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[-flag_count:], []).append(row[:-flag_count])
    for flags, group in groups.items():
        yield from _set(table, statement, group, *flags)


def _tenants(batch: RowBatch) -> Iterator[Step]:
    opened: list[Row] = []
    changed: list[Row] = []
    for row in batch.tenants.values():
        settings = None if row.settings is None else msgspec.json.encode(row.settings).decode()
        if row.opened_at_ms is None:
            changed.append((row.tenant_id, row.name, settings, row.cards, row.issued, row.position))
        else:
            counts = (row.cards, row.issued)
            opened.append((row.tenant_id, row.name, settings, row.opened_at_ms, *counts, row.position))
    yield from _set("tenants", sql.TENANTS_OPENED, opened)
    yield from _set("tenants", sql.TENANTS_CHANGED, changed)


def _cards(batch: RowBatch) -> Iterator[Step]:
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
    yield from _set("cards", sql.CARDS_ISSUED, issued)
    visited: list[Row] = []
    changed: list[Row] = []
    rare_count = _FLAGS_FROM - _RARE_FROM
    for change in batch.cards_changed.values():
        row = astuple(change)
        if row[_RARE_FROM:_FLAGS_FROM].count(None) == rare_count:
            visited.append(row[:_RARE_FROM] + row[_FLAGS_FROM:])
        else:
            changed.append(row)
    yield from _set_by_flags("cards", sql.CARDS_VISITED, visited, 2)
    yield from _set_by_flags("cards", sql.CARDS_CHANGED, changed, 2)
    yield from _set("lots", sql.LOTS, list(batch.lots.values()))


def _events(batch: RowBatch) -> Iterator[Step]:
    created = [_event(event) for event in batch.events.values() if event.created_at_ms is not None]
    changed = [_event(event) for event in batch.events.values() if event.created_at_ms is None]
    yield from _set("events", sql.EVENTS_CREATED, created)
    yield from _set("events", sql.EVENTS_CHANGED, changed)


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
