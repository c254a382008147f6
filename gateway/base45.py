"""base45 (RFC 9285): two bytes in three characters of the QR code's alphanumeric set, so a credential makes a small
code.

Strict both ways: one byte string has exactly one text, and any other text is refused.
"""

from __future__ import annotations

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}


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
        values = [_VALUES[character] for character in text]
    except KeyError as unknown:
        raise ValueError("not a base45 character") from unknown
    out = bytearray()
    whole = len(values) // 3 * 3
    for at in range(0, whole, 3):
        number = values[at] + 45 * values[at + 1] + 2025 * values[at + 2]
        if number > 0xFFFF:
            raise ValueError("base45 group above 65535")
        out += number.to_bytes(2, "big")
    if whole < len(values):
        number = values[whole] + 45 * values[whole + 1]
        if number > 0xFF:
            raise ValueError("base45 group above 255")
        out.append(number)
    return bytes(out)
