"""What is pushed to a scanner besides verdicts: its event's counts, and which cards are revoked.

Rules:
1. Of the counts only the newest matter: nothing else waits for a slow reader, and they go out at most every
   `ATTENDANCE_INTERVAL_MS`.
2. Of the revocations none may be missed. A frame's cursor says up to where its reader has all of them; a scanner that
   comes back with one gets what came after it. What changes while the reader has all before it is pushed as it comes.
   Whenever there is something before it, or the last frame has not left yet, the cards are read from Postgres again
   (`gateway.revocations`), one frame at a time: so what waits for a scanner is one frame, however many cards there are.
3. While Postgres or the engine is away the cursor stays where it is, and both are asked again.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Protocol

from actors.ids import seq_of
from actors.ports import StoreUnavailable
from actors.queries import EVENT_TOPIC, REVOCATIONS_TOPIC
from actors.replies import CardChanges, EventFeed
from gateway.live_hub import LiveHub, Published, Subscription
from gateway.revocations import CardList, cursor_of
from gateway.sockets import limits
from gateway.sockets.connection import Connection


class CardLists(Protocol):
    """What the feed needs of `gateway.revocations.Revocations`."""

    async def since(self, tenant_id: str, since: int, until: int, cards_max: int) -> CardList:
        """See there. Raises `StoreUnavailable`."""


class ScannerFeed:
    """A topic on its way to one scanner. A scanner lives for hours: what is refused for now is asked for again."""

    __slots__ = ("_connection", "_hub", "_retry", "_subscription", "_topic")

    def __init__(self, connection: Connection, hub: LiveHub, tenant_id: str, topic: str) -> None:
        self._connection = connection
        self._hub = hub
        self._topic = (tenant_id, topic)
        self._retry: asyncio.TimerHandle | None = None
        self._subscription: Subscription | None = None

    def start(self) -> None:
        """Begins."""
        self._retry = None
        self._subscription = self._hub.subscribe(*self._topic, self)

    def on_snapshot(self, snapshot: Published, recovered: bool | None) -> None:
        """See `Subscriber`."""
        self.on_update(snapshot)

    def on_update(self, update: Published) -> None:
        """See `Subscriber`."""
        raise NotImplementedError

    def on_refused(self, code: str, detail: str, retry_after_ms: int) -> None:
        """See `Subscriber`."""
        if retry_after_ms:
            self._retry = asyncio.get_running_loop().call_later(retry_after_ms / 1_000, self.start)

    def close(self) -> None:
        """The socket is over."""
        if self._retry is not None:
            self._retry.cancel()
        if self._subscription is not None:
            self._hub.unsubscribe(self._subscription)


class AttendanceFeed(ScannerFeed):
    """An event's counts (rule 1)."""

    __slots__ = ("_event_id", "_is_due", "_loop", "_newest", "_sent_at", "_timer")

    def __init__(self, connection: Connection, hub: LiveHub, tenant_id: str, event_id: str) -> None:
        super().__init__(connection, hub, tenant_id, EVENT_TOPIC + event_id)
        self._loop = asyncio.get_running_loop()
        self._newest: Published | None = None
        self._sent_at = -1.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False

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

    def take(self) -> tuple[bytes | None, bool]:
        """See `FrameSource`."""
        self._is_due = False
        newest, self._newest = self._newest, None
        if newest is None:
            return None, False
        self._sent_at = self._loop.time()
        wire = self._connection.wire
        return newest.frame(("attendance", wire.name), lambda update: wire.encode(_attendance_map(update))), False

    def close(self) -> None:
        """See `ScannerFeed`."""
        if self._timer is not None:
            self._timer.cancel()
        super().close()

    def _due(self) -> None:
        self._timer = None
        self._is_due = True
        self._connection.ready(self)


class RevocationFeed(ScannerFeed):
    """Which cards are suspended or revoked (rule 2). `cursor` is the position up to which the scanner says that it has
    them all, 0 where it has none."""

    __slots__ = ("_cursor", "_frame", "_is_current", "_lists", "_must_reset", "_room", "_target", "_task")

    def __init__(self, connection: Connection, hub: LiveHub, lists: CardLists, tenant_id: str, cursor: int) -> None:
        super().__init__(connection, hub, tenant_id, REVOCATIONS_TOPIC)
        self._lists = lists
        self._cursor = cursor
        self._must_reset = not cursor
        # Whether a frame has told that there is nothing before the cursor any more.
        self._is_current = False
        self._target = -1
        self._frame: bytes | None = None
        self._room: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def on_update(self, update: Published) -> None:
        """See `Subscriber`."""
        changes = update.data
        assert isinstance(changes, CardChanges), "the topic of revocations has changes of cards"
        if self._target < 0 and self._cursor > changes.position:
            # Nothing has come to be there yet: the cursor is none that was ever given out for these cards.
            self._cursor, self._must_reset = 0, True
        if self._frame is not None or not self._is_current or self._cursor < changes.since:
            self._target = max(self._target, changes.position)
            if self._task is None:
                self._task = asyncio.create_task(self._catch_up())
        elif changes.position > self._cursor:
            self._cursor = changes.position
            if changes.changes:
                wire = self._connection.wire
                self._send(update.frame(("revoked", wire.name), lambda _: wire.encode(_changes_map(changes))))

    def take(self) -> tuple[bytes | None, bool]:
        """See `FrameSource`."""
        frame, self._frame = self._frame, None
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return frame, False

    def close(self) -> None:
        """See `ScannerFeed`."""
        if self._task is not None:
            self._task.cancel()
        super().close()

    def _send(self, frame: bytes) -> None:
        self._frame = frame
        self._connection.ready(self)

    async def _catch_up(self) -> None:
        """Brings the scanner up to `_target`, which may move meanwhile."""
        pause_ms = limits.ASK_RETRY_MS_MIN
        try:
            while self._cursor < self._target or not self._is_current:
                await self._wait_room()
                tenant_id, most = self._topic[0], limits.CARDS_PER_FRAME_MAX
                try:
                    found = await self._lists.since(tenant_id, self._cursor, self._target, most)
                except StoreUnavailable:
                    await asyncio.sleep(random.uniform(0.5, 1.0) * pause_ms / 1_000)
                    pause_ms = min(2 * pause_ms, limits.ASK_RETRY_MS_MAX)
                    continue
                self._cursor = found.position
                if found.revoked or found.restored or not self._is_current:
                    self._send(self._connection.wire.encode(_list_map(found, self._must_reset)))
                self._must_reset, self._is_current = False, not found.has_more
        finally:
            self._task = None

    async def _wait_room(self) -> None:
        if self._frame is not None:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
            self._room = None


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


def _changes_map(changes: CardChanges) -> dict[str, Any]:
    fields = {
        "t": "revoked",
        "cards": [mark.card_id for mark in changes.changes if mark.state != "active"],
        "restored": [mark.card_id for mark in changes.changes if mark.state == "active"],
        "cursor": cursor_of(changes.position),
    }
    serials = {mark.card_id: mark.serial for mark in changes.changes if mark.serial}
    return fields | {"serials": serials} if serials else fields


def _list_map(found: CardList, must_reset: bool) -> dict[str, Any]:
    """`reset`: forget what you had; `more`: the list goes on in the next frame; `serials`: of these cards refuse
    credentials of a lower serial, whatever their state."""
    fields: dict[str, Any] = {"t": "revoked", "cards": found.revoked, "restored": found.restored}
    if found.serials:
        fields["serials"] = found.serials
    if must_reset:
        fields["reset"] = True
    if found.has_more:
        fields["more"] = True
    return fields | {"cursor": cursor_of(found.position)}
