"""The scan log as CSV and NDJSON: all of it whatever its length, in memory for a page; clients that are slow or leave;
a few exports at a time; cells that spreadsheets would take for formulas."""

from __future__ import annotations

import asyncio
import csv
import io
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from gateway import limits
from gateway.http import AsgiMessage
from gateway.rest.common import csv_cell
from gateway.rest.exports import wanted_format
from tests.edge.in_process import System

ROWS = 200_000
FILL_TIMEOUT_S = 60.0
START_MS = 1_780_000_000_000


async def an_event(system: System, rows: int, member_name: str = "Ann") -> tuple[str, str]:
    """The key of a new organisation and the path of an event's scan log with so many scans, a second apart."""
    org = await system.open_org()
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 100}, org["key"])
    async with system.parts.pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO scans SELECT $1, $2, n, $3 + n * 1000, $3 + n * 1000, 'r' || n, 'card_' || n % 10, 'gate_1',"
            " 'dev', 'entry', CASE WHEN n % 4 = 0 THEN 'full' ELSE '' END, 'mem_1', $5, 'gold', n % 100, 1, 0, 0, 0,"
            " '', '' FROM generate_series(1, $4::bigint) AS n",
            *(org["id"], event["id"], START_MS, rows, member_name),
            timeout=FILL_TIMEOUT_S,
        )
    return org["key"], f"/v1/events/{event['id']}/checkins"


class Client:
    """Reads an answer piece by piece: each `take` lets one more piece through."""

    def __init__(self, system: System, path: str, key: str, accept: str, method: str = "GET") -> None:
        route, _, query = path.partition("?")
        headers = [(b"authorization", f"Bearer {key}".encode()), (b"accept", accept.encode())]
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": route,
            "raw_path": route.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 40_000),
            "server": ("127.0.0.1", 8_080),
        }
        self._app = system.app
        self._is_asked = False
        self._pieces: asyncio.Queue[AsgiMessage] = asyncio.Queue(1)
        self.left = asyncio.Event()

    async def run(self) -> None:
        """The request; to be run as a task."""
        await self._app(self._scope, self._receive, self._pieces.put)

    async def take(self) -> AsgiMessage:
        """The next piece."""
        return await self._pieces.get()

    async def _receive(self) -> AsgiMessage:
        if not self._is_asked:
            self._is_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}


@asynccontextmanager
async def reading(system: System, path: str, key: str, accept: str, method: str = "GET") -> AsyncIterator[Client]:
    """A client whose request is under way."""
    client = Client(system, path, key, accept, method)
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        client.left.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def slots(system: System) -> Any:
    return system.app._api.state.exports  # type: ignore[attr-defined]


@pytest.mark.parametrize("accept", ["text/csv", "application/x-ndjson"])
async def test_a_long_export_is_whole_and_takes_the_memory_of_a_page(system: System, accept: str) -> None:
    key, path = await an_event(system, ROWS)
    count, rest, next_number = 0, b"", ROWS
    async with reading(system, path, key, accept) as client:
        start = await client.take()
        assert start["status"] == 200
        tracemalloc.start()
        try:
            while (piece := await client.take()).get("more_body"):
                *lines, rest = (rest + piece["body"]).split(b"\n")
                for line in lines:
                    name = line.partition(b",")[0].removeprefix(b'{"scan_id":').strip(b'"')
                    if name != b"scan_id":
                        assert name == b"r%d" % next_number
                        next_number -= 1
                        count += 1
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (count, rest) == (ROWS, b"")
    assert peak_bytes < 12_000_000, "all of it would be 100 MB and more"
    assert slots(system).taken_count == 0


async def test_ndjson_has_the_lists_items(system: System) -> None:
    key, path = await an_event(system, 30)
    filtered = f"{path}?verdict=refused&from=2026-05-28T20:26:50Z"
    listed = (await system.made("GET", filtered, token=key))["items"]
    answer = await system.call("GET", filtered, token=key, Accept="application/x-ndjson")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [msgspec.json.decode(line) for line in answer.body.splitlines()] == listed
    assert 0 < len(listed) < 30 // 4 + 1
    assert answer.headers["x-mastervip-stale"] == "false"


@pytest.mark.parametrize("accept", ["text/csv", "application/x-ndjson"])
async def test_an_export_without_rows(system: System, accept: str) -> None:
    key, path = await an_event(system, 0)
    answer = await system.call("GET", path, token=key, Accept=accept)
    assert answer.status == 200
    assert answer.body.count(b"\n") == (1 if accept == "text/csv" else 0)


async def test_nothing_is_read_ahead_of_a_client_and_no_connection_is_held(system: System) -> None:
    key, path = await an_event(system, 5_000)
    with system.watch.looking() as seen:
        async with reading(system, path, key, "text/csv") as client:
            for _ in range(limits.EXPORT_PAGE_ROWS // limits.EXPORT_CHUNK_ROWS):
                await client.take()
            assert len([query for query in seen if "AS looked_at" in query]) == 1, "the first page is not taken yet"
            async with AsyncExitStack() as held:
                for _ in range(4):  # all there are
                    await held.enter_async_context(system.parts.pool.acquire())


async def test_a_client_that_leaves_ends_its_export(system: System) -> None:
    key, path = await an_event(system, 5_000)
    client = Client(system, path, key, "text/csv")
    task = asyncio.create_task(client.run())
    await client.take()
    assert slots(system).taken_count == 1
    client.left.set()
    await task
    assert slots(system).taken_count == 0


async def test_a_client_that_takes_too_long_gets_no_end(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key, path = await an_event(system, 5_000)
    monkeypatch.setattr(limits, "EXPORT_MAX_MS", 300)
    client = Client(system, path, key, "text/csv")
    task = asyncio.create_task(client.run())
    assert (await client.take())["status"] == 200
    await task
    assert slots(system).taken_count == 0
    last = await client.take()
    assert last["more_body"], "without the last piece the connection is closed, and the client sees a broken answer"


async def test_exports_are_a_few_at_a_time(system: System) -> None:
    logs = [await an_event(system, 3_000) for _ in range(limits.EXPORTS_MAX + 1)]
    async with reading(system, logs[0][1], logs[0][0], "text/csv") as client:
        await client.take()
        answer = await system.call("GET", logs[0][1], token=logs[0][0], Accept="text/csv")
        assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (429, "rate_limited", "10")
        assert (await system.call("GET", logs[0][1], token=logs[0][0])).status == 200, "pages are not exports"
        async with reading(system, logs[1][1], logs[1][0], "application/x-ndjson") as other:
            await other.take()
            answer = await system.call("GET", logs[2][1], token=logs[2][0], Accept="text/csv")
            assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "10")
    assert (await system.call("GET", logs[0][1], token=logs[0][0], Accept="text/csv")).status == 200


async def test_head_of_an_export_reads_one_page(system: System) -> None:
    key, path = await an_event(system, 5_000)
    with system.watch.looking() as seen:
        answer = await system.call("HEAD", path, token=key, Accept="text/csv")
    assert (answer.status, answer.body) == (200, b"")
    assert len([query for query in seen if "AS looked_at" in query]) == 1


@pytest.mark.parametrize(
    "name",
    ["a,b", 'a"b', "=1+1", "+1", "-1", "@sum", '=HYPERLINK("http://x","y")', "=a,b", " =1", "a\u2028b", "Ünï ✓", "''"],
)
async def test_any_name_is_one_cell_of_text(system: System, name: str) -> None:
    key, path = await an_event(system, 1, name)
    answer = await system.call("GET", path, token=key, Accept="text/csv")
    (row,) = csv.DictReader(io.StringIO(answer.body.decode(), newline=""))
    assert row["member_name"].removeprefix("'" if name[0] in "=+-@" else "") == name
    assert row["member_name"][0] not in "=+-@"
    assert (row["tier"], row["inside"]) == ("gold", "1"), "the cells after it are in their places"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("a\nb", '"a\nb"'),
        ("a\r\nb", '"a\r\nb"'),
        ("\r=1", '"\'\r=1"'),
        ("\t=1", "'\t=1"),
        ("\n=1", '"\'\n=1"'),
        ("＝1", "'＝1"),
        ("＋1", "'＋1"),
        ("－1", "'－1"),
        ("＠x", "'＠x"),
        ('"', '""""'),
        (0, "0"),
        (-5, "-5"),
    ],
)
def test_cells(value: object, cell: str) -> None:
    assert csv_cell(value) == cell


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("application/x-ndjson, text/csv", "application/x-ndjson"),
        ("application/json, text/csv;q=0.5", "text/csv"),
        ("application/json", None),
        ("*/*", None),
        ("", None),
    ],
)
def test_which_format(accept: str, wanted: str | None) -> None:
    assert wanted_format(accept) == wanted
