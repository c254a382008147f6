"""The fan-out of live topics: one subscription to the source per topic, however many sockets listen.

Rules:
1. A subscriber sees one unbroken line: a snapshot at (epoch, offset), then every update with the next offset, none
   twice. Where the line cannot be kept up it gets a new snapshot with `recovered` false, never a silent hole.
2. The source is subscribed **before** the engine is asked where the topic stands; what arrives meanwhile is kept in
   `recent`, so nothing falls between the answer and the first update.
3. The source may lose messages. A gap in the offsets, or a new epoch, makes the topic ask the engine for what came
   after the last offset it has; until the answer is there, what came after the gap is held back. Every
   `WATCH_RENEW_MS` the topic asks anyway: that keeps the host publishing, and finds a lost last message.
4. One question per topic and starting point at a time: whoever comes while it is under way waits for the next one, so
   every answer is at least as new as the question, and a thousand boards that reconnect together cost two questions.
5. An update is encoded once per format; all subscribers share the bytes.
6. A topic is a tenant's: the tenant is part of the key and of every question, and comes from the caller's token alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Final, Protocol

from actors.live import WATCHED_MS
from actors.queries import GetTopic
from actors.refusals import UNAVAILABLE
from actors.replies import Digest, Failed, TopicData, TopicView, Update
from gateway.ports import Engine, LiveSource
from gateway.sockets import limits

WATCH_RENEW_MS: Final = 3_000
assert 3 * WATCH_RENEW_MS <= WATCHED_MS, "a topic stays watched though two renewals fail"

TopicKey = tuple[str, str]
Since = tuple[int, int]
NOWHERE: Final[Since] = (-1, -1)


class Published:
    """A topic's data at an offset, with its encodings, each made at the first use and then shared."""

    __slots__ = ("data", "encoded", "epoch", "offset", "topic")

    def __init__(self, topic: str, epoch: int, offset: int, data: TopicData) -> None:
        self.topic = topic
        self.epoch = epoch
        self.offset = offset
        self.data = data
        self.encoded: dict[object, bytes] = {}

    def frame(self, key: object, encode: Callable[[Published], bytes]) -> bytes:
        """The bytes that `encode` gives; `key` names what it makes of which format."""
        frame = self.encoded.get(key)
        if frame is None:
            frame = self.encoded[key] = encode(self)
        return frame


class Subscriber(Protocol):
    """Whoever listens. None of these may wait, raise or call the hub back."""

    def on_snapshot(self, snapshot: Published, recovered: bool | None) -> None:
        """The state from which updates go on. `recovered` is None for a first one, False when the line was broken."""

    def on_update(self, update: Published) -> None:
        """The next update."""

    def on_refused(self, code: str, detail: str, retry_after_ms: int) -> None:
        """There will be nothing: no such topic for this tenant, or the engine did not answer in time. The subscription
        is over."""


class Subscription:
    """One subscriber of one topic. `stands` is the (epoch, offset) it has, None while the engine is being asked."""

    __slots__ = ("deadline", "recovers", "since", "stands", "subscriber", "topic")

    def __init__(self, topic: Topic, subscriber: Subscriber, since: Since, recovers: bool, deadline: float) -> None:
        self.topic = topic
        self.subscriber = subscriber
        self.since = since
        self.recovers = recovers
        self.deadline = deadline
        self.stands: Since | None = None

    def offer(self, update: Published) -> None:
        """Passes the update on if it is the next one. One that is not next stays out: what this subscriber has is
        newer, or it is about to be given a snapshot."""
        if self.stands == (update.epoch, update.offset - 1):
            self.stands = (update.epoch, update.offset)
            self.subscriber.on_update(update)

    def start_at(self, snapshot: Published) -> None:
        """A new line, beginning with a snapshot."""
        self.stands = (snapshot.epoch, snapshot.offset)
        self.subscriber.on_snapshot(snapshot, False if self.recovers else None)
        self.recovers = True


class Topic:
    """One topic of one tenant: where it stands, who listens, and the questions under way."""

    def __init__(self, key: TopicKey, engine: Engine) -> None:
        self.subscriptions: set[Subscription] = set()
        self.key = key
        self._engine = engine
        self._is_open = False
        self._stands: Since | None = None
        self._recent: deque[Published] = deque(maxlen=limits.TOPIC_RECENT_MAX)
        self._held: deque[Digest] = deque(maxlen=limits.TOPIC_HELD_MAX)
        self._joining: dict[Since, list[Subscription]] = {}
        self._asking: dict[Since, asyncio.Task[None]] = {}
        self._repairing: asyncio.Task[None] | None = None

    # --- updates ---

    def take(self, digest: Digest) -> None:
        """A message from the source, in the order in which the host published it."""
        if self._stands is None:
            # Nobody has a snapshot yet. What is kept from here on is what they will go on with.
            self._stands = (digest.epoch, digest.update.offset - 1)
        epoch, offset = self._stands
        if digest.epoch < epoch or (digest.epoch == epoch and digest.update.offset <= offset):
            return
        if digest.epoch > epoch or digest.update.offset > offset + 1:
            self._held.append(digest)
            self.repair()
            return
        self._advance(digest.epoch, digest.update)

    def _advance(self, epoch: int, update: Update) -> None:
        published = Published(self.key[1], epoch, update.offset, update.data)
        self._stands = (epoch, update.offset)
        self._recent.append(published)
        for subscription in self.subscriptions:
            subscription.offer(published)

    # --- repair and renewal ---

    def repair(self) -> None:
        """Asks the engine what came after the topic's offset, unless that is being asked already."""
        if self._repairing is None and self._is_open and self._stands is not None:
            self._repairing = asyncio.create_task(self._repair(self._stands))

    async def _repair(self, since: Since) -> None:
        try:
            view = await self._view(since, deadline=None)
        finally:
            self._repairing = None
        if isinstance(view, Failed):
            self._refuse(list(self.subscriptions), view)
            return
        if view.snapshot is not None:
            self._take_snapshot(since, view.epoch, view.offset, view.snapshot)
        for update in view.missed:
            self.take(Digest(self.key[0], self.key[1], view.epoch, update))
        held = list(self._held)
        self._held.clear()
        for digest in held:
            self.take(digest)
        for subscription in self._stragglers():
            self._again(subscription)

    def _take_snapshot(self, since: Since, epoch: int, offset: int, data: TopicData) -> None:
        """A snapshot in answer to `since` says that the line from there cannot be told: a new one begins, for all who
        are behind it. An answer that lies before `since` in the same epoch tells of a host that counts anew, and then
        it holds for everyone."""
        stands = self._stands or NOWHERE
        counts_anew = epoch == since[0] and offset < since[1]
        if (epoch, offset) <= stands and not counts_anew:
            return
        snapshot = Published(self.key[1], epoch, offset, data)
        self._stands = (epoch, offset)
        self._recent.clear()
        for subscription in self.subscriptions:
            if subscription.stands is not None and (counts_anew or subscription.stands < self._stands):
                subscription.start_at(snapshot)

    def _stragglers(self) -> list[Subscription]:
        """Those whom an update passed by: their answer came from a host that was itself behind."""
        stands = self._stands or NOWHERE
        return [each for each in self.subscriptions if each.stands is not None and each.stands < stands]

    # --- joining ---

    def join(self, subscription: Subscription) -> None:
        """Starts a subscriber: from `recent` where that covers what it missed, else from the engine's answer."""
        if not self._resume(subscription):
            self._joining.setdefault(subscription.since, []).append(subscription)
            self._ask(subscription.since)

    def start(self) -> None:
        """The source's subscription holds (or cannot be had for now): the engine may be asked."""
        self._is_open = True
        if self._held:
            self.repair()
        for since in list(self._joining):
            self._ask(since)

    def _resume(self, subscription: Subscription) -> bool:
        """Whether `recent` has all that this subscriber missed; then it has been given it."""
        epoch, offset = since = subscription.since
        if self._stands is None or self._stands[0] != epoch or offset > self._stands[1]:
            return False
        if offset != self._stands[1] and (not self._recent or offset + 1 < self._recent[0].offset):
            return False
        self._go_on(subscription, since, self._recent)
        return True

    def _go_on(self, subscription: Subscription, since: Since, updates: Iterable[Published]) -> None:
        """The line that the subscriber had goes on with these updates."""
        subscription.stands, subscription.recovers = since, True
        for update in updates:
            subscription.offer(update)

    def _ask(self, since: Since) -> None:
        if self._is_open and since in self._joining and since not in self._asking:
            self._asking[since] = asyncio.create_task(self._ask_for(since, self._joining.pop(since)))

    async def _ask_for(self, since: Since, waiting: list[Subscription]) -> None:
        try:
            view = await self._view(since, deadline=waiting[0].deadline)
        finally:
            del self._asking[since]
        self._ask(since)
        waiting = [subscription for subscription in waiting if subscription in self.subscriptions]
        if isinstance(view, Failed):
            self._refuse(waiting, view)
            return
        if self._stands is None:
            self._stands = (view.epoch, view.offset)
        elif self._stands[0] < view.epoch:
            self.repair()
        snapshot = Published(self.key[1], view.epoch, view.offset, view.snapshot) if view.snapshot is not None else None
        missed = [Published(self.key[1], view.epoch, update.offset, update.data) for update in view.missed]
        for subscription in waiting:
            if snapshot is not None:
                subscription.start_at(snapshot)
            else:
                self._go_on(subscription, since, missed)
            for update in self._recent:
                subscription.offer(update)

    def _again(self, subscription: Subscription) -> None:
        subscription.since = subscription.stands or NOWHERE
        subscription.stands = None
        self.join(subscription)

    # --- asking ---

    async def _view(self, since: Since, deadline: float | None) -> TopicView | Failed:
        """The engine's answer. Trouble is tried again with growing pauses until `deadline` (the loop's time), or for
        as long as anybody listens."""
        loop = asyncio.get_running_loop()
        tenant_id, topic = self.key
        pause_ms = limits.ASK_RETRY_MS_MIN
        while True:
            reply = await self._engine.ask(GetTopic(tenant_id, topic, *since))
            if isinstance(reply, TopicView):
                return reply
            failed = reply if isinstance(reply, Failed) else Failed(UNAVAILABLE, "an answer of another kind", pause_ms)
            is_over = not self.subscriptions if deadline is None else loop.time() >= deadline
            if failed.retry_after_ms == 0 or is_over:
                return failed
            await asyncio.sleep(max(pause_ms, min(failed.retry_after_ms, limits.ASK_RETRY_MS_MAX)) / 1_000)
            pause_ms = min(2 * pause_ms, limits.ASK_RETRY_MS_MAX)

    def _refuse(self, subscriptions: list[Subscription], failed: Failed) -> None:
        for subscription in subscriptions:
            if subscription in self.subscriptions:
                self.subscriptions.discard(subscription)
                subscription.subscriber.on_refused(failed.code, failed.detail, failed.retry_after_ms)

    def close(self) -> None:
        """Nobody listens any more."""
        for task in (*self._asking.values(), self._repairing):
            if task is not None:
                task.cancel()


class LiveHub:
    """All topics of this gateway. `run` must be running for updates to flow."""

    def __init__(self, engine: Engine, source: LiveSource) -> None:
        self._engine = engine
        self._source = source
        self._topics: dict[TopicKey, Topic] = {}
        self._held: set[TopicKey] = set()
        self._source_changes = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def subscribe(self, tenant_id: str, topic: str, subscriber: Subscriber, since: Since = NOWHERE) -> Subscription:
        """Starts a subscription; the first thing that `subscriber` gets is a snapshot, or the updates after `since`."""
        key = (tenant_id, topic)
        found = self._topics.get(key)
        if found is None:
            found = self._topics[key] = Topic(key, self._engine)
            self._spawn(self._open(key, found))
        deadline = asyncio.get_running_loop().time() + limits.JOIN_DEADLINE_MS / 1_000
        subscription = Subscription(found, subscriber, since, since != NOWHERE, deadline)
        found.subscriptions.add(subscription)
        found.join(subscription)
        return subscription

    def restart(self, subscription: Subscription) -> None:
        """Begins a new line with a snapshot, for a subscriber that dropped updates."""
        if subscription in subscription.topic.subscriptions:
            subscription.deadline = asyncio.get_running_loop().time() + limits.JOIN_DEADLINE_MS / 1_000
            subscription.since, subscription.stands, subscription.recovers = NOWHERE, None, True
            subscription.topic.join(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Ends a subscription; the last one of a topic ends the source's."""
        topic = subscription.topic
        topic.subscriptions.discard(subscription)
        self._drop_if_idle(topic)

    async def run(self) -> None:
        """Receives and renews until cancelled; then stops all that is under way."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive())
                tasks.create_task(self._renew())
        finally:
            for topic in self._topics.values():
                topic.close()
            for task in self._tasks:
                task.cancel()

    async def _receive(self) -> None:
        async for digest in self._source.digests():
            topic = self._topics.get((digest.tenant_id, digest.topic))
            if topic is not None:
                topic.take(digest)

    async def _renew(self) -> None:
        """Asks for every topic once in `WATCH_RENEW_MS`, spread over that time."""
        while True:
            topics = list(self._topics.values())
            for topic in topics:
                if topic.subscriptions:
                    topic.repair()
                else:
                    self._drop_if_idle(topic)
                await asyncio.sleep(WATCH_RENEW_MS / 1_000 / len(topics))
            if not topics:
                await asyncio.sleep(WATCH_RENEW_MS / 1_000)

    async def _open(self, key: TopicKey, topic: Topic) -> None:
        """Subscribes at the source, then lets the topic ask. While the source is away boards still get snapshots, and
        what the renewals bring."""
        await asyncio.wait((self._spawn(self._settle(key)),), timeout=limits.SOURCE_WAIT_MS / 1_000)
        topic.start()

    async def _settle(self, key: TopicKey) -> None:
        """Makes the source agree with whether the topic is wanted now. One at a time, so that the last wish wins."""
        async with self._source_changes:
            if (key in self._topics) == (key in self._held):
                return
            if key in self._topics:
                await self._source.subscribe(*key)
                self._held.add(key)
            else:
                await self._source.unsubscribe(*key)
                self._held.discard(key)

    def _drop_if_idle(self, topic: Topic) -> None:
        key = topic.key
        if not topic.subscriptions and self._topics.get(key) is topic:
            del self._topics[key]
            topic.close()
            self._spawn(self._settle(key))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
