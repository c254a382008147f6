"""Scanners without a network, against a real system: the wire is cut, the process is killed, and the system hears of
every scan once, in whatever order."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from gateway.client import AsyncMasterVip
from tests.integration.conftest import SeededSystem
from tests.support.tcp_proxy import TcpProxy

Json = dict[str, Any]
DEVICES = 20
SCANS_PER_DEVICE = 12
WITHIN_S = 60


@pytest.fixture
async def vip(seeded_system: SeededSystem) -> AsyncIterator[AsyncMasterVip]:
    async with AsyncMasterVip(seeded_system.base_url, seeded_system.fixtures["api_key"]) as client:
        yield client


class Door:
    """The scanner as somebody runs it, in a process of its own."""

    def __init__(self, url: str, state: Path, *more: str) -> None:
        self._arguments = ("--url", url, "--state", str(state), "--drain-seconds", str(WITHIN_S), *more)
        self._process: Process | None = None
        self._told = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self.errors: list[str] = []

    async def start(self) -> None:
        """Ready to scan."""
        command = (sys.executable, "-m", "loadtest.offline_scanner", *self._arguments)
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        self._reader = asyncio.create_task(self._read(self._process))
        async with asyncio.timeout(WITHIN_S):
            while not any(line.startswith("ready") for line in self.errors):
                self._told.clear()
                await self._told.wait()
        self.errors.clear()

    async def scan(self, credential: str, scan_id: str, direction: str = "entry") -> Json:
        """What the door does."""
        process = self._running
        assert process.stdin is not None
        assert process.stdout is not None
        line = {"credential": credential, "scan_id": scan_id, "direction": direction}
        process.stdin.write(msgspec.json.encode(line) + b"\n")
        async with asyncio.timeout(WITHIN_S):
            told: Json = msgspec.json.decode(await process.stdout.readline())
        assert told["scan_id"] == scan_id
        return told

    async def kill(self) -> None:
        """`kill -9`."""
        self._running.kill()
        await self._ended()

    async def end(self) -> int:
        """No more scans; the exit status, once it has told what it can."""
        assert self._running.stdin is not None
        self._running.stdin.close()
        return await self._ended()

    @property
    def _running(self) -> Process:
        assert self._process is not None, "it was started"
        return self._process

    async def _ended(self) -> int:
        async with asyncio.timeout(2 * WITHIN_S):
            status = await self._running.wait()
        assert self._reader is not None
        await self._reader
        return status

    async def _read(self, process: Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self.errors.append(line.decode().rstrip())
            self._told.set()


async def test_a_scanner_without_a_network_goes_on_and_is_killed_and_the_system_hears_of_every_scan_once(
    seeded_system: SeededSystem, vip: AsyncMasterVip, tmp_path: Path
) -> None:
    event = await vip.events.create("Offline", 1_000, gates=("Alone", "Other"))
    alone, other = (gate["id"] for gate in event["gates"])
    code = (await vip.devices.add(event["id"], gate_id=alone))["pairing_code"]
    cards = [card["credential"] for card in seeded_system.fixtures["cards"]]
    url = urlsplit(seeded_system.base_url)
    async with TcpProxy(url.hostname or "", url.port or 0) as wire:
        door = Door(f"http://127.0.0.1:{wire.port}", tmp_path / "scanner", "--pair", code)
        await door.start()
        decided = {"first": await door.scan(cards[0], "first")}
        wire.is_refusing = True
        wire.cut()
        decided["alone"] = await door.scan(cards[1], "alone")
        decided["again"] = await door.scan(cards[0], "again")
        decided["forged"] = await door.scan("MV1:HELLO", "forged")
        await vip.checkins.one(event["id"], cards[1], gate_id=other, scan_id="elsewhere")
        await door.kill()
        await door.start()
        assert await door.scan(cards[1], "alone") == decided["alone"], "what was decided stays decided"
        for number, card in enumerate(cards[2:52]):
            decided[f"many {number}"] = await door.scan(card, f"many {number}")
        wire.is_refusing = False
        while (await vip.events.attendance(event["id"]))["admitted"] < 10:
            pass  # the system has not heard of the first ones yet
        await door.kill()
        await door.start()
        decided["last"] = await door.scan(cards[52], "last")
        assert await door.end() == 0, door.errors
    assert decided["alone"] == {"scan_id": "alone", "verdict": "admitted", "reason": None, "alone": True}
    assert (decided["again"]["verdict"], decided["again"]["reason"]) == ("refused", "already_admitted")
    assert (decided["forged"]["verdict"], decided["forged"]["reason"]) == ("refused", "credential_invalid")
    async with asyncio.timeout(WITHIN_S):
        # The gateway that is asked need not be the one that took them in.
        while len(log := [scan async for scan in vip.events.scan_log(event["id"])]) < len(decided):
            pass
    told = {scan["scan_id"]: scan["verdict"] for scan in log}
    assert len(log) == len(told) == len(decided), "each once: all but the forged one, and the one at the other gate"
    assert {name: told.get(name) for name in decided if name != "forged"} == {
        name: decision["verdict"] for name, decision in decided.items() if name != "forged"
    }
    assert (await vip.events.attendance(event["id"]))["admitted"] == 54, "who came in twice is counted twice"
    (conflict,) = [found async for found in vip.events.conflicts(event["id"])]
    assert {conflict["scan"]["gate_id"], conflict["other"]["gate_id"]} == {alone, other}


async def test_two_days_of_offline_scans_end_alike_in_whatever_order_they_come(
    seeded_system: SeededSystem, vip: AsyncMasterVip
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    days = [(now - timedelta(hours=47), now - timedelta(hours=25)), (now - timedelta(hours=23), now)]
    sessions = [
        {"name": f"Day {number}", "doors_open": _time(opens), "doors_close": _time(closes)}
        for number, (opens, closes) in enumerate(days, 1)
    ]
    fields = {"capacity": 100, "gates": [{"name": "A"}, {"name": "B"}], "sessions": sessions}
    events = [_created(seeded_system, {"name": f"Festival {number}", **fields}) for number in (1, 2)]
    cards = seeded_system.fixtures["cards"][:15]
    random = Random(11)
    scans = []
    for device in range(DEVICES):
        for number in range(SCANS_PER_DEVICE):
            opens, closes = random.choice(days)
            at = opens + (closes - opens) * random.random()
            direction = "exit" if random.random() < 0.3 else "entry"
            scans.append((at, device, f"{device} {number}", random.choice(cards), random.randrange(2), direction))
    scans.sort(key=lambda scan: scan[:3])
    await _upload(vip, events[0], scans)
    shuffled = scans + random.sample(scans, len(scans) // 2)
    random.shuffle(shuffled)
    await _upload(vip, events[1], shuffled)
    first, second = [await _end_of(vip, event) for event in events]
    assert first == second
    assert first["log"]
    assert first["conflicts"], "cards that overlap are somewhere twice"


def _created(system: SeededSystem, event: Json) -> Json:
    answer = httpx.post(f"{system.base_url}/v1/events", json=event, headers=system.headers)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


async def _upload(vip: AsyncMasterVip, event: Json, scans: Sequence[tuple[Any, ...]]) -> None:
    gates = [gate["id"] for gate in event["gates"]]
    for start in range(0, len(scans), 40):
        items = [
            {
                "event_id": event["id"],
                "credential": card["credential"],
                "gate_id": gates[gate],
                "direction": direction,
                "scan_id": f"{event['id']} {scan_id}",
                "scanned_at": _time(at),
                "offline": True,
            }
            for at, _, scan_id, card, gate, direction in scans[start : start + 40]
        ]
        # One by one within a batch too: an id may stand in it twice.
        for outcome in await vip.checkins.many(list({item["scan_id"]: item for item in items}.values())):
            assert outcome["verdict"] == "admitted"


async def _end_of(vip: AsyncMasterVip, event: Json) -> Json:
    """All that can be seen of an event in the end, without what names the event itself."""
    names = {part["id"]: part["name"] for part in (*event["gates"], *event["sessions"])} | {event["id"]: "event"}
    attendance = await vip.events.attendance(event["id"])
    board = await vip.leaderboards.get("points", window=f"event:{event['id']}", limit=100)
    log = [scan async for scan in vip.events.scan_log(event["id"])]
    fields = ("card_id", "direction", "scanned_at", "verdict", "offline")
    return {
        "attendance": {name: attendance[name] for name in ("inside", "admitted")},
        "points": {row["card_id"]: row["score"] for row in board["items"]},
        "log": sorted((names[scan["gate_id"]], *(scan[field] for field in fields)) for scan in log),
        "conflicts": sorted(
            [_renamed(found, names, event["id"]) async for found in vip.events.conflicts(event["id"])],
            key=lambda one: msgspec.json.encode(one, order="sorted"),
        ),
    }


def _renamed(value: Any, names: dict[str, str], event_id: str) -> Any:
    if isinstance(value, dict):
        return {name: _renamed(inner, names, event_id) for name, inner in value.items() if name != "at"}
    if isinstance(value, list):
        return [_renamed(inner, names, event_id) for inner in value]
    return names.get(value, value.removeprefix(f"{event_id} ")) if isinstance(value, str) else value


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
