"""Card numbers, for people to read out and type in: sixteen digits in groups of four, `9908 6822 4938 7084`.

Rules:
1. A number is a 9, fourteen digits that stand for the organisation's n-th card, and a check digit (Luhn, ISO/IEC
   7812-1, annex B). The 9 is left to national bodies there: no international payment card begins with it, so software
   that looks for those does not take ours for one.
2. The fourteen digits are the n of the card, moved about by a permutation of its organisation: no two of an
   organisation's cards have one number, without a look-up, and the same on replay; and a number tells neither how many
   cards there are nor what its neighbours are. (Fourteen digits of a hash of the card's id would need no counter, but
   a million cards would share one with a chance of 1 in 200, and an engine that has not all cards in memory cannot see
   that.)
3. Different organisations may give the same number: it means something only within one. **It proves nothing**: the
   permutation has no secret. A number finds a card, a credential lets it in.
4. The check digit finds every single wrong digit and every swap of two neighbours but 09 and 90.
"""

from __future__ import annotations

from hashlib import blake2b

DIGITS = 16
SEQUENCE_MAX = 10**14 - 1
_GROUP = 4
_MAJOR = "9"
_HALF = 10**7  # the fourteen digits are two halves of seven
_ROUNDS = 6


class CardNumberError(ValueError):
    """What somebody typed in is no card number; says why, in words for them."""


def number_of(tenant_id: str, sequence: int) -> str:
    """The number of an organisation's n-th card, from 1 on, as sixteen digits."""
    if not 1 <= sequence <= SEQUENCE_MAX:
        raise ValueError(f"an organisation's cards are counted from 1 to {SEQUENCE_MAX}")
    payload = f"{_MAJOR}{_moved(tenant_id, sequence):014}"
    return payload + check_digit(payload)


def sequence_of(tenant_id: str, number: str) -> int:
    """Which of an organisation's cards has a number (as `parsed` gives it): the inverse of `number_of`. Numbers that
    no card can have are found too, as those of cards that there are not."""
    left, right = divmod(int(number[1:-1]), _HALF)
    for round_number in reversed(range(_ROUNDS)):
        left, right = (right - _shift(tenant_id, round_number, left)) % _HALF, left
    return left * _HALF + right


def check_digit(payload: str) -> str:
    """The Luhn digit that goes behind these digits."""
    return str(-_luhn_sum(payload + "0") % 10)


def formatted(number: str) -> str:
    """A number as it is printed, in groups of four."""
    return " ".join(number[at : at + _GROUP] for at in range(0, len(number), _GROUP))


def parsed(text: str) -> str:
    """The sixteen digits of what somebody typed in; spaces and hyphens may stand anywhere. Raises `CardNumberError`."""
    digits = text.replace(" ", "").replace("-", "")
    for character in digits:
        if character not in "0123456789":
            raise CardNumberError(f"a card number has digits only, not {character!r}")
    if len(digits) != DIGITS:
        raise CardNumberError(f"a card number has {DIGITS} digits, not {len(digits)}")
    if digits[0] != _MAJOR:
        raise CardNumberError(f"a card number begins with {_MAJOR}, not with {digits[0]}")
    if _luhn_sum(digits) % 10:
        raise CardNumberError("the check digit does not fit: a digit is wrong, or two are swapped")
    return digits


def _luhn_sum(digits: str) -> int:
    """Every second digit from the right is doubled, and the digits of all that are added up."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return sum(doubled) + sum(int(digit) for digit in digits[-1::-2])


def _moved(tenant_id: str, sequence: int) -> int:
    """A Feistel network over two halves of seven decimal digits: each round can be undone, so it is a permutation,
    whatever `_shift` gives."""
    left, right = divmod(sequence, _HALF)
    for round_number in range(_ROUNDS):
        left, right = right, (left + _shift(tenant_id, round_number, right)) % _HALF
    return left * _HALF + right


def _shift(tenant_id: str, round_number: int, half: int) -> int:
    digest = blake2b(f"card number|{tenant_id}|{round_number}|{half}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _HALF
