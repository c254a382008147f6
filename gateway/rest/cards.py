"""Cards: issued to a member, one or up to 1,000 at a time; their state, credential and balance.

Rules:
1. A card is issued by the engine under the request id. A member given inline gets an id derived from that request id
   and is stored first, so a retry finds both. (If the engine then refuses, a member without a card stays behind; that
   harms nobody.)
2. In a batch each item has its own request id (its own, or derived from the Idempotency-Key and its index) and its own
   result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from actors.card_numbers import CardNumberError, number_of, parsed, sequence_of
from actors.commands import ChangeCardState, IssueCard, fingerprint
from actors.facts import CardIssued, CardStateChanged
from actors.queries import GetCard
from actors.refusals import CARD_UNKNOWN
from actors.replies import CardView as EngineCardView
from actors.terms import CardState, Tier
from gateway import limits
from gateway.admin_log import actor_of
from gateway.ids import derived_id
from gateway.lists import CardRow, list_cards
from gateway.members import store
from gateway.members.fields import NewMember
from gateway.members.model import Member, new_member
from gateway.members.names import note_issued
from gateway.members.told import profile_of_member
from gateway.problems import FieldError, Problem
from gateway.render import card_state, rfc3339, rfc3339_or_none
from gateway.rest.common import (
    ID_PATTERN,
    Allowed,
    Body,
    Call,
    Cursor,
    Id,
    Limit,
    Note,
    PathId,
    RequestIdField,
    Time,
    View,
    ms,
)

Issuer = Annotated[Call, Depends(Allowed("cards.issue"))]
Changer = Annotated[Call, Depends(Allowed("cards.change"))]
Lister = Annotated[Call, Depends(Allowed("cards.list"))]
CardReader = Annotated[Call, Depends(Allowed("cards.read"))]
router = APIRouter(prefix="/v1/cards", tags=["cards"])
batch_router = APIRouter(tags=["cards"])


class NewCard(Body):
    """Exactly one of `member_id` and `member`."""

    member_id: Id | None = None
    member: NewMember | None = None
    tier: Tier = "bronze"
    valid_from: Time | None = None
    valid_until: Time | None = None

    @model_validator(mode="after")
    def _consistent(self) -> NewCard:
        if (self.member_id is None) == (self.member is None):
            raise PydanticCustomError("one_member", "give exactly one of member_id and member")
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            raise PydanticCustomError("validity_order", "valid_until must be after valid_from")
        return self


class NewCardItem(NewCard):
    """A card of a batch."""

    request_id: RequestIdField | None = None


class NewCards(Body):
    """Up to 1,000 cards."""

    items: Annotated[list[NewCardItem], Field(max_length=limits.BATCH_ITEMS_MAX)]


class StateChange(Body):
    """Why."""

    note: Note = ""


class MemberRef(View):
    """Whose card it is."""

    id: str
    name: str


class CardView(View):
    """A card. `state` is "active", "suspended", "revoked", or "expired" where it would be active but for its validity.
    `number` has sixteen digits for people to read out, None on cards from before there were numbers."""

    id: str
    member: MemberRef
    tier: str
    state: str
    valid_from: str | None
    valid_until: str | None
    number: str | None


class VisitsView(View):
    """How often the card came: a visit is its first admission at an event on a day of the organisation's time zone.
    Counts are those of now, weeks begin on Monday; `streak` are the days in a row with a visit, up to today or
    yesterday."""

    ever: int
    today: int
    this_week: int
    this_month: int
    streak: int
    best_streak: int


class OneCardView(CardView):
    """A card. Credentials of a lower `serial` are dead; `tag_uid` is its NFC tag."""

    serial: int
    tag_uid: str | None
    visits: VisitsView


class IssuedCardView(CardView):
    """A new card with its credential, the text of its QR code."""

    issued_at: str
    credential: str


class CardResult(View):
    """One item's outcome: `card`, or the `problem` with it."""

    request_id: str
    status: int
    card: IssuedCardView | None = None
    problem: dict[str, object] | None = None


class CardResults(View):
    """In the order of the items."""

    items: list[CardResult]


class CardStateView(View):
    """The state that the card has now."""

    id: str
    state: str


class ListedCardView(CardView):
    """A card in a list."""

    balance: int


class CardPage(View):
    """A page of cards. `stale`: what was just confirmed may be missing."""

    items: list[ListedCardView]
    next_cursor: str | None
    stale: bool


@router.post("", status_code=201, summary="Issue a card")
async def issue_card(body: NewCard, call: Issuer) -> IssuedCardView:
    """The credential comes with it."""
    members = await _members(call, [(call.request_id, body)])
    fact = await _issue(call, call.request_id, body, members)
    await _note_names(call, [fact])
    return _issued(call, fact)


@batch_router.post("/v1/cards:batch", summary="Issue up to 1,000 cards")
async def issue_cards(body: NewCards, call: Issuer) -> CardResults:
    """Each with its own result; one that fails holds up no other."""
    named = [(item.request_id or _item_id(call, index), item) for index, item in enumerate(body.items)]
    members = await _members(call, named)
    outcomes = await asyncio.gather(*(_outcome(call, request_id, item, members) for request_id, item in named))
    issued = [outcome for outcome in outcomes if isinstance(outcome, CardIssued)]
    if issued:
        # The earliest time is the same in a retry in which more of them succeed.
        detail = {"issued": len(issued), "asked": len(named), "first": issued[0].card_id, "last": issued[-1].card_id}
        async with call.cold.connection() as connection:
            await call.note(connection, "cards:batch", at_ms=min(fact.at_ms for fact in issued), detail=detail)
        await _note_names(call, issued)
    pairs = zip(named, outcomes, strict=True)
    return CardResults(items=[_result(call, request_id, outcome) for (request_id, _), outcome in pairs])


@router.get("", summary="Cards")
async def cards(
    call: Lister,
    member_id: Annotated[str | None, Query(min_length=1, max_length=64, pattern=ID_PATTERN)] = None,
    number: Annotated[str | None, Query(min_length=1, max_length=limits.CARD_NUMBER_CHARS_MAX)] = None,
    limit: Limit = limits.PAGE_ITEMS_DEFAULT,
    cursor: Cursor = None,
) -> CardPage:
    """Oldest first; all, a member's, or the one with a number, with or without spaces. A member gets their own."""
    sequence = None if number is None else _sequence(call, number)
    if call.reach == "own":
        own = call.caller.member_id
        if not own or member_id not in (None, own):
            return CardPage(items=[], next_cursor=None, stale=False)
        member_id = own
    is_fresh = await call.is_fresh()
    page = await list_cards(call.parts.pool, call.tenant_id, member_id, limit, cursor, number=sequence)
    return CardPage(items=[_listed(call, row) for row in page.rows], next_cursor=page.next_cursor, stale=not is_fresh)


@router.get("/{card_id}", summary="A card")
async def get_card(card_id: PathId, call: CardReader) -> OneCardView:
    """As it is now."""
    return _view(call, await seen_card(call, card_id))


@router.post("/{card_id}/suspend", summary="Suspend a card")
async def suspend(card_id: PathId, call: Changer, body: StateChange | None = None) -> CardStateView:
    """Scans are refused with `card_suspended` until it is resumed."""
    return await _change_state(call, card_id, "suspended", body)


@router.post("/{card_id}/resume", summary="Resume a suspended card")
async def resume(card_id: PathId, call: Changer, body: StateChange | None = None) -> CardStateView:
    """A revoked card cannot be resumed."""
    return await _change_state(call, card_id, "active", body)


@router.post("/{card_id}/revoke", summary="Revoke a card, for good")
async def revoke(card_id: PathId, call: Changer, body: StateChange | None = None) -> CardStateView:
    """Scans are refused with `card_revoked` from now on."""
    return await _change_state(call, card_id, "revoked", body)


async def seen_card(call: Call, card_id: str) -> EngineCardView:
    """The card, as far as the caller may see it. Raises `Problem`."""
    view = await call.query(GetCard(call.tenant_id, card_id), EngineCardView)
    call.sees_member(view.member_id, CARD_UNKNOWN)
    return view


async def _members(call: Call, cards: Sequence[tuple[str, NewCard]]) -> dict[str, Member]:
    """The members of all cards by id: those given inline are stored, the others read, in one statement each. Nobody who
    was erased."""
    now = call.parts.clock_ms()
    inline = [
        new_member(_inline_id(call, request_id), card.member.model_dump(), now, "organiser")
        for request_id, card in cards
        if card.member is not None
    ]
    asked = [card.member_id for _, card in cards if card.member_id is not None]
    async with call.cold.connection() as connection, connection.transaction():
        await store.add(connection, call.tenant_id, inline, actor_of(call.caller))
        found = await store.find(connection, call.tenant_id, asked) if asked else {}
    known = {member_id: member for member_id, member in found.items() if member.erased_at_ms is None}
    return {**known, **{member.member_id: member for member in inline}}


def _inline_id(call: Call, request_id: str) -> str:
    """A retry under the same request id makes the same id."""
    return derived_id("mem", call.tenant_id, request_id)


async def _note_names(call: Call, issued: Sequence[CardIssued]) -> None:
    """Cards whose holders were changed while they were issued follow, too."""
    async with call.cold.connection() as connection:
        await note_issued(connection, call.tenant_id, issued)


async def _issue(
    call: Call, request_id: str, card: NewCard, members: dict[str, Member], *, is_noted: bool = True
) -> CardIssued:
    member = members.get(card.member_id or _inline_id(call, request_id))
    if member is None:
        raise Problem("member_unknown")
    command = IssueCard(
        call.tenant_id,
        request_id,
        b"",
        call.parts.ids.entity("card"),
        member.member_id,
        member.name,
        card.tier,
        ms(card.valid_from),
        ms(card.valid_until),
        profile_of_member(member),
    )
    if card.member_id is not None:
        # The name is not asked for, it is the member's of now: a retry after they were renamed is the same request.
        asked = fingerprint(msgspec.structs.replace(command, member_name=""))
        command = msgspec.structs.replace(command, fingerprint=asked)
    return await call.tell(command, CardIssued, is_noted=is_noted)


def _issued(call: Call, fact: CardIssued) -> IssuedCardView:
    text = call.parts.credentials.issue(
        call.tenant_id, fact.card_id, fact.tier, fact.at_ms, fact.valid_from_ms, fact.valid_until_ms
    )
    return IssuedCardView(
        id=fact.card_id,
        member=MemberRef(id=fact.member_id, name=fact.member_name),
        tier=fact.tier,
        state="active",
        valid_from=rfc3339_or_none(fact.valid_from_ms),
        valid_until=rfc3339_or_none(fact.valid_until_ms),
        number=_number(call, fact.number),
        issued_at=rfc3339(fact.at_ms),
        credential=text,
    )


async def _outcome(call: Call, request_id: str, item: NewCardItem, members: dict[str, Member]) -> CardIssued | Problem:
    try:
        return await _issue(call, request_id, item, members, is_noted=False)
    except Problem as problem:
        return problem


def _result(call: Call, request_id: str, outcome: CardIssued | Problem) -> CardResult:
    if isinstance(outcome, Problem):
        return CardResult(request_id=request_id, status=outcome.row.status, problem=outcome.document())
    return CardResult(request_id=request_id, status=201, card=_issued(call, outcome))


def _item_id(call: Call, index: int) -> str:
    return derived_id("req", call.tenant_id, call.request_id, str(index))


async def _change_state(call: Call, card_id: str, state: CardState, body: StateChange | None) -> CardStateView:
    note = body.note if body else ""
    fact = await call.tell(
        ChangeCardState(call.tenant_id, call.request_id, b"", card_id, state, note), CardStateChanged
    )
    return CardStateView(id=fact.card_id, state=fact.state)


def _view(call: Call, view: EngineCardView) -> OneCardView:
    return OneCardView(
        id=view.card_id,
        member=MemberRef(id=view.member_id, name=view.member_name),
        tier=view.tier,
        state=card_state(view.state, view.valid_until_ms, call.parts.clock_ms()),
        valid_from=rfc3339_or_none(view.valid_from_ms),
        valid_until=rfc3339_or_none(view.valid_until_ms),
        number=_number(call, view.number),
        serial=view.serial,
        tag_uid=view.tag_uid or None,
        visits=VisitsView(**msgspec.structs.asdict(view.visits)),
    )


def _number(call: Call, sequence: int) -> str | None:
    return number_of(call.tenant_id, sequence) if sequence else None


def _sequence(call: Call, number: str) -> int:
    """Which of the organisation's cards has this number. Raises `Problem`."""
    try:
        return sequence_of(call.tenant_id, parsed(number))
    except CardNumberError as error:
        raise Problem("malformed", str(error), [FieldError(str(error), parameter="number")]) from None


def _listed(call: Call, row: CardRow) -> ListedCardView:
    return ListedCardView(
        id=row.card_id,
        member=MemberRef(id=row.member_id, name=row.member_name),
        tier=row.tier,
        state=card_state(row.state, row.valid_until_ms, call.parts.clock_ms()),
        valid_from=rfc3339_or_none(row.valid_from_ms),
        valid_until=rfc3339_or_none(row.valid_until_ms),
        number=_number(call, row.number),
        balance=row.balance,
    )
