"""Routes on their way out: what is announced, since when and until when.

Rules:
1. A route that will go is put into `DEPRECATIONS` first. From then on its answers carry `Deprecation` (RFC 9745),
   `Sunset` (RFC 8594) where the end is known, and `Link`s to what to do; the OpenAPI document marks it.
2. Nothing else changes until the sunset: it is announced, not slowed down. It is at least `NOTICE_DAYS_MIN` away.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

import msgspec

from gateway.http import Headers

NOTICE_DAYS_MIN: Final = 90


class Deprecation(msgspec.Struct, frozen=True):
    """A route, as method and path template ("GET", "/v1/events/{event_id}"), deprecated `since` and answered until
    `sunset`; `link` tells what to use instead."""

    method: str
    path: str
    since: datetime
    link: str
    sunset: datetime | None = None


DEPRECATIONS: Final[Sequence[Deprecation]] = ()


class Deprecations:
    """The table, ready for answers. Raises `ValueError` for a sunset that comes too soon."""

    def __init__(self, table: Sequence[Deprecation] = DEPRECATIONS) -> None:
        for row in table:
            if row.sunset is not None and row.sunset < row.since + timedelta(days=NOTICE_DAYS_MIN):
                raise ValueError(f"{row.method} {row.path}: the sunset comes less than {NOTICE_DAYS_MIN} days after")
        self._headers = {(row.method, row.path): _headers(row) for row in table}

    def __bool__(self) -> bool:
        return bool(self._headers)

    def headers(self, method: str, path: str) -> Headers:
        """What the answers of a route carry."""
        return self._headers.get((method, path), [])

    def mark(self, paths: dict[str, Any]) -> None:
        """Marks the operations of an OpenAPI document."""
        for method, path in self._headers:
            paths[path][method.lower()]["deprecated"] = True


def _headers(row: Deprecation) -> Headers:
    headers = [
        (b"deprecation", b"@%d" % int(row.since.timestamp())),
        (b"link", f'<{row.link}>; rel="deprecation"; type="text/html"'.encode()),
    ]
    if row.sunset is not None:
        headers.append((b"sunset", format_datetime(row.sunset.astimezone(UTC), usegmt=True).encode()))
        headers.append((b"link", f'<{row.link}>; rel="sunset"; type="text/html"'.encode()))
    return headers
