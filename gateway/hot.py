"""What the hot paths have in common: how one is answered, and the way from a request to the answer's body.

Rules:
1. Whatever way a request came, its body is handed in by `take`, and one callback gets the answer.
2. A reply that cannot be told is an error of ours, and the client is told that instead of waiting for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from actors.replies import Reply
from gateway.http import RequestHeaders
from gateway.identity.callers import Caller
from gateway.problems import Problem

_Told = TypeVar("_Told")
OnBody = Callable[[bytes | Problem], None]
"""Called once, with the body of the answer or what is wrong."""


class Hot(NamedTuple):
    """What answers one hot path. `name` is for the metrics."""

    name: str
    body_bytes_max: int
    before: Callable[[Caller], None]
    """Raises `Problem` for what is refused before the body is looked at."""
    take: Callable[[Caller, RequestHeaders, bytes, OnBody], None]
    """Hands in what the body asks for. Raises `Problem` as long as nothing has been handed in."""


class Gathered:
    """The replies to a batch, in its order: calls `on_replies` once, when all are there and it is closed."""

    def __init__(self, size: int, on_replies: Callable[[list[Reply | Problem]], None]) -> None:
        self._replies: list[Reply | Problem | None] = [None] * size
        self._open = size + 1
        self._on_replies = on_replies

    def slot(self, index: int) -> Callable[[Reply], None]:
        """The callback for one item."""
        return lambda reply: self.put(index, reply)

    def put(self, index: int, reply: Reply | Problem) -> None:
        """Takes in one reply."""
        self._replies[index] = reply
        self.close()

    def close(self) -> None:
        """One thing less to wait for; the last is that all items have been handed in."""
        self._open -= 1
        if not self._open:
            self._on_replies([reply for reply in self._replies if reply is not None])


def take(hot: Hot, caller: Caller, headers: RequestHeaders, body: bytes, on_body: OnBody) -> None:
    """`hot.take`, with the `Problem` that it raises told to `on_body`."""
    try:
        hot.take(caller, headers, body, on_body)
    except Problem as problem:
        on_body(problem)


def telling(tell: Callable[[_Told], bytes], on_body: OnBody) -> Callable[[_Told], None]:
    """A callback for the engine: `on_body` gets what `tell` makes of the reply, or the `Problem` that it raises."""

    def on_reply(reply: _Told) -> None:
        try:
            told: bytes | Problem = tell(reply)
        except Problem as problem:
            told = problem
        except BaseException:
            on_body(Problem("internal"))
            raise
        on_body(told)

    return on_reply


async def taken(hot: Hot, caller: Caller, headers: RequestHeaders, body: bytes) -> bytes:
    """What the request is answered with. Raises `Problem`."""
    answer: asyncio.Future[bytes | Problem] = asyncio.get_running_loop().create_future()
    # The request may have been cancelled meanwhile.
    take(hot, caller, headers, body, lambda told: None if answer.done() else answer.set_result(told))
    told = await answer
    if isinstance(told, Problem):
        raise told
    return told
