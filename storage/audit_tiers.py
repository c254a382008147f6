"""The auditor's check of tiers by points, counted a second time from the postings. Pure.

Rules as in `storage.audit_checks`, and those of `actors.tiers`. Facts from before there were tiers by points tell no
points and are not looked at.
"""

from __future__ import annotations

from datetime import date, timedelta

import msgspec

from actors.calendar import local_day
from actors.card_facts import CardTierChanged, TierReviewed
from actors.facts import CardIssued, CardStateChanged, Fact, PointsPosted, ScanJudged, TenantChanged, TenantOpened
from actors.terms import TIER_WINDOW_DAYS_MAX, TenantSettings, TierTerms
from storage.audit_checks import Findings, TenantThing

_LADDER = ("bronze", "silver", "gold", "platinum", "diamond")


class _Tier(msgspec.Struct):
    """A card's tier, when it is due, its points by day, and by ledger entry the day on which an award counted, and how
    much it was."""

    tier: str
    due_ms: int = 0
    is_held: bool = False
    is_revoked: bool = False
    days: dict[int, int] = msgspec.field(default_factory=dict)
    awards: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)


class TierCheck:
    """`tiers`: what counts in the window is what was earned there, and each change of a tier follows from it."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._settings: dict[str, TenantSettings] = {}
        self._cards: dict[TenantThing, _Tier] = {}
        # By scan of the journal entry being read: when it was made.
        self._scanned: dict[TenantThing, int] = {}

    def begin_entry(self) -> None:
        """What a scan earned is in its own entry."""
        self._scanned.clear()

    def take(self, fact: Fact, place: str) -> None:
        """The next fact."""
        if isinstance(fact, ScanJudged):
            if not fact.reason:
                self._scanned[fact.tenant_id, fact.request_id] = fact.scanned_at_ms
        elif isinstance(fact, PointsPosted):
            self._posting(fact, place)
        elif isinstance(fact, CardIssued):
            self._cards[fact.tenant_id, fact.card_id] = _Tier(fact.tier)
        elif isinstance(fact, CardStateChanged):
            self._card(fact).is_revoked = fact.state == "revoked"
        elif isinstance(fact, CardTierChanged | TierReviewed):
            self._change(fact, place)
        elif isinstance(fact, TenantOpened | TenantChanged):
            self._settings[fact.tenant_id] = fact.settings

    def _card(self, fact: PointsPosted | CardTierChanged | TierReviewed | CardStateChanged) -> _Tier:
        return self._cards.setdefault((fact.tenant_id, fact.card_id), _Tier("bronze"))

    def _note(self, detail: str) -> None:
        self._findings.add("tiers", detail)

    def _posting(self, fact: PointsPosted, place: str) -> None:
        card, settings = self._card(fact), self._settings.get(fact.tenant_id, TenantSettings())
        day = 0
        if fact.kind == "award" and settings.tiers is not None:
            scanned_ms = self._scanned.get((fact.tenant_id, fact.cause.removeprefix("checkin:")), fact.at_ms)
            day, points = local_day(scanned_ms, settings.time_zone), fact.amount
            if scanned_ms != fact.at_ms and (fact.earned_on is None or fact.earned_on.day != day):
                day = local_day(fact.at_ms, settings.time_zone)  # a scanner's own time counts only without a network
            card.awards[fact.entry_seq] = (day, points)
            if 0 < card.due_ms <= fact.at_ms:
                self._note(f"{place}: {fact.card_id} earns while its tier is due since {card.due_ms}")
        elif fact.kind == "reverse" and fact.reverses in card.awards:
            day, amount = card.awards[fact.reverses]
            points = -amount
            if day <= _before(max(card.days), TIER_WINDOW_DAYS_MAX):
                day = 0  # forgotten
        wanted = None
        if day:
            card.days[day] = card.days.get(day, 0) + points
            wanted = (day, card.days[day])
        said = (fact.earned_on.day, fact.earned_on.points) if fact.earned_on is not None else None
        if said != wanted:
            self._note(f"{place}: {fact.card_id} is said to have earned {said}, counted {wanted}")

    def _change(self, fact: CardTierChanged | TierReviewed, place: str) -> None:
        card, settings = self._card(fact), self._settings.get(fact.tenant_id, TenantSettings())
        before, was_held = card.tier, card.is_held
        is_changed = isinstance(fact, CardTierChanged)
        card.tier, card.due_ms = fact.tier, fact.due_ms
        card.is_held = fact.is_held if isinstance(fact, CardTierChanged) else False
        if not fact.as_of_ms:
            return
        tiers = settings.tiers
        points = 0
        if tiers is not None:
            since = _before(local_day(fact.as_of_ms, settings.time_zone), tiers.window_days)
            points = sum(earned for day, earned in card.days.items() if day > since)
        if fact.points != points and not (card.is_revoked and not fact.points):
            self._note(f"{place}: {fact.card_id} is said to have {fact.points} points in the window, counted {points}")
        if fact.due_ms and fact.due_ms <= fact.as_of_ms:
            self._note(f"{place}: the tier of {fact.card_id} was due at {fact.due_ms}, before it was looked at")
        reason = fact.reason if isinstance(fact, CardTierChanged) else ""
        if reason == "rule":
            if was_held:
                self._note(
                    f"{place}: a rule takes {fact.card_id} from {before}, where a person had set it until a time"
                )
        elif tiers is not None and reason != "manual" and not card.is_revoked:
            wanted = _tier_of(tiers, reason, before, fact.points, was_held=was_held)
            if fact.tier not in wanted or (is_changed and fact.tier == before):
                self._note(f"{place}: {fact.card_id} comes from {before} to {fact.tier} with {fact.points} points")


def _tier_of(tiers: TierTerms, reason: str, before: str, points: int, *, was_held: bool) -> tuple[str, ...]:
    """The tiers that are right after being looked at, or after earning (`reason`)."""
    enough = [level.tier for level in tiers.levels if level.points <= points] or [tiers.levels[0].tier]
    if reason in ("points", "until") or (not reason and was_held):
        return (enough[-1],)
    up, below = _LADDER.index(enough[-1]), [one.tier for one in tiers.levels if _rank(one.tier) < _rank(before)]
    if up >= _rank(before):
        return (enough[-1], before) if not reason else (enough[-1],)
    down = {"keep": before, "by_points": enough[-1], "one_down": below[-1] if below else before}[tiers.policy]
    # A first date is given without looking.
    return (before, down) if not reason else (down,)


def _rank(tier: str) -> int:
    return _LADDER.index(tier)


def _before(day: int, count: int) -> int:
    earlier = date(day // 10_000, day // 100 % 100, day % 100) - timedelta(days=count)
    return earlier.year * 10_000 + earlier.month * 100 + earlier.day
