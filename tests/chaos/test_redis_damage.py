"""A damaged journal stops its own partition and says why; the others go on.

Each test damages the journal of one organisation's partition, in ways that Redis itself does not notice: a byte of an
entry is another one (the stream is rewritten so that fence and tail still agree), or the last entries are gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_sync

from actors.ids import partition_of
from gateway.ids import IdMaker
from tests.chaos.http_client import Answer, HttpClient, Lost
from tests.support.running import Running

HALT_TIMEOUT_S = 30.0
TRY_TIMEOUT_S = 7.0
DRAIN_S = 8.0  # enough for the others; the damaged one will not come further, however long one waits
ids = IdMaker(lambda: time.time_ns() // 1_000_000, os.urandom)

Json = dict[str, Any]


class Damaged:
    """A running system with three organisations, each in a partition of its own."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.organisations = running.organisations(3, members=12)
        found = running.connection()
        self.partitions = [partition_of(fixtures["org_id"], found.partitions) for fixtures in self.organisations]
        self.redis = redis_sync.Redis.from_url(found.redis_url)

    def journal(self, number: int) -> str:
        """The stream of an organisation's partition."""
        return f"mv:{{p{self.partitions[number]:02d}}}:journal"

    async def award(self, number: int, card: int = 0) -> Answer | None:
        """A command that changes something; None when no answer came."""
        fixtures = self.organisations[number]
        http = HttpClient("127.0.0.1", self.running.port, fixtures["api_key"], TRY_TIMEOUT_S)
        try:
            path = f"/v1/cards/{fixtures['cards'][card]['id']}/points/award"
            return await http.post(path, ids.request_id(), b'{"amount": 1}')
        except Lost:
            return None
        finally:
            await http.close()

    async def works(self, number: int) -> bool:
        """Whether an organisation is served."""
        answer = await self.award(number)
        return answer is not None and answer.status == 200

    async def halted(self, number: int) -> str:
        """Waits until the status says that an organisation's partition halted, and returns why."""
        deadline_s = time.monotonic() + HALT_TIMEOUT_S
        reason = ""
        while not reason and time.monotonic() < deadline_s:
            await self.award(number)
            status = await asyncio.to_thread(self.running.status)
            reason = next(p["halted"] for p in status["partitions"] if p["partition"] == self.partitions[number])
        return reason


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    with Running(tmp_path_factory.mktemp("damaged") / "data", hosts=2) as running:
        yield Damaged(running)


async def test_an_altered_entry_halts_its_partition_when_it_is_next_opened(damaged: Damaged) -> None:
    running = damaged.running
    (projector,) = running.pids("projector")
    os.kill(projector, signal.SIGSTOP)  # so that the entries are still in the journal alone
    try:
        for card in range(5):
            answer = await damaged.award(0, card)
            assert answer is not None
            assert answer.status == 200
        flip_a_byte(damaged.redis, damaged.journal(0))
        assert await damaged.works(0), "nobody has read it yet"
        _, owner = running.owner(damaged.partitions[0])
        os.kill(owner, signal.SIGKILL)
        assert "altered" in await damaged.halted(0)
    finally:
        os.kill(projector, signal.SIGCONT)
    answer = await damaged.award(0)
    assert answer is not None
    assert (answer.status, json.loads(answer.body)["code"]) == (503, "partition_halted")
    assert [await damaged.works(1), await damaged.works(2)] == [True, True]
    document = await asyncio.to_thread(running.audit, drain_s=DRAIN_S)
    assert not document["ok"]
    assert document["lag_entries"].keys() == {str(damaged.partitions[0])}
    assert {finding["partition"] for finding in document["findings"]} == {damaged.partitions[0]}


async def test_a_cut_tail_halts_its_partition_at_the_next_write(damaged: Damaged) -> None:
    assert await damaged.works(1)
    last = damaged.redis.xrevrange(damaged.journal(1), count=2)
    assert damaged.redis.xdel(damaged.journal(1), *(entry_id for entry_id, _ in last))  # type: ignore[union-attr]
    reason = await damaged.halted(1)
    assert "fence" in reason, reason
    assert await damaged.works(2)
    status = await asyncio.to_thread(damaged.running.status)
    assert not status["ok"]


def flip_a_byte(redis: redis_sync.Redis, journal: str) -> None:
    """Alters an entry that is neither the first (the anchor) nor the last (which the fence describes)."""
    rows: Any = redis.xrange(journal)
    assert len(rows) > 3
    with redis.pipeline(transaction=True) as transaction:
        transaction.delete(journal)
        for number, (entry_id, fields) in enumerate(rows):
            payload = fields[b"f"]
            if number == len(rows) - 2:
                middle = len(payload) // 2
                payload = payload[:middle] + bytes([payload[middle] ^ 1]) + payload[middle + 1 :]
            transaction.xadd(journal, {**fields, b"f": payload}, id=entry_id)
        transaction.execute()
