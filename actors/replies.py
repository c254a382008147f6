"""What the engine answers.

`Done` carries the fact that a command led to (a refusal is a fact too: `ScanJudged` with a reason, `CommandRefused`).
`Failed` is not an outcome: either the message can have none (`id_reused`, something unknown), or it was not answered
in time, and only sending it again under the same id tells whether it had one. Its code is from `actors.refusals`.
Everything in a reply is durable when it leaves the partition.
"""

from __future__ import annotations

import msgspec

from actors.board_facts import Winner
from actors.coupon_terms import CouponCounts, CouponTerms, CouponValue, RedemptionState
from actors.facts import Fact
from actors.rule_facts import RuleFailed
from actors.terms import EventTerms, Hold, Lot, TenantSettings, TierTerms
from rules.language import RuleDefinition


class Done(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The command's outcome. `replayed`: it was decided before, under the same request id. `position` is the fact's
    place in the partition's journal (`actors.ids.position_of`)."""

    fact: Fact
    replayed: bool = False
    position: int = 0


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """No outcome. With `retry_after_ms` > 0 the same message may be sent again after that time; 0 means that it
    would fail again, and had no effect."""

    code: str
    detail: str
    retry_after_ms: int = 0


class TenantView(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """`cards` is how many of its cards count towards the plan."""

    tenant_id: str
    name: str
    settings: TenantSettings
    cards: int = 0


class VisitCounts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A card's visits (`actors.visits`) as of the time of asking; of `streak` and `best_streak` days in a row."""

    ever: int = 0
    today: int = 0
    this_week: int = 0
    this_month: int = 0
    streak: int = 0
    best_streak: int = 0


class CardView(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """`available` is what can be spent at the time of asking: the balance without lots that have lapsed meanwhile or
    are pending, and without what is held. `pending` are the points that are so; `wallet` and `wallet_available` the
    same of the wallet; `holds` those that are open. `serial`, `number` and `tag_uid` are as in `actors.card.Card`."""

    tenant_id: str
    card_id: str
    member_id: str
    member_name: str
    tier: str
    state: str
    valid_from_ms: int
    valid_until_ms: int
    balance: int
    available: int
    earned: int
    entry_count: int
    lots: tuple[Lot, ...]
    pending: int = 0
    wallet: int = 0
    wallet_available: int = 0
    holds: tuple[Hold, ...] = ()
    serial: int = 0
    number: int = 0
    tag_uid: str = ""
    visits: VisitCounts = VisitCounts()


class TierView(msgspec.Struct, frozen=True, array_like=True, tag=80):
    """A card's tier as of the time of asking (`actors.tiers`). `tiers` None: it is set by hand alone, and `points`,
    those of the window, are 0. It is looked at next at `due_ms` (0: not), with `is_held` a person set it until then."""

    tenant_id: str
    card_id: str
    member_id: str
    tier: str
    points: int
    due_ms: int
    is_held: bool
    tiers: TierTerms | None


class EventView(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """`zones` are the people by zone, `session_id` the session under way."""

    tenant_id: str
    event_id: str
    terms: EventTerms
    inside: int
    admitted: int
    refused: int
    position: int
    zones: dict[str, int] = {}
    session_id: str = ""


class CouponView(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """`counts` are those of the last fact: a hold that has just lapsed may still be in them."""

    tenant_id: str
    coupon_id: str
    terms: CouponTerms
    counts: CouponCounts


class RedemptionView(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """A redemption as the last fact about it left it, at `at_ms`: a hold that has lapsed may still be "on_hold"."""

    tenant_id: str
    redemption_id: str
    coupon_id: str
    card_id: str
    bill: str
    state: RedemptionState
    hold_until_ms: int
    value: CouponValue
    points_seq: int
    at_ms: int


class PayoutView(msgspec.Struct, frozen=True, array_like=True, tag=150):
    """A window of a leaderboard that was paid out."""

    tenant_id: str
    board: str
    window: str
    paid_at_ms: int
    winners: tuple[Winner, ...]


class BoardRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`rank` counts from 1; equal scores rank by who reached them first."""

    rank: int
    card_id: str
    member_name: str
    score: int


class BoardView(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """`size` is how many cards are on the board. `around_rank` is 0 where no card was asked for or it is not on the
    board."""

    board: str
    window: str
    size: int
    rows: tuple[BoardRow, ...]
    around_rank: int = 0


class FirstSeen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The admission that another scan of the card repeats."""

    at_ms: int
    gate_id: str
    gate_name: str
    device_id: str


class ScanSummary(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line of an event's live feed. `conflict`: why an offline scanner should not have let the person in at
    `scanned_at_ms` (0: it was no such scanner); `forced`: the reason that a supervisor overrode. `first` is the other
    side of an `already_admitted`, be it reason or conflict. `is_resolved`: it was in a conflict, and is in none now."""

    scan_id: str
    at_ms: int
    admitted: bool
    reason: str
    direction: str
    card_id: str
    member_name: str
    tier: str
    gate_id: str
    device_id: str
    points_awarded: int
    gate_name: str = ""
    conflict: str = ""
    forced: str = ""
    scanned_at_ms: int = 0
    first: FirstSeen | None = None
    is_resolved: bool = False


class ConflictChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A conflict of an event's list that came about, or is in it no more (`is_resolved`). Which one it is, `scan_id`,
    `other_scan_id` ("": it is about one scan) and `reason` say together."""

    card_id: str
    scan_id: str
    other_scan_id: str
    reason: str
    is_resolved: bool


class EventFeed(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """State of topic "event:ID": the counts, and in `scans` (oldest first) the last ones, at most `FEED_SCANS_MAX` of
    `actors.live_sources`; in an update only those since the update before, and every scan with a conflict,
    `CONFLICTS_PER_UPDATE_MAX` in one update and the others in the next. `left_out` of these were too many to be kept
    and are in no update: the event's list of conflicts has them. `conflict_changes` are those of that list since the
    update before, at most as many; `must_look_up`: it may have changed beyond them (`actors.live_conflicts`)."""

    event_id: str
    name: str
    inside: int
    admitted: int
    refused: int
    capacity: int
    position: int
    scans: tuple[ScanSummary, ...]
    left_out: int = 0
    conflict_changes: tuple[ConflictChange, ...] = ()
    must_look_up: bool = False


class CardFeed(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """State of topic "card:ID". `member_id` tells whose card it is."""

    card_id: str
    member_id: str
    member_name: str
    tier: str
    state: str
    balance: int
    earned: int
    entry_count: int
    position: int


class CardMark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The state that a card has now: "suspended", "revoked", or "active" again. Credentials of a lower `serial` are not
    good any more, whatever the state."""

    card_id: str
    state: str
    serial: int = 0


class CardChanges(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """What topic "revocations" shows: the last change of every card of the tenant whose state or serial changed at a
    position above `since` and up to `position`, in that order. Whoever does not have all up to `since` finds it in
    Postgres, once that holds the partition up to `since`; so a snapshot tells a position and no changes."""

    since: int
    position: int
    changes: tuple[CardMark, ...] = ()


TopicData = EventFeed | BoardView | CardFeed | CardChanges


class Update(msgspec.Struct, frozen=True, array_like=True):
    """One step of a live topic. Offsets grow by one within an epoch."""

    offset: int
    data: TopicData


class TopicView(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Where a subscriber stands: either `snapshot` (state at `offset`), or the `missed` updates up to `offset` (then
    `recovered` is true)."""

    topic: str
    epoch: int
    offset: int
    recovered: bool
    snapshot: TopicData | None
    missed: tuple[Update, ...] = ()


class RulesView(msgspec.Struct, frozen=True, array_like=True, tag=70):
    """An organisation's rules by their ids, the points that each gave so far, and how it last failed."""

    rules: tuple[RuleDefinition, ...]
    points: dict[str, int]
    failures: dict[str, RuleFailed] = {}


class Deferred(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """Not decided yet: something has to be loaded first. The batch's `ticket` fetches it."""


Reply = (
    Done
    | Failed
    | TenantView
    | CardView
    | TierView
    | EventView
    | BoardView
    | TopicView
    | RulesView
    | Deferred
    | CouponView
    | RedemptionView
    | PayoutView
)
"""Any answer; a batch of messages is answered with one Reply each, in the order of the messages."""


class Digest(msgspec.Struct, frozen=True, array_like=True):
    """What is published of a live topic on channel "mv:live:<tenant>:<topic>"."""

    tenant_id: str
    topic: str
    epoch: int
    update: Update
