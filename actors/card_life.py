"""Deciding what becomes of a card after its issue: a new credential, another validity or tier, an NFC tag. Pure;
refusals come back as facts.

Rules:
1. Nothing is decided about a revoked card but that it loses its tag, which then serves another card.
2. A tag is one card's and a card has one tag: a tag that is another card's must be taken from that one first.
"""

from __future__ import annotations

from actors.card_commands import AssignTag, CardCommand, ReissueCard, RemoveTag, RenewCard, SetCardTier
from actors.card_facts import (
    CardReissued,
    CardRenewed,
    CardTierChanged,
    TagAssigned,
    TagEnrolled,
    TagRemoved,
    tag_id_of,
)
from actors.facts import CommandRefused, Fact
from actors.ledger import card_alarm
from actors.refusals import CARD_REVOKED, EXPIRY_INVALID, LIMIT_REACHED, TAG_IN_USE, TAG_UNKNOWN, TERMS_INVALID
from actors.rule_run import tier_rules
from actors.scope import Scope
from actors.tag import Tag
from actors.terms import CARD_SERIAL_MAX
from actors.tiers import Standing, fallen_due, review_ms, window_points

_REVOKED = "a revoked card stays as it is; issue a new one"


def decide_reissue_card(scope: Scope, command: ReissueCard, at_ms: int) -> list[Fact]:
    """The next serial is the good one; a suspended card stays suspended."""
    card = scope.card
    if card.state == "revoked":
        return [_refused(command, CARD_REVOKED, _REVOKED, at_ms)]
    if card.serial >= CARD_SERIAL_MAX:
        return [_refused(command, LIMIT_REACHED, f"a card is issued again at most {CARD_SERIAL_MAX} times", at_ms)]
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms, card.card_id)
    return [CardReissued(*head, card.serial + 1, card.state, command.note)]


def decide_renew_card(scope: Scope, command: RenewCard, at_ms: int) -> list[Fact]:
    """Sets the validity, unless it is over before it begins, or by now."""
    if scope.card.state == "revoked":
        return [_refused(command, CARD_REVOKED, _REVOKED, at_ms)]
    if 0 < command.valid_until_ms <= max(at_ms, command.valid_from_ms):
        detail = "the validity must end after it begins, and after now"
        return [_refused(command, EXPIRY_INVALID, detail, at_ms)]
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms, command.card_id)
    return [CardRenewed(*head, command.valid_from_ms, command.valid_until_ms)]


def decide_set_card_tier(scope: Scope, command: SetCardTier, at_ms: int) -> list[Fact]:
    """Puts it there by hand, after what has fallen due."""
    card = scope.card
    if card.state == "revoked":
        return [_refused(command, CARD_REVOKED, _REVOKED, at_ms)]
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms, card.card_id)
    tenant, until_ms = scope.tenant, command.until_ms
    if until_ms and until_ms <= at_ms:
        return [_refused(command, EXPIRY_INVALID, "until must lie in the future", at_ms)]
    if until_ms and tenant.settings.tiers is None:
        detail = "the organisation has no tiers by points that could take over then; set the tier without until"
        return [_refused(command, TERMS_INVALID, detail, at_ms)]
    due, standing = fallen_due(tenant, card, at_ms)
    due_ms = until_ms or review_ms(tenant, command.tier, at_ms)
    told = (window_points(tenant, card, at_ms), due_ms, bool(until_ms), at_ms)
    changed = CardTierChanged(*head, command.tier, standing.tier, "manual", command.note, "", "", *told)
    stands = Standing(command.tier, due_ms, bool(until_ms))
    if card.state != "active" or command.tier == standing.tier:
        return [*due, changed, *card_alarm(card, due_ms, at_ms)]
    cause = f"tier:{command.request_id}"
    return [*due, changed, *tier_rules(scope, card, standing.tier, stands, cause, at_ms)]


def decide_assign_tag(scope: Scope, command: AssignTag, at_ms: int) -> list[Fact]:
    """Gives the tag, and takes the one that the card has. A tag that nobody named before comes to be."""
    card = scope.card
    if card.state == "revoked":
        return [_refused(command, CARD_REVOKED, _REVOKED, at_ms)]
    tag: Tag | None = scope.find("tag", tag_id_of(command.tenant_id, command.tag_uid))
    if tag is not None and tag.card_id not in ("", card.card_id):
        return [_refused(command, TAG_IN_USE, "the tag is another card's; take it from that one first", at_ms)]
    facts: list[Fact] = []
    caused = (command.tenant_id, "", b"", at_ms)
    if card.tag_uid and card.tag_uid != command.tag_uid:
        other: Tag = scope.need("tag", tag_id_of(command.tenant_id, card.tag_uid))
        facts.append(TagRemoved(*caused, card.card_id, other.tag_uid, other.counter))
    if tag is None:
        facts.append(TagEnrolled(*caused, "", command.tag_uid, 0))
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms, card.card_id)
    return [*facts, TagAssigned(*head, command.tag_uid, tag.counter if tag is not None else 0)]


def decide_remove_tag(scope: Scope, command: RemoveTag, at_ms: int) -> list[Fact]:
    """Takes the tag, also from a revoked card."""
    card = scope.card
    if not card.tag_uid:
        return [_refused(command, TAG_UNKNOWN, "the card has no tag", at_ms)]
    tag: Tag = scope.need("tag", tag_id_of(command.tenant_id, card.tag_uid))
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms, card.card_id)
    return [TagRemoved(*head, card.tag_uid, tag.counter)]


def _refused(command: CardCommand, reason: str, detail: str, at_ms: int) -> CommandRefused:
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms)
    return CommandRefused(*head, type(command).__name__, command.card_id, reason, detail)
