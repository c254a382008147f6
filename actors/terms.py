"""The value types that commands, facts and states share: settings of a tenant, terms of an event, lots and takings.

Rules:
1. Everything here ends up in the journal: fields are only ever added at the end, with a default.
2. Times are integer milliseconds since 1970 (0 = not set), amounts integers in the smallest unit.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal, NamedTuple

import msgspec

from actors.door_condition import DoorCondition
from actors.schedule import Schedule
from rules.model import Rule

Direction = Literal["entry", "exit"]
Reentry = Literal["none", "after_exit", "multiple"]
EventState = Literal["open", "closed", "cancelled"]
CardState = Literal["active", "suspended", "revoked"]
Tier = Literal["bronze", "silver", "gold", "platinum", "diamond"]
EntryKind = Literal[
    "award",
    "redeem",
    "reverse",
    "expire",
    "top_up",
    "pay",
    "hold",
    "capture",
    "release",
    "lapse",
    "confirm",
    "transfer",
]
# What a card has: points, and a wallet of money in the smallest unit (VND).
Account = Literal["points", "wallet"]
TierReason = Literal["manual", "rule", "points", "review", "until"]
TierPolicy = Literal["keep", "one_down", "by_points"]
Plan = Literal["free", "premium"]
# What a leaderboard counts.
Metric = Literal["points", "visits", "streak"]

# Cards that an organisation on the Free plan has at a time; those that are revoked do not count.
CARDS_PER_FREE_TENANT_MAX = 10
CAPACITY_MAX = 10_000_000
GATES_PER_EVENT_MAX = 500
ZONES_PER_EVENT_MAX = 50
SESSIONS_PER_EVENT_MAX = 200
QUESTIONS_PER_EVENT_MAX = 20
LISTED_PER_EVENT_MAX = 100_000
LISTED_PER_CHANGE_MAX = 1_000
# How long after its admission a device may annul it: the turnstile did not turn.
ANNUL_MS_MAX = 15 * 60_000
# No local time: nobody is sent out.
NEVER = -1
# How often a card can be issued again: its credential has four bytes for it.
CARD_SERIAL_MAX = 2**32 - 1
POINTS_PER_ENTRY_MAX = 1_000_000_000
LOTS_PER_CARD_MAX = 500
BOARDS_PER_TENANT_MAX = 20
# How long after their end leaderboards' windows still take what is told late: usually, and at most.
BOARD_GRACE_MS = 48 * 3_600_000
BOARD_GRACE_MS_MAX = 144 * 3_600_000
# Two years: so many days' sums a card remembers at most.
TIER_WINDOW_DAYS_MAX = 732
POINTS_PER_TIER_MAX = 10**12
TIER_NAME_CHARS_MAX = 40
# Holds that are open at a time.
HOLDS_PER_CARD_MAX = 50
HOLD_MS_DEFAULT = 15 * 60_000
HOLD_MS_MAX = 30 * 24 * 3_600_000
LAPSED_GRACE_MS_MAX = 365 * 24 * 3_600_000
# A transfer arrives in as many entries as it took points of different expiry.
TRANSFER_ENTRIES_MAX = 20
# The end of the year 9999: a lot that expires then never does, one that can be spent from then on must be confirmed.
FAR_MS = 253_402_300_799_999
# The lot that holds all points without expiry; which of them is spent makes no difference, so they are one lot.
POOL = 0


class TierLevel(msgspec.Struct, frozen=True, array_like=True):
    """A tier that is reached with so many points; `name` is what the organisation calls it ("": as we do)."""

    tier: Tier
    points: int
    name: str = ""


class TierTerms(msgspec.Struct, frozen=True, array_like=True):
    """How cards come into tiers (`actors.tiers`). `levels` are in order, the lowest begins at 0 points."""

    levels: tuple[TierLevel, ...]
    window_days: int = 365
    policy: TierPolicy = "by_points"
    review: Schedule = Schedule(0, 0, month=1, day=1)


class EarnedDay(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The points that a card earned on a day (yyyymmdd, tenant's time zone), without awards that were reversed."""

    day: int
    points: int


class BoardTerms(msgspec.Struct, frozen=True, array_like=True):
    """A leaderboard of the organisation's own: what it counts, and whether cards of one score share a rank or the one
    that reached it first comes first."""

    name: str
    metric: Metric
    is_shared: bool = False


class BoardPart(NamedTuple):
    """What scores on boards are made of: a day (yyyymmdd) and an event at which a card came."""

    day: int
    event_id: str


class TenantSettings(msgspec.Struct, frozen=True, array_like=True):
    """`overdraft_max` is how far below zero a points balance may go (0 = never); a wallet never does. `time_zone` is an
    IANA name. Organisations from before there were plans are on "premium". `lapsed_grace_ms`: points that a reversal
    gives back though they have lapsed meanwhile live so much longer. `tiers` None: they are set by hand alone.
    `boards` are those that it has besides everybody's, each with a name of its own; the windows of all are frozen
    `board_grace_ms` after their end (`actors.freezing`)."""

    time_zone: str = "UTC"
    overdraft_max: int = 0
    rules: tuple[Rule, ...] = ()
    plan: Plan = "premium"
    lapsed_grace_ms: int = 0
    tiers: TierTerms | None = None
    boards: tuple[BoardTerms, ...] = ()
    board_grace_ms: int = BOARD_GRACE_MS


class Gate(msgspec.Struct, frozen=True, array_like=True):
    """A door of an event. Whoever enters by it is in zone `zone_id` ("": in none)."""

    gate_id: str
    name: str
    is_open: bool = True
    zone_id: str = ""


class Zone(msgspec.Struct, frozen=True, array_like=True):
    """A part of the venue. A person is in one zone at most; `capacity` bounds the people in it (0 = no bound)."""

    zone_id: str
    name: str
    capacity: int = 0


class Session(msgspec.Struct, frozen=True, array_like=True):
    """A part of an event (a day, a show) that is attended for itself: from `doors_open_ms` until before
    `doors_close_ms`. Sessions are in the order of their times and do not overlap."""

    session_id: str
    name: str
    doors_open_ms: int
    doors_close_ms: int


class Admission(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """Who may come in: cards of these tiers (none named: of any), with `list_only` those on the event's list, and those
    for which `condition` is true ("": all; CEL as of `actors.door_condition`). `message` is what the scanner shows to
    others."""

    tiers: tuple[Tier, ...] = ()
    list_only: bool = False
    message: str = ""
    condition: str = ""

    @cached_property
    def compiled(self) -> DoorCondition:
        """The condition, compiled when it is first asked and kept with it. Equal texts compile to the same."""
        return DoorCondition(self.condition)


class Question(msgspec.Struct, frozen=True, array_like=True):
    """What is asked of a person at the first check-in; free text where there are no `choices`."""

    question_id: str
    text: str
    choices: tuple[str, ...] = ()
    is_required: bool = False


class EventTerms(msgspec.Struct, frozen=True, array_like=True):
    """What holds at an event's doors. `capacity` bounds the number of people inside; `doors_*_ms` of 0 means no bound.
    `time_zone` is "" only in a command, for the tenant's. Every day at local minute `exit_all_minute` (`NEVER`: not)
    everybody who is still inside is taken to have left. `tags` are for rules and conditions to go by."""

    name: str
    capacity: int
    time_zone: str = "UTC"
    doors_open_ms: int = 0
    doors_close_ms: int = 0
    reentry: Reentry = "after_exit"
    strict_exit: bool = True
    state: EventState = "open"
    gates: tuple[Gate, ...] = ()
    zones: tuple[Zone, ...] = ()
    sessions: tuple[Session, ...] = ()
    admission: Admission = Admission()
    exit_all_minute: int = NEVER
    questions: tuple[Question, ...] = ()
    tags: tuple[str, ...] = ()


class Lot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Points of one award that expire together (`FAR_MS`: never), or are pending: what is left of them at that point of
    the ledger. They can be spent from `available_from_ms` on (0: at once, `FAR_MS`: once confirmed)."""

    lot: int
    remaining: int
    expires_at_ms: int
    available_from_ms: int = 0


class Taking(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How much an entry took from (or, when reversed, gives back to) one lot; `POOL` for points without expiry."""

    lot: int
    amount: int


class Hold(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Points or money put aside on a card, from ledger entry `hold` on until before `lapses_at_ms`. `parts` are what
    was put aside of which lot (`POOL` for points without expiry), in spending order; they make up `held`."""

    hold: int
    account: Account
    held: int
    lapses_at_ms: int
    parts: tuple[Lot, ...]
