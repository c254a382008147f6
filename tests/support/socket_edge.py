"""The sockets of the edge on a real server at 127.0.0.1, with an engine, an identity and live topics that tests
command."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
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
    CardChanges,
    Digest,
    Done,
    EventFeed,
    EventView,
    Failed,
    Reply,
    ScanSummary,
    TopicData,
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
from gateway.revocations import CardList
from gateway.sockets.entrance import SocketParts
from gateway.sockets.live import LiveEndpoint
from gateway.sockets.register import OpenSockets
from gateway.sockets.scan import ScanEndpoint
from gateway.sockets.told import LIVE_TOLD, SCAN_TOLD
from tests.edge.edge import memory_limiter
from tests.support.serving import Errors, serving

NOW_MS = 1_795_341_600_123
TENANT, EVENT = "org_a", "evt_a"
DEVICE_TOKEN, KEY_TOKEN, FOREIGN_TOKEN, OTHER_DEVICE_TOKEN = "device", "key", "foreign", "other-device"
TOPIC = f"event:{EVENT}"
JSON, MSGPACK = "mastervip.v1.json", "mastervip.v1.msgpack"
UPDATES_KEPT = 32


@dataclass
class FakeTopic:
    """A topic as a host keeps it: offsets that grow by one within an epoch, and the last updates."""

    data: TopicData
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

    def publish(self, tenant_id: str, name: str, data: TopicData) -> None:
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

    async def authenticate(self, scope: Scope, token: str, org_id: str = "") -> Caller | None:
        if self.is_away:
            raise StoreUnavailable("away")
        if token not in self.callers:
            self.tries_left -= 1
            if self.tries_left < 0:
                raise Problem("rate_limited", retry_after_ms=2_000)
        return self.callers.get(token)

    def may_open_socket(self, scope: Scope, tenant_id: str = "") -> bool:
        return Cors(self.origins, TrustedProxies()).may_open_socket(scope, tenant_id)


class FakeLists:
    """The revoked cards, as Postgres has them: changes by position, up to the one that is asked for unless `is_ahead`.
    While `gate` is shut it does not answer, while `is_away` it is away."""

    def __init__(self) -> None:
        self.changes: list[tuple[int, str, str]] = []
        # Of cards that were issued again.
        self.serials: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_away = self.is_ahead = False
        self.asked: list[tuple[int, int]] = []

    async def since(self, tenant_id: str, since: int, until: int, cards_max: int) -> CardList:
        self.asked.append((since, until))
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailable("away")
        held = [row for row in self.changes if tenant_id == TENANT and (self.is_ahead or row[0] <= until)]
        latest = {card_id: (position, state) for position, card_id, state in held}
        found = sorted((position, card, state) for card, (position, state) in latest.items() if position > since)
        if not since:
            found = [row for row in found if row[2] != "active" or row[1] in self.serials]
        page = found[:cards_max]
        has_more = len(found) > cards_max
        return CardList(
            [card for _, card, state in page if state != "active"],
            [card for _, card, state in page if state == "active"],
            page[-1][0] if has_more else max([since, until, *(position for position, _, _ in page[-1:])]),
            has_more,
            {card: self.serials[card] for _, card, _ in page if card in self.serials},
        )


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
        self.errors: Errors
        self.pages: dict[str, AsgiApp] = {}
        self.url = ""
        ids = IdMaker(clock_ms, lambda count: b"r" * count)
        self.lists = FakeLists()
        parts = SocketParts(self.engine, self.identity, self.hub, self.sockets, ids, clock_ms)
        self._endpoints: dict[str, AsgiApp] = {
            "/v1/scan": ScanEndpoint(parts, self.doorway, self.lists),
            "/v1/live": LiveEndpoint(parts),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "websocket":
            await self._endpoints[scope["path"]](scope, receive, send)
        else:
            page = next(page for path, page in self.pages.items() if scope["path"].startswith(path))
            await page(scope, receive, send)

    async def send_everybody_away(self) -> None:
        """As a gateway does that drains; the next connection finds another one."""
        await self.sockets.drain()
        self.sockets._draining = None

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


def _is(fields: dict[str, Any], told: Any) -> bool:
    """Whether a frame is what the documentation says."""
    try:
        return bool(msgspec.convert(fields, told))
    except msgspec.ValidationError:
        return False


class Client:
    """A websocket that speaks maps."""

    def __init__(self, connection: ClientConnection, wire: str = JSON) -> None:
        self.connection = connection
        self._is_json = wire == JSON

    async def send(self, fields: Any) -> None:
        encoded = msgspec.json.encode(fields).decode() if self._is_json else msgspec.msgpack.encode(fields)
        await self.connection.send(encoded)

    async def receive(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """The next frame that is not an `attendance`, a `revoked` or a `ping`."""
        async with asyncio.timeout(timeout_s):
            while True:
                fields = await self.receive_any()
                if fields["t"] not in ("attendance", "revoked", "ping"):
                    return fields

    async def next(self, kind: str, timeout_s: float = 5.0) -> dict[str, Any]:
        """The next frame of a kind."""
        async with asyncio.timeout(timeout_s):
            while (fields := await self.receive_any())["t"] != kind:
                pass
        return fields

    async def receive_any(self) -> dict[str, Any]:
        """The next frame, whatever it is."""
        data = await self.connection.recv()
        fields: dict[str, Any]
        if isinstance(data, str):
            assert self._is_json
            fields = msgspec.json.decode(data)
        else:
            assert not self._is_json
            fields = msgspec.msgpack.decode(data)
        assert any(_is(fields, told) for told in (*SCAN_TOLD, *LIVE_TOLD)), f"in no documentation: {fields}"
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
    for tenant_id in (TENANT, "org_b"):
        edge.engine.topics[(tenant_id, "revocations")] = FakeTopic(CardChanges(7, 7))
    edge.engine.topics[("org_b", "event:evt_foreign")] = FakeTopic(feed(0, event_id="evt_foreign"))
    hub = asyncio.create_task(edge.hub.run())
    limiting = asyncio.create_task(edge.limiter.run())
    try:
        async with serving(edge, send_buffer_bytes) as server:
            edge.url, edge.errors = server.url, server.errors
            try:
                yield edge
            finally:
                await edge.sockets.drain()
            assert not len(edge.sockets)
    finally:
        hub.cancel()
        limiting.cancel()
        await asyncio.gather(hub, limiting, return_exceptions=True)
