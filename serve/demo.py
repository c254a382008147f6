"""`mastervip demo`: a system with sample data, and a few simulated scanners at human pace, so that there is something
to look at. Data is made once per data directory.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from pathlib import Path
from typing import Any

import httpx
import msgspec
from click import echo
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from gateway.ids import IdMaker
from serve.clocks import wall_clock_ms
from serve.connection import Connection
from serve.seed import SeedError, seed, write_fixtures

EVENTS = 3
SCANNERS_PER_EVENT = 2
PAUSE_S = (0.4, 2.0)
RECONNECT_S = (0.5, 2.0)
ANSWER_TIMEOUT_S = 10.0
SUBPROTOCOL = Subprotocol("mastervip.v1.json")
# Of a hundred scans: people who leave, people who try to get in again, and codes that are none.
EXIT_PERCENT = 30
AGAIN_PERCENT = 8
FORGED_PERCENT = 3

Json = dict[str, Any]


class Demo:
    """Runs beside the system until it stops."""

    def __init__(self, members: int) -> None:
        self._members = members
        self._ids = IdMaker(wall_clock_ms, os.urandom)

    def run(self, connection: Connection, stopping: threading.Event) -> None:
        """Called by `up`, in a thread, once the system is ready."""
        try:
            asyncio.run(self._run(connection, stopping))
        except SeedError as error:
            echo(f"the sample data could not be made: {error}", err=True)

    async def _run(self, connection: Connection, stopping: threading.Event) -> None:
        fixtures = await self._fixtures(connection)
        for event in fixtures["events"]:
            echo(f"{event['name']:<16} {connection.base_url}/board/{event['id']}#token={fixtures['board_token']}")
        echo(f"{'API':<16} {connection.base_url}/docs")
        socket_url = connection.base_url.replace("http", "ws", 1) + "/v1/scan"
        # Each event has guests of its own.
        doors = [(event, _Door(fixtures["cards"][number::EVENTS])) for number, event in enumerate(fixtures["events"])]
        scanners = [
            asyncio.create_task(self._scan_forever(socket_url, event, scanner, door))
            for event, door in doors
            for scanner in event["scanners"][:SCANNERS_PER_EVENT]
        ]
        await asyncio.to_thread(stopping.wait)
        for scanner in scanners:
            scanner.cancel()
        await asyncio.gather(*scanners, return_exceptions=True)

    async def _fixtures(self, connection: Connection) -> Json:
        """The sample data of this data directory, made now if it is new."""
        path = Path(connection.data) / "demo.json"
        if path.exists():
            kept: Json = msgspec.json.decode(path.read_bytes())
            return kept
        fixtures = await seed(connection.base_url, connection.superadmin, self._members, EVENTS)
        fixtures["board_token"] = await self._board_token(fixtures)
        write_fixtures(path, fixtures)
        return fixtures

    async def _board_token(self, fixtures: Json) -> str:
        """A key that may look and nothing else: it stands in an address."""
        headers = {"Authorization": f"Bearer {fixtures['api_key']}", "Idempotency-Key": self._ids.request_id()}
        async with httpx.AsyncClient(base_url=fixtures["base_url"]) as client:
            answer = await client.post(
                f"/v1/orgs/{fixtures['org_id']}/api-keys", json={"name": "Boards", "scopes": ["read"]}, headers=headers
            )
        if not answer.is_success:
            raise SeedError(f"no key for the boards: {answer.status_code} {answer.text[:500]}")
        key: str = answer.json()["key"]
        return key

    async def _scan_forever(self, url: str, event: Json, scanner: Json, door: _Door) -> None:
        while True:
            try:
                async with connect(url, subprotocols=[SUBPROTOCOL], compression=None) as socket:
                    await self._talk(socket, event, scanner, door)
            except (OSError, WebSocketException, TimeoutError):
                await asyncio.sleep(random.uniform(*RECONNECT_S))

    async def _talk(self, socket: ClientConnection, event: Json, scanner: Json, door: _Door) -> None:
        gate = random.choice(event["gates"])["id"]
        hello = {"t": "hello", "token": scanner["token"], "event_id": event["id"], "gate_id": gate}
        await socket.send(msgspec.json.encode(hello).decode())
        while True:
            await asyncio.sleep(random.uniform(*PAUSE_S))
            asked = door.next_scan()
            scan = {"t": "scan", "id": self._ids.request_id(), **asked}
            await socket.send(msgspec.json.encode(scan).decode())
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                door.take(await _answer(socket, scan["id"]), asked["direction"])


class _Door:
    """Who comes to one event, and who is inside."""

    def __init__(self, cards: list[Json]) -> None:
        self._cards = {card["id"]: card for card in cards}
        self._inside: set[str] = set()

    def next_scan(self) -> Json:
        """The next person's credential and direction."""
        chance = random.randrange(100)
        outside = [card_id for card_id in self._cards if card_id not in self._inside]
        if chance < FORGED_PERCENT:
            return {"credential": "MV1:NOT-A-CARD", "direction": "entry"}
        if self._inside and (chance < EXIT_PERCENT or not outside):
            return {"credential": self._credential(random.choice(sorted(self._inside))), "direction": "exit"}
        if self._inside and chance < EXIT_PERCENT + AGAIN_PERCENT:
            return {"credential": self._credential(random.choice(sorted(self._inside))), "direction": "entry"}
        return {"credential": self._credential(random.choice(outside)), "direction": "entry"}

    def take(self, verdict: Json, direction: str) -> None:
        """Notes who is inside now. After a restart of the demo it learns so from refusals."""
        card_id: str = verdict.get("card_id") or ""
        if card_id not in self._cards:
            return
        if verdict["verdict"] == "admitted":
            is_inside = direction == "entry"
        elif verdict["reason"] in ("already_admitted", "not_inside"):
            is_inside = verdict["reason"] == "already_admitted"
        else:
            return
        if is_inside:
            self._inside.add(card_id)
        else:
            self._inside.discard(card_id)

    def _credential(self, card_id: str) -> str:
        credential: str = self._cards[card_id]["credential"]
        return credential


async def _answer(socket: ClientConnection, scan_id: str) -> Json:
    """The verdict on a scan; what else the server says meanwhile is of no interest here."""
    while True:
        frame: Json = msgspec.json.decode(await socket.recv())
        if frame["t"] == "ping":
            await socket.send(msgspec.json.encode({"t": "pong", "n": frame["n"]}).decode())
        elif frame["t"] in ("verdict", "error") and frame.get("id") == scan_id:
            return frame if frame["t"] == "verdict" else {}
