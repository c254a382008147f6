"""The dispatcher against a transport under the test's command: batching, limits, retries, deferral and deadlines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from actors.codec import Answers, Message, encode_answers
from actors.commands import AwardPoints, CheckIn
from actors.ids import partition_of
from actors.replies import Deferred, Done, Failed, Reply
from gateway import limits
from gateway.dispatcher import Dispatcher
from gateway.ports import Transport
from tests.edge.fakes import OTHER_TENANT, TENANT, FakeDirectory, FakeTransport, check_in, deferred, judged

BOTH = {"one": [0, 1]}


@asynccontextmanager
async def dispatching(transport: Transport, directory: FakeDirectory) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(transport, directory, jitter=lambda: 0.0)
    await dispatcher.start()
    try:
        yield dispatcher
    finally:
        await dispatcher.close()


def request_id_of(reply: Reply) -> str:
    assert isinstance(reply, Done)
    return reply.fact.request_id


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_lone_message_leaves_at_once() -> None:
    transport = FakeTransport()
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        asked = asyncio.create_task(dispatcher.ask(check_in("a")))
        (await transport.next()).admit()
        assert request_id_of(await asked) == "a"


async def test_what_arrives_in_one_turn_goes_together_in_order() -> None:
    transport, replies = FakeTransport(), []
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        for number in range(5):
            dispatcher.submit(check_in(f"r{number}"), replies.append)
        batch = await transport.next()
        assert batch.ids == ["r0", "r1", "r2", "r3", "r4"]
        batch.admit()
        await turns()
        assert [request_id_of(reply) for reply in replies] == batch.ids


async def test_one_batch_is_on_the_way_and_the_next_leaves_when_it_returns() -> None:
    transport = FakeTransport()
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        first, second = [], []
        dispatcher.submit(check_in("a"), first.append)
        one = await transport.next()
        for number in range(10):
            dispatcher.submit(check_in(f"c{number}"), second.append)
            await turns()
        assert transport.submissions.empty()
        assert first == []
        one.admit()
        two = await transport.next()
        assert two.ids == [f"c{number}" for number in range(10)]
        assert len(first) == 1
        two.admit()
        await turns()
        assert len(second) == 10


async def test_a_batch_has_at_most_300_messages() -> None:
    transport = FakeTransport()
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        for number in range(700):
            dispatcher.submit(check_in(str(number)), lambda _: None)
        sizes = []
        for _ in range(3):
            batch = await transport.next()
            sizes.append(len(batch.messages))
            batch.admit()
        assert sizes == [300, 300, 100]


async def test_a_batch_stays_below_its_size_and_keeps_the_order() -> None:
    transport, replies = FakeTransport(), []
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        for number in range(300):
            dispatcher.submit(AwardPoints(TENANT, str(number), b"", "card_1", 1, "x" * 500), replies.append)
        seen: list[str] = []
        while len(seen) < 300:
            batch = await transport.next()
            seen += batch.ids
            batch.reply(*(Failed("card_unknown", "") for _ in batch.messages))
            await turns()
        assert seen == [str(number) for number in range(300)]
        assert max(transport.sizes) < limits.BATCH_BYTES_MAX
        assert len(replies) == 300


async def test_what_cannot_be_encoded_is_answered_alone() -> None:
    transport, bad, good = FakeTransport(), [], []
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        for number in range(8):
            dispatcher.submit(check_in(str(number)), good.append)
        dispatcher.submit(AwardPoints(TENANT, "bad", b"", "card_1", 2**70), bad.append)
        dispatcher.submit(AwardPoints(TENANT, "worse", b"", "card_1", 1, "\ud800"), bad.append)
        while len(good) < 8:
            (await transport.next()).admit()
            await turns()
        assert [reply.code for reply in bad if isinstance(reply, Failed)] == ["message_unencodable"] * 2


async def test_tenants_go_to_the_host_of_their_partition() -> None:
    assert partition_of(TENANT, 2) != partition_of(OTHER_TENANT, 2), "the test needs two partitions"
    hosts = {"one": [partition_of(TENANT, 2)], "two": [partition_of(OTHER_TENANT, 2)]}
    transport = FakeTransport()
    async with dispatching(transport, FakeDirectory(hosts)) as dispatcher:
        dispatcher.submit(check_in("a", TENANT), lambda _: None)
        dispatcher.submit(check_in("b", OTHER_TENANT), lambda _: None)
        batches = {batch.host: batch.ids for batch in [await transport.next(), await transport.next()]}
        assert batches == {"one": ["a"], "two": ["b"]}


async def test_a_full_queue_says_overloaded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUEUE_MESSAGES_MAX", 3)
    transport, replies = FakeTransport(), []
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        for number in range(5):
            dispatcher.submit(check_in(str(number)), replies.append)
        assert [reply.code for reply in replies if isinstance(reply, Failed)] == ["overloaded"] * 2
        assert all(reply.retry_after_ms > 0 for reply in replies if isinstance(reply, Failed))
        (await transport.next()).admit()
        await turns()
        assert len(replies) == 5


@pytest.mark.parametrize("answer", [Failed("moved", "elsewhere"), Failed("unavailable", "opening", 50)])
async def test_moved_is_tried_again_at_the_new_owner_with_the_same_request(answer: Failed) -> None:
    transport, directory, replies = FakeTransport(), FakeDirectory(BOTH), []
    async with dispatching(transport, directory) as dispatcher:
        dispatcher.submit(check_in("a"), replies.append)
        dispatcher.submit(check_in("b"), replies.append)
        batch = await transport.next()
        directory.move({"two": [0, 1]})
        message = batch.messages[0]
        assert isinstance(message, CheckIn)
        batch.reply(answer, judged(message))
        again = await transport.next()
        assert (again.host, again.ids, again.messages[0]) == ("two", ["a"], message)
        again.admit()
        await turns()
        assert len(replies) == 2
        assert directory.reads >= 2


@pytest.mark.parametrize(
    "answer",
    [
        Failed("id_reused", ""),
        Failed("card_unknown", ""),
        Failed("overloaded", "", 100),
        Failed("unavailable", "never", 0),
    ],
)
async def test_other_failures_are_the_answer(answer: Failed) -> None:
    transport = FakeTransport()
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        asked = asyncio.create_task(dispatcher.ask(check_in("a")))
        (await transport.next()).reply(answer)
        assert await asked == answer


async def test_a_dead_host_means_trying_again_where_the_partition_is_now() -> None:
    transport, directory = FakeTransport(), FakeDirectory(BOTH)
    async with dispatching(transport, directory) as dispatcher:
        asked = asyncio.create_task(dispatcher.ask(check_in("a")))
        dead = await transport.next()
        directory.move({"two": [0, 1]})
        dead.fail()
        again = await transport.next()
        assert (again.host, again.ids) == ("two", ["a"])
        again.admit()
        assert request_id_of(await asked) == "a"


async def test_a_queue_follows_the_placement() -> None:
    transport, directory = FakeTransport(), FakeDirectory(BOTH)
    async with dispatching(transport, directory) as dispatcher:
        dispatcher.submit(check_in("a"), lambda _: None)
        assert (await transport.next()).host == "one"
        dispatcher.submit(check_in("c"), lambda _: None)
        await turns()
        directory.move({"two": [0, 1]}, announce=True)
        moved = await transport.next()
        assert (moved.host, moved.ids) == ("two", ["c"])


async def test_an_older_placement_is_not_taken() -> None:
    transport, directory = FakeTransport(), FakeDirectory(BOTH)
    directory.move({"two": [0, 1]})
    async with dispatching(transport, directory) as dispatcher:
        assert directory.current is not None
        dispatcher._place(FakeDirectory(BOTH).current)  # type: ignore[arg-type]
        dispatcher.submit(check_in("a"), lambda _: None)
        assert (await transport.next()).host == "two"


async def test_without_a_placement_messages_wait_for_one() -> None:
    transport, directory = FakeTransport(), FakeDirectory(None)
    async with dispatching(transport, directory) as dispatcher:
        asked = asyncio.create_task(dispatcher.ask(check_in("a")))
        await turns()
        assert not dispatcher.is_placed
        directory.move(BOTH, announce=True)
        (await transport.next()).admit()
        assert request_id_of(await asked) == "a"
        assert dispatcher.is_placed


async def test_deferred_replies_are_collected_in_the_background() -> None:
    transport, first, second = FakeTransport(), [], []
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        for request_id in ("a", "b", "c"):
            dispatcher.submit(check_in(request_id), first.append)
        batch = await transport.next()
        a, b, c = (message for message in batch.messages if isinstance(message, CheckIn))
        batch.reply(Deferred(), judged(b), Deferred(), ticket=7)
        await turns()
        assert [request_id_of(reply) for reply in first] == ["b"]
        # It does not count as in flight: two more batches leave meanwhile.
        for request_id in ("d", "e"):
            dispatcher.submit(check_in(request_id), second.append)
            (await transport.next()).admit()
        ticket, collected = await transport.collections.get()
        assert ticket == 7
        collected.set_result(encode_answers(Answers([judged(a), judged(c)])))
        await turns()
        assert [request_id_of(reply) for reply in first] == ["b", "a", "c"]
        assert len(second) == 2


async def test_deferred_replies_of_a_host_that_died_are_asked_for_again() -> None:
    transport = FakeTransport()
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        asked = asyncio.create_task(dispatcher.ask(check_in("a")))
        (await transport.next()).reply(Deferred(), ticket=7)
        _, collected = await transport.collections.get()
        collected.set_result(encode_answers(Answers([])))  # it does not know the ticket any more
        (await transport.next()).admit()
        assert request_id_of(await asked) == "a"


async def test_too_many_deferred_batches_hold_back_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COLLECTS_PER_HOST_MAX", 1)
    transport = FakeTransport()
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        dispatcher.submit(check_in("a"), lambda _: None)
        (await transport.next()).reply(*deferred(1), ticket=7)
        _, collected = await transport.collections.get()
        dispatcher.submit(check_in("b"), lambda _: None)
        await turns()
        assert transport.submissions.empty()
        collected.set_result(encode_answers(Answers([judged(check_in("a"))])))
        assert (await transport.next()).ids == ["b"]


async def test_a_host_that_hangs_costs_the_deadline_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DEADLINE_MS", 60)
    monkeypatch.setattr(limits, "SWEEP_INTERVAL_MS", 10)
    transport, replies = FakeTransport(), []
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        for request_id in ("a", "b", "c"):  # two on the way, one behind them
            dispatcher.submit(check_in(request_id), replies.append)
            await turns()
        stuck = await transport.next()
        await asyncio.sleep(0.15)
        assert replies == [Failed("unavailable", replies[0].detail, limits.UNAVAILABLE_RETRY_AFTER_MS)] * 3
        assert stuck.answer.cancelled(), "nobody waits for it, so it must not hold the lane"
        dispatcher.submit(check_in("d"), replies.append)
        while (batch := await transport.next()).ids != ["d"]:
            pass
        batch.admit()
        await turns()
        assert request_id_of(replies[3]) == "d"


async def test_a_late_reply_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWEEP_INTERVAL_MS", 5)
    transport, late, early = FakeTransport(), [], []
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        monkeypatch.setattr(limits, "DEADLINE_MS", 20)
        dispatcher.submit(check_in("a"), late.append)
        monkeypatch.setattr(limits, "DEADLINE_MS", 5_000)
        dispatcher.submit(check_in("b"), early.append)
        batch = await transport.next()
        await asyncio.sleep(0.06)
        assert [type(reply) for reply in late] == [Failed]
        batch.admit()
        await turns()
        assert len(late) == 1
        assert request_id_of(early[0]) == "b"


async def test_retries_end_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DEADLINE_MS", 80)
    monkeypatch.setattr(limits, "PLACEMENT_REFRESH_INTERVAL_MIN_MS", 1)

    def moved(host: str, messages: Sequence[Message]) -> Answers:
        return Answers([Failed("moved", "") for _ in messages])

    transport = FakeTransport(moved)
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        started = time.monotonic()
        reply = await dispatcher.ask(check_in("a"))
        assert isinstance(reply, Failed)
        assert (reply.code, reply.retry_after_ms) == ("unavailable", limits.UNAVAILABLE_RETRY_AFTER_MS)
        assert time.monotonic() - started < 0.2
        assert 3 <= len(transport.sizes) <= 10, "with growing delays"


async def test_a_callback_that_raises_keeps_no_other_from_its_answer() -> None:
    transport, replies = FakeTransport(), []

    def broken(reply: Reply) -> None:
        raise RuntimeError("a bug in a caller")

    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        faults: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        dispatcher.submit(check_in("a"), broken)
        dispatcher.submit(check_in("b"), replies.append)
        (await transport.next()).admit()
        await turns()
        assert [request_id_of(reply) for reply in replies] == ["b"]
        asked = asyncio.create_task(dispatcher.ask(check_in("c")))
        (await transport.next()).admit()
        await asked
    asyncio.get_running_loop().set_exception_handler(None)


async def test_answers_that_do_not_fit_are_asked_for_again() -> None:
    transport = FakeTransport()
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        asked = asyncio.create_task(dispatcher.ask(check_in("a")))
        (await transport.next()).reply()
        (await transport.next()).answer.set_result(b"\xff\xff")
        (await transport.next()).admit()
        assert request_id_of(await asked) == "a"


async def test_closing_answers_what_is_open() -> None:
    transport, replies = FakeTransport(), []
    async with dispatching(transport, FakeDirectory(BOTH)) as dispatcher:
        for request_id in ("a", "b", "c"):
            dispatcher.submit(check_in(request_id), replies.append)
            await turns()
    assert [reply.code for reply in replies if isinstance(reply, Failed)] == ["unavailable"] * 3
    dispatcher.submit(check_in("d"), replies.append)
    await turns()
    assert len(replies) == 4
