"""People of an organisation and their roles. They come by invitation (`gateway.rest.invitations`)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from gateway import limits
from gateway.access_feed import AccessChange
from gateway.identity.memberships import MembershipRole
from gateway.lists import page_of
from gateway.orgs import people
from gateway.orgs.people import PersonRow
from gateway.render import rfc3339
from gateway.rest.common import Allowed, Body, Call, Cursor, Limit, PathId, View
from gateway.rest.invitations import Role
from gateway.rest.preconditions import Editing, digest_of, tag_of
from storage.postgres import Connection

RoleManager = Annotated[Call, Depends(Allowed("roles.manage"))]
router = APIRouter(prefix="/v1/orgs/{org_id}/roles", tags=["people"])


class RoleChange(Body):
    """The role from now on."""

    role: Role


class PersonView(View):
    """Somebody with a role; `member_id` where they are linked to a member of the organisation."""

    account_id: str
    email: str
    name: str
    role: MembershipRole
    member_id: str | None
    joined_at: str


class PersonPage(View):
    """A page of people."""

    items: list[PersonView]
    next_cursor: str | None


class RoleView(View):
    """The role that somebody has now."""

    account_id: str
    role: MembershipRole


@router.get("", summary="People and their roles")
async def list_people(
    org_id: PathId, call: RoleManager, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None
) -> PersonPage:
    """In the order of their account ids."""
    call = call.in_org(org_id)
    async with call.cold.connection() as connection:
        read = partial(people.page, connection, org_id)
        page = await page_of(("roles", org_id), cursor, limit, read, lambda row: row.account_id)
    return PersonPage(items=[_view(row) for row in page.rows], next_cursor=page.next_cursor)


@router.patch("/{account_id}", summary="Change somebody's role")
async def change_role(
    org_id: PathId, account_id: PathId, body: RoleChange, call: RoleManager, edit: Editing
) -> RoleView:
    """It holds within seconds, on open sockets too. The last admin stays one; nobody widens their own role. The `ETag`
    stands for the role."""
    call = call.in_org(org_id)
    by = call.caller.account_id

    async def work(connection: Connection) -> dict[str, Any]:
        now_ms = call.parts.clock_ms()
        edit.check(_version((await people.held(connection, org_id, account_id, now_ms)).role))
        was = (await people.change_role(connection, org_id, account_id, body.role, by, now_ms)).role
        if was != body.role:
            await call.note(connection, account_id, detail={"was": was, "role": body.role})
        return {}

    await call.once(f"role {org_id} {account_id}{edit.asked()}", body, work)
    await call.parts.access.publish(AccessChange("account", account_id))
    edit.tagged(tag_of(_version(body.role)))
    return RoleView(account_id=account_id, role=body.role)


@router.delete("/{account_id}", status_code=204, summary="End somebody's part in the organisation")
async def end_role(org_id: PathId, account_id: PathId, call: RoleManager) -> Response:
    """Their account stays; it only has no part here any more. The last admin stays."""
    call = call.in_org(org_id)
    async with call.cold.connection() as connection, connection.transaction():
        held = await people.end_role(connection, org_id, account_id, call.parts.clock_ms())
        await call.note(connection, account_id, detail={"was": held.role, "ended": True})
    await call.parts.access.publish(AccessChange("account", account_id))
    return Response(status_code=204)


def _version(role: MembershipRole) -> str:
    return digest_of(role)


def _view(row: PersonRow) -> PersonView:
    return PersonView(
        account_id=row.account_id,
        email=row.email,
        name=row.name,
        role=row.role,
        member_id=row.member_id,
        joined_at=rfc3339(row.joined_at_ms),
    )
