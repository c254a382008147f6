"""Deciding points commands: award, redeem, reverse. Pure; refusals come back as facts."""

from __future__ import annotations

from actors.calendar import local_day
from actors.card import Card
from actors.commands import AwardPoints, RedeemPoints, ReversePoints
from actors.event import Event
from actors.facts import CommandRefused, Fact, PointsPosted
from actors.ledger import BALANCE_MAX, COUPON_CAUSE, LedgerDraft
from actors.refusals import (
    ALREADY_REVERSED,
    AMOUNT_INVALID,
    CARD_NOT_ACTIVE,
    ENTRY_NOT_REVERSIBLE,
    ENTRY_UNKNOWN,
    EXPIRY_INVALID,
    INSUFFICIENT_POINTS,
    LIMIT_REACHED,
)
from actors.scope import Scope
from actors.tenant import Tenant
from actors.terms import LOTS_PER_CARD_MAX, POINTS_PER_ENTRY_MAX, POOL, Lot


def decide_award(scope: Scope, command: AwardPoints, at_ms: int) -> list[Fact]:
    """Posts an award, or refuses: amount, expiry, card's state, balance limit, in this order."""
    tenant, card = scope.tenant, scope.card
    if not 1 <= command.amount <= POINTS_PER_ENTRY_MAX:
        return [_refused(command, AMOUNT_INVALID, f"amount must be 1 to {POINTS_PER_ENTRY_MAX}", at_ms)]
    if command.expires_at_ms and command.expires_at_ms <= at_ms:
        return [_refused(command, EXPIRY_INVALID, "expires_at must lie in the future", at_ms)]
    if card.state != "active":
        return [_refused(command, CARD_NOT_ACTIVE, f"the card is {card.state}", at_ms)]
    if card.balance + command.amount > BALANCE_MAX:
        return [_refused(command, LIMIT_REACHED, f"a balance cannot exceed {BALANCE_MAX}", at_ms)]
    if command.expires_at_ms and len(card.lots) >= LOTS_PER_CARD_MAX:
        detail = f"a card has at most {LOTS_PER_CARD_MAX} awards that expire; award without expiry, or redeem some"
        return [_refused(command, LIMIT_REACHED, detail, at_ms)]
    draft = LedgerDraft(card, at_ms, local_day(at_ms, tenant.settings.time_zone))
    draft.expire_lapsed()
    entry_seq = card.entry_count + len(draft.facts) + 1
    draft.post(
        "award",
        command.amount,
        "request",
        request_id=command.request_id,
        fingerprint=command.fingerprint,
        note=command.note,
        earned=command.amount,
        earned_day=draft.day,
        lots=(Lot(entry_seq, command.amount, command.expires_at_ms),) if command.expires_at_ms else (),
    )
    return draft.finished()


def decide_redeem(scope: Scope, command: RedeemPoints, at_ms: int) -> list[Fact]:
    """Posts a redemption, or refuses: amount, card's state, points available, in this order."""
    tenant, card = scope.tenant, scope.card
    if not 1 <= command.amount <= POINTS_PER_ENTRY_MAX:
        return [_refused(command, AMOUNT_INVALID, f"amount must be 1 to {POINTS_PER_ENTRY_MAX}", at_ms)]
    if card.state != "active":
        return [_refused(command, CARD_NOT_ACTIVE, f"the card is {card.state}", at_ms)]
    available = card.available(at_ms)
    if command.amount > available + tenant.settings.overdraft_max:
        return [_refused(command, INSUFFICIENT_POINTS, f"{available} points are available", at_ms)]
    draft = LedgerDraft(card, at_ms, local_day(at_ms, tenant.settings.time_zone))
    draft.expire_lapsed()
    lots, takings = draft.take(command.amount)
    draft.post(
        "redeem",
        -command.amount,
        "request",
        request_id=command.request_id,
        fingerprint=command.fingerprint,
        note=command.note,
        lots=lots,
        takings=takings,
    )
    return draft.finished()


def decide_reverse(scope: Scope, command: ReversePoints, at_ms: int) -> list[Fact]:
    """Posts a reversal, or refuses: the entry unknown, of a kind that cannot be reversed, reversed already, in this
    order."""
    tenant, card = scope.tenant, scope.card
    entry = None
    if 1 <= command.entry_seq <= card.entry_count:
        entry = scope.ledger_entry(card.card_id, command.entry_seq)
    if entry is None:
        return [_refused(command, ENTRY_UNKNOWN, f"the card has no ledger entry {command.entry_seq}", at_ms)]
    original = entry.fact
    if original.kind not in ("award", "redeem"):
        return [_refused(command, ENTRY_NOT_REVERSIBLE, f"entry {command.entry_seq} is of kind {original.kind}", at_ms)]
    if original.cause.startswith(COUPON_CAUSE):
        detail = f"entry {command.entry_seq} belongs to a coupon's redemption; roll that back"
        return [_refused(command, ENTRY_NOT_REVERSIBLE, detail, at_ms)]
    if entry.is_reversed:
        return [_refused(command, ALREADY_REVERSED, f"entry {command.entry_seq} was reversed before", at_ms)]
    draft = LedgerDraft(card, at_ms, local_day(at_ms, tenant.settings.time_zone))
    draft.expire_lapsed()
    if original.kind == "award":
        # The event at which it was earned; its score goes down, too.
        event = scope.find("event", original.event_id) if original.event_id else None
        _reverse_award(tenant, draft, event, original, command)
    else:
        lots, takings = draft.give_back(original)
        draft.post(
            "reverse",
            -original.amount,
            f"reversal:{command.entry_seq}",
            request_id=command.request_id,
            fingerprint=command.fingerprint,
            note=command.note,
            lots=lots,
            takings=takings,
            reverses=command.entry_seq,
        )
        # What came back to a lot that has lapsed meanwhile lapses at once.
        draft.expire_lapsed()
    return draft.finished()


def decide_wake_card(scope: Scope, card: Card, at_ms: int) -> list[Fact]:
    """What has lapsed is posted, and the alarm set to what comes next."""
    draft = LedgerDraft(card, at_ms, local_day(at_ms, scope.tenant.settings.time_zone))
    draft.expire_lapsed()
    return draft.woken()


def _reverse_award(
    tenant: Tenant, draft: LedgerDraft, event: Event | None, original: PointsPosted, command: ReversePoints
) -> None:
    taken = max(0, min(original.amount, draft.balance + tenant.settings.overdraft_max))
    own_lot = original.lots[0].lot if original.lots else POOL
    lots, takings = draft.take(taken, first=own_lot)
    event_earned_after = 0
    if event is not None:
        event_earned_after = event.attendance[original.card_id].earned - original.amount
    draft.post(
        "reverse",
        -taken,
        f"reversal:{command.entry_seq}",
        request_id=command.request_id,
        fingerprint=command.fingerprint,
        note=command.note,
        event_id=event.event_id if event is not None else "",
        earned=-original.amount,
        earned_day=original.day,
        event_earned_after=event_earned_after,
        lots=lots,
        takings=takings,
        reverses=command.entry_seq,
        short_by=original.amount - taken,
    )


def _refused(
    command: AwardPoints | RedeemPoints | ReversePoints, reason: str, detail: str, at_ms: int
) -> CommandRefused:
    return CommandRefused(
        command.tenant_id,
        command.request_id,
        command.fingerprint,
        at_ms,
        type(command).__name__,
        command.card_id,
        reason,
        detail,
    )
