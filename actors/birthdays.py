"""Deciding what is told of a card's holder, and what a birthday leads to. Pure; refusals come back as facts.

Rules:
1. A birthday comes by the card's alarm alone: nothing else that is decided about the card waits for it. It is of its
   day all the same, however late the alarm rings: what it earns counts for that day.
2. It comes for a card that is active when the alarm rings, whatever its validity; for a suspended one it passes. A
   revoked card has none.
3. One that is due already still comes on its day if it is changed before the alarm rings.
4. A change of the organisation's time zone counts from each card's next birthday on; if the day has not begun yet by
   the clocks of now when the alarm rings, it rings again when that begins.
"""

from __future__ import annotations

from actors.calendar import start_of_day_ms
from actors.card import Card
from actors.coupon_grants import Grants
from actors.facts import CommandRefused, Fact
from actors.ledger import LedgerDraft, card_alarm
from actors.member_commands import DescribeCardHolder
from actors.member_facts import BirthdayCame, CardHolderDescribed
from actors.profiles import fault_of_profile, next_birthday
from actors.refusals import TERMS_INVALID
from actors.rule_run import RuleRun
from actors.scope import Scope


def decide_describe_card_holder(scope: Scope, command: DescribeCardHolder, at_ms: int) -> list[Fact]:
    """Takes what is told, whatever the card's state: a person may be forgotten after their cards are revoked."""
    card, profile = scope.card, command.profile
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms)
    fault = fault_of_profile(profile)
    if fault:
        return [CommandRefused(*head, type(command).__name__, card.card_id, TERMS_INVALID, fault)]
    is_due = 0 < card.birthday_due_ms <= at_ms
    if card.state == "revoked" or not profile.birthday:
        birthday_on, due_ms = 0, 0
    elif is_due or (card.birthday_on and profile.birthday == card.profile.birthday):
        birthday_on, due_ms = card.birthday_on, card.birthday_due_ms
    else:
        zone = scope.tenant.settings.time_zone
        birthday_on, due_ms = next_birthday(profile.birthday, zone, at_ms, card.birthday_year)
    described = CardHolderDescribed(*head, card.card_id, profile, birthday_on, due_ms)
    return [described, *card_alarm(card, card.tier_due_ms, at_ms, due_ms)]


def birthday_woken(scope: Scope, card: Card, at_ms: int) -> list[Fact]:
    """What the alarm of a card leads to whose birthday is due: that, and what else has fallen due before it."""
    tenant = scope.tenant
    zone, head = tenant.settings.time_zone, (card.tenant_id, "", b"", at_ms, card.card_id)
    begins_ms = start_of_day_ms(card.birthday_on, zone)
    draft = LedgerDraft(tenant, card, at_ms, None, min(begins_ms, at_ms))
    draft.settle()
    if begins_ms > at_ms and card.state != "revoked":
        draft.birthday_due_ms = begins_ms
        return draft.woken(BirthdayCame(*head, 0, card.birthday_on, begins_ms))
    came_on = card.birthday_on if card.state == "active" else 0
    next_on, next_ms = 0, 0
    if card.state != "revoked":
        # Whether it came or passed: this year's is over.
        year = card.birthday_on // 10_000
        next_on, next_ms = next_birthday(card.profile.birthday, zone, at_ms, year)
    draft.birthday_due_ms = next_ms
    came = BirthdayCame(*head, came_on, next_on, next_ms)
    if not came_on or not tenant.rulebook.compiled.listens_to("birthday"):
        return draft.woken(came)
    told = (tenant, card, at_ms, f"birthday:{came_on}")
    run = RuleRun(*told, happened_ms=begins_ms, draft=draft, grants=Grants(scope, at_ms))
    run.happens("birthday")
    return run.woken(came)
