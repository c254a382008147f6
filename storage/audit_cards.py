"""The auditor's checks of cards' credentials, numbers and tags, from the facts a second time. Pure.

Rules:
1. A card's serial goes up by one each time it is issued again, which no revoked card is. Facts that tell state and
   serial tell those of that moment.
2. An organisation's cards are counted from 1 up in the order of their issue, since there are numbers.
3. A tag is one card's at most and a card has one at most. Only taps of the card's tag are the card's, and each counter
   that is accepted is above all that were before: a tap is good once.
"""

from __future__ import annotations

from actors.card_facts import CardReissued, CardTierChanged, TagAssigned, TagEnrolled, TagFact, TagRemoved
from actors.facts import CardIssued, CardStateChanged, Fact, ScanDetails, ScanJudged
from actors.refusals import CREDENTIAL_REPLAYED
from storage.audit_checks import Findings, TenantThing


class CardCheck:
    """`card_life`, `card_numbers` and `tags`."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._serials: dict[TenantThing, int] = {}
        self._states: dict[TenantThing, str] = {}
        self._tiers: dict[TenantThing, str] = {}
        self._issued: dict[str, int] = {}
        # By tag: its card ("" for none) and the last counter accepted; by card its tag.
        self._tags: dict[TenantThing, tuple[str, int]] = {}
        self._tag_of: dict[TenantThing, str] = {}

    def take(self, fact: Fact, place: str) -> None:
        """The next fact."""
        if isinstance(fact, ScanJudged):
            if fact.details is not None and fact.details.tag_uid:
                self._tap(fact, fact.details, place)
        elif isinstance(fact, CardIssued):
            self._number(fact, place)
        elif isinstance(fact, CardStateChanged | CardReissued):
            self._credential(fact, place)
        elif isinstance(fact, CardTierChanged):
            key = (fact.tenant_id, fact.card_id)
            if self._tiers.get(key) != fact.tier_before:
                self._findings.add("card_life", f"{place}: {fact.card_id} was {self._tiers.get(key)}, not as told")
            self._tiers[key] = fact.tier
        elif isinstance(fact, TagFact):
            self._tag(fact, place)

    def _number(self, fact: CardIssued, place: str) -> None:
        self._tiers[fact.tenant_id, fact.card_id] = fact.tier
        if fact.number:
            expected = self._issued.get(fact.tenant_id, 0) + 1
            if fact.number != expected:
                self._findings.add("card_numbers", f"{place}: card number {fact.number}, {expected} is the next")
            self._issued[fact.tenant_id] = fact.number
        elif fact.tenant_id in self._issued:
            self._findings.add("card_numbers", f"{place}: {fact.card_id} has no number")

    def _credential(self, fact: CardStateChanged | CardReissued, place: str) -> None:
        key = (fact.tenant_id, fact.card_id)
        state = self._states.get(key, "active")
        serial = self._serials.get(key, 0) + isinstance(fact, CardReissued)
        if fact.serial != serial:
            self._findings.add("card_life", f"{place}: {fact.card_id} has serial {fact.serial}, counted {serial}")
        if isinstance(fact, CardReissued) and (fact.state != state or state == "revoked"):
            self._findings.add("card_life", f"{place}: {fact.card_id} is issued again as {fact.state}, is {state}")
        self._serials[key], self._states[key] = fact.serial, fact.state

    def _tag(self, fact: TagFact, place: str) -> None:
        key, card = (fact.tenant_id, fact.tag_uid), (fact.tenant_id, fact.card_id)
        holder, counter = self._tags.get(key, ("", 0))
        if fact.counter != counter:
            self._note(f"{place}: the counter of {fact.tag_uid} is {fact.counter}, counted {counter}")
        if isinstance(fact, TagEnrolled):
            if key in self._tags:
                self._note(f"{place}: tag {fact.tag_uid} comes to be again")
            self._tags[key] = ("", counter)
        elif isinstance(fact, TagRemoved):
            if holder != fact.card_id:
                self._note(f"{place}: takes {fact.tag_uid} from {fact.card_id}, it is that of {holder!r}")
            self._tags[key] = ("", counter)
            self._tag_of.pop(card, None)
        else:
            assert isinstance(fact, TagAssigned)
            if holder not in ("", fact.card_id):
                self._note(f"{place}: gives {fact.tag_uid} to {fact.card_id}, it is that of {holder}")
            if self._tag_of.get(card, fact.tag_uid) != fact.tag_uid:
                self._note(f"{place}: {fact.card_id} has tag {self._tag_of[card]} already")
            self._tags[key], self._tag_of[card] = (fact.card_id, counter), fact.tag_uid

    def _tap(self, fact: ScanJudged, told: ScanDetails, place: str) -> None:
        key = (fact.tenant_id, told.tag_uid)
        holder, counter = self._tags.get(key, ("", 0))
        if fact.card_id != holder:
            self._note(f"{place}: a tap of {told.tag_uid} is judged for {fact.card_id}, it is that of {holder!r}")
        if CREDENTIAL_REPLAYED in (fact.reason, told.conflict):
            if told.tag_counter != counter:
                self._note(f"{place}: a replay moves the counter from {counter} to {told.tag_counter}")
        elif told.tag_counter < counter or (told.tag_counter == counter and not _may_repeat(fact, told)):
            self._note(f"{place}: counter {told.tag_counter} is accepted after {counter}")
        self._tags[key] = (holder, told.tag_counter)

    def _note(self, detail: str) -> None:
        self._findings.add("tags", detail)


def _may_repeat(fact: ScanJudged, told: ScanDetails) -> bool:
    """A scanner without a network refused the scan for a reason of its own; a counter that is used up says nothing
    then."""
    return told.is_offline and bool(fact.reason)
