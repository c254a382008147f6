"""Deciding transfers between two cards of an organisation: both have their part, or neither. Pure; refusals come back
as facts.

Rules:
1. One decision, one entry on the card that gives, and on the card that receives one for each expiry of the points that
   were taken: they keep it, so nothing lives longer, or shorter, for having been given away.
2. It is not earned: scores stay as they are. It never draws on an overdraft.
3. A transfer is undone by a transfer back; it cannot be reversed, for what was received may be spent.
"""

from __future__ import annotations

from actors.card import Card
from actors.facts import Fact
from actors.ledger import BALANCE_MAX, LedgerDraft
from actors.points import insufficient, refused, taken
from actors.points_commands import TransferPoints
from actors.refusals import AMOUNT_INVALID, CARD_NOT_ACTIVE, LIMIT_REACHED, TRANSFER_TO_ITSELF
from actors.scope import Scope
from actors.terms import (
    FAR_MS,
    LOTS_PER_CARD_MAX,
    POINTS_PER_ENTRY_MAX,
    TRANSFER_ENTRIES_MAX,
    Lot,
    Taking,
)


def decide_transfer(scope: Scope, command: TransferPoints, at_ms: int) -> list[Fact]:
    """Posts a transfer, or refuses: amount, the same card, either card's state, the receiver's limits, what is
    available, too many expiries, in this order."""
    card = scope.card
    receiver: Card = scope.need("card", command.to_card_id)
    if not 1 <= command.amount <= POINTS_PER_ENTRY_MAX:
        return [refused(command, AMOUNT_INVALID, f"amount must be 1 to {POINTS_PER_ENTRY_MAX}", at_ms)]
    if receiver is card:
        return [refused(command, TRANSFER_TO_ITSELF, "both cards are the same", at_ms)]
    for whose, one in (("the card", card), ("the card that receives", receiver)):
        if one.state != "active":
            return [refused(command, CARD_NOT_ACTIVE, f"{whose} is {one.state}", at_ms)]
    before = receiver.balance if command.account == "points" else receiver.wallet
    if before + command.amount > BALANCE_MAX:
        return [refused(command, LIMIT_REACHED, f"a balance cannot exceed {BALANCE_MAX}", at_ms)]
    short = insufficient(command, card, command.account, command.amount, 0, at_ms)
    if short:
        return short
    gives = LedgerDraft(scope.tenant, card, at_ms)
    gives.settle()
    lots, takings = taken(gives, command.account, command.amount)
    parts = _by_expiry(lots, takings)
    if len(parts) > TRANSFER_ENTRIES_MAX or len(receiver.lots) + len(parts) > LOTS_PER_CARD_MAX:
        detail = "the points expire at too many different times for the card that receives; transfer less at a time"
        return [refused(command, LIMIT_REACHED, detail, at_ms)]
    gives.post(
        "transfer",
        -command.amount,
        f"transfer-to:{receiver.card_id}",
        request_id=command.request_id,
        fingerprint=command.fingerprint,
        note=command.note,
        lots=lots,
        takings=takings,
        account=command.account,
    )
    receives = LedgerDraft(scope.tenant, receiver, at_ms, before=gives)
    receives.settle()
    for expires_at_ms, amount in parts:
        receives.post(
            "transfer",
            amount,
            f"transfer-from:{card.card_id}",
            note=command.note,
            lots=(Lot(receives.next_seq, amount, expires_at_ms),) if expires_at_ms < FAR_MS else (),
            account=command.account,
        )
    return [*gives.finished(), *receives.finished()]


def _by_expiry(lots: tuple[Lot, ...], takings: tuple[Taking, ...]) -> list[tuple[int, int]]:
    """How much was taken of which expiry, in spending order."""
    expiry_of = {lot.lot: lot.expires_at_ms for lot in lots}
    amounts: dict[int, int] = {}
    for taking in takings:
        expires_at_ms = expiry_of.get(taking.lot, FAR_MS)
        amounts[expires_at_ms] = amounts.get(expires_at_ms, 0) + taking.amount
    return list(amounts.items())
