"""Invitations: a token by mail that gives whoever has the address, and signs in, a part in an organisation.

Rules:
1. `mvi_<tenant>_<invitation>_<secret>`: a token names its organisation, so it is looked up in one place. Only its hash
   is stored; the secret is derived, so that the mail of a retry holds the same token.
2. It works once, for `INVITATION_LIFE_MS`, for an account whose verified address is the one that was invited. Whoever
   accepted it finds it accepted when they ask again.
3. Nobody loses anything by accepting: a wider role stays.
4. Everything works on the caller's connection, in its transaction.
"""

from __future__ import annotations

import hmac
import re
from typing import Literal

import msgspec

from gateway.identity import memberships
from gateway.identity.memberships import MembershipRole
from gateway.identity.post import Letter
from gateway.identity.tokens import SecretMaker, hash_secret
from gateway.ids import is_id
from gateway.orgs import limits, profiles
from gateway.problems import Problem
from storage.postgres import Connection

PREFIX = "mvi_"
InvitationState = Literal["open", "accepted", "revoked", "expired"]
WIDTH: dict[MembershipRole, int] = {"member": 0, "staff": 1, "org_admin": 2}


class Invitation(msgspec.Struct, frozen=True):
    """An invitation as stored. `email` is in its normal form."""

    tenant_id: str
    invitation_id: str
    email: str
    role: MembershipRole
    member_id: str | None
    token_hash: bytes
    invited_by: str
    created_at_ms: int
    expires_at_ms: int
    accepted_at_ms: int | None = None
    accepted_by: str | None = None
    revoked_at_ms: int | None = None

    def state(self, now_ms: int) -> InvitationState:
        """What has become of it."""
        if self.accepted_at_ms is not None:
            return "accepted"
        if self.revoked_at_ms is not None:
            return "revoked"
        return "open" if now_ms < self.expires_at_ms else "expired"


# Whoever opens an organisation chooses its name, and invitations go to anybody: no name makes an address in a mail.
_NOT_IN_MAILS = re.compile(r"[^\w '&-]|_")
_NAME_CHARS_MAX = 60
_COLUMNS = ", ".join(Invitation.__struct_fields__)


def token_of(secrets: SecretMaker, tenant_id: str, invitation_id: str) -> str:
    """The invitation's token (rule 1)."""
    secret = secrets.secret("invitation", tenant_id, invitation_id)
    return f"{PREFIX}{tenant_id}_{invitation_id.removeprefix('inv_')}_{secret}"


def letter(to: str, org_name: str, token: str) -> Letter:
    """What the mail says."""
    name = " ".join(_NOT_IN_MAILS.sub(" ", org_name).split())[:_NAME_CHARS_MAX] or "an organisation"
    return Letter(
        to,
        "MasterVIP: you are invited",
        f"Hello,\n\nyou are invited to take part in {name}. Sign in to MasterVIP, or register with this address, and "
        f"accept with this code (POST /v1/invitations/accept):\n\n{token}\n\n"
        f"It works once, within {limits.INVITATION_LIFE_MS // 86_400_000} days. If you do not want to, do nothing.\n",
    )


def parse(token: str) -> tuple[str, str] | None:
    """Organisation and invitation that a token names; None when it cannot be one."""
    if len(token) > limits.INVITATION_TOKEN_CHARS_MAX or not token.isascii() or not token.startswith(PREFIX):
        return None
    head, _, _ = token.removeprefix(PREFIX).rpartition("_")
    tenant_id, _, own = head.rpartition("_")
    return (tenant_id, f"inv_{own}") if is_id(tenant_id) and is_id(own) else None


async def add(connection: Connection, invitation: Invitation) -> None:
    """Adds an invitation. One to the same address that is still open is revoked by it. Raises `Problem`
    (`limit_reached`)."""
    now_ms = invitation.created_at_ms
    await profiles.locked(connection, invitation.tenant_id, now_ms)
    recent = await connection.fetchval(
        "SELECT count(*) FROM invitations WHERE tenant_id = $1 AND created_at_ms > $2",
        invitation.tenant_id,
        now_ms - limits.INVITATIONS_PERIOD_MS,
    )
    if recent >= limits.INVITATIONS_MAX:
        raise Problem("limit_reached", f"An organisation makes at most {limits.INVITATIONS_MAX} invitations a day.")
    await connection.execute(
        "UPDATE invitations SET revoked_at_ms = $3 WHERE tenant_id = $1 AND email = $2 "
        "AND accepted_at_ms IS NULL AND revoked_at_ms IS NULL",
        invitation.tenant_id,
        invitation.email,
        now_ms,
    )
    await connection.execute(
        f"INSERT INTO invitations ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        *msgspec.structs.astuple(invitation),
    )


async def page(connection: Connection, tenant_id: str, after: str, limit: int) -> list[Invitation]:
    """Invitations behind `after`, by id."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM invitations WHERE tenant_id = $1 AND invitation_id > $2 "
        "ORDER BY invitation_id LIMIT $3",
        tenant_id,
        after,
        limit,
    )
    return [Invitation(*row) for row in rows]


async def revoke(connection: Connection, tenant_id: str, invitation_id: str, now_ms: int) -> bool:
    """Ends an invitation; False when there is none that is open."""
    status: str = await connection.execute(
        "UPDATE invitations SET revoked_at_ms = $3 WHERE tenant_id = $1 AND invitation_id = $2 "
        "AND accepted_at_ms IS NULL AND revoked_at_ms IS NULL AND expires_at_ms > $3",
        tenant_id,
        invitation_id,
        now_ms,
    )
    return status != "UPDATE 0"


async def accept(
    connection: Connection, token: str, account_id: str, email: str, now_ms: int
) -> tuple[Invitation, MembershipRole, bool]:
    """Gives the account its part. Returns the invitation, the role that the account has now, and whether it was
    accepted now and not before. Raises `Problem` (`invitation_invalid`, `org_suspended`)."""
    named = parse(token)
    if named is None:
        raise Problem("invitation_invalid")
    tenant_id, invitation_id = named
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM invitations WHERE tenant_id = $1 AND invitation_id = $2 FOR UPDATE",
        tenant_id,
        invitation_id,
    )
    invitation = None if row is None else Invitation(*row)
    if invitation is None or not hmac.compare_digest(invitation.token_hash, hash_secret(token)):
        raise Problem("invitation_invalid")
    held = await memberships.find(connection, account_id, tenant_id)
    if invitation.accepted_by == account_id and held is not None:
        return invitation, held.role, False
    if invitation.state(now_ms) != "open" or invitation.email != email:
        raise Problem("invitation_invalid")
    state = (await profiles.find(connection, tenant_id)).state
    if state != "open":
        raise Problem("org_suspended" if state == "suspended" else "invitation_invalid")
    role = max(invitation.role, held.role if held else "member", key=WIDTH.__getitem__)
    await memberships.grant(connection, account_id, tenant_id, role, invitation.member_id, now_ms)
    await connection.execute(
        "UPDATE invitations SET accepted_at_ms = $3, accepted_by = $4 WHERE tenant_id = $1 AND invitation_id = $2",
        tenant_id,
        invitation_id,
        now_ms,
        account_id,
    )
    return invitation, role, True
