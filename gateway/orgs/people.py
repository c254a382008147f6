"""People of an organisation: who has which role, and how that changes.

Rules:
1. Everything works on the caller's connection, in its transaction. Whoever changes something publishes
   `AccessChange("account", account_id)` **after** the commit.
2. **An organisation never loses its last admin.** Changes of roles come one after the other: the profile's row is
   locked.
3. Nobody raises themselves.
"""

from __future__ import annotations

import msgspec

from gateway.identity import memberships
from gateway.identity.memberships import Membership, MembershipRole
from gateway.orgs import profiles
from gateway.orgs.invitations import WIDTH
from gateway.problems import Problem
from storage.postgres import Connection


class PersonRow(msgspec.Struct, frozen=True):
    """Somebody with a role."""

    account_id: str
    email: str
    name: str
    role: MembershipRole
    member_id: str | None
    joined_at_ms: int


async def page(connection: Connection, tenant_id: str, after: str, limit: int) -> list[PersonRow]:
    """People behind `after`, by account id."""
    rows = await connection.fetch(
        "SELECT m.account_id, a.email, a.name, m.role, m.member_id, m.joined_at_ms FROM memberships m "
        "JOIN accounts a ON a.account_id = m.account_id "
        "WHERE m.tenant_id = $1 AND m.account_id > $2 AND m.state = 'active' ORDER BY m.account_id LIMIT $3",
        tenant_id,
        after,
        limit,
    )
    return [PersonRow(*row) for row in rows]


async def change_role(
    connection: Connection, tenant_id: str, account_id: str, role: MembershipRole, by_account_id: str, now_ms: int
) -> Membership:
    """Gives somebody another role. Returns what they had. Raises `Problem` (`role_unknown`, `last_admin`,
    `forbidden`)."""
    part = await held(connection, tenant_id, account_id, now_ms)
    if account_id == by_account_id and WIDTH[role] > WIDTH[part.role]:
        raise Problem("forbidden", "Nobody widens their own role.")
    if role != "org_admin":
        await _keeps_an_admin(connection, part)
    await memberships.grant(connection, account_id, tenant_id, role, None, now_ms)
    return part


async def end_role(connection: Connection, tenant_id: str, account_id: str, now_ms: int) -> Membership:
    """Ends somebody's part, also that of a member. Returns what they had. Raises `Problem` (`role_unknown`,
    `last_admin`)."""
    part = await held(connection, tenant_id, account_id, now_ms)
    await _keeps_an_admin(connection, part)
    await memberships.end(connection, account_id, tenant_id, now_ms)
    return part


async def held(connection: Connection, tenant_id: str, account_id: str, now_ms: int) -> Membership:
    """The part that somebody has; nobody changes it until the transaction ends. Raises `Problem` (`role_unknown`)."""
    await profiles.locked(connection, tenant_id, now_ms)
    part = await memberships.find(connection, account_id, tenant_id)
    if part is None:
        raise Problem("role_unknown")
    return part


async def _keeps_an_admin(connection: Connection, part: Membership) -> None:
    """Raises `Problem` where nobody but whoever has this part is an admin."""
    if part.role != "org_admin":
        return
    others = await connection.fetchval(
        "SELECT count(*) FROM memberships m JOIN accounts a ON a.account_id = m.account_id WHERE m.tenant_id = $1 "
        "AND m.account_id <> $2 AND m.state = 'active' AND m.role = 'org_admin' AND a.state = 'active'",
        part.tenant_id,
        part.account_id,
    )
    if not others:
        raise Problem("last_admin")
