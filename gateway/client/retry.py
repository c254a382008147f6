"""When to try again, and after how long. Pure.

Rules:
1. The pause before try n is random between 0 and `first_pause_s` * 2^n, at most `pause_s_max` ("full jitter"): clients
   that failed together do not come back together.
2. What the server says in Retry-After is waited for in full, and the random pause comes on top.
3. A pause that would end after the deadline is not begun: the caller is told at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class RetryPolicy:
    """Seconds all. `deadline_s` bounds a request with all its tries, `try_timeout_s` how long one may be silent."""

    first_pause_s: float = 0.1
    pause_s_max: float = 5.0
    deadline_s: float = 30.0
    try_timeout_s: float = 10.0

    def pause_s(
        self, tries: int, retry_after_s: float | None = None, *, uniform: Callable[[float, float], float]
    ) -> float:
        """How long to wait after so many failed tries (1 after the first)."""
        # Beyond 2^32 the pause is the longest one anyway, and floats do not overflow.
        longest_s = min(self.pause_s_max, self.first_pause_s * 2 ** min(tries - 1, 32))
        return (retry_after_s or 0.0) + uniform(0.0, longest_s)


def retry_after_s(header: str | None, wall_ms: int) -> float | None:
    """The header Retry-After (RFC 9110 §10.2.3: seconds or a date) in seconds from now; None where it is missing or
    says nothing."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    # A date "-0000" is one of UTC that does not tell its zone.
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.fromtimestamp(wall_ms / 1_000, UTC)).total_seconds())
