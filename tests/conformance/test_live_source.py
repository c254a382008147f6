"""What `gateway.ports.LiveSource` promises, held against every implementation; and what Redis adds: coming back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from urllib.parse import urlsplit

import msgspec
import pytest
from redis.asyncio import Redis

from actors.codec import encode_digest
from actors.replies import Digest, EventFeed, Update
from gateway.memory_live import MemoryLive
from gateway.ports import LiveSource, Placement
from gateway.redis_directory import PLACEMENT_CHANNEL, PLACEMENT_KEY, RedisDirectory
from gateway.redis_listener import QUIET_MS
from gateway.redis_live import RedisLiveSource, channel_of
from tests.support.tcp_proxy import TcpProxy

Publish = Callable[[Digest], Awaitable[object]]
_tenants = count(1)


def digest(tenant_id: str, topic: str, offset: int) -> Digest:
    return Digest(tenant_id, topic, 3, Update(offset, EventFeed("evt_1", "Gala", offset, 0, 0, 9, 0, ())))


class Source:
    """A source, the way to publish to it, and its digests as they come."""

    def __init__(self, source: LiveSource, publish: Publish) -> None:
        self.source = source
        self.publish = publish
        self._digests = source.digests()

    async def next(self) -> Digest:
        async with asyncio.timeout(5):
            return await anext(self._digests)


@pytest.fixture(params=["memory", "redis"])
async def live(request: pytest.FixtureRequest) -> AsyncIterator[Source]:
    if request.param == "memory":
        memory = MemoryLive()

        async def publish(message: Digest) -> None:
            memory.publish(message)

        yield Source(memory, publish)
        await memory.close()
        return
    url = request.getfixturevalue("redis_url")
    async with Redis.from_url(url) as redis:
        source = RedisLiveSource(url)
        yield Source(source, publisher(redis))
        await source.close()


def publisher(redis: Redis) -> Publish:
    """As hosts do it."""

    async def publish(message: Digest) -> object:
        return await redis.publish(channel_of(message.tenant_id, message.topic), encode_digest(message))

    return publish


@pytest.fixture
def tenant() -> str:
    return f"org_{next(_tenants)}"


class TestLiveSource:
    async def test_after_subscribe_returned_every_digest_comes_in_order(self, live: Source, tenant: str) -> None:
        await live.source.subscribe(tenant, "event:e")
        for offset in range(1, 201):
            await live.publish(digest(tenant, "event:e", offset))
        assert [await live.next() for _ in range(200)] == [digest(tenant, "event:e", n) for n in range(1, 201)]

    async def test_what_was_published_before_or_elsewhere_does_not_come(self, live: Source, tenant: str) -> None:
        await live.publish(digest(tenant, "event:e", 1))
        await live.source.subscribe(tenant, "event:e")
        await live.publish(digest(tenant, "event:e2", 2))
        await live.publish(digest(tenant + "x", "event:e", 3))
        await live.publish(digest(tenant, "event:e", 4))
        assert (await live.next()).update.offset == 4

    async def test_unsubscribing_one_topic_leaves_the_others(self, live: Source, tenant: str) -> None:
        for topic in ("event:a", "event:b", "leaderboard:points:day"):
            await live.source.subscribe(tenant, topic)
        await live.source.unsubscribe(tenant, "event:a")
        await live.publish(digest(tenant, "event:a", 1))
        await live.publish(digest(tenant, "event:b", 2))
        await live.publish(digest(tenant, "leaderboard:points:day", 3))
        assert {(await live.next()).update.offset for _ in range(2)} == {2, 3}

    async def test_subscribing_twice_delivers_once_and_again_after_unsubscribing(
        self, live: Source, tenant: str
    ) -> None:
        await live.source.unsubscribe(tenant, "event:e")
        for _ in range(2):
            await live.source.subscribe(tenant, "event:e")
        await live.source.unsubscribe(tenant, "event:e")
        await live.source.subscribe(tenant, "event:e")
        for offset in (1, 2):
            await live.publish(digest(tenant, "event:e", offset))
        assert [(await live.next()).update.offset for _ in range(2)] == [1, 2]


class TestRedisLive:
    """Redis behind a proxy that cuts and silences the line."""

    @pytest.fixture
    async def proxy(self, redis_url: str) -> AsyncIterator[TcpProxy]:
        port = urlsplit(redis_url).port
        assert port is not None
        async with TcpProxy("127.0.0.1", port) as proxy:
            yield proxy

    @pytest.fixture
    async def behind(self, redis_url: str, proxy: TcpProxy) -> AsyncIterator[Source]:
        port = urlsplit(redis_url).port
        async with Redis.from_url(redis_url) as redis:
            source = RedisLiveSource(redis_url.replace(f":{port}/", f":{proxy.port}/"))
            yield Source(source, publisher(redis))
            await source.close()

    async def test_after_a_cut_line_it_is_subscribed_to_all_it_had(
        self, behind: Source, proxy: TcpProxy, tenant: str
    ) -> None:
        for topic in ("event:a", "event:b"):
            await behind.source.subscribe(tenant, topic)
        for cut in range(3):
            proxy.cut()
            await delivered_again(behind, tenant, ("event:a", "event:b"), 1_000 * cut)

    async def test_a_line_on_which_nothing_comes_any_more_is_given_up(
        self, behind: Source, proxy: TcpProxy, tenant: str
    ) -> None:
        await behind.source.subscribe(tenant, "event:a")
        connections = proxy.connections_count
        proxy.half_open()
        async with asyncio.timeout(4 * QUIET_MS / 1_000):
            while proxy.connections_count == connections:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        proxy.heal()
        await delivered_again(behind, tenant, ("event:a",), 0)

    async def test_subscribing_waits_while_redis_is_away(self, behind: Source, proxy: TcpProxy, tenant: str) -> None:
        proxy.is_refusing = True
        subscribing = asyncio.create_task(behind.source.subscribe(tenant, "event:a"))
        await asyncio.sleep(0.3)
        assert not subscribing.done()
        proxy.is_refusing = False
        await asyncio.wait_for(subscribing, 5)
        await behind.publish(digest(tenant, "event:a", 1))
        assert (await behind.next()).update.offset == 1

    async def test_what_is_no_digest_or_anothers_is_dropped(self, redis_url: str, tenant: str) -> None:
        async with Redis.from_url(redis_url) as redis:
            source = RedisLiveSource(redis_url)
            live = Source(source, publisher(redis))
            await source.subscribe(tenant, "event:a")
            for payload in (b"", b"\xc1", b"\x94\x01", encode_digest(digest("org_other", "event:a", 1))):
                await redis.publish(channel_of(tenant, "event:a"), payload)
            await live.publish(digest(tenant, "event:a", 2))
            assert (await live.next()).update.offset == 2
            await source.close()


class TestRedisDirectory:
    async def test_placements_as_they_change_each_once_also_over_a_cut_line(self, redis_url: str) -> None:
        port = urlsplit(redis_url).port
        assert port is not None
        async with Redis.from_url(redis_url) as redis, TcpProxy("127.0.0.1", port) as proxy:
            await redis.delete(PLACEMENT_KEY)
            directory = RedisDirectory(redis_url.replace(f":{port}/", f":{proxy.port}/"))
            assert await directory.placement() is None

            async def place(version: int) -> Placement:
                placement = Placement(version, 4, {"host-0": [0, 1], "host-1": [2, 3]})
                await redis.set(PLACEMENT_KEY, msgspec.json.encode(placement))
                await redis.publish(PLACEMENT_CHANNEL, str(version))
                return placement

            first = await place(1)
            assert await directory.placement() == first
            changes = directory.changes()
            async with asyncio.timeout(20):
                assert await anext(changes) == first
                second = await place(2)
                assert await anext(changes) == second
                coming = asyncio.ensure_future(anext(changes))
                await redis.publish(PLACEMENT_CHANNEL, "again")
                await asyncio.sleep(0.2)
                assert not coming.done()
                proxy.cut()
                third = await place(3)
                assert await coming == third
                await redis.set(PLACEMENT_KEY, "not JSON")
                await redis.publish(PLACEMENT_CHANNEL, "4")
                assert await directory.placement() is None
                fifth = await place(5)
                assert await anext(changes) == fifth
            proxy.is_refusing = True
            proxy.cut()
            assert await directory.placement() is None
            await changes.aclose()  # type: ignore[attr-defined]
            await directory.close()
            await redis.delete(PLACEMENT_KEY)


async def delivered_again(live: Source, tenant: str, topics: tuple[str, ...], base: int) -> None:
    """Publishes until a digest of each topic has come: what is published while the line is down is lost."""
    waiting = set(topics)
    offset = base
    async with asyncio.timeout(10):
        while waiting:
            offset += 1
            for topic in topics:
                await live.publish(digest(tenant, topic, offset))
            try:
                async with asyncio.timeout(0.1):
                    while waiting:
                        waiting.discard((await anext(live._digests)).topic)
            except TimeoutError:
                live._digests = live.source.digests()
    # What is still on its way belongs to this round.
    try:
        async with asyncio.timeout(0.1):
            while True:
                await anext(live._digests)
    except TimeoutError:
        live._digests = live.source.digests()
