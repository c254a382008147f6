"""FastAPI with everything in Redis: one script per check-in, fsynced before its answer (`appendfsync always`).

Written with care: what comes in while Redis is at work leaves together as one pipeline, so that one fsync serves many
and redis-py's work per command is as small as it gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import islice
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.problems import Problem
from loadtest.baselines.contract import POINTS_PER_FIRST_ENTRY, Outcome, Question

SCRIPT = (files("loadtest.baselines") / "check_in.lua").read_text()
CARDS_PER_PIPELINE = 5_000
_decode = msgspec.msgpack.Decoder(Outcome).decode
_NEW, _REPLAYED, _REUSED, _NO_EVENT = range(4)


class RedisDesk:
    """The design."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._digest = ""
        self._waiting: list[tuple[Question, asyncio.Future[list[object]]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def judge(self, question: Question) -> tuple[Outcome, bool]:
        """See `Desk`."""
        reply: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, reply))
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send())
        status, *packed = await reply
        if status == _REUSED:
            raise Problem("id_reused")
        if status == _NO_EVENT:
            raise Problem("event_unknown")
        assert isinstance(packed[0], bytes)
        return _decode(packed[0]), status == _REPLAYED

    async def _send(self) -> None:
        """Until nothing waits."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    replies = await self._ask([question for question, _ in batch])
                except RedisError as error:
                    replies = [error] * len(batch)
                for (_, future), reply in zip(batch, replies, strict=True):
                    if future.done():
                        continue
                    if isinstance(reply, RedisError):
                        future.set_exception(reply)
                    else:
                        future.set_result(reply)
        finally:
            self._sending = None

    async def _ask(self, questions: Sequence[Question]) -> list[Any]:
        """The replies, or errors, in order."""
        if not self._digest:
            self._digest = await self._redis.script_load(SCRIPT)
        pipeline = self._redis.pipeline(transaction=False)
        for question in questions:
            pipeline.evalsha(self._digest, 5, *_words(question))
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


def _words(question: Question) -> tuple[str | int, ...]:
    """Keys and arguments of the script."""
    return (
        f"scan:{question.scan_id}",
        f"card:{question.card_id}",
        f"event:{question.event_id}",
        f"attendance:{question.event_id}:{question.card_id}",
        f"ledger:{question.card_id}",
        question.fingerprint,
        question.card_id,
        question.at_ms,
        question.direction,
        question.gate_id,
        question.device_id,
        POINTS_PER_FIRST_ENTRY,
        question.scan_id,
    )


async def prepare(url: str, cards: Sequence[tuple[str, str, str, str]], events: Sequence[tuple[str, int]]) -> None:
    """Fills an empty server: cards by id, member's id, name and tier; events by id and capacity."""
    redis: Redis = Redis.from_url(url)
    try:
        for some in _portions(cards):
            pipeline = redis.pipeline(transaction=False)
            for card_id, member_id, name, tier in some:
                card = {"member_id": member_id, "member_name": name, "tier": tier, "state": "active", "balance": 0}
                pipeline.hset(f"card:{card_id}", mapping=_fields(card))
            await pipeline.execute()
        for event_id, capacity in events:
            event = {"inside": 0, "admitted": 0, "capacity": capacity}
            await redis.hset(f"event:{event_id}", mapping=_fields(event))
    finally:
        await redis.aclose()


def _fields(values: Mapping[str, object]) -> dict[Any, Any]:
    """As redis-py's types have it."""
    return dict(values)


def _portions(cards: Sequence[tuple[str, str, str, str]]) -> Iterator[list[tuple[str, str, str, str]]]:
    left = iter(cards)
    while portion := list(islice(left, CARDS_PER_PIPELINE)):
        yield portion
