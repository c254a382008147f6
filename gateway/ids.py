"""Identifiers that the edge makes: request ids (UUIDv7, RFC 9562 §5.7) and entity ids (`card_…`, `evt_…`).

Rules:
1. Clock and randomness are handed in, so tests are repeatable.
2. An entity id is its prefix and 20 characters of Crockford's base32 in lower case: 10 of time (milliseconds), 10
   random. So ids made later sort later, and B-trees stay dense.
3. `derived_id` gives the same id for the same parts: what a request creates before the engine has seen it keeps its id
   when the request is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b

from gateway import limits

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]

ID_PATTERN = rf"^[A-Za-z0-9_.-]{{1,{limits.ID_CHARS_MAX}}}\Z"
_is_id = re.compile(ID_PATTERN).match


def is_id(text: str) -> bool:
    """Whether `text` can be an entity id at all."""
    return _is_id(text) is not None


def is_request_id(text: str) -> bool:
    """Whether `text` can be a request id: 1-64 printable characters."""
    return 0 < len(text) <= limits.REQUEST_ID_CHARS_MAX and text.isprintable()


def base32(number: int, chars: int) -> str:
    """The lowest `chars` × 5 bits of `number`; `chars` must be even."""
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(5 * chars - 10, -1, -10)])


def derived_id(prefix: str, *parts: str) -> str:
    """An id that depends on nothing but the parts."""
    digest = blake2b(b"\0".join(part.encode() for part in parts), digest_size=13).digest()
    return f"{prefix}_{base32(int.from_bytes(digest, 'big'), 20)}"


class IdMaker:
    """Makes ids from a clock (milliseconds since 1970) and a source of random bytes."""

    def __init__(self, clock_ms: Callable[[], int], random_bytes: Callable[[int], bytes]) -> None:
        self._clock_ms = clock_ms
        self._random_bytes = random_bytes

    def request_id(self) -> str:
        """A UUIDv7 in its 36-character form."""
        random = self._random_bytes(10)
        text = (self._clock_ms().to_bytes(6, "big") + random).hex()
        variant = "89ab"[random[2] & 3]
        return f"{text[:8]}-{text[8:12]}-7{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"

    def entity(self, prefix: str) -> str:
        """A new id such as `card_01k…`."""
        random = int.from_bytes(self._random_bytes(7), "big")
        return f"{prefix}_{base32(self._clock_ms(), 10)}{base32(random, 10)}"
