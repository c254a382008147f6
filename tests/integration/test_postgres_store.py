"""What only the Postgres store can get wrong: snapshots, paging, a server that is away or silent."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from actors.entry import Mark
from actors.ports import LoadRequest, StoreUnavailable
from storage import postgres as postgres_module
from storage import postgres_store
from storage.postgres import Connection, Pool, reader_pool, writer_pool
from storage.postgres_store import PostgresStore
from storage.process import free_port
from storage.replay import WorldState, digest_of
from tests.support.histories import Author
from tests.support.projection import project
from tests.support.tcp_proxy import TcpProxy

PARTITION = 1


@pytest.fixture
async def pool(migrated_database: str) -> AsyncIterator[Pool]:
    made = await writer_pool(migrated_database, 2)
    yield made
    await made.close()


async def test_a_load_is_one_snapshot(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reading the position and the rows, the projector commits more: neither the one nor the others show it."""
    author = Author(4)
    entries = author.entries(60)
    mark = await project(pool, PARTITION, Mark(), entries[:30])
    then = WorldState()
    for entry in entries[:30]:
        then.apply_entry(entry)
    read_position = postgres_store._position

    async def position_and_more(connection: Connection, partition: int) -> Mark:
        found = await read_position(connection, partition)
        await project(pool, PARTITION, mark, entries[30:])
        return found

    monkeypatch.setattr(postgres_store, "_position", position_and_more)
    request = LoadRequest(tuple(author.world.tenants), tuple(author.world.cards), tuple(author.world.events))
    loaded = await PostgresStore(pool).load(PARTITION, request)
    assert loaded.projected == mark
    for found, made in ((loaded.cards, then.cards), (loaded.events, then.events)):
        assert {key: digest_of(state) for key, state in found.items()} == {  # type: ignore[attr-defined]
            key: digest_of(state)
            for key, state in made.items()  # type: ignore[attr-defined]
        }


async def test_what_is_large_comes_in_pages(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_store, "PAGE_ROWS", 2)
    author = Author(5)
    await project(pool, PARTITION, Mark(), author.entries(60))
    loaded = await PostgresStore(pool).load(
        PARTITION,
        LoadRequest(events=tuple(author.world.events), boards=(("org_A", "points/all"), ("org_B", "points/all"))),
    )
    assert any(len(event.attendance) > 4 for event in loaded.events.values())
    for key, event in author.world.events.items():
        assert digest_of(loaded.events[key]) == digest_of(event)
    assert sum(map(len, loaded.boards.values())) == sum(card.earned > 0 for card in author.world.cards.values())


async def test_a_server_that_is_away_makes_the_store_unavailable() -> None:
    pool = await reader_pool(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", 1)
    with pytest.raises(StoreUnavailable):
        await PostgresStore(pool).load(PARTITION, LoadRequest(tenants=("org_A",)))
    with pytest.raises(StoreUnavailable):
        await PostgresStore(pool).position(PARTITION)
    pool.terminate()


async def test_a_server_that_falls_silent_makes_the_store_unavailable(
    pool: Pool, migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "READ_TIMEOUT_S", 0.3)
    monkeypatch.setattr(postgres_module, "CONNECT_TIMEOUT_S", 0.3)
    account, _, rest = migrated_database.rpartition("@")
    address, _, name = rest.partition("/")
    async with TcpProxy("127.0.0.1", int(address.rpartition(":")[2])) as proxy:
        readers = await reader_pool(f"{account}@127.0.0.1:{proxy.port}/{name}", 1)
        store = PostgresStore(readers)
        assert await store.position(PARTITION) == Mark()
        proxy.half_open()
        with pytest.raises(StoreUnavailable):
            await store.position(PARTITION)
        proxy.heal()
        assert await store.position(PARTITION) == Mark()
        readers.terminate()
