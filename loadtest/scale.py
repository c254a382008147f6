"""What more hosts and gateways bring: `python -m loadtest.scale`, the same load on 1, 2, 4 of each.

Every row is a `mastervip bench` with a system of its own, so what a row says can be measured again by hand. On a
machine with fewer cores than processes the rows show what a process more costs, on a larger one what it brings.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

from loadtest.bench.load import Json
from loadtest.bench.say import say

# Hosts, gateways.
GRID = ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4), (4, 2), (4, 4))
HEAD = f"hosts gateways {'per s':>8} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'CPU µs':>8} {'errors':>7}"


def parse(arguments: Sequence[str] | None = None) -> tuple[list[tuple[int, int]], list[str]]:
    """The grid, and what is left for the bench."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.scale",
        description="Measure 1, 2, 4 hosts and gateways. All other options are `mastervip bench`'s.",
    )
    parser.add_argument("--grid", nargs="+", metavar="H×G", default=[f"{h}×{g}" for h, g in GRID])
    options, bench = parser.parse_known_args(arguments)
    grid = []
    for pair in options.grid:
        hosts, _, gateways = pair.replace("x", "×").partition("×")
        if not (hosts.isdecimal() and gateways.isdecimal() and int(hosts) and int(gateways)):
            parser.error(f"--grid: {pair} is not hosts×gateways, as in 2×4")
        grid.append((int(hosts), int(gateways)))
    return grid, bench


def row(hosts: int, gateways: int, document: Json) -> str:
    """A line of the table."""
    own = document["mastervip"]
    latency = "".join(f" {own['latency_ms'][name]:8.2f}" for name in ("p50", "p95", "p99"))
    line = f"{hosts:5} {gateways:8} {own['per_s']:8.0f}{latency}"
    return f"{line} {own['cpu_us_per_checkin']['all']:8.1f} {own['errors']:7}"


def main() -> int:
    """The command."""
    grid, bench = parse()
    rows = [HEAD]
    for hosts, gateways in grid:
        say(f"{hosts} hosts, {gateways} gateways")
        command = [sys.executable, "-m", "loadtest.bench", "--json", "--no-baselines", *bench]
        command += ["--hosts", str(hosts), "--gateways", str(gateways)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            return done.returncode
        rows.append(row(hosts, gateways, json.loads(done.stdout)))
        say(rows[-1])
    print("\n".join(rows))  # noqa: T201 — what was asked for
    return 0


if __name__ == "__main__":
    sys.exit(main())
