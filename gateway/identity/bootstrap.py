"""The first SuperAdmin, so that there is somebody to begin with: an account like any other, with a password that the
operator finds in `connection.json` and may change."""

from __future__ import annotations

from gateway.identity import accounts
from gateway.identity.accounts import Account
from gateway.identity.passwords import PasswordHasher
from gateway.ids import derived_id
from storage.postgres import Connection

NAME = "SuperAdmin"


async def ensure_superadmin(
    connection: Connection, passwords: PasswordHasher, email: str, password: str, now_ms: int
) -> bool:
    """Makes the account where there is none. Returns whether the password is (still) the account's. An account that is
    no SuperAdmin's any more is not made one again."""
    account = await accounts.by_email(connection, email)
    if account is None:
        password_hash = await passwords.hash(password)
        account_id = derived_id("acc", email)
        account = Account(account_id, email, NAME, password_hash, "superadmin", "active", "", now_ms, now_ms)
        async with connection.transaction():
            account = await accounts.add(connection, account)
    is_in_force = account.platform_role == "superadmin" and account.state == "active"
    return is_in_force and await passwords.verify(account.password_hash, password)
