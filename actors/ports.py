"""What the engine needs of storage, as protocols. Their docstrings are the contract; one conformance suite runs against
every implementation (`tests/conformance`).

An exception here says what is known: `Fenced` and `JournalFull` are certain refusals (nothing was written),
`OutcomeUnknown` leaves open whether the entry is there, `JournalGap` and `JournalCorrupt` mean the journal cannot be
continued from where the reader stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from actors.card import Card
from actors.entry import Entry, Mark
from actors.event import Event
from actors.facts import Fact, PointsPosted
from actors.kinds import Actor
from actors.tenant import Tenant


class JournalError(Exception):
    """Any failure of the journal port."""


class Fenced(JournalError):
    """Another writer opened a later epoch. Nothing was written, and this writer never will again in its epoch."""


class JournalFull(JournalError):
    """The store refused for want of memory or disk. Nothing was written; the same append may be tried later."""


class OutcomeUnknown(JournalError):
    """The connection failed or timed out: the entry may be there or not. Only reading the tail tells."""


class JournalGap(JournalError):
    """The entry after the cursor is no longer there (trimmed): read Postgres' position again and start from it."""


class JournalCorrupt(JournalError):
    """Fence, tail or entry contradict each other. The partition must halt; nothing is repaired by itself."""


class UnsafeJournal(JournalError):
    """The store's durability settings would lose acknowledged writes; the message names each setting and its value."""


class Journal(Protocol):
    """The write-ahead journal: one ordered, fenced, durable stream of entries per partition."""

    async def check_settings(self) -> None:
        """Raises `UnsafeJournal` unless an append that returned survives kill -9 and power loss of the store."""

    async def tail(self, partition: int) -> Mark:
        """The last entry's place. Raises `JournalCorrupt` when stream and fence disagree, `OutcomeUnknown` when
        away."""

    async def tail_seqs(self, partitions: Sequence[int]) -> Sequence[int]:
        """The seqs of the tails, as they are without the check of `tail`: one question for who waits for news of many
        partitions. Raises `OutcomeUnknown` when away."""

    async def open(self, partition: int, expected_epoch: int | None, at_ms: int) -> Entry:
        """Appends, atomically, the first entry (no facts) of epoch tail.epoch + 1 and returns it; from then on no
        entry of an older epoch can be written. With `expected_epoch`, only if the tail's epoch is that one, else
        `Fenced`."""

    async def append(self, partition: int, entry: Entry, previous: bytes) -> int:
        """Writes `entry` durably (fsynced before it returns) if its epoch is the open one, its seq follows the
        tail's and `previous` is the tail's checksum; returns the projected seq last noted (0 if none). Calls made in
        order on one partition are executed in that order, so several may be under way: if one fails, those after it
        fail too, until the failed one is tried again or a new epoch is opened. Raises `Fenced`, `JournalFull`,
        `JournalCorrupt` (not contiguous), `OutcomeUnknown`, or `UnsafeJournal` when a new connection finds the settings
        unsafe (nothing was written). A payload over `ENTRY_PAYLOAD_BYTES_MAX` is a ValueError."""

    async def read(self, partition: int, after: Mark, limit: int) -> Sequence[Entry]:
        """At most `limit` entries in order, starting with seq after.seq + 1; empty when the tail is at `after`. Raises
        `JournalGap` when that entry has been trimmed, `JournalCorrupt` when the tail lies before `after` (something
        that was read is gone) or the entries are not contiguous. Checksums are the caller's to verify."""

    async def trim(self, partition: int, projected: Mark) -> None:
        """Drops the entries before `projected`; that entry itself stays as the anchor of the chain. Never by length.
        Nothing happens if that was done already; `JournalCorrupt` if the entry is not in the journal and never was."""

    async def note_projected(self, partition: int, projected_seq: int) -> None:
        """Leaves a hint for the writer of how far Postgres is; it only ever grows. A hint: Postgres is the truth."""

    async def projected_hint(self, partition: int) -> int:
        """The hint last left by `note_projected`, 0 if none."""

    async def close(self) -> None:
        """Gives back connections."""


# Keys of things to load: always the tenant first, so that no load can cross tenants.
TenantCard = tuple[str, str]
TenantEvent = tuple[str, str]
TenantRequest = tuple[str, str]
TenantLedgerEntry = tuple[str, str, int]
TenantBoard = tuple[str, str]
# Tenant, the id of a card, until when cards were issued, and how many of those after it.
TenantWalk = tuple[str, str, int, int]
# Kind, tenant and id, of an actor that is neither tenant nor card nor event.
OtherActor = tuple[str, str, str]


class LoadRequest(msgspec.Struct, frozen=True):
    """Everything a partition wants to know at once. Board keys are those of `actors.windows`; ledger entries are
    (tenant, card, entry_seq). `alarms_until_ms` above 0 asks for at most `alarms_max` actors of this partition whose
    alarm is set to that time or before, the longest overdue first. A walk asks for the ids of so many of the tenant's
    cards, the next after an id, in their order."""

    tenants: tuple[str, ...] = ()
    cards: tuple[TenantCard, ...] = ()
    events: tuple[TenantEvent, ...] = ()
    requests: tuple[TenantRequest, ...] = ()
    ledger_entries: tuple[TenantLedgerEntry, ...] = ()
    boards: tuple[TenantBoard, ...] = ()
    others: tuple[OtherActor, ...] = ()
    alarms_until_ms: int = 0
    alarms_max: int = 0
    walks: tuple[TenantWalk, ...] = ()


class LedgerEntry(msgspec.Struct, frozen=True):
    """A ledger entry as a reversal or a hold's end needs it: the fact itself, and the kind of the entry that already
    reverses it or ended it, "" for none."""

    fact: PointsPosted
    reversed_by: str = ""


class BoardScore(msgspec.Struct, frozen=True, gc=False):
    """A card's score on a board, and the position at which it was reached; above zero, but on boards of parts
    (`actors.board.PartsBoard`), where it is that of the part and not zero."""

    card_id: str
    member_name: str
    score: int
    reached: int
    day: int = 0
    event_id: str = ""


class Alarm(msgspec.Struct, frozen=True, order=True):
    """An actor that wants to be woken at `wake_ms`."""

    wake_ms: int
    tenant_id: str
    kind: str
    entity_id: str


class Loaded(msgspec.Struct, frozen=True):
    """What was found, all from one snapshot in which Postgres held the partition up to `projected`. What is absent
    does not exist (as of `projected`). `requests` maps to the fact that answered the request and its position."""

    projected: Mark
    tenants: dict[str, Tenant] = msgspec.field(default_factory=dict)
    cards: dict[TenantCard, Card] = msgspec.field(default_factory=dict)
    events: dict[TenantEvent, Event] = msgspec.field(default_factory=dict)
    requests: dict[TenantRequest, tuple[Fact, int]] = msgspec.field(default_factory=dict)
    ledger_entries: dict[TenantLedgerEntry, LedgerEntry] = msgspec.field(default_factory=dict)
    boards: dict[TenantBoard, list[BoardScore]] = msgspec.field(default_factory=dict)
    others: dict[OtherActor, Actor] = msgspec.field(default_factory=dict)
    alarms: tuple[Alarm, ...] = ()
    walks: dict[TenantWalk, tuple[str, ...]] = msgspec.field(default_factory=dict)


class StoreUnavailable(Exception):
    """Postgres did not answer. Nothing is known; try again."""


class EntityStore(Protocol):
    """What the projector has written, for reading back."""

    async def position(self, partition: int) -> Mark:
        """How far Postgres holds the partition (all zero: nothing yet). Raises `StoreUnavailable`."""

    async def claims(self, partition: int) -> dict[str, int]:
        """For each tenant whose request ids have been ahead of the clock: the latest time they claimed
        (`actors.ids.claimed_ahead_ms`), over all that Postgres holds. Raises `StoreUnavailable`."""

    async def load(self, partition: int, request: LoadRequest) -> Loaded:
        """Reads what is asked in one snapshot, from the primary. Raises `StoreUnavailable`."""
