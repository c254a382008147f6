"""What a message waits for, and what loads have told about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.codec import Message
from actors.facts import Fact
from actors.ports import LedgerEntry, Loaded, LoadRequest, TenantLedgerEntry, TenantRequest, TenantWalk


@dataclass(slots=True)
class Wants:
    """Keys to be loaded, gathered over a turn."""

    tenants: set[str] = field(default_factory=set)
    cards: set[tuple[str, str]] = field(default_factory=set)
    events: set[tuple[str, str]] = field(default_factory=set)
    requests: set[tuple[str, str]] = field(default_factory=set)
    ledger_entries: set[tuple[str, str, int]] = field(default_factory=set)
    boards: set[tuple[str, str]] = field(default_factory=set)
    others: set[tuple[str, str, str]] = field(default_factory=set)
    walks: set[TenantWalk] = field(default_factory=set)
    alarms_until_ms: int = 0
    alarms_max: int = 0

    def __bool__(self) -> bool:
        return bool(
            self.tenants
            or self.cards
            or self.events
            or self.requests
            or self.ledger_entries
            or self.boards
            or self.others
            or self.walks
            or self.alarms_until_ms
        )

    def actor(self, kind: str, tenant_id: str, own_id: str) -> None:
        """An actor is wanted."""
        if kind == "tenant":
            self.tenants.add(own_id)
        elif kind == "card":
            self.cards.add((tenant_id, own_id))
        elif kind == "event":
            self.events.add((tenant_id, own_id))
        else:
            self.others.add((kind, tenant_id, own_id))

    def request(self) -> LoadRequest:
        """The load that satisfies them, in a fixed order."""
        return LoadRequest(
            tuple(sorted(self.tenants)),
            tuple(sorted(self.cards)),
            tuple(sorted(self.events)),
            tuple(sorted(self.requests)),
            tuple(sorted(self.ledger_entries)),
            tuple(sorted(self.boards)),
            tuple(sorted(self.others)),
            self.alarms_until_ms,
            self.alarms_max,
            tuple(sorted(self.walks)),
        )


@dataclass(slots=True)
class Known:
    """What loads have told about one waiting message: ids that do not exist, whether its request id is new, the fact
    that answered it; by load which requests and ledger entries were asked for, and which of them there are; and walks
    along cards. All that was decided before is in the entries up to `since_seq`."""

    since_seq: int = 0
    absent: set[str] = field(default_factory=set)
    is_new: bool = False
    answer: tuple[Fact, int] | None = None
    requests: list[tuple[set[TenantRequest], dict[TenantRequest, tuple[Fact, int]]]] = field(default_factory=list)
    entries: list[tuple[set[TenantLedgerEntry], dict[TenantLedgerEntry, LedgerEntry]]] = field(default_factory=list)
    walks: dict[TenantWalk, tuple[str, ...]] = field(default_factory=dict)

    def learn(self, message: Message, asked: Wants, loaded: Loaded, absent: dict[str, set[str]]) -> None:
        """Takes in what a load found; `absent` as `absent_from` tells it."""
        tenant_id = message.tenant_id
        if tenant_id in absent:
            self.absent |= absent[tenant_id]
        request = (tenant_id, getattr(message, "request_id", ""))
        if request in asked.requests:
            self.answer = loaded.requests.get(request)
            self.is_new = self.answer is None
        if loaded.projected.seq >= self.since_seq:
            # Else Postgres may miss cards that were issued just before; it is asked again.
            self.walks |= loaded.walks
        if asked.requests:
            self.requests.append((asked.requests, loaded.requests))
        if asked.ledger_entries:
            self.entries.append((asked.ledger_entries, loaded.ledger_entries))


def absent_from(asked: Wants, loaded: Loaded) -> dict[str, set[str]]:
    """By tenant, the ids of actors that were asked for and that there are not."""
    missing = [(tenant_id, tenant_id) for tenant_id in asked.tenants if tenant_id not in loaded.tenants]
    missing += [key for key in asked.cards if key not in loaded.cards]
    missing += [key for key in asked.events if key not in loaded.events]
    missing += [key[1:] for key in asked.others if key not in loaded.others]
    absent: dict[str, set[str]] = {}
    for tenant_id, own_id in missing:
        absent.setdefault(tenant_id, set()).add(own_id)
    return absent
