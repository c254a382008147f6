"""`mastervip up` as an operator and its clients see it: it starts, serves, replaces what dies, stops, and starts again
with everything it had."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from gateway.client import MasterVip
from tests.integration.conftest import SeededSystem
from tests.support.running import Running

LOAD_THREADS = 3
TAKEOVER_S_MAX = 5.0
REPLACE_TIMEOUT_S = 60.0


def check_in(client: httpx.Client, event: dict[str, Any], card: dict[str, Any], scan_id: str) -> httpx.Response:
    return client.post(
        "/v1/checkins",
        json={
            "event_id": event["id"],
            "credential": card["credential"],
            "gate_id": event["gates"][0]["id"],
            "scan_id": scan_id,
        },
    )


def new_event(client: httpx.Client) -> dict[str, Any]:
    """An event of the test's own, in which nobody has been."""
    answer = client.post("/v1/events", json={"name": "A test's own", "capacity": 500, "gates": [{"name": "Door"}]})
    assert answer.status_code == 201, answer.text
    event: dict[str, Any] = answer.json()
    return event


@pytest.fixture
def client(seeded_system: SeededSystem) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=seeded_system.base_url, headers=seeded_system.headers, timeout=20) as client:
        yield client


class Load:
    """Check-ins from a few threads, as fast as they are answered; every answer is kept."""

    def __init__(self, system: SeededSystem, event: dict[str, Any]) -> None:
        self._system = system
        self._event = event
        self._stopping = threading.Event()
        self.acks: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.answered_at_s: list[float] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(LOAD_THREADS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        cards = self._system.fixtures["cards"][number::LOAD_THREADS]
        with httpx.Client(base_url=self._system.base_url, headers=self._system.headers, timeout=20) as client:
            turn = 0
            while not self._stopping.is_set():
                card, scan_id = cards[turn % len(cards)], str(uuid4())
                turn += 1
                try:
                    answer = check_in(client, self._event, card, scan_id)
                except httpx.TransportError as error:
                    self.failures.append(type(error).__name__)
                    continue
                if answer.status_code == httpx.codes.OK:
                    self.acks.append((scan_id, card, answer.json()))
                    self.answered_at_s.append(time.monotonic())
                else:
                    self.failures.append(answer.text)

    def longest_silence_s(self) -> float:
        times = sorted(self.answered_at_s)
        return max(after - before for before, after in pairwise(times))

    def assert_nothing_is_lost(self) -> None:
        with httpx.Client(base_url=self._system.base_url, headers=self._system.headers, timeout=20) as client:
            for scan_id, card, told in self.acks:
                again = check_in(client, self._event, card, scan_id).json()
                assert again == {**told, "replayed": True}


def wait_for_replacement(running: Running, kind: str, killed: int, count: int) -> None:
    deadline_s = time.monotonic() + REPLACE_TIMEOUT_S
    while time.monotonic() < deadline_s:
        pids = running.connection().pids[kind]
        if killed not in pids and len(pids) == count:
            return
        time.sleep(0.1)
    pytest.fail(f"{kind} {killed} was not replaced: {running.connection().pids}")


def test_it_is_ready_and_tells_how_to_find_it(seeded_system: SeededSystem) -> None:
    assert httpx.get(f"{seeded_system.base_url}/readyz").status_code == 200
    path = seeded_system.data / "connection.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = json.loads(path.read_bytes())
    assert found["base_url"] == seeded_system.base_url
    counts = {kind: len(pids) for kind, pids in found["pids"].items()}
    assert counts == {"host": 2, "gateway": 2, "projector": 1, "relay": 0, "redis": 1, "postgres": 1}
    assert all(psutil.pid_exists(pid) for pids in found["pids"].values() for pid in pids)


def test_the_fixtures_are_as_the_contract_has_them(seeded_system: SeededSystem) -> None:
    fixtures = seeded_system.fixtures
    assert {"base_url", "org_id", "admin", "api_key", "superadmin", "events", "cards"} <= fixtures.keys()
    assert len(fixtures["cards"]) == 60
    assert {"id", "member_id", "tier", "credential"} <= fixtures["cards"][0].keys()
    assert len(fixtures["events"]) == 2
    assert {"id", "name", "capacity", "gates", "scanners"} <= fixtures["events"][0].keys()
    assert {"device_id", "token"} <= fixtures["events"][0]["scanners"][0].keys()


def test_a_check_in_over_rest(seeded_system: SeededSystem, client: httpx.Client) -> None:
    event, card, scan_id = new_event(client), seeded_system.fixtures["cards"][0], str(uuid4())
    first, again = (check_in(client, event, card, scan_id).json() for _ in range(2))
    assert (first["verdict"], first["card_id"], first["attendance"]["inside"]) == ("admitted", card["id"], 1)
    assert again == {**first, "replayed": True}


def test_a_check_in_over_the_scanner_socket(seeded_system: SeededSystem) -> None:
    event, card = seeded_system.fixtures["events"][0], seeded_system.fixtures["cards"][1]
    device = MasterVip(seeded_system.base_url, event["scanners"][0]["token"])
    with device, device.scan_socket() as door:
        verdict = door.scan(card["credential"], scan_id="one")
    assert (verdict["id"], verdict["verdict"], verdict["card_id"]) == ("one", "admitted", card["id"])


def test_status(seeded_system: SeededSystem) -> None:
    status = seeded_system.running.status()
    assert status["ok"] is True
    assert [host["standby"] for host in status["hosts"]].count(True) == 1
    assert {partition["state"] for partition in status["partitions"]} == {"open"}
    assert len(status["partitions"]) == 16
    assert status["stores"]["redis"]["up"]
    assert status["stores"]["postgres"]["up"]


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_the_standby_takes_over_from_a_host(
    seeded_system: SeededSystem, client: httpx.Client, fault: signal.Signals
) -> None:
    owner = next(host for host in seeded_system.running.status()["hosts"] if host["partitions"])
    with Load(seeded_system, new_event(client)) as load:
        time.sleep(1)
        os.kill(owner["pid"], fault)
        time.sleep(TAKEOVER_S_MAX + 1)
        if fault == signal.SIGSTOP:
            os.kill(owner["pid"], signal.SIGCONT)
            time.sleep(1)
    assert not load.failures
    assert load.longest_silence_s() < TAKEOVER_S_MAX
    load.assert_nothing_is_lost()
    if fault == signal.SIGKILL:
        wait_for_replacement(seeded_system.running, "host", owner["pid"], 2)


@pytest.mark.parametrize(("kind", "count"), [("redis", 1), ("postgres", 1), ("projector", 1), ("gateway", 2)])
def test_what_is_killed_is_replaced(seeded_system: SeededSystem, client: httpx.Client, kind: str, count: int) -> None:
    with Load(seeded_system, new_event(client)) as load:
        time.sleep(0.5)
        killed = seeded_system.running.pids(kind)[0]
        os.kill(killed, signal.SIGKILL)
        wait_for_replacement(seeded_system.running, kind, killed, count)
        time.sleep(1)
    # Those whose connection ended with the gateway do not know what became of their scan, and may ask again.
    assert len(load.failures) <= (LOAD_THREADS if kind == "gateway" else 0), load.failures
    load.assert_nothing_is_lost()


def test_a_second_one_on_the_same_directory_or_port_is_refused(seeded_system: SeededSystem, tmp_path: Path) -> None:
    same_data = Running(seeded_system.data)
    same_data.log = tmp_path / "same-data.log"  # not into the other's
    with pytest.raises(RuntimeError, match="another `mastervip up` runs"):
        same_data.start()
    same_port = Running(tmp_path / "data", port=seeded_system.running.port)
    with pytest.raises(RuntimeError, match=r"port \d+ of 127.0.0.1 cannot be used"):
        same_port.start()
    assert httpx.get(f"{seeded_system.base_url}/readyz").status_code == 200


def test_nothing_is_left_after_a_stop_and_everything_is_there_after_the_next_start(tmp_path: Path) -> None:
    running = Running(tmp_path / "data", hosts=1, gateways=1)
    running.start()
    system = SeededSystem(running, running.seed(members=20, events=1))
    event, card, scan_id = system.fixtures["events"][0], system.fixtures["cards"][0], str(uuid4())
    with httpx.Client(base_url=running.base_url, headers=system.headers, timeout=20) as client:
        told = check_in(client, event, card, scan_id).json()
        counts = client.get(f"/v1/events/{event['id']}/attendance").json()
    started = family_of(running.pid)
    assert running.stop() == 0
    _, left = psutil.wait_procs(started, timeout=10)
    assert not left
    assert not (tmp_path / "data" / "connection.json").exists()

    running.start()
    with httpx.Client(base_url=running.base_url, headers=system.headers, timeout=20) as client:
        assert check_in(client, event, card, scan_id).json() == {**told, "replayed": True}
        assert client.get(f"/v1/events/{event['id']}/attendance").json() == counts
        assert client.get(f"/v1/cards/{system.fixtures['cards'][-1]['id']}").status_code == 200
    assert running.audit()["ok"] is True

    started = family_of(running.pid)
    running.kill()
    running.start()  # waits for the other to be gone
    _, left = psutil.wait_procs(started, timeout=10)
    assert not left
    with httpx.Client(base_url=running.base_url, headers=system.headers, timeout=20) as client:
        assert check_in(client, event, card, scan_id).json() == {**told, "replayed": True}
    assert running.stop() == 0


def family_of(pid: int) -> list[psutil.Process]:
    """A process with all that come from it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
