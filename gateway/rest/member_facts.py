"""What is told of members besides their profile: search, the history of consents, the reputation."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from gateway.members import limits, store
from gateway.members.model import ConsentStep
from gateway.members.reputation_facts import history_of
from gateway.members.search import search
from gateway.problems import FieldError, Problem
from gateway.render import rfc3339
from gateway.rest.common import Allowed, Call, PathId, View
from gateway.rest.member_views import ConsentView, MemberView, accounts_of, consent_view, member_view
from rules.reputation import Factor, reputation

Searcher = Annotated[Call, Depends(Allowed("members.search"))]
MemberReader = Annotated[Call, Depends(Allowed("members.read"))]
router = APIRouter(prefix="/v1/members", tags=["members"])


class HitView(MemberView):
    """A member that was found. `match`: `exact` by the whole of an address or number, `name` by how the name begins,
    `words` by every word, `similar` otherwise; `score` is the likeness, from 0 to 1."""

    match: Literal["exact", "name", "words", "similar"]
    score: float


class HitsView(View):
    """What was found, the best first. `stale`: cards that were just issued may be missing."""

    items: list[HitView]
    stale: bool


class ConsentStepView(View):
    """A consent that was given or withdrawn."""

    consent: str
    given: bool
    at: str
    source: Literal["member", "organiser", "import", "erasure"]


class ConsentsView(View):
    """What holds now, and how that came about, newest first."""

    consents: dict[str, ConsentView]
    history: list[ConsentStepView]


class FactorView(View):
    """One part of the score: what was counted, what that is worth, and why."""

    name: str
    value: int
    points: int
    explanation: str


class ReputationView(View):
    """`score` is from 0 to 100: 50 to start with, and the points of the factors. `stale`: what was just confirmed may
    be missing."""

    score: int
    as_of: str
    factors: list[FactorView]
    stale: bool


@router.get("/search", summary="Search members")
async def search_members(
    call: Searcher,
    q: Annotated[
        str,
        Query(
            min_length=1,
            max_length=limits.QUERY_CHARS_MAX,
            pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$",
        ),
    ],
    limit: Annotated[int, Query(ge=1, le=limits.SEARCH_RESULTS_MAX)] = limits.SEARCH_RESULTS_DEFAULT,
) -> HitsView:
    """By name, e-mail, phone number, and card number. Accents and case make no difference (`nguyen van anh` finds
    `Nguyễn Văn Ánh`), typing errors little. Staff type three characters at least."""
    if call.caller.role == "staff" and len(q.strip()) < limits.QUERY_STAFF_CHARS_MIN:
        detail = f"Type {limits.QUERY_STAFF_CHARS_MIN} characters at least."
        raise Problem("query_too_short", detail, [FieldError(detail, parameter="q")])
    is_fresh = await call.is_fresh()
    async with call.cold.connection() as connection:
        hits = await search(connection, call.tenant_id, q, limit)
        accounts = await accounts_of(connection, call.tenant_id, [hit.member.member_id for hit in hits])
    items = [
        HitView(
            **member_view(hit.member, accounts.get(hit.member.member_id)).model_dump(),
            match=hit.match,
            score=round(hit.score, 3),
        )
        for hit in hits
    ]
    return HitsView(items=items, stale=not is_fresh)


@router.get("/{member_id}/consents", summary="A member's consents, with their history")
async def consents(member_id: PathId, call: MemberReader) -> ConsentsView:
    """The history is append-only; it stays when the member is erased, for it proves what was allowed when."""
    call.sees_member(member_id, "member_unknown")
    async with call.cold.connection() as connection:
        found = await store.find(connection, call.tenant_id, [member_id])
        if member_id not in found:
            raise Problem("member_unknown")
        history = await store.consent_history(connection, call.tenant_id, member_id)
    now = {flag: consent_view(consent) for flag, consent in found[member_id].consents.items()}
    return ConsentsView(consents=now, history=[_step(step) for step in history])


@router.get("/{member_id}/reputation", summary="A member's reputation, explained")
async def member_reputation(member_id: PathId, call: MemberReader) -> ReputationView:
    """From recorded visits, refusals, points and cards; see `rules/reputation.py` for the formula."""
    call.sees_member(member_id, "member_unknown")
    is_fresh = await call.is_fresh()
    now_ms = call.parts.clock_ms()
    async with call.cold.connection() as connection:
        if member_id not in await store.find(connection, call.tenant_id, [member_id]):
            raise Problem("member_unknown")
        history = await history_of(connection, call.tenant_id, member_id)
    found = reputation(history, now_ms)
    factors = [_factor(factor) for factor in found.factors]
    return ReputationView(score=found.score, as_of=rfc3339(now_ms), factors=factors, stale=not is_fresh)


def _step(step: ConsentStep) -> ConsentStepView:
    return ConsentStepView(consent=step.flag, given=step.is_given, at=rfc3339(step.at_ms), source=step.source)


def _factor(factor: Factor) -> FactorView:
    return FactorView(name=factor.name, value=factor.value, points=factor.points, explanation=factor.explanation)
