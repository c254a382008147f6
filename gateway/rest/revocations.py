"""Which cards may not be let in, for scanners that judge without a network: what the socket tells as `revoked`."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from actors.queries import REVOCATIONS_TOPIC, GetTopic
from actors.replies import CardChanges, TopicView
from gateway import limits
from gateway.problems import Problem
from gateway.rest.common import Allowed, Call, View
from gateway.revocations import Revocations, cursor_of, position_of_cursor

Reader = Annotated[Call, Depends(Allowed("cards.revocations"))]
router = APIRouter(prefix="/v1/cards", tags=["cards"])


class RevocationsView(View):
    """`cards` may not be let in, `restored` may again; with what `since` stood for, that is all up to `cursor`.

    `serials`: cards that were issued again; credentials of a lower serial are refused, whatever the card's state. (One
    that tells no serial has 0.)

    `reset`: forget what you had, this is the list from its beginning. `more`: it goes on, ask again with `cursor`.
    `stale`: what was just confirmed may be missing."""

    cards: list[str]
    restored: list[str]
    serials: dict[str, int]
    cursor: str
    reset: bool
    more: bool
    stale: bool


@router.get("/revocations", summary="Cards that are suspended or revoked")
async def revocations(
    call: Reader,
    request: Request,
    since: Annotated[str | None, Query(max_length=64, pattern="^[A-Za-z0-9_-]*$")] = None,
    limit: Annotated[int, Query(ge=1, le=limits.REVOCATIONS_PER_PAGE_MAX)] = limits.REVOCATIONS_PER_PAGE_MAX,
) -> RevocationsView:
    """All of them, or with `since` (the `cursor` of an earlier answer, or of the socket) what has changed after it."""
    lists: Revocations = request.app.state.revocations
    view = await call.query(GetTopic(call.tenant_id, REVOCATIONS_TOPIC), TopicView)
    if not isinstance(view.snapshot, CardChanges):
        raise Problem("internal", "The engine gave an answer of another kind.")
    until = view.snapshot.position
    start = position_of_cursor(since)
    if start > until:
        start = 0  # a cursor that was never given out for these cards
    is_fresh = True
    try:
        async with asyncio.timeout(limits.READ_YOUR_WRITES_WAIT_MAX_MS / 1_000):
            found = await lists.since(call.tenant_id, start, until, limit)
    except TimeoutError:
        is_fresh = False
        found = await lists.since(call.tenant_id, start, 0, limit)
    return RevocationsView(
        cards=found.revoked,
        restored=found.restored,
        serials=found.serials,
        cursor=cursor_of(found.position),
        reset=not start,
        more=found.has_more,
        stale=not is_fresh,
    )
