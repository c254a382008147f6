"""Gateways by load: a second one comes, takes over sockets of the first, and goes again when it is not needed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from gateway.client import AsyncMasterVip
from tests.chaos.conftest import Site
from tests.chaos.run import Chaos, say, verdict
from tests.support.running import Running

WITHIN_S = 60.0
DOORS = 40
RATE = 250.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    # So little is a gateway given to do, and so soon is it taken away, that a test can see both.
    settings = {
        "MASTERVIP_GATEWAYS_MAX": "2",
        "MASTERVIP_GATEWAY_BUSY_AIM": "0.06",
        "MASTERVIP_GATEWAY_LINGER_S": "4",
    }
    with Running(tmp_path / "data", hosts=1, gateways=1, settings=settings) as running:
        yield Site(running, running.organisations(2, 60))


def sockets_of(running: Running) -> dict[int, int]:
    """Connections of clients by gateway's process."""
    port = urlsplit(running.base_url).port
    found = {}
    for pid in running.pids("gateway"):
        with contextlib.suppress(psutil.NoSuchProcess):  # it may be going just now
            connections = psutil.Process(pid).net_connections("tcp")
            found[pid] = sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port for each in connections)
    return found


async def gateways(running: Running, count: int, sockets_min: int) -> dict[int, int]:
    """Waits until there are so many, each with so many connections."""
    deadline_s = time.monotonic() + WITHIN_S
    while True:
        found = await asyncio.to_thread(sockets_of, running)
        if len(found) == count and min(found.values()) >= sockets_min:
            return found
        assert time.monotonic() < deadline_s, f"gateways and their connections: {found}"
        await asyncio.sleep(0.25)


async def test_a_gateway_comes_with_the_load_and_goes_with_it(site: Site, tmp_path: Path) -> None:
    running = site.running
    [first] = running.pids("gateway")
    chaos = Chaos(running, site.organisations, tmp_path / "acks.jsonl", rate=RATE, seed=7)
    begun_s = time.monotonic()
    await chaos.begin()
    async with AsyncExitStack() as doors:
        for number in range(DOORS):
            organisation = site.organisations[number % len(site.organisations)]
            vip = await doors.enter_async_context(AsyncMasterVip(running.base_url, token=organisation["api_key"]))
            await doors.enter_async_context(vip.scan_socket(organisation["events"][0]["id"]))
        both = await gateways(running, 2, DOORS // 5)
    say(f"two gateways after {time.monotonic() - begun_s:.1f} s, connections {both}")
    chaos.load.tally.mark()
    await chaos.load.wait_until_answered(WITHIN_S)
    await chaos.wait_until_projected()
    document = await chaos.end()
    assert verdict(document) == []
    ended_s = time.monotonic()
    left = await gateways(running, 1, 0)
    say(f"one after {time.monotonic() - ended_s:.1f} s; longest answer {document['latency_max_ms']} ms")
    assert set(left) <= set(both)
    assert first in both
