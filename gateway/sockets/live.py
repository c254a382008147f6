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
from typing import Any

from actors.refusals import FAILURES_NOT_FOUND
from gateway.http import Receive, Scope, Send
from gateway.identity.callers import Caller
from gateway.ids import IdMaker
from gateway.live_hub import NOWHERE, LiveHub, Published, Subscription
from gateway.sockets import codes, limits
from gateway.sockets.connection import Connection, OpenSockets, accepted, token_of
from gateway.sockets.entrance import FOREIGN_PAGE, Authenticator, caller_of, hello_of
from gateway.sockets.topics import may_subscribe, snapshot_frame, update_frame
from gateway.sockets.wire import BadFrame, Hello, Ping, Subscribe, Unsubscribe

ACTION = "live.open"


class LiveEndpoint:
    """The ASGI application behind `/v1/live`."""

    def __init__(
        self,
        entrance: Authenticator,
        hub: LiveHub,
        sockets: OpenSockets,
        ids: IdMaker,
        clock_ms: Callable[[], int],
    ) -> None:
        self._entrance = entrance
        self._hub = hub
        self._sockets = sockets
        self._ids = ids
        self._clock_ms = clock_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one websocket to its end."""
        connection = await accepted(scope, receive, send, self._clock_ms)
        if not self._entrance.may_open_socket(scope):
            connection.close(codes.FORBIDDEN, FOREIGN_PAGE)
        await self._sockets.serve(connection, lambda: self._talk(connection, scope))

    async def _talk(self, connection: Connection, scope: Scope) -> None:
        token = token_of(scope)
        hello = None
        if token is None:
            hello = await hello_of(connection, connection.wire.live_frame)
            if hello is None:
                return
            token = hello.token
        caller = await caller_of(connection, self._entrance, scope, token, ACTION)
        if caller is None:
            return
        session = LiveSession(connection, self._hub, caller, self._welcome)
        if hello is not None:
            session.welcome()
        try:
            await session.run()
        finally:
            session.close()

    def _welcome(self) -> dict[str, Any]:
        return {
            "t": "welcome",
            "session": self._ids.entity("ses"),
            "now": self._clock_ms(),
            "max_frame_bytes": limits.FRAME_BYTES_MAX,
            "max_subscriptions": limits.SUBSCRIPTIONS_PER_SOCKET_MAX,
        }


class LiveSession:
    """The conversation once the caller is known."""

    def __init__(
        self, connection: Connection, hub: LiveHub, caller: Caller, make_welcome: Callable[[], dict[str, Any]]
    ) -> None:
        self._connection = connection
        self._hub = hub
        self._caller = caller
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
                self._subscribe(frame)
            elif isinstance(frame, Unsubscribe):
                self._unsubscribe(frame.topic)
            elif isinstance(frame, Ping):
                connection.pong(frame.n)
            elif isinstance(frame, Hello):
                self.welcome()

    def close(self) -> None:
        """The socket is over."""
        for feed in self._feeds.values():
            feed.close()
        self._feeds.clear()

    def _subscribe(self, frame: Subscribe) -> None:
        topic = frame.topic
        self._unsubscribe(topic)
        if not may_subscribe(self._caller, topic):
            self._connection.error(codes.TOPIC_UNKNOWN, "There is no such topic.", topic=topic)
            return
        if len(self._feeds) >= limits.SUBSCRIPTIONS_PER_SOCKET_MAX:
            message = f"At most {limits.SUBSCRIPTIONS_PER_SOCKET_MAX} topics per socket."
            self._connection.error(codes.TOO_MANY_SUBSCRIPTIONS, message, topic=topic)
            return
        feed = self._feeds[topic] = Feed(self._connection, self._hub, lambda: self._feeds.pop(topic, None))
        since = (frame.since.epoch, frame.since.offset) if frame.since is not None else NOWHERE
        feed.subscribe(self._caller.tenant_id, topic, since)

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
        if code in FAILURES_NOT_FOUND:
            self._connection.error(codes.TOPIC_UNKNOWN, "There is no such topic.", topic=self._topic)
        elif retry_after_ms:
            self._connection.error(code, detail, topic=self._topic, retry_after_ms=retry_after_ms)
        else:
            self._connection.error(code, detail, topic=self._topic)

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
