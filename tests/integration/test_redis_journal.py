"""The Redis journal against a real server that is killed, misconfigured, tampered with or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

from actors.entry import Mark, is_intact
from actors.ports import Fenced, JournalCorrupt, JournalFull, JournalGap, OutcomeUnknown, UnsafeJournal
from storage.embedded_redis import EmbeddedRedis
from storage.process import free_port
from storage.redis_journal import REQUIRED_SETTINGS, RedisJournal
from tests.support.journal_writer import AT_MS, Writer, mark_of, read_all
from tests.support.tcp_proxy import TcpProxy

APPEND_TIMEOUT_MS = 300

_partitions = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A server whose settings and data these tests may spoil."""
    embedded = EmbeddedRedis(tmp_path_factory.mktemp("redis"), free_port())
    embedded.start()
    yield embedded
    embedded.stop()


@pytest.fixture
def admin(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """Tampers with the server; its settings are put back after the test."""
    client = redis.Redis.from_url(server.admin_url)
    settings: dict[str, Any] = {name: client.config_get(name)[name] for name in (*REQUIRED_SETTINGS, "maxmemory")}
    yield client
    for name, value in settings.items():
        client.config_set(name, value)
    client.config_set("min-replicas-to-write", 0)
    client.close()


@pytest.fixture
async def journal(server: EmbeddedRedis) -> AsyncIterator[RedisJournal]:
    made = RedisJournal(server.url)
    yield made
    await made.close()


@pytest.fixture
async def proxy(server: EmbeddedRedis) -> AsyncIterator[TcpProxy]:
    async with TcpProxy("127.0.0.1", _port(server)) as made:
        yield made


@pytest.fixture
async def far_journal(server: EmbeddedRedis, proxy: TcpProxy) -> AsyncIterator[RedisJournal]:
    """Reaches the server through the proxy, and soon gives up on it."""
    url = server.url.replace(f":{_port(server)}/", f":{proxy.port}/")
    made = RedisJournal(url, append_timeout_ms=APPEND_TIMEOUT_MS, connect_timeout_ms=2_000, read_timeout_ms=2_000)
    yield made
    await made.close()


@pytest.fixture
def partition() -> int:
    return next(_partitions)


def _port(server: EmbeddedRedis) -> int:
    return int(server.url.rpartition(":")[2].partition("/")[0])


def _key(partition: int, name: str) -> str:
    return f"mv:{{p{partition:02d}}}:{name}"


def _types(outcomes: Sequence[object]) -> set[type]:
    return {type(outcome) for outcome in outcomes}


class TestSettings:
    UNSAFE = (
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("no-appendfsync-on-rewrite", "yes"),
        ("maxmemory-policy", "allkeys-lru"),
        ("aof-load-truncated", "yes"),
    )

    @pytest.mark.parametrize(("name", "value"), UNSAFE)
    async def test_an_unsafe_setting_is_refused_by_name(
        self, server: EmbeddedRedis, admin: redis.Redis, journal: RedisJournal, partition: int, name: str, value: str
    ) -> None:
        assert {name for name, _ in self.UNSAFE} == set(REQUIRED_SETTINGS)
        admin.config_set(name, value)
        with pytest.raises(UnsafeJournal, match=f"^{name} is {value}, must be {REQUIRED_SETTINGS[name]}$"):
            await journal.check_settings()
        with pytest.raises(UnsafeJournal):
            await journal.open(partition, None, AT_MS)
        assert not admin.exists(_key(partition, "journal"), _key(partition, "fence"))
        careless = RedisJournal(server.url, unsafe=True)
        await careless.check_settings()
        await careless.open(partition, None, AT_MS)
        await careless.close()

    async def test_settings_that_may_not_be_read_are_refused(
        self, server: EmbeddedRedis, admin: redis.Redis, partition: int
    ) -> None:
        admin.acl_setuser(
            "clerk", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"], commands=["-config"]
        )
        journal = RedisJournal(f"redis://clerk:pw@127.0.0.1:{_port(server)}/0")
        with pytest.raises(UnsafeJournal, match="cannot be verified"):
            await journal.check_settings()
        with pytest.raises(UnsafeJournal, match="cannot be verified"):
            await journal.open(partition, None, AT_MS)
        await journal.close()

    async def test_settings_are_checked_again_on_every_new_connection(
        self, admin: redis.Redis, journal: RedisJournal, partition: int
    ) -> None:
        writer = await Writer.open(journal, partition)
        admin.config_set("appendfsync", "everysec")
        await writer.append()  # nobody could know yet
        admin.client_kill_filter(_type="normal", skipme=True)
        await asyncio.sleep(0.05)
        batch = [writer.seal() for _ in range(3)]
        assert _types(await writer.append_at_once(batch)) == {UnsafeJournal}
        admin.config_set("appendfsync", "always")
        assert await writer.append_at_once(batch) == [0, 0, 0]


class TestKilledServer:
    async def test_kill_9_loses_nothing_that_was_confirmed(self, tmp_path: Path) -> None:
        server = EmbeddedRedis(tmp_path / "redis", free_port())
        journal = RedisJournal(server.url)
        confirmed: dict[int, list[Mark]] = {partition: [] for partition in range(4)}

        async def write(partition: int) -> None:
            writer = await Writer.open(journal, partition)
            confirmed[partition].append(mark_of(writer.tail))
            while True:
                batch = [writer.seal(b"x" * 500) for _ in range(4)]
                for (entry, _), outcome in zip(batch, await writer.append_at_once(batch), strict=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
                    confirmed[partition].append(mark_of(entry))

        for round_number in range(4):
            server.start()
            writing = [asyncio.create_task(write(partition)) for partition in confirmed]
            await asyncio.sleep(0.05 + 0.03 * round_number)
            server.kill()
            outcomes = await asyncio.gather(*writing, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {OutcomeUnknown}
        server.start()
        for partition, marks in confirmed.items():
            assert len(marks) > 20
            kept = {mark_of(entry) for entry in await read_all(journal, partition)}
            assert [mark for mark in marks if mark not in kept] == []
        await journal.close()
        server.stop()

    async def test_while_the_server_is_away_every_call_says_so(self, tmp_path: Path) -> None:
        server = EmbeddedRedis(tmp_path / "redis", free_port())
        server.start()
        journal = RedisJournal(server.url)
        writer = await Writer.open(journal, 0)
        server.kill()
        for question in (
            journal.append(0, *writer.seal()),
            journal.tail(0),
            journal.open(0, None, AT_MS),
            journal.read(0, Mark(), 10),
            journal.trim(0, mark_of(writer.tail)),
            journal.note_projected(0, 1),
            journal.projected_hint(0),
            journal.check_settings(),
        ):
            with pytest.raises(OutcomeUnknown):
                await question
        server.start()
        assert (await Writer.open(journal, 0)).tail.epoch == 2
        await journal.close()
        server.stop()


class TestTampering:
    """Whatever is done to one of the witnesses is found by all who would build on it, and nothing is written."""

    @pytest.mark.parametrize(
        ("why", "spoil"),
        [
            ("its fence does not", lambda c, p: c.delete(_key(p, "fence"))),
            ("lacks a field", lambda c, p: c.hdel(_key(p, "fence"), "epoch")),
            ("lacks a field", lambda c, p: c.hdel(_key(p, "fence"), "checksum")),
            ("the fence says 1-3, the stream .* 1-4", lambda c, p: c.hset(_key(p, "fence"), "seq", 3)),
            ("the fence says 1-5, the stream .* 1-4", lambda c, p: c.hset(_key(p, "fence"), "seq", 5)),
            ("the fence says 7-4, the stream .* 1-4", lambda c, p: c.hset(_key(p, "fence"), "epoch", 7)),
            ("checksums .* differ", lambda c, p: c.hset(_key(p, "fence"), "checksum", "8 bytes!")),
            ("its stream does not", lambda c, p: c.delete(_key(p, "journal"))),
            ("the stream ends with 1-3", lambda c, p: c.xdel(_key(p, "journal"), "1-4")),
            ("the stream is empty", lambda c, p: c.xtrim(_key(p, "journal"), maxlen=0)),
            ("last gave out 1-5", lambda c, p: c.xadd(_key(p, "journal"), {"v": 1}, id="1-5")),
            (
                "last gave out 1-5",
                lambda c, p: (
                    c.xadd(_key(p, "journal"), {"v": 1}, id="1-5"),
                    c.xdel(_key(p, "journal"), "1-5"),
                ),
            ),
            ("something else", lambda c, p: c.set(_key(p, "fence"), "x")),
            ("something else", lambda c, p: c.set(_key(p, "journal"), "x")),
        ],
    )
    async def test_is_corrupt(
        self,
        admin: redis.Redis,
        journal: RedisJournal,
        partition: int,
        why: str,
        spoil: Callable[[redis.Redis, int], object],
    ) -> None:
        writer = await Writer.open(journal, partition)
        tail = [await writer.append() for _ in range(3)][-1]
        assert (tail.epoch, tail.seq) == (1, 4)
        spoil(admin, partition)
        before = [admin.dump(_key(partition, name)) for name in ("journal", "fence")]
        with pytest.raises(JournalCorrupt, match=why):
            await journal.append(partition, *writer.seal())
        with pytest.raises(JournalCorrupt, match=why):
            await journal.tail(partition)
        with pytest.raises(JournalCorrupt, match=why):
            await journal.open(partition, None, AT_MS)
        assert [admin.dump(_key(partition, name)) for name in ("journal", "fence")] == before

    async def test_a_reader_finds_that_the_tail_was_deleted(
        self, admin: redis.Redis, journal: RedisJournal, partition: int
    ) -> None:
        writer = await Writer.open(journal, partition)
        entry = await writer.append()
        tail = await writer.append()
        admin.xdel(_key(partition, "journal"), f"1-{tail.seq}")
        for after in (Mark(), mark_of(entry)):
            with pytest.raises(JournalCorrupt):
                await journal.read(partition, after, 10)

    async def test_a_hole_is_corrupt_and_no_gap(
        self, admin: redis.Redis, journal: RedisJournal, partition: int
    ) -> None:
        writer = await Writer.open(journal, partition)
        entries = [await writer.append() for _ in range(4)]
        admin.xdel(_key(partition, "journal"), f"1-{entries[1].seq}")
        for after in (Mark(), mark_of(entries[0])):
            with pytest.raises(JournalCorrupt):
                await journal.read(partition, after, 10)
        await journal.trim(partition, mark_of(entries[2]))
        with pytest.raises(JournalGap):  # from here on it cannot be told from trimming, and Postgres is further
            await journal.read(partition, mark_of(entries[0]), 10)

    async def test_an_entry_with_missing_fields_is_corrupt(
        self, admin: redis.Redis, journal: RedisJournal, partition: int
    ) -> None:
        admin.xadd(_key(partition, "journal"), {"v": 1, "t": "soon"}, id="1-1")
        with pytest.raises(JournalCorrupt, match="1-1"):
            await journal.read(partition, Mark(), 10)

    async def test_a_changed_payload_is_found_by_its_reader(
        self, admin: redis.Redis, journal: RedisJournal, partition: int
    ) -> None:
        writer = await Writer.open(journal, partition)
        entries = [writer.tail, *[await writer.append(b"\x91\x01") for _ in range(3)]]
        key = _key(partition, "journal")
        rows: Any = admin.xrange(key)
        admin.delete(key)
        for n, (entry_id, fields) in enumerate(rows):
            admin.xadd(key, fields | ({b"f": b"\x91\x02"} if n == 2 else {}), id=entry_id)
        read = await journal.read(partition, Mark(), 10)
        checksums = [bytes(8), *[entry.checksum for entry in entries]]
        assert [is_intact(checksums[n], entry) for n, entry in enumerate(read)] == [True, True, False, True]


class TestRefusals:
    @pytest.mark.parametrize(
        ("setting", "value"), [pytest.param("maxmemory", 1, id="memory"), ("min-replicas-to-write", 1)]
    )
    async def test_a_full_store_writes_nothing_and_the_same_append_may_be_retried(
        self, admin: redis.Redis, journal: RedisJournal, partition: int, setting: str, value: int
    ) -> None:
        writer = await Writer.open(journal, partition)
        tail = writer.tail
        batch = [writer.seal() for _ in range(5)]
        admin.config_set(setting, value)
        assert _types(await writer.append_at_once(batch)) == {JournalFull}
        with pytest.raises(JournalFull):
            await journal.open(partition, None, AT_MS)
        assert await journal.tail(partition) == mark_of(tail)
        admin.config_set(setting, 0)
        with pytest.raises(JournalFull):  # behind one that has not been retried yet: not sent
            await journal.append(partition, *batch[1])
        assert await writer.append_at_once(batch) == [0] * 5
        assert (await read_all(journal, partition))[1:] == [entry for entry, _ in batch]

    async def test_a_first_write_that_is_refused_is_also_the_last(
        self, server: EmbeddedRedis, admin: redis.Redis, journal: RedisJournal, partition: int
    ) -> None:
        writer = await Writer.open(journal, partition)
        admin.acl_setuser(
            "clerk", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"], commands=["-hset"]
        )
        clerk = RedisJournal(f"redis://clerk:pw@127.0.0.1:{_port(server)}/0")
        with pytest.raises(OutcomeUnknown, match="permission"):
            await clerk.append(partition, *writer.seal())
        await clerk.close()
        assert (await journal.tail(partition)).seq == 1

    async def test_scripts_that_were_flushed_are_sent_again_in_order(
        self, admin: redis.Redis, journal: RedisJournal
    ) -> None:
        writers = [await Writer.open(journal, next(_partitions)) for _ in range(3)]
        for _ in range(5):
            admin.script_flush()
            batches = [[writer.seal() for _ in range(20)] for writer in writers]
            outcomes = await asyncio.gather(
                *(w.append_at_once(batch) for w, batch in zip(writers, batches, strict=True))
            )
            assert outcomes == [[0] * 20] * 3
        for writer in writers:
            assert len(await read_all(journal, writer.partition)) == 101
        admin.script_flush()
        assert (await Writer.open(journal, writers[0].partition)).tail.epoch == 2


class TestNetwork:
    async def test_a_reply_that_is_lost_leaves_the_outcome_unknown(
        self, far_journal: RedisJournal, proxy: TcpProxy, partition: int
    ) -> None:
        writer = await Writer.open(far_journal, partition)
        proxy.to_client.is_cutting = True
        entry, previous = writer.seal()
        with pytest.raises(OutcomeUnknown):
            await far_journal.append(partition, entry, previous)
        proxy.heal()
        assert await far_journal.tail(partition) == mark_of(entry)  # this time it was written
        assert (await Writer.open(far_journal, partition)).tail.epoch == 2

    async def test_a_request_that_is_lost_leaves_the_outcome_unknown(
        self, far_journal: RedisJournal, proxy: TcpProxy, partition: int
    ) -> None:
        writer = await Writer.open(far_journal, partition)
        opened = writer.tail
        proxy.to_server.is_dropping = True
        with pytest.raises(OutcomeUnknown):
            await writer.append()
        proxy.heal()
        assert await far_journal.tail(partition) == mark_of(opened)  # and this time not

    async def test_everything_under_way_fails_and_nothing_is_sent_behind_it(
        self, far_journal: RedisJournal, proxy: TcpProxy, partition: int
    ) -> None:
        writer = await Writer.open(far_journal, partition)
        opened = writer.tail
        other = await Writer.open(far_journal, next(_partitions))
        proxy.to_server.is_dropping = True
        lost = [asyncio.create_task(writer.append()) for _ in range(5)]
        await asyncio.sleep(0.01)
        proxy.heal()
        assert _types(await asyncio.gather(*lost, return_exceptions=True)) == {OutcomeUnknown}
        connections_count = proxy.connections_count
        with pytest.raises(OutcomeUnknown):  # a writer that has not noticed
            await writer.append()
        assert proxy.connections_count == connections_count
        await other.append()
        assert await far_journal.tail(partition) == mark_of(opened)
        assert (await Writer.open(far_journal, partition)).tail.epoch == 2

    async def test_a_half_open_connection_is_given_up_in_time(
        self, far_journal: RedisJournal, proxy: TcpProxy, partition: int
    ) -> None:
        writer = await Writer.open(far_journal, partition)
        await asyncio.sleep(APPEND_TIMEOUT_MS / 2000)  # the watch over the first append has not ended yet
        proxy.half_open()
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        outcomes = await writer.append_at_once([writer.seal() for _ in range(3)])
        assert _types(outcomes) == {OutcomeUnknown}
        assert APPEND_TIMEOUT_MS / 1000 <= loop.time() - started_s < 2 * APPEND_TIMEOUT_MS / 1000
        proxy.heal()
        assert (await Writer.open(far_journal, partition)).tail.epoch == 2

    async def test_a_slow_network_delays_and_does_not_reorder(
        self, far_journal: RedisJournal, proxy: TcpProxy, partition: int
    ) -> None:
        writer = await Writer.open(far_journal, partition)
        proxy.to_server.latency_ms = proxy.to_client.latency_ms = 40
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        appends = []
        for _ in range(10):
            appends.append(asyncio.create_task(writer.append()))
            await asyncio.sleep(0.005)
        entries = await asyncio.gather(*appends)
        assert 0.08 <= loop.time() - started_s < 0.25  # ten round trips of 80 ms, all under way together
        assert (await read_all(far_journal, partition))[1:] == entries

    async def test_a_cancelled_append_leaves_the_order_of_replies_intact(
        self, journal: RedisJournal, partition: int
    ) -> None:
        writer = await Writer.open(journal, partition)
        tasks = [asyncio.create_task(writer.append()) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        kept = [entry for entry in outcomes if not isinstance(entry, BaseException)]
        assert len(kept) == 5
        assert len(await read_all(journal, partition)) == 11

    async def test_a_cancelled_append_does_not_keep_the_others_from_failing(
        self, far_journal: RedisJournal, proxy: TcpProxy, partition: int
    ) -> None:
        writer = await Writer.open(far_journal, partition)
        proxy.to_server.is_dropping = True
        tasks = [asyncio.create_task(writer.append()) for _ in range(4)]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        proxy.heal()
        async with asyncio.timeout(2):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(OutcomeUnknown) == 3

    async def test_closing_fails_what_is_under_way(
        self, far_journal: RedisJournal, proxy: TcpProxy, partition: int
    ) -> None:
        writer = await Writer.open(far_journal, partition)
        proxy.half_open()
        tasks = [asyncio.create_task(writer.append()) for _ in range(3)]
        await asyncio.sleep(0.01)
        await far_journal.close()
        assert _types(await asyncio.gather(*tasks, return_exceptions=True)) == {OutcomeUnknown}
        with pytest.raises(OutcomeUnknown):
            await far_journal.append(partition, *writer.seal())

    async def test_closing_while_connecting_fails_what_waits(
        self, far_journal: RedisJournal, proxy: TcpProxy, partition: int
    ) -> None:
        writer = await Writer.open(far_journal, partition)
        proxy.cut()
        await asyncio.sleep(0.02)
        proxy.half_open()
        task = asyncio.create_task(writer.append())
        await asyncio.sleep(0.02)
        await far_journal.close()
        with pytest.raises(OutcomeUnknown):
            await task


async def test_a_zombie_process_stays_fenced_after_the_server_was_killed(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis", free_port())
    server.start()
    old, new = RedisJournal(server.url), RedisJournal(server.url)
    zombie = await Writer.open(old, 0)
    successor = await Writer.open(new, 0)
    await new.trim(0, mark_of(successor.tail))
    server.kill()
    server.start()
    entry, previous = zombie.seal()
    with pytest.raises(OutcomeUnknown):  # its connection died with the server
        await old.append(0, entry, previous)
    with pytest.raises(Fenced):
        await old.append(0, entry, previous)
    assert await new.tail(0) == mark_of(successor.tail)
    await old.close()
    await new.close()
    server.stop()
