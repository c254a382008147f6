"""The way to the hosts: finds the owner of a message's partition, batches, retries, and answers every message within
its deadline.

Rules:
1. Natural batching: a batch leaves as soon as fewer than `IN_FLIGHT_BATCHES_PER_HOST_MAX` are on the way to that host.
   So at low load a message leaves at once, at high load batches grow by themselves; no timer.
2. Every message is answered exactly once, by `DEADLINE_MS` + `SWEEP_INTERVAL_MS` at the latest, and never by an
   exception. What was not decided by then is `Failed("unavailable")`: it may have been executed, and sending it again
   under the same id is safe.
3. An outcome that is unknown (`HostUnavailable`) and the codes `moved` and `unavailable` are tried again, with growing
   delays and jitter, after asking where the partition is now. Placement is a hint; hosts and the journal refuse what it
   gets wrong.
4. Queues are bounded per host; beyond, `Failed("overloaded")` at once.
5. Deferred replies are collected in the background. They do not count as in flight, but too many of them hold back new
   batches.
6. The hot path, `submit`, makes one tuple per message: no task, no future, no timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence

import msgspec
import structlog

from actors.codec import Message, decode_answers, encode_messages
from actors.ids import partition_of
from actors.refusals import MOVED, OVERLOADED, UNAVAILABLE
from actors.replies import Deferred, Failed, Reply
from gateway import limits
from gateway.ports import Directory, HostUnavailable, Placement, Transport
from storage.tasks import ended

OnReply = Callable[[Reply], None]
# A message on its way: the message, who waits for it, its deadline (loop time, seconds) and how often it was tried.
Call = tuple[Message, OnReply, float, int]

UNENCODABLE = "message_unencodable"
_GIVEN_UP = Failed(
    UNAVAILABLE,
    "no decision within the deadline; ask again with the same request id",
    limits.UNAVAILABLE_RETRY_AFTER_MS,
)
_FULL = Failed(OVERLOADED, "the queue to the host is full", limits.OVERLOADED_RETRY_AFTER_MS)
_UNENCODABLE = Failed(UNENCODABLE, "the message has a value that cannot be encoded")
_log = structlog.get_logger(__name__)


class _Flight:
    """A batch on its way. A call that was answered at its deadline becomes None; its late reply is dropped."""

    __slots__ = ("calls", "task")

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls: list[Call | None] = list(calls)
        self.task: asyncio.Task[None] | None = None


class _Lane:
    """What waits for, and what is on its way to, one host."""

    __slots__ = ("collecting", "flights", "host", "queue", "scheduled", "submitting")

    def __init__(self, host: str) -> None:
        self.host = host
        self.queue: deque[Call] = deque()
        self.flights: set[_Flight] = set()
        self.submitting = 0
        self.collecting = 0
        self.scheduled = False


class Dispatcher:
    """Implements `gateway.ports.Engine`. `start` before use, `close` after; everything happens in one event loop."""

    def __init__(self, transport: Transport, directory: Directory, jitter: Callable[[], float]) -> None:
        """`jitter` gives numbers in [0, 1)."""
        self._transport = transport
        self._directory = directory
        self._jitter = jitter
        self._placement: Placement | None = None
        self._partition_count = 0
        self._owners: dict[int, _Lane] = {}
        self._lanes: dict[str, _Lane] = {}
        self._routes: dict[str, _Lane] = {}
        self._partitions: dict[str, int] = {}
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._refresh: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Reads the placement and begins to follow its changes."""
        self._loop = asyncio.get_running_loop()
        placement = await self._directory.placement()
        if placement is not None:
            self._place(placement)
        for work in (self._follow(), self._sweep()):
            self._spawn(work)

    async def close(self) -> None:
        """Answers what is still open with `Failed` and stops."""
        self._closed = True
        await ended(*self._tasks)
        for lane in self._lanes.values():
            left = [call for flight in lane.flights for call in flight.calls if call is not None] + list(lane.queue)
            lane.queue.clear()
            lane.flights.clear()
            lane.submitting = lane.collecting = 0
            self._fail(left, _GIVEN_UP)

    async def ask(self, message: Message) -> Reply:
        """The reply to one message (see `gateway.ports.Engine`)."""
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self.submit(message, lambda reply: None if answer.done() else answer.set_result(reply))
        return await answer

    def submit(self, message: Message, on_reply: OnReply) -> None:
        """Calls `on_reply` once, later or at once. It must not raise."""
        call = (message, on_reply, self._loop.time() + limits.DEADLINE_MS / 1000, 0)
        lane = self._routes.get(message.tenant_id)
        if lane is None:
            lane = self._route(message.tenant_id)
            if lane is None:
                self._retry([call])
                return
        queue = lane.queue
        if len(queue) >= limits.QUEUE_MESSAGES_MAX:
            on_reply(_FULL)
            return
        queue.append(call)
        if not lane.scheduled:
            self._schedule(lane)

    def partition(self, tenant_id: str) -> int | None:
        """The tenant's partition; None before any placement is known."""
        if not self._partition_count:
            return None
        partition = self._partitions.get(tenant_id)
        if partition is None:
            if len(self._partitions) >= limits.ROUTE_CACHE_ENTRIES_MAX:
                self._partitions.clear()
            partition = self._partitions[tenant_id] = partition_of(tenant_id, self._partition_count)
        return partition

    @property
    def is_placed(self) -> bool:
        """Whether every partition has an owner, as far as is known."""
        return self._partition_count > 0 and len(self._owners) == self._partition_count

    def queued(self) -> dict[str, int]:
        """Messages waiting, per host."""
        return {host: len(lane.queue) for host, lane in self._lanes.items()}

    # --- placement ----------------------------------------------------------------------------------------------------

    def _route(self, tenant_id: str) -> _Lane | None:
        partition = self.partition(tenant_id)
        lane = None if partition is None else self._owners.get(partition)
        if lane is not None:
            if len(self._routes) >= limits.ROUTE_CACHE_ENTRIES_MAX:
                self._routes.clear()
            self._routes[tenant_id] = lane
        return lane

    def _place(self, placement: Placement) -> None:
        """Takes in a placement; what waits in a queue goes to the new owner's."""
        if self._placement is not None and placement.version <= self._placement.version:
            return
        self._placement = placement
        if placement.partition_count != self._partition_count:
            self._partition_count = placement.partition_count
            self._partitions.clear()
        self._routes.clear()
        self._owners = {}
        for host, partitions in placement.hosts.items():
            lane = self._lanes.get(host)
            if lane is None:
                lane = self._lanes[host] = _Lane(host)
            for partition in partitions:
                self._owners[partition] = lane
        for lane in list(self._lanes.values()):
            calls = list(lane.queue)
            lane.queue.clear()
            self._resubmit(calls)
            if lane.host not in placement.hosts and not lane.flights and not lane.queue:
                del self._lanes[lane.host]

    async def _follow(self) -> None:
        async for placement in self._directory.changes():
            self._place(placement)

    def _ask_placement(self) -> None:
        """Reads the placement anew, in the background, one at a time and not too often."""
        if self._refresh is None or self._refresh.done():
            self._refresh = self._spawn(self._read_placement())

    async def _read_placement(self) -> None:
        placement = await self._directory.placement()
        if placement is not None:
            self._place(placement)
        await asyncio.sleep(limits.PLACEMENT_REFRESH_INTERVAL_MIN_MS / 1000)

    # --- batches ------------------------------------------------------------------------------------------------------

    def _schedule(self, lane: _Lane) -> None:
        """Sends a batch at the end of this turn of the loop, so that all that arrives in one turn goes together."""
        if lane.submitting < limits.IN_FLIGHT_BATCHES_PER_HOST_MAX and lane.collecting < limits.COLLECTS_PER_HOST_MAX:
            lane.scheduled = True
            self._loop.call_soon(self._flush, lane)

    def _flush(self, lane: _Lane) -> None:
        lane.scheduled = False
        queue = lane.queue
        if self._closed:
            self._fail(list(queue), _GIVEN_UP)
            queue.clear()
        if not queue:
            return
        if len(queue) <= limits.BATCH_MESSAGES_MAX:
            batch = list(queue)
            queue.clear()
        else:
            batch = [queue.popleft() for _ in range(limits.BATCH_MESSAGES_MAX)]
        now = self._loop.time()
        if any(call[2] <= now for call in batch):
            self._fail([call for call in batch if call[2] <= now], _GIVEN_UP)
            batch = [call for call in batch if call[2] > now]
        data, batch, rest = self._encoded(batch)
        queue.extendleft(reversed(rest))
        if batch:
            self._send(lane, data, batch)
        if queue:
            self._schedule(lane)

    def _encoded(self, batch: list[Call]) -> tuple[bytes, list[Call], list[Call]]:
        """The batch within the size limit, and what has to wait for the next. Messages are hardly ever so big that a
        batch is too, so the size is looked at after encoding. What cannot be encoded at all is answered and left
        out."""
        rest: list[Call] = []
        while batch:
            try:
                data = encode_messages([call[0] for call in batch])
            except (ValueError, OverflowError, TypeError):  # a lone surrogate, an integer beyond 64 bits
                if len(batch) == 1:
                    self._fail(batch, _UNENCODABLE)
                    break
            else:
                if len(data) < limits.BATCH_BYTES_MAX or len(batch) == 1:
                    return data, batch, rest
            half = len(batch) // 2
            rest[:0] = batch[half:]
            batch = batch[:half]
        return b"", [], rest

    def _send(self, lane: _Lane, data: bytes, batch: list[Call]) -> None:
        lane.submitting += 1
        flight = _Flight(batch)
        lane.flights.add(flight)
        flight.task = self._spawn(self._fly(lane, flight, data))

    async def _fly(self, lane: _Lane, flight: _Flight, data: bytes) -> None:
        is_submitting = True
        try:
            answers = decode_answers(await self._transport.submit(lane.host, data))
            self._take(flight, answers.replies)
            while answers.ticket and flight.calls:
                if is_submitting:
                    is_submitting = False
                    lane.collecting += 1
                    lane.submitting -= 1
                    self._wake(lane)
                answers = decode_answers(await self._transport.collect(lane.host, answers.ticket))
                self._take(flight, answers.replies)
        except HostUnavailable:
            pass  # what is still open is tried again below
        except msgspec.DecodeError as error:
            _log.error("the answers of a host cannot be read", host=lane.host, error=str(error))
        finally:
            if not self._closed:
                self._landed(lane, flight, is_submitting)

    def _landed(self, lane: _Lane, flight: _Flight, is_submitting: bool) -> None:
        lane.flights.discard(flight)
        if is_submitting:
            lane.submitting -= 1
        else:
            lane.collecting -= 1
        undecided = [call for call in flight.calls if call is not None]
        if undecided:
            self._retry(undecided)
        self._wake(lane)

    def _wake(self, lane: _Lane) -> None:
        if lane.queue and not lane.scheduled:
            self._schedule(lane)

    def _take(self, flight: _Flight, replies: Sequence[Reply]) -> None:
        """Hands out the replies; the calls that were deferred stay with the flight, in order, as its ticket fetches
        them."""
        if len(flight.calls) != len(replies):
            _log.error("a host gave a wrong number of replies", messages=len(flight.calls), replies=len(replies))
            return
        deferred: list[Call | None] = []
        again: list[Call] = []
        try:
            self._answer(zip(flight.calls, replies, strict=False), deferred, again)
        finally:
            flight.calls = deferred
            if again:
                self._retry(again)

    def _answer(
        self, pairs: Iterator[tuple[Call | None, Reply]], deferred: list[Call | None], again: list[Call]
    ) -> None:
        try:
            for call, reply in pairs:
                if isinstance(reply, Deferred):
                    deferred.append(call)
                    continue
                if call is None:
                    continue
                if isinstance(reply, Failed) and _asks_for_retry(reply):
                    again.append(call)
                    continue
                call[1](reply)
        except BaseException:
            # A callback broke its promise not to raise: that must not keep the others from their answers.
            self._answer(pairs, deferred, again)
            raise

    # --- retries and deadlines ----------------------------------------------------------------------------------------

    def _retry(self, calls: Sequence[Call]) -> None:
        """Rule 3. All calls given at once are tried again together."""
        self._ask_placement()
        attempt = max(call[3] for call in calls)
        ceiling_ms = min(limits.RETRY_DELAY_MAX_MS, limits.RETRY_DELAY_MIN_MS << min(attempt, 10))
        delay = ceiling_ms * (0.5 + self._jitter() / 2) / 1000
        again_at = self._loop.time() + delay
        late = [call for call in calls if call[2] <= again_at]
        if late:
            self._fail(late, _GIVEN_UP)
        again = [
            (message, on_reply, deadline, tried + 1)
            for message, on_reply, deadline, tried in calls
            if deadline > again_at
        ]
        room = limits.QUEUE_MESSAGES_MAX - self._waiting
        if len(again) > room:
            self._fail(again[max(room, 0) :], _FULL)
            again = again[: max(room, 0)]
        if again:
            self._waiting += len(again)
            self._loop.call_later(delay, self._retry_now, again)

    def _retry_now(self, calls: Sequence[Call]) -> None:
        self._waiting -= len(calls)
        if self._closed:
            self._fail(calls, _GIVEN_UP)
        else:
            self._resubmit(calls)

    def _resubmit(self, calls: Sequence[Call]) -> None:
        nowhere: list[Call] = []
        for call in calls:
            lane = self._routes.get(call[0].tenant_id) or self._route(call[0].tenant_id)
            if lane is None:
                nowhere.append(call)
            elif len(lane.queue) >= limits.QUEUE_MESSAGES_MAX:
                call[1](_FULL)
            else:
                lane.queue.append(call)
                if not lane.scheduled:
                    self._schedule(lane)
        if nowhere:
            self._retry(nowhere)

    async def _sweep(self) -> None:
        """Answers what is past its deadline while its batch, or the batches before it, are still on the way."""
        while True:
            await asyncio.sleep(limits.SWEEP_INTERVAL_MS / 1000)
            now = self._loop.time()
            for lane in list(self._lanes.values()):
                late: list[Call] = []
                while lane.queue and lane.queue[0][2] <= now:
                    late.append(lane.queue.popleft())
                for flight in list(lane.flights):
                    self._sweep_flight(flight, now, late)
                self._fail(late, _GIVEN_UP)

    def _sweep_flight(self, flight: _Flight, now: float, late: list[Call]) -> None:
        calls = flight.calls
        if not any(call is not None and call[2] <= now for call in calls):
            return
        late += [call for call in calls if call is not None and call[2] <= now]
        flight.calls = [None if call is None or call[2] <= now else call for call in calls]
        if flight.task is not None and all(call is None for call in flight.calls):
            flight.task.cancel()  # nobody waits for it any more, and it must not hold the lane

    @staticmethod
    def _fail(calls: Sequence[Call], failed: Failed) -> None:
        for call in calls:
            call[1](failed)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _asks_for_retry(failed: Failed) -> bool:
    return failed.code == MOVED or (failed.code == UNAVAILABLE and failed.retry_after_ms > 0)
