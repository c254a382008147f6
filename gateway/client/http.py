"""One HTTP request, tried until it is answered.

Rules:
1. POST, PATCH, PUT and DELETE carry an Idempotency-Key, the same at every try: however often it is sent, it is
   executed once.
2. Tried again: no answer (connection refused, cut, silent), 429, 503, what proxies answer for a server that is gone
   (502, 504), and 409 `in_progress` (an earlier try is still at work). Every other status is the answer.
3. After the deadline: `OutcomeUnknown` if any try may have been executed, else `Unavailable`.
4. A 401 to a token that can be renewed is tried once more with the new one.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol, TypeVar

import httpx
import msgspec

from gateway.client.errors import ApiError, Json, MasterVipError, OutcomeUnknown, Unavailable
from gateway.client.retry import RetryPolicy, retry_after_s
from gateway.client.timing import Timing
from gateway.ids import IdMaker

T = TypeVar("T")
READS = frozenset({"GET", "HEAD", "OPTIONS"})
RETRY_STATUSES = frozenset({429, 502, 503, 504})
KEEP_IDLE_S = 15.0
DETAIL_CHARS_MAX = 500
# Mistakes on this side, which no other try would mend.
_OURS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


class Credentials(Protocol):
    """Where a request's token comes from."""

    async def bearer(self) -> str | None:
        """The token to send; None for none."""

    async def renew(self, spent: str) -> bool:
        """`spent` was refused: whether there is another one now."""


class FixedToken:
    """An API key or a device token: nothing to renew."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def bearer(self) -> str | None:
        """See `Credentials`."""
        return self._token

    async def renew(self, spent: str) -> bool:
        """See `Credentials`."""
        return False


@dataclass(frozen=True)
class Request:
    """What is asked. `body` is JSON, encoded, where `headers` do not say otherwise."""

    method: str
    path: str
    body: bytes | None = None
    params: Mapping[str, str | list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None


@dataclass(frozen=True)
class Answer:
    """What came back, status below 400."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The body decoded; None when it is empty. Raises `ApiError` (`not_json`): somebody else answered."""
        try:
            return msgspec.json.decode(self.content) if self.content else None
        except msgspec.DecodeError as error:
            text = self.content[:DETAIL_CHARS_MAX].decode(errors="replace")
            raise ApiError(self.status, "not_json", text) from error


class _Departure:
    """Told by httpx how a try goes: whether anything of the request has left. If not, nobody can have executed it."""

    def __init__(self) -> None:
        self.has_begun = False

    async def __call__(self, name: str, _: Mapping[str, Any]) -> None:
        if name.endswith(".send_request_headers.started"):
            self.has_begun = True


class _Tries:
    """The tries of one request: how many, how long still, and whether one may have been executed."""

    def __init__(self, request: Request, retry: RetryPolicy, timing: Timing) -> None:
        self._request = request
        self._retry = retry
        self._timing = timing
        self._until_s = timing.now_s() + retry.deadline_s
        self._failed = 0
        self.may_have_run = False
        self.has_renewed = False

    @property
    def left_s(self) -> float:
        return max(0.0, self._until_s - self._timing.now_s())

    def given_up(self, trouble: BaseException) -> MasterVipError:
        """What to raise (rule 3)."""
        request = self._request
        what = f"{request.method} {request.path}: no answer after {self._failed} tries: {_described(trouble)}"
        error: MasterVipError
        if self.may_have_run and request.idempotency_key is not None:
            error = OutcomeUnknown(what, request.idempotency_key)
        else:
            error = Unavailable(what)
        error.__cause__ = trouble
        return error

    async def pause(self, trouble: BaseException, may_have_run: bool, after_s: float | None = None) -> None:
        """Waits before the next try. Raises when there will be none."""
        self._failed += 1
        self.may_have_run = self.may_have_run or may_have_run
        pause_s = self._retry.pause_s(self._failed, after_s, uniform=self._timing.uniform)
        if pause_s >= self.left_s:
            raise self.given_up(trouble)
        await self._timing.sleep(pause_s)


class Http:
    """Sends requests over a bounded pool of connections. Belongs to one event loop."""

    def __init__(
        self,
        base_url: str,
        retry: RetryPolicy,
        timing: Timing,
        connections_max: int,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.retry = retry
        self.timing = timing
        self.ssl_context = ssl_context
        self.ids = IdMaker(timing.wall_ms, os.urandom)
        self._client = httpx.AsyncClient(
            base_url=self.base_url,
            timeout=retry.try_timeout_s,
            limits=httpx.Limits(
                max_connections=connections_max,
                max_keepalive_connections=connections_max,
                keepalive_expiry=KEEP_IDLE_S,
            ),
            verify=ssl_context or True,
            headers={"user-agent": "mastervip-python/1", "accept": "application/json"},
        )

    async def send(self, request: Request, credentials: Credentials) -> Answer:
        """The answer. Raises `ApiError`, `Unavailable`, `OutcomeUnknown`."""
        response = await self._answered(self._named(request), credentials, is_stream=False)
        if response.status_code >= 400:  # deleted by a try that got no answer
            return Answer(204, response.headers, b"")
        return Answer(response.status_code, response.headers, response.content)

    @asynccontextmanager
    async def stream(self, request: Request, credentials: Credentials) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of the answer piece by piece. Until it begins the request is tried again; when it ends too early
        that is `Unavailable`."""
        response = await self._answered(self._named(request), credentials, is_stream=True)
        try:
            yield _pieces(response, request)
        finally:
            await response.aclose()

    async def rounds(self) -> AsyncIterator[None]:
        """For work that takes several requests: comes at once, then after ever longer pauses, until the deadline."""
        until_s = self.timing.now_s() + self.retry.deadline_s
        for tries in count(1):
            yield
            pause_s = self.retry.pause_s(tries, uniform=self.timing.uniform)
            if self.timing.now_s() + pause_s >= until_s:
                return
            await self.timing.sleep(pause_s)

    async def aclose(self) -> None:
        """Ends all connections."""
        await self._client.aclose()

    def _named(self, request: Request) -> Request:
        if request.method in READS or request.idempotency_key is not None:
            return request
        return Request(
            request.method, request.path, request.body, request.params, request.headers, self.ids.request_id()
        )

    async def _answered(self, request: Request, credentials: Credentials, is_stream: bool) -> httpx.Response:
        tries = _Tries(request, self.retry, self.timing)
        while True:
            token = await self._of_credentials(credentials.bearer(), tries)
            departure = _Departure()
            try:
                async with asyncio.timeout(tries.left_s):
                    response = await self._try(request, token, is_stream, departure)
            except _OURS:
                raise
            except (httpx.TransportError, TimeoutError) as error:
                await tries.pause(error, may_have_run=departure.has_begun)
                continue
            if response.status_code < 400:
                return response
            if response.status_code == 401 and token is not None and not tries.has_renewed:
                tries.has_renewed = True
                if await self._of_credentials(credentials.renew(token), tries):
                    continue
            if response.status_code == 404 and request.method == "DELETE" and tries.may_have_run:
                return response  # the try that got no answer has found it
            problem = _api_error(response, request)
            if response.status_code in (401, 403) and tries.may_have_run:
                raise tries.given_up(problem) from problem  # it speaks of this try, not of the one that got no answer
            if response.status_code not in RETRY_STATUSES and problem.code != "in_progress":
                raise problem
            after_s = retry_after_s(response.headers.get("retry-after"), self.timing.wall_ms())
            await tries.pause(problem, may_have_run=response.status_code != 429, after_s=after_s)

    async def _of_credentials(self, asked: Awaitable[T], tries: _Tries) -> T:
        """What the credentials say. That they cannot be had leaves an earlier try as unknown as it was."""
        try:
            async with asyncio.timeout(tries.left_s):
                return await asked
        except TimeoutError as error:
            raise tries.given_up(error) from error
        except MasterVipError as error:
            if tries.may_have_run:
                raise tries.given_up(error) from error
            raise

    async def _try(self, request: Request, token: str | None, is_stream: bool, departure: _Departure) -> httpx.Response:
        headers = httpx.Headers(request.headers)
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        if request.idempotency_key is not None:
            headers["idempotency-key"] = request.idempotency_key
        if request.body is not None:
            headers.setdefault("content-type", "application/json")
        built = self._client.build_request(
            request.method,
            request.path,
            params=request.params,
            content=request.body,
            headers=headers,
            extensions={"trace": departure},
        )
        response = await self._client.send(built, stream=True)
        if not is_stream or response.status_code >= 400:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response


async def _pieces(response: httpx.Response, request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in response.aiter_bytes():
            yield piece
    except httpx.TransportError as error:
        message = f"{request.method} {request.path}: the answer broke off: {_described(error)}"
        raise Unavailable(message) from error


def _api_error(response: httpx.Response, request: Request) -> ApiError:
    """The problem (RFC 9457) that the answer holds, or what can be said of one that holds none (a proxy's page)."""
    problem: Json = {}
    try:
        decoded = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        pass
    else:
        problem = decoded if isinstance(decoded, dict) else {}
    return ApiError(
        response.status_code,
        str(problem.get("code") or f"http_{response.status_code}"),
        str(problem.get("detail") or problem.get("title") or response.text[:DETAIL_CHARS_MAX]),
        [error for error in problem.get("errors") or () if isinstance(error, dict)],
        response.headers.get("x-request-id"),
        request.idempotency_key,
    )


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
