"""Which part accounts have in organisations (`org_admin`, `staff` or `member`), and which member it is linked to.

Rules:
1. One account has at most one part in an organisation. Somebody on the staff may be a member, too: the role is the
   wider one, and `member_id` says which member they are.
2. Everything here works on the caller's connection, so that it commits with what it belongs to. Whoever changes
   something publishes `AccessChange("account", account_id)` **after** that commit, and the gateways look again.
3. Who may change what, and who must remain (an organisation's last admin), is the routes' to say.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from storage.postgres import Connection

MembershipRole = Literal["org_admin", "staff", "member"]
MembershipState = Literal["active", "ended"]
_COLUMNS = "account_id, tenant_id, role, member_id, state, joined_at_ms"


class Membership(msgspec.Struct, frozen=True):
    """An account's part in an organisation. `member_id` is None where it is linked to no member."""

    account_id: str
    tenant_id: str
    role: MembershipRole
    member_id: str | None
    state: MembershipState
    joined_at_ms: int


async def of_account(connection: Connection, account_id: str) -> list[Membership]:
    """The parts in force of an account, the one it has had longest first."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM memberships WHERE account_id = $1 AND state = 'active' "
        "ORDER BY joined_at_ms, tenant_id",
        account_id,
    )
    return [Membership(*row) for row in rows]


async def of_tenant(
    connection: Connection, tenant_id: str, after_account_id: str = "", limit: int | None = None
) -> list[Membership]:
    """The parts in force in an organisation, by account id; those behind `after_account_id`, at most `limit`."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM memberships WHERE tenant_id = $1 AND account_id > $2 AND state = 'active' "
        "ORDER BY account_id LIMIT $3",
        tenant_id,
        after_account_id,
        limit,
    )
    return [Membership(*row) for row in rows]


async def of_member(connection: Connection, tenant_id: str, member_id: str) -> list[Membership]:
    """The accounts that are linked to a member."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM memberships WHERE tenant_id = $1 AND member_id = $2 AND state = 'active' "
        "ORDER BY account_id",
        tenant_id,
        member_id,
    )
    return [Membership(*row) for row in rows]


async def find(connection: Connection, account_id: str, tenant_id: str) -> Membership | None:
    """The part in force that an account has in an organisation, locked until the transaction ends, so that two changes
    of it come one after the other; None if it has none."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM memberships WHERE account_id = $1 AND tenant_id = $2 AND state = 'active' FOR UPDATE",
        account_id,
        tenant_id,
    )
    return None if row is None else Membership(*row)


async def grant(
    connection: Connection,
    account_id: str,
    tenant_id: str,
    role: MembershipRole,
    member_id: str | None,
    at_ms: int,
) -> None:
    """Gives an account this role, whatever it had before; a link to a member that it has stays where `member_id` is
    None. Whoever joins again begins anew."""
    await connection.execute(
        "INSERT INTO memberships AS m (account_id, tenant_id, role, member_id, state, joined_at_ms, changed_at_ms) "
        "VALUES ($1, $2, $3, $4, 'active', $5, $5) ON CONFLICT (account_id, tenant_id) DO UPDATE SET "
        "role = excluded.role, "
        "member_id = coalesce(excluded.member_id, CASE WHEN m.state = 'active' THEN m.member_id END), "
        "joined_at_ms = CASE WHEN m.state = 'ended' THEN excluded.joined_at_ms ELSE m.joined_at_ms END, "
        "state = 'active', changed_at_ms = excluded.changed_at_ms",
        account_id,
        tenant_id,
        role,
        member_id,
        at_ms,
    )


async def link(connection: Connection, account_id: str, tenant_id: str, member_id: str, at_ms: int) -> None:
    """Links an account to a member. Whoever has no part yet becomes a "member"; a wider role stays."""
    held = await find(connection, account_id, tenant_id)
    await grant(connection, account_id, tenant_id, held.role if held else "member", member_id, at_ms)


async def unlink(connection: Connection, account_id: str, tenant_id: str, at_ms: int) -> None:
    """Ends the link to a member, and with it the part of whoever was nothing but a member."""
    await connection.execute(
        "UPDATE memberships SET member_id = NULL, changed_at_ms = $3, "
        "state = CASE WHEN role = 'member' THEN 'ended' ELSE state END "
        "WHERE account_id = $1 AND tenant_id = $2 AND state = 'active'",
        account_id,
        tenant_id,
        at_ms,
    )


async def end(connection: Connection, account_id: str, tenant_id: str, at_ms: int) -> bool:
    """Ends an account's part in an organisation; False when it had none."""
    status: str = await connection.execute(
        "UPDATE memberships SET state = 'ended', changed_at_ms = $3 "
        "WHERE account_id = $1 AND tenant_id = $2 AND state = 'active'",
        account_id,
        tenant_id,
        at_ms,
    )
    return status != "UPDATE 0"
