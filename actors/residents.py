"""The virtual actors that are in memory, and the facts of those that are not.

Rules:
1. An actor comes in as its row plus the facts in the journal after that row; it leaves only when Postgres holds all
   it did.
2. Ids are looked up together with their tenant: another tenant's card or event is as absent as one that never was.
3. `apply` is the only way in which state changes, in production, in replay and in the simulator.
"""

from __future__ import annotations

from itertools import islice

from actors.card import Card
from actors.event import Event
from actors.facts import (
    CardHolderRenamed,
    CardIssued,
    CardStateChanged,
    EventChanged,
    EventCreated,
    Fact,
    PointsPosted,
    ScanJudged,
    TenantChanged,
    TenantOpened,
)
from actors.limits import Limits
from actors.ports import Loaded
from actors.tenant import Tenant

# Of a sweep's candidates, how many are looked at before it gives way to the next turn.
_SWEEP_MAX = 2_000


class Residents:
    """Tenants, cards and events of one partition."""

    def __init__(self) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.cards: dict[str, Card] = {}
        self.events: dict[str, Event] = {}
        # Facts of the journal's tail about actors that are not in memory yet, by id.
        self._waiting: dict[str, list[tuple[Fact, int]]] = {}

    def card(self, tenant_id: str, card_id: str) -> Card | None:
        """A card in memory."""
        card = self.cards.get(card_id)
        return card if card is not None and card.tenant_id == tenant_id else None

    def event(self, tenant_id: str, event_id: str) -> Event | None:
        """An event in memory."""
        event = self.events.get(event_id)
        return event if event is not None and event.tenant_id == tenant_id else None

    def apply(self, fact: Fact, position: int) -> None:
        """Takes in a new fact; all actors that it changes are in memory."""
        match fact:
            case ScanJudged():
                self.events[fact.event_id].apply(fact, position)
            case PointsPosted():
                self.cards[fact.card_id].apply(fact, position)
                if fact.event_id:
                    self.events[fact.event_id].apply(fact, position)
            case CardHolderRenamed():
                self.cards[fact.card_id].apply(fact, position)
            case CardStateChanged():
                self.cards[fact.card_id].apply(fact, position)
                self.tenants[fact.tenant_id].apply(fact, position)
            case EventChanged():
                self.events[fact.event_id].apply(fact, position)
            case TenantChanged():
                self.tenants[fact.tenant_id].apply(fact, position)
            case CardIssued():
                self._create(fact, position)
                self.tenants[fact.tenant_id].apply(fact, position)
            case EventCreated() | TenantOpened():
                self._create(fact, position)
            case _:
                pass

    def recover(self, fact: Fact, position: int) -> None:
        """Takes in a fact of the journal's tail; where an actor is not in memory the fact waits for it to be loaded."""
        match fact:
            case CardIssued():
                self._create(fact, position)
                self._recover_one(self.tenants.get(fact.tenant_id), fact.tenant_id, fact, position)
            case EventCreated() | TenantOpened():
                self._create(fact, position)
            case ScanJudged() | EventChanged():
                self._recover_one(self.events.get(fact.event_id), fact.event_id, fact, position)
            case PointsPosted():
                self._recover_one(self.cards.get(fact.card_id), fact.card_id, fact, position)
                if fact.event_id:
                    self._recover_one(self.events.get(fact.event_id), fact.event_id, fact, position)
            case CardHolderRenamed():
                self._recover_one(self.cards.get(fact.card_id), fact.card_id, fact, position)
            case CardStateChanged():
                self._recover_one(self.cards.get(fact.card_id), fact.card_id, fact, position)
                self._recover_one(self.tenants.get(fact.tenant_id), fact.tenant_id, fact, position)
            case TenantChanged():
                self._recover_one(self.tenants.get(fact.tenant_id), fact.tenant_id, fact, position)
            case _:
                pass

    def _recover_one(self, actor: Card | Event | Tenant | None, key: str, fact: Fact, position: int) -> None:
        if actor is None:
            self._waiting.setdefault(key, []).append((fact, position))
        else:
            actor.apply(fact, position)  # type: ignore[arg-type]

    def _create(self, fact: CardIssued | EventCreated | TenantOpened, position: int) -> None:
        if isinstance(fact, CardIssued):
            self.cards[fact.card_id] = Card.issued(fact, position)
        elif isinstance(fact, EventCreated):
            self.events[fact.event_id] = Event.created(fact, position)
        else:
            self.tenants[fact.tenant_id] = Tenant.opened(fact, position)

    def install(self, loaded: Loaded) -> None:
        """Takes in what was loaded, each brought up to date with the facts that waited for it."""
        for tenant_id, tenant in loaded.tenants.items():
            if tenant_id not in self.tenants:
                self.tenants[tenant_id] = tenant
                self._catch_up(tenant, tenant_id)
        for (_, card_id), card in loaded.cards.items():
            if card_id not in self.cards:
                self.cards[card_id] = card
                self._catch_up(card, card_id)
        for (_, event_id), event in loaded.events.items():
            if event_id not in self.events:
                self.events[event_id] = event
                self._catch_up(event, event_id)

    def _catch_up(self, actor: Card | Event | Tenant, key: str) -> None:
        for fact, position in self._waiting.pop(key, ()):
            actor.apply(fact, position)  # type: ignore[arg-type]

    def put_away(self, projected_position: int, limits: Limits, pinned: set[str]) -> None:
        """Puts away the longest-resident actors over the limits, if Postgres holds all they did and nobody waits for
        them; the others go to the end of the queue."""
        self._put_away(self.cards, len(self.cards) - limits.cards_resident_max, projected_position, pinned)
        self._put_away(self.events, len(self.events) - limits.events_resident_max, projected_position, pinned)

    @staticmethod
    def _put_away(
        actors: dict[str, Card] | dict[str, Event], over: int, projected_position: int, pinned: set[str]
    ) -> None:
        if over <= 0:
            return
        for key in list(islice(actors, min(over, _SWEEP_MAX))):
            actor = actors.pop(key)
            if actor.position > projected_position or key in pinned:
                actors[key] = actor  # type: ignore[assignment]
