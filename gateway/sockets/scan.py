"""`/v1/scan`: the socket of a scanner. hello, welcome, then scans in and verdicts out.

Rules:
1. A scan is answered when it is durable, whatever the order. A frame that cannot be taken is answered with an error
   that names the field and, where it can be read, the scan's id; the same for one item among the items of `scans`.
2. A `scans` frame is answered with one `verdicts` frame, unless some verdicts take longer than `VERDICTS_HOLD_MS` after
   the first: those follow in another, so that one card that has to be loaded does not hold up the rest.
3. At most `SCANS_IN_FLIGHT_MAX` scans wait for a verdict; more are answered `too_many_in_flight` and had no effect.
4. Counts and revoked cards are pushed by `gateway.sockets.feeds`.
5. An admission is annulled by the same rules as over REST, under the frame's own id; it counts as a scan in flight.
6. Nothing between a frame and `Engine.submit`, or between its reply and the outgoing queue, waits or makes a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from actors.door_facts import ScanAnnulled
from actors.facts import CommandRefused, ScanJudged
from actors.queries import GetEvent
from actors.refusals import UNAVAILABLE
from actors.replies import Done, EventView, Failed, Reply
from gateway.doorway import ORDINARY, Doorway, Manner
from gateway.identity.callers import Caller
from gateway.render import VerdictFrame, verdict_frame
from gateway.revocations import cursor_of, position_of_cursor
from gateway.sockets import codes, limits
from gateway.sockets.connection import Connection
from gateway.sockets.entrance import Endpoint, SocketParts
from gateway.sockets.feeds import AttendanceFeed, CardLists, RevocationFeed, ScannerFeed
from gateway.sockets.wire import Annul, BadFrame, Hello, Items, Ping, Pong, Scan, ScanItem, Scans, Wire

ACTION = "checkins.create"
_NO_VERDICT = Failed(UNAVAILABLE, "no verdict came", limits.RETRY_AFTER_MS)

VerdictOrError = VerdictFrame | dict[str, Any]


class ScanEndpoint(Endpoint):
    """The ASGI application behind `/v1/scan`."""

    action = ACTION
    needs_hello = True

    def __init__(self, parts: SocketParts, doorway: Doorway, lists: CardLists) -> None:
        super().__init__(parts)
        self._doorway = doorway
        self._lists = lists

    def decoder(self, wire: Wire) -> Callable[[bytes], object]:
        """See `Endpoint`."""
        return wire.scan_frame

    async def talk(self, connection: Connection, caller: Caller, hello: Hello | None) -> None:
        """See `Endpoint`."""
        assert hello is not None, "needs_hello"
        event_id = hello.event_id or caller.event_id
        if not event_id:
            connection.close(codes.PROTOCOL_ERROR, "event_id: missing")
            return
        if caller.event_id and caller.event_id != event_id:
            connection.close(codes.FORBIDDEN, "The device is bound to another event.")
            return
        event = await self.parts.engine.ask(GetEvent(caller.tenant_id, event_id))
        if not isinstance(event, EventView):
            is_absent = isinstance(event, Failed) and not event.retry_after_ms
            connection.close(codes.EVENT_UNKNOWN if is_absent else codes.UNAVAILABLE)
            return
        since = position_of_cursor(hello.resume)
        connection.send_map(self._welcome(connection, event, since))
        connection.ping()
        hub = self.parts.hub
        feeds: list[ScannerFeed] = [AttendanceFeed(connection, hub, caller.tenant_id, event_id)]
        if caller.reach("cards.revocations") is not None:
            feeds.append(RevocationFeed(connection, hub, self._lists, caller.tenant_id, since))
        for feed in feeds:
            feed.start()
        try:
            await ScanSession(connection, self._doorway, event_id, hello.gate_id or "").run()
        finally:
            for feed in feeds:
                feed.close()

    def _welcome(self, connection: Connection, event: EventView, since: int) -> dict[str, Any]:
        """`cursor` is where the list of revoked cards goes on from, "" where it begins anew."""
        return self.welcome(
            connection,
            event=_event_map(event),
            max_in_flight=limits.SCANS_IN_FLIGHT_MAX,
            cursor=cursor_of(since) if since else "",
        )


class ScanSession:
    """The conversation after the welcome."""

    __slots__ = ("_check_in", "_connection", "_doorway", "_encode", "_event_id", "_gate_id", "_in_flight")

    def __init__(self, connection: Connection, doorway: Doorway, event_id: str, gate_id: str) -> None:
        self._connection = connection
        self._encode = connection.wire.encode
        self._doorway = doorway
        self._check_in = doorway.check_in
        self._event_id = event_id
        self._gate_id = gate_id
        self._in_flight = 0

    async def run(self) -> None:
        """Takes frames in until the socket is over."""
        connection = self._connection
        while (data := await connection.frame()) is not None:
            self._take(data)
            for more in connection.frames_here():
                self._take(more)

    def _take(self, data: bytes) -> None:
        connection = self._connection
        try:
            frame = connection.wire.scan_frame(data)
        except BadFrame as bad:
            connection.bad_frame(bad.message, bad.item_id)
            return
        if isinstance(frame, Scan):
            self._scan(frame)
        elif isinstance(frame, Scans):
            self._scans(frame.items)
        elif isinstance(frame, list):
            self._scans(frame)
        elif isinstance(frame, Annul):
            self._annul(frame)
        elif isinstance(frame, Ping):
            connection.pong(frame.n)
        elif isinstance(frame, Pong):
            connection.take_pong(frame.n, frame.now)
        else:
            connection.bad_frame("There was a hello already.")

    def _scan(self, item: ScanItem) -> None:
        if self._in_flight >= limits.SCANS_IN_FLIGHT_MAX:
            self._connection.push(self._encode(_too_many(item.id)))
            return
        self._submit(item, self._answer)

    def _answer(self, item_id: str, reply: Reply) -> None:
        self._in_flight -= 1
        self._connection.push(self._encode(_verdict_or_error(item_id, reply)))

    def _annul(self, annul: Annul) -> None:
        if self._in_flight >= limits.SCANS_IN_FLIGHT_MAX:
            self._connection.push(self._encode(_too_many(annul.id)))
            return
        self._in_flight += 1
        caller = self._connection.caller
        assert caller is not None, "a session has a caller"
        answer = partial(self._answer_annul, annul.id)
        self._doorway.annul(caller, annul.id, self._event_id, annul.scan_id, answer)

    def _answer_annul(self, item_id: str, reply: Reply) -> None:
        self._in_flight -= 1
        self._connection.push(self._encode(_annulled_or_error(item_id, reply)))

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
        caller = self._connection.caller
        assert caller is not None, "a session has a caller"
        manner = ORDINARY
        if item.offline:
            ahead_ms = self._connection.clock.offset_ms or 0
            manner = Manner(is_offline=True, offline_reason=item.refused or "", clock_ahead_ms=ahead_ms)
        self._check_in(
            caller,
            item.id,
            self._event_id,
            item.credential,
            item.gate_id or self._gate_id,
            item.direction or "entry",
            item.scanned_at or 0,
            partial(answer, item.id),
            manner,
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


def _verdict_or_error(item_id: str, reply: Reply) -> VerdictOrError:
    if isinstance(reply, Done) and isinstance(reply.fact, ScanJudged):
        return verdict_frame(reply.fact, reply.replayed, item_id)
    failed = reply if isinstance(reply, Failed) else _NO_VERDICT
    return _error(failed.code, failed.detail, item_id, failed.retry_after_ms)


def _annulled_or_error(item_id: str, reply: Reply) -> dict[str, Any]:
    if isinstance(reply, Done) and isinstance(reply.fact, ScanAnnulled):
        fact = reply.fact
        return {
            "t": "annulled",
            "id": item_id,
            "scan_id": fact.scan_id,
            "card_id": fact.card_id,
            "at": fact.at_ms,
            "inside": fact.inside,
            "admitted": fact.admitted,
            "replayed": reply.replayed,
        }
    if isinstance(reply, Done) and isinstance(reply.fact, CommandRefused):
        return _error(reply.fact.reason, reply.fact.detail, item_id)
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
        "gates": [
            {"id": gate.gate_id, "name": gate.name, "is_open": gate.is_open, "zone_id": gate.zone_id or None}
            for gate in terms.gates
        ],
        "zones": [
            {
                "id": zone.zone_id,
                "name": zone.name,
                "capacity": zone.capacity or None,
                "inside": event.zones.get(zone.zone_id, 0),
            }
            for zone in terms.zones
        ],
        "sessions": [
            {"id": one.session_id, "name": one.name, "doors_open": one.doors_open_ms, "doors_close": one.doors_close_ms}
            for one in terms.sessions
        ],
        "admission": {
            "tiers": list(terms.admission.tiers),
            "list_only": terms.admission.list_only,
            "condition": terms.admission.condition or None,
        },
        "questions": [
            {"id": one.question_id, "text": one.text, "choices": list(one.choices), "required": one.is_required}
            for one in terms.questions
        ],
    }
