"""Replay: the state that a partition's facts lead to, from the facts alone. Pure.

Rules:
1. State changes only through the actors' own `apply`: this is what the engine does, without commands, caches or stores.
2. Facts come in the partition's order, none left out; `position` is that of the last one.
3. `digest_of` depends on what a state holds, not on the order in which it came to hold it.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from actors.card import Card
from actors.codec import decode_facts
from actors.entry import Entry
from actors.event import Event
from actors.facts import Fact
from actors.ids import position_of
from actors.kinds import KINDS, NOWHERE, ROUTES, Actor, id_of
from actors.tenant import Tenant

DIGEST_BYTES = 16
StateKey = tuple[str, str, str]

# Sorts the keys of dictionaries (an event's attendance).
_canonical = msgspec.msgpack.Encoder(order="deterministic")


def digest_of(state: Actor) -> bytes:
    """A digest of the whole state: equal exactly for equal states."""
    data = _canonical.encode((type(state).__name__, state))
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


class WorldState:
    """All actors of a partition."""

    def __init__(self) -> None:
        self.position = 0
        self.tenants: dict[str, Tenant] = {}
        # By kind, then by tenant and id.
        self.actors: dict[str, dict[tuple[str, str], Any]] = {kind: {} for kind in KINDS if kind != "tenant"}
        self.cards: dict[tuple[str, str], Card] = self.actors["card"]
        self.events: dict[tuple[str, str], Event] = self.actors["event"]

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
        route = ROUTES.get(type(fact), NOWHERE)
        if route.birth is not None:
            self._create(route.creates, tenant_id, id_of(fact, route.creates), route.birth(fact, position))
        for kind in route.touches:
            own_id = id_of(fact, kind)
            if kind == "tenant":
                self.tenants[own_id].apply(fact, position)  # type: ignore[arg-type]
            elif own_id:
                self.actors[kind][tenant_id, own_id].apply(fact, position)

    def _create(self, kind: str, tenant_id: str, own_id: str, actor: Actor) -> None:
        if kind == "tenant":
            assert isinstance(actor, Tenant)
            assert tenant_id not in self.tenants, "an organisation is opened once"
            self.tenants[tenant_id] = actor
        else:
            assert (tenant_id, own_id) not in self.actors[kind], "an actor comes to be once"
            self.actors[kind][tenant_id, own_id] = actor

    def states(self) -> Iterator[tuple[StateKey, Actor]]:
        """Every state with its key (kind, tenant id, own id)."""
        for tenant_id, tenant in self.tenants.items():
            yield ("tenant", tenant_id, tenant_id), tenant
        for kind, actors in self.actors.items():
            for (tenant_id, own_id), actor in actors.items():
                yield (kind, tenant_id, own_id), actor

    def digest(self) -> bytes:
        """A digest of all states, whatever the order in which they came to be."""
        digests = sorted(_canonical.encode((key, digest_of(state))) for key, state in self.states())
        return blake2b(b"".join(digests), digest_size=DIGEST_BYTES).digest()
