"""Rows and arrays as Postgres reads them in notations of its own (PostgreSQL 18: COPY, "CSV Format"; 8.15.2).

Both are JSON but for the brackets, as long as no string has a backslash in it, and JSON is made a dozen times as fast
as a driver encodes values one by one. Postgres reads it as fast as anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

# What COPY has to be told to read `copy_rows`.
COPY_OPTIONS: dict[str, Any] = {"format": "csv", "escape": "\\", "null": "null"}

_encoder = msgspec.json.Encoder()


def array(values: Sequence[str | int | bool | None]) -> str:
    """An array of strings, numbers or truth values."""
    text = _encoder.encode(values).decode()
    if "\\" in text:
        text = "[" + ",".join(map(_word, values)) + "]"
    return "{" + text[1:-1] + "}"


def copy_rows(rows: Sequence[Sequence[object]]) -> bytes:
    """Rows of strings, numbers, truth values and None, for COPY with `COPY_OPTIONS`."""
    text = _encoder.encode_lines(rows)
    if b"\\" in text:
        return "".join(",".join(map(_word, row)) + "\n" for row in rows).encode()
    # A string has no bare line break in JSON: these are the ends of rows.
    return text[1:-2].replace(b"]\n[", b"\n") + b"\n"


def _word(value: object) -> str:
    """A value in either notation: within quotes only quotes and backslashes are anything but themselves."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "null" if value is None else str(value).lower()
