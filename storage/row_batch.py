"""The rows that a run of journal entries leads to, gathered by table and key until they are written. Rules as in
`storage.rows`."""

from __future__ import annotations

import msgspec

from actors.card import Card
from actors.terms import EventTerms, TenantSettings
from storage.state_tables import Row, StateTable


class TenantRow(msgspec.Struct, gc=False):
    """A tenant's state; `opened_at_ms` is None unless it was opened in this batch. `cards` counts towards its plan,
    `issued` is the number of its latest card."""

    tenant_id: str
    position: int
    name: str | None = None
    settings: TenantSettings | None = None
    opened_at_ms: int | None = None
    cards: int | None = None
    issued: int | None = None


class CardChange(msgspec.Struct, gc=False):
    """What happened to a card that was issued before. `first_entry_seq`, `balance_before` and `wallet_before` (None
    without postings) must continue the present row. The `earned`, the `day` and the `state` group each come whole or
    are None. What check-ins change comes first."""

    tenant_id: str
    card_id: str
    position: int
    visits: str | None = None
    first_entry_seq: int | None = None
    balance_before: int | None = None
    wallet_before: int | None = None
    entry_count: int | None = None
    balance: int | None = None
    wallet: int | None = None
    earned: int | None = None
    earned_position: int | None = None
    day: int | None = None
    day_earned: int | None = None
    day_position: int | None = None
    state: str | None = None
    state_position: int | None = None
    member_name: str | None = None
    attention: str | None = None
    tier: str | None = None
    tier_due_ms: int | None = None
    tier_is_held: bool | None = None
    valid_from_ms: int | None = None
    valid_until_ms: int | None = None
    serial: int | None = None
    tag_uid: str | None = None
    profile: str | None = None
    birthday_on: int | None = None
    birthday_due_ms: int | None = None
    birthday_year: int | None = None
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
    session_id: str | None = None
    left_ms: int | None = None


class AttendanceChange(msgspec.Struct, gc=False):
    """What happened to a card at an event (or a session of it), in parts: being inside, the latest entry, the latest
    scan, the points, the answers."""

    tenant_id: str
    event_id: str
    card_id: str
    session_id: str = ""
    is_inside: bool | None = None
    entries: int | None = None
    admitted_at_ms: int | None = None
    gate_id: str | None = None
    device_id: str | None = None
    earned: int | None = None
    earned_position: int | None = None
    position: int = 0
    zone_id: str | None = None
    seen_ms: int | None = None
    answered: str | None = None


class DayScore(msgspec.Struct, gc=False):
    """A card's score on a day."""

    tenant_id: str
    day: int
    card_id: str
    earned: int
    reached: int
    position: int
    is_certain: bool = False


class VisitScore(msgspec.Struct, gc=False):
    """A card's visits and its best streak of all time, each with the position at which it came to that."""

    tenant_id: str
    card_id: str
    ever: int
    ever_reached: int
    best: int
    best_reached: int
    position: int
    best_is_certain: bool = False


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
    # Where the last change of an issued card's state or serial stands, if there was one.
    issued_and_changed: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    cards_changed: dict[tuple[str, str], CardChange] = msgspec.field(default_factory=dict)
    lots: dict[tuple[str, str, int], Row] = msgspec.field(default_factory=dict)
    events: dict[tuple[str, str], EventChange] = msgspec.field(default_factory=dict)
    # By tenant, event, card and session.
    attendance: dict[tuple[str, str, str, str], AttendanceChange] = msgspec.field(default_factory=dict)
    # Scans with more to tell, apart from the others; events that everybody left.
    detailed_scans: list[Row] = msgspec.field(default_factory=list)
    left: set[tuple[str, str]] = msgspec.field(default_factory=set)
    day_scores: dict[tuple[str, int, str], DayScore] = msgspec.field(default_factory=dict)
    visit_scores: dict[tuple[str, str], VisitScore] = msgspec.field(default_factory=dict)
    # What postings that tell no balance drew on accounts, with the position of the last (`storage.rows_points`).
    drawn: dict[tuple[str, str], tuple[int, int]] = msgspec.field(default_factory=dict)
    # By table of `storage.state_tables` and key.
    states: dict[str, dict[Row, Row]] = msgspec.field(default_factory=dict)

    def set_state(self, table: StateTable, row: Row) -> None:
        """The row is like this from now on."""
        self.states.setdefault(table.name, {})[row[: len(table.key)]] = row

    def event(self, tenant_id: str, event_id: str) -> EventChange:
        """The event's change so far."""
        event = self.events.get((tenant_id, event_id))
        if event is None:
            event = self.events[tenant_id, event_id] = EventChange(tenant_id, event_id, 0)
        return event

    def attended(self, tenant_id: str, event_id: str, card_id: str, session_id: str = "") -> AttendanceChange:
        """The change so far of a card's attendance."""
        key = (tenant_id, event_id, card_id, session_id)
        attendance = self.attendance.get(key)
        if attendance is None:
            attendance = self.attendance[key] = AttendanceChange(*key)
        return attendance
