"""The auditor's comparison of Postgres' rows with what the journal says they have to be. Pure.

Rules:
1. Expected rows are built from facts and replayed actors here, not by `storage.rows`: a fault of the projector must
   not be repeated by whoever looks for it.
2. Histories (`requests`, `scans`, `ledger`) are compared in the order of positions, in runs, so that memory stays
   small; states are compared by key.
3. Bijective: a row too many is a finding just as a row too few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from actors.card import Card
from actors.coupon_facts import CouponFact
from actors.door_facts import ScanAnnulled
from actors.event import Event
from actors.facts import CardIssued, EventCreated, Fact, PointsPosted, ScanDetails, ScanJudged, TenantOpened
from actors.profiles import NO_PROFILE, Profile
from actors.terms import EventTerms, TenantSettings
from actors.visits import NO_VISITS, Visits
from storage.audit_accounts import AccountsCheck
from storage.audit_checks import Findings, LedgerCheck, Score
from storage.audit_coupons import CouponRows
from storage.audit_coupons import normalised as coupons_normalised
from storage.audit_doors import AttendanceCheck, Attended
from storage.audit_whole_rows import WholeRows
from storage.replay import WorldState
from storage.state_tables import STATE_TABLES

Row = tuple[Any, ...]

REQUESTS = ("position", "tenant_id", "request_id", "partition_id", "at_ms")
SCANS = (
    *("position", "tenant_id", "event_id", "at_ms", "scanned_at_ms", "request_id", "card_id", "gate_id", "device_id"),
    *("direction", "reason", "member_id", "member_name", "tier", "inside", "admitted", "points_awarded"),
    *("points_balance", "first_at_ms", "first_gate_id", "first_device_id"),
    *("zone_id", "session_id", "is_offline", "conflict", "forced", "forced_by"),
)
DETAILS = SCANS[-6:]
LEDGER = (
    *("position", "tenant_id", "card_id", "entry_seq", "partition_id", "at_ms", "kind", "amount", "balance_after"),
    *("cause", "note", "rule", "event_id", "reverses", "short_by", "request_id"),
    *("account", "other_after", "held", "due_ms"),
)
HISTORIES: dict[str, tuple[str, ...]] = {"requests": REQUESTS, "scans": SCANS, "ledger": LEDGER}

TENANTS = ("tenant_id", "name", "settings", "opened_at_ms", "cards", "position", "issued")
CARDS = (
    *("tenant_id", "card_id", "member_id", "member_name", "tier", "valid_from_ms", "valid_until_ms", "issued_at_ms"),
    *("state", "balance", "wallet", "entry_count", "earned", "earned_position", "day", "day_earned", "day_position"),
    *("position", "attention", "serial", "number", "tag_uid", "tier_due_ms", "tier_is_held"),
    *("birthday_on", "birthday_due_ms", "birthday_year", "profile", "visits"),
)
LOTS = ("tenant_id", "card_id", "lot", "remaining", "expires_at_ms", "available_from_ms", "position")
EVENTS = (
    *("tenant_id", "event_id", "terms", "name", "state", "capacity", "doors_open_ms", "doors_close_ms"),
    *("created_at_ms", "inside", "admitted", "refused", "position", "session_id", "left_ms"),
)
ATTENDANCE = (
    *("tenant_id", "event_id", "card_id", "session_id", "is_inside", "entries", "admitted_at_ms", "gate_id"),
    *("device_id", "earned", "earned_position", "position", "zone_id", "seen_ms", "answered"),
)
DAY_SCORES = ("tenant_id", "day", "card_id", "earned", "reached", "position")
VISIT_SCORES = ("tenant_id", "card_id", "ever", "ever_reached", "best", "best_reached", "position")
# Columns, and how many of them are the key.
STATES: dict[str, tuple[tuple[str, ...], int]] = {
    "tenants": (TENANTS, 1),
    "cards": (CARDS, 2),
    "lots": (LOTS, 3),
    "events": (EVENTS, 2),
    "attendance": (ATTENDANCE, 4),
    "day_scores": (DAY_SCORES, 3),
    "visit_scores": (VISIT_SCORES, 2),
    **{table.name: (table.columns, len(table.key)) for table in STATE_TABLES},
}


def history_rows(partition: int, fact: Fact, position: int) -> list[tuple[str, Row]]:
    """The rows of the histories that a fact has to have, as (table, row)."""
    rows: list[tuple[str, Row]] = []
    if fact.request_id:
        rows.append(("requests", (position, fact.tenant_id, fact.request_id, partition, fact.at_ms)))
    if isinstance(fact, ScanJudged):
        details = fact.details or ScanDetails()
        told = (getattr(details, column) for column in DETAILS)
        rows.append(("scans", (position, *(getattr(fact, column) for column in SCANS[1 : -len(DETAILS)]), *told)))
    elif isinstance(fact, PointsPosted):
        values = (partition if column == "partition_id" else getattr(fact, column) for column in LEDGER[1:])
        rows.append(("ledger", (position, *values)))
    return rows


def compare_run(findings: Findings, table: str, expected: Sequence[Row], actual: Sequence[Row]) -> None:
    """`<table>_rows` for a run of positions; both begin with the position and are ordered by it."""
    check, columns = f"{table}_rows", HISTORIES[table]
    if list(expected) == list(actual):
        return
    wanted: dict[int, Row] = {row[0]: row for row in expected}
    for row in actual:
        fact_row = wanted.pop(row[0], None)
        if fact_row is None:
            findings.add(
                check, f"a row at position {row[0]} has no fact: {dict(zip(columns[1:6], row[1:6], strict=True))}"
            )
        elif fact_row != row:
            findings.add(
                check, f"the row at position {row[0]} differs from its fact: {_difference(columns, fact_row, row)}"
            )
    for position in wanted:
        findings.add(check, f"the fact at position {position} has no row")


def compare_states(
    findings: Findings, table: str, expected: Mapping[Row, Row], actual: Iterable[Row], *, check: str = ""
) -> None:
    """`<table>_rows` (or `check`) for rows of state, by key."""
    columns, key_length = STATES[table]
    check = check or f"{table}_rows"
    seen: set[Row] = set()
    for row in actual:
        key = row[:key_length]
        seen.add(key)
        wanted = expected.get(key)
        if wanted is None:
            findings.add(check, f"{table} {key} is not in the journal")
        elif wanted != row:
            findings.add(check, f"{table} {key} differs from the journal: {_difference(columns, wanted, row)}")
    for key in expected.keys() - seen:
        findings.add(check, f"{table} {key} is missing")


def _difference(columns: Sequence[str], wanted: Row, found: Row) -> str:
    return ", ".join(
        f"{column} is {value!r}, should be {should!r}"
        for column, should, value in zip(columns, wanted, found, strict=True)
        if should != value
    )


class StateRows:
    """What the journal says about states beyond what actors keep: when things were made, and lots that are used up."""

    def __init__(self) -> None:
        self.visit_scores: dict[Row, Row] = {}
        self.made_at_ms: dict[str, int] = {}
        self.lots: dict[Row, Row] = {}
        self.rows = WholeRows()
        self.coupons = CouponRows()

    def take(self, partition: int, fact: Fact, position: int) -> None:
        """The next fact."""
        self.rows.take(partition, fact, position)
        if isinstance(fact, ScanJudged | ScanAnnulled):
            self._take_visits(fact, position)
        elif isinstance(fact, CouponFact):
            self.coupons.take(fact, position)
        elif isinstance(fact, PointsPosted):
            for lot in fact.lots:
                key = (fact.tenant_id, fact.card_id, lot.lot)
                self.lots[key] = (*key, lot.remaining, lot.expires_at_ms, lot.available_from_ms, position)
        elif isinstance(fact, CardIssued):
            self.made_at_ms[fact.card_id] = fact.at_ms
        elif isinstance(fact, EventCreated):
            self.made_at_ms[fact.event_id] = fact.at_ms
        elif isinstance(fact, TenantOpened):
            self.made_at_ms[fact.tenant_id] = fact.at_ms

    def _take_visits(self, fact: ScanJudged | ScanAnnulled, position: int) -> None:
        if not fact.visit_day or fact.visits is None:
            return
        key = (fact.tenant_id, fact.card_id)
        ever, best = fact.visits.ever, fact.visits.best_streak
        _, _, was_ever, ever_at, was_best, best_at, _ = self.visit_scores.get(key, (*key, None, 0, None, 0, 0))
        at = (position if ever != was_ever else ever_at, position if best != was_best else best_at)
        self.visit_scores[key] = (*key, ever, at[0], best, at[1], position)

    def expected(
        self, world: WorldState, attendance: AttendanceCheck, ledger: LedgerCheck, accounts: AccountsCheck
    ) -> dict[str, dict[Row, Row]]:
        """All rows of state by table and key, from the replayed actors."""
        tenants = {
            (key,): (
                key,
                tenant.name,
                tenant.settings,
                self.made_at_ms[key],
                tenant.cards,
                tenant.position,
                tenant.issued,
            )
            for key, tenant in world.tenants.items()
        }
        return {
            "tenants": tenants,
            "cards": {key: self._card(card) for key, card in world.cards.items()},
            "lots": self.lots,
            "events": {key: self._event(event) for key, event in world.events.items()},
            "attendance": _attendance(world, attendance, ledger),
            **self.rows.expected,
            **accounts.expected(),
            "visit_scores": self.visit_scores,
            "day_scores": {key: (*key, s.earned, s.reached, s.position) for key, s in ledger.day_scores.items()},
            **self.coupons.expected(world),
        }

    def _card(self, card: Card) -> Row:
        values = (self.made_at_ms[card.card_id] if c == "issued_at_ms" else getattr(card, c) for c in CARDS)
        return tuple(values)

    def _event(self, event: Event) -> Row:
        terms = event.terms
        told = (terms.name, terms.state, terms.capacity, terms.doors_open_ms, terms.doors_close_ms)
        counts = (event.inside, event.admitted, event.refused)
        key = (event.tenant_id, event.event_id)
        at = (event.position, event.session_id, event.left_ms)
        return (*key, terms, *told, self.made_at_ms[event.event_id], *counts, *at)


def _card_normalised(row: Row) -> Row:
    *told, profile, visits = row
    known = msgspec.json.decode(profile, type=Profile) if profile else NO_PROFILE
    return (*told, known, msgspec.json.decode(visits, type=Visits) if visits else NO_VISITS)


def _attendance(world: WorldState, counted: AttendanceCheck, ledger: LedgerCheck) -> dict[Row, Row]:
    rows: dict[Row, Row] = {}
    for event in world.events.values():
        for name, seen in event.attendance.items():
            card_id, _, session_id = name.partition("/")
            key = (event.tenant_id, event.event_id, card_id, session_id)
            latest = counted.attended.get(key, Attended()).position
            if not session_id:
                latest = max(latest, ledger.event_scores.get(key[:3], Score()).position)
            entered = (seen.admitted_at_ms, seen.gate_id, seen.device_id)
            scores = (seen.earned, seen.earned_position, latest)
            told = (seen.zone_id, seen.seen_ms, ",".join(seen.answered))
            rows[key] = (*key, seen.is_inside, seen.entries, *entered, *scores, *told)
    return rows


def normalised(table: str) -> Callable[[Row], Row]:
    """Turns a table's row as it comes from Postgres into the form of `StateRows.expected`."""
    if table == "tenants":
        return lambda row: (*row[:2], msgspec.json.decode(row[2], type=TenantSettings), *row[3:])
    if table == "cards":
        return _card_normalised
    if table == "events":
        return lambda row: (*row[:2], msgspec.json.decode(row[2], type=EventTerms), *row[3:])
    if table == "attendance":
        # NULL: no fact has set it yet, so it is what it is at first.
        unset: Row = (False, 0, 0, "", "", 0, 0, 0, "", 0, "")
        return lambda row: (
            *row[:4],
            *(first if value is None else value for value, first in zip(row[4:], unset, strict=True)),
        )
    return lambda row: coupons_normalised(table, row)


def compare_scores(
    findings: Findings, ledger: LedgerCheck, cards: Iterable[Row], days: Iterable[Row], events: Iterable[Row]
) -> None:
    """`leaderboards`: each board's scores in Postgres, and when they were reached, are recomputed from the ledger.
    Rows are (key…, score, reached)."""
    boards: tuple[tuple[str, Mapping[Row, Score], Iterable[Row]], ...] = (
        ("all", ledger.earned, cards),
        ("day", ledger.day_scores, days),
        ("event", ledger.event_scores, events),
    )
    for board, counted, rows in boards:
        found = {row[:-2]: row[-2:] for row in rows if row[-2]}
        wanted = {key: (score.earned, score.reached) for key, score in counted.items() if score.earned}
        for key in sorted(found.keys() | wanted.keys()):
            if found.get(key) != wanted.get(key):
                findings.add(
                    "leaderboards",
                    f"board {board}, {key}: score and reached are {found.get(key)}, recomputed {wanted.get(key)}",
                )
