"""The live socket, `/v1/live`: topics as unbroken lines of changes, across any number of connections.

Rules:
1. Per topic a subscriber sees a snapshot, then every update with the next offset, none twice. After a reconnect it
   asks for what came `since`; the first change then says `recovered`: True if the line goes on, False if a new snapshot
   begins another one.
2. A hole in the offsets is never passed on: the topic is asked for anew from where it stands.
3. Changes that nobody takes are kept up to `backlog_max` per topic. Then they are dropped, and whoever comes for
   them gets a new snapshot.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self

from gateway.client.errors import Json, MasterVipError, SocketClosed, TopicError
from gateway.client.http import Credentials, Http
from gateway.client.link import SOCKET_RETRY, Link, Wire
from gateway.client.retry import RetryPolicy

BACKLOG_MAX: Final = 256


@dataclass(frozen=True)
class Position:
    """How far a topic has been seen: offsets grow by one within an epoch."""

    epoch: int
    offset: int


@dataclass(frozen=True)
class Change:
    """A topic's data at a position, from which a later `subscribe` can go on. `recovered` is None except for the first
    change after a break (rule 1)."""

    topic: str
    kind: Literal["snapshot", "update"]
    at: Position
    data: Any
    recovered: bool | None


class Subscription:
    """One topic's changes: iterate over it, and `unsubscribe` (or leave its `async with`) in the end."""

    def __init__(self, socket: LiveSocket, topic: str, since: Position | None, backlog_max: int) -> None:
        self.topic = topic
        self.stands = since  # how far the changes have come, be they taken or not
        self._socket = socket
        self._backlog: deque[Change] = deque()
        self._backlog_max = backlog_max
        self._news = asyncio.Event()
        self._error: MasterVipError | None = None
        self._is_over = False
        self._is_broken = since is not None
        self.has_overflowed = False
        self.fence: int | None = None

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        """The next change. Raises `TopicError`, `SocketRefused`; ends after `unsubscribe`."""
        while not self._backlog:
            if self._is_over:
                if self._error is None or isinstance(self._error, SocketClosed):
                    raise StopAsyncIteration
                raise self._error.with_traceback(None)
            if self.has_overflowed:
                self.has_overflowed = False
                self._socket.ask(self)
            self._news.clear()
            await self._news.wait()
        return self._backlog.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unsubscribe()

    def unsubscribe(self) -> None:
        """Ends it. What has come is still there to be read."""
        self._socket.forget(self)
        self.end(None)

    # --- the socket's side ---

    def end(self, error: MasterVipError | None) -> None:
        """No more changes will come."""
        self._is_over = True
        self._error = self._error or error
        self._news.set()

    def broke(self) -> None:
        """The line that there was, if any, does not simply go on."""
        self._is_broken = self._is_broken or self.stands is not None

    def on_snapshot(self, frame: Json) -> None:
        """A new line begins."""
        self.fence, self.has_overflowed = None, False
        self.broke()
        self._accept("snapshot", Position(frame["epoch"], frame["offset"]), frame["data"], recovered=False)

    def on_update(self, frame: Json) -> bool:
        """The line goes on. False: there is a hole before this one."""
        stands, offset = self.stands, frame["offset"]
        if stands is None or self.has_overflowed or offset <= stands.offset:
            return True  # of a line that has been left, or known already
        if offset != stands.offset + 1:
            return self.fence is not None  # what was under way when it was asked for anew is no new hole
        self._accept("update", Position(stands.epoch, offset), frame["data"], recovered=True)
        return True

    def _accept(self, kind: Literal["snapshot", "update"], at: Position, data: Any, recovered: bool) -> None:
        if len(self._backlog) >= self._backlog_max:
            self._backlog.clear()
            self.stands, self.has_overflowed, self._is_broken = None, True, True
            return
        self._backlog.append(Change(self.topic, kind, at, data, recovered if self._is_broken else None))
        self.stands, self._is_broken = at, False
        self._news.set()


class LiveSocket:
    """`async with vip.live_socket() as live: async for change in live.subscribe("event:evt_1"): …`."""

    def __init__(
        self,
        http: Http,
        credentials: Credentials,
        *,
        backlog_max: int = BACKLOG_MAX,
        wire: Wire = "msgpack",
        retry: RetryPolicy = SOCKET_RETRY,
    ) -> None:
        self.welcome: Json = {}
        self._retry = retry
        self._timing = http.timing
        self._backlog_max = backlog_max
        self._link = Link(http, "/v1/live", self, credentials, wire, retry)
        self._subscriptions: dict[str, Subscription] = {}
        # What is to be said about a topic: the last wish counts. None: unsubscribe.
        self._wishes: dict[str, Subscription | None] = {}
        self._fences: dict[int, Subscription] = {}
        self._fence_due: int | None = None
        self._again_later: dict[str, asyncio.TimerHandle] = {}

    async def __aenter__(self) -> Self:
        """Connects. Raises `SocketRefused`, or `Unavailable` after the policy's deadline."""
        self._link.start()
        try:
            await self._link.opened(self._retry.deadline_s)
        except BaseException:
            await self._link.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the socket and its subscriptions."""
        await self._link.aclose()
        self._cancel_timers()

    async def wait_closed(self) -> None:
        """Waits until the socket is over for good, and raises why: `SocketRefused`, `SignedOut`, `SocketClosed`."""
        await self._link.wait_closed()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._link.is_open

    def subscribe(self, topic: str, since: Position | None = None) -> Subscription:
        """A topic's changes (`event:ID`, `leaderboard:BOARD[:WINDOW]`, `card:ID`), from `since` on where that is still
        to be had. Raises `ValueError` when the topic is subscribed here already."""
        self._link.check()
        if topic in self._subscriptions:
            raise ValueError(f"{topic} is subscribed already")
        subscription = self._subscriptions[topic] = Subscription(self, topic, since, self._backlog_max)
        self.ask(subscription)
        return subscription

    # --- the subscriptions' side ---

    def ask(self, subscription: Subscription) -> None:
        """Subscribes at the server, from where the subscription stands."""
        self._wishes.pop(subscription.topic, None)
        self._wishes[subscription.topic] = subscription
        self._link.wake()

    def forget(self, subscription: Subscription) -> None:
        """Unsubscribes at the server."""
        if self._subscriptions.get(subscription.topic) is not subscription:
            return
        del self._subscriptions[subscription.topic]
        timer = self._again_later.pop(subscription.topic, None)
        if timer is not None:
            timer.cancel()
        self._wishes.pop(subscription.topic, None)
        if self.is_open:
            self._wishes[subscription.topic] = None
            self._link.wake()

    # --- the link's listener ---

    def hello(self) -> Json:
        """See `Listener`."""
        return {}

    def on_open(self, welcome: Json) -> None:
        """See `Listener`: a new connection knows of no topic."""
        self.welcome = welcome
        self._wishes = dict(self._subscriptions)
        self._fences.clear()
        self._fence_due = None
        self._cancel_timers()

    def next_frame(self) -> Json | None:
        """See `Listener`. A ping after each subscribe is its fence: what comes after the pong was sent in the knowledge
        of it."""
        if self._fence_due is not None:
            number, self._fence_due = self._fence_due, None
            return {"t": "ping", "n": number}
        if not self._wishes:
            return None
        topic = next(iter(self._wishes))
        subscription = self._wishes.pop(topic)
        if subscription is None:
            return {"t": "unsubscribe", "topic": topic}
        subscription.fence = self._fence_due = self._link.next_number()
        self._fences[subscription.fence] = subscription
        stands = subscription.stands
        since = {} if stands is None else {"since": {"epoch": stands.epoch, "offset": stands.offset}}
        return {"t": "subscribe", "topic": topic, **since}

    def on_frame(self, frame: Json) -> None:
        """See `Listener`."""
        kind = frame.get("t")
        if kind == "pong":
            fenced = self._fences.pop(frame.get("n", 0), None)
            if fenced is not None and fenced.fence == frame["n"]:
                fenced.fence = None
            return
        subscription = self._subscriptions.get(frame.get("topic", ""))
        if subscription is None:
            return
        if kind == "snapshot":
            subscription.on_snapshot(frame)
        elif kind == "update":
            if not subscription.on_update(frame):
                subscription.broke()
                self.ask(subscription)
        elif kind == "error":
            self._refused(subscription, frame)

    def on_down(self) -> None:
        """See `Listener`."""
        for subscription in self._subscriptions.values():
            subscription.broke()

    def on_end(self, error: MasterVipError) -> None:
        """See `Listener`."""
        for subscription in self._subscriptions.values():
            subscription.end(error)

    def _refused(self, subscription: Subscription, frame: Json) -> None:
        after_ms = frame.get("retry_after_ms")
        if after_ms:
            pause_s = after_ms / 1_000 + self._timing.uniform(0.0, after_ms / 1_000)
            loop = asyncio.get_running_loop()
            self._again_later[subscription.topic] = loop.call_later(pause_s, self._ask_again, subscription)
            return
        del self._subscriptions[subscription.topic]
        subscription.end(TopicError(subscription.topic, frame["code"], frame["message"]))

    def _ask_again(self, subscription: Subscription) -> None:
        self._again_later.pop(subscription.topic, None)
        self.ask(subscription)

    def _cancel_timers(self) -> None:
        for timer in self._again_later.values():
            timer.cancel()
        self._again_later.clear()
