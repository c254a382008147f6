"""Answers of any length: CSV and NDJSON, written page by page while the client reads.

Rules:
1. All of it or a broken connection: nothing is cut off silently. The answer is chunked, so a client sees whether it
   came to its end; where a store fails, or the client takes longer than `limits.EXPORT_MAX_MS`, the end does not come.
2. In memory there is one page and what the connection buffers. The next page is read when the client has taken what
   was written; meanwhile no connection of Postgres is held.
3. A client that goes ends the work at once, a query under way included.
4. Of exports there are a few at a time (`gateway.slots`), and each lets others have the event loop every few rows.
5. What goes wrong before the first page is there is told as a problem.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Generic, TypeVar

import msgspec
from starlette.responses import Response

from gateway import limits
from gateway.exchange import exchange_of
from gateway.http import Disconnected, Receive, Scope, Send
from gateway.slots import Slots

CSV = "text/csv"
NDJSON = "application/x-ndjson"
_FORMATS = (CSV, NDJSON)
Row = TypeVar("Row")


class Format(msgspec.Struct, Generic[Row], frozen=True):
    """How rows are written: a line each, with its end; `head` goes before them."""

    media_type: str
    line: Callable[[Row], str]
    head: str = ""


def wanted_format(accept: str) -> str | None:
    """The media type of an export that an Accept header names first; None where it names none of them."""
    named = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return next((name for name in named if name in _FORMATS), None)


class Export(Response, Generic[Row]):
    """The answer. `pages` brings the rows; each is read when the one before has been written."""

    def __init__(
        self,
        slots: Slots,
        tenant_id: str,
        form: Format[Row],
        pages: AsyncGenerator[Sequence[Row]],
        headers: dict[str, str],
    ) -> None:
        self.status_code = 200
        self.background = None
        self._slots = slots
        self._tenant_id = tenant_id
        self._form = form
        self._pages = pages
        self.media_type = f"{form.media_type}; charset=utf-8"
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry. Raises `Problem` and `StoreUnavailable` before the answer begins, `Disconnected` where rule 1
        ends it."""
        with self._slots.hold(self._tenant_id):
            writing = asyncio.create_task(self._write(scope, send))
            leaving = asyncio.create_task(_gone(receive))
            try:
                async with asyncio.timeout(limits.EXPORT_MAX_MS / 1_000):
                    await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
                if not writing.done():
                    raise Disconnected
                writing.result()
            except TimeoutError:
                raise Disconnected from None
            finally:
                writing.cancel()
                leaving.cancel()
                await asyncio.gather(writing, leaving, return_exceptions=True)

    async def _write(self, scope: Scope, send: Send) -> None:
        is_head = exchange_of(scope).is_head
        async with aclosing(self._pages) as pages:
            rows = await anext(pages, None)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self._form.head.encode(), "more_body": True})
            while rows and not is_head:
                for start in range(0, len(rows), limits.EXPORT_CHUNK_ROWS):
                    text = "".join(map(self._form.line, rows[start : start + limits.EXPORT_CHUNK_ROWS]))
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                    await asyncio.sleep(0)  # rule 4: sending does not wait while the connection's buffer has room
                rows = await anext(pages, None)
        await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
