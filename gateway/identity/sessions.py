"""Sessions: what begins with a sign-in and is kept going by refresh tokens.

Rules:
1. `mvr_<account>_<session>_<generation>_<secret>` is a refresh token. Its secret is derived from the master secret and
   the session's random seed, so nothing at rest is worth anything by itself, and the same token can be given again.
2. Each use gives the token of the next generation (RFC 9700, 4.14.2). Only the latest is good, and for
   `REFRESH_REPLAY_MS` the one before it: whoever lost the answer, or asked many times at once, gets the same answer.
3. A genuine token of an earlier generation comes from a thief or from their victim: **the session ends**. One that is
   not genuine changes nothing, or anybody could end anybody's session.
4. An account has at most `SESSIONS_PER_ACCOUNT_MAX` sessions; the one not used for longest ends for a new one.
5. Everything works on the caller's connection, in its transaction. Whoever ends a session publishes
   `AccessChange("session", …)` after the commit.
"""

from __future__ import annotations

import hmac
from typing import Literal

import msgspec

from gateway.identity import limits
from gateway.identity.tokens import SecretMaker
from gateway.ids import is_id
from storage.postgres import Connection

PREFIX = "mvr"
EndedBecause = Literal["signed out", "token reused", "password changed", "too many sessions", "account closed"]
_COLUMNS = (
    "account_id, session_id, seed, generation, rotated_at_ms, created_at_ms, expires_at_ms, org_id, origin, user_agent"
)


class Session(msgspec.Struct, frozen=True):
    """A session in force. `rotated_at_ms` is when its latest refresh token was first given, `expires_at_ms` when that
    one ends; `org_id` is the organisation chosen for it last, or ""."""

    account_id: str
    session_id: str
    seed: bytes
    generation: int
    rotated_at_ms: int
    created_at_ms: int
    expires_at_ms: int
    org_id: str
    origin: str
    user_agent: str


class RefreshToken(msgspec.Struct, frozen=True):
    """A refresh token taken apart; nothing about it has been verified."""

    account_id: str
    session_id: str
    generation: int
    secret: str


class Reused(msgspec.Struct, frozen=True):
    """An old token came back, and the session has been ended (rule 3)."""

    account_id: str
    session_id: str


def parse(text: str) -> RefreshToken | None:
    """The parts of a refresh token; None when it cannot be one."""
    parts = text.split("_")
    if len(text) > limits.REFRESH_TOKEN_CHARS_MAX or not text.isascii() or len(parts) != 5 or parts[0] != PREFIX:
        return None
    account, session, generation, secret = parts[1:]
    if not is_id(account) or not is_id(session) or not generation.isdecimal() or not secret:
        return None
    return RefreshToken(f"acc_{account}", f"ses_{session}", int(generation), secret)


def refresh_token(secrets: SecretMaker, session: Session) -> str:
    """The session's latest token."""
    account, own = session.account_id.removeprefix("acc_"), session.session_id.removeprefix("ses_")
    return f"{PREFIX}_{account}_{own}_{session.generation}_{_secret(secrets, session, session.generation)}"


def _secret(secrets: SecretMaker, session: Session, generation: int) -> str:
    return secrets.secret("refresh", session.account_id, session.session_id, session.seed.hex(), str(generation))


async def begin(connection: Connection, session: Session) -> list[str]:
    """Adds a session. Returns the ids of those that ended for it (rule 4)."""
    now_ms = session.created_at_ms
    await connection.execute(
        "DELETE FROM sessions WHERE account_id = $1 AND session_id IN (SELECT session_id FROM sessions "
        "WHERE account_id = $1 AND (ended_at_ms IS NOT NULL OR expires_at_ms <= $2) "
        "ORDER BY created_at_ms DESC, session_id DESC OFFSET $3)",
        session.account_id,
        now_ms,
        limits.SESSIONS_REMEMBERED_MAX,
    )
    rows = await connection.fetch(
        "SELECT session_id FROM sessions WHERE account_id = $1 AND ended_at_ms IS NULL AND expires_at_ms > $2 "
        "ORDER BY rotated_at_ms DESC, session_id DESC OFFSET $3 FOR UPDATE",
        session.account_id,
        now_ms,
        limits.SESSIONS_PER_ACCOUNT_MAX - 1,
    )
    ended = [row["session_id"] for row in rows]
    await _end(connection, session.account_id, ended, "too many sessions", now_ms)
    await connection.execute(
        f"INSERT INTO sessions ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        *msgspec.structs.astuple(session),
    )
    return ended


async def choose_org(connection: Connection, session: Session, org_id: str) -> Session:
    """Remembers the organisation that was chosen for the session."""
    if org_id == session.org_id:
        return session
    await connection.execute(
        "UPDATE sessions SET org_id = $3 WHERE account_id = $1 AND session_id = $2",
        session.account_id,
        session.session_id,
        org_id,
    )
    return msgspec.structs.replace(session, org_id=org_id)


async def rotate(
    connection: Connection, secrets: SecretMaker, token: RefreshToken, now_ms: int
) -> Session | Reused | None:
    """Uses a token up (rules 2 and 3). Returns the session with its next generation, or with the one that the lost
    answer had; None for a token that is not good, genuine or not."""
    session = await _in_force(connection, token.account_id, token.session_id, now_ms, is_locking=True)
    if session is None or not hmac.compare_digest(_secret(secrets, session, token.generation), token.secret):
        return None
    if token.generation == session.generation:
        renewed = msgspec.structs.replace(
            session,
            generation=session.generation + 1,
            rotated_at_ms=now_ms,
            expires_at_ms=now_ms + limits.REFRESH_TOKEN_LIFE_MS,
        )
        await connection.execute(
            "UPDATE sessions SET generation = $3, rotated_at_ms = $4, expires_at_ms = $5 "
            "WHERE account_id = $1 AND session_id = $2",
            session.account_id,
            session.session_id,
            renewed.generation,
            renewed.rotated_at_ms,
            renewed.expires_at_ms,
        )
        return renewed
    if token.generation == session.generation - 1 and now_ms - session.rotated_at_ms < limits.REFRESH_REPLAY_MS:
        return session
    if token.generation > session.generation:  # Postgres was set back to an earlier time
        return None
    await _end(connection, session.account_id, [session.session_id], "token reused", now_ms)
    return Reused(session.account_id, session.session_id)


async def find(connection: Connection, account_id: str, session_id: str, now_ms: int) -> Session | None:
    """The session, if it is in force."""
    return await _in_force(connection, account_id, session_id, now_ms, is_locking=False)


async def is_taken(connection: Connection, account_id: str, session_id: str) -> bool:
    """Whether there is or was a session of this id."""
    query = "SELECT true FROM sessions WHERE account_id = $1 AND session_id = $2"
    return bool(await connection.fetchval(query, account_id, session_id))


async def of_account(connection: Connection, account_id: str, now_ms: int) -> list[Session]:
    """The sessions in force, the one used last first."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM sessions WHERE account_id = $1 AND ended_at_ms IS NULL AND expires_at_ms > $2 "
        "ORDER BY rotated_at_ms DESC, session_id DESC",
        account_id,
        now_ms,
    )
    return [Session(*row) for row in rows]


async def end(
    connection: Connection,
    account_id: str,
    because: EndedBecause,
    now_ms: int,
    *,
    only: str | None = None,
    but: str | None = None,
) -> list[str]:
    """Ends all sessions of an account, or `only` this one, or all `but` this one. Returns which have ended by it."""
    rows = await connection.fetch(
        "SELECT session_id FROM sessions WHERE account_id = $1 AND ended_at_ms IS NULL AND expires_at_ms > $2 "
        "AND ($3::text IS NULL OR session_id = $3) AND session_id IS DISTINCT FROM $4 ORDER BY session_id FOR UPDATE",
        account_id,
        now_ms,
        only,
        but,
    )
    ended = [row["session_id"] for row in rows]
    await _end(connection, account_id, ended, because, now_ms)
    return ended


async def _end(
    connection: Connection, account_id: str, session_ids: list[str], because: EndedBecause, now_ms: int
) -> None:
    if session_ids:
        await connection.execute(
            "UPDATE sessions SET ended_at_ms = $3, ended_because = $4 "
            "WHERE account_id = $1 AND session_id = ANY($2::text[])",
            account_id,
            session_ids,
            now_ms,
            because,
        )


async def _in_force(
    connection: Connection, account_id: str, session_id: str, now_ms: int, *, is_locking: bool
) -> Session | None:
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM sessions WHERE account_id = $1 AND session_id = $2 "
        f"AND ended_at_ms IS NULL AND expires_at_ms > $3 {'FOR UPDATE' if is_locking else ''}",
        account_id,
        session_id,
        now_ms,
    )
    return None if row is None else Session(*row)
