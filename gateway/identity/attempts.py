"""Sign-ins that fail: each one more in a row makes the next wait longer, but never for ever.

Rules:
1. The first `LOGIN_FREE_FAILURES` in a row cost nothing; then the pause doubles, up to `LOGIN_PAUSE_MAX_MS`. A sign-in
   that comes too early is refused before the password is looked at. One that succeeds ends the row.
2. An attempt is counted **before** its password is compared: a thousand at once are no way around it.
3. Strangers are counted together, so that it does not help to come from many addresses. Whoever comes from an address
   from where this account has signed in or reset its password lately is counted by that address: strangers who guess do
   not lock the owner out.
4. Addresses without an account are counted alike: a pause tells nobody whether there is one.
"""

from __future__ import annotations

import msgspec

from gateway.identity import limits
from storage.postgres import Connection

STRANGERS = ""
_PAUSE = "least($5, $4 * power(2, least(30, greatest(0, a.failures - $6)))::bigint)"


class Attempt(msgspec.Struct, frozen=True):
    """One try to sign in as `email`. `origin` is "" for strangers (rule 3)."""

    email: str
    origin: str


async def begin(connection: Connection, attempt: Attempt, now_ms: int) -> int:
    """Counts an attempt as failed, until `succeeded` says otherwise. Returns 0, or for how many milliseconds nothing is
    looked at yet; then it is not counted."""
    is_counted = await connection.fetchval(
        "INSERT INTO login_attempts AS a (email, origin, failures, at_ms) VALUES ($1, $2, 1, $3) "
        "ON CONFLICT (email, origin) DO UPDATE SET "
        "failures = CASE WHEN a.at_ms <= $3 - $7 THEN 1 ELSE a.failures + 1 END, at_ms = $3 "
        f"WHERE a.failures < $6 OR a.at_ms + {_PAUSE} <= $3 RETURNING true",
        attempt.email,
        attempt.origin,
        now_ms,
        limits.LOGIN_PAUSE_MIN_MS,
        limits.LOGIN_PAUSE_MAX_MS,
        limits.LOGIN_FREE_FAILURES,
        limits.LOGIN_FORGOTTEN_AFTER_MS,
    )
    if is_counted:
        return 0
    until_ms = await connection.fetchval(
        f"SELECT a.at_ms + {_PAUSE} FROM login_attempts a WHERE a.email = $1 AND a.origin = $2 AND $3::bigint > 0",
        attempt.email,
        attempt.origin,
        now_ms,
        limits.LOGIN_PAUSE_MIN_MS,
        limits.LOGIN_PAUSE_MAX_MS,
        limits.LOGIN_FREE_FAILURES,
    )
    return max(1, (until_ms or 0) - now_ms)


async def succeeded(connection: Connection, attempt: Attempt) -> None:
    """The attempt was good: the row of failures is over."""
    await connection.execute(
        "DELETE FROM login_attempts WHERE email = $1 AND origin = $2", attempt.email, attempt.origin
    )


async def is_known(connection: Connection, account_id: str, origin: str, now_ms: int) -> bool:
    """Whether the account has signed in or reset its password from this address lately."""
    since_ms = now_ms - limits.KNOWN_ORIGIN_MS
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM sessions WHERE account_id = $1 AND origin = $2 AND created_at_ms > $3) "
            "OR EXISTS (SELECT FROM mail_tokens WHERE account_id = $1 AND used_from = $2 AND used_at_ms > $3)",
            account_id,
            origin,
            since_ms,
        )
    )


async def clean(connection: Connection, now_ms: int) -> None:
    """Takes away rows that nobody needs any more."""
    await connection.execute("DELETE FROM login_attempts WHERE at_ms <= $1", now_ms - limits.LOGIN_FORGOTTEN_AFTER_MS)
