"""Mail that goes out: the port, and the outbox folder that stands in for a mail server until an operator has one.

Rules:
1. A mail is text. It may hold a token that is as good as a password for a while: no log line has anything of it but the
   subject.
2. `OutboxMailer` writes one file a mail (RFC 5322), for nobody but the system's own user to read, complete or not at
   all.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path
from typing import Protocol

# Lines up to here go out as they are: a code that somebody copies must not be broken by quoted-printable.
_POLICY = SMTPUTF8.clone(max_line_length=200)


class MailError(Exception):
    """The mail could not be handed over; whoever waits for it has to ask again."""


class Mailer(Protocol):
    """How mail leaves the system."""

    async def send(self, to: str, subject: str, text: str) -> None:
        """Hands the mail over, once; whether it arrives is not known then. `to` is an address in its normal form.
        Raises `MailError`."""


class OutboxMailer:
    """Mails as files in `directory`, named so that they sort by time. `sender` is an address."""

    def __init__(
        self, directory: Path, sender: str, clock_ms: Callable[[], int], random_bytes: Callable[[int], bytes]
    ) -> None:
        self._directory = directory
        self._sender = sender
        self._clock_ms = clock_ms
        self._random_bytes = random_bytes

    async def send(self, to: str, subject: str, text: str) -> None:
        """See `Mailer`."""
        now_ms = self._clock_ms()
        name = f"{now_ms:013d}-{self._random_bytes(8).hex()}"
        message = composed(self._sender, to, subject, text, now_ms, name)
        try:
            await asyncio.to_thread(self._write, name, message)
        except OSError as error:
            raise MailError(f"the outbox {self._directory} cannot be written: {error}") from error

    def _write(self, name: str, message: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._directory / f".{name}.new"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(message)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._directory / f"{name}.eml")


def composed(sender: str, to: str, subject: str, text: str, at_ms: int, name: str) -> bytes:
    """The mail as it travels: RFC 5322, with UTF-8 in headers where an address needs it (RFC 6532)."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = _address(sender)
    message["To"] = _address(to)
    message["Subject"] = subject
    message["Date"] = datetime.fromtimestamp(at_ms / 1000, UTC)
    message["Message-ID"] = f"<{name}@{sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday note should answer
    message.set_content(text)
    return message.as_bytes()


def _address(email: str) -> Address:
    user, _, domain = email.partition("@")
    return Address(username=user, domain=domain)
