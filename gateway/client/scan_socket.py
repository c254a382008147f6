"""A scanner's socket, `/v1/scan`: scans in, verdicts out, across any number of connections.

Rules:
1. Every scan has its id from the beginning and is sent under it until it is answered: after a reconnect, and after an
   error that says when to try again. The system judges an id once, so each scan has one verdict.
2. At most `in_flight_max` scans wait for their verdicts, and no more than the server's `max_in_flight` are under way;
   whoever has another one waits.
3. What cannot be sent because another frame is on its way leaves with the next one: many scans share a frame.
4. A scan as it was first sent is never changed: the same id with other fields would be another scan. So `scanned_at` is
   corrected by the measured offset once, when it is handed in. One made while there is no connection is given its time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from gateway.client.errors import Json, MasterVipError, OutcomeUnknown, ScanError, Unavailable
from gateway.client.http import Credentials, Http
from gateway.client.link import SOCKET_RETRY, Link, Wire
from gateway.client.retry import RetryPolicy
from gateway.ids import is_request_id

IN_FLIGHT_MAX: Final = 256
ITEMS_PER_FRAME_MAX: Final = 256
FRAME_BYTES_MAX: Final = 65_536  # where the server does not tell
FRAME_BYTES_SPARE: Final = 1_024
ITEM_FIELDS: Final = ("credential", "direction", "gate_id", "scan_id", "scanned_at")


class _Scan:
    """A scan on its way, or what takes one back. `was_sent` tells whether the system may have it."""

    __slots__ = ("answer", "bytes", "fields", "was_sent")

    def __init__(self, fields: Json, answer: asyncio.Future[Json]) -> None:
        self.fields = fields
        # As JSON, with the comma after it; as MessagePack it is no longer.
        self.bytes = len(msgspec.json.encode(fields)) + 1
        self.answer = answer
        self.was_sent = False

    @property
    def is_annulment(self) -> bool:
        """Whether it takes a scan back."""
        return "credential" not in self.fields

    @property
    def id(self) -> str:
        scan_id: str = self.fields["id"]
        return scan_id

    def fail(self, error: MasterVipError) -> None:
        """There will be no verdict."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def unanswered(self, why: MasterVipError) -> MasterVipError:
        """What to tell whoever waits."""
        if not self.was_sent:
            return why
        error = OutcomeUnknown(f"no verdict came: {why}", self.id, dict(self.fields))
        error.__cause__ = why
        return error


class ScanSocket:
    """`async with vip.scan_socket(event_id) as door: verdict = await door.scan(credential)`.

    `on_attendance` and `on_revoked` are called with each such frame as it comes; they must not wait. `resume` is the
    `cursor` of an earlier socket, from which the list of revoked cards goes on.
    """

    def __init__(
        self,
        http: Http,
        credentials: Credentials,
        event_id: str | None = None,
        *,
        gate_id: str | None = None,
        on_attendance: Callable[[Json], None] | None = None,
        on_revoked: Callable[[Json], None] | None = None,
        resume: str | None = None,
        in_flight_max: int = IN_FLIGHT_MAX,
        wire: Wire = "msgpack",
        retry: RetryPolicy = SOCKET_RETRY,
    ) -> None:
        self.welcome: Json = {}
        self.attendance: Json | None = None
        self.cursor = resume
        self._event_id = event_id
        self._gate_id = gate_id
        self._on_attendance = on_attendance
        self._on_revoked = on_revoked
        self._retry = retry
        self._timing = http.timing
        self._make_id = http.ids.request_id
        self._link = Link(http, "/v1/scan", self, credentials, wire, retry)
        self._in_flight_max = in_flight_max
        self._room = asyncio.Semaphore(in_flight_max)
        self._scans: dict[str, _Scan] = {}
        self._waiting: deque[_Scan] = deque()
        self._under_way: dict[str, _Scan] = {}
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
        """Ends the socket. Scans without a verdict get `OutcomeUnknown`."""
        await self._link.aclose()

    async def wait_closed(self) -> None:
        """Waits until the socket is over for good, and raises why: `SocketRefused`, `SignedOut`, `SocketClosed`."""
        await self._link.wait_closed()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._link.is_open

    @property
    def clock_offset_ms(self) -> float:
        """How far the server's clock is ahead of this machine's; 0 until it has been measured."""
        return self._link.clock.offset_ms(self._timing.now_s(), self._timing.wall_ms())

    async def wait_clock(self) -> None:
        """Waits until the server's clock has been measured. Raises as `wait_closed` does."""
        await self._link.wait_clock()

    @property
    def clock_is_known(self) -> bool:
        """Whether the server's clock has been measured."""
        return self._link.clock.is_known

    async def scan(
        self,
        credential: str,
        *,
        direction: str | None = None,
        gate_id: str | None = None,
        scan_id: str | None = None,
        scanned_at: int | None = None,
        timeout_s: float | None = None,
    ) -> Json:
        """The verdict. `scanned_at`: milliseconds since 1970 by this machine's clock. Raises `ScanError`,
        `OutcomeUnknown`, `Unavailable` (it was never sent), `SocketRefused`."""
        given = (credential, direction, gate_id, scan_id, scanned_at)
        fields = self._fields(dict(zip(ITEM_FIELDS, given, strict=True)))
        return await self._verdict(fields, timeout_s)

    async def annul(self, scan_id: str, *, request_id: str | None = None, timeout_s: float | None = None) -> Json:
        """The turnstile did not turn: takes back this device's admission, within 15 minutes. `scan_id`, `card_id`,
        `at`, and how many are `inside` and `admitted` now. Raises as `scan`."""
        request_id = self._make_id() if request_id is None else request_id
        if not (is_request_id(scan_id) and is_request_id(request_id)):
            raise ValueError("an id has 1-64 printable characters")
        return await self._verdict({"id": request_id, "scan_id": scan_id}, timeout_s)

    async def again(self, unknown: OutcomeUnknown, timeout_s: float | None = None) -> Json:
        """The verdict on a scan whose outcome is unknown: sends it as it was."""
        if unknown.item is None:
            raise ValueError("this was no scan of a socket")
        return await self._verdict(dict(unknown.item), timeout_s)

    async def scan_many(
        self, items: Iterable[Mapping[str, Any]], timeout_s: float | None = None
    ) -> list[Json | MasterVipError]:
        """The verdicts in the order of the items, each a map with `credential` and what else `scan` takes; in place of
        one, the error that `scan` would have raised. `timeout_s` is for all of them."""
        all_fields = [self._fields(item) for item in items]
        ids = [fields["id"] for fields in all_fields]
        if len(set(ids)) < len(ids) or not self._scans.keys().isdisjoint(ids):
            raise ValueError("two scans have the same id")
        timeout_s = self._retry.deadline_s if timeout_s is None else timeout_s
        until_s = self._timing.now_s() + timeout_s
        found: list[_Scan | MasterVipError] = []
        try:
            for fields in all_fields:
                found.append(await self._handed_in_by(until_s, fields))
            answers = [scan.answer for scan in found if isinstance(scan, _Scan)]
            if answers:
                await asyncio.wait(answers, timeout=max(0.0, until_s - self._timing.now_s()))
            return [_outcome(scan, timeout_s) if isinstance(scan, _Scan) else scan for scan in found]
        finally:
            for scan in found:
                if isinstance(scan, _Scan):
                    scan.answer.cancel()

    # --- one scan ---

    def _fields(self, item: Mapping[str, Any]) -> Json:
        """The item of a frame (rule 4)."""
        unknown = set(item) - set(ITEM_FIELDS)
        if unknown or "credential" not in item:
            raise ValueError(f"a scan has {', '.join(ITEM_FIELDS)}, and needs the first")
        scan_id = self._make_id() if item.get("scan_id") is None else item["scan_id"]
        if not is_request_id(scan_id):
            raise ValueError("a scan_id has 1-64 printable characters")
        fields = {"id": scan_id}
        fields |= {name: item[name] for name in ITEM_FIELDS[:3] if item.get(name) is not None}
        scanned_at = item.get("scanned_at")
        if scanned_at is None and not self.is_open and self.clock_is_known:
            scanned_at = self._timing.wall_ms()
        if scanned_at is not None:
            fields["scanned_at"] = round(scanned_at + self.clock_offset_ms)
        return fields

    async def _verdict(self, fields: Json, timeout_s: float | None) -> Json:
        timeout_s = self._retry.deadline_s if timeout_s is None else timeout_s
        scan: _Scan | None = None
        try:
            async with asyncio.timeout(timeout_s):
                scan = await self._handed_in(fields)
                return await scan.answer
        except TimeoutError:
            why = _too_late(fields["id"], timeout_s)
            raise (why if scan is None else scan.unanswered(why)) from None

    async def _handed_in_by(self, until_s: float, fields: Json) -> _Scan | MasterVipError:
        try:
            async with asyncio.timeout(max(0.0, until_s - self._timing.now_s())):
                return await self._handed_in(fields)
        except TimeoutError:
            return Unavailable(f"scan {fields['id']} was not sent in time")
        except MasterVipError as error:
            return error

    async def _handed_in(self, fields: Json) -> _Scan:
        """The scan, on its way, once there is room for it."""
        self._link.check()
        await self._room.acquire()
        try:
            self._link.check()
            if fields["id"] in self._scans:
                raise ValueError(f"scan {fields['id']} is on its way already")
        except BaseException:
            self._room.release()
            raise
        scan = _Scan(fields, asyncio.get_running_loop().create_future())
        scan.answer.add_done_callback(partial(self._on_done, scan))
        self._scans[scan.id] = scan
        self._waiting.append(scan)
        self._link.wake()
        return scan

    def _on_done(self, scan: _Scan, answer: asyncio.Future[Json]) -> None:
        """Answered, or nobody waits for it any more: there is room for another one."""
        if not answer.cancelled():
            answer.exception()  # told to whoever waits; nobody may be left
        del self._scans[scan.id]
        self._under_way.pop(scan.id, None)
        timer = self._again_later.pop(scan.id, None)
        if timer is not None:
            timer.cancel()
        if scan in self._waiting:
            self._waiting.remove(scan)
        self._room.release()
        self._link.wake()

    # --- the link's listener ---

    def hello(self) -> Json:
        """See `Listener`."""
        fields = {"event_id": self._event_id, "gate_id": self._gate_id, "resume": self.cursor}
        return {name: value for name, value in fields.items() if value is not None}

    def on_open(self, welcome: Json) -> None:
        """See `Listener`."""
        self.welcome = welcome
        if self.cursor is None:
            # Later only what came with `revoked` counts: what lies before it may not have arrived.
            self.cursor = welcome.get("cursor")

    def next_frame(self) -> Json | None:
        """See `Listener`: as many waiting scans as fit a frame and the window."""
        window = min(self._in_flight_max, self.welcome.get("max_in_flight", self._in_flight_max))
        bytes_max = self.welcome.get("max_frame_bytes", FRAME_BYTES_MAX) - FRAME_BYTES_SPARE
        items: list[Json] = []
        bytes_sum = 0
        while self._waiting and len(self._under_way) < window and len(items) < ITEMS_PER_FRAME_MAX:
            scan = self._waiting[0]
            if scan.is_annulment:
                break  # it goes in a frame of its own
            if scan.bytes > bytes_max:
                self._waiting.popleft()
                scan.fail(ScanError(scan.id, "frame_too_big", f"a frame has at most {bytes_max} bytes"))
                continue
            bytes_sum += scan.bytes
            if bytes_sum > bytes_max:
                break
            self._waiting.popleft()
            scan.was_sent = True
            self._under_way[scan.id] = scan
            items.append(scan.fields)
        if not items and self._waiting and self._waiting[0].is_annulment and len(self._under_way) < window:
            scan = self._waiting.popleft()
            scan.was_sent = True
            self._under_way[scan.id] = scan
            return {"t": "annul", **scan.fields}
        if not items:
            return None
        return {"t": "scan", **items[0]} if len(items) == 1 else {"t": "scans", "items": items}

    def on_frame(self, frame: Json) -> None:
        """See `Listener`."""
        kind = frame.get("t")
        if kind == "verdicts":
            for item in frame["items"]:
                self._take(item)
        elif kind in ("verdict", "annulled", "error"):
            self._take(frame)
        elif kind == "attendance":
            self.attendance = frame
            if self._on_attendance is not None:
                self._on_attendance(frame)
        elif kind == "revoked":
            if self._on_revoked is not None:
                self._on_revoked(frame)
            self.cursor = frame.get("cursor", self.cursor)

    def on_down(self) -> None:
        """See `Listener`: all that is unanswered goes first on the next connection, in its old order (rule 1)."""
        self._waiting.extendleft(reversed(self._under_way.values()))
        self._under_way.clear()

    def on_end(self, error: MasterVipError) -> None:
        """See `Listener`."""
        for scan in list(self._scans.values()):
            scan.fail(scan.unanswered(error))

    def _take(self, answer: Json) -> None:
        """A verdict, or an error about one scan. What is about none that waits has been dealt with."""
        scan = self._under_way.pop(answer.get("id", ""), None)
        if scan is None:
            return
        self._link.wake()
        if scan.answer.done():
            return
        if answer["t"] in ("verdict", "annulled"):
            scan.answer.set_result({name: value for name, value in answer.items() if name != "t"})
        elif answer.get("retry_after_ms"):
            self._later(scan, answer["retry_after_ms"] / 1_000)
        else:
            scan.fail(ScanError(scan.id, answer["code"], answer["message"]))

    def _later(self, scan: _Scan, after_s: float) -> None:
        """Sends it once more, under its id."""
        pause_s = after_s + self._timing.uniform(0.0, after_s)
        loop = asyncio.get_running_loop()
        self._again_later[scan.id] = loop.call_later(pause_s, self._wait_again, scan)

    def _wait_again(self, scan: _Scan) -> None:
        del self._again_later[scan.id]
        self._waiting.append(scan)
        self._link.wake()


def _outcome(scan: _Scan, timeout_s: float) -> Json | MasterVipError:
    if not scan.answer.done():
        return scan.unanswered(_too_late(scan.id, timeout_s))
    error = scan.answer.exception()
    if error is None:
        return scan.answer.result()
    assert isinstance(error, MasterVipError)
    return error


def _too_late(scan_id: str, timeout_s: float) -> Unavailable:
    return Unavailable(f"scan {scan_id}: no verdict within {timeout_s:g} s")
