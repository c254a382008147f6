"""Tiers by points: an organisation's levels and reviews, and where a card stands between them (`actors.tiers`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from actors.facts import TenantChanged
from actors.queries import GetCardTier, GetTenant
from actors.refusals import CARD_UNKNOWN
from actors.replies import TenantView
from actors.replies import TierView as EngineTierView
from actors.schedule import Schedule
from actors.terms import (
    POINTS_PER_TIER_MAX,
    TIER_NAME_CHARS_MAX,
    TIER_WINDOW_DAYS_MAX,
    Tier,
    TierLevel,
    TierPolicy,
    TierTerms,
)
from actors.tier_commands import SetTiers
from actors.tiers import TIERS, is_above
from actors.versions import tiers_version
from gateway import limits
from gateway.render import rfc3339, rfc3339_or_none
from gateway.rest.cards import CardReader
from gateway.rest.common import Allowed, Body, Call, PathId, View
from gateway.rest.orgs import OrgReader
from gateway.rest.preconditions import Copied, Editing, tag_of
from storage import tier_changes

TierSetter = Annotated[Call, Depends(Allowed("tiers.set"))]
TierName = Annotated[str, Field(max_length=TIER_NAME_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f]*$")]
MonthDay = Annotated[int, Field(ge=1, le=31)]
router = APIRouter(prefix="/v1/orgs", tags=["organisations"])
card_router = APIRouter(prefix="/v1/cards", tags=["cards"])


class Level(Body):
    """A tier, the points that it takes, and what the organisation calls it ("": as we do)."""

    tier: Tier
    points: Annotated[int, Field(ge=0, le=POINTS_PER_TIER_MAX)]
    name: TierName = ""


class Review(Body):
    """When cards are reviewed: each year on `day` of `month`, or each month on `month_days`; at a local time of the
    organisation. Days that a month does not have mean its last."""

    month: Annotated[int, Field(ge=0, le=12)] = 0
    day: Annotated[int, Field(ge=0, le=31)] = 0
    month_days: Annotated[list[MonthDay], Field(max_length=31)] = Field(default_factory=list)
    hour: Annotated[int, Field(ge=0, le=23)] = 0
    minute: Annotated[int, Field(ge=0, le=59)] = 0

    @model_validator(mode="after")
    def _consistent(self) -> Review:
        if bool(self.month) == bool(self.month_days):
            raise PydanticCustomError("review", "a review is each year on a day of a month, or each month on days")
        try:
            self.schedule()
        except ValueError as error:
            raise PydanticCustomError("review", "{why}", {"why": str(error)}) from None
        return self

    def schedule(self) -> Schedule:
        """As the engine takes it. Raises `ValueError`."""
        days = tuple(sorted(set(self.month_days)))
        return Schedule(self.hour, self.minute, month_days=days, month=self.month, day=self.day)


class Tiers(Body):
    """The levels from the lowest, which begins at 0 points, up; the points are those earned on the last `window_days`
    days. `policy` says what a review does to cards whose points are not enough any more: `keep` them, take them
    `one_down`, or to the level `by_points`."""

    levels: Annotated[list[Level], Field(min_length=1, max_length=len(TIERS))]
    window_days: Annotated[int, Field(ge=1, le=TIER_WINDOW_DAYS_MAX)] = 365
    policy: TierPolicy = "by_points"
    review: Review = Field(default_factory=lambda: Review(month=1, day=1))


class OrgTiersView(View):
    """How an organisation's cards come into tiers; null: by hand alone."""

    tiers: Tiers | None


class NextTierView(View):
    """The next level up: what it takes, and how many points are missing."""

    tier: str
    name: str
    points: int
    missing: int


class TierChangeView(View):
    """A change of a card's tier. `reason`: "manual" a person, "points" those just earned, "review" a review, "until"
    the end of what a person had set. `points` are those of the window at that time."""

    at: str
    tier: str
    tier_before: str
    reason: str
    points: int
    note: str
    cause: str
    rule: str | None


class CardStandingView(View):
    """Where a card stands. `points` are those earned in the window (null where tiers are set by hand alone); `until` is
    the end of what a person set, `review_at` the next review. `history` has the latest changes, newest first; with
    `stale` what was just confirmed may be missing there."""

    card_id: str
    tier: str
    name: str
    points: int | None
    window_days: int | None
    next: NextTierView | None
    until: str | None
    review_at: str | None
    history: list[TierChangeView]
    stale: bool


@router.get("/{org_id}/tiers", summary="How an organisation's cards come into tiers")
async def get_tiers(org_id: PathId, call: OrgReader, copied: Copied) -> OrgTiersView:
    """Null where nobody has set it."""
    view = await call.in_org(org_id).query(GetTenant(org_id), TenantView)
    copied.tagged(tag_of(tiers_version(view.settings.tiers)))
    return _org_view(view.settings.tiers)


@router.put("/{org_id}/tiers", summary="Set how cards come into tiers")
async def set_tiers(org_id: PathId, body: Tiers, call: TierSetter, edit: Editing) -> OrgTiersView:
    """Points earned from now on count; nobody's tier changes at once: cards rise with the next points that they earn,
    and come down at reviews. With `If-Match`: if it is as it was then."""
    call = call.in_org(org_id)
    levels = tuple(TierLevel(level.tier, level.points, level.name) for level in body.levels)
    terms = TierTerms(levels, body.window_days, body.policy, body.review.schedule())
    fact = await call.tell(SetTiers(org_id, call.request_id, b"", terms, edit.versions), TenantChanged)
    edit.tagged(tag_of(tiers_version(fact.settings.tiers)))
    return _org_view(fact.settings.tiers)


@router.delete("/{org_id}/tiers", status_code=204, summary="Set tiers by hand alone again")
async def remove_tiers(org_id: PathId, call: TierSetter) -> Response:
    """Cards keep the tier that they have."""
    call = call.in_org(org_id)
    await call.tell(SetTiers(org_id, call.request_id, b"", None), TenantChanged)
    return Response(status_code=204)


@card_router.get("/{card_id}/tier", summary="A card's tier, and what is missing to the next")
async def card_tier(card_id: PathId, call: CardReader) -> CardStandingView:
    """As of now, reviews that fell due a moment ago included."""
    view = await call.query(GetCardTier(call.tenant_id, card_id), EngineTierView)
    call.sees_member(view.member_id, CARD_UNKNOWN)
    is_fresh = await call.is_fresh()
    rows = await tier_changes.latest(call.parts.pool, call.tenant_id, card_id, limits.TIER_CHANGES_SHOWN_MAX)
    terms = view.tiers
    levels = terms.levels if terms is not None else ()
    due_at = rfc3339_or_none(view.due_ms)
    return CardStandingView(
        card_id=card_id,
        tier=view.tier,
        name=next((level.name for level in levels if level.tier == view.tier), "") or view.tier,
        points=view.points if terms is not None else None,
        window_days=terms.window_days if terms is not None else None,
        next=_next(view, levels),
        until=due_at if view.is_held else None,
        review_at=None if view.is_held else due_at,
        history=[_change(row) for row in rows],
        stale=not is_fresh,
    )


def _next(view: EngineTierView, levels: tuple[TierLevel, ...]) -> NextTierView | None:
    above = next((level for level in levels if is_above(level.tier, view.tier)), None)
    if above is None:
        return None
    missing = max(0, above.points - view.points)
    return NextTierView(tier=above.tier, name=above.name or above.tier, points=above.points, missing=missing)


def _change(row: tier_changes.TierChange) -> TierChangeView:
    return TierChangeView(
        at=rfc3339(row.as_of_ms),
        tier=row.tier,
        tier_before=row.tier_before,
        reason=row.reason,
        points=row.points,
        note=row.note,
        cause=row.cause,
        rule=row.rule or None,
    )


def _org_view(terms: TierTerms | None) -> OrgTiersView:
    if terms is None:
        return OrgTiersView(tiers=None)
    levels = [Level(tier=level.tier, points=level.points, name=level.name) for level in terms.levels]
    when = terms.review
    review = Review(
        month=when.month, day=when.day, month_days=list(when.month_days), hour=when.hour, minute=when.minute
    )
    return OrgTiersView(tiers=Tiers(levels=levels, window_days=terms.window_days, policy=terms.policy, review=review))
