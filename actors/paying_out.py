"""Paying out a leaderboard: prizes for the first ranks of a window that is frozen, once.

Rules:
1. A window is paid out once for each board. What it was paid by stays on record (`Payout`), whoever is erased later.
2. Cards that share a rank have the prize of that rank each; the ranks after them are left out, and so are their prizes.
3. A card that is not active is passed over: its prize goes to nobody.
4. A prize is an award like any other, earned on the day on which it is paid; it may raise a tier, and moves no rule.
5. The board is what it was when the window was frozen: all that was decided before then is durable by the time at which
   it is read (`actors.scope.Scope.board`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from actors.board import Board, terms_of
from actors.board_commands import PayOutBoard
from actors.board_facts import BoardPaidOut, Winner, payout_id_of
from actors.calendar import next_day, start_of_day_ms
from actors.card import Card
from actors.facts import CommandRefused, Fact
from actors.ledger import BALANCE_MAX, LedgerDraft
from actors.payout import Payout
from actors.queries import event_of_window
from actors.refusals import ALREADY_PAID_OUT, BOARD_UNKNOWN, TERMS_INVALID, WINDOW_OPEN
from actors.replies import BoardRow
from actors.scope import Scope
from actors.terms import POINTS_PER_ENTRY_MAX, TenantSettings
from actors.windows import NoWindow, board_key, days_of

PRIZES_MAX = 100
PAID_CARDS_MAX = 500
PAYOUT_CAUSE = "payout:"


def decide_pay_out(scope: Scope, command: PayOutBoard, at_ms: int) -> list[Fact]:
    """Pays out, or refuses: no such board or window, prizes that make no sense, a window that is not frozen, paid out
    before, too many winners, in this order."""
    settings = scope.tenant.settings
    terms = terms_of(command.board, settings.boards)
    if terms is None:
        return [_refused(command, BOARD_UNKNOWN, f"no board {command.board!r}", at_ms)]
    if not 1 <= len(command.prizes) <= PRIZES_MAX or not all(0 < one <= POINTS_PER_ENTRY_MAX for one in command.prizes):
        detail = f"prizes are 1 to {PRIZES_MAX}, of 1 to {POINTS_PER_ENTRY_MAX} points each"
        return [_refused(command, TERMS_INVALID, detail, at_ms)]
    try:
        frozen_ms = _frozen_ms(scope, settings, command.window)
    except NoWindow as error:
        return [_refused(command, BOARD_UNKNOWN, str(error), at_ms)]
    if not frozen_ms:
        return [_refused(command, WINDOW_OPEN, "set when the event's doors close", at_ms)]
    if at_ms < frozen_ms:
        return [_refused(command, WINDOW_OPEN, f"the window is frozen from {_written(frozen_ms)} on", at_ms)]
    payout: Payout | None = scope.find("payout", payout_id_of(command.tenant_id, command.board, command.window))
    if payout is not None:
        return [_refused(command, ALREADY_PAID_OUT, f"it was paid out at {_written(payout.paid_at_ms)}", at_ms)]
    board: Board = scope.board(board_key(terms.metric, command.window))
    view = board.view(command.board, command.window, PAID_CARDS_MAX + 1, 0, "", is_shared=terms.is_shared)
    rows = [row for row in view.rows if row.rank <= len(command.prizes)]
    if len(rows) > PAID_CARDS_MAX:
        return [_refused(command, TERMS_INVALID, f"more than {PAID_CARDS_MAX} cards share these ranks", at_ms)]
    return _paid(scope, command, rows, at_ms)


def _frozen_ms(scope: Scope, settings: TenantSettings, window: str) -> int:
    """When the window was or is frozen, 0: never. Raises `NoWindow` for one that has no end."""
    event_id = event_of_window(window)
    if event_id:
        closed_ms: int = scope.need("event", event_id).terms.doors_close_ms
        return closed_ms + settings.board_grace_ms if closed_ms else 0
    _, last = days_of(window)
    return start_of_day_ms(next_day(last), settings.time_zone) + settings.board_grace_ms


def _paid(scope: Scope, command: PayOutBoard, rows: Sequence[BoardRow], at_ms: int) -> list[Fact]:
    cards: list[Card] = scope.find_all([("card", row.card_id) for row in rows])
    winners: list[Winner] = []
    facts: list[Fact] = []
    draft: LedgerDraft | None = None
    cause = PAYOUT_CAUSE + payout_id_of(command.tenant_id, command.board, command.window)
    for row, card in zip(rows, cards, strict=True):
        prize = command.prizes[row.rank - 1]
        if card.state != "active" or card.balance + prize > BALANCE_MAX:
            winners.append(Winner(row.rank, row.card_id, row.score, 0))
            continue
        winners.append(Winner(row.rank, row.card_id, row.score, prize))
        draft = LedgerDraft(scope.tenant, card, at_ms, before=draft)
        draft.settle()
        draft.post("award", prize, cause, note=command.note, earned=prize, earned_day=draft.day)
        facts += draft.finished()
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms)
    return [BoardPaidOut(*head, command.board, command.window, tuple(winners), command.note), *facts]


def _written(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


def _refused(command: PayOutBoard, reason: str, detail: str, at_ms: int) -> CommandRefused:
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms)
    return CommandRefused(*head, type(command).__name__, command.board, reason, detail)
