"""Members: persons known to an organisation. Plain Postgres; their names travel with the cards they are issued."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from gateway import limits
from gateway.cold import MemberRow
from gateway.ids import derived_id
from gateway.lists import list_members
from gateway.problems import Problem
from gateway.render import rfc3339
from gateway.rest.common import Allowed, Body, Call, Cursor, Limit, Name, PathId, View
from storage.postgres import Connection

Email = Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$")]
Phone = Annotated[str, Field(min_length=3, max_length=32, pattern=r"^\+?[0-9 ().-]+$")]
Adder = Annotated[Call, Depends(Allowed("members.create"))]
Lister = Annotated[Call, Depends(Allowed("members.list"))]
MemberReader = Annotated[Call, Depends(Allowed("members.read"))]
router = APIRouter(prefix="/v1/members", tags=["members"])


class NewMember(Body):
    """A person."""

    name: Name
    email: Email | None = None
    phone: Phone | None = None


class MemberView(View):
    """A person known to the organisation."""

    id: str
    name: str
    email: str | None
    phone: str | None
    created_at: str


class MemberPage(View):
    """A page of members."""

    items: list[MemberView]
    next_cursor: str | None


@router.post("", status_code=201, summary="Add a member")
async def add_member(body: NewMember, call: Adder) -> MemberView:
    """The id is derived from the request id."""
    member = member_row(call.tenant_id, call.request_id, body, call.parts.clock_ms())

    async def work(connection: Connection) -> dict[str, Any]:
        await call.cold.add_members(connection, call.tenant_id, [member])
        await call.note(connection, member.member_id)
        return {"created_at_ms": member.created_at_ms}

    answer = await call.once("members", body, work)
    return member_view(member, answer["created_at_ms"])


@router.get("", summary="Members")
async def members(call: Lister, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None) -> MemberPage:
    """In the order of their ids."""
    page = await list_members(call.parts.pool, call.tenant_id, limit, cursor)
    items = [member_view(row, row.created_at_ms) for row in page.rows]
    return MemberPage(items=items, next_cursor=page.next_cursor)


@router.get("/{member_id}", summary="A member")
async def get_member(member_id: PathId, call: MemberReader) -> MemberView:
    """Only the caller's own organisation's."""
    call.sees_member(member_id, "member_unknown")
    found = await call.cold.members(call.tenant_id, [member_id])
    if member_id not in found:
        raise Problem("member_unknown")
    return member_view(found[member_id], found[member_id].created_at_ms)


def member_row(tenant_id: str, request_id: str, body: NewMember, at_ms: int) -> MemberRow:
    """The row of a new member; a retry under the same request id makes the same id."""
    return MemberRow(derived_id("mem", tenant_id, request_id), body.name, body.email, body.phone, at_ms)


def member_view(member: MemberRow, created_at_ms: int) -> MemberView:
    """A member as clients see them."""
    return MemberView(
        id=member.member_id,
        name=member.name,
        email=member.email,
        phone=member.phone,
        created_at=rfc3339(created_at_ms),
    )
