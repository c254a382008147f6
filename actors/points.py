"""Deciding points commands: award, redeem, reverse, confirm; with account "wallet" top-up and payment. Pure; refusals
come back as facts.

What begins something needs an active card. What ends or undoes something that was begun (reversal, confirmation, the
end of a hold) does not: nobody loses points because their card was lost meanwhile.
"""

from __future__ import annotations

from actors.birthdays import birthday_woken
from actors.card import Card
from actors.commands import AwardPoints, RedeemPoints, ReversePoints
from actors.coupon_grants import Grants, withdrawn
from actors.event import Event
from actors.facts import CommandRefused, Fact, PointsPosted
from actors.freezing import is_event_frozen
from actors.ledger import BALANCE_MAX, COUPON_CAUSE, LedgerDraft
from actors.points_commands import CapturePoints, ConfirmPoints, HoldPoints, ReleasePoints, TransferPoints
from actors.refusals import (
    ALREADY_REVERSED,
    AMOUNT_INVALID,
    CARD_NOT_ACTIVE,
    ENTRY_NOT_PENDING,
    ENTRY_NOT_REVERSIBLE,
    ENTRY_UNKNOWN,
    EXPIRY_INVALID,
    INSUFFICIENT_FUNDS,
    INSUFFICIENT_POINTS,
    LIMIT_REACHED,
    PENDING_INVALID,
)
from actors.rule_run import RuleRun, units_returned
from actors.rulebook import Rulebook
from actors.scope import Scope
from actors.tenant import Tenant
from actors.terms import FAR_MS, LOTS_PER_CARD_MAX, POINTS_PER_ENTRY_MAX, POOL, Account, EntryKind, Lot, Taking
from rules.language import Trigger
from rules.moment import PointsView, TopUpView

PointsCommand = (
    AwardPoints
    | RedeemPoints
    | ReversePoints
    | ConfirmPoints
    | HoldPoints
    | CapturePoints
    | ReleasePoints
    | TransferPoints
)
TRIGGER_OF: dict[EntryKind, Trigger] = {
    "award": "points_earned",
    "top_up": "top_up",
    "redeem": "points_spent",
    "pay": "points_spent",
    "capture": "points_spent",
}
REVERSIBLE: frozenset[EntryKind] = frozenset({"award", "redeem", "capture", "top_up", "pay"})


def decide_award(scope: Scope, command: AwardPoints, at_ms: int) -> list[Fact]:
    """Posts an award or a top-up, or refuses: amount, expiry, pending, card's state, balance limit, in this order."""
    tenant, card = scope.tenant, scope.card
    if not 1 <= command.amount <= POINTS_PER_ENTRY_MAX:
        return [refused(command, AMOUNT_INVALID, f"amount must be 1 to {POINTS_PER_ENTRY_MAX}", at_ms)]
    if command.account == "wallet":
        return _top_up(scope, command, at_ms)
    expires_at_ms, pending_until_ms = command.expires_at_ms, command.pending_until_ms
    if expires_at_ms and expires_at_ms <= at_ms:
        return [refused(command, EXPIRY_INVALID, "expires_at must lie in the future", at_ms)]
    if pending_until_ms and pending_until_ms != FAR_MS and not at_ms < pending_until_ms < (expires_at_ms or FAR_MS):
        detail = "pending_until must lie in the future, and before expires_at"
        return [refused(command, PENDING_INVALID, detail, at_ms)]
    if card.state != "active":
        return [refused(command, CARD_NOT_ACTIVE, f"the card is {card.state}", at_ms)]
    if card.balance + command.amount > BALANCE_MAX:
        return [refused(command, LIMIT_REACHED, f"a balance cannot exceed {BALANCE_MAX}", at_ms)]
    has_lot = bool(expires_at_ms or pending_until_ms)
    if has_lot and len(card.lots) >= LOTS_PER_CARD_MAX:
        detail = f"a card has at most {LOTS_PER_CARD_MAX} awards that expire; award without expiry, or redeem some"
        return [refused(command, LIMIT_REACHED, detail, at_ms)]
    draft = LedgerDraft(tenant, card, at_ms)
    draft.settle()
    own = (Lot(draft.next_seq, command.amount, expires_at_ms or FAR_MS, pending_until_ms),) if has_lot else ()
    posted = draft.post(
        "award",
        command.amount,
        "request",
        request_id=command.request_id,
        fingerprint=command.fingerprint,
        note=command.note,
        earned=command.amount,
        earned_day=draft.day,
        # The award's own lot first: reversals look for it there.
        lots=(*own, *draft.matured()),
    )
    return with_rules(scope, card, draft, posted, at_ms)


def _top_up(scope: Scope, command: AwardPoints, at_ms: int) -> list[Fact]:
    tenant, card = scope.tenant, scope.card
    if command.expires_at_ms or command.pending_until_ms:
        return [refused(command, EXPIRY_INVALID, "money neither expires nor is pending", at_ms)]
    if card.state != "active":
        return [refused(command, CARD_NOT_ACTIVE, f"the card is {card.state}", at_ms)]
    if card.wallet + command.amount > BALANCE_MAX:
        return [refused(command, LIMIT_REACHED, f"a balance cannot exceed {BALANCE_MAX}", at_ms)]
    draft = LedgerDraft(tenant, card, at_ms)
    draft.settle()
    posted = draft.post(
        "top_up",
        command.amount,
        "request",
        request_id=command.request_id,
        fingerprint=command.fingerprint,
        note=command.note,
        account="wallet",
    )
    return with_rules(scope, card, draft, posted, at_ms)


def with_rules(scope: Scope, card: Card, draft: LedgerDraft, posted: PointsPosted, at_ms: int) -> list[Fact]:
    """A posting that somebody asked for, with what rules make of it. What ends with a card that is not active moves no
    rule."""
    tenant = scope.tenant
    rules = tenant.rulebook
    trigger = TRIGGER_OF[posted.kind]
    if not rules.rules or card.state != "active" or not _hears(rules, posted.kind, trigger):
        return draft.finished()
    run = RuleRun(tenant, card, at_ms, f"entry:{posted.entry_seq}", draft=draft, grants=Grants(scope, at_ms))
    amount = abs(posted.amount)
    if trigger == "top_up":
        run.happens(trigger, top_up=TopUpView(amount))
    else:
        run.happens(trigger, points=PointsView(amount, posted.account))
    return run.finished_with(posted)


def _hears(rules: Rulebook, kind: EntryKind, trigger: Trigger) -> bool:
    """Whether a posting may move a rule: itself, or by the rise that points lead to."""
    listens_to = rules.compiled.listens_to
    return listens_to(trigger) or (kind == "award" and listens_to("tier_changed"))


def decide_redeem(scope: Scope, command: RedeemPoints, at_ms: int) -> list[Fact]:
    """Posts a redemption or a payment, or refuses: amount, card's state, what is available, in this order."""
    tenant, card = scope.tenant, scope.card
    if not 1 <= command.amount <= POINTS_PER_ENTRY_MAX:
        return [refused(command, AMOUNT_INVALID, f"amount must be 1 to {POINTS_PER_ENTRY_MAX}", at_ms)]
    if card.state != "active":
        return [refused(command, CARD_NOT_ACTIVE, f"the card is {card.state}", at_ms)]
    overdraft = tenant.settings.overdraft_max if command.account == "points" else 0
    short = insufficient(command, card, command.account, command.amount, overdraft, at_ms)
    if short:
        return short
    draft = LedgerDraft(tenant, card, at_ms)
    draft.settle()
    lots, takings = taken(draft, command.account, command.amount)
    posted = draft.post(
        "redeem" if command.account == "points" else "pay",
        -command.amount,
        "request",
        request_id=command.request_id,
        fingerprint=command.fingerprint,
        note=command.note,
        lots=lots,
        takings=takings,
        account=command.account,
    )
    return with_rules(scope, card, draft, posted, at_ms)


def insufficient(
    command: PointsCommand, card: Card, account: Account, amount: int, overdraft: int, at_ms: int
) -> list[Fact]:
    """The refusal of what is more than available, none where it is not."""
    if account == "points":
        available = card.available(at_ms)
        reason, detail = INSUFFICIENT_POINTS, f"{available} points are available"
    else:
        available = card.wallet_available(at_ms)
        reason, detail = INSUFFICIENT_FUNDS, f"{available} are available"
    return [refused(command, reason, detail, at_ms)] if amount > available + overdraft else []


def taken(draft: LedgerDraft, account: Account, amount: int) -> tuple[tuple[Lot, ...], tuple[Taking, ...]]:
    """The lots changed and the takings, where so much is taken; a wallet has no lots."""
    return draft.take(amount) if account == "points" else ((), (Taking(POOL, amount),))


def decide_reverse(scope: Scope, command: ReversePoints, at_ms: int) -> list[Fact]:
    """Posts a reversal, or refuses: the entry unknown, of a kind that cannot be reversed, reversed already, in this
    order."""
    tenant, card = scope.tenant, scope.card
    entry = None
    if 1 <= command.entry_seq <= card.entry_count:
        entry = scope.ledger_entry(card.card_id, command.entry_seq)
    if entry is None:
        return [refused(command, ENTRY_UNKNOWN, f"the card has no ledger entry {command.entry_seq}", at_ms)]
    original = entry.fact
    if original.kind not in REVERSIBLE:
        return [refused(command, ENTRY_NOT_REVERSIBLE, f"entry {command.entry_seq} is of kind {original.kind}", at_ms)]
    if original.cause.startswith(COUPON_CAUSE):
        detail = f"entry {command.entry_seq} belongs to a coupon's redemption; roll that back"
        return [refused(command, ENTRY_NOT_REVERSIBLE, detail, at_ms)]
    if entry.reversed_by:
        return [refused(command, ALREADY_REVERSED, f"entry {command.entry_seq} was reversed before", at_ms)]
    draft = LedgerDraft(tenant, card, at_ms)
    draft.settle()
    if original.kind in ("award", "top_up"):
        # The event at which it was earned; its score goes down, too.
        event = scope.find("event", original.event_id) if original.event_id else None
        take_back(
            tenant,
            draft,
            original,
            event_score(tenant, event, card.card_id, at_ms) if event is not None else None,
            request_id=command.request_id,
            fingerprint=command.fingerprint,
            note=command.note,
        )
    else:
        lots, takings = draft.give_back(original, tenant.settings.lapsed_grace_ms)
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
            account=original.account,
        )
        # What came back to a lot that has lapsed meanwhile lapses at once, where there is no grace.
        draft.settle()
    if not original.rules:
        return draft.finished()
    cause = f"entry:{original.entry_seq}"
    given = sum(units.points for units in original.rules)
    take_back_awards(scope, card, draft, cause, original.entry_seq + 1, given)
    returned = units_returned(tenant, card, original.rules, cause, at_ms)
    return draft.finished([*returned, *withdrawn(scope, original.rules, cause, at_ms)])


def take_back_awards(
    scope: Scope,
    card: Card,
    draft: LedgerDraft,
    cause: str,
    entry_seq: int,
    given: int,
    event_earned: int | None = None,
) -> None:
    """Reverses the awards of one cause, `given` points in all, that follow each other from `entry_seq` on; but for what
    was reversed before. `event_earned` is the card's score at the event where they were earned, None: it stays."""
    while given > 0:
        entry = scope.ledger_entry(card.card_id, entry_seq)
        assert entry is not None, "an award is in the ledger"
        if entry.fact.cause == cause:
            given -= entry.fact.amount
            if not entry.reversed_by:
                take_back(scope.tenant, draft, entry.fact, event_earned)
                if event_earned is not None:
                    event_earned -= entry.fact.amount
        entry_seq += 1


def decide_confirm(scope: Scope, command: ConfirmPoints, at_ms: int) -> list[Fact]:
    """Makes pending points spendable, or refuses: the entry unknown, not pending (any more), in this order."""
    card = scope.card
    if not 1 <= command.entry_seq <= card.entry_count:
        return [refused(command, ENTRY_UNKNOWN, f"the card has no ledger entry {command.entry_seq}", at_ms)]
    lot = next((lot for lot in card.lots if lot.lot == command.entry_seq), None)
    if lot is None or lot.available_from_ms <= at_ms or lot.expires_at_ms <= at_ms:
        return [refused(command, ENTRY_NOT_PENDING, f"entry {command.entry_seq} has no pending points", at_ms)]
    draft = LedgerDraft(scope.tenant, card, at_ms)
    draft.settle()
    # Points without expiry are the pool's from now on.
    remaining = 0 if lot.expires_at_ms == FAR_MS else lot.remaining
    draft.post(
        "confirm",
        0,
        f"confirm:{command.entry_seq}",
        request_id=command.request_id,
        fingerprint=command.fingerprint,
        note=command.note,
        lots=(Lot(lot.lot, remaining, lot.expires_at_ms),),
    )
    return draft.finished()


def decide_wake_card(scope: Scope, card: Card, at_ms: int) -> list[Fact]:
    """What has fallen due is posted, and the alarm set to what comes next."""
    if 0 < card.seldom.birthday_due_ms <= at_ms:
        return birthday_woken(scope, card, at_ms)
    draft = LedgerDraft(scope.tenant, card, at_ms)
    draft.settle()
    return draft.woken()


def take_back(
    tenant: Tenant,
    draft: LedgerDraft,
    original: PointsPosted,
    event_earned: int | None,
    *,
    request_id: str = "",
    fingerprint: bytes = b"",
    note: str = "",
) -> None:
    """Reverses an award or a top-up: takes what may be taken, and says what is short. `event_earned` is the card's
    score at the award's event before that, None: there is none, or it is frozen."""
    lots: tuple[Lot, ...]
    takings: tuple[Taking, ...]
    if original.account == "points":
        taken = max(0, min(original.amount, draft.balance - draft.held + tenant.settings.overdraft_max))
        own_lot = original.entry_seq if original.lots and original.lots[0].lot == original.entry_seq else POOL
        lots, takings = draft.take(taken, first=own_lot, is_reversal=True)
        earned = -original.amount
    else:
        in_holds = sum(hold.held for hold in draft.holds.values() if hold.account == "wallet")
        taken = max(0, min(original.amount, draft.wallet - in_holds))
        lots, takings, earned = (), (Taking(POOL, taken),) if taken else (), 0
    draft.post(
        "reverse",
        -taken,
        f"reversal:{original.entry_seq}",
        request_id=request_id,
        fingerprint=fingerprint,
        note=note,
        event_id=original.event_id if event_earned is not None else "",
        earned=earned,
        earned_day=original.day,
        reversed_on=original.earned_on.day if original.earned_on is not None else 0,
        event_earned_after=event_earned - original.amount if event_earned is not None and original.event_id else 0,
        lots=lots,
        takings=takings,
        reverses=original.entry_seq,
        short_by=original.amount - taken,
        account=original.account,
    )


def event_score(tenant: Tenant, event: Event, card_id: str, at_ms: int) -> int | None:
    """What a card has at an event, None where the event's window is frozen: nothing takes it back then."""
    return None if is_event_frozen(tenant.settings, event.terms, at_ms) else event.attendance[card_id].earned


def refused(command: PointsCommand, reason: str, detail: str, at_ms: int) -> CommandRefused:
    """The refusal of a command about a card."""
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
