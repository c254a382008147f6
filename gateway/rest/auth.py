"""Registering, signing in and out, passwords. What happens is in `gateway.identity.sign_up` and `.sign_in`.

No answer tells whether an e-mail address has an account, but to whoever knows its password or reads its mail.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from gateway.entrance import Entrance
from gateway.http import request_headers
from gateway.identity.emails import CHARS_MAX as EMAIL_CHARS_MAX
from gateway.identity.emails import normal_email
from gateway.identity.limits import (
    ACCESS_TOKEN_LIFE_MS,
    MAIL_TOKEN_CHARS_MAX,
    PASSWORD_TAKEN_CHARS_MAX,
    REFRESH_TOKEN_CHARS_MAX,
)
from gateway.identity.sign_in import SignedIn, SignIn, Visitor
from gateway.identity.sign_up import SignUp
from gateway.parts import EdgeParts
from gateway.render import rfc3339
from gateway.rest.common import Allowed, Body, Call, Id, Name, PathId, View, edge_parts


def _email(text: str) -> str:
    try:
        return normal_email(text)
    except ValueError as error:
        raise PydanticCustomError("email", "{reason}", {"reason": str(error)}) from error


Email = Annotated[
    str,
    Field(min_length=3, max_length=EMAIL_CHARS_MAX, json_schema_extra={"format": "email"}),
    AfterValidator(_email),
]
Password = Annotated[str, Field(min_length=1, max_length=PASSWORD_TAKEN_CHARS_MAX)]
NewPassword = Annotated[
    str,
    Field(
        min_length=1,
        max_length=PASSWORD_TAKEN_CHARS_MAX,
        description="10 to 128 characters, hard to guess; what is too weak is refused with the reason",
    ),
]
MailToken = Annotated[str, Field(min_length=1, max_length=MAIL_TOKEN_CHARS_MAX)]
RefreshToken = Annotated[str, Field(min_length=1, max_length=REFRESH_TOKEN_CHARS_MAX)]
Locale = Annotated[str, Field(max_length=35, pattern=r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4})?$")]
router = APIRouter(prefix="/v1/auth", tags=["accounts"])


class Visit(msgspec.Struct, frozen=True):
    """A request of somebody who is not signed in yet."""

    sign_up: SignUp
    sign_in: SignIn
    visitor: Visitor
    request_id: str
    is_named: bool


async def visit(request: Request, parts: Annotated[EdgeParts, Depends(edge_parts)]) -> Visit:
    """Counts it against the client's address. Raises `Problem` (429)."""
    entrance: Entrance = request.app.state.entrance
    origin = entrance.address(request.scope)
    await parts.limiter.check(("login-ip", origin))
    headers = request_headers(request.scope["headers"])
    agent = "".join(mark for mark in request.headers.get("user-agent", "") if mark.isprintable())
    key = headers.idempotency_key
    state = request.app.state
    return Visit(state.sign_up, state.sign_in, Visitor(origin, agent), key or parts.ids.request_id(), key is not None)


Visiting = Annotated[Visit, Depends(visit)]
Self = Annotated[Call, Depends(Allowed("account.self"))]


def sign_in_of(request: Request) -> SignIn:
    """The acts of signing in and out."""
    sign_in: SignIn = request.app.state.sign_in
    return sign_in


def sign_up_of(request: Request) -> SignUp:
    """The acts of registering and of passwords."""
    sign_up: SignUp = request.app.state.sign_up
    return sign_up


SigningIn = Annotated[SignIn, Depends(sign_in_of)]
SigningUp = Annotated[SignUp, Depends(sign_up_of)]


class Registration(Body):
    """A new account."""

    email: Email
    password: NewPassword
    name: Name
    locale: Locale = ""


class RegisteredView(View):
    """The same whether or not the address had an account. The mail says how it goes on."""

    email: str
    status: Literal["mail_sent"] = "mail_sent"


class Address(Body):
    """Whose mail is wanted."""

    email: Email


class Confirmation(Body):
    """What the mail said."""

    token: MailToken


class ConfirmedView(View):
    """The address is confirmed."""

    verified: Literal[True] = True


class PasswordReset(Body):
    """What the mail said, and the new password."""

    token: MailToken
    password: NewPassword


class PasswordChange(Body):
    """The password now, and the one from now on."""

    current_password: Password
    new_password: NewPassword


class Login(Body):
    """`org_id` chooses for which organisation to act, where the account is part of several."""

    email: Email
    password: Password
    org_id: Id | None = None


class Refresh(Body):
    """`org_id` chooses another organisation; without it the one chosen before stays."""

    refresh_token: RefreshToken
    org_id: Id | None = None


class Logout(Body):
    """`all`: end all of the account's sessions, not just this one."""

    all: bool = False


class AccountView(View):
    """An account, as its owner sees it."""

    id: str
    email: str
    name: str
    verified: bool


class OrgPartView(View):
    """A part that the account has in an organisation."""

    id: str
    role: Literal["org_admin", "staff", "member"]


class TokensView(View):
    """Send the access token as `Authorization: Bearer`. The refresh token is good for one use; the answer has the next.
    Times are in seconds."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: Annotated[int, Field(description=f"at most {ACCESS_TOKEN_LIFE_MS // 1_000}")]
    refresh_token: str
    refresh_expires_in: int
    account: AccountView
    orgs: list[OrgPartView]


class SessionView(View):
    """A sign-in that is still good. `origin` is the network address that it came from."""

    id: str
    created_at: str
    last_used_at: str
    expires_at: str
    origin: str
    user_agent: str
    is_current: bool


class SessionPage(View):
    """All sessions; there are never many."""

    items: list[SessionView]
    next_cursor: None = None


# --- without being signed in ------------------------------------------------------------------------------------------


@router.post("/register", status_code=201, summary="Register")
async def register(body: Registration, visiting: Visiting) -> RegisteredView:
    """Sends a mail with a code to confirm the address; or, where it has an account already, a mail that says so. The
    answer is the same."""
    await visiting.sign_up.register(body.email, body.password, body.name, body.locale, visiting.request_id)
    return RegisteredView(email=body.email)


@router.post("/resend-verification", status_code=202, summary="Ask for the confirming mail again")
async def resend_verification(body: Address, visiting: Visiting) -> RegisteredView:
    """The answer is the same for every address."""
    await visiting.sign_up.resend_verification(body.email)
    return RegisteredView(email=body.email)


@router.post("/verify", summary="Confirm an e-mail address")
async def verify(body: Confirmation, visiting: Visiting) -> ConfirmedView:
    """With the code from the mail, which works once."""
    await visiting.sign_up.verify(body.token, visiting.visitor.origin)
    return ConfirmedView()


@router.post("/forgot-password", status_code=202, summary="Ask for a mail to choose a new password")
async def forgot_password(body: Address, visiting: Visiting) -> RegisteredView:
    """The answer is the same for every address."""
    await visiting.sign_up.forgot_password(body.email)
    return RegisteredView(email=body.email)


@router.post("/reset-password", status_code=204, summary="Choose a new password with a mailed code")
async def reset_password(body: PasswordReset, visiting: Visiting) -> Response:
    """Ends all sessions of the account, and confirms its address."""
    await visiting.sign_up.reset_password(body.token, body.password, visiting.visitor.origin)
    return Response(status_code=204)


@router.post("/login", summary="Sign in")
async def login(body: Login, visiting: Visiting) -> TokensView:
    """After several failures in a row each further try has to wait longer."""
    signed_in = await visiting.sign_in.login(
        body.email, body.password, body.org_id or "", visiting.visitor, visiting.request_id, is_named=visiting.is_named
    )
    return _tokens(signed_in)


@router.post("/refresh", summary="Get the next tokens")
async def refresh(body: Refresh, visiting: SigningIn) -> TokensView:
    """A refresh token works once; for ten seconds more it gets the same answer again, in case that was lost. One that
    comes back later ends its session: somebody has a copy."""
    return _tokens(await visiting.refresh(body.refresh_token, body.org_id or ""))


# --- signed in --------------------------------------------------------------------------------------------------------


@router.post("/logout", status_code=204, summary="Sign out")
async def logout(call: Self, sign_in: SigningIn, body: Logout | None = None) -> Response:
    """The session's tokens stop working everywhere within a second, and its sockets are closed."""
    await sign_in.logout(call.caller, is_everywhere=body is not None and body.all)
    return Response(status_code=204)


@router.post("/change-password", status_code=204, summary="Change the password")
async def change_password(body: PasswordChange, call: Self, sign_up: SigningUp) -> Response:
    """Ends all other sessions of the account."""
    await sign_up.change_password(call.caller, body.current_password, body.new_password)
    return Response(status_code=204)


@router.get("/sessions", summary="One's own sessions")
async def list_sessions(call: Self, sign_in: SigningIn) -> SessionPage:
    """The one used last first."""
    found = await sign_in.sessions(call.caller)
    items = [
        SessionView(
            id=session.session_id,
            created_at=rfc3339(session.created_at_ms),
            last_used_at=rfc3339(session.rotated_at_ms),
            expires_at=rfc3339(session.expires_at_ms),
            origin=session.origin,
            user_agent=session.user_agent,
            is_current=session.session_id == call.caller.session_id,
        )
        for session in found
    ]
    return SessionPage(items=items)


@router.delete("/sessions/{session_id}", status_code=204, summary="End a session")
async def end_session(session_id: PathId, call: Self, sign_in: SigningIn) -> Response:
    """Its tokens stop working everywhere within a second, and its sockets are closed."""
    await sign_in.end_session(call.caller, session_id)
    return Response(status_code=204)


def _tokens(signed_in: SignedIn) -> TokensView:
    account = signed_in.account
    return TokensView(
        access_token=signed_in.access_token,
        expires_in=signed_in.expires_in,
        refresh_token=signed_in.refresh_token,
        refresh_expires_in=signed_in.refresh_expires_in,
        account=AccountView(
            id=account.account_id, email=account.email, name=account.name, verified=account.is_verified
        ),
        orgs=[OrgPartView(id=part.tenant_id, role=part.role) for part in signed_in.parts],
    )
