"""The post: what the mails about accounts say, and handing them over without making anybody wait.

Rules:
1. Mails go out after the answer to the request that caused them. So how long a request takes does not tell whether
   there is an account, and a slow mail server slows down nothing.
2. What could not be handed over is logged, without its text, and not tried again: whoever misses a mail asks for
   another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from actors.ports import StoreUnavailable
from gateway.identity import limits
from gateway.identity.mail import Mailer, MailError

_log = structlog.get_logger(__name__)


class Letter(msgspec.Struct, frozen=True):
    """A mail to be sent."""

    to: str
    subject: str
    text: str


class Post:
    """Sends letters in the background."""

    def __init__(self, mailer: Mailer) -> None:
        self._mailer = mailer
        self._under_way: set[asyncio.Task[None]] = set()

    def send(self, letter: Letter) -> None:
        """Hands the letter over soon."""

        async def written() -> Letter:
            return letter

        self.write(written)

    def write(self, writing: Callable[[], Awaitable[Letter | None]]) -> None:
        """Has the letter written and handed over soon; there may be none."""
        if len(self._under_way) >= limits.MAILS_UNDER_WAY_MAX:
            _log.error("a mail was not sent: too many are under way")
            return
        task = asyncio.create_task(self._send(writing))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def settled(self) -> None:
        """Returns once all letters have been handed over, or not."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _send(self, writing: Callable[[], Awaitable[Letter | None]]) -> None:
        try:
            letter = await writing()
            if letter is not None:
                await self._mailer.send(letter.to, letter.subject, letter.text)
                _log.info("a mail was sent", subject=letter.subject)
        except (MailError, StoreUnavailable) as error:
            _log.error("a mail was not sent", error=str(error))


_IGNORE: Final = "If it was not you, nothing has happened, and you need not do anything.\n"
# No name, nor anything else that was typed in: whoever registers with another's address would write to them through us.
_HELLO: Final = "Hello,\n\n"


def verification(to: str, token: str) -> Letter:
    """To somebody who has just registered, or asks again."""
    return Letter(
        to,
        "MasterVIP: confirm your e-mail address",
        f"{_HELLO}please confirm that this address is yours with this code (POST /v1/auth/verify):\n\n{token}\n\n"
        f"It works once, within {limits.VERIFY_TOKEN_LIFE_MS // 86_400_000} days. {_IGNORE}",
    )


def known_already(to: str, token: str) -> Letter:
    """To the owner of an address with which somebody tried to register again."""
    return Letter(
        to,
        "MasterVIP: you have an account already",
        f"{_HELLO}somebody, probably you, wants to register with this address, which has an account already. Sign in "
        f"with your password, or choose a new one with this code (POST /v1/auth/reset-password):\n\n{token}\n\n"
        f"{_in_time()}",
    )


def reset(to: str, token: str) -> Letter:
    """To somebody who forgot their password."""
    return Letter(
        to,
        "MasterVIP: choose a new password",
        f"{_HELLO}choose a new password with this code (POST /v1/auth/reset-password):\n\n{token}\n\n{_in_time()}",
    )


def password_changed(to: str) -> Letter:
    """To everybody whose password was changed, in case it was not them."""
    return Letter(
        to,
        "MasterVIP: your password was changed",
        f"{_HELLO}the password of your account was changed, and everybody else was signed out. If it was not you, "
        "choose a new one at once (POST /v1/auth/forgot-password).\n",
    )


def _in_time() -> str:
    return f"It works once, within {limits.RESET_TOKEN_LIFE_MS // 60_000} minutes. {_IGNORE}"
