"""From facts about cards and their tags to rows. Rules as in `storage.rows`."""

from __future__ import annotations

import msgspec

from actors.card_facts import (
    CardReissued,
    CardRenewed,
    CardTierChanged,
    TagAssigned,
    TagEnrolled,
    TagFact,
    TagRemoved,
    TierReviewed,
)
from actors.door_facts import CardNoted, ScanAnnulled
from actors.facts import CardHolderRenamed, CardStateChanged, ScanJudged
from actors.member_facts import BirthdayCame, CardHolderDescribed, MemberFact
from actors.profiles import NO_PROFILE, Profile
from actors.visits import NO_VISITS, Visits
from storage.row_batch import CardChange, RowBatch, VisitScore
from storage.state_tables import TAGS, TIER_CHANGES, VISIT_DAYS

CardChanged = (
    CardStateChanged
    | CardHolderRenamed
    | CardNoted
    | CardReissued
    | CardRenewed
    | CardTierChanged
    | TierReviewed
    | TagAssigned
    | TagRemoved
    | MemberFact
)


def take_card_change(batch: RowBatch, fact: CardChanged, position: int) -> None:
    """A card is not as it was, but for its points."""
    is_for_scanners = isinstance(fact, CardStateChanged | CardReissued)
    if isinstance(fact, CardTierChanged) and fact.as_of_ms:
        key, told = (fact.tenant_id, fact.card_id, position), (fact.at_ms, fact.as_of_ms, fact.tier, fact.tier_before)
        why = (fact.reason, fact.points, fact.note, fact.cause, fact.rule)
        batch.set_state(TIER_CHANGES, (*key, *told, *why, position))
    issued = batch.cards_issued.get((fact.tenant_id, fact.card_id))
    if issued is not None:
        issued[0].apply(fact, position)
        if is_for_scanners:
            batch.issued_and_changed[fact.tenant_id, fact.card_id] = position
        return
    card = card_change(batch, fact.tenant_id, fact.card_id)
    card.position = position
    if is_for_scanners:
        card.state_position = position
    if isinstance(fact, CardStateChanged):
        card.state = fact.state
    elif isinstance(fact, CardReissued):
        card.serial = fact.serial
    elif isinstance(fact, CardHolderRenamed):
        card.member_name = fact.member_name
    elif isinstance(fact, CardNoted):
        card.attention = fact.attention
    elif isinstance(fact, CardRenewed):
        card.valid_from_ms, card.valid_until_ms = fact.valid_from_ms, fact.valid_until_ms
    elif isinstance(fact, CardTierChanged):
        card.tier, card.tier_due_ms, card.tier_is_held = fact.tier, fact.due_ms, fact.is_held
    elif isinstance(fact, TierReviewed):
        card.tier_due_ms, card.tier_is_held = fact.due_ms, False
    elif isinstance(fact, CardHolderDescribed | BirthdayCame):
        card.birthday_on, card.birthday_due_ms = fact.birthday_on, fact.birthday_due_ms
        if isinstance(fact, CardHolderDescribed):
            card.profile = profile_text(fact.profile)
        elif fact.came_on:
            card.birthday_year = fact.came_on // 10_000
    else:
        card.tag_uid = fact.tag_uid if isinstance(fact, TagAssigned) else ""


def take_visits(batch: RowBatch, fact: ScanJudged | ScanAnnulled, position: int) -> None:
    """What happened at a door changed how often a card came."""
    if fact.visits is None:
        return
    if fact.visit_day:
        if fact.part.day:
            count = 1 if isinstance(fact, ScanJudged) else 0
            batch.set_state(VISIT_DAYS, (fact.tenant_id, *fact.part, fact.card_id, count, position))
        _visit_score(batch, fact, fact.visits, position)
    issued = batch.cards_issued.get((fact.tenant_id, fact.card_id))
    if issued is not None:
        issued[0].apply(fact, position)
        return
    card = card_change(batch, fact.tenant_id, fact.card_id)
    card.visits, card.position = visits_text(fact.visits), position


def _visit_score(batch: RowBatch, fact: ScanJudged | ScanAnnulled, visits: Visits, position: int) -> None:
    key = (fact.tenant_id, fact.card_id)
    score = batch.visit_scores.get(key)
    if score is None:
        counts = (visits.ever, position, visits.best_streak, position)
        batch.visit_scores[key] = VisitScore(*key, *counts, position)
        return
    score.ever, score.ever_reached, score.position = visits.ever, position, position
    if visits.best_streak != score.best:
        score.best, score.best_reached, score.best_is_certain = visits.best_streak, position, True


def visits_text(visits: Visits) -> str:
    """How a row keeps them."""
    return msgspec.json.encode(visits).decode() if visits != NO_VISITS else ""


def profile_text(profile: Profile) -> str:
    """How a row keeps it."""
    return msgspec.json.encode(profile).decode() if profile != NO_PROFILE else ""


def take_tag(batch: RowBatch, fact: TagFact, position: int) -> None:
    """Whose tag it is."""
    if not isinstance(fact, TagEnrolled):
        take_card_change(batch, fact, position)
    card_id = fact.card_id if isinstance(fact, TagAssigned) else ""
    batch.set_state(TAGS, (fact.tenant_id, fact.tag_uid, card_id, fact.counter, position))


def take_tap(batch: RowBatch, fact: ScanJudged, position: int) -> None:
    """How far the counter of the tag is, if one was tapped."""
    details = fact.details
    if details is not None and details.tag_uid:
        batch.set_state(TAGS, (fact.tenant_id, details.tag_uid, fact.card_id, details.tag_counter, position))


def card_change(batch: RowBatch, tenant_id: str, card_id: str) -> CardChange:
    """The change so far of a card that was issued before."""
    card = batch.cards_changed.get((tenant_id, card_id))
    if card is None:
        card = batch.cards_changed[tenant_id, card_id] = CardChange(tenant_id, card_id, 0)
    return card
