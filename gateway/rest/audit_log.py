"""The log of administrative acts of an organisation. Nobody can change or take away a line, here or in Postgres."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from gateway import limits
from gateway.lists import page_of
from gateway.orgs import acts
from gateway.orgs.acts import Act, ActFilter
from gateway.render import rfc3339
from gateway.rest.common import Allowed, Call, Cursor, Limit, PathId, Time, View, ms

LogReader = Annotated[Call, Depends(Allowed("audit_log.read"))]
Word = Annotated[str | None, Query(min_length=1, max_length=limits.ID_CHARS_MAX, pattern="^[!-~]+$")]
router = APIRouter(prefix="/v1/orgs/{org_id}/audit-log", tags=["organisations"])


class ActView(View):
    """Who (`actor`: the id of an account, API key or device, or "superadmin") did what (`action`: a name of
    /docs/permissions) to what (`target`), when, under which request id. `detail` says what changed."""

    id: str
    at: str
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    request_id: str


class ActPage(View):
    """A page of acts."""

    items: list[ActView]
    next_cursor: str | None


@router.get("", summary="The log of administrative acts")
async def audit_log(
    org_id: PathId,
    call: LogReader,
    action: Word = None,
    actor: Word = None,
    target: Word = None,
    since: Annotated[Time | None, Query()] = None,
    until: Annotated[Time | None, Query()] = None,
    limit: Limit = limits.PAGE_ITEMS_DEFAULT,
    cursor: Cursor = None,
) -> ActPage:
    """Newest first. `since` is included, `until` is not."""
    call = call.in_org(org_id)
    which = ActFilter(action, actor, target, ms(since) or None, ms(until) or None)
    scope = ("audit-log", org_id, action, actor, target, which.since_ms, which.until_ms)
    async with call.cold.connection() as connection:
        read = partial(acts.page, connection, org_id, which)
        page = await page_of(scope, cursor, limit, read, lambda act: act.entry_id)
    return ActPage(items=[_view(act) for act in page.rows], next_cursor=page.next_cursor)


def _view(act: Act) -> ActView:
    return ActView(
        id=act.entry_id,
        at=rfc3339(act.at_ms),
        actor=act.actor,
        action=act.action,
        target=act.target,
        detail=act.detail,
        request_id=act.request_id,
    )
