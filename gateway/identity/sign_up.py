"""Registering, showing that an e-mail address is one's own, and choosing another password.

Rules:
1. **Nobody learns from here whether an address has an account.** The answers are the same; what differs in the work is
   done after the answer (`gateway.identity.post`).
2. Registering with an address that has an account changes nothing: its owner gets a mail. So nobody can prepare an
   account, with a password of theirs, for somebody else to confirm.
3. Whoever uses a mailed token reads the account's mail: it confirms the address, and resetting the password is as good
   as confirming it.
4. Another password ends all sessions but the one in which it was changed.
5. News of what changed is published after the commit.
"""

from __future__ import annotations

import structlog

from gateway.access_feed import AccessChange
from gateway.cold import ColdStore
from gateway.identity import accounts, attempts, mail_tokens, post, sessions
from gateway.identity.accounts import Account
from gateway.identity.attempts import Attempt
from gateway.identity.callers import Caller
from gateway.identity.mail_tokens import Purpose
from gateway.identity.passwords import weakness
from gateway.identity.post import Letter
from gateway.ids import derived_id
from gateway.parts import EdgeParts
from gateway.problems import FieldError, Problem
from storage.postgres import Connection

_log = structlog.get_logger(__name__)


class SignUp:
    """The acts. Addresses are in their normal form; `origin` is the network address that a caller is known by."""

    def __init__(self, parts: EdgeParts, cold: ColdStore) -> None:
        self._parts = parts
        self._cold = cold

    async def register(self, email: str, password: str, name: str, locale: str, request_id: str) -> None:
        """A new account, to be confirmed; or a mail to whoever has the address. Raises `Problem` for a weak
        password."""
        _check(password, email, name, "#/password")
        password_hash = await self._parts.passwords.hash(password)
        now_ms = self._parts.clock_ms()
        account_id = derived_id("acc", email, request_id)
        account = Account(account_id, email, name, password_hash, "", "active", locale, None, now_ms)
        async with self._cold.connection() as connection, connection.transaction():
            holder = await accounts.add(connection, account)
            is_new = holder.account_id == account_id
            purpose: Purpose = "verify" if is_new else "reset"
            token = await self._token(connection, holder.account_id, purpose)
        _log.info("registered" if is_new else "registered again", account_id=holder.account_id)
        if token is not None:
            self._parts.post.send((post.verification if is_new else post.known_already)(email, token))

    async def resend_verification(self, email: str) -> None:
        """Another mail to confirm the address by, if there is anything to confirm."""
        await self._mail(email, "verify")

    async def forgot_password(self, email: str) -> None:
        """A mail to choose a new password by, if there is an account."""
        await self._mail(email, "reset")

    async def verify(self, token_text: str, origin: str) -> None:
        """Confirms the address. Raises `Problem`."""
        token = mail_tokens.parse(token_text)
        if token is None:
            raise Problem("mail_token_invalid")
        now_ms = self._parts.clock_ms()
        async with self._cold.connection() as connection, connection.transaction():
            if not await mail_tokens.use(connection, token, "verify", origin, now_ms):
                raise Problem("mail_token_invalid")
            await accounts.set_verified(connection, token.account_id, now_ms)
        _log.info("address confirmed", account_id=token.account_id)
        await self._parts.access.publish(AccessChange("account", token.account_id))

    async def reset_password(self, token_text: str, password: str, origin: str) -> None:
        """A new password for whoever has the token; all sessions end. A weak password leaves the token as it was.
        Raises `Problem`."""
        token = mail_tokens.parse(token_text)
        if token is None:
            raise Problem("mail_token_invalid")
        async with self._cold.connection() as connection:
            is_good = await mail_tokens.is_good(connection, token, "reset", self._parts.clock_ms())
            account = await accounts.find(connection, token.account_id)
        if not is_good or account is None:
            raise Problem("mail_token_invalid")
        _check(password, account.email, account.name, "#/password")
        password_hash = await self._parts.passwords.hash(password)
        now_ms = self._parts.clock_ms()
        async with self._cold.connection() as connection, connection.transaction():
            if not await mail_tokens.use(connection, token, "reset", origin, now_ms):
                raise Problem("mail_token_invalid")
            await accounts.set_password(connection, account.account_id, password_hash, now_ms)
            await accounts.set_verified(connection, account.account_id, now_ms)
            await sessions.end(connection, account.account_id, "password changed", now_ms)
            for known in (attempts.STRANGERS, origin):
                await attempts.succeeded(connection, Attempt(account.email, known))
        await self._password_changed(account, "reset")

    async def change_password(self, caller: Caller, current: str, password: str) -> None:
        """A new password for whoever knows the current one; all other sessions end. Raises `Problem`."""
        # Whoever found a session open must not find out the password by trying.
        async with self._cold.connection() as connection:
            account = await accounts.find(connection, caller.account_id)
            if account is None:
                raise Problem("account_unknown")
            attempt = Attempt(account.email, caller.session_id)
            wait_ms = await attempts.begin(connection, attempt, self._parts.clock_ms())
        if wait_ms:
            raise Problem("rate_limited", "The current password was wrong too often.", retry_after_ms=wait_ms)
        if not await self._parts.passwords.verify(account.password_hash, current):
            raise Problem("password_wrong", errors=[FieldError("Not the password.", pointer="#/current_password")])
        _check(password, account.email, account.name, "#/new_password")
        password_hash = await self._parts.passwords.hash(password)
        now_ms = self._parts.clock_ms()
        async with self._cold.connection() as connection, connection.transaction():
            await attempts.succeeded(connection, attempt)
            locked = await accounts.find(connection, account.account_id, is_locking=True)
            if locked is None or locked.password_hash != account.password_hash:
                raise Problem("password_wrong", "The password has just been changed by somebody else.")
            await accounts.set_password(connection, account.account_id, password_hash, now_ms)
            await sessions.end(connection, account.account_id, "password changed", now_ms, but=caller.session_id)
        await self._password_changed(account, "changed")

    # --- mails --------------------------------------------------------------------------------------------------------

    async def _mail(self, email: str, purpose: Purpose) -> None:
        """Looks for the account, and does the rest when the answer is out (rule 1)."""
        async with self._cold.connection() as connection:
            account = await accounts.by_email(connection, email)
        if account is None or account.state == "closed" or (purpose == "verify" and account.is_verified):
            return
        account_id = account.account_id

        async def write() -> Letter | None:
            async with self._cold.connection() as connection, connection.transaction():
                token = await self._token(connection, account_id, purpose)
            if token is None:
                return None
            return (post.verification if purpose == "verify" else post.reset)(email, token)

        self._parts.post.write(write)

    async def _token(self, connection: Connection, account_id: str, purpose: Purpose) -> str | None:
        random = self._parts.random_bytes(mail_tokens.SECRET_BYTES)
        return await mail_tokens.make(connection, account_id, purpose, random, self._parts.clock_ms())

    async def _password_changed(self, account: Account, how: str) -> None:
        _log.info(f"password {how}", account_id=account.account_id)
        await self._parts.access.publish(AccessChange("account", account.account_id))
        self._parts.post.send(post.password_changed(account.email))


def _check(password: str, email: str, name: str, pointer: str) -> None:
    reason = weakness(password, email, name)
    if reason is not None:
        raise Problem("password_weak", reason, [FieldError(reason, pointer=pointer)])
