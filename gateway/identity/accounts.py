"""Accounts as stored: persons who sign in, and whose e-mail address is whose.

Rules:
1. Everything works on the caller's connection, in its transaction.
2. An address belongs to one account (`account_emails`), whatever the account's state.
3. What an account may do is asked in one query, `standing`: whatever has ended in it ends there.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.identity.callers import Person
from gateway.identity.memberships import MembershipRole
from storage.postgres import Connection

AccountState = Literal["active", "suspended", "closed"]
_COLUMNS = "account_id, email, name, password_hash, platform_role, state, locale, verified_at_ms, created_at_ms"


class Account(msgspec.Struct, frozen=True):
    """A person. `email` is in its normal form; `verified_at_ms` is None until they have shown that it is theirs."""

    account_id: str
    email: str
    name: str
    password_hash: str
    platform_role: Literal["", "superadmin"]
    state: AccountState
    locale: str
    verified_at_ms: int | None
    created_at_ms: int

    @property
    def is_verified(self) -> bool:
        """Whether they have shown that the e-mail address is theirs."""
        return self.verified_at_ms is not None


async def add(connection: Connection, account: Account) -> Account:
    """Adds an account. Returns it, or the one that has its address already."""
    is_free = await connection.fetchval(
        "INSERT INTO account_emails (email, account_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true",
        account.email,
        account.account_id,
    )
    if not is_free:
        holder = await by_email(connection, account.email)
        assert holder is not None, "an address is never let go of"
        return holder
    await connection.execute(
        f"INSERT INTO accounts ({_COLUMNS}, changed_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
        *msgspec.structs.astuple(account),
    )
    return account


async def find(connection: Connection, account_id: str, *, is_locking: bool = False) -> Account | None:
    """The account, in whatever state; with `is_locking` nobody changes it until the transaction ends."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM accounts WHERE account_id = $1 {'FOR UPDATE' if is_locking else ''}", account_id
    )
    return None if row is None else Account(*row)


async def by_email(connection: Connection, email: str) -> Account | None:
    """The account with this address. Whether there is one or not, the same is asked."""
    account_id = await connection.fetchval("SELECT account_id FROM account_emails WHERE email = $1", email)
    return await find(connection, account_id or "")


async def set_password(connection: Connection, account_id: str, password_hash: str, now_ms: int) -> None:
    """Another password, or the same one hashed anew."""
    await connection.execute(
        "UPDATE accounts SET password_hash = $2, changed_at_ms = $3 WHERE account_id = $1",
        account_id,
        password_hash,
        now_ms,
    )


async def set_verified(connection: Connection, account_id: str, now_ms: int) -> None:
    """They have shown that the address is theirs."""
    await connection.execute(
        "UPDATE accounts SET verified_at_ms = coalesce(verified_at_ms, $2), changed_at_ms = $2 WHERE account_id = $1",
        account_id,
        now_ms,
    )


async def set_profile(
    connection: Connection, account_id: str, name: str | None, locale: str | None, now_ms: int
) -> None:
    """What is None stays as it is."""
    await connection.execute(
        "UPDATE accounts SET name = coalesce($2, name), locale = coalesce($3, locale), changed_at_ms = $4 "
        "WHERE account_id = $1",
        account_id,
        name,
        locale,
        now_ms,
    )


async def set_state(connection: Connection, account_id: str, state: AccountState, now_ms: int) -> bool:
    """Suspends or resumes an account; False when it is in that state already, or closed, or absent."""
    status: str = await connection.execute(
        "UPDATE accounts SET state = $2, changed_at_ms = $3 "
        "WHERE account_id = $1 AND state <> $2 AND state <> 'closed'",
        account_id,
        state,
        now_ms,
    )
    return status != "UPDATE 0"


async def standing(connection: Connection, account_id: str, session_id: str, now_ms: int) -> Person | None:
    """What an account may do in a session; None when the session has ended or the account is not active."""
    rows = await connection.fetch(
        "SELECT a.platform_role, a.verified_at_ms IS NOT NULL AS is_verified, m.tenant_id, m.role, m.member_id "
        "FROM accounts a JOIN sessions s ON s.account_id = a.account_id "
        "LEFT JOIN memberships m ON m.account_id = a.account_id AND m.state = 'active' "
        "WHERE a.account_id = $1 AND a.state = 'active' "
        "AND s.session_id = $2 AND s.ended_at_ms IS NULL AND s.expires_at_ms > $3 "
        "ORDER BY m.joined_at_ms, m.tenant_id",
        account_id,
        session_id,
        now_ms,
    )
    if not rows:
        return None
    parts: dict[str, tuple[MembershipRole, str]] = {
        row["tenant_id"]: (row["role"], row["member_id"] or "") for row in rows if row["tenant_id"] is not None
    }
    return Person(account_id, session_id, rows[0]["platform_role"] == "superadmin", rows[0]["is_verified"], parts)
