"""From journal entries to rows. Pure: the same entries give the same rows, and nothing else is read.

Rules:
1. Facts carry resulting values, so a row needs no earlier row. Where only a part of a row is known, the rest is None
   and the writer leaves those columns as they are.
2. A batch touches each state row once: later facts replace what earlier ones set.
3. A score's position is where it last *changed*. Within the batch that is seen here (`*_is_certain`); whether the first
   value differs from the present row only the database can tell.
4. Tuples have the order of the columns in `storage.row_statements`, structs that of its parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from actors.board_facts import BoardPaidOut
from actors.card import Card
from actors.card_facts import CardReissued, CardRenewed, TagFact
from actors.codec import UnknownEntryVersion, decode_facts
from actors.coupon_facts import CouponFact
from actors.door_facts import CardNoted, DoorFact, ScanAnnulled
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
from actors.member_facts import MemberFact
from actors.rule_facts import RuleFact, RulesApplied
from actors.schedule_facts import SchedulesMoved
from actors.tiers import TierFact
from storage.row_batch import DayScore, EventChange, RowBatch, TenantRow
from storage.rows_cards import card_change, take_card_change, take_tag, take_tap, take_visits
from storage.rows_coupons import coupon_rows
from storage.rows_doors import take_door_fact, take_scan
from storage.rows_points import take_accounts
from storage.rows_rules import take_rule_fact, take_rules_applied, take_schedules
from storage.state_tables import ALARMS, BOARD_PAYOUTS


class PoisonEntry(Exception):
    """An entry that cannot be projected, whoever tries: its partition must halt before it. The message begins with
    `<epoch>-<seq>`."""


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
        # By frequency, and by type: nearly all facts are of the first three kinds.
        if type(fact) is ScanJudged:
            take_scan(batch, fact, position)
            if fact.details is not None:
                take_tap(batch, fact, position)
            if fact.visits is not None:
                take_visits(batch, fact, position)
        elif type(fact) is PointsPosted:
            _points(batch, fact, position)
        elif type(fact) is RulesApplied:
            take_rules_applied(batch, fact, position)
        elif isinstance(fact, CardIssued):
            batch.cards_issued[fact.tenant_id, fact.card_id] = (Card.issued(fact, position), fact.at_ms)
            _tenant_cards(batch, fact, position)
        elif isinstance(fact, TagFact):
            take_tag(batch, fact, position)
        elif isinstance(fact, CardHolderRenamed | CardNoted | CardReissued | CardRenewed | TierFact | MemberFact):
            take_card_change(batch, fact, position)
        elif isinstance(fact, DoorFact):
            take_door_fact(batch, fact, position)
            if isinstance(fact, ScanAnnulled):
                take_visits(batch, fact, position)
        elif isinstance(fact, CardStateChanged):
            take_card_change(batch, fact, position)
            _tenant_cards(batch, fact, position)
        elif isinstance(fact, EventCreated):
            batch.events[fact.tenant_id, fact.event_id] = EventChange(
                fact.tenant_id, fact.event_id, position, fact.at_ms, fact.terms, 0, 0, 0
            )
        elif isinstance(fact, EventChanged):
            event = batch.event(fact.tenant_id, fact.event_id)
            event.terms = fact.terms
            event.position = position
        elif isinstance(fact, TenantOpened | TenantChanged):
            _tenant(batch, fact, position)
        elif isinstance(fact, RuleFact):
            take_rule_fact(batch, fact, position)
        elif isinstance(fact, BoardPaidOut):
            winners = msgspec.json.encode(fact.winners).decode()
            paid = (fact.tenant_id, fact.board, fact.window, fact.at_ms, winners)
            batch.set_state(BOARD_PAYOUTS, (*paid, position))
        elif isinstance(fact, SchedulesMoved):
            take_schedules(batch, fact, position)
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
            fact.account,
            fact.other_after,
            fact.held,
            fact.due_ms,
        )
    )
    take_accounts(batch, fact, position)
    issued = batch.cards_issued.get((tenant_id, card_id))
    if issued is None:
        _card_points(batch, fact, position)
    else:
        _continues(fact, issued[0].entry_count, issued[0].balance, issued[0].wallet)
        issued[0].apply(fact, position)
    for lot in fact.lots:
        batch.lots[tenant_id, card_id, lot.lot] = (
            tenant_id,
            card_id,
            lot.lot,
            lot.remaining,
            lot.expires_at_ms,
            lot.available_from_ms,
            position,
        )
    if fact.day:
        _day_score(batch, fact, position)
    if event_id:
        batch.event(tenant_id, event_id).position = position
        attendance = batch.attended(tenant_id, event_id, card_id)
        attendance.earned = fact.event_earned_after
        attendance.earned_position = attendance.position = position


def _card_points(batch: RowBatch, fact: PointsPosted, position: int) -> None:
    card = card_change(batch, fact.tenant_id, fact.card_id)
    card.position = position
    if card.entry_count is None:
        card.first_entry_seq = fact.entry_seq
        card.balance_before, card.wallet_before = _before(fact)
        card.earned_position = position
    else:
        _continues(fact, card.entry_count, card.balance or 0, card.wallet or 0)
        if fact.earned_after != card.earned:
            card.earned_position = position
            card.earned_is_certain = True
    card.entry_count = fact.entry_seq
    card.balance = fact.points_after
    card.wallet = fact.wallet_after
    card.earned = fact.earned_after
    day, day_earned = fact.day, fact.day_earned_after
    if day > (card.day or 0) or (day == card.day and day_earned != card.day_earned):
        card.day_is_certain = day == card.day
        card.day = day
        card.day_earned = day_earned
        card.day_position = position


def _before(fact: PointsPosted) -> tuple[int, int]:
    """The balances of points and wallet before an entry."""
    before = fact.balance_after - fact.amount
    return (before, fact.other_after) if fact.account == "points" else (fact.other_after, before)


def _continues(fact: PointsPosted, entry_count: int, balance: int, wallet: int) -> None:
    if fact.entry_seq != entry_count + 1 or _before(fact) != (balance, wallet):
        raise ValueError(
            f"ledger entry {fact.entry_seq} of {fact.amount} to {fact.balance_after} on card {fact.card_id} does not "
            f"follow entry {entry_count} at {balance} points, {wallet} in the wallet"
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


def _tenant(batch: RowBatch, fact: TenantOpened | TenantChanged, position: int) -> None:
    row = _tenant_row(batch, fact.tenant_id)
    row.name, row.settings, row.position = fact.name, fact.settings, position
    if isinstance(fact, TenantOpened):
        row.opened_at_ms, row.cards, row.issued = fact.at_ms, 0, 0


def _tenant_cards(batch: RowBatch, fact: CardIssued | CardStateChanged, position: int) -> None:
    if fact.cards_after >= 0:
        row = _tenant_row(batch, fact.tenant_id)
        row.cards, row.position = fact.cards_after, position
        if isinstance(fact, CardIssued) and fact.number:
            row.issued = fact.number


def _tenant_row(batch: RowBatch, tenant_id: str) -> TenantRow:
    row = batch.tenants.get(tenant_id)
    if row is None:
        row = batch.tenants[tenant_id] = TenantRow(tenant_id, 0)
    return row
