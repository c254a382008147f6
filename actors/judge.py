"""What one message leads to: an answer, new facts, or the need to load something first.

Rules:
1. The request id is looked up before anything else: a known id gives the stored outcome, whatever has changed since.
2. Nothing here changes state; the partition applies the facts that come out.
3. What a load has told is kept with the waiting message (`Known`); what is in memory goes before it, for it is newer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.admin import (
    decide_change_card_state,
    decide_change_event,
    decide_change_plan,
    decide_change_tenant,
    decide_create_event,
    decide_issue_card,
    decide_open_tenant,
    decide_rename_card_holder,
)
from actors.card import Card
from actors.checkin import decide_check_in
from actors.codec import Message
from actors.commands import (
    AwardPoints,
    ChangeCardState,
    ChangeEvent,
    ChangePlan,
    ChangeTenant,
    CheckIn,
    Command,
    CreateEvent,
    IssueCard,
    OpenTenant,
    RedeemPoints,
    RenameCardHolder,
    ReversePoints,
)
from actors.event import Event
from actors.facts import Fact
from actors.points import decide_award, decide_redeem, decide_reverse
from actors.ports import LedgerEntry, Loaded, LoadRequest
from actors.queries import CARD_TOPIC, EVENT_TOPIC, GetBoard, GetTopic, board_of_topic, event_of_window
from actors.recent import RecentEntries
from actors.refusals import CARD_UNKNOWN, EVENT_UNKNOWN, ID_REUSED, TENANT_UNKNOWN
from actors.replies import Done, Failed
from actors.requests import RequestMemory
from actors.residents import Residents
from actors.tenant import Tenant


@dataclass(slots=True)
class Wants:
    """Keys to be loaded, gathered over a turn."""

    tenants: set[str] = field(default_factory=set)
    cards: set[tuple[str, str]] = field(default_factory=set)
    events: set[tuple[str, str]] = field(default_factory=set)
    requests: set[tuple[str, str]] = field(default_factory=set)
    ledger_entries: set[tuple[str, str, int]] = field(default_factory=set)
    boards: set[tuple[str, str]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.tenants or self.cards or self.events or self.requests or self.ledger_entries or self.boards)

    def request(self) -> LoadRequest:
        """The load that satisfies them, in a fixed order."""
        return LoadRequest(
            tuple(sorted(self.tenants)),
            tuple(sorted(self.cards)),
            tuple(sorted(self.events)),
            tuple(sorted(self.requests)),
            tuple(sorted(self.ledger_entries)),
            tuple(sorted(self.boards)),
        )


@dataclass(slots=True)
class Known:
    """What loads have told about one waiting message: ids that do not exist, whether its request id is new, the fact
    that answered it, the ledger entry it cites (None in the tuple: there is no such entry)."""

    absent: set[str] = field(default_factory=set)
    is_new: bool = False
    answer: tuple[Fact, int] | None = None
    entry: tuple[LedgerEntry | None] | None = None

    def learn(self, message: Message, asked: Wants, loaded: Loaded) -> None:
        """Takes in what a load found for this message."""
        tenant_id = message.tenant_id
        if tenant_id in asked.tenants and tenant_id not in loaded.tenants:
            self.absent.add(tenant_id)
        card_id = card_of(message)
        if (tenant_id, card_id) in asked.cards and (tenant_id, card_id) not in loaded.cards:
            self.absent.add(card_id)
        event_id = event_of(message)
        if (tenant_id, event_id) in asked.events and (tenant_id, event_id) not in loaded.events:
            self.absent.add(event_id)
        request = (tenant_id, getattr(message, "request_id", ""))
        if request in asked.requests:
            self.answer = loaded.requests.get(request)
            self.is_new = self.answer is None
        if isinstance(message, ReversePoints):
            key = (tenant_id, card_id, message.entry_seq)
            if key in asked.ledger_entries:
                self.entry = (loaded.ledger_entries.get(key),)


def event_of(message: Message) -> str:
    """The id of the event that a message names, "" if none."""
    if isinstance(message, GetBoard):
        return event_of_window(message.window)
    if isinstance(message, GetTopic):
        if message.topic.startswith(EVENT_TOPIC):
            return message.topic.removeprefix(EVENT_TOPIC)
        return event_of_window(board_of_topic(message.topic)[1])
    return str(getattr(message, "event_id", ""))


def card_of(message: Message) -> str:
    """The id of the card that a message names, "" if none."""
    if isinstance(message, GetTopic):
        return message.topic.removeprefix(CARD_TOPIC) if message.topic.startswith(CARD_TOPIC) else ""
    return str(getattr(message, "card_id", ""))


def order_key(command: Command) -> str:
    """The actor whose commands keep their order while some of them wait."""
    if isinstance(command, OpenTenant | ChangeTenant | ChangePlan):
        return command.tenant_id
    if isinstance(command, CreateEvent | ChangeEvent):
        return command.event_id
    return command.card_id


class Judge:
    """Decides commands on what is in memory."""

    def __init__(self, residents: Residents, requests: RequestMemory, recent: RecentEntries) -> None:
        self._residents = residents
        self._requests = requests
        self._recent = recent

    def judge(
        self, command: Command, at_ms: int, known: Known | None, wants: Wants
    ) -> Done | Failed | list[Fact] | None:
        """The stored outcome of a known request, a failure, the facts of a new one, or None: `wants` tells what must
        be loaded."""
        key = (command.tenant_id, command.request_id)
        before = self._requests.get(key) or (known.answer if known is not None else None)
        if before is not None:
            return self._replayed(command, *before)
        is_new = (known is not None and known.is_new) or self._requests.is_certainly_new(key, at_ms)
        if not is_new:
            wants.requests.add(key)
        if isinstance(command, CheckIn):
            return self._check_in(command, at_ms, is_new, known, wants)
        if isinstance(command, OpenTenant):
            return decide_open_tenant(command, at_ms) if is_new else None
        return self._within_tenant(command, at_ms, is_new, known, wants)

    @staticmethod
    def _replayed(command: Command, fact: Fact, position: int) -> Done | Failed:
        if fact.fingerprint != command.fingerprint:
            return Failed(ID_REUSED, f"request id {command.request_id!r} was used for another request")
        return Done(fact, True, position)

    def tenant(self, tenant_id: str, known: Known | None, wants: Wants) -> Tenant | Failed | None:
        """The tenant, or that there is none, or None: it must be loaded."""
        tenant = self._residents.tenants.get(tenant_id)
        if tenant is not None:
            return tenant
        if known is not None and tenant_id in known.absent:
            return Failed(TENANT_UNKNOWN, "no such organisation")
        wants.tenants.add(tenant_id)
        return None

    def card(self, tenant_id: str, card_id: str, known: Known | None, wants: Wants) -> Card | Failed | None:
        """The card, or that there is none, or None: it must be loaded."""
        card = self._residents.card(tenant_id, card_id)
        if card is not None:
            return card
        if known is not None and card_id in known.absent:
            return Failed(CARD_UNKNOWN, "no such card")
        wants.cards.add((tenant_id, card_id))
        return None

    def event(self, tenant_id: str, event_id: str, known: Known | None, wants: Wants) -> Event | Failed | None:
        """The event, or that there is none, or None: it must be loaded."""
        event = self._residents.event(tenant_id, event_id)
        if event is not None:
            return event
        if known is not None and event_id in known.absent:
            return Failed(EVENT_UNKNOWN, "no such event")
        wants.events.add((tenant_id, event_id))
        return None

    def _check_in(
        self, command: CheckIn, at_ms: int, is_new: bool, known: Known | None, wants: Wants
    ) -> Failed | list[Fact] | None:
        tenant_id = command.tenant_id
        tenant = self.tenant(tenant_id, known, wants)
        event = self.event(tenant_id, command.event_id, known, wants)
        card = self.card(tenant_id, command.card_id, known, wants)
        if not is_new or tenant is None or event is None or card is None:
            return None
        if isinstance(tenant, Failed):
            return tenant
        if isinstance(event, Failed):
            return event
        return decide_check_in(tenant, card if isinstance(card, Card) else None, event, command, at_ms)

    def _within_tenant(
        self, command: Command, at_ms: int, is_new: bool, known: Known | None, wants: Wants
    ) -> Failed | list[Fact] | None:
        tenant = self.tenant(command.tenant_id, known, wants)
        if isinstance(tenant, Failed):
            return tenant
        match command:
            case ChangeTenant():
                return decide_change_tenant(tenant, command, at_ms) if tenant and is_new else None
            case ChangePlan():
                return decide_change_plan(tenant, command, at_ms) if tenant and is_new else None
            case IssueCard():
                return decide_issue_card(tenant, command, at_ms) if tenant and is_new else None
            case CreateEvent():
                return decide_create_event(tenant, command, at_ms) if tenant and is_new else None
            case ChangeEvent():
                event = self.event(command.tenant_id, command.event_id, known, wants)
                if isinstance(event, Failed):
                    return event
                return decide_change_event(event, command, at_ms) if tenant and event and is_new else None
            case ChangeCardState() | RenameCardHolder() | AwardPoints() | RedeemPoints() | ReversePoints():
                card = self.card(command.tenant_id, command.card_id, known, wants)
                if isinstance(card, Failed):
                    return card
                if tenant is None or card is None or not is_new:
                    return None
                return self._on_card(tenant, card, command, at_ms, known, wants)
        raise AssertionError(f"unhandled command {type(command).__name__}")

    def _on_card(
        self,
        tenant: Tenant,
        card: Card,
        command: ChangeCardState | RenameCardHolder | AwardPoints | RedeemPoints | ReversePoints,
        at_ms: int,
        known: Known | None,
        wants: Wants,
    ) -> list[Fact] | None:
        match command:
            case ChangeCardState():
                return decide_change_card_state(tenant, card, command, at_ms)
            case RenameCardHolder():
                return decide_rename_card_holder(command, at_ms)
            case AwardPoints():
                return decide_award(tenant, card, command, at_ms)
            case RedeemPoints():
                return decide_redeem(tenant, card, command, at_ms)
            case ReversePoints():
                return self._reverse(tenant, card, command, at_ms, known, wants)

    def _reverse(
        self, tenant: Tenant, card: Card, command: ReversePoints, at_ms: int, known: Known | None, wants: Wants
    ) -> list[Fact] | None:
        fact = self._recent.get(card.card_id, command.entry_seq)
        entry = LedgerEntry(fact, False) if fact is not None else None
        if entry is None and 1 <= command.entry_seq <= card.entry_count:
            if known is None or known.entry is None:
                wants.ledger_entries.add((command.tenant_id, card.card_id, command.entry_seq))
                return None
            entry = known.entry[0]
        if entry is not None and self._recent.is_reversed(card.card_id, command.entry_seq):
            entry = LedgerEntry(entry.fact, True)
        event = None
        if entry is not None and entry.fact.kind == "award" and entry.fact.event_id:
            found = self.event(command.tenant_id, entry.fact.event_id, known, wants)
            if found is None:
                return None
            event = found if isinstance(found, Event) else None
        return decide_reverse(tenant, card, event, entry, command, at_ms)
