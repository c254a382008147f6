"""Things to decide on, for the core's tests: each maker gives something ordinary, a test names only what matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.card import Card
from actors.commands import AwardPoints, CheckIn, Command, RedeemPoints, ReversePoints, fingerprint
from actors.event import Attendance, Event
from actors.facts import CardIssued, EventCreated, Fact, TenantOpened
from actors.judge import Judge
from actors.kinds import Actor, id_of
from actors.limits import Limits
from actors.live import Views
from actors.ports import LedgerEntry
from actors.recent import RecentEntries
from actors.requests import RequestMemory
from actors.residents import Residents
from actors.scope import Scope
from actors.seldom import Seldom, with_seldom
from actors.tag import Tag
from actors.tenant import Tenant
from actors.terms import EventTerms, Gate, TenantSettings
from actors.waiting import Known, Wants

LIMITS = Limits()
NOW_MS = 1_800_000_000_000
GATES = (Gate("gate_a", "A"), Gate("gate_shut", "B", False))


def tenant(**settings: Any) -> Tenant:
    return Tenant("org", "Org", TenantSettings(**settings))


def card(card_id: str = "card", **fields: Any) -> Card:
    state = Card("org", card_id, "member", "Ann", "gold", 0, 0)
    for name, value in fields.items():
        if name in Seldom.__struct_fields__:
            state.seldom = with_seldom(state.seldom, **{name: value})
        else:
            setattr(state, name, value)
    return state


def event(*, inside: int = 0, attendance: dict[str, Attendance] | None = None, **terms: Any) -> Event:
    made = EventTerms(**{"name": "Evening", "capacity": 2, "gates": GATES, **terms})
    return Event("org", "event", made, inside, inside, 0, attendance or {})


def scope(
    *actors: Actor, entry: LedgerEntry | None = None, entries: Sequence[LedgerEntry] = (), absent: tuple[str, ...] = ()
) -> Scope:
    """What a decision may look at: these actors, and what loads have told of the ledger entries that it cites, and of
    actors that there are not."""
    residents = Residents()
    kinds: dict[type, str] = {Tenant: "tenant", Card: "card", Event: "event", Tag: "tag"}
    for actor in actors:
        kind = kinds[type(actor)]
        residents.actors[kind][id_of(actor, kind)] = actor
    memory = Judge(
        residents,
        RequestMemory(LIMITS, is_complete=True, forgotten_until_ms=0, claims={}),
        RecentEntries(LIMITS),
        Views(1),
    )
    known = Known(0, absent=set(absent))
    for one in (entry, *entries):
        if one is not None:
            key = ("org", one.fact.card_id, one.fact.entry_seq)
            known.entries.append(({key}, {key: one}))
    made = Scope(memory, "org", known, Wants())
    for actor in actors:
        made.actors[kinds[type(actor)]] = actor
    return made


def signed(command: Command) -> Any:
    return msgspec.structs.replace(command, fingerprint=fingerprint(command))


def check_in(request_id: str = "scan", card_id: str = "card", direction: Any = "entry", **more: Any) -> CheckIn:
    fields = {"event_id": "event", "gate_id": "", "device_id": "dev", **more}
    return signed(CheckIn("org", request_id, b"", card_id=card_id, direction=direction, **fields))


def award(amount: int, request_id: str = "award", card_id: str = "card", expires_at_ms: int = 0) -> AwardPoints:
    return signed(AwardPoints("org", request_id, b"", card_id, amount, "", expires_at_ms))


def redeem(amount: int, request_id: str = "redeem", card_id: str = "card") -> RedeemPoints:
    return signed(RedeemPoints("org", request_id, b"", card_id, amount))


def reverse(entry_seq: int, request_id: str = "reverse", card_id: str = "card") -> ReversePoints:
    return signed(ReversePoints("org", request_id, b"", card_id, entry_seq))


def founding(cards: int = 1) -> list[Fact]:
    """An organisation, an event for two, and cards "card", "card2", …"""
    opened = TenantOpened("org", "open", b"f" * 8, NOW_MS, "Org", TenantSettings())
    created = EventCreated("org", "create", b"f" * 8, NOW_MS, "event", EventTerms("Evening", 2, gates=GATES))
    names = ["card", *(f"card{n}" for n in range(2, cards + 1))]
    issued = [CardIssued("org", f"issue-{name}", b"f" * 8, NOW_MS, name, "member", "Ann", "gold") for name in names]
    return [opened, created, *issued]
