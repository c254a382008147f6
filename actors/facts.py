"""Facts: what was decided and recorded. The journal holds these and nothing else.

Rules:
1. A fact carries every value that was decided (times, ids, resulting counts and balances); applying it reads nothing
   else.
2. Resulting values are absolute, so the projector can write rows without knowing earlier ones.
3. Released facts are never edited: fields are only ever added at the end, with a default; tags are never reused.
4. `request_id` is the id of the command that the fact answers, "" on a fact that another one caused; `fingerprint`
   is that command's (see `actors.commands.fingerprint`).
"""

from __future__ import annotations

from typing import final

import msgspec

from actors.board_facts import BoardPaidOut
from actors.card_facts import CardFact, TagEnrolled, tag_id_of
from actors.coupon_facts import CouponFact
from actors.door_facts import DoorFact
from actors.member_facts import MemberFact
from actors.profiles import NO_PROFILE, Profile
from actors.rule_facts import RuleFact, RuleUnits
from actors.schedule_facts import SchedulesMoved
from actors.terms import (
    Account,
    BoardPart,
    CardState,
    Direction,
    EarnedDay,
    EntryKind,
    EventTerms,
    Lot,
    Taking,
    TenantSettings,
    Tier,
)
from actors.visits import Visits


class TenantOpened(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """An organisation came to be."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    name: str
    settings: TenantSettings


class TenantChanged(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """An organisation's name or settings changed; both as they are from now on."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    name: str
    settings: TenantSettings


class CardIssued(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A card was issued to a member. Valid from `valid_from_ms` until before `valid_until_ms` (0 = no bound).
    `cards_after` is how many cards of the organisation count towards its plan from now on; -1 in facts from before
    there were plans, whose cards do not count. It is the organisation's card number `number` (`actors.card_numbers`
    makes sixteen digits of it); 0 in facts from before there were numbers. `profile` is what rules know of the member,
    `birthday_*` as in `actors.member_facts`; nothing of it in facts from before that was told."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    member_id: str
    member_name: str
    tier: Tier
    valid_from_ms: int = 0
    valid_until_ms: int = 0
    cards_after: int = -1
    number: int = 0
    profile: Profile = NO_PROFILE
    birthday_on: int = 0
    birthday_due_ms: int = 0


class CardStateChanged(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A card was suspended, resumed (state "active") or revoked. `cards_after` as in `CardIssued`; `serial` is that of
    its credential, unchanged."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    state: CardState
    note: str = ""
    cards_after: int = -1
    serial: int = 0


class CardHolderRenamed(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The member who holds a card has another name. Scans and ledger entries of before keep the one of their time."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    member_name: str


class EventCreated(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """An event came to be."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    event_id: str
    terms: EventTerms


class EventChanged(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """An event's terms changed (a gate was added or shut, doors moved, the event closed …); the terms from now on."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    event_id: str
    terms: EventTerms


class ScanDetails(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a scan has beyond the ordinary.

    `zone_*` is the zone that the card is in now, `left_zone_*` the one left, each with the people in it after the scan;
    with `is_move` the person was inside the event before, with `was_inside` also, but entered once more.
    `session_id`: the session it is of.

    `is_offline`: a scanner without a network had decided already, at `scanned_at_ms`; `conflict` is the reason for
    which it would have been refused. `is_latest`: no scan of the card has a later time; `is_latest_entry`: no entry.

    `tag_uid`: the NFC tag that was tapped, where it is a card's, and the last counter accepted of it (the tap's own,
    unless that was a replay).

    `forced`: the reason that `forced_by` overrode. `message` is the admission rule's own, `attention` the card's,
    `questions` those not answered yet. `condition_failure`: why the admission rule's condition had no value (a reason
    of `rules.conditions`).
    """

    zone_id: str = ""
    zone_inside: int = 0
    left_zone_id: str = ""
    left_zone_inside: int = 0
    is_move: bool = False
    session_id: str = ""
    is_offline: bool = False
    conflict: str = ""
    is_latest: bool = True
    is_latest_entry: bool = True
    forced: str = ""
    forced_by: str = ""
    message: str = ""
    attention: str = ""
    questions: tuple[str, ...] = ()
    was_inside: bool = False
    tag_uid: str = ""
    tag_counter: int = 0
    condition_failure: str = ""


@final
class ScanJudged(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """A credential was presented at a gate and judged; `reason` is "" when admitted.

    `inside`, `admitted`, `refused` are the event's counts after this scan: people inside, entries admitted, scans
    refused. `card_inside` and `card_entries` are this card's attendance after it. `first_*` (0 and "" otherwise)
    tell the admission that an `already_admitted` scan repeats. `member_*` and `tier` are "" when the card is unknown.
    `award_seq` is the first of the ledger entries that it earned, which follow each other; 0 without.
    `visits` are the card's after it, None where it leaves them as they are; `visit_day` is the day (yyyymmdd, tenant's
    time zone) of the visit that it made, 0 without. `rules` is what the rules used that it led to. `counts_as` is the
    part of boards that the visit is, where that is not its own day and event (`actors.freezing`).
    """

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    event_id: str
    card_id: str
    gate_id: str
    device_id: str
    direction: Direction
    scanned_at_ms: int
    reason: str
    member_id: str
    member_name: str
    tier: str
    inside: int
    admitted: int
    refused: int
    capacity: int
    card_inside: bool
    card_entries: int
    points_awarded: int
    points_balance: int
    first_at_ms: int = 0
    first_gate_id: str = ""
    first_device_id: str = ""
    award_seq: int = 0
    details: ScanDetails | None = None
    visits: Visits | None = None
    visit_day: int = 0
    rules: tuple[RuleUnits, ...] = ()
    counts_as: BoardPart | None = None

    @property
    def part(self) -> BoardPart:
        """Which part of boards the visit is."""
        return self.counts_as or BoardPart(self.visit_day, self.event_id)

    @property
    def tag_id(self) -> str:
        """The tag whose counter the scan tells, "" for none."""
        return tag_id_of(self.tenant_id, self.details.tag_uid) if self.details is not None else ""


@final
class PointsPosted(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """An entry of a card's ledger, of its points or of its wallet (`account`).

    `entry_seq` counts the card's entries of both accounts from 1. `amount` is signed, `balance_after` the sum of all
    entries of the account so far, `other_after` the balance of the card's other account. `lots` are the lots this entry
    changed, as they are now; `takings` what it took from which lot (positive), or gave back (negative).
    `earned*_after` are the scores: all time, on local day `day` (yyyymmdd), at the event `event_id`. `cause` is
    "request", "checkin:<scan id>", "reversal:<entry seq>", "expiry:<lot>", "hold:<entry seq>", "confirm:<entry seq>",
    "transfer-to:<card id>", "transfer-from:<card id>", "payout:<payout id>" or "coupon:<redemption id>"; `reverses` the
    entry reversed or the hold ended, 0 if none; `short_by` how much of a reversal could not be taken.

    `contra_after` is the balance of the organisation's account that the amount was drawn on (`actors.accounts`); None
    where no amount moved, and in facts from before there were such accounts. `held` is how much more (a hold's end:
    less) is put aside from now on, `due_ms` when the hold lapses. `rules` is what the rules used that it led to.
    `earned_on` is the sum of a day that the entry changes, in organisations with tiers by points (`actors.tiers`).
    """

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    member_name: str
    entry_seq: int
    kind: EntryKind
    amount: int
    balance_after: int
    cause: str
    note: str
    rule: str
    event_id: str
    day: int
    earned_after: int
    day_earned_after: int
    event_earned_after: int
    lots: tuple[Lot, ...] = ()
    takings: tuple[Taking, ...] = ()
    reverses: int = 0
    short_by: int = 0
    account: Account = "points"
    other_after: int = 0
    contra_after: int | None = None
    held: int = 0
    due_ms: int = 0
    rules: tuple[RuleUnits, ...] = ()
    earned_on: EarnedDay | None = None

    @property
    def points_after(self) -> int:
        """The balance of the card's points after this entry, whichever account it moved."""
        return self.balance_after if self.account == "points" else self.other_after

    @property
    def wallet_after(self) -> int:
        """The balance of the card's wallet after this entry."""
        return self.other_after if self.account == "points" else self.balance_after


class CommandRefused(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """A command other than a scan was refused; `reason` is from `actors.refusals`, `entity_id` what it was about."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    command: str
    entity_id: str
    reason: str
    detail: str


class AlarmSet(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """An actor (`kind`, `entity_id`) wants to be woken at `wake_ms`, 0: not at all. With `rang` it was woken just now:
    the facts after this one, up to the next that answers a request or rang, are what the time at `at_ms` led to."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    kind: str
    entity_id: str
    wake_ms: int
    rang: bool = False


Fact = (
    DoorFact
    | CardFact
    | TagEnrolled
    | RuleFact
    | MemberFact
    | SchedulesMoved
    | TenantOpened
    | TenantChanged
    | CardIssued
    | CardStateChanged
    | CardHolderRenamed
    | EventCreated
    | EventChanged
    | ScanJudged
    | PointsPosted
    | CommandRefused
    | AlarmSet
    | CouponFact
    | BoardPaidOut
)
