"""What one message leads to: an answer, new facts, or the need to load something first.

Rules:
1. The request id is looked up before anything else: a known id gives the stored outcome, whatever has changed since.
2. Nothing here changes state; the partition applies the facts that come out.
3. A tap of an NFC tag is a scan of the card that has the tag at that moment. A tag that is no card's is an unknown
   card.
4. What a load has told is kept with the waiting message (`Known`); what is in memory goes before it, for it is newer.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.admin import decide_open_tenant
from actors.card import Card
from actors.card_facts import tag_id_of
from actors.checkin import decide_check_in
from actors.commands import CheckIn, Command, OpenTenant, Wake
from actors.coupon import Coupon, Redemption
from actors.coupon_grants import Grants
from actors.event import Event
from actors.facts import Fact
from actors.handlers import handle
from actors.ledger import tier_settled
from actors.live import Views
from actors.offline import decide_offline
from actors.payout import Payout
from actors.recent import RecentEntries
from actors.refusals import ID_REUSED
from actors.replies import Done, Failed
from actors.requests import RequestMemory
from actors.residents import Residents
from actors.scope import UNKNOWN, NotLoaded, Scope, Unknown
from actors.tag import Tag
from actors.tenant import Tenant
from actors.waiting import Known, Wants


class Judge:
    """Decides commands on what is in memory."""

    def __init__(self, residents: Residents, requests: RequestMemory, recent: RecentEntries, views: Views) -> None:
        self.residents = residents
        self.requests = requests
        self.recent = recent
        self.views = views

    def judge(
        self, command: Command, at_ms: int, known: Known | None, wants: Wants
    ) -> Done | Failed | list[Fact] | None:
        """The stored outcome of a known request, a failure, the facts of a new one, or None: `wants` tells what must
        be loaded."""
        if type(command) is Wake:
            return self._decided(command, at_ms, known, wants)
        key = (command.tenant_id, command.request_id)
        before = self.requests.get(key) or (known.answer if known is not None else None)
        if before is not None:
            return self._replayed(command, *before)
        is_new = (known is not None and known.is_new) or self.requests.is_certainly_new(key, at_ms)
        if not is_new:
            wants.requests.add(key)
        if isinstance(command, CheckIn):
            return self._check_in(command, at_ms, is_new, known, wants)
        if isinstance(command, OpenTenant):
            return decide_open_tenant(command, at_ms) if is_new else None
        outcome = self._decided(command, at_ms, known, wants)
        return outcome if is_new or isinstance(outcome, Failed) else None

    def _decided(self, command: Command, at_ms: int, known: Known | None, wants: Wants) -> Failed | list[Fact] | None:
        try:
            return handle(Scope(self, command.tenant_id, known, wants), command, at_ms)
        except NotLoaded:
            return None
        except Unknown as unknown:
            return unknown.failure

    @staticmethod
    def _replayed(command: Command, fact: Fact, position: int) -> Done | Failed:
        if fact.fingerprint != command.fingerprint:
            return Failed(ID_REUSED, f"request id {command.request_id!r} was used for another request")
        return Done(fact, True, position)

    def tenant(self, tenant_id: str, known: Known | None, wants: Wants) -> Tenant | Failed | None:
        """The tenant, or that there is none, or None: it must be loaded."""
        found: Tenant | Failed | None = self.residents.tenants.get(tenant_id)
        return found or self._find("tenant", tenant_id, tenant_id, known, wants)

    def card(self, tenant_id: str, card_id: str, known: Known | None, wants: Wants) -> Card | Failed | None:
        """The card, or that there is none, or None: it must be loaded."""
        present = self.residents.cards.get(card_id)
        if present is not None and present.tenant_id == tenant_id:
            return present
        found: Card | Failed | None = self._find("card", tenant_id, card_id, known, wants)
        return found

    def event(self, tenant_id: str, event_id: str, known: Known | None, wants: Wants) -> Event | Failed | None:
        """The event, or that there is none, or None: it must be loaded."""
        present = self.residents.events.get(event_id)
        if present is not None and present.tenant_id == tenant_id:
            return present
        found: Event | Failed | None = self._find("event", tenant_id, event_id, known, wants)
        return found

    def coupon(self, tenant_id: str, coupon_id: str, known: Known | None, wants: Wants) -> Coupon | Failed | None:
        """The coupon, or that there is none, or None: it must be loaded."""
        found: Coupon | Failed | None = self._find("coupon", tenant_id, coupon_id, known, wants)
        return found

    def redemption(
        self, tenant_id: str, redemption_id: str, known: Known | None, wants: Wants
    ) -> Redemption | Failed | None:
        """The redemption, or that there is none, or None: it must be loaded."""
        found: Redemption | Failed | None = self._find("redemption", tenant_id, redemption_id, known, wants)
        return found

    def payout(self, tenant_id: str, payout_id: str, known: Known | None, wants: Wants) -> Payout | Failed | None:
        """What a window was paid out by, or that it was not, or None: it must be loaded."""
        found: Payout | Failed | None = self._find("payout", tenant_id, payout_id, known, wants)
        return found

    def _find(self, kind: str, tenant_id: str, own_id: str, known: Known | None, wants: Wants) -> Any:
        actor = self.residents.find(kind, tenant_id, own_id)
        if actor is None:
            if known is not None and own_id in known.absent:
                return UNKNOWN[kind]
            wants.actor(kind, tenant_id, own_id)
        return actor

    def _check_in(
        self, command: CheckIn, at_ms: int, is_new: bool, known: Known | None, wants: Wants
    ) -> Failed | list[Fact] | None:
        tenant_id, residents = command.tenant_id, self.residents
        own, place = residents.tenants.get(tenant_id), residents.events.get(command.event_id)
        shown = residents.cards.get(command.card_id)
        if own is None or place is None or shown is None or not is_new or command.tag_uid:
            return self._check_in_of(command, at_ms, is_new, known, wants)
        if place.tenant_id != tenant_id or shown.tenant_id != tenant_id:
            return self._check_in_of(command, at_ms, is_new, known, wants)
        return self._at_door(own, shown, place, command, at_ms, None, known, wants)  # as nearly always

    def _check_in_of(
        self, command: CheckIn, at_ms: int, is_new: bool, known: Known | None, wants: Wants
    ) -> Failed | list[Fact] | None:
        """The same, of whomever there may be."""
        tenant_id = command.tenant_id
        tenant = self.tenant(tenant_id, known, wants)
        event = self.event(tenant_id, command.event_id, known, wants)
        tag: Tag | None = None
        if command.tag_uid:
            found = self._find("tag", tenant_id, tag_id_of(tenant_id, command.tag_uid), known, wants)
            if found is None:
                return None
            if isinstance(found, Tag) and found.card_id:
                tag, command = found, msgspec.structs.replace(command, card_id=found.card_id)
        card = (
            UNKNOWN["card"] if command.tag_uid and tag is None else self.card(tenant_id, command.card_id, known, wants)
        )
        if not is_new or tenant is None or event is None or card is None:
            return None
        if isinstance(tenant, Failed):
            return tenant
        if isinstance(event, Failed):
            return event
        if isinstance(card, Failed):
            return (decide_offline if command.is_offline else decide_check_in)(tenant, None, event, command, at_ms, tag)
        return self._at_door(tenant, card, event, command, at_ms, tag, known, wants)

    def _at_door(
        self,
        tenant: Tenant,
        card: Card,
        event: Event,
        command: CheckIn,
        at_ms: int,
        tag: Tag | None,
        known: Known | None,
        wants: Wants,
    ) -> list[Fact] | None:
        """Everybody is there."""
        decide = decide_offline if command.is_offline else decide_check_in
        due: list[Fact] = []
        if 0 < card.seldom.tier_due_ms <= at_ms:
            due, card = tier_settled(tenant, card, at_ms)
        rules = tenant.rulebook
        if rules.rules and rules.grants:
            grants = Grants(Scope(self, command.tenant_id, known, wants), at_ms)
            try:
                return [*due, *decide(tenant, card, event, command, at_ms, tag, grants)]
            except NotLoaded:
                return None
        facts = decide(tenant, card, event, command, at_ms, tag)
        return [*due, *facts] if due else facts
