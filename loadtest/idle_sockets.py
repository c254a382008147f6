"""What a socket that only waits costs a running system: memory and CPU of the gateways.

    python -m loadtest.idle_sockets --fixtures fixtures.json --count 10000 [--data .mastervip] [--idle-seconds 60]

Rules:
1. Memory is what the gateways' processes have to themselves (USS), with the sockets open less before, divided by their
   number. The first thousand sockets are opened and closed before that, so that what is made once does not count.
2. All must have been welcomed, be open after the wait, and answer a ping at the end; else the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from loadtest.idle_client import IdleSocket
from serve import processes

OPENED_AT_ONCE = 200
WARM_UP_SOCKETS = 1_000
WELCOME_TIMEOUT_S = 60.0
PONG_TIMEOUT_S = 30.0
FILES_SPARE = 1_000
SETTLE_S = 3.0


class Gateways:
    """The gateways of the system on a data directory."""

    def __init__(self, data: Path) -> None:
        self._processes = [psutil.Process(pid) for pid in processes.running(data)["gateway"]]

    def __len__(self) -> int:
        return len(self._processes)

    def own_bytes(self) -> int:
        """Memory that is theirs alone, all together."""
        return sum(int(each.memory_full_info().uss) for each in self._processes)

    def cpu_seconds(self) -> float:
        """So far, all together."""
        times = [each.cpu_times() for each in self._processes]
        return sum(each.user + each.system for each in times)


async def opened(base_url: str, token: str, count: int) -> list[IdleSocket]:
    """That many sockets, each welcomed or not, shown as they come."""
    url, loop = urlsplit(base_url), asyncio.get_running_loop()
    host, port = url.hostname or "127.0.0.1", url.port or 80
    room = asyncio.Semaphore(OPENED_AT_ONCE)

    async def one() -> IdleSocket:
        async with room:
            _, client = await loop.create_connection(
                lambda: IdleSocket("/v1/scan", f"{host}:{port}", token, {}), host, port
            )
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                await client.welcomed
            return client

    sockets: list[IdleSocket] = []
    for opening in asyncio.as_completed([asyncio.create_task(one()) for _ in range(count)]):
        sockets.append(await opening)
        if len(sockets) % 1_000 == 0:
            say(f"{len(sockets)} of {count} sockets are open")
    return sockets


async def measured(base_url: str, token: str, gateways: Gateways, count: int, idle_s: float) -> dict[str, Any]:
    """Opens, waits, pings and closes; what it cost."""
    for each in await opened(base_url, token, min(count, WARM_UP_SOCKETS)):
        each.close()
    await asyncio.sleep(SETTLE_S)
    before = gateways.own_bytes()
    began_s = time.monotonic()
    sockets = await opened(base_url, token, count)
    opening_s = time.monotonic() - began_s
    await asyncio.sleep(SETTLE_S)
    after = gateways.own_bytes()
    cpu_s, began_s = gateways.cpu_seconds(), time.monotonic()
    await asyncio.sleep(idle_s)
    cpu_share = (gateways.cpu_seconds() - cpu_s) / (time.monotonic() - began_s)
    refused = Counter(why for each in sockets if (why := each.welcomed.result()))
    still_open = sum(not each.closed for each in sockets)
    answered = await asyncio.gather(*(each.answers(PONG_TIMEOUT_S) for each in sockets))
    for each in sockets:
        each.close()
    return {
        "sockets": count,
        "gateways": len(gateways),
        "welcomed": count - refused.total(),
        "refused": dict(refused),
        "open_after_the_wait": still_open,
        "answered_at_the_end": sum(answered),
        "opened_per_second": round(count / opening_s),
        "bytes_per_socket": round((after - before) / count),
        "idle_cpu_cores": round(cpu_share, 3),
    }


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixtures", type=Path, required=True, help="what `mastervip seed` wrote")
    parser.add_argument("--data", type=Path, default=Path(".mastervip"), help="the system's directory")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    options = parser.parse_args()
    wanted = options.count + FILES_SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    fixtures = json.loads(options.fixtures.read_bytes())
    token = fixtures["events"][0]["scanners"][0]["token"]
    work = measured(fixtures["base_url"], token, Gateways(options.data.resolve()), options.count, options.idle_seconds)
    found = asyncio.run(work)
    print(json.dumps(found, indent=2))  # noqa: T201
    return 0 if found["answered_at_the_end"] == options.count else 1


if __name__ == "__main__":
    sys.exit(main())
