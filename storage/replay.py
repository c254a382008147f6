"""Replay: the state that a partition's facts lead to, from the facts alone. Pure.

Rules:
1. State changes only through the actors' own `apply`: this is what the engine does, without commands, caches or stores.
2. Facts come in the partition's order, none left out; `position` is that of the last one.
3. `digest_of` depends on what a state holds, not on the order in which it came to hold it.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from actors.card import Card
from actors.codec import decode_facts
from actors.entry import Entry
from actors.event import Event
from actors.facts import (
    CardHolderRenamed,
    CardIssued,
    CardStateChanged,
    CommandRefused,
    EventChanged,
    EventCreated,
    Fact,
    PointsPosted,
    ScanJudged,
    TenantChanged,
    TenantOpened,
)
from actors.ids import position_of
from actors.tenant import Tenant

DIGEST_BYTES = 16
State = Tenant | Card | Event
StateKey = tuple[str, str, str]

# Sorts the keys of dictionaries (an event's attendance).
_canonical = msgspec.msgpack.Encoder(order="deterministic")


def digest_of(state: State) -> bytes:
    """A digest of the whole state: equal exactly for equal states."""
    data = _canonical.encode((type(state).__name__, state))
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


class WorldState:
    """All tenants, cards and events of a partition."""

    def __init__(self) -> None:
        self.position = 0
        self.tenants: dict[str, Tenant] = {}
        self.cards: dict[tuple[str, str], Card] = {}
        self.events: dict[tuple[str, str], Event] = {}

    def apply_entry(self, entry: Entry) -> None:
        """Takes in an entry's facts. Raises what `actors.codec.decode_facts` raises, and `KeyError` or `AssertionError`
        for a fact that contradicts those before."""
        for index, fact in enumerate(decode_facts(entry)):
            self.apply(fact, position_of(entry.seq, index))

    def apply(self, fact: Fact, position: int) -> None:
        """Takes in the next fact."""
        assert position > self.position, "facts come in order, each once"
        self.position = position
        tenant_id = fact.tenant_id
        match fact:
            case ScanJudged():
                self.events[tenant_id, fact.event_id].apply(fact, position)
            case PointsPosted():
                self.cards[tenant_id, fact.card_id].apply(fact, position)
                if fact.event_id:
                    self.events[tenant_id, fact.event_id].apply(fact, position)
            case CardHolderRenamed():
                self.cards[tenant_id, fact.card_id].apply(fact, position)
            case CardStateChanged():
                self.cards[tenant_id, fact.card_id].apply(fact, position)
                self._count(fact, position)
            case EventChanged():
                self.events[tenant_id, fact.event_id].apply(fact, position)
            case TenantChanged():
                self.tenants[tenant_id].apply(fact, position)
            case CardIssued():
                self._create(fact, position)
                self._count(fact, position)
            case EventCreated() | TenantOpened():
                self._create(fact, position)
            case CommandRefused():
                pass

    def _count(self, fact: CardIssued | CardStateChanged, position: int) -> None:
        if fact.cards_after >= 0:
            self.tenants[fact.tenant_id].apply(fact, position)

    def _create(self, fact: CardIssued | EventCreated | TenantOpened, position: int) -> None:
        if isinstance(fact, CardIssued):
            key = (fact.tenant_id, fact.card_id)
            assert key not in self.cards, "a card is issued once"
            self.cards[key] = Card.issued(fact, position)
        elif isinstance(fact, EventCreated):
            key = (fact.tenant_id, fact.event_id)
            assert key not in self.events, "an event is created once"
            self.events[key] = Event.created(fact, position)
        else:
            assert fact.tenant_id not in self.tenants, "an organisation is opened once"
            self.tenants[fact.tenant_id] = Tenant.opened(fact, position)

    def states(self) -> Iterator[tuple[StateKey, State]]:
        """Every state with its key ("tenant" | "card" | "event", tenant id, own id)."""
        for tenant_id, tenant in self.tenants.items():
            yield ("tenant", tenant_id, tenant_id), tenant
        for (tenant_id, card_id), card in self.cards.items():
            yield ("card", tenant_id, card_id), card
        for (tenant_id, event_id), event in self.events.items():
            yield ("event", tenant_id, event_id), event

    def digest(self) -> bytes:
        """A digest of all states, whatever the order in which they came to be."""
        digests = sorted(_canonical.encode((key, digest_of(state))) for key, state in self.states())
        return blake2b(b"".join(digests), digest_size=DIGEST_BYTES).digest()
