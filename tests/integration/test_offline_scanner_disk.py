"""The scanner that works offline: killed while it takes scans in and while it uploads them, nothing is lost and nothing
doubled; and two days of scans of twenty scanners come to the same, in whatever order they are uploaded."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gateway.client import AsyncClient, AsyncMasterVip
from gateway.client.live_socket import Subscription
from gateway.client.timing import Timing
from gateway.credentials import CredentialBook
from gateway.render import rfc3339
from loadtest.offline.disk import DirectoryInUse, Disk
from loadtest.offline.kept import Kept
from loadtest.offline.known import CardChanges, Device, Event
from loadtest.offline.scanner import OfflineScanner
from loadtest.offline.scans import Scan, Scans
from tests.integration.conftest import SeededSystem
from tests.support.running import ROOT
from tests.support.tcp_proxy import TcpProxy

Json = dict[str, Any]
NOBODY = "http://127.0.0.1:9"  # nothing listens on the port "discard"
DAY_MS = 24 * 3_600_000
DEVICES, CARDS, SCANS_PER_DEVICE = 20, 40, 24
TENANT = "org_01k3zq8w5x4v7m9n2p6r"


def prepared(directory: Path) -> list[str]:
    """A scanner that has once been online, made by hand; the credentials of the cards that it will see."""
    book = CredentialBook(b"m" * 32)
    disk = Disk(directory)
    kept = Kept(disk)
    kept.keep_token("mvd_none")
    event = Event("evt_1", "Gala", "open", "UTC", "after_exit")
    kept.keep_all(Device("dev_1", TENANT, event.id), event, book.public_keys(TENANT), (), CardChanges("c"))
    disk.close()
    return [book.issue(TENANT, f"card_{number}", "gold", 1_000) for number in range(400)]


def start(url: str, directory: Path, drain_s: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "loadtest.offline_scanner", "--url", url, "--state", str(directory)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*command, "--drain-seconds", str(drain_s)], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def line(credential: str, scan_id: str) -> str:
    return json.dumps({"credential": credential, "scan_id": scan_id}) + "\n"


def noted(directory: Path) -> list[Scan]:
    """The queue, looked at from outside."""
    disk = Disk(directory)
    try:
        return Scans(disk).waiting(100_000)
    finally:
        disk.close()


def test_killed_while_it_takes_scans_in(tmp_path: Path) -> None:
    """What was answered is on disk, once; and whoever asks again under the same id hears the same."""
    credentials = prepared(tmp_path)
    answers: dict[str, Json] = {}
    for killed_after in (1, 37, 90):
        process = start(NOBODY, tmp_path)
        assert process.stdin
        assert process.stdout
        process.stdin.write("".join(line(each, f"scan-{number}") for number, each in enumerate(credentials)))
        process.stdin.flush()
        heard = [json.loads(process.stdout.readline()) for _ in range(killed_after)]
        process.kill()
        heard += [json.loads(text) for text in process.stdout if text.endswith("\n")]
        process.communicate()
        for answer in heard:
            assert answers.setdefault(answer["scan_id"], answer) == answer
        scans = noted(tmp_path)
        ids = [scan.scan_id for scan in scans]
        assert len(set(ids)) == len(ids)
        assert ids == [f"scan-{number}" for number in range(len(ids))], "in their order, without holes"
        assert set(answers) <= set(ids)
    assert {answer["verdict"] for answer in answers.values()} == {"admitted"}


def test_one_scanner_uses_a_directory_at_a_time(tmp_path: Path) -> None:
    prepared(tmp_path)
    disk = Disk(tmp_path)
    with pytest.raises(DirectoryInUse):
        Disk(tmp_path)
    disk.close()
    assert (tmp_path / "scanner.db").stat().st_mode & 0o077 == 0, "it holds a token"


# --- with a running system --------------------------------------------------------------------------------------------


class House:
    """An organisation with an event, devices at its gates, and cards."""

    def __init__(self, organiser: AsyncClient, event: Json, devices: list[Json], cards: list[Json]) -> None:
        self.organiser = organiser
        self.event = event
        self.devices = devices
        self.cards = cards


async def house(vip: AsyncMasterVip, fixtures: Json, devices: int) -> House:
    organiser = vip.acting_as(fixtures["api_key"])
    event = await organiser.events.create("Festival", 500, gates=["North", "South"])
    paired = []
    for number in range(devices):
        gate_id = event["gates"][number % 2]["id"]
        code = await organiser.devices.add(event["id"], name=f"Door {number}", gate_id=gate_id)
        paired.append(await organiser.devices.pair(code["pairing_code"]))
    return House(organiser, event, paired, fixtures["cards"])


async def items(found: Any) -> list[Json]:
    return [item async for item in found]


async def whole_log(place: House, count: int) -> list[Json]:
    """The scan log once it has so many scans: the gateway that is asked need not be the one that took them in."""
    async with asyncio.timeout(20):
        while len(log := await items(place.organiser.events.scan_log(place.event["id"]))) < count:
            pass
    return log


async def prepared_online(url: str, directory: Path, device: Json, timing: Timing) -> None:
    """The scanner is online until it has all that it needs, and goes offline."""
    async with OfflineScanner(url, directory, token=device["token"], timing=timing) as scanner:
        async with asyncio.timeout(20):
            await scanner.wait_prepared()


async def test_killed_while_it_uploads(seeded_system: SeededSystem, tmp_path: Path) -> None:
    async with AsyncMasterVip(seeded_system.base_url) as vip:
        place = await house(vip, seeded_system.fixtures, 1)
        await place.organiser.events.change(place.event["id"], reentry="multiple")
        await prepared_online(seeded_system.base_url, tmp_path, place.devices[0], Timing())
        process = start(NOBODY, tmp_path)
        ids = [f"kill-{uuid4()}" for _ in range(1_500)]
        text = "".join(line(place.cards[number % CARDS]["credential"], scan_id) for number, scan_id in enumerate(ids))
        out, err = await asyncio.to_thread(process.communicate, text)
        assert (process.returncode, len(out.splitlines())) == (1, len(ids)), err + out[:600]
        while True:
            process = start(seeded_system.base_url, tmp_path, drain_s=30.0)
            assert process.stderr
            told = await asyncio.to_thread(process.stderr.readline)
            assert told.startswith("ready: Festival")
            # The first batches are answered, others are on their way.
            while told and not told.startswith("uploaded"):
                told = await asyncio.to_thread(process.stderr.readline)
            process.kill()
            await asyncio.to_thread(process.communicate)
            left = len(noted(tmp_path))
            if left < len(ids) // 2:
                break
        done = start(seeded_system.base_url, tmp_path, drain_s=30.0)
        _, err = await asyncio.to_thread(done.communicate, "")
        assert done.returncode == 0, err
        assert noted(tmp_path) == []
        log = await whole_log(place, len(ids))
        assert sorted(scan["scan_id"] for scan in log) == sorted(ids)
        attendance = await place.organiser.events.attendance(place.event["id"])
        assert (attendance["inside"], attendance["admitted"]) == (CARDS, len(ids))


async def test_news_of_cards_is_kept_for_when_there_is_no_network(seeded_system: SeededSystem, tmp_path: Path) -> None:
    async with AsyncMasterVip(seeded_system.base_url) as vip:
        place = await house(vip, seeded_system.fixtures, 1)
        organiser = place.organiser
        issued = [await organiser.cards.issue(member={"name": f"Guest {number}"}) for number in range(3)]
        revoked, again, restored = (card["id"] for card in issued)
        await organiser.cards.suspend(restored)
        async with OfflineScanner(seeded_system.base_url, tmp_path, token=place.devices[0]["token"]) as scanner:
            await scanner.wait_prepared()
            assert restored in scanner.known.barred
            await organiser.cards.revoke(revoked)
            await organiser.cards.resume(restored)
            newer = (await organiser.cards.reissue(again))["credential"]
            async with asyncio.timeout(20):
                while scanner.known.serials.get(again) != 1:
                    await organiser.cards.get(again)  # the news is on its way
        async with OfflineScanner(NOBODY, tmp_path) as scanner:
            shown = [*(card["credential"] for card in issued), newer]
            reasons = [(await scanner.scan(credential)).reason for credential in shown]
        assert reasons == ["card_revoked", "credential_invalid", "", ""]


async def test_where_both_have_judged_what_happened_at_the_door_counts(
    seeded_system: SeededSystem, tmp_path: Path
) -> None:
    """The system's answers are lost on the way: it has judged, and so has the scanner, under the same ids."""
    port = int(seeded_system.base_url.rpartition(":")[2])
    async with AsyncMasterVip(seeded_system.base_url) as vip, TcpProxy("127.0.0.1", port) as wire:
        place = await house(vip, seeded_system.fixtures, 1)
        event_id, organiser = place.event["id"], place.organiser
        north, south = (gate["id"] for gate in place.event["gates"])
        same, let_in_alone, refused_alone = (card["credential"] for card in place.cards[:3])
        heard: dict[str, Json] = {}
        async with OfflineScanner(
            f"http://127.0.0.1:{wire.port}",
            tmp_path,
            token=place.devices[0]["token"],
            on_answer=lambda scan, outcome: heard.update({scan.scan_id: outcome}),
        ) as scanner:
            await scanner.wait_prepared()
            assert (await scanner.scan(refused_alone, scan_id="came")).is_alone is False
            door = organiser.checkins.one
            await door(event_id, refused_alone, gate_id=south, direction="exit", scan_id="left elsewhere")
            await door(event_id, let_in_alone, gate_id=south, scan_id="came elsewhere")
            wire.to_client.is_dropping = True
            decisions = [
                await scanner.scan(credential, scan_id=scan_id)
                for credential, scan_id in ((same, "same"), (let_in_alone, "in"), (refused_alone, "out"))
            ]
            assert [decision.reason for decision in decisions] == ["", "", "already_admitted"]
            assert all(decision.is_alone for decision in decisions)
            wire.to_client.is_dropping = False
            wire.cut()
            async with asyncio.timeout(60):
                await scanner.drained()
        assert heard["same"]["verdict"] == "admitted"
        assert "offline" not in heard["same"], "the system's own verdict stands"
        assert (heard["in"]["offline"], heard["in"]["conflict"]) == (True, "already_admitted")
        assert heard["out"]["annulled"]
        log = {scan["scan_id"]: scan for scan in await whole_log(place, 7)}
        assert (log["in"]["reason"], log["out"]["verdict"]) == ("already_admitted", "admitted")
        assert len(log) == 7, "the six, and what happened at the door with the second"
        attendance = await organiser.events.attendance(event_id)
        assert attendance["inside"] == 2, "same and in; out was sent away at the door"
        (conflict,) = await items(organiser.events.conflicts(event_id))
        assert (conflict["scan"]["gate_id"], conflict["other"]["gate_id"]) == (north, south)


class WallClock:
    """A cheap clock, wrong by so much; once `true_ms` is set, on a day in the past. Pauses go by real time."""

    def __init__(self, wrong_by_ms: int) -> None:
        self.wrong_by_ms = wrong_by_ms
        self.true_ms: int | None = None

    def wall_ms(self) -> int:
        return (time.time_ns() // 1_000_000 if self.true_ms is None else self.true_ms) + self.wrong_by_ms


async def two_days_offline(url: str, place: House, directory: Path) -> list[tuple[int, Scan]]:
    """What twenty scanners decided alone, each by its own wrong clock; with the number of the scanner."""
    random_ = random.Random(7)
    begun_ms = time.time_ns() // 1_000_000 - 2 * DAY_MS - 60_000
    found: list[tuple[int, Scan]] = []
    for number, device in enumerate(place.devices):
        clock = WallClock(random_.randrange(-300_000, 300_000))
        timing = Timing(wall_ms=clock.wall_ms)
        state = directory / str(number)
        await prepared_online(url, state, device, timing)
        times = sorted(begun_ms + random_.randrange(2 * DAY_MS) for _ in range(SCANS_PER_DEVICE))
        async with OfflineScanner(NOBODY, state, timing=timing) as scanner:
            for index, clock.true_ms in enumerate(times):
                card = place.cards[random_.randrange(CARDS)]
                direction: Any = random_.choice(("entry", "entry", "exit"))
                await scanner.scan(card["credential"], direction=direction, scan_id=f"d{number}-{index}")
            waiting = scanner.scans.waiting(1_000)
            clock.true_ms = None
        assert len(waiting) == SCANS_PER_DEVICE
        for scan, true_ms in zip(waiting, times, strict=True):
            assert abs(scan.scanned_at_ms - true_ms) < 2_000, "the clock was corrected by what was measured"
        found += [(number, scan) for scan in waiting]
    return found


def of_house(scan: Scan, here: House, there: House) -> Json:
    """The same scan of the same person at the other house, as it is uploaded."""
    card = next(number for number, card in enumerate(here.cards) if card["id"] == scan.card_id)
    gate = next(number for number, gate in enumerate(here.event["gates"]) if gate["id"] == scan.gate_id)
    return {
        "event_id": there.event["id"],
        "credential": there.cards[card]["credential"],
        "gate_id": there.event["gates"][gate]["id"],
        "direction": scan.direction,
        "scan_id": scan.scan_id,
        "scanned_at": rfc3339(scan.scanned_at_ms),
        "offline": True,
        "refused": scan.reason or None,
    }


async def uploaded(vip: AsyncMasterVip, place: House, scans: list[tuple[int, Json]]) -> list[Json]:
    """Each by its own device, in this order, as many at once as follow each other of one device."""
    answers: list[Json] = []
    at = 0
    while at < len(scans):
        device = scans[at][0]
        batch = list(takewhile(lambda each, of=device: each[0] == of, scans[at:]))
        at += len(batch)
        door = vip.acting_as(place.devices[device]["token"])
        answers += await door.checkins.many([item for _, item in batch])
    return answers


async def what_is_so(place: House) -> Json:
    """Everything that must not depend on the order of arrival; houses' own ids by number."""
    numbers = {card["id"]: f"card {number}" for number, card in enumerate(place.cards)}
    numbers |= {gate["id"]: f"gate {number}" for number, gate in enumerate(place.event["gates"])}
    numbers |= {device["device_id"]: f"device {number}" for number, device in enumerate(place.devices)}
    organiser, event_id = place.organiser, place.event["id"]

    def side(of: Json | None) -> Json | None:
        if of is None:
            return None
        assert of["offline"]
        return of | {"gate_id": numbers[of["gate_id"]], "device_id": numbers[of["device_id"]]}

    log = await whole_log(place, DEVICES * SCANS_PER_DEVICE)
    attendance = await organiser.events.attendance(event_id)
    conflicts = await items(organiser.events.conflicts(event_id))
    columns = ("scan_id", "verdict", "reason", "scanned_at", "direction")
    return {
        "attendance": [attendance[name] for name in ("inside", "admitted", "refused")],
        "points": [(await organiser.cards.balance(card["id"]))["balance"] for card in place.cards],
        "conflicts": sorted(
            (one["reason"], numbers[one["card_id"]], str(side(one["scan"])), str(side(one["other"])))
            for one in conflicts
        ),
        "log": sorted(
            [str(scan[name]) for name in columns]
            + [numbers[scan[name]] for name in ("card_id", "gate_id", "device_id")]
            for scan in log
        ),
    }


class Board:
    """Watches an event's live topic, and keeps the conflicts that are pushed."""

    def __init__(self, changes: Subscription) -> None:
        self.conflicts: dict[str, Json] = {}
        self._news = asyncio.Event()
        self._watching = asyncio.create_task(self._watch(changes))

    async def _watch(self, changes: Subscription) -> None:
        async for change in changes:
            self.conflicts |= {scan["scan_id"]: scan for scan in change.data["scans"] if scan["conflict"]}
            self._news.set()

    async def wait_conflict(self) -> None:
        """Until one has come."""
        async with asyncio.timeout(20):
            while not self.conflicts:
                self._news.clear()
                await self._news.wait()
        self._watching.cancel()


async def test_two_days_of_twenty_scanners_come_to_the_same_in_any_order(
    seeded_system: SeededSystem, tmp_path: Path
) -> None:
    url = seeded_system.base_url
    one, other = [await asyncio.to_thread(seeded_system.running.seed, members=CARDS, events=1) for _ in range(2)]
    async with AsyncMasterVip(url) as vip:
        here, there = await house(vip, one, DEVICES), await house(vip, other, DEVICES)
        scans = await two_days_offline(url, here, tmp_path)
        in_order = sorted(scans, key=lambda each: each[1].scanned_at_ms)
        await uploaded(vip, there, [(device, of_house(scan, here, there)) for device, scan in in_order])
        shuffled = [(device, of_house(scan, here, here)) for device, scan in scans]
        random.Random(8).shuffle(shuffled)
        async with here.organiser.live_socket() as live, live.subscribe(f"event:{here.event['id']}") as changes:
            board = Board(changes)
            told = await uploaded(vip, here, shuffled)
            conflicts = {verdict["scan_id"] for verdict in told if verdict.get("conflict")}
            await board.wait_conflict()
        # The topic tells of the last twenty scans of a moment; the list is where all of them are.
        assert board.conflicts.keys() <= conflicts
        assert all(scan["gate_id"] and scan["at"] for scan in board.conflicts.values())
        random.Random(9).shuffle(shuffled)
        again = await uploaded(vip, here, shuffled)
        assert all(verdict["replayed"] for verdict in again)
        # And once more, by the scanners themselves, which do not know that it is known.
        for number, device in enumerate(here.devices):
            async with OfflineScanner(url, tmp_path / str(number), token=device["token"]) as scanner:
                await scanner.drained()
                assert scanner.scans.waiting_count == 0
        found, expected = await what_is_so(here), await what_is_so(there)
        assert found == expected
        assert len(found["log"]) == DEVICES * SCANS_PER_DEVICE
        assert any(row[0] == "already_admitted" and row[3] != "None" for row in found["conflicts"])
        assert {tuple(row)[1] for row in found["log"]} == {"admitted", "refused"}
