"""Leaderboards, read from the engine's memory (durable state only)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from actors.board_commands import PayOutBoard
from actors.board_facts import BoardPaidOut, Winner
from actors.paying_out import PRIZES_MAX
from actors.queries import GetBoard, GetPayout
from actors.replies import BoardView
from actors.replies import PayoutView as EnginePayoutView
from actors.terms import POINTS_PER_ENTRY_MAX
from gateway import limits
from gateway.render import rfc3339
from gateway.rest.common import ID_PATTERN, Allowed, Body, Call, Note, PathId, View

Prize = Annotated[int, Field(ge=1, le=POINTS_PER_ENTRY_MAX)]
BoardPayer = Annotated[Call, Depends(Allowed("leaderboards.pay_out"))]
Window = Annotated[str, Query(max_length=80, pattern=r"^[A-Za-z0-9_.:-]+$", examples=["all", "event:evt_1"])]
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


class PayOut(Body):
    """The window, written in full (`week:202647`), and the prizes in points, the first rank's first."""

    window: Annotated[str, Field(max_length=80, pattern=r"^[A-Za-z0-9_.:-]+$", examples=["week:202647"])]
    prizes: Annotated[list[Prize], Field(min_length=1, max_length=PRIZES_MAX)]
    note: Note = ""


class WinnerView(View):
    """A card that was among the first, and the points that it got: 0 if it was not active then."""

    rank: int
    card_id: str
    score: int
    points: int


class PayoutView(View):
    """A window that was paid out."""

    board: str
    window: str
    paid_at: str
    winners: list[WinnerView]


@router.post("/{board}/payout", summary="Pay out a window that is frozen")
async def pay_out(board: PathId, body: PayOut, call: BoardPayer) -> PayoutView:
    """Awards the prizes to the first ranks, once for each board and window: a day, week or month some time after its
    end, an event after its doors have closed (`grace_hours` of `PUT /v1/orgs/{org_id}/leaderboards`). Cards that share
    a rank have its prize each; cards that are not active are passed over. The points are earned today."""
    command = PayOutBoard(call.tenant_id, call.request_id, b"", board, body.window, tuple(body.prizes), body.note)
    fact = await call.tell(command, BoardPaidOut)
    return _payout(fact.board, fact.window, fact.at_ms, fact.winners)


@router.get("/{board}/payout", summary="What a window was paid out by")
async def get_payout(board: PathId, call: BoardReader, window: Window) -> PayoutView:
    """The winners as they were then."""
    view = await call.query(GetPayout(call.tenant_id, board, window), EnginePayoutView)
    return _payout(view.board, view.window, view.paid_at_ms, view.winners)


def _payout(board: str, window: str, paid_at_ms: int, winners: tuple[Winner, ...]) -> PayoutView:
    told = [WinnerView(rank=one.rank, card_id=one.card_id, score=one.score, points=one.points) for one in winners]
    return PayoutView(board=board, window=window, paid_at=rfc3339(paid_at_ms), winners=told)


@router.get("/{board}", summary="A leaderboard")
async def leaderboard(
    board: PathId,
    call: BoardReader,
    window: Window = "all",
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
