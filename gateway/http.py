"""Plain ASGI, as far as the hot paths need it: reading a body within a limit, credentials from headers, sending an
answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from gateway import limits
from gateway.ids import is_request_id
from gateway.problems import PROBLEM_TYPE, FieldError, Problem
from gateway.trace_ids import NAME as TRACE_ID

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
OnAnswer = Callable[[int, bytes, bytes], None]
"""Called once: the status, the lines of headers (each with its end), the body."""
DirectHandler = Callable[[Headers, bytes, bool, OnAnswer], bool]
"""Answers one request without ASGI: its headers (names in lower case), its whole body, whether it came over TLS. False:
it has done nothing, and the request is to go through ASGI."""
DirectRoutes = Callable[[bytes], DirectHandler | None]
"""What answers a POST to an address, as it stands in the request, without ASGI."""

# The organisation that an account with several calls for.
ORG_HEADER = b"x-org-id"
JSON_TYPE = (b"content-type", b"application/json")
# On every answer. Answers are nobody's to cache, to frame or to guess a type of.
SECURITY_HEADERS: Headers = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
# On every answer over TLS (RFC 6797): a browser that has seen it never tries without.
HSTS = (b"strict-transport-security", b"max-age=31536000")
JSON_HEADERS: Headers = [JSON_TYPE, *SECURITY_HEADERS]


class Disconnected(Exception):
    """The client went away before its body was complete; nobody is left to answer."""


class RequestHeaders(msgspec.Struct, gc=False):
    """What the hot paths want of the headers; None where absent."""

    token: str | None = None
    is_api_key_header: bool = False
    idempotency_key: str | None = None
    content_bytes: int = 0
    org_id: str = ""
    trace_id: bytes | None = None
    origin: bytes | None = None


def request_headers(headers: list[tuple[bytes, bytes]]) -> RequestHeaders:
    """Reads them once. Raises `Problem` for an Idempotency-Key or Content-Length that is no good."""
    found = RequestHeaders()
    for name, value in headers:
        if name == b"authorization":
            if value[:7].lower() == b"bearer " and found.token is None:
                found.token = value[7:].strip().decode("latin-1")
        elif name == b"x-api-key":
            found.token = value.strip().decode("latin-1")
            found.is_api_key_header = True
        elif name == b"idempotency-key":
            found.idempotency_key = idempotency_key(value.decode("latin-1"))
        elif name == b"content-length" and value.isdigit():
            found.content_bytes = int(value[:18])
        elif name == ORG_HEADER:
            found.org_id = value.strip().decode("latin-1")[: limits.ID_CHARS_MAX]
        elif name == TRACE_ID:
            found.trace_id = value
        elif name == b"origin":
            found.origin = value
    return found


def idempotency_key(text: str) -> str:
    """The key of an Idempotency-Key header, a structured-field string (RFC 8941) or bare. Raises `Problem`."""
    key = text.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not is_request_id(key) or not key.isascii():
        detail = "An Idempotency-Key has 1-64 printable ASCII characters."
        raise Problem("malformed", detail, [FieldError(detail, parameter="Idempotency-Key")])
    return key


def content_bytes(headers: list[tuple[bytes, bytes]]) -> int:
    """The announced length of the body; 0 when there is none."""
    return next((int(value[:18]) for name, value in headers if name == b"content-length" and value.isdigit()), 0)


async def read_body(receive: Receive, content_bytes: int, limit_bytes: int) -> bytes:
    """The whole body. Raises `Problem` (413) beyond the limit, without reading on, and `Disconnected`."""
    check_body(content_bytes, limit_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise Disconnected
    if message.get("more_body"):
        chunks = [body]
        size = len(body)
        while message.get("more_body") and size <= limit_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
        body = b"".join(chunks)
    check_body(len(body), limit_bytes)
    return body


def check_body(size_bytes: int, limit_bytes: int) -> None:
    """Raises `Problem` (413) beyond the limit."""
    if size_bytes > limit_bytes:
        raise Problem("body_too_large", f"At most {limit_bytes} bytes are taken here.")


def lines(headers: Headers) -> bytes:
    """Headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def with_headers(send: Send, more: Headers) -> Send:
    """ASGI's send for answers that carry these headers, too."""

    async def with_more(message: AsgiMessage) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return with_more


async def send_json(send: Send, status: int, body: bytes, more: Headers) -> None:
    """An answer with a JSON body."""
    headers = [*JSON_HEADERS, (b"content-length", b"%d" % len(body)), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem, trace_id: bytes, more: Headers | None = None) -> None:
    """An answer that is a problem document."""
    body = problem.body(trace_id.decode())
    headers = problem_headers(problem, body, trace_id) + (more or [])
    await send({"type": "http.response.start", "status": problem.row.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def problem_headers(problem: Problem, body: bytes, trace_id: bytes) -> Headers:
    """The headers of a problem document."""
    return [
        (b"content-type", PROBLEM_TYPE),
        *SECURITY_HEADERS,
        (b"content-length", b"%d" % len(body)),
        (TRACE_ID, trace_id),
        *problem.headers(),
    ]
