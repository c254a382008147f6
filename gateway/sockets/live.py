"""`/v1/live`: the socket of boards, phones and organisers. subscribe in, snapshots and updates out.

Rules:
1. Per topic a subscriber sees what `gateway.live_hub` promises: one unbroken line, or a new snapshot.
2. Updates wait in one short backlog per subscription. When it is full it is thrown away, and as soon as the socket has
   room again the subscription begins anew with a snapshot. A socket that has no room for `WRITE_STALL_MS` is closed.
3. A topic is always the caller's tenant's. One that is not there and one of somebody else get the same answer.
4. A hello is needed only where the token is not in a header (browsers cannot set any); it is answered with a welcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from actors.queries import CARD_TOPIC, GetCard
from actors.refusals import CARD_UNKNOWN, FAILURES_NOT_FOUND
from actors.replies import CardView, Failed
from gateway.identity.callers import Caller
from gateway.live_hub import NOWHERE, LiveHub, Published, Subscription
from gateway.ports import Engine
from gateway.sockets import codes, limits
from gateway.sockets.connection import Connection
from gateway.sockets.entrance import Endpoint
from gateway.sockets.topics import may_subscribe, snapshot_frame, update_frame
from gateway.sockets.wire import BadFrame, Hello, Ping, Pong, Subscribe, Unsubscribe, Wire

ACTION = "live.open"
_UNKNOWN = Failed(CARD_UNKNOWN, "")


class LiveEndpoint(Endpoint):
    """The ASGI application behind `/v1/live`."""

    action = ACTION
    needs_hello = False

    def decoder(self, wire: Wire) -> Callable[[bytes], object]:
        """See `Endpoint`."""
        return wire.live_frame

    async def talk(self, connection: Connection, caller: Caller, hello: Hello | None) -> None:
        """See `Endpoint`."""
        session = LiveSession(connection, self.parts.hub, self.parts.engine, partial(self._welcome, connection))
        if hello is not None:
            session.welcome()
        try:
            await session.run()
        finally:
            session.close()

    def _welcome(self, connection: Connection) -> dict[str, Any]:
        return self.welcome(connection, max_subscriptions=limits.SUBSCRIPTIONS_PER_SOCKET_MAX)


class LiveSession:
    """The conversation once the caller is known."""

    def __init__(
        self, connection: Connection, hub: LiveHub, engine: Engine, make_welcome: Callable[[], dict[str, Any]]
    ) -> None:
        self._connection = connection
        self._hub = hub
        self._engine = engine
        self._make_welcome = make_welcome
        self._feeds: dict[str, Feed] = {}

    def welcome(self) -> None:
        """Answers a hello."""
        self._connection.send_map(self._make_welcome())

    async def run(self) -> None:
        """Takes frames in until the socket is over."""
        connection, decode = self._connection, self._connection.wire.live_frame
        while (data := await connection.frame()) is not None:
            try:
                frame = decode(data)
            except BadFrame as bad:
                connection.bad_frame(bad.message)
                continue
            if isinstance(frame, Subscribe):
                await self._subscribe(frame)
            elif isinstance(frame, Unsubscribe):
                self._unsubscribe(frame.topic)
            elif isinstance(frame, Ping):
                connection.pong(frame.n)
            elif isinstance(frame, Pong):
                connection.take_pong(frame.n, frame.now)
            elif isinstance(frame, Hello):
                self.welcome()

    def close(self) -> None:
        """The socket is over."""
        for feed in self._feeds.values():
            feed.close()
        self._feeds.clear()

    async def _subscribe(self, frame: Subscribe) -> None:
        topic, caller = frame.topic, self._connection.caller
        assert caller is not None, "a session has a caller"
        self._unsubscribe(topic)
        refusal = await self._refusal(caller, topic) if may_subscribe(caller, topic) else _UNKNOWN
        if refusal is not None:
            _refuse(self._connection, topic, refusal)
            return
        if len(self._feeds) >= limits.SUBSCRIPTIONS_PER_SOCKET_MAX:
            message = f"At most {limits.SUBSCRIPTIONS_PER_SOCKET_MAX} topics per socket."
            self._connection.error(codes.TOO_MANY_SUBSCRIPTIONS, message, topic=topic)
            return
        feed = self._feeds[topic] = Feed(self._connection, self._hub, lambda: self._feeds.pop(topic, None))
        since = (frame.since.epoch, frame.since.offset) if frame.since is not None else NOWHERE
        feed.subscribe(caller.tenant_id, topic, since)

    async def _refusal(self, caller: Caller, topic: str) -> Failed | None:
        """Rule 3, for whoever sees only what is their own: whose card it is only the engine knows."""
        if not topic.startswith(CARD_TOPIC) or caller.reach("cards.read") != "own":
            return None
        card = await self._engine.ask(GetCard(caller.tenant_id, topic.removeprefix(CARD_TOPIC)))
        if isinstance(card, CardView):
            return None if caller.member_id and card.member_id == caller.member_id else _UNKNOWN
        return card if isinstance(card, Failed) else _UNKNOWN

    def _unsubscribe(self, topic: str) -> None:
        feed = self._feeds.pop(topic, None)
        if feed is not None:
            feed.close()


class Feed:
    """One topic on its way to one socket (rule 2)."""

    def __init__(self, connection: Connection, hub: LiveHub, on_over: Callable[[], object]) -> None:
        self._connection = connection
        self._hub = hub
        self._on_over = on_over
        self._topic = ""
        self._backlog: deque[bytes] = deque()
        self._is_listed = False
        self._has_overflowed = False
        self._is_over = False
        self._subscription: Subscription | None = None

    def subscribe(self, tenant_id: str, topic: str, since: tuple[int, int]) -> None:
        """Begins."""
        self._topic = topic
        self._subscription = self._hub.subscribe(tenant_id, topic, self, since)

    def on_snapshot(self, snapshot: Published, recovered: bool | None) -> None:
        """See `Subscriber`. Whatever waits is older than the snapshot."""
        self._backlog.clear()
        self._has_overflowed = False
        self._append(snapshot_frame(snapshot, self._connection.wire, recovered))

    def on_update(self, update: Published) -> None:
        """See `Subscriber`."""
        if self._has_overflowed:
            return
        if len(self._backlog) >= limits.SUBSCRIBER_BACKLOG_MAX:
            self._backlog.clear()
            self._has_overflowed = True
            return
        self._append(update_frame(update, self._connection.wire))

    def on_refused(self, code: str, detail: str, retry_after_ms: int) -> None:
        """See `Subscriber`."""
        self._is_over = True
        self._on_over()
        _refuse(self._connection, self._topic, Failed(code, detail, retry_after_ms))

    def take(self) -> tuple[bytes | None, bool]:
        """See `FrameSource`: the writer has room."""
        if self._has_overflowed and self._subscription is not None and not self._is_over:
            self._is_listed = self._has_overflowed = False
            self._hub.restart(self._subscription)
            return None, False
        frame = self._backlog.popleft() if self._backlog else None
        self._is_listed = bool(self._backlog)
        return frame, self._is_listed

    def close(self) -> None:
        """The subscription is over; what waits is not sent any more."""
        self._is_over = True
        self._backlog.clear()
        if self._subscription is not None:
            self._hub.unsubscribe(self._subscription)

    def _append(self, frame: bytes) -> None:
        self._backlog.append(frame)
        if not self._is_listed:
            self._is_listed = True
            self._connection.ready(self)


def _refuse(connection: Connection, topic: str, failed: Failed) -> None:
    """There will be nothing of this topic. Whatever is not there looks the same."""
    if failed.code in FAILURES_NOT_FOUND:
        connection.error(codes.TOPIC_UNKNOWN, "There is no such topic.", topic=topic)
    elif failed.retry_after_ms:
        connection.error(failed.code, failed.detail, topic=topic, retry_after_ms=failed.retry_after_ms)
    else:
        connection.error(failed.code, failed.detail, topic=topic)
