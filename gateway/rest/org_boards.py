"""An organisation's own leaderboards, and when the windows of all are frozen (`actors.board`, `actors.freezing`)."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from actors.board_commands import SetBoards
from actors.facts import TenantChanged
from actors.queries import GetTenant
from actors.replies import TenantView
from actors.terms import BOARD_GRACE_MS_MAX, BOARDS_PER_TENANT_MAX, BoardTerms, Metric, TenantSettings
from actors.versions import boards_version
from gateway.rest.common import Allowed, Body, Call, PathId, View
from gateway.rest.orgs import OrgReader
from gateway.rest.preconditions import Copied, Editing, tag_of

HOUR_MS = 3_600_000
BoardSetter = Annotated[Call, Depends(Allowed("leaderboards.set"))]
Name = Annotated[str, Field(min_length=1, max_length=40, pattern="^[a-z0-9_]+$", examples=["regulars"])]
router = APIRouter(prefix="/v1/orgs", tags=["organisations"])


class OwnBoard(Body):
    """A leaderboard: what it counts (`points` earned, `visits`, days in a row with one), and whether of cards with one
    score the `first` that reached it comes first, or they have a `shared` rank."""

    name: Name
    metric: Metric
    ties: Literal["first", "shared"] = "first"


class Boards(Body):
    """The boards besides `points`, `visits` and `streak`, which everybody has. What is told late (by a scanner that was
    without a network) counts in its own day, week and month until `grace_hours` after their end; then they are frozen,
    and it counts in those of now."""

    boards: Annotated[list[OwnBoard], Field(max_length=BOARDS_PER_TENANT_MAX)]
    grace_hours: Annotated[int, Field(ge=1, le=BOARD_GRACE_MS_MAX // HOUR_MS)] = 48


class OrgBoardsView(View):
    """An organisation's own leaderboards."""

    boards: list[OwnBoard]
    grace_hours: int


@router.get("/{org_id}/leaderboards", summary="An organisation's own leaderboards")
async def get_boards(org_id: PathId, call: OrgReader, copied: Copied) -> OrgBoardsView:
    """None where nobody has set any."""
    view = await call.in_org(org_id).query(GetTenant(org_id), TenantView)
    copied.tagged(tag_of(boards_version(view.settings)))
    return _view(view.settings)


@router.put("/{org_id}/leaderboards", summary="Set an organisation's own leaderboards")
async def set_boards(org_id: PathId, body: Boards, call: BoardSetter, edit: Editing) -> OrgBoardsView:
    """They show at once what was counted all the time. With `If-Match`: if they are as they were then."""
    call = call.in_org(org_id)
    boards = tuple(BoardTerms(board.name, board.metric, board.ties == "shared") for board in body.boards)
    command = SetBoards(org_id, call.request_id, b"", boards, body.grace_hours * HOUR_MS, edit.versions)
    fact = await call.tell(command, TenantChanged)
    edit.tagged(tag_of(boards_version(fact.settings)))
    return _view(fact.settings)


def _view(settings: TenantSettings) -> OrgBoardsView:
    boards = [
        OwnBoard(name=board.name, metric=board.metric, ties="shared" if board.is_shared else "first")
        for board in settings.boards
    ]
    return OrgBoardsView(boards=boards, grace_hours=settings.board_grace_ms // HOUR_MS)
