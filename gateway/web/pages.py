"""The live board, `/board/{event_id}`, and its files, `/board/static/…`, as a small ASGI application.

Rules:
1. The page is the same for every event and every caller: it holds no data. What it shows it gets over `/v1/live`, with
   the token that its address carries after `#`, which browsers never send.
2. No inline script or style, nothing from elsewhere: the content security policy says so and the browser keeps it.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from gateway.http import SECURITY_HEADERS, Headers, Receive, Scope, Send
from gateway.ids import is_id

PREFIX: Final = "/board/"
STATIC: Final = PREFIX + "static/"
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final[Headers] = [
    *((name, value) for name, value in SECURITY_HEADERS if name != b"cache-control"),
    (b"cache-control", b"no-cache"),
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}


class _File(msgspec.Struct, frozen=True):
    body: bytes
    headers: Headers
    etag: bytes


class BoardPages:
    """Answers everything below `/board/`. Reads its files once."""

    def __init__(self) -> None:
        directory = Path(__file__).parent
        self._page = _read(directory / "board.html")
        self._static = {name: _read(directory / name) for name in ("board.css", "board.js", "board.svg")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        path: str = scope["path"]
        if path.startswith(STATIC):
            file = self._static.get(path.removeprefix(STATIC))
        else:
            file = self._page if is_id(path.removeprefix(PREFIX)) else None
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, b"Only GET.\n", [(b"allow", b"GET, HEAD"), *_HEADERS])
        elif file is None:
            await _answer(send, 404, b"There is no such page.\n", [(b"content-type", b"text/plain"), *_HEADERS])
        elif (b"if-none-match", file.etag) in scope["headers"]:
            await _answer(send, 304, b"", file.headers)
        else:
            await _answer(send, 200, file.body, file.headers, is_head=scope["method"] == "HEAD")


def _read(path: Path) -> _File:
    body = path.read_bytes()
    etag = b'"' + blake2b(body, digest_size=12).hexdigest().encode() + b'"'
    return _File(body, [(b"content-type", _TYPES[path.suffix]), (b"etag", etag), *_HEADERS], etag)


async def _answer(send: Send, status: int, body: bytes, headers: Headers, *, is_head: bool = False) -> None:
    length = [] if status == 304 else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": b"" if is_head else body})
