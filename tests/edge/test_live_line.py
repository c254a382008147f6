"""Rule 1 of `gateway.live_hub` over real sockets: one unbroken line per topic, whatever is lost, late or cut off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from actors.codec import Message
from actors.queries import GetTopic
from actors.replies import Digest, Reply, TopicView, Update
from gateway import live_hub
from gateway.memory_live import MemoryLive
from gateway.sockets import limits
from tests.support.socket_edge import (
    JSON,
    MSGPACK,
    TENANT,
    TOPIC,
    UPDATES_KEPT,
    FakeEngine,
    FakeTopic,
    Follower,
    SocketEdge,
    feed,
    running_edge,
    subscribe,
    until,
)

CUTS = 1_000


@pytest.fixture(autouse=True)
def no_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics are not asked for by themselves, so that renewal cannot repair what a test looks at."""
    monkeypatch.setattr(live_hub, "WATCH_RENEW_MS", 60_000)


@pytest.fixture
def quick_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics are asked for often."""
    monkeypatch.setattr(live_hub, "WATCH_RENEW_MS", 30)


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as running:
        yield running


class TestLine:
    """Rule 1 of `gateway.live_hub`, under loss, cut-offs and new epochs."""

    async def test_a_lost_message_is_repaired_when_the_next_one_comes(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
            edge.engine.loses = lambda digest: digest.update.offset in (2, 3)
            for n in range(1, 5):
                edge.engine.publish(TENANT, TOPIC, feed(n))
            assert [(await client.receive())["offset"] for _ in range(4)] == [1, 2, 3, 4]

    @pytest.mark.usefixtures("quick_renewal")
    async def test_a_lost_last_message_is_found_by_the_renewal(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
            edge.engine.loses = lambda _digest: True
            edge.engine.publish(TENANT, TOPIC, feed(1))
            update = await client.receive(10)
            assert (update["t"], update["offset"]) == ("update", 1)

    async def test_a_new_epoch_begins_with_a_snapshot_that_says_so(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            assert "recovered" not in await client.receive()
            edge.engine.publish(TENANT, TOPIC, feed(1))
            await client.receive()
            edge.engine.restart(TENANT, TOPIC)
            edge.engine.publish(TENANT, TOPIC, feed(2))
            snapshot = await client.receive()
            assert (snapshot["t"], snapshot["epoch"], snapshot["offset"], snapshot["recovered"]) == (
                "snapshot",
                2,
                1,
                False,
            )
            assert snapshot["data"]["inside"] == 2

    @pytest.mark.usefixtures("quick_renewal")
    async def test_a_host_that_counts_anew_in_the_same_epoch_is_followed(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
            for n in range(5):
                edge.engine.publish(TENANT, TOPIC, feed(n))
                await client.receive()
            fresh = edge.engine.topics[(TENANT, TOPIC)]
            edge.engine.topics[(TENANT, TOPIC)] = fresh.__class__(feed(77))
            snapshot = await client.receive(10)
            assert (snapshot["t"], snapshot["offset"], snapshot["data"]["inside"]) == ("snapshot", 0, 77)
            edge.engine.publish(TENANT, TOPIC, feed(78))
            assert (await client.receive(10))["offset"] == 1

    async def test_resuming_gives_what_was_missed_and_nothing_twice(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
        for n in range(1, 6):
            edge.engine.publish(TENANT, TOPIC, feed(n))
        async with edge.subscriber() as client:
            await subscribe(client, since={"epoch": 1, "offset": 2})
            frames = [await client.receive() for _ in range(3)]
            assert [(frame["t"], frame["offset"]) for frame in frames] == [("update", 3), ("update", 4), ("update", 5)]
            await client.send({"t": "ping"})
            assert (await client.receive())["t"] == "pong"

    @pytest.mark.parametrize(
        "since", [{"epoch": 0, "offset": 3}, {"epoch": 1, "offset": 99}, {"epoch": 9, "offset": 0}]
    )
    async def test_what_cannot_be_resumed_gets_a_new_snapshot(self, edge: SocketEdge, since: dict[str, int]) -> None:
        for n in range(1, 6):
            edge.engine.publish(TENANT, TOPIC, feed(n))
        async with edge.subscriber() as client:
            await subscribe(client, since=since)
            snapshot = await client.receive()
            assert (snapshot["t"], snapshot["offset"], snapshot["recovered"]) == ("snapshot", 5, False)

    @pytest.mark.parametrize("answers_early", [True, False])
    async def test_updates_during_the_first_question_are_neither_lost_nor_doubled(
        self, edge: SocketEdge, answers_early: bool
    ) -> None:
        edge.engine.answers_topic.clear()
        edge.engine.answers_early = answers_early
        async with edge.subscriber() as client:
            await subscribe(client)
            await until(lambda: bool(edge.engine.questions))
            for n in range(1, 4):
                edge.engine.publish(TENANT, TOPIC, feed(n))
            await until(lambda: not edge.source.is_waiting)
            edge.engine.answers_topic.set()
            line = Follower()
            while line.last != 3:
                line.take(await client.receive())
            assert line.seen == (4 if answers_early else 1)

    async def test_the_engine_is_asked_after_the_source_confirmed(self, edge: SocketEdge) -> None:
        edge.source.gate.clear()
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.send({"t": "ping"})
            assert (await client.receive())["t"] == "pong"
            await asyncio.sleep(0.05)
            assert edge.engine.questions == []
            edge.source.gate.set()
            assert (await client.receive())["t"] == "snapshot"

    @pytest.mark.usefixtures("quick_renewal")
    async def test_while_the_source_is_away_boards_get_snapshots_and_what_renewals_bring(
        self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "SOURCE_WAIT_MS", 20)
        edge.source.gate.clear()
        async with edge.subscriber() as client:
            await subscribe(client)
            assert (await client.receive())["t"] == "snapshot"
            edge.engine.publish(TENANT, TOPIC, feed(1))
            assert (await client.receive())["offset"] == 1

    async def test_a_message_that_comes_twice_changes_nothing(self, edge: SocketEdge) -> None:
        digests: list[Digest] = []

        def noted(digest: Digest) -> bool:
            digests.append(digest)
            return False

        edge.engine.loses = noted
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
            for n in (1, 2):
                edge.engine.publish(TENANT, TOPIC, feed(n))
            edge.source.publish(digests[0])
            edge.engine.publish(TENANT, TOPIC, feed(3))
            assert [(await client.receive())["offset"] for _ in range(3)] == [1, 2, 3]
            assert len(edge.engine.questions) == 1, "nothing seemed to be missing"

    async def test_a_thousand_boards_cost_two_questions(self, edge: SocketEdge) -> None:
        edge.engine.answers_topic.clear()
        subscribers = [Recorder() for _ in range(1_000)]
        subscriptions = [edge.hub.subscribe(TENANT, TOPIC, subscriber) for subscriber in subscribers[:500]]
        await until(lambda: len(edge.engine.questions) == 1)
        subscriptions += [edge.hub.subscribe(TENANT, TOPIC, subscriber) for subscriber in subscribers[500:]]
        edge.engine.answers_topic.set()
        await until(lambda: all(subscriber.snapshots for subscriber in subscribers))
        assert len(edge.engine.questions) == 2
        edge.engine.publish(TENANT, TOPIC, feed(1))
        await until(lambda: all(subscriber.updates for subscriber in subscribers))
        assert len({id(subscriber.updates[0]) for subscriber in subscribers}) == 1, "encoded once, shared by all"
        for subscription in subscriptions:
            edge.hub.unsubscribe(subscription)

    @pytest.mark.usefixtures("quick_renewal")
    @pytest.mark.parametrize("seed", range(12))
    async def test_many_cut_offs_with_loss_and_new_epochs_leave_no_hole_and_no_double(
        self, edge: SocketEdge, seed: int
    ) -> None:
        dice = random.Random(seed)
        edge.engine.loses = lambda _digest: dice.random() < 0.2
        published = 0
        is_over = False

        async def host() -> None:
            nonlocal published
            while published < 300:
                published += 1
                if dice.random() < 0.02:
                    edge.engine.restart(TENANT, TOPIC)
                edge.engine.publish(TENANT, TOPIC, feed(published))
                await asyncio.sleep(dice.choice([0, 0, 0, 0.001, 0.003]))

        async def board_that_is_cut_off(wire: str) -> Follower:
            line = Follower()
            while not is_over:
                async with edge.subscriber(wire) as client:
                    await subscribe(client, since=line.since)
                    for _ in range(dice.randrange(1, 40)):
                        try:
                            line.take(await client.receive(0.2))
                        except TimeoutError:
                            break
                    if dice.random() < 0.5:
                        client.connection.transport.abort()
            async with edge.subscriber(wire) as client:
                await subscribe(client, since=line.since)
                while line.last != published:
                    line.take(await client.receive())
            return line

        boards = [asyncio.create_task(board_that_is_cut_off(wire)) for wire in (JSON, MSGPACK, JSON)]
        await host()
        is_over = True
        for line in await asyncio.gather(*boards):
            assert line.seen > 10

    async def test_a_board_that_is_cut_off_a_thousand_times_misses_nothing_and_sees_nothing_twice(
        self, edge: SocketEdge
    ) -> None:
        dice = random.Random(1)
        line, published, is_over = Follower(), 0, False
        resumed = begun_anew = 0

        async def host() -> None:
            nonlocal published
            while not is_over:
                burst = limits.TOPIC_RECENT_MAX + dice.randrange(-1, 2) if dice.random() < 0.01 else 1
                for _ in range(dice.choice((1, 1, 1, 1, 2, 2 * UPDATES_KEPT, burst))):
                    published += 1
                    edge.engine.publish(TENANT, TOPIC, feed(published))
                if dice.random() < 0.01:
                    edge.engine.restart(TENANT, TOPIC)
                await asyncio.sleep(0.002)

        async def another_board() -> None:
            """As long as one stays, the gateway has the latest updates itself."""
            async with edge.subscriber() as client:
                await subscribe(client)
                while True:
                    await client.receive()

        tasks = [asyncio.create_task(host())]
        for number in range(CUTS):
            if number == CUTS // 3:
                tasks.append(asyncio.create_task(another_board()))
            async with edge.subscriber(JSON if number % 2 else MSGPACK) as client:
                if dice.random() < 0.9:
                    await subscribe(client, since=line.since)
                    for nth in range(dice.randrange(4)):
                        before = line.snapshots
                        line.take(await client.receive())
                        if nth == 0:
                            begun_anew += line.snapshots - before
                            resumed += line.snapshots == before
                client.connection.transport.abort()
        is_over = True
        await tasks[0]
        async with edge.subscriber() as client:
            await subscribe(client, since=line.since)
            while line.last != published:
                line.take(await client.receive())
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert resumed > CUTS // 4
        assert begun_anew > CUTS // 20

    async def test_what_comes_while_a_gap_is_being_filled_is_kept(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await subscribe(client)
            await client.receive()
            edge.engine.answers_topic.clear()
            edge.engine.answers_early = True
            edge.engine.loses = lambda digest: digest.update.offset == 1
            for n in (1, 2):
                edge.engine.publish(TENANT, TOPIC, feed(n))
            await until(lambda: len(edge.engine.questions) == 2)
            edge.engine.publish(TENANT, TOPIC, feed(3))
            await until(lambda: not edge.source.is_waiting)
            edge.engine.answers_topic.set()
            assert [(await client.receive())["offset"] for _ in range(3)] == [1, 2, 3]
            assert len(edge.engine.questions) == 2


class TestLateAnswers:
    @pytest.mark.usefixtures("quick_renewal")
    async def test_who_was_answered_by_a_host_of_the_past_is_brought_to_the_present(self) -> None:
        source, early, late = MemoryLive(), Recorder(), Recorder()
        engine = SlowEngine(source)
        hub = live_hub.LiveHub(engine, source)
        running = asyncio.create_task(hub.run())
        hub.subscribe(TENANT, TOPIC, early)
        await engine.answer(TopicView(TOPIC, 1, 0, False, feed(0)))
        hub.subscribe(TENANT, TOPIC, late)
        outdated = await engine.next_question()
        source.publish(Digest(TENANT, TOPIC, 2, Update(1, feed(1))))
        await engine.answer(TopicView(TOPIC, 2, 1, False, feed(1)))
        outdated.set_result(TopicView(TOPIC, 1, 0, False, feed(0)))
        await until(lambda: len(late.snapshots) == 1)
        engine.is_prompt = True
        engine.topics[(TENANT, TOPIC)].epoch, engine.topics[(TENANT, TOPIC)].offset = 2, 1
        await until(lambda: len(late.snapshots) == 2)
        source.publish(Digest(TENANT, TOPIC, 2, Update(2, feed(2))))
        await until(lambda: bool(early.updates and late.updates))
        assert [(each.epoch, each.offset) for each in late.snapshots] == [(1, 0), (2, 1)]
        assert [each.offset for each in late.updates] == [each.offset for each in early.updates] == [2]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class SlowEngine(FakeEngine):
    """Leaves each question open until the test answers it, unless it `is_prompt`."""

    def __init__(self, source: MemoryLive) -> None:
        super().__init__(source)
        self.topics[(TENANT, TOPIC)] = FakeTopic(feed(1))
        self.is_prompt = False
        self._open: asyncio.Queue[asyncio.Future[Reply]] = asyncio.Queue()

    async def ask(self, message: Message) -> Reply:
        if self.is_prompt:
            return await super().ask(message)
        assert isinstance(message, GetTopic)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._open.put_nowait(answer)
        return await answer

    async def next_question(self) -> asyncio.Future[Reply]:
        async with asyncio.timeout(5):
            return await self._open.get()

    async def answer(self, reply: Reply) -> None:
        (await self.next_question()).set_result(reply)


class Recorder:
    """A subscriber that remembers."""

    def __init__(self) -> None:
        self.snapshots: list[live_hub.Published] = []
        self.updates: list[live_hub.Published] = []

    def on_snapshot(self, snapshot: live_hub.Published, recovered: bool | None) -> None:
        self.snapshots.append(snapshot)

    def on_update(self, update: live_hub.Published) -> None:
        self.updates.append(update)

    def on_refused(self, code: str, detail: str, retry_after_ms: int) -> None:
        raise AssertionError(code)
