"""The texts of coupon codes.

Rules:
1. An issued code is 14 characters with 70 random bits and a check character, in upper case without I, L, O and U, in
   three groups: `7KQ2M-9XTRB-4HJPC`. Whoever types it may write it in lower case, with or without the strokes, O for 0,
   I or L for 1.
2. A code is a bearer's secret. Postgres and the journal hold a digest of it (its id), its last four characters, and
   which one of which request it is; from that and the master secret the edge derives it again, for a retry and for
   whoever may see it.
3. The check character is Luhn's modulo 32: one wrong character is always noticed, before anything is looked up.
4. A shared code is chosen by the organiser: 4 to 12 letters and digits. It is no secret, and never as long as an issued
   one.
"""

from __future__ import annotations

from gateway.identity.tokens import SecretMaker
from gateway.ids import ALPHABET, derived_id

RANDOM_CHARS = 14
CODE_CHARS = RANDOM_CHARS + 1
GROUP_CHARS = 5
TAIL_CHARS = 4
SHARED_PATTERN = "^[A-Za-z0-9]{4,12}$"
# What people type: strokes and spaces besides.
TYPED_PATTERN = "^[A-Za-z0-9 -]{4,40}$"
_ALIKE = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})


def normalised(text: str) -> str:
    """The code that somebody typed."""
    return text.upper().translate(_ALIKE)


def is_mistyped(code: str) -> bool:
    """Whether a normalised text has the length of an issued code and cannot be one."""
    if len(code) != CODE_CHARS:
        return False
    values = [ALPHABET.find(character) for character in code.lower()]
    return -1 in values or _checksum(values) != 0


def code_id(tenant_id: str, text: str) -> str:
    """The id of a code, by which it is looked up: a digest, another one in every organisation."""
    return derived_id("code", tenant_id, normalised(text))


def issued_code(secrets: SecretMaker, tenant_id: str, issue_id: str, number: int) -> str:
    """Code `number` of those that request `issue_id` asked for."""
    # The last characters of a secret have five random bits each.
    body = secrets.secret("coupon code", tenant_id, issue_id, str(number))[-RANDOM_CHARS:]
    values = [ALPHABET.index(character) for character in body]
    code = (body + ALPHABET[-_checksum([*values, 0]) % 32]).upper()
    return "-".join(code[at : at + GROUP_CHARS] for at in range(0, CODE_CHARS, GROUP_CHARS))


def _checksum(values: list[int]) -> int:
    """Luhn's algorithm modulo 32: every second value from the right counts twice, its two digits added."""
    total = 0
    for place, value in enumerate(reversed(values)):
        counted = value * 2 if place % 2 else value
        total += counted // 32 + counted % 32
    return total % 32
