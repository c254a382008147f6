"""Invitations: people are asked by mail to take part in an organisation, and accept with an account of their own.

`POST /v1/orgs/{id}/members` is the same as `/invitations`: nobody is made part of an organisation without agreeing.
(The persons an organisation issues cards to are its members in the other sense: `/v1/members`.)"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from actors.queries import GetTenant
from actors.replies import TenantView
from gateway import limits
from gateway.access_feed import AccessChange
from gateway.identity import accounts
from gateway.identity.memberships import MembershipRole
from gateway.identity.tokens import hash_secret
from gateway.ids import derived_id
from gateway.lists import page_of
from gateway.members import store
from gateway.orgs import invitations
from gateway.orgs.invitations import Invitation, InvitationState
from gateway.orgs.limits import INVITATION_LIFE_MS, INVITATION_TOKEN_CHARS_MAX
from gateway.problems import Problem
from gateway.render import rfc3339, rfc3339_or_none
from gateway.rest.common import Allowed, Body, Call, Cursor, Id, Limit, PathId, View
from gateway.rest.org_fields import Email
from storage.postgres import Connection

Inviter = Annotated[Call, Depends(Allowed("roles.manage"))]
Invited = Annotated[Call, Depends(Allowed("invitations.accept"))]
Role = Literal["org_admin", "staff", "member"]
router = APIRouter(prefix="/v1", tags=["people"])


class NewInvitation(Body):
    """Whom, as what, and, if given, which member of the organisation they are."""

    email: Email
    role: Role
    member_id: Id | None = None


class Acceptance(Body):
    """The token from the mail."""

    token: Annotated[str, Field(min_length=1, max_length=INVITATION_TOKEN_CHARS_MAX, pattern="^[!-~]+$")]


class InvitationView(View):
    """An invitation; its token is in the mail and nowhere else."""

    id: str
    email: str
    role: MembershipRole
    member_id: str | None
    state: InvitationState
    invited_by: str
    created_at: str
    expires_at: str
    accepted_at: str | None


class InvitationPage(View):
    """A page of invitations."""

    items: list[InvitationView]
    next_cursor: str | None


class AcceptedView(View):
    """The part that the caller has now: `role` is the wider one where they had one before."""

    org_id: str
    role: MembershipRole
    member_id: str | None


@router.post("/orgs/{org_id}/invitations", status_code=201, summary="Invite somebody")
async def invite(org_id: PathId, body: NewInvitation, call: Inviter) -> InvitationView:
    """They get a mail with a token that works once, for seven days, and for their address only. An earlier invitation
    of the same address ends."""
    return await invite_person(call.in_org(org_id), body)


@router.post("/orgs/{org_id}/members", status_code=201, summary="Invite somebody (the same as invitations)")
async def add_person(org_id: PathId, body: NewInvitation, call: Inviter) -> InvitationView:
    """People are invited, not added: they take part once they accept."""
    return await invite_person(call.in_org(org_id), body)


@router.get("/orgs/{org_id}/invitations", summary="Invitations")
async def list_invitations(
    org_id: PathId, call: Inviter, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None
) -> InvitationPage:
    """In the order of their ids, with what became of them."""
    call = call.in_org(org_id)
    now_ms = call.parts.clock_ms()
    async with call.cold.connection() as connection:
        read = partial(invitations.page, connection, org_id)
        page = await page_of(("invitations", org_id), cursor, limit, read, lambda row: row.invitation_id)
    return InvitationPage(items=[_view(row, now_ms) for row in page.rows], next_cursor=page.next_cursor)


@router.delete("/orgs/{org_id}/invitations/{invitation_id}", status_code=204, summary="Revoke an invitation")
async def revoke_invitation(org_id: PathId, invitation_id: PathId, call: Inviter) -> Response:
    """Its token is worth nothing from then on."""
    call = call.in_org(org_id)
    async with call.cold.connection() as connection, connection.transaction():
        if not await invitations.revoke(connection, org_id, invitation_id, call.parts.clock_ms()):
            raise Problem("invitation_unknown")
        await call.note(connection, invitation_id, detail={"revoked": True})
    return Response(status_code=204)


@router.post("/invitations/accept", summary="Accept an invitation")
async def accept(body: Acceptance, call: Invited) -> AcceptedView:
    """By whoever is signed in with the address that was invited, confirmed."""
    account_id = call.caller.account_id
    async with call.cold.connection() as connection, connection.transaction():
        account = await accounts.find(connection, account_id) if account_id else None
        if account is None:
            raise Problem("forbidden", "Sign in with an account to accept an invitation.")
        if not account.is_verified:
            raise Problem("email_unverified")
        now_ms = call.parts.clock_ms()
        invitation, role, is_new = await invitations.accept(connection, body.token, account_id, account.email, now_ms)
        if is_new:
            detail = {"account": account_id, "role": role}
            await call.within(invitation.tenant_id).note(connection, invitation.invitation_id, detail=detail)
    await call.parts.access.publish(AccessChange("account", account_id))
    return AcceptedView(org_id=invitation.tenant_id, role=role, member_id=invitation.member_id)


async def invite_person(call: Call, body: NewInvitation) -> InvitationView:
    """Invites, once per request id; a retry sends no second mail. Raises `Problem`."""
    org = await call.query(GetTenant(call.tenant_id), TenantView)
    if body.member_id is not None:
        async with call.cold.connection() as connection:
            member = (await store.find(connection, call.tenant_id, [body.member_id])).get(body.member_id)
        if member is None or member.erased_at_ms is not None:
            raise Problem("member_unknown")
    invitation_id = derived_id("inv", call.tenant_id, call.request_id)
    token = invitations.token_of(call.parts.secrets, call.tenant_id, invitation_id)
    now_ms = call.parts.clock_ms()
    invitation = Invitation(
        *(call.tenant_id, invitation_id, body.email, body.role, body.member_id, hash_secret(token)),
        *(_inviter(call), now_ms, now_ms + INVITATION_LIFE_MS),
    )
    is_new = False

    async def work(connection: Connection) -> dict[str, Any]:
        nonlocal is_new
        await invitations.add(connection, invitation)
        # The log is for ever: a member's address is in the invitation, which goes when they are erased.
        left_out = {"email"} if body.member_id is not None else None
        await call.note(connection, invitation_id, detail=body.model_dump(exclude_none=True, exclude=left_out))
        is_new = True
        return _view(invitation, now_ms).model_dump()

    answer = await call.once("invitations", body, work)
    if is_new:
        call.parts.post.send(invitations.letter(body.email, org.name, token))
    return InvitationView(**answer)


def _inviter(call: Call) -> str:
    return call.caller.account_id or call.caller.role


def _view(row: Invitation, now_ms: int) -> InvitationView:
    return InvitationView(
        id=row.invitation_id,
        email=row.email,
        role=row.role,
        member_id=row.member_id,
        state=row.state(now_ms),
        invited_by=row.invited_by,
        created_at=rfc3339(row.created_at_ms),
        expires_at=rfc3339(row.expires_at_ms),
        accepted_at=rfc3339_or_none(row.accepted_at_ms or 0),
    )
