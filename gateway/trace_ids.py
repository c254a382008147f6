"""`X-Request-Id`: the name of one HTTP exchange, for logs and support. (Not the request id of a command, which is the
client's promise that it asks the same thing again.)

Rules:
1. A client's own is echoed when it has 1-64 of `A-Z a-z 0-9 _ . -`, so that nothing else ever reaches a header or a log
   line; else one is made.
2. One is made of a prefix that is this process' own and a count: it costs the hot path next to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count
from typing import Final

NAME: Final = b"x-request-id"
_is_good: Final = re.compile(rb"[A-Za-z0-9_.-]{1,64}\Z").match


class TraceIds:
    """Makes them. `prefix` must be unlike that of any other process, and short."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self._count = count(1)

    def of(self, given: bytes | None) -> bytes:
        """The client's own if it may be, else a new one."""
        if given is not None and _is_good(given) is not None:
            return given
        return b"%b-%x" % (self._prefix, next(self._count))

    def of_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The same, found among a request's headers."""
        return self.of(next((value for name, value in headers if name == NAME), None))
