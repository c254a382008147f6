"""Runs the load client, and bills what every process used meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from loadtest.client.orders import Orders

Json = dict[str, Any]
Bills = Callable[[], dict[str, float]]
"""CPU seconds so far, by kind of process."""


class Load:
    """A running load client."""

    def __init__(self, orders: Orders) -> None:
        command = [sys.executable, "-m", "loadtest.client"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(orders))
        self._process.stdin.close()

    def line(self) -> bytes:
        """The next line that it prints. Raises `SystemExit` when it ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the load client ended with status {self._process.wait()}")
        return line

    def result(self) -> Json:
        """Its document."""
        document: Json = msgspec.json.decode(self.line())
        self._process.wait()
        return document


def measured(orders: Orders, bills: Bills) -> Json:
    """Runs the load: its document, with the CPU µs of each check-in by kind of process."""
    load = Load(orders)
    load.line()
    before = bills()
    load.line()
    after = bills()
    document = load.result()
    used = {kind: after[kind] - before.get(kind, 0.0) for kind in after} | {"client": document.pop("client_cpu_s")}
    document["cpu_us_per_checkin"] = per_checkin(used, document["scans"])
    document["cores_used"] = round(sum(used.values()) / document["seconds"], 2)
    return document


def per_checkin(used_s: dict[str, float], scans: int) -> dict[str, float]:
    """CPU seconds by kind as µs per check-in, with their sum as "all"."""
    each = {kind: round(seconds * 1e6 / max(1, scans), 1) for kind, seconds in sorted(used_s.items())}
    return each | {"all": round(sum(used_s.values()) * 1e6 / max(1, scans), 1)}
