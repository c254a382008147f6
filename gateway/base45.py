"""base45 (RFC 9285): two bytes in three characters of the QR code's alphanumeric set, so a credential makes a small
code.

Strict both ways: one byte string has exactly one text, and any other text is refused.
"""

from __future__ import annotations

from struct import pack

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_NO_VALUE = 0xFF
# By character: its value. A text is translated at once; one character after the other takes five times as long.
_VALUES = bytes(_ALPHABET.find(chr(code)) % 256 for code in range(256))


def b45encode(data: bytes) -> str:
    """RFC 9285 §4.1."""
    out: list[str] = []
    for at in range(0, len(data) - 1, 2):
        high, low = divmod(data[at] << 8 | data[at + 1], 2025)
        middle, low = divmod(low, 45)
        out += (_ALPHABET[low], _ALPHABET[middle], _ALPHABET[high])
    if len(data) % 2:
        high, low = divmod(data[-1], 45)
        out += (_ALPHABET[low], _ALPHABET[high])
    return "".join(out)


def b45decode(text: str) -> bytes:
    """RFC 9285 §4.2. Raises `ValueError` for a character outside the alphabet, a wrong length or a group out of
    range."""
    if len(text) % 3 == 1:
        raise ValueError("base45 text cannot have this length")
    try:
        values = text.encode("ascii").translate(_VALUES)
    except UnicodeEncodeError as unknown:
        raise ValueError("not a base45 character") from unknown
    if _NO_VALUE in values:
        raise ValueError("not a base45 character")
    whole = len(values) // 3 * 3
    groups = zip(values[0:whole:3], values[1:whole:3], values[2:whole:3], strict=True)
    numbers = [low + 45 * middle + 2025 * high for low, middle, high in groups]
    if numbers and max(numbers) > 0xFFFF:
        raise ValueError("base45 group above 65535")
    out = pack(f">{len(numbers)}H", *numbers)
    if whole < len(values):
        number = values[whole] + 45 * values[whole + 1]
        if number > 0xFF:
            raise ValueError("base45 group above 255")
        out += bytes((number,))
    return out
