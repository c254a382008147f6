"""What a decision may look at: the actors it names, and whatever else it asks for.

Rules:
1. `find` gives the actor, or None where there is none; where neither memory nor a load has told, it raises `NotLoaded`
   once the key is noted in `wants`, and the message waits for the load. That is no fault: the decision starts again.
2. `need` is `find` for what must exist: it raises `Unknown` with the answer to give.
3. Everything is looked up together with its tenant.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from actors.board import Board
from actors.card import Card
from actors.event import Event
from actors.facts import Fact
from actors.kinds import id_of
from actors.live import Views
from actors.ports import LedgerEntry, TenantLedgerEntry
from actors.recent import RecentEntries
from actors.replies import Failed
from actors.requests import RequestMemory
from actors.residents import Residents
from actors.tenant import Tenant
from actors.waiting import Known, Wants


class NotLoaded(Exception):
    """Something must be loaded first."""


class Unknown(Exception):
    """What a command names does not exist."""

    def __init__(self, failure: Failed) -> None:
        super().__init__(failure.code)
        self.failure = failure


class Memory(Protocol):
    """Where actors, answered requests and recent ledger entries are in memory."""

    residents: Residents
    requests: RequestMemory
    recent: RecentEntries
    views: Views


UNKNOWN = {
    "tenant": Failed("tenant_unknown", "no such organisation"),
    "card": Failed("card_unknown", "no such card"),
    "event": Failed("event_unknown", "no such event"),
    "tag": Failed("tag_unknown", "no such tag"),
    "coupon": Failed("coupon_unknown", "no such coupon"),
    "code": Failed("coupon_unknown", "no such coupon code"),
    "redemption": Failed("redemption_unknown", "no such redemption"),
    "payout": Failed("payout_unknown", "the window was not paid out"),
}


class Scope:
    """The view of one message. `tenant`, `card` and `event` are there where the command names and needs them."""

    __slots__ = ("_known", "_memory", "_wants", "actors", "tenant_id")

    def __init__(self, memory: Memory, tenant_id: str, known: Known | None, wants: Wants) -> None:
        self._memory = memory
        self._known = known
        self._wants = wants
        self.tenant_id = tenant_id
        self.actors: dict[str, Any] = {}

    def gather(self, kinds: Iterable[str], command: object) -> None:
        """Needs the actors of these kinds that a command names by `<kind>_id`; what is missing is noted all at once."""
        is_missing = False
        for kind in kinds:
            try:
                self.actors[kind] = self.need(kind, id_of(command, kind))
            except NotLoaded:
                is_missing = True
        if is_missing:
            raise NotLoaded

    @property
    def tenant(self) -> Tenant:
        """The organisation."""
        tenant: Tenant = self.actors["tenant"]
        return tenant

    @property
    def card(self) -> Card:
        """The card that the command names."""
        card: Card = self.actors["card"]
        return card

    @property
    def event(self) -> Event:
        """The event that the command names."""
        event: Event = self.actors["event"]
        return event

    def find(self, kind: str, own_id: str) -> Any:
        """Rule 1."""
        actor = self._memory.residents.find(kind, self.tenant_id, own_id)
        if actor is not None:
            return actor
        if self._known is not None and own_id in self._known.absent:
            return None
        self._wants.actor(kind, self.tenant_id, own_id)
        raise NotLoaded

    def find_all(self, keys: Iterable[tuple[str, str]]) -> list[Any]:
        """`find` for many (kind, id) at once, so that one load tells of all that are missing."""
        found: list[Any] = []
        is_missing = False
        for kind, own_id in keys:
            try:
                found.append(self.find(kind, own_id))
            except NotLoaded:
                is_missing = True
        if is_missing:
            raise NotLoaded
        return found

    def board(self, key: str) -> Board:
        """A leaderboard with all that was decided before this message first waited for a load."""
        board = self._memory.views.board(self.tenant_id, key)
        if board is None:
            self._wants.boards.add((self.tenant_id, key))
            raise NotLoaded
        if self._known is None or self._memory.views.durable_seq < self._known.since_seq:
            raise NotLoaded  # what is being written must be on it, too
        return board

    def need(self, kind: str, own_id: str) -> Any:
        """Rule 2."""
        actor = self.find(kind, own_id)
        if actor is None:
            raise Unknown(UNKNOWN[kind])
        return actor

    def need_all(self, kind: str, own_ids: Iterable[str]) -> None:
        """`need` for several at once."""
        is_missing = False
        for own_id in own_ids:
            try:
                self.need(kind, own_id)
            except NotLoaded:
                is_missing = True
        if is_missing:
            raise NotLoaded

    def cards_after(self, card_id: str, issued_until_ms: int, count: int) -> tuple[str, ...]:
        """The ids of the tenant's next cards after one, in their order, of those issued until then, once Postgres
        knows all that was decided before; fewer than `count` where there are no more."""
        key = (self.tenant_id, card_id, issued_until_ms, count)
        if self._known is None or key not in self._known.walks:
            self._wants.walks.add(key)
            raise NotLoaded
        return self._known.walks[key]

    def outcome(self, request_id: str) -> Fact | None:
        """The fact that answered another request of the tenant, None where there is none."""
        key = (self.tenant_id, request_id)
        answer = self._memory.requests.get(key)
        if answer is None and self._known is not None:
            for asked, found in self._known.requests:
                if key in asked:
                    answer = found.get(key)
                    return answer[0] if answer is not None else None
        if answer is None:
            self._wants.requests.add(key)
            raise NotLoaded
        return answer[0]

    def ledger_entry(self, card_id: str, entry_seq: int) -> LedgerEntry | None:
        """An entry that the card has, and how it was reversed or ended."""
        key = (self.tenant_id, card_id, entry_seq)
        recent = self._memory.recent
        fact = recent.get(card_id, entry_seq)
        entry = LedgerEntry(fact) if fact is not None else self._loaded_entry(key)
        reversed_by = recent.reversed_by(card_id, entry_seq)
        if entry is not None and reversed_by:
            return LedgerEntry(entry.fact, reversed_by)
        return entry

    def _loaded_entry(self, key: TenantLedgerEntry) -> LedgerEntry | None:
        for asked, found in self._known.entries if self._known is not None else ():
            if key in asked:
                return found.get(key)
        self._wants.ledger_entries.add(key)
        raise NotLoaded
