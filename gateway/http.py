"""Plain ASGI, as far as the hot paths need it: reading a body within a limit, credentials from headers, sending an
answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from gateway import limits
from gateway.identity.callers import Caller, Identity
from gateway.identity.tokens import API_KEY_PREFIX
from gateway.ids import is_request_id
from gateway.problems import PROBLEM_TYPE, FieldError, Problem

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# The organisation that an account with several calls for.
ORG_HEADER = b"x-org-id"
JSON_TYPE = (b"content-type", b"application/json")
# On every answer. Answers are nobody's to cache, to frame or to guess a type of.
SECURITY_HEADERS: Headers = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
_JSON_HEADERS: Headers = [JSON_TYPE, *SECURITY_HEADERS]


class Disconnected(Exception):
    """The client went away before its body was complete; nobody is left to answer."""


class RequestHeaders(msgspec.Struct, gc=False):
    """What the hot paths want of the headers; None where absent."""

    token: str | None = None
    is_api_key_header: bool = False
    idempotency_key: str | None = None
    content_bytes: int = 0
    org_id: str = ""


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
    return found


def idempotency_key(text: str) -> str:
    """The key of an Idempotency-Key header, a structured-field string (RFC 8941) or bare. Raises `Problem`."""
    key = text.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not is_request_id(key):
        detail = "An Idempotency-Key has 1-64 printable characters."
        raise Problem("malformed", detail, [FieldError(detail, parameter="Idempotency-Key")])
    return key


def content_bytes(headers: list[tuple[bytes, bytes]]) -> int:
    """The announced length of the body; 0 when there is none."""
    return next((int(value[:18]) for name, value in headers if name == b"content-length" and value.isdigit()), 0)


async def caller_of(identity: Identity, headers: RequestHeaders, org_id: str = "") -> Caller:
    """Who is calling; `org_id` is the organisation that an account calls for, as far as the request says so. Raises
    `Problem` (401) or `StoreUnavailable`."""
    token = headers.token
    if token is None:
        raise Problem("unauthenticated")
    if headers.is_api_key_header and not token.startswith(API_KEY_PREFIX):
        raise Problem("unauthenticated", "X-API-Key takes API keys only.")
    org_id = org_id or headers.org_id
    caller = identity.cached(token, org_id) or await identity.authenticate(token, org_id)
    if caller is None:
        raise Problem("unauthenticated")
    return caller


async def read_body(receive: Receive, content_bytes: int, limit_bytes: int) -> bytes:
    """The whole body. Raises `Problem` (413) beyond the limit, without reading on, and `Disconnected`."""
    if content_bytes > limit_bytes:
        raise Problem("body_too_large", f"At most {limit_bytes} bytes are taken here.")
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
    if len(body) > limit_bytes:
        raise Problem("body_too_large", f"At most {limit_bytes} bytes are taken here.")
    return body


async def send_json(send: Send, status: int, body: bytes) -> None:
    """An answer with a JSON body."""
    headers = [*_JSON_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem, extra: Headers | None = None) -> None:
    """An answer that is a problem document."""
    body = problem.body()
    headers = [
        (b"content-type", PROBLEM_TYPE),
        *SECURITY_HEADERS,
        (b"content-length", b"%d" % len(body)),
        *problem.headers(),
        *(extra or ()),
    ]
    await send({"type": "http.response.start", "status": problem.row.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
