"""Tiers: from the points that a card earned in a rolling window. Pure.

Rules:
1. What counts are the points earned (`PointsPosted.earned_after`) on the last `window_days` days of the organisation's
   time zone, today among them; those of a late scan on its own day. A reversed award counts no more. The sums are kept
   by day, so the window is exact to the day. They are kept while the organisation has tiers: what was earned before it
   had any does not count.
2. Up at once: the posting that reaches a level's points is followed by the rise. Reversals take no tier back; the next
   review does.
3. Down at review dates (a schedule in the organisation's time zone): with policy "keep" never, with "one_down" by one
   level, with "by_points" to the level that the points are enough for; never below that one. Whoever has the points for
   a higher level then gets it. Only cards above the lowest level have a date; a change of the schedule counts from
   each card's next one on, and a card that was above it before there were tiers gets one with its next award.
4. A tier that a person set until a time stays until then, whatever the points; then it is the one by points. Set
   without such a time it is as good as one by points: the next posting may raise it, the next review lower it.
5. What has fallen due is posted before anything else happens to the card, as of the time at which it fell due. So it
   makes no difference when anybody looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple, get_args

from actors.calendar import add_days, local_day
from actors.card import Card
from actors.card_facts import CardTierChanged, TierReviewed
from actors.schedule import next_scheduled
from actors.tenant import Tenant
from actors.terms import (
    POINTS_PER_TIER_MAX,
    TIER_WINDOW_DAYS_MAX,
    EarnedDay,
    Tier,
    TierReason,
    TierTerms,
)

TIERS: tuple[Tier, ...] = get_args(Tier)
_RANKS: dict[str, int] = {tier: rank for rank, tier in enumerate(TIERS)}
TierFact = CardTierChanged | TierReviewed


class Standing(NamedTuple):
    """A card's tier, when it is looked at next (0: not), and whether a person set it until then."""

    tier: str
    due_ms: int
    is_held: bool


def standing_of(card: Card) -> Standing:
    """As it is in the card's state."""
    return Standing(card.tier, card.tier_due_ms, card.tier_is_held)


def standing_at(tenant: Tenant, card: Card, at_ms: int) -> Standing:
    """As it is once what has fallen due by then is done, posted or not."""
    return fallen_due(tenant, card, at_ms)[1]


def points_in_window(earned: Iterable[EarnedDay], day: int, window_days: int) -> int:
    """The points earned on the last `window_days` days up to `day`."""
    before = add_days(day, -window_days)
    return sum(one.points for one in earned if one.day > before)


def window_points(tenant: Tenant, card: Card, at_ms: int) -> int:
    """The card's points that count at a time; 0 in an organisation without tiers by points."""
    terms = tenant.settings.tiers
    if terms is None:
        return 0
    return points_in_window(card.earned_days, local_day(at_ms, tenant.settings.time_zone), terms.window_days)


def tier_by_points(terms: TierTerms, points: int) -> Tier:
    """The highest level that the points are enough for."""
    return next((level.tier for level in reversed(terms.levels) if level.points <= points), terms.levels[0].tier)


def is_above(tier: str, other: str) -> bool:
    """Whether a tier is higher than another."""
    return _RANKS[tier] > _RANKS[other]


def review_ms(tenant: Tenant, tier: str, after_ms: int) -> int:
    """When a card of this tier is reviewed next, 0: never."""
    terms = tenant.settings.tiers
    if terms is None or not is_above(tier, terms.levels[0].tier):
        return 0
    return next_scheduled(after_ms, terms.review, tenant.settings.time_zone)


def fallen_due(tenant: Tenant, card: Card, at_ms: int) -> tuple[list[TierFact], Standing]:
    """What the times up to now led to (rule 5), and where the card stands then. Reviews that change nothing are told
    once, the last of them."""
    standing = standing_of(card)
    facts: list[TierFact] = []
    while 0 < standing.due_ms <= at_ms:
        tier, points, due_ms = _looked_at(tenant, card, standing)
        head = (card.tenant_id, "", b"", at_ms, card.card_id)
        if facts and isinstance(facts[-1], TierReviewed):
            facts.pop()
        if tier == standing.tier:
            facts.append(TierReviewed(*head, tier, points, due_ms, standing.due_ms))
        else:
            reason: TierReason = "until" if standing.is_held else "review"
            told = (points, due_ms, False, standing.due_ms)
            facts.append(CardTierChanged(*head, tier, standing.tier, reason, "", "", "", *told))
        standing = Standing(tier, due_ms, False)
    return facts, standing


def _looked_at(tenant: Tenant, card: Card, standing: Standing) -> tuple[Tier, int, int]:
    """The tier from its due time on, the points that it goes by, and when it is due next."""
    terms, tier, at_ms = tenant.settings.tiers, TIERS[_RANKS[standing.tier]], standing.due_ms
    if terms is None or card.state == "revoked":
        return tier, 0, 0
    points = points_in_window(card.earned_days, local_day(at_ms, tenant.settings.time_zone), terms.window_days)
    by_points = tier_by_points(terms, points)
    if standing.is_held or is_above(by_points, tier) or terms.policy == "by_points":
        tier = by_points
    elif terms.policy == "one_down" and is_above(tier, by_points):
        lower = [level.tier for level in terms.levels if is_above(tier, level.tier)]
        tier = lower[-1]
    return tier, points, review_ms(tenant, tier, at_ms)


def risen(
    tenant: Tenant,
    card: Card,
    standing: Standing,
    earned: Iterable[EarnedDay],
    at_ms: int,
    cause: str,
    rule: str,
) -> tuple[list[TierFact], Standing]:
    """What points that were just earned lead to (rule 2); `earned` are the sums with them."""
    terms = tenant.settings.tiers
    if terms is None or standing.is_held:
        return [], standing
    points = points_in_window(earned, local_day(at_ms, tenant.settings.time_zone), terms.window_days)
    tier = tier_by_points(terms, points)
    head = (card.tenant_id, "", b"", at_ms, card.card_id)
    if is_above(tier, standing.tier):
        due_ms = review_ms(tenant, tier, at_ms)
        told = (points, due_ms, False, at_ms)
        changed = CardTierChanged(*head, tier, standing.tier, "points", "", cause, rule, *told)
        return [changed], Standing(tier, due_ms, False)
    if standing.due_ms:
        return [], standing
    due_ms = review_ms(tenant, standing.tier, at_ms)
    if not due_ms:
        return [], standing
    tier = TIERS[_RANKS[standing.tier]]
    return [TierReviewed(*head, tier, points, due_ms, at_ms)], Standing(tier, due_ms, False)


def fault_of_tiers(terms: TierTerms) -> str:
    """What is wrong with an organisation's tiers, "" if nothing."""
    levels = terms.levels
    if not 1 <= len(levels) <= len(TIERS):
        return f"there must be 1 to {len(TIERS)} levels"
    if levels[0].points:
        return "the lowest level begins at 0 points"
    for lower, level in pairwise(levels):
        if not is_above(level.tier, lower.tier):
            return f"level {level.tier} must not come after {lower.tier}: tiers are in order, each once"
        if not lower.points < level.points <= POINTS_PER_TIER_MAX:
            return f"level {level.tier} must begin above {lower.points} points, and at most at {POINTS_PER_TIER_MAX}"
    if not 1 <= terms.window_days <= TIER_WINDOW_DAYS_MAX:
        return f"window_days must be 1 to {TIER_WINDOW_DAYS_MAX}"
    if not terms.review.month and not terms.review.month_days:
        return "reviews are on days of the month or of the year"
    return ""
