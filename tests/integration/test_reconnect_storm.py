"""Two thousand scanners come back within a second, as after a power cut: check-ins go on meanwhile, and every scanner
is let in."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import threading
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from tests.integration.conftest import SeededSystem

SCANNERS = 2_000
WITHIN_S = 1.0
LET_IN_TIMEOUT_S = 60.0
DESCRIPTORS = 2 * SCANNERS + 500


def hello_frame(event_id: str) -> bytes:
    """A masked text frame (RFC 6455, section 5.2) with an empty mask."""
    payload = json.dumps({"t": "hello", "event_id": event_id}).encode()
    return bytes([0x81, 0x80 | 126]) + len(payload).to_bytes(2) + bytes(4) + payload


async def come_back(
    address: tuple[str, int], token: str, event_id: str, delay_s: float
) -> tuple[bool, asyncio.StreamWriter]:
    """One scanner, with raw bytes: a client library for each would be the bottleneck. Whether it was welcomed, and its
    connection, which stays open."""
    await asyncio.sleep(delay_s)
    reader, writer = await asyncio.open_connection(*address)
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET /v1/scan HTTP/1.1\r\nHost: {address[0]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    writer.write(request.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(hello_frame(event_id))
    frame = await reader.readuntil(b"}") if b" 101 " in head else b""
    return b'"welcome"' in frame, writer


async def storm(system: SeededSystem) -> list[bool]:
    url = urlsplit(system.base_url)
    assert url.hostname
    assert url.port
    event: dict[str, Any] = system.fixtures["events"][0]
    token = event["scanners"][0]["token"]
    arrivals = [
        come_back((url.hostname, url.port), token, event["id"], WITHIN_S * number / SCANNERS)
        for number in range(SCANNERS)
    ]
    async with asyncio.timeout(LET_IN_TIMEOUT_S):
        scanners = await asyncio.gather(*arrivals)
    for _, writer in scanners:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in scanners))
    return [is_welcome for is_welcome, _ in scanners]


class Doors:
    """Check-ins one after the other, until told to stop."""

    def __init__(self, system: SeededSystem) -> None:
        self.verdicts: list[str] = []
        self.failures: list[str] = []
        self._system = system
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Doors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        fixtures = self._system.fixtures
        event, card = fixtures["events"][0], fixtures["cards"][0]
        with httpx.Client(base_url=self._system.base_url, headers=self._system.headers, timeout=20) as client:
            while not self._is_over.is_set():
                body = {"event_id": event["id"], "credential": card["credential"], "scan_id": str(uuid4())}
                answer = client.post("/v1/checkins", json=body)
                if answer.status_code == 200:
                    self.verdicts.append(answer.json()["verdict"])
                else:
                    self.failures.append(answer.text)


def test_two_thousand_scanners_come_back_within_a_second(seeded_system: SeededSystem) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= DESCRIPTORS, f"this test needs {DESCRIPTORS} file descriptors"
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS if hard == resource.RLIM_INFINITY else hard, hard))
    with Doors(seeded_system) as doors:
        welcomed = asyncio.run(storm(seeded_system))
    assert sum(welcomed) == SCANNERS
    assert doors.failures == []
    assert len(doors.verdicts) > 10, "check-ins went on"
