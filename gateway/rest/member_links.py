"""Linking a member to an account: they are invited by mail, and linked once they accept (`gateway.rest.invitations`).

Who is linked sees their own profile, cards and points with their account; nobody is linked without agreeing.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import TypeAdapter, ValidationError

from gateway.access_feed import AccessChange
from gateway.identity import memberships
from gateway.members import store
from gateway.problems import FieldError, Problem
from gateway.rest.common import Allowed, Body, Call, PathId
from gateway.rest.invitations import InvitationView, NewInvitation, invite_person
from gateway.rest.org_fields import Email

Linker = Annotated[Call, Depends(Allowed("members.link"))]
router = APIRouter(prefix="/v1/members", tags=["members"])
_address: TypeAdapter[str] = TypeAdapter(Email)


class NewLink(Body):
    """Whom to invite: the address of the account, the member's own if none is given."""

    email: Email | None = None


@router.post("/{member_id}/link", status_code=201, summary="Invite a member to link their account")
async def link_member(member_id: PathId, call: Linker, body: NewLink | None = None) -> InvitationView:
    """They get a mail with a token that works once, for seven days, and for this address only."""
    call.sees_member(member_id, "member_unknown")
    if call.reach == "own":
        raise Problem("forbidden", "The organisation invites.")
    async with call.cold.connection() as connection:
        found = await store.find(connection, call.tenant_id, [member_id])
    if member_id not in found:
        raise Problem("member_unknown")
    if found[member_id].erased_at_ms is not None:
        raise Problem("member_erased")
    email = body.email if body is not None and body.email is not None else _own(found[member_id].email)
    return await invite_person(call, NewInvitation(email=email, role="member", member_id=member_id))


@router.delete("/{member_id}/link", status_code=204, summary="End the link to a member's account")
async def unlink_member(member_id: PathId, call: Linker) -> Response:
    """Whoever had no other part in the organisation has none then. A member may do this for themself."""
    call.sees_member(member_id, "member_unknown")
    async with call.cold.connection() as connection, connection.transaction():
        if await store.locked(connection, call.tenant_id, member_id) is None:
            raise Problem("member_unknown")
        linked = await memberships.of_member(connection, call.tenant_id, member_id)
        if not linked:
            raise Problem("link_unknown")
        for part in linked:
            await memberships.unlink(connection, part.account_id, call.tenant_id, call.parts.clock_ms())
        await call.note(connection, member_id, detail={"accounts": [part.account_id for part in linked]})
    for part in linked:
        await call.parts.access.publish(AccessChange("account", part.account_id))
    return Response(status_code=204)


def _own(email: str | None) -> str:
    """The member's own address in its normal form. Raises `Problem`."""
    try:
        return _address.validate_python(email)
    except ValidationError as error:
        detail = "The member has no address to send mail to: give one."
        raise Problem("malformed", detail, [FieldError(detail, pointer="#/email")]) from error
