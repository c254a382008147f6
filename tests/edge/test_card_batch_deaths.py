"""A gateway dies, sleeps or is told to stop in the middle of a batch of cards: each row takes effect once, and what
took effect is told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from actors.commands import IssueCard
from actors.replies import Failed
from gateway import limits
from gateway.card_batches import store
from gateway.card_batches.work import CardBatchWork
from gateway.cold import ColdStore
from gateway.jobs import JobTable, LeaseLost
from tests.edge.in_process import System
from tests.edge.test_card_batches import PATH, add_members, cards, counts, lines

ROWS, CHUNK = 11, 4


class Death(BaseException):
    """Like kill -9: nothing is cleaned up."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CARD_BATCH_CHUNK_ROWS", CHUNK)


def worker(system: System, name: str) -> CardBatchWork:
    parts = system.parts
    return CardBatchWork(ColdStore(parts.pool, parts.clock_ms), name, parts.clock_ms, parts.engine, parts.ids)


async def started(system: System) -> tuple[str, str, list[str]]:
    """A batch that waits: the organisation's key, its id, and whom it is for."""
    key = (await system.open_org())["key"]
    members = await add_members(system, key, ROWS)
    return key, (await system.made("POST", PATH, {"member_ids": members}, key))["id"], members


async def is_whole(system: System, key: str, batch_id: str, members: list[str]) -> None:
    """Each of the members has the one card that the result tells."""
    told = await system.made("GET", f"{PATH}/{batch_id}", token=key)
    assert (told["state"], counts(told)) == ("done", (ROWS, ROWS, ROWS, 0))
    pairs = [(line["member_id"], line["card_id"]) for line in await lines(system, key, batch_id, "result")]
    assert [member for member, _ in pairs] == members
    assert sorted(pairs) == sorted((card["member"]["id"], card["id"]) for card in await cards(system, key))


async def lease_is_over(system: System) -> None:
    await system.parts.pool.execute("UPDATE card_batches SET lease_until_ms = 0")


def dying(patch: pytest.MonkeyPatch, owner: Any, name: str, at: int, *, is_after: bool) -> None:
    """Whoever calls this dies at the nth call, before or after it is done."""
    inner, calls = getattr(owner, name), 0

    async def killed(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at and not is_after:
            raise Death
        found = await inner(*arguments)
        if calls >= at and is_after:
            raise Death
        return found

    patch.setattr(owner, name, killed)


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [
        (store, "begin", 2),
        (CardBatchWork, "_ask", CHUNK + 2),  # in the middle of the second chunk
        (store, "keep", 2),  # all of the second chunk is issued, and none of it kept
        (JobTable, "advance", 3),
        (CardBatchWork, "_keep", 1),
        (CardBatchWork, "_end", 1),
    ],
)
async def test_another_gateway_goes_on_and_each_row_counts_once(
    system: System, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int, is_after: bool
) -> None:
    key, batch_id, members = await started(system)
    with monkeypatch.context() as patch, suppress(Death):
        dying(patch, owner, name, at, is_after=is_after)
        await worker(system, "gw_one").one()
        pytest.fail("nobody died")
    ended = (name, is_after) == ("_end", True)
    assert not await worker(system, "gw_other").one(), "the lease holds"
    await lease_is_over(system)
    assert await worker(system, "gw_other").one() is not ended
    await is_whole(system, key, batch_id, members)


async def test_who_slept_through_the_lease_changes_nothing(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key, batch_id, members = await started(system)
    keep, slept = CardBatchWork._keep, False

    async def slow(self: CardBatchWork, *arguments: Any) -> Any:
        nonlocal slept
        if not slept:
            slept = True
            await lease_is_over(system)
            assert await worker(system, "gw_other").one()
            with pytest.raises(LeaseLost):
                await keep(self, *arguments)
            raise LeaseLost
        return await keep(self, *arguments)

    monkeypatch.setattr(CardBatchWork, "_keep", slow)
    assert await worker(system, "gw_sleeper").one()
    await is_whole(system, key, batch_id, members)


async def test_a_cancelled_batch_tells_all_that_it_did(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key, batch_id, members = await started(system)
    ask, asked = CardBatchWork._ask, 0

    async def cancelling(self: CardBatchWork, *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == CHUNK + 1:
            told = await system.made("POST", f"{PATH}/{batch_id}/cancel", None, key)
            assert (told["state"], told["progress"]["done"]) == ("running", CHUNK)
        return await ask(self, *arguments)

    monkeypatch.setattr(CardBatchWork, "_ask", cancelling)
    assert await worker(system, "gw_one").one()
    told = await system.made("GET", f"{PATH}/{batch_id}", token=key)
    assert (told["state"], counts(told)) == ("cancelled", (ROWS, 2 * CHUNK, 2 * CHUNK, 0))
    assert told["finished_at"] is not None
    assert await system.made("POST", f"{PATH}/{batch_id}/cancel", None, key) == told
    result = await lines(system, key, batch_id, "result")
    assert [line["member_id"] for line in result] == members[: 2 * CHUNK]
    assert len(await cards(system, key)) == 2 * CHUNK


async def test_a_batch_cancelled_after_a_death_finishes_what_was_asked(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, batch_id, _ = await started(system)
    with monkeypatch.context() as patch, suppress(Death):
        dying(patch, store, "keep", 1, is_after=False)
        await worker(system, "gw_one").one()
    told = await system.made("POST", f"{PATH}/{batch_id}/cancel", None, key)
    assert told["state"] == "running", "cards were issued that it does not know of"
    await lease_is_over(system)
    assert await worker(system, "gw_other").one()
    told = await system.made("GET", f"{PATH}/{batch_id}", token=key)
    assert (told["state"], counts(told)) == ("cancelled", (ROWS, CHUNK, CHUNK, 0))
    assert len(await cards(system, key)) == len(await lines(system, key, batch_id, "result")) == CHUNK


async def test_one_that_nobody_has_begun_is_cancelled_at_once(system: System) -> None:
    key, batch_id, _ = await started(system)
    told = await system.made("POST", f"{PATH}/{batch_id}/cancel", None, key)
    assert (told["state"], counts(told)) == ("cancelled", (ROWS, 0, 0, 0))
    assert not await worker(system, "gw_one").one()
    assert await cards(system, key) == []


async def test_without_an_answer_of_the_engine_the_chunk_waits_and_others_go_first(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, batch_id, members = await started(system)
    other_key, other_id, others = await started(system)
    engine = system.parts.engine
    ask = engine.ask

    async def halted(message: Any) -> Any:
        if isinstance(message, IssueCard) and message.member_id == members[CHUNK + 1]:
            return Failed("partition_halted", "", 1_000)
        return await ask(message)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "ask", halted)
        assert await system.app.member_work.card_batches.one()
        told = await system.made("GET", f"{PATH}/{batch_id}", token=key)
        assert (told["state"], counts(told)) == ("running", (ROWS, CHUNK, CHUNK, 0))
        assert await system.app.member_work.card_batches.one()
    await is_whole(system, other_key, other_id, others)
    await lease_is_over(system)
    assert await system.app.member_work.card_batches.one()
    await is_whole(system, key, batch_id, members)


async def test_a_gateway_that_stops_gives_the_lease_back(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key, batch_id, members = await started(system)
    reached = asyncio.Event()

    async def stuck(self: CardBatchWork, *_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(CardBatchWork, "_keep", stuck)
        working = asyncio.create_task(worker(system, "gw_one").one())
        await reached.wait()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
    assert await worker(system, "gw_other").one()
    await is_whole(system, key, batch_id, members)
