"""The sockets of the edge on a real server at 127.0.0.1, with an engine, an identity and live topics that tests
command."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from actors.codec import Message
from actors.commands import CheckIn
from actors.facts import ScanJudged
from actors.ports import StoreUnavailable
from actors.queries import GetEvent, GetTopic
from actors.replies import (
    BoardRow,
    BoardView,
    Digest,
    Done,
    EventFeed,
    EventView,
    Failed,
    Reply,
    ScanSummary,
    TopicView,
    Update,
)
from actors.terms import EventTerms, Gate
from gateway.cors import Cors, FixedOrigins
from gateway.credentials import CredentialBook
from gateway.doorway import Doorway
from gateway.http import AsgiApp, Receive, Scope, Send
from gateway.identity.callers import Caller
from gateway.ids import IdMaker
from gateway.live_hub import LiveHub
from gateway.memory_live import MemoryLive
from gateway.problems import Problem
from gateway.proxies import TrustedProxies
from gateway.sockets import limits
from gateway.sockets.connection import OpenSockets
from gateway.sockets.live import LiveEndpoint
from gateway.sockets.scan import ScanEndpoint
from tests.edge.edge import memory_limiter

NOW_MS = 1_795_341_600_123
TENANT, EVENT = "org_a", "evt_a"
DEVICE_TOKEN, KEY_TOKEN, FOREIGN_TOKEN, OTHER_DEVICE_TOKEN = "device", "key", "foreign", "other-device"
TOPIC = f"event:{EVENT}"
JSON, MSGPACK = "mastervip.v1.json", "mastervip.v1.msgpack"
UPDATES_KEPT = 32
END_TIMEOUT_S = 0.1


@dataclass
class FakeTopic:
    """A topic as a host keeps it: offsets that grow by one within an epoch, and the last updates."""

    data: EventFeed | BoardView
    epoch: int = 1
    offset: int = 0
    kept: deque[Update] = field(default_factory=lambda: deque(maxlen=UPDATES_KEPT))


class FakeEngine:
    """Answers at the next turn of the loop. `held` collects scans instead of answering while `is_holding`."""

    def __init__(self, source: MemoryLive) -> None:
        self.source = source
        self.topics: dict[tuple[str, str], FakeTopic] = {}
        self.check_ins: list[CheckIn] = []
        self.questions: list[GetTopic] = []
        self.held: list[tuple[CheckIn, Callable[[Reply], None]]] = []
        self.is_holding = False
        self.failure: Failed | None = None
        # Answers about topics wait for `answers_topic`; with `answers_early` they tell how it was when they were asked.
        self.answers_topic = asyncio.Event()
        self.answers_topic.set()
        self.answers_early = False
        self.loses: Callable[[Digest], bool] = lambda _digest: False

    async def ask(self, message: Message) -> Reply:
        await asyncio.sleep(0)
        if self.failure is not None:
            return self.failure
        if isinstance(message, GetEvent):
            if (message.tenant_id, message.event_id) != (TENANT, EVENT):
                return Failed("event_unknown", "there is no such event")
            return event_view()
        assert isinstance(message, GetTopic)
        self.questions.append(message)
        early = self.topic_view(message)
        await self.answers_topic.wait()
        return early if self.answers_early else self.topic_view(message)

    def topic_view(self, question: GetTopic) -> Reply:
        topic = self.topics.get((question.tenant_id, question.topic))
        if topic is None:
            return Failed("event_unknown", "there is no such event")
        oldest = topic.offset - len(topic.kept)
        if question.since_epoch == topic.epoch and oldest <= question.since_offset <= topic.offset:
            missed = tuple(update for update in topic.kept if update.offset > question.since_offset)
            return TopicView(question.topic, topic.epoch, topic.offset, True, None, missed)
        return TopicView(question.topic, topic.epoch, topic.offset, False, topic.data)

    def publish(self, tenant_id: str, name: str, data: EventFeed | BoardView) -> None:
        """What a host does when a topic changed; `loses` may swallow the message."""
        topic = self.topics[(tenant_id, name)]
        topic.offset += 1
        topic.data = data
        update = Update(topic.offset, data)
        topic.kept.append(update)
        digest = Digest(tenant_id, name, topic.epoch, update)
        if not self.loses(digest):
            self.source.publish(digest)

    def restart(self, tenant_id: str, name: str) -> None:
        """Another host took the partition over: a new epoch that begins with a snapshot."""
        topic = self.topics[(tenant_id, name)]
        self.topics[(tenant_id, name)] = FakeTopic(topic.data, topic.epoch + 1)

    def submit(self, message: Message, on_reply: Callable[[Reply], None]) -> None:
        assert isinstance(message, CheckIn)
        self.check_ins.append(message)
        if self.is_holding:
            self.held.append((message, on_reply))
        else:
            asyncio.get_running_loop().call_soon(on_reply, self.failure or judged(message))


def judged(check_in: CheckIn, reason: str = "", replayed: bool = False) -> Done:
    """A verdict on a scan."""
    return Done(
        ScanJudged(
            tenant_id=check_in.tenant_id,
            request_id=check_in.request_id,
            fingerprint=check_in.fingerprint,
            at_ms=NOW_MS,
            event_id=check_in.event_id,
            card_id=check_in.card_id,
            gate_id=check_in.gate_id,
            device_id=check_in.device_id,
            direction=check_in.direction,
            scanned_at_ms=check_in.scanned_at_ms or NOW_MS,
            reason=reason,
            member_id="mem_1",
            member_name="Lan",
            tier="gold",
            inside=12,
            admitted=15,
            refused=1,
            capacity=500,
            card_inside=True,
            card_entries=1,
            points_awarded=10,
            points_balance=260,
        ),
        replayed,
    )


def event_view() -> EventView:
    """The one event there is."""
    return EventView(TENANT, EVENT, EventTerms("Gala", 500, gates=(Gate("gate_1", "North"),)), 12, 15, 1, 7 << 16)


def feed(inside: int, scans: tuple[ScanSummary, ...] = (), event_id: str = EVENT) -> EventFeed:
    """An event's data; `inside` tells one update from the next."""
    return EventFeed(event_id, "Gala", inside, inside, 0, 500, inside << 16, scans)


def board(score: int) -> BoardView:
    """A leaderboard with one row."""
    return BoardView("points", "all", 1, (BoardRow(1, "card_1", "Lan", score),))


class GatedLive(MemoryLive):
    """A source whose subscriptions take until `gate` is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def subscribe(self, tenant_id: str, topic: str) -> None:
        await self.gate.wait()
        await super().subscribe(tenant_id, topic)


class FakeIdentity:
    """Four tokens; `revoked` ones are nobody's, and while `is_away` nobody is known."""

    def __init__(self) -> None:
        scopes = frozenset({"scan", "read"})
        self.callers = {
            DEVICE_TOKEN: Caller(TENANT, "device", frozenset({"scan"}), device_id="dev_1", event_id=EVENT),
            OTHER_DEVICE_TOKEN: Caller(TENANT, "device", frozenset({"scan"}), device_id="dev_2", event_id="evt_b"),
            KEY_TOKEN: Caller(TENANT, "api_key", scopes, key_id="key_1"),
            FOREIGN_TOKEN: Caller("org_b", "api_key", scopes, key_id="key_2"),
            "superadmin": Caller("", "superadmin", frozenset({"orgs"})),
            "powerless": Caller(TENANT, "api_key", key_id="key_3"),
        }
        self.is_away = False

        self.tries_left = 10**9
        self.origins = FixedOrigins()

    async def authenticate(self, scope: Scope, token: str) -> Caller | None:
        if self.is_away:
            raise StoreUnavailable("away")
        if token not in self.callers:
            self.tries_left -= 1
            if self.tries_left < 0:
                raise Problem("rate_limited", retry_after_ms=2_000)
        return self.callers.get(token)

    def may_open_socket(self, scope: Scope, tenant_id: str = "") -> bool:
        return Cors(self.origins, TrustedProxies()).may_open_socket(scope, tenant_id)


class Errors(logging.Handler):
    """What the server logs as an error: an exception that came out of our application."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class QuietServer(uvicorn.Server):
    """A server that leaves the process's signals alone, and ends at once when it is told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ending = asyncio.Event()

    async def main_loop(self) -> None:
        await self.ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's with `force_exit`, which gives connections and what they run a tenth of a second to end: no
        longer, and no longer than they need."""
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            await until(lambda: not state.connections and not state.tasks, END_TIMEOUT_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class SocketEdge:
    """Everything, running. `url` is "ws://127.0.0.1:PORT"."""

    def __init__(self, rates: dict[str, str] | None = None) -> None:
        self.source = GatedLive()
        self.engine = FakeEngine(self.source)
        self.identity = FakeIdentity()
        self.hub = LiveHub(self.engine, self.source)
        self.sockets = OpenSockets()
        self.credentials = CredentialBook(b"s" * 32)
        self.limiter = memory_limiter(**(rates or {}))
        self.doorway = Doorway(self.engine, self.credentials, clock_ms, self.limiter)
        self.errors = Errors()
        self.pages: dict[str, AsgiApp] = {}
        self.url = ""
        ids = IdMaker(clock_ms, lambda count: b"r" * count)
        self._endpoints: dict[str, AsgiApp] = {
            "/v1/scan": ScanEndpoint(self.engine, self.doorway, self.identity, self.hub, self.sockets, ids, clock_ms),
            "/v1/live": LiveEndpoint(self.identity, self.hub, self.sockets, ids, clock_ms),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "websocket":
            await self._endpoints[scope["path"]](scope, receive, send)
        else:
            page = next(page for path, page in self.pages.items() if scope["path"].startswith(path))
            await page(scope, receive, send)

    def credential(self, card_id: str = "card_1", tenant_id: str = TENANT) -> str:
        """A good credential."""
        return self.credentials.issue(tenant_id, card_id, "gold", NOW_MS)

    def connect(self, path: str, wire: str = JSON, token: str | None = DEVICE_TOKEN, **more: Any) -> connect:
        """A client's connection."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        more.setdefault("subprotocols", [Subprotocol(wire)])
        more = {"compression": None, "proxy": None, "ping_interval": None, "close_timeout": 0.2} | more
        return connect(self.url + path, additional_headers=headers, **more)

    @contextlib.asynccontextmanager
    async def scanner(self, wire: str = JSON, **hello: Any) -> AsyncIterator[Client]:
        """A scanner that has been welcomed."""
        async with self.connect("/v1/scan", wire) as connection:
            client = Client(connection, wire)
            await client.send({"t": "hello", "event_id": EVENT} | hello)
            welcome = await client.receive()
            assert welcome["t"] == "welcome", welcome
            yield client

    @contextlib.asynccontextmanager
    async def subscriber(self, wire: str = JSON, token: str = KEY_TOKEN, **more: Any) -> AsyncIterator[Client]:
        """A subscriber to live topics."""
        async with self.connect("/v1/live", wire, token, **more) as connection:
            yield Client(connection, wire)


class Client:
    """A websocket that speaks maps."""

    def __init__(self, connection: ClientConnection, wire: str = JSON) -> None:
        self.connection = connection
        self._is_json = wire == JSON

    async def send(self, fields: Any) -> None:
        encoded = msgspec.json.encode(fields).decode() if self._is_json else msgspec.msgpack.encode(fields)
        await self.connection.send(encoded)

    async def receive(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """The next frame that is not an `attendance` or a `ping`."""
        async with asyncio.timeout(timeout_s):
            while True:
                fields = await self.receive_any()
                if fields["t"] not in ("attendance", "ping"):
                    return fields

    async def receive_any(self) -> dict[str, Any]:
        data = await self.connection.recv()
        fields: dict[str, Any]
        if isinstance(data, str):
            assert self._is_json
            fields = msgspec.json.decode(data)
        else:
            assert not self._is_json
            fields = msgspec.msgpack.decode(data)
        return fields

    async def closed(self, timeout_s: float = 5.0) -> int:
        """Reads to the end; the close code."""
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(timeout_s):
                while True:
                    await self.connection.recv()
        code = self.connection.close_code
        assert code is not None
        return code


async def subscribe(client: Client, topic: str = TOPIC, since: dict[str, int] | None = None) -> None:
    """Asks for a topic."""
    await client.send({"t": "subscribe", "topic": topic} | ({"since": since} if since else {}))


class Follower:
    """A board: takes frames and fails on a hole or on anything twice. `inside` counts what was published, over epochs
    too."""

    def __init__(self) -> None:
        self.since: dict[str, int] | None = None
        self.last = -1
        self.seen = 0
        self.snapshots = 0

    def take(self, frame: dict[str, Any]) -> None:
        assert frame["t"] in ("snapshot", "update"), frame
        inside = frame["data"]["inside"]
        self.seen += 1
        if frame["t"] == "snapshot":
            assert frame.get("recovered") is (None if self.since is None else False)
            self.snapshots += 1
            assert inside >= self.last, "a snapshot never goes back"
            self.since = {"epoch": frame["epoch"], "offset": frame["offset"]}
        else:
            assert self.since is not None
            assert frame["offset"] == self.since["offset"] + 1, "no hole and nothing twice"
            assert inside == self.last + 1, "every update is there"
            self.since["offset"] = frame["offset"]
        self.last = inside


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Waits for what nobody announces."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def clock_ms() -> int:
    """It is always the same time."""
    return NOW_MS


@contextlib.asynccontextmanager
async def running_edge(send_buffer_bytes: int = 0, rates: dict[str, str] | None = None) -> AsyncIterator[SocketEdge]:
    """The edge on a real server; at the end, no exception may have come out of the application."""
    edge = SocketEdge(rates)
    edge.engine.topics[(TENANT, f"event:{EVENT}")] = FakeTopic(feed(0))
    edge.engine.topics[(TENANT, "leaderboard:points")] = FakeTopic(board(0))
    edge.engine.topics[("org_b", "event:evt_foreign")] = FakeTopic(feed(0, event_id="evt_foreign"))
    # With its protocol named, asyncio switches Nagle's algorithm off.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1_000)
    if send_buffer_bytes:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    config = uvicorn.Config(
        edge,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=limits.SERVER_FRAME_BYTES_MAX,
        lifespan="off",
        log_config=None,
        log_level="warning",
    )
    server = QuietServer(config)
    logging.getLogger("uvicorn.error").addHandler(edge.errors)
    hub = asyncio.create_task(edge.hub.run())
    limiting = asyncio.create_task(edge.limiter.run())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    edge.url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield edge
    finally:
        edge.sockets.drain()
        await until(lambda: not len(edge.sockets))
        server.ending.set()
        server.force_exit = True
        await serving
        hub.cancel()
        limiting.cancel()
        await asyncio.gather(hub, limiting, return_exceptions=True)
        logging.getLogger("uvicorn.error").removeHandler(edge.errors)
    assert edge.errors.lines == []
