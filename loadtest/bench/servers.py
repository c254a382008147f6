"""Starts the servers of baselines and limits, waits for them, loads them, ends them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx

from loadtest import processes

START_TIMEOUT_S = 60.0

Server = subprocess.Popen[bytes]


@contextmanager
def running(
    count: int, port: int, module: str, arguments: Sequence[str] = (), orders: bytes = b""
) -> Iterator[list[Server]]:
    """So many processes of a module that listen on one port. Raises `SystemExit` when they do not start."""
    command = [sys.executable, "-m", module, *arguments]
    servers = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(count)]
    try:
        for server in servers:
            assert server.stdin is not None
            server.stdin.write(orders)
            server.stdin.close()
        _wait_until_listening(module, port, servers)
        yield servers
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()


def _wait_until_listening(module: str, port: int, servers: Sequence[Server]) -> None:
    """Until something answers; a moment more for the others on the same port."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and all(server.poll() is None for server in servers):
        try:
            httpx.get(f"http://127.0.0.1:{port}/", timeout=1.0)
        except httpx.HTTPError:
            time.sleep(0.1)
            continue
        time.sleep(0.5 * len(servers))
        return
    raise SystemExit(f"{module} did not start")


def cpu_seconds(servers: Sequence[Server], stores: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds so far of the servers, and of the stores by kind with all that runs below them."""
    used = {kind: processes.cpu_below(pid) for kind, pid in stores.items()}
    return used | {"server": sum(processes.cpu_of(server.pid) for server in servers)}
