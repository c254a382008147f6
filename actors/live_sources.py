"""What live topics show: an event's feed, a leaderboard, a card, and which cards were suspended, resumed, revoked or
issued again.

Rules:
1. A source is fed durable facts only (`actors.live`, rule 1). One that begins with an actor as it is in memory may be
   ahead of them: it is published once they have caught up with `since_seq`.
2. `snapshot` is the whole; `update` is what changed since the update before, and is told once.
3. All memory is bounded: what no longer fits is told in another way, never silently left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Set
from operator import itemgetter
from typing import Protocol

from actors.board import Board
from actors.card import Card
from actors.card_facts import CardReissued, CardTierChanged
from actors.door_facts import ScanAnnulled
from actors.event import Event
from actors.facts import CardHolderRenamed, CardStateChanged, PointsPosted, ScanJudged
from actors.ids import position_of, seq_of
from actors.live_conflicts import HeardConflicts
from actors.replies import (
    BoardView,
    CardChanges,
    CardFeed,
    CardMark,
    ConflictChange,
    EventFeed,
    FirstSeen,
    ScanSummary,
    TopicData,
)
from actors.terms import EventTerms
from actors.windows import metric_and_window

FEED_SCANS_MAX = 20
# Conflicts of offline scans in one update, and those that wait for theirs.
CONFLICTS_PER_UPDATE_MAX = 100
CONFLICTS_WAITING_MAX = 10_000
TOP_ROWS = 10
# Changed cards in one update, and those that wait for theirs; beyond, whoever follows asks Postgres.
CHANGES_PER_UPDATE_MAX = 500
CHANGES_WAITING_MAX = 10_000


# What changes a card's feed.
CardFeedFact = CardStateChanged | CardHolderRenamed | CardTierChanged | PointsPosted


class Source(Protocol):
    """Where a topic's data comes from. `durable_seq` is that of the last entry whose facts were taken in."""

    since_seq: int

    def snapshot(self, durable_seq: int) -> TopicData:
        """The whole."""

    def update(self, durable_seq: int) -> TopicData:
        """What is new."""

    @property
    def has_more(self) -> bool:
        """Whether the last update left something for the next."""


class Feed:
    """What topic "event:ID" shows: counts and the last scans. Of ordinary scans only the last matter; of those that
    contradict others each is told, if need be by several updates, and so is each change of the list of conflicts
    (`heard`, once there is a topic to tell them to)."""

    def __init__(self, event: Event) -> None:
        self.event_id = event.event_id
        self.name = event.terms.name
        self.inside = event.inside
        self.admitted = event.admitted
        self.refused = event.refused
        self.capacity = event.terms.capacity
        self.gates = event.terms.gates
        self.position = event.position
        self.since_seq = seq_of(event.position)
        self.heard: HeardConflicts | None = None
        self.scans: deque[ScanJudged] = deque(maxlen=FEED_SCANS_MAX)
        # With their positions, by which they are told in order.
        self._fresh: deque[tuple[int, ScanJudged]] = deque(maxlen=FEED_SCANS_MAX)
        self._conflicts: deque[tuple[int, ScanJudged]] = deque()
        self._left_out = 0

    @property
    def has_more(self) -> bool:
        """See `Source`."""
        return bool(self._conflicts) or (self.heard is not None and self.heard.has_more)

    def follow(self, event: Event) -> None:
        """There is a topic from now on."""
        self.heard = HeardConflicts(event)

    def take(self, fact: ScanJudged, position: int) -> None:
        """Takes in a durable scan."""
        self.scans.append(fact)
        if self.heard is not None:
            self.heard.take(fact)
            if fact.details is None or not fact.details.conflict:
                self._fresh.append((position, fact))
            elif len(self._conflicts) < CONFLICTS_WAITING_MAX:
                self._conflicts.append((position, fact))
            else:
                self._left_out += 1
        if position <= self.position:
            return
        self.inside = fact.inside
        self.admitted = fact.admitted
        self.refused = fact.refused
        self.capacity = fact.capacity
        self.position = position

    def take_annulment(self, fact: ScanAnnulled, position: int) -> None:
        """Takes in that an admission was undone."""
        if self.heard is not None:
            self.heard.take_annulment(fact)
        if position > self.position:
            self.inside, self.admitted, self.position = fact.inside, fact.admitted, position

    def take_leaving(self, position: int) -> None:
        """Takes in that everybody left."""
        if position > self.position:
            self.inside, self.position = 0, position

    def take_terms(self, terms: EventTerms, position: int) -> None:
        """Takes in terms; those of before it began say nothing new."""
        if position > self.position:
            self.name, self.capacity, self.gates = terms.name, terms.capacity, terms.gates
            if self.heard is not None:
                self.heard.take_reentry(terms.reentry)

    def snapshot(self, durable_seq: int) -> EventFeed:
        """See `Source`."""
        return self._state(self.scans)

    def update(self, durable_seq: int) -> EventFeed:
        """See `Source`."""
        count = min(len(self._conflicts), CONFLICTS_PER_UPDATE_MAX)
        told = sorted([*(self._conflicts.popleft() for _ in range(count)), *self._fresh], key=itemgetter(0))
        self._fresh.clear()
        left_out, self._left_out = self._left_out, 0
        changes, must_look_up = self.heard.told(CONFLICTS_PER_UPDATE_MAX) if self.heard is not None else ((), False)
        return self._state((fact for _, fact in told), left_out, changes, must_look_up=must_look_up)

    def _state(
        self,
        scans: Iterable[ScanJudged],
        left_out: int = 0,
        changes: tuple[ConflictChange, ...] = (),
        *,
        must_look_up: bool = False,
    ) -> EventFeed:
        """The counts with these scans."""
        resolved = self.heard.resolved if self.heard is not None else frozenset()
        names = {gate.gate_id: gate.name for gate in self.gates}
        return EventFeed(
            self.event_id,
            self.name,
            self.inside,
            self.admitted,
            self.refused,
            self.capacity,
            self.position,
            tuple(_summary(fact, names, resolved) for fact in scans),
            left_out,
            changes,
            must_look_up,
        )


def _summary(fact: ScanJudged, gate_names: Mapping[str, str], resolved: Set[str]) -> ScanSummary:
    details = fact.details
    return ScanSummary(
        fact.request_id,
        fact.at_ms,
        not fact.reason,
        fact.reason,
        fact.direction,
        fact.card_id,
        fact.member_name,
        fact.tier,
        fact.gate_id,
        fact.device_id,
        fact.points_awarded,
        gate_names.get(fact.gate_id, ""),
        details.conflict if details is not None else "",
        details.forced if details is not None else "",
        fact.scanned_at_ms if details is not None and details.is_offline else 0,
        FirstSeen(
            fact.first_at_ms,
            fact.first_gate_id,
            gate_names.get(fact.first_gate_id, ""),
            fact.first_device_id,
        )
        if fact.first_at_ms
        else None,
        fact.request_id in resolved,
    )


class BoardSource:
    """What topic "leaderboard:BOARD[:WINDOW]" shows: the top rows. A board only ever holds what is durable."""

    since_seq = 0
    has_more = False

    def __init__(self, board: Board, key: str, name: str, *, is_shared: bool) -> None:
        """`key` is what the board is kept under, `name` what it was asked for by."""
        self.board = board
        self.key = key
        self.is_shared = is_shared
        self._name = name

    def snapshot(self, durable_seq: int) -> BoardView:
        """See `Source`."""
        _, window = metric_and_window(self.key)
        return self.board.view(self._name, window, TOP_ROWS, 0, "", is_shared=self.is_shared)

    def update(self, durable_seq: int) -> BoardView:
        """See `Source`."""
        return self.snapshot(durable_seq)


class CardSource:
    """What topic "card:ID" shows: the card's state and points."""

    has_more = False

    def __init__(self, card: Card) -> None:
        self.card_id = card.card_id
        self._member_id = card.member_id
        self._name = card.member_name
        self._tier = card.tier
        self._state: str = card.state
        self._points = (card.balance, card.earned, card.entry_count)
        self._position = card.position
        self.since_seq = seq_of(card.position)

    def take(self, fact: CardFeedFact, position: int) -> None:
        """Takes in a durable fact about the card."""
        if position <= self._position:
            return
        self._position = position
        if isinstance(fact, CardStateChanged):
            self._state = fact.state
        elif isinstance(fact, CardHolderRenamed):
            self._name = fact.member_name
        elif isinstance(fact, CardTierChanged):
            self._tier = fact.tier
        else:
            self._points = (fact.points_after, fact.earned_after, fact.entry_seq)

    def snapshot(self, durable_seq: int) -> CardFeed:
        """See `Source`."""
        whose = (self._member_id, self._name, self._tier)
        return CardFeed(self.card_id, *whose, self._state, *self._points, self._position)

    def update(self, durable_seq: int) -> CardFeed:
        """See `Source`."""
        return self.snapshot(durable_seq)


class RevocationSource:
    """What topic "revocations" shows (`actors.replies.CardChanges`). It begins with what is durable, and knows no list:
    that is in Postgres."""

    since_seq = 0

    def __init__(self, durable_seq: int) -> None:
        self._told = _position(durable_seq)
        # The last change of each card, in the order of the changes.
        self._waiting: dict[str, tuple[CardMark, int]] = {}

    @property
    def has_more(self) -> bool:
        """See `Source`."""
        return bool(self._waiting)

    def take(self, fact: CardStateChanged | CardReissued, position: int) -> None:
        """Takes in a durable change."""
        self._waiting.pop(fact.card_id, None)
        if len(self._waiting) >= CHANGES_WAITING_MAX:
            # Nobody has looked for long. The next update begins here: whoever follows finds the rest in Postgres.
            self._told = max(at for _, at in self._waiting.values())
            self._waiting.clear()
        self._waiting[fact.card_id] = (CardMark(fact.card_id, fact.state, fact.serial), position)

    def snapshot(self, durable_seq: int) -> CardChanges:
        """See `Source`."""
        return CardChanges(_position(durable_seq), _position(durable_seq))

    def update(self, durable_seq: int) -> CardChanges:
        """See `Source`."""
        since, self._told = self._told, _position(durable_seq)
        chosen = list(self._waiting.items())[:CHANGES_PER_UPDATE_MAX]
        if len(chosen) == len(self._waiting):
            self._waiting.clear()
        else:
            self._told = chosen[-1][1][1]
            for card_id, _ in chosen:
                del self._waiting[card_id]
        return CardChanges(since, self._told, tuple(mark for _, (mark, _) in chosen))


def _position(durable_seq: int) -> int:
    """The last position there can be in an entry."""
    return position_of(durable_seq + 1, 0) - 1
