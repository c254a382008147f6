"""Signing in, staying signed in, and signing out.

Rules:
1. **An address without an account and a wrong password look the same**, in the answer and in what it costs. That an
   account is suspended is told only to those who know its password.
2. No connection to Postgres is held while a password is compared.
3. The account is locked while a session begins: with a password that has just been changed, none does.
4. A sign-in that is tried again under the same Idempotency-Key finds the session that it began, as long as nobody has
   used it.
5. News of sessions that ended is published after the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec
import structlog

from gateway.access_feed import AccessChange
from gateway.cold import ColdStore
from gateway.identity import accounts, attempts, limits, memberships, sessions
from gateway.identity.accounts import Account
from gateway.identity.attempts import Attempt
from gateway.identity.callers import Caller
from gateway.identity.memberships import Membership
from gateway.identity.sessions import Reused, Session
from gateway.ids import derived_id
from gateway.parts import EdgeParts
from gateway.problems import FieldError, Problem
from storage.postgres import Connection

SEED_BYTES = 32
_log = structlog.get_logger(__name__)


class Visitor(msgspec.Struct, frozen=True):
    """From where somebody signs in: the network address they are known by, and what their client says it is."""

    origin: str
    user_agent: str


class SignedIn(msgspec.Struct, frozen=True):
    """What signing in gives. Times are in seconds from now."""

    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    account: Account
    parts: Sequence[Membership]


class SignIn:
    """The acts. Addresses are in their normal form; `org_id` is "" where none is chosen."""

    def __init__(self, parts: EdgeParts, cold: ColdStore) -> None:
        self._parts = parts
        self._cold = cold
        self._cleaned_at_ms = 0

    async def login(
        self, email: str, password: str, org_id: str, visitor: Visitor, request_id: str, *, is_named: bool
    ) -> SignedIn:
        """A new session. `is_named` tells whether the client gave the request id. Raises `Problem`."""
        account = await self._checked(email, password, visitor)
        new_hash = None
        if self._parts.passwords.needs_rehash(account.password_hash):
            new_hash = await self._parts.passwords.hash(password)
        now_ms = self._parts.clock_ms()
        async with self._cold.connection() as connection, connection.transaction():
            locked = await accounts.find(connection, account.account_id, is_locking=True)
            if locked is None or locked.password_hash != account.password_hash or locked.state != "active":
                raise Problem("credentials_invalid")
            if new_hash is not None:
                await accounts.set_password(connection, account.account_id, new_hash, now_ms)
            held = await memberships.of_account(connection, account.account_id)
            _check_org(org_id, held)
            session, ended = await self._begun(connection, account, org_id, visitor, request_id if is_named else "")
        for session_id in ended:
            await self._parts.access.publish(AccessChange("session", session_id))
        _log.info("signed in", account_id=account.account_id, session_id=session.session_id)
        return await self._signed_in(session, account, held)

    async def refresh(self, token_text: str, org_id: str) -> SignedIn:
        """The next tokens of a session, for the organisation chosen now or before. Raises `Problem`."""
        token = sessions.parse(token_text)
        if token is None:
            raise Problem("refresh_token_invalid")
        now_ms = self._parts.clock_ms()
        async with self._cold.connection() as connection, connection.transaction():
            found = await sessions.rotate(connection, self._parts.secrets, token, now_ms)
            renewed = await self._renewed(connection, found, org_id) if isinstance(found, Session) else None
        if renewed is not None:
            return await self._signed_in(*renewed)
        if isinstance(found, Reused):
            _log.warning("a used refresh token came back; its session has ended", **msgspec.structs.asdict(found))
            await self._parts.access.publish(AccessChange("session", found.session_id))
        raise Problem("refresh_token_invalid")

    async def logout(self, caller: Caller, *, is_everywhere: bool) -> None:
        """Ends the caller's session, or all of the account's."""
        await self._end(caller, None if is_everywhere else caller.session_id)

    async def end_session(self, caller: Caller, session_id: str) -> None:
        """Ends one of the account's sessions. Raises `Problem` where there is none of this id."""
        if not await self._end(caller, session_id):
            raise Problem("session_unknown")

    async def sessions(self, caller: Caller) -> list[Session]:
        """The account's sessions in force, the one used last first."""
        async with self._cold.connection() as connection:
            return await sessions.of_account(connection, caller.account_id, self._parts.clock_ms())

    # --- parts --------------------------------------------------------------------------------------------------------

    async def _checked(self, email: str, password: str, visitor: Visitor) -> Account:
        """The account whose password this is (rules 1 and 2). Raises `Problem`."""
        now_ms = self._parts.clock_ms()
        async with self._cold.connection() as connection:
            account = await accounts.by_email(connection, email)
            account_id = account.account_id if account is not None else ""
            is_known = await attempts.is_known(connection, account_id, visitor.origin, now_ms)
            attempt = Attempt(email, visitor.origin if is_known else attempts.STRANGERS)
            wait_ms = await attempts.begin(connection, attempt, now_ms)
            await self._clean(connection, now_ms)
        if wait_ms:
            raise Problem("rate_limited", "Signing in failed too often.", retry_after_ms=wait_ms)
        await self._parts.limiter.check(("login-account", sha256(f"{email} {attempt.origin}".encode()).hexdigest()))
        is_right = await self._parts.passwords.verify(account.password_hash if account else None, password)
        if account is None or not is_right:
            _log.info("sign-in refused", account_id=account_id, origin=visitor.origin)
            raise Problem("credentials_invalid")
        async with self._cold.connection() as connection:
            await attempts.succeeded(connection, attempt)
        if account.state != "active":
            raise Problem("account_suspended")
        return account

    async def _renewed(
        self, connection: Connection, session: Session, org_id: str
    ) -> tuple[Session, Account, list[Membership]]:
        """The session, for the organisation chosen now or, where that is still theirs, before. Raises `Problem`, which
        leaves the refresh token as it was."""
        account = await accounts.find(connection, session.account_id)
        if account is None or account.state != "active":
            raise Problem("refresh_token_invalid")
        held = await memberships.of_account(connection, session.account_id)
        _check_org(org_id, held)
        kept = session.org_id if any(part.tenant_id == session.org_id for part in held) else ""
        return await sessions.choose_org(connection, session, org_id or kept), account, held

    async def _begun(
        self, connection: Connection, account: Account, org_id: str, visitor: Visitor, request_id: str
    ) -> tuple[Session, list[str]]:
        """The session, and those that ended for it (rule 4)."""
        now_ms = self._parts.clock_ms()
        session_id = self._parts.ids.entity("ses")
        if request_id:
            named = derived_id("ses", account.account_id, request_id)
            found = await sessions.find(connection, account.account_id, named, now_ms)
            if found and found.generation == 0 and now_ms - found.created_at_ms < limits.LOGIN_REPLAY_MS:
                return await sessions.choose_org(connection, found, org_id), []
            if not await sessions.is_taken(connection, account.account_id, named):
                session_id = named
        session = Session(
            account.account_id,
            session_id,
            self._parts.random_bytes(SEED_BYTES),
            0,
            now_ms,
            now_ms,
            now_ms + limits.REFRESH_TOKEN_LIFE_MS,
            org_id,
            visitor.origin,
            visitor.user_agent[: limits.USER_AGENT_CHARS_MAX],
        )
        return session, await sessions.begin(connection, session)

    async def _signed_in(self, session: Session, account: Account, held: Sequence[Membership]) -> SignedIn:
        """The same tokens for the same generation of a session, whenever it is asked."""
        now_ms = self._parts.clock_ms()
        token_id = derived_id("at", session.session_id, str(session.generation), session.org_id)
        access_token = await self._parts.access_tokens.make(
            account.account_id, session.session_id, token_id, session.org_id, session.rotated_at_ms
        )
        left_ms = session.rotated_at_ms + limits.ACCESS_TOKEN_LIFE_MS - now_ms
        return SignedIn(
            access_token,
            -(-left_ms // 1_000),
            sessions.refresh_token(self._parts.secrets, session),
            -(-(session.expires_at_ms - now_ms) // 1_000),
            account,
            held,
        )

    async def _end(self, caller: Caller, session_id: str | None) -> list[str]:
        now_ms = self._parts.clock_ms()
        async with self._cold.connection() as connection, connection.transaction():
            ended = await sessions.end(connection, caller.account_id, "signed out", now_ms, only=session_id)
        for session in ended:
            await self._parts.access.publish(AccessChange("session", session))
        _log.info("signed out", account_id=caller.account_id, sessions=len(ended))
        return ended

    async def _clean(self, connection: Connection, now_ms: int) -> None:
        if now_ms - self._cleaned_at_ms > limits.LOGIN_CLEANING_INTERVAL_MS:
            self._cleaned_at_ms = now_ms
            await attempts.clean(connection, now_ms)


def _check_org(org_id: str, held: Sequence[Membership]) -> None:
    """One in which the account has no part looks absent. Raises `Problem`."""
    if org_id and not any(part.tenant_id == org_id for part in held):
        raise Problem("tenant_unknown", errors=[FieldError("There is no such organisation.", pointer="#/org_id")])
