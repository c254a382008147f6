"""The entity store in memory: the model of what Postgres holds once the projector has been there.

For unit tests, the simulator and tools in one process. It knows nothing of rows: states come from `storage.replay`, so
that the conformance suite compares two ways to the same answer. No call awaits anything, so every call is atomic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy, deepcopy

from actors.card import Card
from actors.codec import decode_facts
from actors.entry import Entry, Mark
from actors.event import Event
from actors.facts import AlarmSet, Fact, PointsPosted
from actors.ids import claimed_ahead_ms, position_of
from actors.ports import (
    Alarm,
    BoardScore,
    LedgerEntry,
    Loaded,
    LoadRequest,
    TenantLedgerEntry,
    TenantRequest,
)
from actors.windows import ALL_WINDOW, EVENT_WINDOW, days_of
from storage.replay import WorldState


class _Projected:
    """One partition: where it stands, and what is there."""

    def __init__(self) -> None:
        self.mark = Mark()
        self.world = WorldState()
        self.requests: dict[TenantRequest, tuple[Fact, int]] = {}
        self.claims: dict[str, int] = {}
        self.ledger: dict[TenantLedgerEntry, PointsPosted] = {}
        # By the entry that is reversed: the kind of the one that does it.
        self.reversed: dict[TenantLedgerEntry, str] = {}
        # (tenant, day) → card → (score, position at which it was reached)
        self.days: dict[tuple[str, int], dict[str, tuple[int, int]]] = {}

        self.alarms: dict[tuple[str, str, str], int] = {}

    def due(self, until_ms: int) -> tuple[Alarm, ...]:
        """The alarms up to a time, in their order."""
        return tuple(sorted(Alarm(wake_ms, *key) for key, wake_ms in self.alarms.items() if 0 < wake_ms <= until_ms))

    def take_in(self, fact: Fact, position: int) -> None:
        self.world.apply(fact, position)
        if fact.request_id:
            self.requests[fact.tenant_id, fact.request_id] = (fact, position)
            claimed_ms = claimed_ahead_ms(fact.request_id, fact.at_ms)
            if claimed_ms:
                self.claims[fact.tenant_id] = max(claimed_ms, self.claims.get(fact.tenant_id, 0))
        if isinstance(fact, AlarmSet):
            self.alarms[fact.tenant_id, fact.kind, fact.entity_id] = fact.wake_ms
        if isinstance(fact, PointsPosted):
            self.ledger[fact.tenant_id, fact.card_id, fact.entry_seq] = fact
            if fact.reverses:
                self.reversed[fact.tenant_id, fact.card_id, fact.reverses] = fact.kind
            if fact.day:
                scores = self.days.setdefault((fact.tenant_id, fact.day), {})
                if scores.get(fact.card_id, (None, 0))[0] != fact.day_earned_after:
                    scores[fact.card_id] = (fact.day_earned_after, position)


class MemoryStore:
    """Implements `actors.ports.EntityStore`; `project` stands in for the projector."""

    def __init__(self) -> None:
        self._partitions: dict[int, _Projected] = {}

    def project(self, partition: int, entries: Sequence[Entry]) -> None:
        """Takes in entries; those it has already are passed over, a hole is an error of the caller."""
        projected = self._of(partition)
        for entry in entries:
            if entry.seq <= projected.mark.seq:
                continue
            assert entry.seq == projected.mark.seq + 1, "entries come without holes"
            for index, fact in enumerate(decode_facts(entry)):
                projected.take_in(fact, position_of(entry.seq, index))
            projected.mark = Mark(entry.epoch, entry.seq, entry.checksum)

    async def position(self, partition: int) -> Mark:
        return self._of(partition).mark

    async def claims(self, partition: int) -> dict[str, int]:
        return dict(self._of(partition).claims)

    async def load(self, partition: int, request: LoadRequest) -> Loaded:
        projected = self._of(partition)
        world = projected.world
        return Loaded(
            projected=projected.mark,
            # Copies: what is loaded lives on in the reader.
            tenants={key: deepcopy(world.tenants[key]) for key in request.tenants if key in world.tenants},
            cards={key: copy(world.cards[key]) for key in request.cards if key in world.cards},
            events={key: _copy_of_event(world.events[key]) for key in request.events if key in world.events},
            requests={key: projected.requests[key] for key in request.requests if key in projected.requests},
            ledger_entries={
                key: LedgerEntry(projected.ledger[key], projected.reversed.get(key, ""))
                for key in request.ledger_entries
                if key in projected.ledger
            },
            boards={key: _board(projected, *key) for key in request.boards},
            others={key: deepcopy(actor) for key in request.others if (actor := world.actors[key[0]].get(key[1:]))},
            alarms=projected.due(request.alarms_until_ms)[: request.alarms_max],
            walks={key: _walk(world.cards.values(), *key) for key in request.walks},
        )

    def _of(self, partition: int) -> _Projected:
        return self._partitions.setdefault(partition, _Projected())


def _walk(cards: Iterable[Card], tenant_id: str, after: str, until_ms: int, count: int) -> tuple[str, ...]:
    own = (card for card in cards if card.tenant_id == tenant_id and card.issued_at_ms <= until_ms)
    return tuple(sorted(card.card_id for card in own if card.card_id > after)[:count])


def _board(projected: _Projected, tenant_id: str, window: str) -> list[BoardScore]:
    """The scores above zero, best first, then who reached theirs first."""
    cards = projected.world.cards
    if window == ALL_WINDOW:
        scores = {
            card_id: (card.earned, card.earned_position)
            for (owner, card_id), card in cards.items()
            if owner == tenant_id
        }
    elif window.startswith("day:"):
        scores = projected.days.get((tenant_id, days_of(window)[0]), {})
    elif not window.startswith(EVENT_WINDOW):
        return _days(projected, tenant_id, *days_of(window))
    else:
        event = projected.world.events.get((tenant_id, window.removeprefix(EVENT_WINDOW)))
        attendance = event.attendance if event is not None else {}
        scores = {card_id: (one.earned, one.earned_position) for card_id, one in attendance.items()}
    return sorted(
        (
            BoardScore(card_id, cards[tenant_id, card_id].member_name, score, reached)
            for card_id, (score, reached) in scores.items()
            if score > 0
        ),
        key=lambda row: (-row.score, row.reached),
    )


def _days(projected: _Projected, tenant_id: str, first: int, last: int) -> list[BoardScore]:
    """The scores of each of these days that are not zero."""
    cards = projected.world.cards
    return [
        BoardScore(card_id, cards[tenant_id, card_id].member_name, score, reached, day)
        for (owner, day), scores in sorted(projected.days.items())
        if owner == tenant_id and first <= day <= last
        for card_id, (score, reached) in sorted(scores.items())
        if score
    ]


def _copy_of_event(event: Event) -> Event:
    copied = copy(event)
    copied.attendance = {card_id: copy(attendance) for card_id, attendance in event.attendance.items()}
    copied.zones = dict(event.zones)
    copied.listed = set(event.listed)
    return copied
