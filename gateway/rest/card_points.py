"""What a card has: its balance now and at any time, its ledger, and statements. What moves points and money is on the
fast lane (`gateway.points`).

Rules:
1. The balance of now comes from the engine; what was before comes from the ledger in Postgres, which is behind it by
   the projector's lag (`stale`).
2. A statement adds up: opening balance + sums = closing balance, or it is not given.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from actors.replies import CardView as EngineCardView
from actors.terms import FAR_MS, Account, EntryKind
from gateway import limits
from gateway.lists import LedgerRow, list_ledger
from gateway.problems import FieldError, Problem
from gateway.render import rfc3339, rfc3339_or_none
from gateway.rest.cards import seen_card
from gateway.rest.common import Allowed, Call, Cursor, Limit, PathId, Time, View, ms
from storage import statements
from storage.statements import LedgerFilter

CardReader = Annotated[Call, Depends(Allowed("cards.read"))]
router = APIRouter(prefix="/v1/cards", tags=["points"])


class LotView(View):
    """Points that expire, or are pending: then they can be spent from `available_from` on, null: once confirmed."""

    lot: int
    remaining: int
    expires_at: str | None
    is_pending: bool
    available_from: str | None


class HoldView(View):
    """What is put aside, by its ledger entry."""

    entry_seq: int
    account: Account
    held: int
    lapses_at: str


class WalletView(View):
    """Money, in the smallest unit (VND)."""

    balance: int
    available: int


class BalanceView(View):
    """`balance` is the sum of the ledger; `available` what can be spent now; `pending` what shows but cannot be spent
    yet; `held` what is put aside; `earned` what was ever awarded."""

    card_id: str
    balance: int
    available: int
    earned: int
    entries: int
    lots: list[LotView]
    pending: int
    held: int
    wallet: WalletView
    holds: list[HoldView]


class PastBalanceView(View):
    """What the card had at a time, and after how many entries. `stale`: what was just confirmed may be missing."""

    card_id: str
    at: str
    balance: int
    wallet: int
    entries: int
    stale: bool


class LedgerEntry(View):
    """An entry; `amount` is signed. `reverses` is the entry it undoes or the hold it ends, `short_by` what of that
    could not be taken; `held` how much more (a hold's end: less) is put aside, `due_at` when the hold lapses."""

    seq: int
    kind: str
    amount: int
    balance_after: int
    at: str
    cause: str
    request_id: str | None
    note: str
    rule: str | None
    event_id: str | None
    reverses: int | None
    short_by: int
    account: str
    held: int
    due_at: str | None


class LedgerPage(View):
    """A page of entries; with a filter it may have fewer than asked for though there are more. `stale`: what was just
    confirmed may be missing."""

    items: list[LedgerEntry]
    next_cursor: str | None
    stale: bool


class SumView(View):
    """What the entries of a kind add up to."""

    kind: str
    entries: int
    amount: int


class StatementView(View):
    """An account from `from` (inclusive) until `until` (exclusive): opening balance + sums = closing balance."""

    card_id: str
    account: Account
    opening_balance: int
    closing_balance: int
    entries: int
    sums: list[SumView]
    stale: bool


@router.get("/{card_id}/balance", summary="A card's points and wallet, now or at a time")
async def balance(
    card_id: PathId, call: CardReader, at: Annotated[Time | None, Query()] = None
) -> BalanceView | PastBalanceView:
    """Now: from the engine, durable state only. With `at`: from the ledger, all entries up to that time."""
    view = await seen_card(call, card_id)
    if at is None:
        return _balance(view, call.parts.clock_ms())
    is_fresh = await call.is_fresh()
    then = await statements.last_before(call.parts.pool, call.tenant_id, card_id, ms(at) + 1)
    return PastBalanceView(
        card_id=card_id,
        at=rfc3339(ms(at)),
        balance=then.points,
        wallet=then.wallet,
        entries=then.entry_seq,
        stale=not is_fresh,
    )


@router.get("/{card_id}/ledger", summary="A card's ledger")
async def ledger(
    card_id: PathId,
    call: CardReader,
    account: Account | None = None,
    kind: EntryKind | None = None,
    from_: Annotated[Time | None, Query(alias="from")] = None,
    until: Annotated[Time | None, Query()] = None,
    limit: Limit = limits.PAGE_ITEMS_DEFAULT,
    cursor: Cursor = None,
) -> LedgerPage:
    """Newest first; of one account or kind, in a period (`from` inclusive, `until` exclusive)."""
    await seen_card(call, card_id)
    is_fresh = await call.is_fresh()
    from_ms, until_ms = (None if time is None else ms(time) for time in (from_, until))
    which = LedgerFilter(account=account, kind=kind, from_ms=from_ms, until_ms=until_ms)
    page = await list_ledger(call.parts.pool, call.tenant_id, card_id, which, limit, cursor)
    return LedgerPage(items=[_entry(row) for row in page.rows], next_cursor=page.next_cursor, stale=not is_fresh)


@router.get("/{card_id}/statement", summary="A statement of a card's account for a period")
async def statement(
    card_id: PathId,
    call: CardReader,
    from_: Annotated[Time, Query(alias="from")],
    until: Annotated[Time, Query()],
    account: Account = "points",
) -> StatementView:
    """`from` is inclusive, `until` exclusive."""
    if until <= from_:
        detail = "until must be after from"
        raise Problem("malformed", detail, [FieldError(detail, parameter="until")])
    await seen_card(call, card_id)
    is_fresh = await call.is_fresh()
    pool, tenant_id = call.parts.pool, call.tenant_id
    opening = await statements.last_before(pool, tenant_id, card_id, ms(from_))
    closing = await statements.last_before(pool, tenant_id, card_id, ms(until))
    if closing.entry_seq - opening.entry_seq > limits.STATEMENT_ENTRIES_MAX:
        detail = f"The period has more than {limits.STATEMENT_ENTRIES_MAX} entries; ask for a shorter one."
        raise Problem("malformed", detail, [FieldError(detail, parameter="from")])
    sums = await statements.sums(pool, tenant_id, card_id, opening.entry_seq, closing.entry_seq, account)
    before, after = getattr(opening, account), getattr(closing, account)
    if before + sum(one.amount for one in sums) != after:
        raise Problem("internal", "The ledger does not add up; the audit tells where.")
    return StatementView(
        card_id=card_id,
        account=account,
        opening_balance=before,
        closing_balance=after,
        entries=sum(one.entries for one in sums),
        sums=[SumView(kind=one.kind, entries=one.entries, amount=one.amount) for one in sums],
        stale=not is_fresh,
    )


def _balance(view: EngineCardView, now_ms: int) -> BalanceView:
    return BalanceView(
        card_id=view.card_id,
        balance=view.balance,
        available=view.available,
        earned=view.earned,
        entries=view.entry_count,
        lots=[
            LotView(
                lot=lot.lot,
                remaining=lot.remaining,
                expires_at=_time_or_never(lot.expires_at_ms),
                is_pending=lot.available_from_ms > now_ms,
                available_from=_time_or_never(lot.available_from_ms),
            )
            for lot in view.lots
        ],
        pending=view.pending,
        held=sum(hold.held for hold in view.holds if hold.account == "points"),
        wallet=WalletView(balance=view.wallet, available=view.wallet_available),
        holds=[
            HoldView(entry_seq=hold.hold, account=hold.account, held=hold.held, lapses_at=rfc3339(hold.lapses_at_ms))
            for hold in view.holds
        ],
    )


def _time_or_never(at_ms: int) -> str | None:
    return None if at_ms >= FAR_MS else rfc3339_or_none(at_ms)


def _entry(row: LedgerRow) -> LedgerEntry:
    return LedgerEntry(
        seq=row.entry_seq,
        kind=row.kind,
        amount=row.amount,
        balance_after=row.balance_after,
        at=rfc3339(row.at_ms),
        cause=row.cause,
        request_id=row.request_id or None,
        note=row.note,
        rule=row.rule or None,
        event_id=row.event_id or None,
        reverses=row.reverses or None,
        short_by=row.short_by,
        account=row.account,
        held=row.held,
        due_at=rfc3339_or_none(row.due_ms),
    )
