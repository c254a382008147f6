"""What JSON the ordinary routes take, decided once, before FastAPI's parser sees it.

Rules:
1. UTF-8 and RFC 8259 to the letter: no NaN, no Infinity, no UTF-16, no comments; nothing nested so deep that it could
   exhaust a stack; no number that no reader could hold.
2. **A name that occurs twice in an object is refused** (I-JSON, RFC 7493): readers differ in which they take, and what
   a proxy has checked must be what we read. The hot paths have one reader and one flat object and take the last.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gateway.problems import malformed
from gateway.requests import decode

_any = msgspec.json.Decoder()


class _Twice(ValueError):
    """A name that occurs twice."""


def check_json(body: bytes) -> None:
    """Raises `Problem` for a body that breaks the rules."""
    decode(_any, body)
    try:
        json.loads(body, object_pairs_hook=_unique)
    except _Twice as error:
        raise malformed("#", f"The name {str(error)!r} occurs twice in one object.") from error
    except (ValueError, RecursionError) as error:
        raise malformed("#", "The body is nested too deeply, or has a number that is too long.") from error


def _unique(pairs: list[tuple[str, Any]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        for name, _ in pairs:
            if name not in names:
                raise _Twice(name)
            names.discard(name)
