"""`mastervip api`: any operation of the API from the command line (`serve.api_words` says how it is written), and
`mastervip watch`: live topics as lines.

Rules:
1. Requests go through the project's own client: each has one id and is tried under it until it is answered.
2. Whoever has no token asks as nobody. A token is never an argument: other people of the machine see those.
3. An answer that is JSON is shown as JSON; a list with `--all` as one item a line, and with `--json` as one document,
   which takes the memory of all of it. Anything else (CSV, PNG) goes to stdout as it is. What is refused goes to
   stderr, with exit status 1.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from click import ClickException, echo

from gateway.client import AsyncMasterVip, MasterVipError, RetryPolicy
from gateway.client.errors import ApiError
from serve import connection
from serve.api_words import Api, ApiRequest, Operation, WordsFault
from serve.connection import NotRunning

RETRY = RetryPolicy(pause_s_max=2.0, deadline_s=15.0, try_timeout_s=30.0)


class Asked(msgspec.Struct, frozen=True):
    """The options of `mastervip api`. `body` is the file of a whole body, `content_type` what is in it; `accept` what
    the answer should be, `key` the Idempotency-Key ("": a new one)."""

    words: tuple[str, ...]
    body: Path | None = None
    content_type: str = "application/json"
    accept: str = ""
    key: str = ""
    is_all: bool = False
    as_json: bool = False


def api(url: str | None, data: Path, url_default: str, token: str | None, asked: Asked) -> None:
    """The command `api`."""
    asyncio.run(_told(_api(url, data, url_default, token, asked)))


def watch(url: str | None, data: Path, url_default: str, token: str | None, topics: Sequence[str]) -> None:
    """The command `watch`: until it is stopped."""
    asyncio.run(_told(_watch(url, data, url_default, token, topics)))


async def _told(work: Any) -> None:
    """Waits for the work, and tells what goes wrong as a command does."""
    try:
        await work
    except ApiError as error:
        wrong = "".join(f"\n  {one.get('pointer') or one.get('parameter')}: {one['detail']}" for one in error.errors)
        raise ClickException(f"{error}{wrong}") from error
    except (MasterVipError, WordsFault, ValueError) as error:
        raise ClickException(str(error)) from error


@asynccontextmanager
async def _client(url: str | None, data: Path, url_default: str, token: str | None) -> AsyncIterator[AsyncMasterVip]:
    try:
        found = connection.read(data)
    except NotRunning:
        base_url, context = url or url_default, None
    else:
        base_url, context = url or found.base_url, found.ssl_context()
    async with AsyncMasterVip(base_url, token, retry=RETRY, ssl_context=context) as vip:
        yield vip


async def _api(url: str | None, data: Path, url_default: str, token: str | None, asked: Asked) -> None:
    async with _client(url, data, url_default, token) as vip:
        known = Api(await vip.request("GET", "/openapi.json"))
        operation = known.find(asked.words)
        if operation is None:
            _show_operations(known, asked)
            return
        request = known.request(operation, asked.words[len(operation.words) :])
        if asked.is_all and request.method != "GET":
            raise WordsFault(f"{operation.usage()} is no list")
        if asked.is_all:
            await _show_all(vip, request, as_json=asked.as_json)
        else:
            await _exchange(vip, request, asked)


async def _show_all(vip: AsyncMasterVip, request: ApiRequest, *, as_json: bool) -> None:
    items = vip.items(request.path, **request.query)
    if as_json:
        echo(msgspec.json.encode({"items": [item async for item in items]}).decode())
        return
    async for item in items:
        echo(msgspec.json.encode(item).decode())


async def _exchange(vip: AsyncMasterVip, request: ApiRequest, asked: Asked) -> None:
    headers = {"accept": asked.accept} if asked.accept else {}
    content: bytes | None = None
    if asked.body is not None:
        if request.body is not None:
            raise WordsFault("give fields or the whole body, not both")
        content = await asyncio.to_thread(_read, asked.body)
        headers["content-type"] = asked.content_type
    answer = await vip.exchange(
        request.method,
        request.path,
        json=request.body,
        content=content,
        params=request.query,
        headers=headers,
        idempotency_key=asked.key or None,
    )
    if "json" not in answer.headers.get("content-type", "json"):
        sys.stdout.buffer.write(answer.content)
        sys.stdout.buffer.flush()
    elif answer.content:
        shown = answer.content if asked.as_json else msgspec.json.format(answer.content)
        echo(shown.decode())


def _read(path: Path) -> bytes:
    return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()


def _show_operations(known: Api, asked: Asked) -> None:
    """What there is to be written. Raises `WordsFault` where nothing begins like that."""
    found = known.beginning(asked.words)
    if not found:
        raise WordsFault(f"there is no `{' '.join(asked.words)}`; without words, all that there is is listed")
    if asked.as_json:
        listed = [{"usage": one.usage(), "fields": known.fields(one), "summary": one.summary} for one in found]
        echo(msgspec.json.encode({"operations": listed}).decode())
        return
    echo("\n".join(_line(known, one, with_fields=bool(asked.words)) for one in found))


def _line(known: Api, one: Operation, *, with_fields: bool) -> str:
    fields = f"\n    {' '.join(known.fields(one))}" if with_fields and known.fields(one) else ""
    return f"{one.usage():<56}{one.summary}{fields}"


async def _watch(url: str | None, data: Path, url_default: str, token: str | None, topics: Sequence[str]) -> None:
    async with _client(url, data, url_default, token) as vip, vip.live_socket() as live:
        await asyncio.gather(*(_lines(live.subscribe(topic)) for topic in topics))


async def _lines(changes: Any) -> None:
    async for change in changes:
        line = {"topic": change.topic, "kind": change.kind, "data": change.data}
        echo(msgspec.json.encode(line).decode())
