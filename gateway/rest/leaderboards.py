"""Leaderboards, read from the engine's memory (durable state only)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from actors.queries import GetBoard
from actors.replies import BoardView
from gateway import limits
from gateway.rest.common import ID_PATTERN, Allowed, Call, PathId, View

BoardReader = Annotated[Call, Depends(Allowed("leaderboards.read"))]
router = APIRouter(prefix="/v1/leaderboards", tags=["leaderboards"])


class RankView(View):
    """A place on the board; equal scores rank by who reached them first, or share a rank where the board says so."""

    rank: int
    card_id: str
    name: str
    score: int


class LeaderboardView(View):
    """`size` is the number of cards on the board; `around_rank` the rank of the card asked for, null if it is not on
    it."""

    board: str
    window: str
    size: int
    items: list[RankView]
    around_rank: int | None


@router.get("/{board}", summary="A leaderboard")
async def leaderboard(
    board: PathId,
    call: BoardReader,
    window: Annotated[
        str, Query(max_length=80, pattern=r"^[A-Za-z0-9_.:-]+$", examples=["all", "event:evt_1"])
    ] = "all",
    limit: Annotated[int, Query(ge=1, le=limits.BOARD_ROWS_MAX)] = 10,
    around: Annotated[str | None, Query(min_length=1, max_length=limits.ID_CHARS_MAX, pattern=ID_PATTERN)] = None,
) -> LeaderboardView:
    """The top rows, or with `around` the rows around a card. Boards: points (earned), visits (one an event and day),
    streak (the most days in a row with a visit within the window), and the organisation's own; windows: all, day, week,
    month (those of now, in the organisation's time zone), day:YYYYMMDD, week:YYYYWW (ISO 8601), month:YYYYMM,
    event:ID."""
    view = await call.query(GetBoard(call.tenant_id, board, window, limit, 0, around or ""), BoardView)
    return LeaderboardView(
        board=view.board,
        window=view.window,
        size=view.size,
        items=[
            RankView(rank=row.rank, card_id=row.card_id, name=row.member_name, score=row.score) for row in view.rows
        ],
        around_rank=view.around_rank or None,
    )
