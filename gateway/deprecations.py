"""Operations on their way out: what is announced, since when and until when.

Rules:
1. An operation that will go is put into `DEPRECATIONS` first, and nowhere else. From then on all its answers, refusals
   too, carry `Deprecation` (RFC 9745), `Sunset` (RFC 8594) where the end is known, and `Link`s to what to do; the
   OpenAPI document marks it and tells the dates.
2. Nothing else changes until the sunset: it is announced, not slowed down. It is at least `NOTICE_DAYS_MIN` away.
3. From the sunset on the operation is answered with 410 `gone`, whoever asks, and with the same headers. Its row stays
   until its code is taken away.
4. A row that names no operation, or says what cannot be, fails the start.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

import msgspec

from gateway.http import Headers
from gateway.problems import Problem

NOTICE_DAYS_MIN: Final = 90


class Deprecation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation, as method and path template ("GET", "/v1/events/{event_id}"), deprecated `since` and answered until
    `sunset` (both with a time zone; None: not known yet). `link` is the page that tells why and what to do,
    `successor` the address of what takes its place, if anything does."""

    method: str
    path: str
    since: datetime
    link: str
    sunset: datetime | None = None
    successor: str = ""

    @property
    def name(self) -> str:
        """ "GET /v1/events/{event_id}"."""
        return f"{self.method} {self.path}"


DEPRECATIONS: Final[Sequence[Deprecation]] = ()


class Deprecations:
    """The table, ready for answers. Raises `ValueError` for a row that cannot be (rules 2 and 4)."""

    def __init__(self, table: Sequence[Deprecation] = DEPRECATIONS) -> None:
        self._rows = {(row.method, row.path): row for row in table}
        if len(self._rows) != len(table):
            raise ValueError("an operation is deprecated twice")
        for row in table:
            _check(row)
        self._headers = {key: _headers(row) for key, row in self._rows.items()}

    def __bool__(self) -> bool:
        return bool(self._rows)

    def check_operations(self, known: Collection[tuple[str, str]]) -> None:
        """Raises `ValueError` for a row that names none of these operations (method and path template)."""
        for row in self._rows.values():
            if (row.method, row.path) not in known:
                raise ValueError(f"{row.name}: there is no such operation")

    def headers(self, method: str, path: str) -> Headers:
        """What the answers of an operation carry."""
        return self._headers.get((method, path), [])

    def check(self, method: str, path: str, now_ms: int) -> None:
        """Raises `Problem` (`gone`) from the sunset on."""
        row = self._rows.get((method, path))
        if row is not None and row.sunset is not None and row.sunset.timestamp() * 1000 <= now_ms:
            raise Problem("gone", f"It was answered until {row.sunset.astimezone(UTC):%Y-%m-%d}; see {row.link}.")

    def mark(self, paths: dict[str, Any]) -> None:
        """Marks the operations of an OpenAPI document."""
        for (method, path), row in self._rows.items():
            operation = paths[path][method.lower()]
            operation["deprecated"] = True
            operation["description"] = f"{operation.get('description', '')}\n\n{_words(row)}".strip()
            operation["responses"]["410"] = {
                "description": "Gone, from the sunset on",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
            for response in operation["responses"].values():
                response["headers"] = {**response.get("headers", {}), **_documented(row)}


def _check(row: Deprecation) -> None:
    for time in (row.since, row.sunset):
        if time is not None and time.tzinfo is None:
            raise ValueError(f"{row.name}: a time without its zone")
    if row.sunset is not None and row.sunset < row.since + timedelta(days=NOTICE_DAYS_MIN):
        raise ValueError(f"{row.name}: the sunset comes less than {NOTICE_DAYS_MIN} days after")
    for link in (row.link, row.successor):
        if not link.isascii() or not link.isprintable() or any(mark in link for mark in ' <>"'):
            raise ValueError(f"{row.name}: {link!r} is no address")
    if not row.link:
        raise ValueError(f"{row.name}: nothing tells what to do")


def _headers(row: Deprecation) -> Headers:
    headers = [
        (b"deprecation", b"@%d" % int(row.since.timestamp())),
        (b"link", f'<{row.link}>; rel="deprecation"; type="text/html"'.encode()),
    ]
    if row.successor:
        headers.append((b"link", f'<{row.successor}>; rel="successor-version"'.encode()))
    if row.sunset is not None:
        headers.append((b"sunset", format_datetime(row.sunset.astimezone(UTC), usegmt=True).encode()))
    return headers


def _words(row: Deprecation) -> str:
    words = f"**Deprecated** since {row.since.astimezone(UTC):%Y-%m-%d}"
    if row.sunset is not None:
        words += f", answered until {row.sunset.astimezone(UTC):%Y-%m-%d}, then 410"
    if row.successor:
        words += f". Use {row.successor} instead"
    return f"{words}. See {row.link}"


def _documented(row: Deprecation) -> dict[str, Any]:
    text = {"type": "string"}
    headers = {
        "Deprecation": {"description": "Since when it is deprecated (RFC 9745)", "schema": text},
        "Link": {"description": "What to do about it", "schema": text},
    }
    if row.sunset is not None:
        headers["Sunset"] = {"description": "Until when it is answered (RFC 8594)", "schema": text}
    return headers
