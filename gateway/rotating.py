"""Codes that change every 15 seconds, for cards shown on a phone: TOTP (RFC 6238) over HOTP (RFC 4226).

Rules:
1. A code is HMAC-SHA256 of the number of its step (steps of `ROTATING_STEP_MS` since 1970), truncated to eight digits.
   SHA-256 because nothing about it is older than it has to be; RFC 6238 §1.2 provides for it. (Google's rotating
   barcodes know only SHA-1; a wallet pass needs secrets of its own.)
2. Each credential has a secret of its own: HKDF-SHA256 of the master secret, tenant, card and serial. A credential
   issued again has other codes. The secret never leaves the edge.
3. A code holds from the beginning of the step before its own until the end of the step after (the window of ±1 step):
   45 seconds in all. `valid_ms` tells that interval of a code, and the engine judges it at the scan's time.
4. Codes of `ROTATING_STEPS_BACK_MAX` steps are told from made-up ones; what is older counts as made up. Comparing
   takes the same time, whatever of the code is right.
5. Eight digits and three steps make a guess right once in 33 million; whoever guesses needs a scanner's token and the
   signed part of the card's credential. A rotating code deters screenshots; that a card is inside once is the engine's.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from functools import lru_cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.limits import (
    ROTATING_SECRET_CACHE_ENTRIES_MAX,
    ROTATING_STEP_MS,
    ROTATING_STEPS_AHEAD_MAX,
    ROTATING_STEPS_BACK_MAX,
)

DIGITS = 8
_SECRET_BYTES = 32  # as long as the hash, RFC 4226 §4


def hotp(secret: bytes, counter: int, digits: int = DIGITS, algorithm: str = "sha256") -> str:
    """The code of a counter: RFC 4226 §5.3, with other hashes than SHA-1 as RFC 6238 §1.2 has it."""
    digest = hmac.digest(secret, counter.to_bytes(8, "big"), algorithm)
    at = digest[-1] & 15
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**digits:0{digits}}"


def step_of(at_ms: int) -> int:
    """The step that a time (milliseconds since 1970) is in."""
    return at_ms // ROTATING_STEP_MS


class RotatingCodes:
    """The codes of all cards."""

    def __init__(self, master_secret: bytes) -> None:
        self._master_secret = master_secret
        self._secret = lru_cache(ROTATING_SECRET_CACHE_ENTRIES_MAX)(self._derive)

    def code(self, tenant_id: str, card_id: str, serial: int, step: int) -> str:
        """The eight digits of a step."""
        return hotp(self._secret(tenant_id, card_id, serial), step)

    def valid_ms(self, tenant_id: str, card_id: str, serial: int, code: str, at_ms: int) -> tuple[int, int] | None:
        """From when until before when the code holds (rule 3); None where no step around `at_ms` has it (rule 4)."""
        if len(code) != DIGITS or not code.isascii():
            return None
        secret = self._secret(tenant_id, card_id, serial)
        given = code.encode()
        for step in _around(step_of(at_ms)):
            if hmac.compare_digest(hotp(secret, step).encode(), given):
                return (step - 1) * ROTATING_STEP_MS, (step + 2) * ROTATING_STEP_MS
        return None

    def _derive(self, tenant_id: str, card_id: str, serial: int) -> bytes:
        # Ids have no NUL, so no two cards have the same input.
        named = f"mastervip rotating code\0{tenant_id}\0{card_id}\0{serial}".encode()
        return HKDF(SHA256(), _SECRET_BYTES, None, named).derive(self._master_secret)


def _around(now: int) -> Iterator[int]:
    """The steps that are tried: first those within the window, which nearly every code is of."""
    yield now
    yield now - 1
    yield now + 1
    yield from range(now - 2, max(now - ROTATING_STEPS_BACK_MAX, 0) - 1, -1)
    yield from range(now + 2, now + ROTATING_STEPS_AHEAD_MAX + 1)
