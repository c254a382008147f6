"""The benchmark's baselines keep the contract: the same scans get the same answers from them as from the real thing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.credentials import CredentialBook
from gateway.http import AsgiApp
from loadtest.baselines import postgres_desk, redis_script
from loadtest.baselines.app import CONNECTIONS_PER_PROCESS, Design, Orders, Scanner, application
from serve.stores import quiet_port
from storage.embedded_redis import EmbeddedRedis
from tests.edge.asgi import Answer, call
from tests.edge.in_process import MASTER, running_system

DESIGNS: list[Design] = ["transaction", "statement", "redis"]
KEY = "the-key"


def request_id(number: int) -> str:
    return f"01a20482-d87f-78ab-9579-{number:012d}"


async def scan(app: AsgiApp, token: str, **fields: Any) -> Answer:
    return await call(app, "POST", "/v1/checkins", fields, {"Authorization": f"Bearer {token}"})


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[str]:
    """A server for a baseline: its keys are not those of the system."""
    server = EmbeddedRedis(tmp_path / "redis", quiet_port())
    server.start()
    yield server.admin_url
    server.stop()


@asynccontextmanager
async def baseline(
    design: Design,
    database: str,
    redis_url: str,
    org_id: str,
    cards: list[tuple[str, str, str, str]],
    events: list[tuple[str, int]],
) -> AsyncIterator[AsgiApp]:
    """A design on an empty store with these in it; `KEY` may scan everywhere, `door` at the first event."""
    url = redis_url if design == "redis" else database
    await (redis_script if design == "redis" else postgres_desk).prepare(url, cards, events)
    tokens = {KEY: Scanner("", ""), "door": Scanner("dev_1", events[0][0])}
    app = application(Orders(design, 0, url, org_id, MASTER.decode(), tokens))
    async with app.router.lifespan_context(app):
        yield app


def told(answer: Answer) -> Any:
    """What of an answer has to be the same: all but the times."""
    body = answer.json()
    if answer.status != 200:
        return answer.status, body["code"], answer.headers["content-type"]
    assert body.pop("at").endswith("Z")
    if body["first"] is not None:
        assert body["first"].pop("at").endswith("Z")
    return answer.status, body


def scans_of(event_id: str, cards: list[Any], book: CredentialBook, org_id: str) -> list[dict[str, Any]]:
    """What is scanned, in order, at an event with room for two."""
    first, second, third = (card["credential"] for card in cards)
    unknown = book.issue(org_id, "card_nobody", "gold", 1_700_000_000_000)
    steps: list[tuple[int, str, dict[str, Any]]] = [
        (1, first, {}),
        (1, first, {}),  # a retry
        (2, first, {}),  # already_admitted
        (3, first, {"direction": "exit"}),
        (4, first, {"direction": "exit"}),  # not_inside
        (5, first, {}),  # again, without points
        (6, second, {}),
        (7, third, {}),  # full
        (7, third, {}),  # a retry of a refusal
        (1, second, {}),  # another body
        (8, first, {"event_id": "evt_nobody"}),
        (9, "MV1:" + "A" * 120, {}),  # forged
        (10, unknown, {}),  # signed, and of no card
        (11, second, {"direction": "exit"}),
        (7, third, {}),  # there is room now, and a retry is still a retry
        (12, third, {}),
        (13, second, {}),  # full
    ]
    return [
        {"event_id": event_id, "scan_id": request_id(number), "credential": credential, **more}
        for number, credential, more in steps
    ]


async def test_baselines_answer_as_the_system_does(
    migrated_database: str, postgres_database: str, own_redis: str
) -> None:
    async with running_system(migrated_database) as system:
        org = await system.open_org()
        cards = [
            await system.made("POST", "/v1/cards", {"member": {"name": name}, "tier": "gold"}, org["key"])
            for name in ("Ann", "Bao", "Chi")
        ]
        event = await system.made("POST", "/v1/events", {"name": "Night", "capacity": 2}, org["key"])
        scans = scans_of(event["id"], cards, system.book, org["id"])
        expected = [told(await scan(system.app, org["key"], **one)) for one in scans]
    verdicts = [one[1]["reason"] or one[1]["verdict"] if one[0] == 200 else one[1] for one in expected]
    assert verdicts == [
        *("admitted", "admitted", "already_admitted", "admitted", "not_inside", "admitted", "admitted", "full", "full"),
        *("id_reused", "event_unknown", "credential_invalid", "credential_invalid", "admitted", "full", "admitted"),
        "full",
    ]
    known = [(card["id"], card["member"]["id"], card["member"]["name"], "gold") for card in cards]
    for design in DESIGNS:
        if design == "statement":  # an empty database for each
            await _empty(postgres_database)
        async with baseline(
            design, postgres_database, own_redis, org["id"], known, [(event["id"], 2), ("evt_other", 2)]
        ) as app:
            for one, wanted in zip(scans, expected, strict=True):
                assert told(await scan(app, KEY, **one)) == wanted, (design, one)
            elsewhere = scans[0] | {"event_id": "evt_other", "scan_id": request_id(99)}
            assert told(await scan(app, "door", **elsewhere))[:2] == (403, "wrong_event")
            assert told(await scan(app, "nobody", **scans[0]))[:2] == (401, "unauthenticated")


async def _empty(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("DROP TABLE cards, events, attendance, scans, ledger")
    await connection.close()


@asynccontextmanager
async def held_door(url: str) -> AsyncIterator[None]:
    """Keeps the event's row locked until as many wait for it, or for one another, as there are connections: all of
    them have looked at the tables then, and none has changed them."""
    holder, watcher = await asyncpg.connect(url), await asyncpg.connect(url)
    held = holder.transaction()
    await held.start()
    await holder.execute("SELECT FROM events WHERE event_id = 'evt_1' FOR UPDATE")
    try:
        yield
        waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
        while await watcher.fetchval(waiting) < CONNECTIONS_PER_PROCESS:  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(0.01)
    finally:
        await held.rollback()
        await holder.close()
        await watcher.close()


@pytest.mark.parametrize("capacity", [3, 30])
@pytest.mark.parametrize("design", DESIGNS)
async def test_races_exceed_no_capacity_and_have_one_effect(
    design: Design, capacity: int, postgres_database: str, own_redis: str
) -> None:
    """Forty cards at once at a door with room for fewer, every card with two scans, every scan sent twice. The first is
    met by its rival and its retry before anything is decided."""
    book = CredentialBook(MASTER)
    credentials = [book.issue("org_1", f"card_{number}", "gold", 1) for number in range(40)]
    cards = [(f"card_{number}", f"mem_{number}", "Ann", "gold") for number in range(40)]
    async with baseline(design, postgres_database, own_redis, "org_1", cards, [("evt_1", capacity)]) as app:

        async def sent(number: int) -> Any:
            credential = credentials[number // 2]
            answer = await scan(app, KEY, event_id="evt_1", credential=credential, scan_id=request_id(number))
            assert answer.status == 200, answer.body
            return answer.json()

        firsts, rivals = range(0, 80, 2), range(1, 80, 2)
        order = [0, 1, 0, *firsts[1:], *rivals[1:], *rivals, *firsts[1:]]
        async with AsyncExitStack() as stack:
            if design != "redis":
                await stack.enter_async_context(held_door(postgres_database))
            asked = [asyncio.create_task(sent(number)) for number in order]
        answers = await asyncio.gather(*asked)
    done = [answer for answer in answers if not answer["replayed"]]
    assert len(done) == 80, "each was judged once, and answered from memory once"
    admitted = [answer for answer in done if answer["verdict"] == "admitted"]
    assert sorted(answer["attendance"]["inside"] for answer in admitted) == list(range(1, capacity + 1))
    assert len({answer["card_id"] for answer in admitted}) == capacity, "nobody came in twice"
    assert {answer["points"]["balance"] for answer in admitted} == {10}
    by_id = {answer["scan_id"]: answer for answer in done}
    assert all(answer | {"replayed": False} == by_id[answer["scan_id"]] for answer in answers)
