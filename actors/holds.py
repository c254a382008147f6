"""Deciding what is put aside: hold, capture, release. Pure; refusals come back as facts.

Rules:
1. A hold is a ledger entry of amount 0; what it puts aside counts against what is available from then on. It never
   draws on an overdraft.
2. It ends once, by an entry that cites it: captured (as much as is asked; the rest comes back in the same step),
   released, or lapsed. Whoever comes later is told which it was.
3. A hold whose time is over has lapsed, whether or not that has been posted.
"""

from __future__ import annotations

from actors.facts import Fact
from actors.ledger import LedgerDraft
from actors.points import insufficient, refused, with_rules
from actors.points_commands import CapturePoints, HoldPoints, ReleasePoints
from actors.refusals import (
    AMOUNT_INVALID,
    CARD_NOT_ACTIVE,
    EXPIRY_INVALID,
    HOLD_CAPTURED,
    HOLD_LAPSED,
    HOLD_RELEASED,
    HOLD_UNKNOWN,
    LIMIT_REACHED,
)
from actors.scope import Scope
from actors.terms import HOLD_MS_DEFAULT, HOLD_MS_MAX, HOLDS_PER_CARD_MAX, POINTS_PER_ENTRY_MAX, Hold

_ENDED = {"capture": HOLD_CAPTURED, "release": HOLD_RELEASED, "lapse": HOLD_LAPSED}


def decide_hold(scope: Scope, command: HoldPoints, at_ms: int) -> list[Fact]:
    """Puts an amount aside, or refuses: amount, time, card's state, number of holds, what is available, in this
    order."""
    card = scope.card
    lapses_at_ms = command.lapses_at_ms or at_ms + HOLD_MS_DEFAULT
    if not 1 <= command.amount <= POINTS_PER_ENTRY_MAX:
        return [refused(command, AMOUNT_INVALID, f"amount must be 1 to {POINTS_PER_ENTRY_MAX}", at_ms)]
    if not at_ms < lapses_at_ms <= at_ms + HOLD_MS_MAX:
        detail = f"lapses_at must lie in the future, at most {HOLD_MS_MAX} ms ahead"
        return [refused(command, EXPIRY_INVALID, detail, at_ms)]
    if card.state != "active":
        return [refused(command, CARD_NOT_ACTIVE, f"the card is {card.state}", at_ms)]
    if sum(hold.lapses_at_ms > at_ms for hold in card.holds) >= HOLDS_PER_CARD_MAX:
        return [refused(command, LIMIT_REACHED, f"a card has at most {HOLDS_PER_CARD_MAX} holds at a time", at_ms)]
    short = insufficient(command, card, command.account, command.amount, 0, at_ms)
    if short:
        return short
    draft = LedgerDraft(scope.tenant, card, at_ms)
    draft.settle()
    draft.hold(
        command.account,
        command.amount,
        lapses_at_ms,
        request_id=command.request_id,
        fingerprint=command.fingerprint,
        note=command.note,
    )
    return draft.finished()


def decide_capture(scope: Scope, command: CapturePoints, at_ms: int) -> list[Fact]:
    """Takes what was put aside, or refuses: the hold unknown or ended, the amount, in this order."""
    hold = _open_hold(scope, command, at_ms)
    if isinstance(hold, list):
        return hold
    amount = hold.held if command.amount is None else command.amount
    if not 1 <= amount <= hold.held:
        return [refused(command, AMOUNT_INVALID, f"amount must be 1 to {hold.held}, which is held", at_ms)]
    return _end(scope, command, hold, amount, at_ms)


def decide_release(scope: Scope, command: ReleasePoints, at_ms: int) -> list[Fact]:
    """Lets go what was put aside, or refuses: the hold unknown or ended."""
    hold = _open_hold(scope, command, at_ms)
    return hold if isinstance(hold, list) else _end(scope, command, hold, 0, at_ms)


def _end(scope: Scope, command: CapturePoints | ReleasePoints, hold: Hold, captured: int, at_ms: int) -> list[Fact]:
    draft = LedgerDraft(scope.tenant, scope.card, at_ms)
    draft.settle()
    posted = draft.end_hold(
        "capture" if captured else "release",
        hold,
        captured,
        f"hold:{hold.hold}",
        request_id=command.request_id,
        fingerprint=command.fingerprint,
        note=command.note,
    )
    # What came back to a lot that has lapsed meanwhile lapses at once.
    draft.settle()
    if not captured:
        return draft.finished()
    return with_rules(scope, scope.card, draft, posted, at_ms)


def _open_hold(scope: Scope, command: CapturePoints | ReleasePoints, at_ms: int) -> Hold | list[Fact]:
    """The hold that a command cites, or its refusal."""
    card, entry_seq = scope.card, command.entry_seq
    hold = next((hold for hold in card.holds if hold.hold == entry_seq), None)
    if hold is not None:
        if hold.lapses_at_ms > at_ms:
            return hold
        return [refused(command, HOLD_LAPSED, f"hold {entry_seq} has lapsed", at_ms)]
    entry = scope.ledger_entry(card.card_id, entry_seq) if 1 <= entry_seq <= card.entry_count else None
    if entry is None or entry.fact.kind != "hold":
        return [refused(command, HOLD_UNKNOWN, f"the card has no hold {entry_seq}", at_ms)]
    reason = _ENDED[entry.reversed_by]
    return [refused(command, reason, f"hold {entry_seq} has ended: {reason.removeprefix('hold_')}", at_ms)]
