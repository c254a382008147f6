"""`mastervip demo`: a system with sample data, and a few simulated scanners at human pace, so that there is something
to look at. Data is made once per data directory.
"""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import msgspec
from click import echo

from gateway.client import (
    AsyncClient,
    AsyncMasterVip,
    MasterVipError,
    OutcomeUnknown,
    ScanError,
    ScanSocket,
    Unavailable,
)
from serve.connection import Connection
from serve.seed import SeedError, seed, write_fixtures

EVENTS = 3
SCANNERS_PER_EVENT = 2
PAUSE_S = (0.4, 2.0)
ANSWER_TIMEOUT_S = 10.0
# Of a hundred scans: people who leave, people who try to get in again, and codes that are none.
EXIT_PERCENT = 30
AGAIN_PERCENT = 8
FORGED_PERCENT = 3

Json = dict[str, Any]


class Demo:
    """Runs beside the system until it stops."""

    def __init__(self, members: int) -> None:
        self._members = members

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
        # Each event has guests of its own.
        doors = [(event, _Door(fixtures["cards"][number::EVENTS])) for number, event in enumerate(fixtures["events"])]
        async with AsyncMasterVip(connection.base_url, ssl_context=connection.ssl_context()) as vip:
            scanners = [
                asyncio.create_task(_scan_forever(vip.acting_as(scanner["token"]), event, door))
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
        fixtures = await seed(
            connection.base_url, connection.superadmin, self._members, EVENTS, connection.ssl_context()
        )
        fixtures["board_token"] = await self._board_token(connection, fixtures)
        write_fixtures(path, fixtures)
        return fixtures

    async def _board_token(self, connection: Connection, fixtures: Json) -> str:
        """A key that may look and nothing else: it stands in an address."""
        key = fixtures["api_key"]
        async with AsyncMasterVip(connection.base_url, key, ssl_context=connection.ssl_context()) as vip:
            try:
                made = await vip.orgs.add_api_key(fixtures["org_id"], name="Boards", scopes=["read"])
            except MasterVipError as error:
                raise SeedError(f"no key for the boards: {error}") from error
        board_key: str = made["key"]
        return board_key


async def _scan_forever(vip: AsyncClient, event: Json, door: _Door) -> None:
    """One scanner, until it is cancelled or told not to come back."""
    gate_id = random.choice(event["gates"])["id"]
    while True:
        try:
            async with vip.scan_socket(event["id"], gate_id=gate_id) as scanner:
                await _scan_on(scanner, door)
        except Unavailable:
            continue  # it has waited long enough by itself
        except MasterVipError as error:
            echo(f"a scanner of {event['name']} stops: {error}", err=True)
            return


async def _scan_on(scanner: ScanSocket, door: _Door) -> None:
    while True:
        await asyncio.sleep(random.uniform(*PAUSE_S))
        asked = door.next_scan()
        try:
            verdict = await scanner.scan(**asked, timeout_s=ANSWER_TIMEOUT_S)
        except (OutcomeUnknown, ScanError, Unavailable):
            continue  # the door learns from a later scan where this guest is
        door.take(verdict, asked["direction"])


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
