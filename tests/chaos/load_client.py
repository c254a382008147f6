"""A client that keeps the rules, and keeps book: what it was told must be true, whatever is killed meanwhile.

Rules:
1. A command is in the file before it is sent, under a request id that it keeps for all its tries.
2. No answer is not "no": it is asked again, with growing pauses, until there is an answer or the client is stopped.
3. 429 and 503 are waited for as long as Retry-After says. Any other 5xx is asked again too, and is wrong.
4. Every outcome goes to the file. Now and then an answered command is asked once more: the outcome must be the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from gateway.ids import IdMaker
from tests.chaos.http_client import Answer, HttpClient, Lost

TRY_TIMEOUT_S = 7.0
PAUSE_S_MIN = 0.02
PAUSE_S_MAX = 0.5
STOP_TIMEOUT_S = 40.0
ASK_AGAIN_SHARE = 0.02
SOCKET_WINDOW = 6
RATE_PER_WORKER_MAX = 40
CATCH_UP_S_MAX = 2.0
KINDS_OF_WORKERS = 3
REFUSALS = frozenset(
    {"insufficient_points", "card_not_active", "card_revoked", "amount_invalid", "limit_reached"}
    | {"entry_unknown", "entry_not_reversible", "already_reversed"}
)

Json = dict[str, Any]
ids = IdMaker(lambda: time.time_ns() // 1_000_000, os.urandom)


class AckFile:
    """The book; see `storage.acks` for its format."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("ab", buffering=0)

    def write(self, kind: str, tenant: str, request_id: str, **more: Any) -> None:
        """Appends a line, which is with the kernel when this returns."""
        self._file.write(json.dumps({"t": kind, "tenant": tenant, "id": request_id, **more}).encode() + b"\n")

    def close(self) -> None:
        self._file.close()


@dataclass
class Tally:
    """What happened. `slowest` is latency, worker and begin of the command that took longest. `recovered`
    is, by worker, when the first answer came to a try that began after `marked_s`."""

    acked: int = 0
    tries: int = 0
    replayed: int = 0
    trouble: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    marked_s: float = 0.0
    recovered: dict[str, float] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)
    slowest: tuple[float, str, float] = (0.0, "", 0.0)

    def ok(self, worker: str, begun_s: float, first_s: float) -> None:
        """An outcome came for a try that began then, of a command that was first tried then."""
        now_s = time.monotonic()
        self.acked += 1
        self.latencies_s.append(now_s - first_s)
        self.slowest = max(self.slowest, (now_s - first_s, worker, first_s))
        if begun_s > self.marked_s:
            self.recovered.setdefault(worker, now_s)

    def mark(self) -> None:
        """From now on it is watched when each worker is answered again."""
        self.marked_s = time.monotonic()
        self.recovered.clear()


class Worker:
    """Has a share of one organisation's cards for itself, and one connection."""

    def __init__(
        self, name: str, fixtures: Json, cards: list[Json], tally: Tally, acks: AckFile, rng: random.Random
    ) -> None:
        self.name = name
        self.tenant: str = fixtures["org_id"]
        self.tally = tally
        self.acks = acks
        self.rng = rng
        self.stopping = asyncio.Event()
        self.interval_s = 0.05
        self._due_s = time.monotonic()
        self._cards = cards
        self._inside: dict[str, bool] = {}
        self._turn = rng.randrange(len(cards))
        self._asked = 0

    @property
    def has_met_all(self) -> bool:
        """Whether there was an answer for each of its cards: it does not ask twice round before."""
        return self._asked >= 2 * len(self._cards)

    def meet_all_again(self) -> None:
        """Makes `has_met_all` a question again."""
        self._asked = 0

    def next_card(self) -> Json:
        """Round robin, so that all cards are soon in memory."""
        self._asked += 1
        self._turn = (self._turn + 1) % len(self._cards)
        return self._cards[self._turn]

    def scan(self) -> Json:
        """In and out by turns; now and then the wrong way, to be refused."""
        card = self.next_card()
        is_inside = self._inside.get(card["id"], False)
        self._inside[card["id"]] = not is_inside
        if self.rng.random() < 0.05:
            is_inside = not is_inside
        return {"credential": card["credential"], "direction": "exit" if is_inside else "entry"}

    async def wait_for_turn(self) -> None:
        """Until the next command is due. Turns that passed meanwhile are made up for, up to `CATCH_UP_S_MAX`, so that
        the rate is the one asked for as long as answers come."""
        now_s = time.monotonic()
        self._due_s = max(self._due_s + self.interval_s, now_s - CATCH_UP_S_MAX)
        await asyncio.sleep(max(0.0, self._due_s - now_s))

    async def pause(self, seconds: float) -> None:
        """Sleeps, also while stopping: a command under way is still to be answered."""
        await asyncio.sleep(seconds)

    async def run(self) -> None:
        """Until stopped."""
        raise NotImplementedError


class RestWorker(Worker):
    """Check-ins with a device's token, or points with the organisation's key."""

    def __init__(
        self, *more: Any, host: str, port: int, fixtures: Json, does_points: bool, reverses: bool = True
    ) -> None:
        super().__init__(*more)
        self._reverses = reverses
        event = self.rng.choice(fixtures["events"])
        self._event_id: str = event["id"]
        self._does_points = does_points
        token = fixtures["api_key"] if does_points else self.rng.choice(event["scanners"])["token"]
        self._http = HttpClient(host, port, token, TRY_TIMEOUT_S)
        self._entries: dict[str, list[int]] = {}

    async def run(self) -> None:
        while not self.stopping.is_set():
            await self.wait_for_turn()
            path, body = (
                self._points() if self._does_points else ("/v1/checkins", self.scan() | {"event_id": self._event_id})
            )
            await self._settle(path, json.dumps(body).encode())
        await self._http.close()

    def _points(self) -> tuple[str, Json]:
        card_id: str = self.next_card()["id"]
        dice = self.rng.random()
        seqs = self._entries.get(card_id)
        if dice < 0.15 and seqs and self._reverses:
            return f"/v1/cards/{card_id}/points/reverse", {"entry_seq": self.rng.choice(seqs)}
        if dice < 0.5:
            return f"/v1/cards/{card_id}/points/redeem", {"amount": self.rng.randint(1, 60)}
        return f"/v1/cards/{card_id}/points/award", {"amount": self.rng.randint(1, 40), "note": "chaos"}

    async def _settle(self, path: str, body: bytes) -> None:
        """One command to its outcome."""
        request_id = ids.request_id()
        self.acks.write("sent", self.tenant, request_id)
        first_s = time.monotonic()
        failures = 0
        repeats = 1 + (self.rng.random() < ASK_AGAIN_SHARE)
        while repeats:
            begun_s = time.monotonic()
            self.tally.tries += 1
            try:
                answer = await self._http.post(path, request_id, body)
            except Lost as lost:
                self.tally.trouble[f"lost {str(lost).partition(':')[0]}"] += 1
                wait_s = 0.0
            else:
                wait_s = self._take(request_id, answer)
                if wait_s < 0:
                    self.tally.ok(self.name, begun_s, first_s)
                    repeats -= 1
                    continue
            if self.stopping.is_set() and time.monotonic() - first_s > STOP_TIMEOUT_S:
                return
            failures += 1
            backoff_s = min(PAUSE_S_MAX, PAUSE_S_MIN * 2**failures) * self.rng.uniform(0.5, 1.0)
            await self.pause(max(wait_s, backoff_s))

    def _take(self, request_id: str, answer: Answer) -> float:
        """Keeps book of an answer. Returns how long to wait before asking again, below 0 for an outcome."""
        document = json.loads(answer.body) if answer.body else {}
        if answer.status == 200:
            self.tally.replayed += document.pop("replayed")
            self.acks.write("ack", self.tenant, request_id, outcome=document)
            if "entry" in document and document["entry"]["kind"] == "award":
                self._entries.setdefault(document["card_id"], []).append(document["entry"]["seq"])
            return -1.0
        code = document.get("code", "")
        if answer.status == 409 and code in REFUSALS:
            self.acks.write("ack", self.tenant, request_id, outcome={"code": code})
            return -1.0
        self.tally.trouble[f"{answer.status} {code}"] += 1
        if answer.status in (429, 503):
            return float(answer.headers.get(b"retry-after", b"0"))
        if answer.status < 500:
            self.tally.wrong.append(f"{request_id}: {answer.status} {document}")
            self.acks.write("rejected", self.tenant, request_id, code=code)
            return -1.0
        self.tally.wrong.append(f"{request_id}: {answer.status} {document}")
        return 0.0


@dataclass
class UnderWay:
    """A scan without an answer."""

    body: Json
    first_s: float
    begun_s: float = 0.0


class SocketWorker(Worker):
    """A scanner on `/v1/scan`. Scans without an answer are sent again on the next connection."""

    def __init__(self, *more: Any, host: str, port: int, fixtures: Json) -> None:
        super().__init__(*more)
        event = self.rng.choice(fixtures["events"])
        self._event_id: str = event["id"]
        self._token: str = self.rng.choice(event["scanners"])["token"]
        self._url = f"ws://{host}:{port}/v1/scan"
        self._under_way: dict[str, UnderWay] = {}

    async def run(self) -> None:
        failures = 0
        stopped_s = 0.0
        while not self.stopping.is_set() or self._under_way:
            if self.stopping.is_set():
                stopped_s = stopped_s or time.monotonic()
                if time.monotonic() - stopped_s > STOP_TIMEOUT_S:
                    return
            try:
                async with (
                    asyncio.timeout(None) as patience,
                    connect(self._url, subprotocols=["mastervip.v1.json"], compression=None, open_timeout=3) as socket,  # type: ignore[list-item]
                ):
                    patience.reschedule(None)
                    await self._talk(socket)
                    failures = 0
            except (OSError, TimeoutError, WebSocketException) as error:
                self.tally.trouble[f"socket {type(error).__name__}"] += 1
                failures += 1
                await self.pause(min(PAUSE_S_MAX, PAUSE_S_MIN * 2**failures) * self.rng.uniform(0.5, 1.0))

    async def _talk(self, socket: ClientConnection) -> None:
        hello = {"t": "hello", "token": self._token, "event_id": self._event_id}
        await socket.send(json.dumps(hello))
        async with asyncio.timeout(TRY_TIMEOUT_S):
            welcome = json.loads(await socket.recv())
        if welcome["t"] != "welcome":
            self.tally.trouble[f"socket {welcome.get('code')}"] += 1
            await self.pause(welcome.get("retry_after_ms", 100) / 1000)
            return
        for request_id in list(self._under_way):
            await self._send(socket, request_id)
        sending = asyncio.create_task(self._send_more(socket))
        try:
            while not self.stopping.is_set() or self._under_way:
                async with asyncio.timeout(TRY_TIMEOUT_S):
                    await self._take(socket, json.loads(await socket.recv()))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_more(self, socket: ClientConnection) -> None:
        while not self.stopping.is_set():
            await self.wait_for_turn()
            if len(self._under_way) < SOCKET_WINDOW:
                request_id = ids.request_id()
                self.acks.write("sent", self.tenant, request_id)
                self._under_way[request_id] = UnderWay(self.scan(), time.monotonic())
                await self._send(socket, request_id)

    async def _send(self, socket: ClientConnection, request_id: str) -> None:
        scan = self._under_way.get(request_id)
        if scan is not None:
            scan.begun_s = time.monotonic()
            self.tally.tries += 1
            await socket.send(json.dumps({"t": "scan", "id": request_id, **scan.body}))

    async def _take(self, socket: ClientConnection, frame: Json) -> None:
        if frame["t"] == "ping":
            await socket.send(json.dumps({"t": "pong", "n": frame["n"]}))
            return
        scan = self._under_way.get(frame.get("id", ""))
        if scan is None:
            return
        request_id: str = frame["id"]
        if frame["t"] == "verdict":
            del self._under_way[request_id]
            self.tally.replayed += frame.pop("replayed")
            self.acks.write("ack", self.tenant, request_id, outcome=frame)
            self.tally.ok(self.name, scan.begun_s, scan.first_s)
        elif frame["t"] == "error":
            self.tally.trouble[f"socket {frame['code']}"] += 1
            if "retry_after_ms" not in frame:
                del self._under_way[request_id]
                self.tally.wrong.append(f"{request_id}: {frame}")
                self.acks.write("rejected", self.tenant, request_id, code=frame["code"])
                return
            asyncio.get_running_loop().call_later(
                frame["retry_after_ms"] / 1000, lambda: asyncio.ensure_future(self._again(socket, request_id))
            )

    async def _again(self, socket: ClientConnection, request_id: str) -> None:
        try:
            await self._send(socket, request_id)
        except (OSError, WebSocketException):
            return  # the next connection sends it


class Load:
    """All workers: per organisation some over REST, for points and over sockets; together `rate` commands a second.

    Without `reverses` nothing is reversed: that needs Postgres once the entry has left memory."""

    def __init__(
        self,
        base_url: str,
        organisations: list[Json],
        acks: Path,
        *,
        rate: float,
        seed: int,
        reverses: bool = True,
    ) -> None:
        self.tally = Tally()
        self._acks = AckFile(acks)
        host, _, port = base_url.removeprefix("http://").partition(":")
        where: Json = {"host": host, "port": int(port)}
        self.workers: list[Worker] = []
        # A worker waits for each answer before it asks again: so many of them make the rate.
        per_kind = max(1, ceil(rate / (RATE_PER_WORKER_MAX * KINDS_OF_WORKERS * len(organisations))))
        for fixtures in organisations:
            kinds: list[Callable[..., Worker]] = []
            for _ in range(per_kind):
                kinds += [
                    lambda *a, f=fixtures: RestWorker(*a, **where, fixtures=f, does_points=False),
                    lambda *a, f=fixtures: RestWorker(*a, **where, fixtures=f, does_points=True, reverses=reverses),
                    lambda *a, f=fixtures: SocketWorker(*a, **where, fixtures=f),
                ]
            for number, kind in enumerate(kinds):
                name = f"{fixtures['org_id']}/{('rest', 'points', 'socket')[number % 3]}-{number // 3}"
                cards = fixtures["cards"][number :: len(kinds)]
                rng = random.Random(f"{seed}/{name}")
                self.workers.append(kind(name, fixtures, cards, self.tally, self._acks, rng))
        for worker in self.workers:
            worker.interval_s = len(self.workers) / rate
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins."""
        self._tasks = [asyncio.create_task(worker.run()) for worker in self.workers]

    async def stop(self) -> None:
        """No new commands; what is under way gets its answer. Raises what went wrong in a worker."""
        for worker in self.workers:
            worker.stopping.set()
        await asyncio.gather(*self._tasks)
        self._acks.close()

    def check(self) -> None:
        """Raises what ended a worker."""
        for task in self._tasks:
            if task.done():
                task.result()

    def meet_all_again(self) -> None:
        """From now on `wait_until_all_met` waits for cards that are asked about anew."""
        for worker in self.workers:
            worker.meet_all_again()

    async def wait_until_all_met(self, timeout_s: float) -> None:
        """Waits until each card was asked about and answered. Raises `TimeoutError`, naming who is not so far."""
        deadline_s = time.monotonic() + timeout_s
        while waiting := [worker.name for worker in self.workers if not worker.has_met_all]:
            self.check()
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"after {timeout_s} s not all cards were asked about by {waiting}")
            await asyncio.sleep(0.02)

    async def wait_until_answered(self, timeout_s: float) -> float:
        """Waits until every worker had an answer to a try that it began after the mark; returns how long after the mark
        the slowest one had it. Raises `TimeoutError`, naming who waits."""
        deadline_s = self.tally.marked_s + timeout_s
        while True:
            self.check()
            waiting = [worker.name for worker in self.workers if worker.name not in self.tally.recovered]
            if not waiting:
                return max(self.tally.recovered.values()) - self.tally.marked_s
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"no answer after {timeout_s} s for {waiting}; trouble: {dict(self.tally.trouble)}")
            await asyncio.sleep(0.02)
