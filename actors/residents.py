"""The virtual actors that are in memory, and the facts of those that are not.

Rules:
1. An actor comes in as its row plus the facts in the journal after that row; it leaves only when Postgres holds all
   it did.
2. Ids are looked up together with their tenant: another tenant's card or event is as absent as one that never was.
3. `apply` is the only way in which state changes, in production, in replay and in the simulator.
"""

from __future__ import annotations

from itertools import islice
from sys import intern
from typing import Any, cast

from actors.card import Card
from actors.event import Event
from actors.facts import Fact, PointsPosted, ScanJudged
from actors.kinds import KINDS, NOWHERE, ROUTES, Actor, Route, id_of
from actors.limits import Limits
from actors.ports import Loaded
from actors.rule_facts import RulesApplied
from actors.tenant import Tenant
from actors.terms import CardState

# Of a sweep's candidates, how many are looked at before it gives way to the next turn.
_SWEEP_MAX = 2_000


class Residents:
    """The actors of one partition, by kind and id."""

    def __init__(self) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.cards: dict[str, Card] = {}
        self.events: dict[str, Event] = {}
        self.actors: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        self.actors.update(tenant=self.tenants, card=self.cards, event=self.events)
        # Facts of the journal's tail about actors that are not in memory yet, by id.
        self._waiting: dict[str, list[tuple[Fact, int]]] = {}

    def find(self, kind: str, tenant_id: str, own_id: str) -> Any:
        """An actor in memory, None where it is not."""
        actor = self.actors[kind].get(own_id)
        return actor if actor is not None and actor.tenant_id == tenant_id else None

    def apply(self, fact: Fact, position: int) -> None:
        """Takes in a new fact; all actors that it changes are in memory."""
        # By frequency: nearly all facts are of the first three kinds. To ask for the type costs a quarter of asking
        # whether it is an instance of it, where it is none.
        if type(fact) is ScanJudged:
            self.events[fact.event_id].apply(fact, position)
            if fact.details is not None and fact.details.tag_uid:
                self.actors["tag"][fact.tag_id].apply(fact, position)
            if fact.visits is not None:
                self.cards[fact.card_id].apply(fact, position)
        elif type(fact) is PointsPosted:
            self.cards[fact.card_id].apply(fact, position)
            self.tenants[fact.tenant_id].apply(fact, position)
            if fact.event_id:
                self.events[fact.event_id].apply(fact, position)
        elif type(fact) is RulesApplied:
            self.cards[fact.card_id].apply(fact, position)
            self.tenants[fact.tenant_id].apply(fact, position)
        else:
            route = ROUTES.get(type(fact), NOWHERE)
            self._create(route, fact, position)
            for kind in route.touches:
                own_id = id_of(fact, kind)
                if own_id:
                    self.actors[kind][own_id].apply(fact, position)

    def recover(self, fact: Fact, position: int) -> None:
        """Takes in a fact of the journal's tail; where an actor is not in memory the fact waits for it to be loaded."""
        route = ROUTES.get(type(fact), NOWHERE)
        self._create(route, fact, position)
        for kind in route.touches:
            own_id = id_of(fact, kind)
            if own_id:
                self._recover_one(self.actors[kind].get(own_id), own_id, fact, position)

    def _recover_one(self, actor: Any, own_id: str, fact: Fact, position: int) -> None:
        if actor is None:
            self._waiting.setdefault(own_id, []).append((fact, position))
        else:
            actor.apply(fact, position)

    def _create(self, route: Route, fact: Fact, position: int) -> None:
        if route.birth is not None:
            self.actors[route.creates][id_of(fact, route.creates)] = _sharing(route.birth(fact, position))

    def install(self, loaded: Loaded) -> None:
        """Takes in what was loaded, each brought up to date with the facts that waited for it."""
        for tenant_id, tenant in loaded.tenants.items():
            self._install("tenant", tenant_id, tenant)
        for (_, card_id), card in loaded.cards.items():
            self._install("card", card_id, card)
        for (_, event_id), event in loaded.events.items():
            self._install("event", event_id, event)
        for (kind, _, own_id), actor in loaded.others.items():
            self._install(kind, own_id, actor)

    def _install(self, kind: str, own_id: str, actor: Actor) -> None:
        present = self.actors[kind]
        if own_id not in present:
            present[own_id] = _sharing(actor)
            self._catch_up(actor, own_id)

    def _catch_up(self, actor: Any, own_id: str) -> None:
        for fact, position in self._waiting.pop(own_id, ()):
            actor.apply(fact, position)

    def put_away(self, projected_position: int, limits: Limits, pinned: set[str]) -> None:
        """Puts away the longest-resident actors over the limits, if Postgres holds all they did and nobody waits for
        them; the others go to the end of the queue. Tenants stay."""
        for kind, actors in self.actors.items():
            if kind != "tenant":
                over = len(actors) - limits.resident_max(kind)
                if over > 0:
                    self._put_away(actors, over, projected_position, pinned)

    @staticmethod
    def _put_away(actors: dict[str, Any], over: int, projected_position: int, pinned: set[str]) -> None:
        for key in list(islice(actors, min(over, _SWEEP_MAX))):
            actor = actors.pop(key)
            if actor.position > projected_position or key in pinned:
                actors[key] = actor


def _sharing(actor: Actor) -> Actor:
    """The actor with the very texts that all others have for its tenant's id, and cards for their tier and state: 200
    bytes less for each of a million."""
    actor.tenant_id = intern(actor.tenant_id)
    if type(actor) is Card:
        actor.tier = intern(actor.tier)
        actor.state = cast(CardState, intern(actor.state))
    return actor
