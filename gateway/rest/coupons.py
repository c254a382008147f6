"""Coupons: what holds for them, their codes, and what happens at the till.

Rules:
1. Codes are derived from the request that asks for them (`gateway.coupon_codes`): the same Idempotency-Key gives the
   same codes. A campaign of more than 1,000 asks several times; `issued` of the coupon tells how far it has come.
2. Lists tell a code's last characters; the whole of it only to who may issue codes, and to the member whose card it is
   for.
3. A mistyped code is unknown without the engine being asked.
4. What a rule granted has no text: it is redeemed by its id, under its card's address. An issued code has an id, too,
   which is no secret and redeems nothing.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from actors.coupon_commands import (
    CaptureCoupon,
    ChangeCoupon,
    DefineCoupon,
    IssueCoupons,
    RedeemCoupon,
    ReleaseCoupon,
    RollbackCoupon,
)
from actors.coupon_facts import (
    GRANT_PREFIX,
    CodesIssued,
    CouponChanged,
    CouponDefined,
    CouponRedeemed,
    RedemptionChanged,
)
from actors.coupon_terms import CODES_PER_COMMAND_MAX, CouponCounts, NewCode, RedemptionState
from actors.queries import GetCard, GetCoupon, GetRedemption
from actors.refusals import CARD_UNKNOWN, COUPON_UNKNOWN
from actors.replies import CardView as EngineCardView
from actors.replies import CouponView as EngineCouponView
from actors.replies import RedemptionView as EngineRedemptionView
from actors.versions import coupon_version
from gateway import limits
from gateway.coupon_codes import TAIL_CHARS, TYPED_PATTERN, code_id, is_mistyped, issued_code, normalised
from gateway.lists import page_of
from gateway.problems import Problem
from gateway.render import rfc3339, rfc3339_or_none
from gateway.rest.common import Allowed, Body, Call, Cursor, Id, Limit, Note, PathId, Time, View, ms, set_ms
from gateway.rest.coupon_views import (
    CouponChange,
    CouponView,
    NewCoupon,
    RedemptionView,
    coupon_view,
    redemption_view,
)
from gateway.rest.preconditions import Copied, Editing, tag_of
from gateway.rest.scans import IdFilter
from storage import coupon_lists
from storage.coupon_lists import CodeRow, CouponRow, RedemptionRow

Manager = Annotated[Call, Depends(Allowed("coupons.manage"))]
Issuer = Annotated[Call, Depends(Allowed("coupons.issue"))]
Reader = Annotated[Call, Depends(Allowed("coupons.read"))]
Till = Annotated[Call, Depends(Allowed("coupons.redeem"))]
CardReader = Annotated[Call, Depends(Allowed("cards.coupons"))]
router = APIRouter(prefix="/v1/coupons", tags=["coupons"])
card_router = APIRouter(prefix="/v1/cards", tags=["coupons"])


class NewCodes(Body):
    """Either `count` codes that any card may use, or one for each of `card_ids`."""

    count: Annotated[int, Field(ge=1, le=CODES_PER_COMMAND_MAX)] | None = None
    card_ids: Annotated[list[Id], Field(min_length=1, max_length=CODES_PER_COMMAND_MAX)] | None = None

    @model_validator(mode="after")
    def _one(self) -> NewCodes:
        if (self.count is None) == (self.card_ids is None):
            raise PydanticCustomError("one_of", "give exactly one of count and card_ids")
        return self


class AtTheTill(Body):
    """`bill_id` is the till's own name for the transaction: what is redeemed under it has to go together. With
    `hold_until` (24 hours ahead at most) the coupon is held until it is captured or released."""

    code: Annotated[str, Field(pattern=TYPED_PATTERN)]
    card_id: Id
    bill_id: Id | None = None
    hold_until: Time | None = None


class GrantedAtTheTill(Body):
    """As in `AtTheTill`."""

    bill_id: Id | None = None
    hold_until: Time | None = None


class Reason(Body):
    """Why."""

    note: Note = ""


class NewCodeView(View):
    """A new code."""

    id: str
    code: str
    card_id: str | None


class NewCodesView(View):
    """In the order of the cards; `issued` is how many codes the coupon has now."""

    coupon_id: str
    items: list[NewCodeView]
    issued: int


class CodeView(View):
    """A code in a list: `tail` are its last characters, `code` all of it, for who may see that. One that a rule granted
    (`is_granted`) has neither."""

    id: str
    coupon_id: str
    coupon_name: str
    card_id: str | None
    is_granted: bool
    tail: str
    code: str | None
    state: str
    redemption_id: str | None
    issued_at: str
    expires_at: str | None


class CouponPage(View):
    """A page of coupons. `stale`: what was just confirmed may be missing."""

    items: list[CouponView]
    next_cursor: str | None
    stale: bool


class CodePage(View):
    """A page of codes. `stale`: what was just confirmed may be missing."""

    items: list[CodeView]
    next_cursor: str | None
    stale: bool


class RedemptionPage(View):
    """A page of redemptions. `stale`: what was just confirmed may be missing."""

    items: list[RedemptionView]
    next_cursor: str | None
    stale: bool


@router.post("", status_code=201, summary="Define a coupon")
async def define_coupon(body: NewCoupon, call: Manager) -> CouponView:
    """With a `shared_code` it can be redeemed at once; else codes are issued for it."""
    terms = body.terms()
    shared_id = code_id(call.tenant_id, terms.shared_code) if terms.shared_code else ""
    coupon_id = call.parts.ids.entity("cpn")
    command = DefineCoupon(call.tenant_id, call.request_id, b"", coupon_id, terms, shared_id)
    fact = await call.tell(command, CouponDefined)
    return coupon_view(fact.coupon_id, fact.terms, CouponCounts())


@router.get("", summary="Coupons")
async def coupons(call: Reader, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None) -> CouponPage:
    """Oldest first."""
    is_fresh = await call.is_fresh()
    async with call.cold.connection() as connection:

        async def read(after: str, count: int) -> list[CouponRow]:
            return await coupon_lists.coupons(connection, call.tenant_id, after, count)

        page = await page_of(("coupons", call.tenant_id), cursor, limit, read, lambda row: row.coupon_id)
    items = [coupon_view(row.coupon_id, row.terms, row.counts) for row in page.rows]
    return CouponPage(items=items, next_cursor=page.next_cursor, stale=not is_fresh)


@router.get("/{coupon_id}", summary="A coupon")
async def get_coupon(coupon_id: PathId, call: Reader, copied: Copied) -> CouponView:
    """As it is now, with its counts."""
    found = await call.query(GetCoupon(call.tenant_id, coupon_id), EngineCouponView)
    view = coupon_view(found.coupon_id, found.terms, found.counts)
    copied.tagged(tag_of(coupon_version(found.terms), view.model_dump_json()))
    return view


@router.patch("/{coupon_id}", summary="Change a coupon")
async def change_coupon(coupon_id: PathId, body: CouponChange, call: Manager, edit: Editing) -> CouponView:
    """Changes what is given. What has ended stays as it is."""
    fact = await call.tell(
        ChangeCoupon(
            call.tenant_id,
            call.request_id,
            b"",
            coupon_id,
            body.name,
            None if body.value is None else body.value.engines(),
            body.state,
            None if body.tiers is None else tuple(body.tiers),
            set_ms(body, "valid_from"),
            set_ms(body, "valid_until"),
            body.valid_days,
            body.limit_in_all,
            body.limit_per_card,
            body.limit_per_day,
            body.stacking,
            body.group,
            if_version=edit.versions,
        ),
        CouponChanged,
    )
    found = await call.query(GetCoupon(call.tenant_id, coupon_id), EngineCouponView)
    view = coupon_view(fact.coupon_id, fact.terms, found.counts)
    edit.tagged(tag_of(coupon_version(fact.terms), view.model_dump_json()))
    return view


@router.post("/{coupon_id}/codes", status_code=201, summary="Issue up to 1,000 codes")
async def issue_codes(coupon_id: PathId, body: NewCodes, call: Issuer) -> NewCodesView:
    """All of them or none. The same Idempotency-Key gives the same codes; more than 1,000 take several requests."""
    cards = body.card_ids or [""] * (body.count or 0)
    texts = [issued_code(call.parts.secrets, call.tenant_id, call.request_id, number) for number in range(len(cards))]
    codes = tuple(
        NewCode(code_id(call.tenant_id, text), text[-TAIL_CHARS:], card_id)
        for text, card_id in zip(texts, cards, strict=True)
    )
    command = IssueCoupons(call.tenant_id, call.request_id, b"", coupon_id, codes)
    fact = await call.tell(command, CodesIssued, is_noted=False)
    async with call.cold.connection() as connection:
        await call.note(connection, fact.coupon_id, at_ms=fact.at_ms, detail={"count": fact.count})
    items = [
        NewCodeView(id=code.code_id, code=text, card_id=code.card_id or None)
        for code, text in zip(codes, texts, strict=True)
    ]
    return NewCodesView(coupon_id=fact.coupon_id, items=items, issued=fact.counts.issued)


@router.get("/{coupon_id}/codes", summary="A coupon's codes")
async def codes(
    coupon_id: PathId, call: Reader, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None
) -> CodePage:
    """Newest first, without the shared one."""
    await call.query(GetCoupon(call.tenant_id, coupon_id), EngineCouponView)
    is_fresh = await call.is_fresh()
    async with call.cold.connection() as connection:

        async def read(after: str, count: int) -> list[CodeRow]:
            return await coupon_lists.codes_of_coupon(connection, call.tenant_id, coupon_id, after, count)

        scope = ("coupon codes", call.tenant_id, coupon_id)
        page = await page_of(scope, cursor, limit, read, lambda row: str(row.position))
    items = [_code_view(call, row) for row in page.rows]
    return CodePage(items=items, next_cursor=page.next_cursor, stale=not is_fresh)


@router.get("/{coupon_id}/redemptions", summary="A coupon's redemptions")
async def redemptions(
    coupon_id: PathId,
    call: Reader,
    state: Annotated[RedemptionState | None, Query()] = None,
    card_id: IdFilter = None,
    limit: Limit = limits.PAGE_ITEMS_DEFAULT,
    cursor: Cursor = None,
) -> RedemptionPage:
    """Newest first, holds too, whatever became of them; with `state` and `card_id` only such."""
    await call.query(GetCoupon(call.tenant_id, coupon_id), EngineCouponView)
    is_fresh = await call.is_fresh()
    now_ms = call.parts.clock_ms()
    async with call.cold.connection() as connection:

        async def read(after: str, count: int) -> list[RedemptionRow]:
            of = (connection, call.tenant_id, coupon_id, after, count)
            return await coupon_lists.redemptions(*of, card_id=card_id or "", state=state, now_ms=now_ms)

        scope = ("redemptions", call.tenant_id, coupon_id, state, card_id)
        page = await page_of(scope, cursor, limit, read, lambda row: row.redemption_id)
    items = [redemption_view(row, now_ms) for row in page.rows]
    return RedemptionPage(items=items, next_cursor=page.next_cursor, stale=not is_fresh)


@router.post("/redeem", summary="Redeem a coupon, or hold it")
async def redeem(body: AtTheTill, call: Till) -> RedemptionView:
    """A refusal is 409 with its code. The `id` is for capture, release and rollback."""
    code = normalised(body.code)
    if is_mistyped(code):
        raise Problem(COUPON_UNKNOWN)
    command = RedeemCoupon(
        call.tenant_id,
        call.request_id,
        b"",
        call.parts.ids.entity("rdm"),
        code_id(call.tenant_id, code),
        body.card_id,
        body.bill_id or "",
        ms(body.hold_until),
    )
    return redemption_view(await call.tell(command, CouponRedeemed, is_noted=False))


@router.get("/redemptions/{redemption_id}", summary="A redemption")
async def get_redemption(redemption_id: PathId, call: Till) -> RedemptionView:
    """As it is now: for a till that does not know any more what became of it."""
    found = await call.query(GetRedemption(call.tenant_id, redemption_id), EngineRedemptionView)
    return redemption_view(found, call.parts.clock_ms())


@router.post("/redemptions/{redemption_id}/capture", summary="A hold becomes a redemption")
async def capture(redemption_id: PathId, call: Till) -> RedemptionView:
    """Points are awarded now."""
    command = CaptureCoupon(call.tenant_id, call.request_id, b"", redemption_id)
    return redemption_view(await call.tell(command, RedemptionChanged, is_noted=False))


@router.post("/redemptions/{redemption_id}/release", summary="A hold ends without a redemption")
async def release(redemption_id: PathId, call: Till) -> RedemptionView:
    """The code and its place within the limits are free again."""
    command = ReleaseCoupon(call.tenant_id, call.request_id, b"", redemption_id)
    return redemption_view(await call.tell(command, RedemptionChanged, is_noted=False))


@router.post("/redemptions/{redemption_id}/rollback", summary="Take a redemption back")
async def roll_back(redemption_id: PathId, call: Till, body: Reason | None = None) -> RedemptionView:
    """Once: the code is good again, the limits have room, points are taken back as far as they are there. On a later
    day the count of the day that it was redeemed on is not looked at any more."""
    command = RollbackCoupon(call.tenant_id, call.request_id, b"", redemption_id, body.note if body else "")
    return redemption_view(await call.tell(command, RedemptionChanged))


@card_router.get("/{card_id}/coupons", summary="A card's coupons")
async def coupons_of_card(
    card_id: PathId, call: CardReader, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None
) -> CodePage:
    """The codes that were issued for this card and the coupons that rules granted to it, newest first. A member sees
    their own with the whole code."""
    card = await call.query(GetCard(call.tenant_id, card_id), EngineCardView)
    call.sees_member(card.member_id, CARD_UNKNOWN)
    is_fresh = await call.is_fresh()
    async with call.cold.connection() as connection:

        async def read(after: str, count: int) -> list[CodeRow]:
            return await coupon_lists.codes_of_card(connection, call.tenant_id, card_id, after, count)

        scope = ("card's coupons", call.tenant_id, card_id)
        page = await page_of(scope, cursor, limit, read, lambda row: str(row.position))
    items = [_code_view(call, row) for row in page.rows]
    return CodePage(items=items, next_cursor=page.next_cursor, stale=not is_fresh)


@card_router.post("/{card_id}/coupons/{grant_id}/redeem", summary="Redeem a coupon that a rule granted, or hold it")
async def redeem_granted(
    card_id: PathId, grant_id: PathId, call: Till, body: GrantedAtTheTill | None = None
) -> RedemptionView:
    """As a code is redeemed (`POST /v1/coupons/redeem`); `grant_id` is its id in the list of the card's coupons. It is
    good for that card alone, and needs no code. 409 `coupon_withdrawn`: what it was granted for was annulled."""
    if not grant_id.startswith(GRANT_PREFIX):
        raise Problem(COUPON_UNKNOWN)
    told = body or GrantedAtTheTill()
    entity_id = call.parts.ids.entity("rdm")
    head = (call.tenant_id, call.request_id, b"", entity_id)
    command = RedeemCoupon(*head, grant_id, card_id, told.bill_id or "", ms(told.hold_until))
    return redemption_view(await call.tell(command, CouponRedeemed, is_noted=False))


def _code_view(call: Call, row: CodeRow) -> CodeView:
    text: str | None = None
    is_granted = row.code_id.startswith(GRANT_PREFIX)
    if not is_granted and (call.reach == "own" or call.caller.reach("coupons.issue") is not None):
        text = issued_code(call.parts.secrets, call.tenant_id, row.issue_id, row.number)
        # Under another master secret the texts of before cannot be derived any more.
        text = text if code_id(call.tenant_id, text) == row.code_id else None
    return CodeView(
        id=row.code_id,
        coupon_id=row.coupon_id,
        coupon_name=row.name,
        card_id=row.card_id or None,
        is_granted=is_granted,
        tail=row.tail,
        code=text,
        state=row.state,
        redemption_id=row.redemption_id or None,
        issued_at=rfc3339(row.issued_at_ms),
        expires_at=rfc3339_or_none(row.expires_at_ms),
    )
