"""What tests of accounts share: cheap hashes, keys made once, a mailbox in memory, a clock that tests move."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from itertools import count

import argon2
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from actors.ports import StoreUnavailable
from gateway.identity.mail import MailError
from gateway.identity.signing_keys import KeyRing, SigningKey, new_private_key

# Argon2 at its cheapest: what it costs is tested once, and not in each test that signs in.
CHEAP = argon2.Parameters(argon2.Type.ID, 19, 16, 32, time_cost=1, memory_cost=8, parallelism=1)
NOW_MS = 1_795_341_600_123


@lru_cache(8)
def private_key(number: int = 0) -> RSAPrivateKey:
    """The same key for the same number, in one run."""
    return new_private_key()


def key_maker() -> RSAPrivateKey:
    """For `SigningKeys`: another key each time, out of a few."""
    return private_key(next(_numbers) % 4)


_numbers = count()


class Clock:
    """Milliseconds: those of the system and what tests add."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def monotonic_ms(self) -> int:
        """For intervals."""
        return time.monotonic_ns() // 1_000_000 + self.ahead_ms


class StillKeys:
    """Stands for `SigningKeys`: the keys that the test says."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self.current = KeyRing(keys)
        self.asked_again = 0

    async def ring(self) -> KeyRing:
        """See `gateway.identity.signing_keys.SigningKeys`."""
        if not self.current.keys:
            raise StoreUnavailable("no keys")
        return self.current

    async def ring_with(self, key_id: str) -> KeyRing:
        """See `gateway.identity.signing_keys.SigningKeys`."""
        self.asked_again += not self.current.knows(key_id)
        return await self.ring()


class Mail(msgspec.Struct, frozen=True):
    """A mail that went out."""

    to: str
    subject: str
    text: str

    @property
    def token(self) -> str:
        """The token in it."""
        return next(word for word in self.text.split() if word.startswith("mvm_"))


class Mailbox:
    """Keeps mails; while `is_away` it refuses them."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.is_away = False

    async def send(self, to: str, subject: str, text: str) -> None:
        """See `gateway.identity.mail.Mailer`."""
        if self.is_away:
            raise MailError("away")
        self.mails.append(Mail(to, subject, text))

    def to(self, email: str) -> list[Mail]:
        """The mails to an address, the first first."""
        return [mail for mail in self.mails if mail.to == email]
