"""From journal entries to rows. Pure: the same entries give the same rows, and nothing else is read.

Rules:
1. Facts carry resulting values, so a row needs no earlier row. Where only a part of a row is known, the rest is None
   and the writer leaves those columns as they are.
2. A batch touches each state row once: later facts replace what earlier ones set.
3. A score's position is where it last *changed*. Within the batch that is seen here (`*_is_certain`); whether the first
   value differs from the present row only the database can tell.
4. Tuples have the order of the writer's columns (`storage.row_writer`), structs that of its parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from actors.card import Card
from actors.codec import UnknownEntryVersion, decode_facts
from actors.coupon_facts import CouponFact
from actors.entry import Entry
from actors.facts import (
    AlarmSet,
    CardHolderRenamed,
    CardIssued,
    CardStateChanged,
    CommandRefused,
    EventChanged,
    EventCreated,
    Fact,
    PointsPosted,
    ScanJudged,
    TenantChanged,
    TenantOpened,
)
from actors.ids import FACTS_PER_ENTRY_MAX, claimed_ahead_ms, position_of
from actors.terms import EventTerms, TenantSettings
from storage.rows_coupons import coupon_rows
from storage.state_tables import ALARMS, Row, StateTable


class PoisonEntry(Exception):
    """An entry that cannot be projected, whoever tries: its partition must halt before it. The message begins with
    `<epoch>-<seq>`."""


class TenantRow(msgspec.Struct, gc=False):
    """A tenant's state; `opened_at_ms` is None unless it was opened in this batch. `cards` counts towards its plan."""

    tenant_id: str
    position: int
    name: str | None = None
    settings: TenantSettings | None = None
    opened_at_ms: int | None = None
    cards: int | None = None


class CardChange(msgspec.Struct, gc=False):
    """What happened to a card that was issued before. `first_entry_seq` and `balance_before` (None without points) must
    continue the present row. The `state`, the `earned` and the `day` group each come whole or are None."""

    tenant_id: str
    card_id: str
    position: int
    state: str | None = None
    state_position: int | None = None
    member_name: str | None = None
    first_entry_seq: int | None = None
    balance_before: int | None = None
    entry_count: int | None = None
    balance: int | None = None
    earned: int | None = None
    earned_position: int | None = None
    day: int | None = None
    day_earned: int | None = None
    day_position: int | None = None
    earned_is_certain: bool = False
    day_is_certain: bool = False


class EventChange(msgspec.Struct, gc=False):
    """What happened to an event; `created_at_ms` is None unless it was created in this batch."""

    tenant_id: str
    event_id: str
    position: int
    created_at_ms: int | None = None
    terms: EventTerms | None = None
    inside: int | None = None
    admitted: int | None = None
    refused: int | None = None


class AttendanceChange(msgspec.Struct, gc=False):
    """What happened to a card at an event, in three parts: being inside, the latest entry, the points."""

    tenant_id: str
    event_id: str
    card_id: str
    is_inside: bool | None = None
    entries: int | None = None
    admitted_at_ms: int | None = None
    gate_id: str | None = None
    device_id: str | None = None
    earned: int | None = None
    earned_position: int | None = None
    position: int = 0


class DayScore(msgspec.Struct, gc=False):
    """A card's score on a day."""

    tenant_id: str
    day: int
    card_id: str
    earned: int
    reached: int
    position: int
    is_certain: bool = False


class RowBatch(msgspec.Struct):
    """Rows of a run of entries of one partition: first what is appended, then the states, by key."""

    partition: int
    fact_count: int = 0
    payload_bytes: int = 0
    journal_entries: list[Row] = msgspec.field(default_factory=list)
    requests: list[Row] = msgspec.field(default_factory=list)
    claims: dict[str, int] = msgspec.field(default_factory=dict)
    scans: list[Row] = msgspec.field(default_factory=list)
    ledger: list[Row] = msgspec.field(default_factory=list)
    tenants: dict[str, TenantRow] = msgspec.field(default_factory=dict)
    cards_issued: dict[tuple[str, str], tuple[Card, int]] = msgspec.field(default_factory=dict)
    # Where the last change of an issued card's state stands, if there was one.
    issued_and_changed: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    cards_changed: dict[tuple[str, str], CardChange] = msgspec.field(default_factory=dict)
    lots: dict[tuple[str, str, int], Row] = msgspec.field(default_factory=dict)
    events: dict[tuple[str, str], EventChange] = msgspec.field(default_factory=dict)
    attendance: dict[tuple[str, str, str], AttendanceChange] = msgspec.field(default_factory=dict)
    day_scores: dict[tuple[str, int, str], DayScore] = msgspec.field(default_factory=dict)
    # By table of `storage.state_tables` and key.
    states: dict[str, dict[Row, Row]] = msgspec.field(default_factory=dict)

    def set_state(self, table: StateTable, row: Row) -> None:
        """The row is like this from now on."""
        self.states.setdefault(table.name, {})[row[: len(table.key)]] = row


def rows_of(partition: int, entries: Iterable[Entry]) -> RowBatch:
    """The rows that `entries` (contiguous, verified) lead to. Raises `PoisonEntry`."""
    batch = RowBatch(partition)
    for entry in entries:
        add(batch, entry)
    return batch


def add(batch: RowBatch, entry: Entry) -> None:
    """Takes the next entry in. Raises `PoisonEntry`; the batch is then of no use any more."""
    partition, seq = batch.partition, entry.seq
    batch.journal_entries.append(
        (partition, seq, entry.epoch, entry.version, entry.at_ms, entry.checksum, entry.payload)
    )
    try:
        facts = decode_facts(entry)
        if len(facts) > FACTS_PER_ENTRY_MAX:
            raise ValueError(f"{len(facts)} facts, at most {FACTS_PER_ENTRY_MAX} fit an entry")
        _take_in(batch, facts, position_of(seq, 0))
    except (UnknownEntryVersion, msgspec.MsgspecError, ValueError) as error:
        raise PoisonEntry(f"{entry.epoch}-{seq}: {type(error).__name__}: {error}") from error
    batch.fact_count += len(facts)
    batch.payload_bytes += len(entry.payload)


def _take_in(batch: RowBatch, facts: Sequence[Fact], position: int) -> None:
    requests = batch.requests
    for fact in facts:
        if fact.request_id:
            requests.append((fact.tenant_id, fact.request_id, batch.partition, position, fact.at_ms))
            claimed_ms = claimed_ahead_ms(fact.request_id, fact.at_ms)
            if claimed_ms:
                batch.claims[fact.tenant_id] = max(claimed_ms, batch.claims.get(fact.tenant_id, 0))
        # By frequency: nearly all facts are of the first two kinds.
        if isinstance(fact, ScanJudged):
            _scan(batch, fact, position)
        elif isinstance(fact, PointsPosted):
            _points(batch, fact, position)
        elif isinstance(fact, CardIssued):
            batch.cards_issued[fact.tenant_id, fact.card_id] = (Card.issued(fact, position), fact.at_ms)
            _tenant_cards(batch, fact, position)
        elif isinstance(fact, CardHolderRenamed):
            _card_state(batch, fact, position)
        elif isinstance(fact, CardStateChanged):
            _card_state(batch, fact, position)
            _tenant_cards(batch, fact, position)
        elif isinstance(fact, EventCreated):
            batch.events[fact.tenant_id, fact.event_id] = EventChange(
                fact.tenant_id, fact.event_id, position, fact.at_ms, fact.terms, 0, 0, 0
            )
        elif isinstance(fact, EventChanged):
            event = _event(batch, fact.tenant_id, fact.event_id)
            event.terms = fact.terms
            event.position = position
        elif isinstance(fact, TenantOpened | TenantChanged):
            _tenant(batch, fact, position)
        elif isinstance(fact, AlarmSet):
            batch.set_state(
                ALARMS, (fact.tenant_id, fact.kind, fact.entity_id, batch.partition, fact.wake_ms, position)
            )
        elif isinstance(fact, CouponFact):
            for table, row in coupon_rows(fact, position):
                batch.set_state(table, row)
        else:
            # A refused command leaves no state: it is found by its request id.
            assert isinstance(fact, CommandRefused)
        position += 1


def _scan(batch: RowBatch, fact: ScanJudged, position: int) -> None:
    tenant_id, event_id, card_id = fact.tenant_id, fact.event_id, fact.card_id
    at_ms, reason = fact.at_ms, fact.reason
    batch.scans.append(
        (
            tenant_id,
            event_id,
            position,
            at_ms,
            fact.scanned_at_ms,
            fact.request_id,
            card_id,
            fact.gate_id,
            fact.device_id,
            fact.direction,
            reason,
            fact.member_id,
            fact.member_name,
            fact.tier,
            fact.inside,
            fact.admitted,
            fact.points_awarded,
            fact.points_balance,
            fact.first_at_ms,
            fact.first_gate_id,
            fact.first_device_id,
        )
    )
    event = _event(batch, tenant_id, event_id)
    event.position = position
    event.inside = fact.inside
    event.admitted = fact.admitted
    event.refused = fact.refused
    if reason:
        return
    attendance = _attendance(batch, tenant_id, event_id, card_id)
    attendance.position = position
    attendance.is_inside = fact.card_inside
    if fact.direction == "entry":
        attendance.entries = fact.card_entries
        attendance.admitted_at_ms = at_ms
        attendance.gate_id = fact.gate_id
        attendance.device_id = fact.device_id


def _points(batch: RowBatch, fact: PointsPosted, position: int) -> None:
    tenant_id, card_id, event_id = fact.tenant_id, fact.card_id, fact.event_id
    batch.ledger.append(
        (
            tenant_id,
            card_id,
            fact.entry_seq,
            position,
            batch.partition,
            fact.at_ms,
            fact.kind,
            fact.amount,
            fact.balance_after,
            fact.cause,
            fact.note,
            fact.rule,
            event_id,
            fact.reverses,
            fact.short_by,
            fact.request_id,
        )
    )
    issued = batch.cards_issued.get((tenant_id, card_id))
    if issued is None:
        _card_points(batch, fact, position)
    else:
        _continues(fact, issued[0].entry_count, issued[0].balance)
        issued[0].apply(fact, position)
    for lot in fact.lots:
        batch.lots[tenant_id, card_id, lot.lot] = (
            tenant_id,
            card_id,
            lot.lot,
            lot.remaining,
            lot.expires_at_ms,
            position,
        )
    if fact.day:
        _day_score(batch, fact, position)
    if event_id:
        _event(batch, tenant_id, event_id).position = position
        attendance = _attendance(batch, tenant_id, event_id, card_id)
        attendance.earned = fact.event_earned_after
        attendance.earned_position = attendance.position = position


def _card_points(batch: RowBatch, fact: PointsPosted, position: int) -> None:
    card = _card(batch, fact.tenant_id, fact.card_id)
    card.position = position
    if card.entry_count is None:
        card.first_entry_seq = fact.entry_seq
        card.balance_before = fact.balance_after - fact.amount
        card.earned_position = position
    else:
        _continues(fact, card.entry_count, card.balance or 0)
        if fact.earned_after != card.earned:
            card.earned_position = position
            card.earned_is_certain = True
    card.entry_count = fact.entry_seq
    card.balance = fact.balance_after
    card.earned = fact.earned_after
    day, day_earned = fact.day, fact.day_earned_after
    if day and (day, day_earned) != (card.day, card.day_earned):
        card.day_is_certain = card.day is not None
        card.day = day
        card.day_earned = day_earned
        card.day_position = position


def _continues(fact: PointsPosted, entry_count: int, balance: int) -> None:
    if fact.entry_seq != entry_count + 1 or fact.balance_after != balance + fact.amount:
        raise ValueError(
            f"ledger entry {fact.entry_seq} of {fact.amount} to {fact.balance_after} on card {fact.card_id} does not "
            f"follow entry {entry_count} at {balance}"
        )


def _day_score(batch: RowBatch, fact: PointsPosted, position: int) -> None:
    key = (fact.tenant_id, fact.day, fact.card_id)
    score = batch.day_scores.get(key)
    earned = fact.day_earned_after
    if score is None:
        batch.day_scores[key] = DayScore(*key, earned, position, position)
        return
    if earned != score.earned:
        score.earned = earned
        score.reached = position
        score.is_certain = True
    score.position = position


def _card_state(batch: RowBatch, fact: CardStateChanged | CardHolderRenamed, position: int) -> None:
    issued = batch.cards_issued.get((fact.tenant_id, fact.card_id))
    if issued is not None:
        issued[0].apply(fact, position)
        if isinstance(fact, CardStateChanged):
            batch.issued_and_changed[fact.tenant_id, fact.card_id] = position
        return
    card = _card(batch, fact.tenant_id, fact.card_id)
    if isinstance(fact, CardStateChanged):
        card.state = fact.state
        card.state_position = position
    else:
        card.member_name = fact.member_name
    card.position = position


def _tenant(batch: RowBatch, fact: TenantOpened | TenantChanged, position: int) -> None:
    row = _tenant_row(batch, fact.tenant_id)
    row.name, row.settings, row.position = fact.name, fact.settings, position
    if isinstance(fact, TenantOpened):
        row.opened_at_ms, row.cards = fact.at_ms, 0


def _tenant_cards(batch: RowBatch, fact: CardIssued | CardStateChanged, position: int) -> None:
    if fact.cards_after >= 0:
        row = _tenant_row(batch, fact.tenant_id)
        row.cards, row.position = fact.cards_after, position


def _tenant_row(batch: RowBatch, tenant_id: str) -> TenantRow:
    row = batch.tenants.get(tenant_id)
    if row is None:
        row = batch.tenants[tenant_id] = TenantRow(tenant_id, 0)
    return row


def _card(batch: RowBatch, tenant_id: str, card_id: str) -> CardChange:
    card = batch.cards_changed.get((tenant_id, card_id))
    if card is None:
        card = batch.cards_changed[tenant_id, card_id] = CardChange(tenant_id, card_id, 0)
    return card


def _event(batch: RowBatch, tenant_id: str, event_id: str) -> EventChange:
    event = batch.events.get((tenant_id, event_id))
    if event is None:
        event = batch.events[tenant_id, event_id] = EventChange(tenant_id, event_id, 0)
    return event


def _attendance(batch: RowBatch, tenant_id: str, event_id: str, card_id: str) -> AttendanceChange:
    key = (tenant_id, event_id, card_id)
    attendance = batch.attendance.get(key)
    if attendance is None:
        attendance = batch.attendance[key] = AttendanceChange(tenant_id, event_id, card_id)
    return attendance
