"""Requests as somebody: JSON in, JSON out, lists page by page. The nouns (`orgs`, `cards`, …) are made of this."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.client.errors import Json
from gateway.client.http import Answer, Credentials, Http, Request

PAGE_ITEMS = 200
IF_MATCH = "if-match"
Time = datetime | str | None
Param = str | int | bool | datetime | Sequence[str] | None


def path(base: str, *steps: str) -> str:
    """The address of a thing. Raises `ValueError` for an id that would lead elsewhere."""
    if any(step in ("", ".", "..") for step in steps):
        raise ValueError(f"{steps} cannot be ids")
    return "/".join([base, *(quote(step, safe=":") for step in steps)])


def given(**fields: Any) -> Json:
    """The fields that are not None; times (with a time zone) as RFC 3339."""
    return {name: _plain(value) for name, value in fields.items() if value is not None}


def changed(**fields: Any) -> Json:
    """The fields of a change, those that are None (null: none any more) too; times as in `given`."""
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ValueError("a time needs a time zone")
    return value.isoformat(timespec="milliseconds")


class Tagged(Json):
    """A JSON object as it was answered. `etag` stands for what can be edited of it as it was then: handed on as
    `if_match`, a change is made only if nobody has made another one meanwhile. None where the answer had none."""

    etag: str | None = None


class Caller:
    """Somebody who asks."""

    def __init__(self, http: Http, credentials: Credentials) -> None:
        self._http = http
        self._credentials = credentials

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        params: Mapping[str, Param] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Any request, tried until it is answered (see `gateway.client.http`), with `json` or with `content`, whose
        type is for `headers` to say. A request id that is not given is made. Raises `ApiError`, `Unavailable`,
        `OutcomeUnknown`."""
        body = content if json is None else msgspec.json.encode(json)
        request = _request(method, path, body, params, headers, idempotency_key)
        return await self._http.send(request, self._credentials)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        params: Mapping[str, Param] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """The same; the answer's JSON, an object as `Tagged`, None when it has no body."""
        answer = await self.exchange(
            method,
            path,
            json=json,
            content=content,
            params=params,
            headers=headers,
            idempotency_key=idempotency_key,
        )
        decoded = answer.json()
        if not isinstance(decoded, dict):
            return decoded
        tagged = Tagged(decoded)
        tagged.etag = answer.headers.get("etag")
        return tagged

    async def edit(
        self, method: str, path: str, body: Any, idempotency_key: str | None, if_match: str | None
    ) -> Tagged:
        """A change of what is there; with `if_match` (`Tagged.etag`) only of what it was then, else `ApiError` 412
        `precondition_failed`."""
        headers = given(**{IF_MATCH: if_match})
        changed: Tagged = await self.request(method, path, json=body, headers=headers, idempotency_key=idempotency_key)
        return changed

    def stream(
        self, path: str, accept: str, params: Mapping[str, Param] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The body of a GET piece by piece."""
        request = _request("GET", path, None, params, {"accept": accept}, None)
        return self._http.stream(request, self._credentials)

    async def lines(self, path: str, params: Mapping[str, Param] | None = None) -> AsyncGenerator[Json]:
        """The objects of a GET that is NDJSON, one a line, read as they are taken."""
        rest = b""
        async with self.stream(path, "application/x-ndjson", params) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield msgspec.json.decode(line)

    async def pages(self, path: str, /, **params: Param) -> AsyncGenerator[Json]:
        """Any list, page by page: `{"items", "next_cursor", …}`, with `"stale": true` where the newest may be
        missing."""
        cursor: str | None = None
        while True:
            page: Json = await self.request("GET", path, params={"limit": PAGE_ITEMS, **params, "cursor": cursor})
            yield page
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def items(self, path: str, /, **params: Param) -> AsyncGenerator[Json]:
        """The items of any list, read page by page as they are taken."""
        async with aclosing(self.pages(path, **params)) as pages:
            async for page in pages:
                for item in page["items"]:
                    yield item

    def rounds(self) -> AsyncIterator[None]:
        """See `Http.rounds`."""
        return self._http.rounds()

    def new_id(self) -> str:
        """A new request id (UUIDv7), to be kept before it is used."""
        return self._http.ids.request_id()


class Noun:
    """A part of the API, as a caller sees it."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def _post(self, path: str, body: Any, idempotency_key: str | None) -> Json:
        made: Json = await self._caller.request("POST", path, json=body, idempotency_key=idempotency_key)
        return made

    async def _put(self, path: str, body: Any, idempotency_key: str | None) -> Json:
        made: Json = await self._caller.request("PUT", path, json=body, idempotency_key=idempotency_key)
        return made

    async def _patch(self, path: str, body: Any, idempotency_key: str | None, if_match: str | None) -> Tagged:
        return await self._caller.edit("PATCH", path, body, idempotency_key, if_match)

    async def _get(self, path: str, **params: Param) -> Tagged:
        found: Tagged = await self._caller.request("GET", path, params=params)
        return found

    async def _delete(self, path: str, **params: Param) -> None:
        await self._caller.request("DELETE", path, params=params)


def _request(
    method: str,
    path: str,
    body: bytes | None,
    params: Mapping[str, Param] | None,
    headers: Mapping[str, str] | None,
    idempotency_key: str | None,
) -> Request:
    texts = {name: _text(value) for name, value in (params or {}).items() if value is not None}
    return Request(method.upper(), path, body, texts, dict(headers or {}), idempotency_key)


def _text(value: str | int | bool | datetime | Sequence[str]) -> str | list[str]:
    """A parameter's text; several where it has several values."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return str(_plain(value))
    return str(value) if isinstance(value, str | int) else list(value)
