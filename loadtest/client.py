"""The load client, a process of its own: `python -m loadtest.client` reads its orders (JSON) from stdin.

Rules:
1. Closed loop: a REST connection has one request under way, a socket `window` scans. With `rate` > 0 sends are spread
   evenly over time instead, on whichever connection has room; what finds none is late, and lateness counts as latency.
2. Nothing is parsed that is not needed: status, verdict, request id.
3. stdout: a line `begin` after the warm-up, a line `end` after the measured time, then one JSON document.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import picows
import uvloop

from loadtest.plan import Pieces, RequestIds, in_and_out, rest_check_in, rest_get, scan_item, scans_head, shares
from serve.tls import client_context

CONNECT_AT_ONCE = 32
LAST_ANSWERS_TIMEOUT_S = 5.0
PACE_TICK_S = 0.002
RETRY_STATUSES = frozenset({b"429", b"503"})
RETRY_AFTER_S = 0.05


class Event(msgspec.Struct, frozen=True):
    """An event and the tokens of its scanners."""

    id: str
    tokens: list[str]


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What to do."""

    host: str
    port: int
    seconds: float
    warmup_s: float
    rest_connections: int = 0
    sockets: int = 0
    window: int = 32
    scans_per_frame: int = 1
    rate: float = 0.0
    path: str = "/v1/checkins"
    is_get: bool = False
    ca_file: str | None = None
    events: list[Event] = []
    credentials: list[str] = []

    def ssl_context(self) -> ssl.SSLContext | None:
        """With `ca_file`: TLS, and what to trust."""
        return None if self.ca_file is None else client_context(Path(self.ca_file))


class Tally:
    """What came back. Latencies in microseconds, of the measured time only."""

    def __init__(self) -> None:
        self.is_measuring = False
        self.is_over = False
        self.latencies_us = array("I")
        self.outcomes: Counter[str] = Counter()
        self.scans = 0

    def done(self, started_s: float, now_s: float, outcome: str) -> None:
        """One answer."""
        if self.is_measuring:
            self.scans += 1
            self.latencies_us.append(min(0xFFFFFFFF, int((now_s - started_s) * 1e6)))
            self.outcomes[outcome] += 1


class Pacer:
    """Says when sends are due; without a rate, at once."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._waiting: deque[Callable[[float], None]] = deque()
        self._begun_s = 0.0
        self._released = 0

    def next(self, send: Callable[[float], None]) -> None:
        """Calls `send` with the time at which it was due."""
        if self.rate:
            self._waiting.append(send)
        else:
            send(time.perf_counter())

    async def run(self) -> None:
        """Releases what is due."""
        self._begun_s = time.perf_counter()
        while True:
            due = int((time.perf_counter() - self._begun_s) * self.rate)
            while self._released < due and self._waiting:
                self._waiting.popleft()(self._begun_s + self._released / self.rate)
                self._released += 1
            await asyncio.sleep(PACE_TICK_S)


class RestConnection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, plan: Iterator[Pieces], ids: RequestIds, tally: Tally, pacer: Pacer) -> None:
        self._plan = plan
        self._ids = ids
        self._tally = tally
        self._pacer = pacer
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._started_s = 0.0
        self._last = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def begin(self) -> None:
        """Sends the first request."""
        self._pacer.next(self._send)

    def _send(self, due_s: float) -> None:
        before, after = next(self._plan)
        self._last = before + self._ids.next() + after
        self._started_s = due_s
        assert self._transport is not None
        self._transport.write(self._last)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        head_end = data.find(b"\r\n\r\n")
        length_at = data.find(b"content-length: ", 0, head_end)
        if head_end < 0 or length_at < 0:
            self._buffer = data
            return
        body_bytes = int(data[length_at + 16 : data.find(b"\r\n", length_at)])
        if len(data) < head_end + 4 + body_bytes:
            self._buffer = data
            return
        self._buffer = b""
        status = data[9:12]
        outcome = status.decode()
        if status == b"200":
            outcome = "refused" if b'"verdict":"refused"' in data else "admitted"
        self._tally.done(self._started_s, time.perf_counter(), outcome)
        if self._tally.is_over:
            return
        if status in RETRY_STATUSES:
            asyncio.get_running_loop().call_later(RETRY_AFTER_S, self._again)
        else:
            self._pacer.next(self._send)

    def _again(self) -> None:
        """The same request, with the same id: what a good client does."""
        self._started_s = time.perf_counter()
        if self._transport is not None:
            self._transport.write(self._last)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._tally.is_over:
            self._tally.outcomes["connection lost"] += 1


class Answer(msgspec.Struct, gc=False):
    """What is read of a verdict or an error."""

    id: str = ""
    verdict: str = ""
    code: str = ""


class Frame(msgspec.Struct, gc=False):
    """What is read of any frame."""

    t: str
    id: str = ""
    verdict: str = ""
    code: str = ""
    items: list[Answer] = []


_decode = msgspec.msgpack.Decoder(Frame).decode


class ScanSocket(picows.WSListener):
    """One scanner's socket with a window of scans under way."""

    def __init__(
        self, hello: bytes, plan: Iterator[Pieces], ids: RequestIds, tally: Tally, pacer: Pacer, orders: Orders
    ) -> None:
        self._hello = hello
        self._plan = plan
        self._ids = ids
        self._tally = tally
        self._pacer = pacer
        self._per_frame = orders.scans_per_frame
        self._window = max(1, orders.window // orders.scans_per_frame)
        self._head = scans_head(orders.scans_per_frame) if orders.scans_per_frame > 1 else b""
        self._sent: dict[str, float] = {}
        self._transport: Any = None
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def itself(self) -> ScanSocket:
        """For whoever wants a factory."""
        return self

    def on_ws_connected(self, transport: Any) -> None:
        self._transport = transport
        transport.send(picows.WSMsgType.BINARY, self._hello)

    def begin(self) -> None:
        """Fills the window."""
        for _ in range(self._window):
            self._pacer.next(self._send)

    def _send(self, due_s: float) -> None:
        pieces = []
        for _ in range(self._per_frame):
            before, after = next(self._plan)
            request_id = self._ids.next()
            self._sent[request_id.decode()] = due_s
            pieces.append(before + request_id + after)
        self._transport.send(picows.WSMsgType.BINARY, self._head + b"".join(pieces))

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type != picows.WSMsgType.BINARY:
            return
        answer = _decode(frame.get_payload_as_memoryview())
        if answer.t == "verdict" or answer.t == "error":
            self._answered(answer)
            self._refill(1)
        elif answer.t == "verdicts":
            for item in answer.items:
                self._answered(item)
            self._refill(len(answer.items))
        elif answer.t == "welcome":
            self.welcomed.set_result(None)

    _answers_owed = 0

    def _refill(self, answers: int) -> None:
        self._answers_owed += answers
        while self._answers_owed >= self._per_frame:
            self._answers_owed -= self._per_frame
            if not self._tally.is_over:
                self._pacer.next(self._send)

    def _answered(self, answer: Answer | Frame) -> None:
        now_s = time.perf_counter()
        started_s = self._sent.pop(answer.id, now_s)
        self._tally.done(started_s, now_s, answer.verdict or answer.code)

    def on_ws_disconnected(self, transport: Any) -> None:
        if not self._tally.is_over:
            self._tally.outcomes["connection lost"] += 1


async def _connect_rest(orders: Orders, tally: Tally, pacer: Pacer, cards: list[list[str]]) -> list[RestConnection]:
    loop = asyncio.get_running_loop()
    ids = RequestIds()
    host = f"{orders.host}:{orders.port}"
    connections = []
    for number, share in enumerate(cards):
        if orders.is_get:
            plan = in_and_out([rest_get(host, orders.path)], [])
        else:
            event = orders.events[number % len(orders.events)]
            token = event.tokens[number // len(orders.events) % len(event.tokens)]
            ins, outs = (
                [rest_check_in(host, orders.path, token, event.id, credential, direction) for credential in share]
                for direction in ("entry", "exit")
            )
            plan = in_and_out(ins, outs)
        _, connection = await loop.create_connection(
            lambda plan=plan: RestConnection(plan, ids, tally, pacer),
            orders.host,
            orders.port,
            ssl=orders.ssl_context(),
        )
        connections.append(connection)
    return connections


async def _connect_sockets(orders: Orders, tally: Tally, pacer: Pacer, cards: list[list[str]]) -> list[ScanSocket]:
    ids = RequestIds()
    sockets = []
    for number, share in enumerate(cards):
        event = orders.events[number % len(orders.events)]
        token = event.tokens[number // len(orders.events) % len(event.tokens)]
        hello = msgspec.msgpack.encode({"t": "hello", "token": token, "event_id": event.id})
        is_frame = orders.scans_per_frame == 1
        ins, outs = (
            [scan_item(credential, direction, is_frame=is_frame) for credential in share]
            for direction in ("entry", "exit")
        )
        made = ScanSocket(hello, in_and_out(ins, outs), ids, tally, pacer, orders)
        await picows.ws_connect(
            # It looks at how many arguments there are, so nothing can be bound as a default.
            made.itself,
            f"{'ws' if orders.ca_file is None else 'wss'}://{orders.host}:{orders.port}/v1/scan",
            ssl_context=orders.ssl_context(),
            extra_headers={"Sec-WebSocket-Protocol": "mastervip.v1.msgpack"},
        )
        sockets.append(made)
    await asyncio.wait_for(asyncio.gather(*(socket.welcomed for socket in sockets)), 30)
    return sockets


async def run(orders: Orders) -> dict[str, Any]:
    """Connects, warms up, measures."""
    tally, pacer = Tally(), Pacer(orders.rate)
    credentials = orders.credentials or [""] * (orders.rest_connections + orders.sockets)
    parts = shares(credentials, orders.rest_connections + orders.sockets)
    rest = await _connect_rest(orders, tally, pacer, parts[: orders.rest_connections])
    sockets = await _connect_sockets(orders, tally, pacer, parts[orders.rest_connections :])
    pacing = asyncio.create_task(pacer.run()) if orders.rate else None
    for connection in rest:
        connection.begin()
    for socket in sockets:
        socket.begin()
    await asyncio.sleep(orders.warmup_s)
    print("begin", flush=True)  # noqa: T201 — the line that the benchmark waits for
    tally.is_measuring = True
    cpu_s, begun_s = time.process_time(), time.perf_counter()
    await asyncio.sleep(orders.seconds)
    tally.is_measuring = False
    tally.is_over = True
    cpu_s, took_s = time.process_time() - cpu_s, time.perf_counter() - begun_s
    print("end", flush=True)  # noqa: T201
    if pacing is not None:
        pacing.cancel()
    await asyncio.sleep(0.2)
    return _document(tally, cpu_s, took_s)


def _document(tally: Tally, cpu_s: float, took_s: float) -> dict[str, Any]:
    ordered = sorted(tally.latencies_us)

    def percentile_ms(part: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] / 1000, 3) if ordered else 0.0

    return {
        "scans": tally.scans,
        "seconds": round(took_s, 3),
        "per_s": round(tally.scans / took_s, 1),
        "latency_ms": {"p50": percentile_ms(0.5), "p95": percentile_ms(0.95), "p99": percentile_ms(0.99)},
        "outcomes": dict(tally.outcomes),
        "client_cpu_s": round(cpu_s, 3),
    }


def main() -> None:
    """Reads orders, obeys, reports."""
    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        document = runner.run(run(orders))
    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")


if __name__ == "__main__":
    main()
