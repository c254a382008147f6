"""`/v1/scan`: the socket of a scanner. hello, welcome, then scans in and verdicts out.

Rules:
1. A scan is answered when it is durable, whatever the order. A frame that cannot be taken is answered with an error
   that names the field and, where it can be read, the scan's id; the same for one item among the items of `scans`.
2. A `scans` frame is answered with one `verdicts` frame, unless some verdicts take longer than `VERDICTS_HOLD_MS` after
   the first: those follow in another, so that one card that has to be loaded does not hold up the rest.
3. At most `SCANS_IN_FLIGHT_MAX` scans wait for a verdict; more are answered `too_many_in_flight` and had no effect.
4. The event's counts are pushed at most every `ATTENDANCE_INTERVAL_MS`; only the newest counts wait for a slow reader.
5. Nothing between a frame and `Engine.submit`, or between its reply and the outgoing queue, waits or makes a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from actors.facts import ScanJudged
from actors.ids import seq_of
from actors.queries import GetEvent
from actors.refusals import UNAVAILABLE
from actors.replies import Done, EventFeed, EventView, Failed, Reply
from gateway.doorway import Doorway
from gateway.http import Receive, Scope, Send
from gateway.identity.callers import Caller
from gateway.ids import IdMaker
from gateway.live_hub import LiveHub, Published, Subscription
from gateway.ports import Engine
from gateway.render import VerdictFrame, verdict_frame
from gateway.sockets import codes, limits
from gateway.sockets.connection import Connection, OpenSockets, accepted, token_of
from gateway.sockets.entrance import FOREIGN_PAGE, Authenticator, caller_of, hello_of
from gateway.sockets.wire import BadFrame, Items, Ping, Pong, Scan, ScanItem, Scans

ACTION = "checkins.create"
_NO_VERDICT = Failed(UNAVAILABLE, "no verdict came", limits.RETRY_AFTER_MS)

VerdictOrError = VerdictFrame | dict[str, Any]


class ScanEndpoint:
    """The ASGI application behind `/v1/scan`."""

    def __init__(
        self,
        engine: Engine,
        doorway: Doorway,
        entrance: Authenticator,
        hub: LiveHub,
        sockets: OpenSockets,
        ids: IdMaker,
        clock_ms: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._doorway = doorway
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
        hello = await hello_of(connection, connection.wire.scan_frame)
        if hello is None:
            return
        caller = await caller_of(connection, self._entrance, scope, token or hello.token, ACTION)
        if caller is None:
            return
        event_id = hello.event_id or caller.event_id
        if not event_id:
            connection.close(codes.PROTOCOL_ERROR, "event_id: missing")
            return
        if caller.event_id and caller.event_id != event_id:
            connection.close(codes.FORBIDDEN, "The device is bound to another event.")
            return
        event = await self._engine.ask(GetEvent(caller.tenant_id, event_id))
        if not isinstance(event, EventView):
            is_absent = isinstance(event, Failed) and not event.retry_after_ms
            connection.close(codes.EVENT_UNKNOWN if is_absent else codes.UNAVAILABLE)
            return
        connection.send_map(self._welcome(event))
        feed = AttendanceFeed(connection, self._hub, caller.tenant_id, event_id)
        try:
            await ScanSession(connection, self._doorway, caller, event_id, hello.gate_id or "").run()
        finally:
            feed.close()

    def _welcome(self, event: EventView) -> dict[str, Any]:
        """`cursor` is where a later release will resume the list of revoked cards from."""
        return {
            "t": "welcome",
            "session": self._ids.entity("ses"),
            "now": self._clock_ms(),
            "event": _event_map(event),
            "max_in_flight": limits.SCANS_IN_FLIGHT_MAX,
            "max_frame_bytes": limits.FRAME_BYTES_MAX,
            "cursor": str(event.position),
        }


class ScanSession:
    """The conversation after the welcome."""

    def __init__(self, connection: Connection, doorway: Doorway, caller: Caller, event_id: str, gate_id: str) -> None:
        self._connection = connection
        self._encode = connection.wire.encode
        self._check_in = doorway.check_in
        self._caller = caller
        self._event_id = event_id
        self._gate_id = gate_id
        self._in_flight = 0

    async def run(self) -> None:
        """Takes frames in until the socket is over."""
        connection, decode = self._connection, self._connection.wire.scan_frame
        while (data := await connection.frame()) is not None:
            try:
                frame = decode(data)
            except BadFrame as bad:
                connection.bad_frame(bad.message, bad.item_id)
                continue
            if isinstance(frame, Scan):
                self._scan(frame)
            elif isinstance(frame, Scans):
                self._scans(frame.items)
            elif isinstance(frame, list):
                self._scans(frame)
            elif isinstance(frame, Ping):
                connection.pong(frame.n)
            elif not isinstance(frame, Pong):
                connection.bad_frame("There was a hello already.")

    def _scan(self, item: ScanItem) -> None:
        if self._in_flight >= limits.SCANS_IN_FLIGHT_MAX:
            self._connection.push(self._encode(_too_many(item.id)))
            return
        self._submit(item, self._answer)

    def _answer(self, item_id: str, reply: Reply) -> None:
        self._in_flight -= 1
        self._connection.push(self._encode(_verdict_or_error(item_id, reply)))

    def _scans(self, items: list[ScanItem] | Items) -> None:
        batch = Batch(self._connection, len(items))
        for item in items:
            if isinstance(item, BadFrame):
                batch.add(_error(codes.FRAME_INVALID, item.message, item.item_id))
            elif self._in_flight >= limits.SCANS_IN_FLIGHT_MAX:
                batch.add(_too_many(item.id))
            else:
                self._submit(item, partial(self._answer_in, batch))

    def _answer_in(self, batch: Batch, item_id: str, reply: Reply) -> None:
        self._in_flight -= 1
        batch.add(_verdict_or_error(item_id, reply))

    def _submit(self, item: ScanItem, answer: Callable[[str, Reply], None]) -> None:
        self._in_flight += 1
        self._check_in(
            self._caller,
            item.id,
            self._event_id,
            item.credential,
            item.gate_id or self._gate_id,
            item.direction or "entry",
            item.scanned_at or 0,
            partial(answer, item.id),
        )


class Batch:
    """The answers to one `scans` frame on their way out (rule 2)."""

    __slots__ = ("_answers", "_connection", "_timer", "_waiting")

    def __init__(self, connection: Connection, size: int) -> None:
        self._connection = connection
        self._waiting = size
        self._answers: list[VerdictOrError] = []
        self._timer: asyncio.TimerHandle | None = None
        if not size:
            self._flush()

    def add(self, answer: VerdictOrError) -> None:
        """One more answer."""
        self._answers.append(answer)
        self._waiting -= 1
        if not self._waiting:
            self._flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(limits.VERDICTS_HOLD_MS / 1_000, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._connection.send_map({"t": "verdicts", "items": self._answers})
        self._answers = []


class AttendanceFeed:
    """An event's counts on their way to one scanner: the newest only, and not too often (rule 4)."""

    def __init__(self, connection: Connection, hub: LiveHub, tenant_id: str, event_id: str) -> None:
        self._connection = connection
        self._hub = hub
        self._topic = (tenant_id, f"event:{event_id}")
        self._loop = asyncio.get_running_loop()
        self._newest: Published | None = None
        self._sent_at = -1.0
        self._timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._is_due = False
        self._subscription: Subscription = hub.subscribe(*self._topic, self)

    def on_snapshot(self, snapshot: Published, recovered: bool | None) -> None:
        """See `Subscriber`."""
        self.on_update(snapshot)

    def on_update(self, update: Published) -> None:
        """See `Subscriber`."""
        self._newest = update
        if self._is_due or self._timer is not None:
            return
        wait = self._sent_at + limits.ATTENDANCE_INTERVAL_MS / 1_000 - self._loop.time()
        if wait > 0:
            self._timer = self._loop.call_later(wait, self._due)
        else:
            self._due()

    def on_refused(self, code: str, detail: str, retry_after_ms: int) -> None:
        """See `Subscriber`. A scanner lives for hours: it asks again."""
        if retry_after_ms:
            self._retry = self._loop.call_later(retry_after_ms / 1_000, self._again)

    def take(self) -> tuple[bytes | None, bool]:
        """See `FrameSource`."""
        self._is_due = False
        newest = self._newest
        if newest is None:
            return None, False
        self._newest = None
        self._sent_at = self._loop.time()
        wire = self._connection.wire
        return newest.frame(("attendance", wire.name), lambda update: wire.encode(_attendance_map(update))), False

    def close(self) -> None:
        """The socket is over."""
        for timer in (self._timer, self._retry):
            if timer is not None:
                timer.cancel()
        self._hub.unsubscribe(self._subscription)

    def _due(self) -> None:
        self._timer = None
        self._is_due = True
        self._connection.ready(self)

    def _again(self) -> None:
        self._subscription = self._hub.subscribe(*self._topic, self)


def _verdict_or_error(item_id: str, reply: Reply) -> VerdictOrError:
    if isinstance(reply, Done) and isinstance(reply.fact, ScanJudged):
        return verdict_frame(reply.fact, reply.replayed, item_id)
    failed = reply if isinstance(reply, Failed) else _NO_VERDICT
    return _error(failed.code, failed.detail, item_id, failed.retry_after_ms)


def _error(code: str, message: str, item_id: str | None, retry_after_ms: int = 0) -> dict[str, Any]:
    fields: dict[str, Any] = {"t": "error", "code": code, "message": message}
    if item_id is not None:
        fields["id"] = item_id
    if retry_after_ms:
        fields["retry_after_ms"] = retry_after_ms
    return fields


def _too_many(item_id: str) -> dict[str, Any]:
    message = f"At most {limits.SCANS_IN_FLIGHT_MAX} scans may wait for their verdicts."
    return _error(codes.TOO_MANY_IN_FLIGHT, message, item_id, limits.RETRY_AFTER_MS)


def _attendance_map(update: Published) -> dict[str, Any]:
    feed = update.data
    assert isinstance(feed, EventFeed), "the topic event:ID has event feeds"
    return {
        "t": "attendance",
        "event_id": feed.event_id,
        "inside": feed.inside,
        "admitted": feed.admitted,
        "capacity": feed.capacity,
        "seq": seq_of(feed.position),
    }


def _event_map(event: EventView) -> dict[str, Any]:
    terms = event.terms
    return {
        "id": event.event_id,
        "name": terms.name,
        "state": terms.state,
        "time_zone": terms.time_zone,
        "doors_open": terms.doors_open_ms or None,
        "doors_close": terms.doors_close_ms or None,
        "reentry": terms.reentry,
        "capacity": terms.capacity,
        "inside": event.inside,
        "admitted": event.admitted,
        "refused": event.refused,
        "gates": [{"id": gate.gate_id, "name": gate.name, "is_open": gate.is_open} for gate in terms.gates],
    }
