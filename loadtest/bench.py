"""The benchmark: how many check-ins a second through the public API, how fast, and what each costs in every process.

    python -m loadtest.bench --profile rest|ws|mixed [--seconds 20] [--connections N] [--json]

Rules:
1. The load comes from a process of its own (`loadtest.client`) over TCP, as from outside; its CPU time is billed, too.
2. Every scan is a fresh request with a valid credential, nearly all are admitted, each is fsynced before its answer.
3. What the machine can do at all is measured in the same run: the same listener with a constant answer, and the usual
   design (`loadtest.baseline_fastapi`) on the same Postgres.
4. Without --data it starts a system of its own in a temporary directory, and removes it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from loadtest import baseline_fastapi, processes
from loadtest.client import Event, Orders
from loadtest.stores import Figures, drained, figures, fresh_database
from serve import connection
from serve.connection import Connection
from serve.stores import quiet_port

WARMUP_S = 2.0
BASELINE_SECONDS = 5.0
DRAIN_TIMEOUT_S = 180.0
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
MEMBERS_DEFAULT = 5_000
CONNECTIONS_DEFAULT = {"rest": 64, "ws": 16, "mixed": 40}
BASELINE_CONNECTIONS = 32
KINDS = ("client", "gateway", "host", "projector", "redis", "postgres", "ray", "up")

Json = dict[str, Any]


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description="Measure check-ins, with baselines.")
    parser.add_argument("--profile", choices=["rest", "ws", "mixed"], default="mixed")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured time, after a warm-up")
    parser.add_argument("--connections", type=int, help="REST connections and sockets together")
    parser.add_argument("--window", type=int, default=32, help="scans under way per socket")
    parser.add_argument("--scans-per-frame", type=int, default=1, help="above 1: `scans` frames")
    parser.add_argument("--rate", type=float, default=0.0, help="check-ins a second; 0: as many as it takes")
    parser.add_argument("--members", type=int, default=MEMBERS_DEFAULT, help="cards that take part")
    parser.add_argument("--url", help="only to say where a system on the default --data runs")
    parser.add_argument("--data", type=Path, help="the directory of a running system; else one is started")
    parser.add_argument("--hosts", type=int, default=1, help="of the system that is started")
    parser.add_argument("--gateways", type=int, default=2, help="of the system that is started")
    parser.add_argument("--fixtures", type=Path, help="a fixtures file of `mastervip seed`; else the system is seeded")
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--json", action="store_true", dest="as_json")
    return parser.parse_args()


@contextmanager
def system(options: argparse.Namespace) -> Iterator[Path]:
    """The data directory of a running system: the one that is named, or one of our own."""
    if options.data is not None or options.url is not None:
        yield (options.data or Path(".mastervip")).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="mv-bench-") as directory:
        data = Path(directory) / "data"
        command = [sys.executable, "-m", "serve.cli", "up", "--data", str(data), "--port", str(quiet_port())]
        command += ["--hosts", str(options.hosts), "--gateways", str(options.gateways)]
        say("starting a system")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            assert process.stdout is not None
            if not process.stdout.readline().startswith(b"ready"):
                raise SystemExit(f"the system did not start: run `{' '.join(command)}` to see why")
            yield data
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def fixtures_of(options: argparse.Namespace, data: Path) -> Json:
    """What there is to scan."""
    if options.fixtures is not None:
        found: Json = json.loads(options.fixtures.read_bytes())
        return found
    say(f"seeding {options.members} members")
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "fixtures.json"
        command = [sys.executable, "-m", "serve.cli", "seed", "--data", str(data), "--events", "3"]
        subprocess.run(
            [*command, "--members", str(options.members), "--out", str(out)],
            check=True,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        made: Json = json.loads(out.read_bytes())
        return made


def orders_for(options: argparse.Namespace, fixtures: Json, port: int) -> Orders:
    """The load client's orders for the profile."""
    connections = options.connections or CONNECTIONS_DEFAULT[options.profile]
    sockets = {"rest": 0, "ws": connections, "mixed": max(1, connections // 5)}[options.profile]
    return Orders(
        host="127.0.0.1",
        port=port,
        seconds=options.seconds,
        warmup_s=WARMUP_S,
        rest_connections=connections - sockets,
        sockets=sockets,
        window=options.window,
        scans_per_frame=options.scans_per_frame,
        rate=options.rate,
        events=[Event(event["id"], [s["token"] for s in event["scanners"]]) for event in fixtures["events"]],
        credentials=[card["credential"] for card in fixtures["cards"]],
    )


class Load:
    """A running load client; `measured` waits for it and takes the bills of the processes meanwhile."""

    def __init__(self, orders: Orders) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.client"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
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
        document: Json = json.loads(self.line())
        self._process.wait()
        return document


def measured(orders: Orders, pids: dict[str, list[int]], up_pid: int) -> Json:
    """Runs the load, and bills what the processes below `up_pid` used meanwhile: CPU µs per check-in by kind."""
    load = Load(orders)
    load.line()
    before = processes.cpu_seconds(pids, up_pid)
    load.line()
    after = processes.cpu_seconds(pids, up_pid)
    document = load.result()
    scans = max(1, document["scans"])
    used = {kind: after[kind] - before.get(kind, 0.0) for kind in after} | {"client": document["client_cpu_s"]}
    document["cpu_us_per_checkin"] = {
        kind: round(used.get(kind, 0.0) * 1e6 / scans, 1) for kind in KINDS if kind in used
    }
    document["cpu_us_per_checkin"]["all"] = round(sum(used.values()) * 1e6 / scans, 1)
    document["cores_used"] = round(sum(used.values()) / document["seconds"], 2)
    return document


def engine(options: argparse.Namespace, found: Connection, fixtures: Json) -> Json:
    """The figures of the system itself."""
    port = int(found.base_url.rpartition(":")[2])
    orders = msgspec.structs.replace(orders_for(options, fixtures, port), ca_file=found.ca_file)
    say(f"{options.profile}: {orders.rest_connections} connections, {orders.sockets} sockets, {options.seconds:.0f} s")
    before: Figures = asyncio.run(figures(found))
    document = measured(orders, found.pids, found.up_pid)
    lag = asyncio.run(figures(found)).lag_entries
    drain_s = asyncio.run(drained(found, DRAIN_TIMEOUT_S))
    after: Figures = asyncio.run(figures(found))
    scans = max(1, after.scans - before.scans)
    entries = max(1, after.entries - before.entries)
    return document | {
        "projector_lag_entries": lag,
        "drain_s": drain_s,
        "journal_bytes_per_checkin": round((after.journal_bytes - before.journal_bytes) / scans, 1),
        "database_bytes_per_checkin": round((after.database_bytes - before.database_bytes) / scans, 1),
        "checkins_per_entry": round(scans / entries, 1),
        "rss_mb": {kind: round(size / 1e6) for kind, size in processes.rss_bytes(found.pids, found.up_pid).items()},
    }


def healthz(found: Connection) -> Json:
    """The same gateways answering a constant by their ordinary routes."""
    port = int(found.base_url.rpartition(":")[2])
    orders = Orders(
        host="127.0.0.1",
        port=port,
        seconds=BASELINE_SECONDS,
        warmup_s=1.0,
        rest_connections=BASELINE_CONNECTIONS,
        path="/healthz",
        is_get=True,
        ca_file=found.ca_file,
    )
    return measured(orders, found.pids, found.up_pid)


def constant(options: argparse.Namespace, fixtures: Json, gateways: int) -> Json:
    """As many processes as there are gateways, with the same listener and a constant verdict."""
    port = quiet_port()
    command = [sys.executable, "-m", "loadtest.baseline_constant", str(port)]
    return _baseline(options, fixtures, port, [subprocess.Popen(command) for _ in range(gateways)])


def fastapi(options: argparse.Namespace, found: Connection, fixtures: Json, gateways: int) -> Json:
    """FastAPI and asyncpg, as many processes as there are gateways, in a database of its own on the same Postgres."""
    port = quiet_port()
    with fresh_database(found.postgres_url) as dsn:
        cards = [(card["id"], card["member_id"], "Member", card["tier"]) for card in fixtures["cards"]]
        events = [(event["id"], event["capacity"]) for event in fixtures["events"]]
        asyncio.run(baseline_fastapi.prepare(dsn, cards, events))
        secret = (Path(found.data) / "secret.key").read_text().strip()
        tokens = {s["token"]: event["id"] for event in fixtures["events"] for s in event["scanners"]}
        orders = msgspec.json.encode(baseline_fastapi.Orders(port, dsn, secret, tokens))
        servers = []
        for _ in range(gateways):
            command = [sys.executable, "-m", "loadtest.baseline_fastapi"]
            server = subprocess.Popen(command, stdin=subprocess.PIPE)
            assert server.stdin is not None
            server.stdin.write(orders)
            server.stdin.close()
            servers.append(server)
        return _baseline(options, fixtures, port, servers, {"postgres": found.pids["postgres"]}, found.up_pid)


def _baseline(
    options: argparse.Namespace,
    fixtures: Json,
    port: int,
    servers: list[subprocess.Popen[bytes]],
    pids: dict[str, list[int]] | None = None,
    up_pid: int = 0,
) -> Json:
    """Loads servers of a baseline over REST and ends them."""
    orders = msgspec.structs.replace(
        orders_for(options, fixtures, port),
        seconds=BASELINE_SECONDS,
        rest_connections=BASELINE_CONNECTIONS,
        sockets=0,
        rate=0.0,
    )
    try:
        _wait_until_listening(port, len(servers), servers)
        begun = [processes.cpu_of(server.pid) for server in servers]
        load = Load(orders)
        load.line()
        begun = [processes.cpu_of(server.pid) for server in servers]
        before = processes.cpu_seconds(pids or {}, up_pid).get("postgres", 0.0)
        load.line()
        used = sum(processes.cpu_of(server.pid) - start for server, start in zip(servers, begun, strict=True))
        stores = processes.cpu_seconds(pids or {}, up_pid).get("postgres", 0.0) - before
        document = load.result()
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()
    scans = max(1, document["scans"])
    bills = {"client": document["client_cpu_s"], "server": used, "postgres": stores}
    document["cpu_us_per_checkin"] = {kind: round(seconds * 1e6 / scans, 1) for kind, seconds in bills.items()}
    document["cpu_us_per_checkin"]["all"] = round(sum(bills.values()) * 1e6 / scans, 1)
    return document


def _wait_until_listening(port: int, count: int, servers: list[subprocess.Popen[bytes]]) -> None:
    """Until something answers; a moment more for the others on the same port."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and all(server.poll() is None for server in servers):
        try:
            httpx.get(f"http://127.0.0.1:{port}/", timeout=1.0)
        except httpx.HTTPError:
            time.sleep(0.1)
            continue
        time.sleep(0.5 * count)
        return
    raise SystemExit("a baseline did not start")


def run(options: argparse.Namespace) -> Json:
    """Everything, one after the other."""
    with ExitStack() as stack:
        data = stack.enter_context(system(options))
        found = connection.read(data)
        fixtures = fixtures_of(options, data)
        asyncio.run(drained(found, DRAIN_TIMEOUT_S))
        document: Json = {"profile": options.profile, "mastervip": engine(options, found, fixtures)}
        if not options.no_baselines:
            gateways = max(1, len(found.pids["gateway"]))
            say("baseline: /healthz of the same gateways")
            document["healthz"] = healthz(found)
            say("baseline: the same listener, a constant verdict")
            document["constant"] = constant(options, fixtures, gateways)
            say("baseline: FastAPI and asyncpg, one transaction per check-in")
            document["fastapi"] = fastapi(options, found, fixtures, gateways)
    return document


def text(document: Json) -> str:
    """For people."""
    lines = [f"{'':10} {'per s':>9} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'CPU µs':>8}  outcomes"]
    for name, part in document.items():
        if isinstance(part, dict):
            latency = part["latency_ms"]
            outcomes = ", ".join(f"{count} {outcome}" for outcome, count in part["outcomes"].items())
            lines.append(
                f"{name:10} {part['per_s']:9.0f} {latency['p50']:8.2f} {latency['p95']:8.2f} {latency['p99']:8.2f} "
                f"{part['cpu_us_per_checkin']['all']:8.1f}  {outcomes}"
            )
    own = document["mastervip"]
    lines += ["", "CPU µs per check-in: " + ", ".join(f"{k} {v}" for k, v in own["cpu_us_per_checkin"].items())]
    lines.append(f"cores used: {own['cores_used']}; memory MB: {own['rss_mb']}")
    lines.append(
        f"bytes a check-in: journal {own['journal_bytes_per_checkin']}, Postgres {own['database_bytes_per_checkin']}; "
        f"{own['checkins_per_entry']} check-ins an entry"
    )
    lines.append(f"projector: {own['projector_lag_entries']} entries behind at the end, drained in {own['drain_s']} s")
    return "\n".join(lines)


def main() -> None:
    """`python -m loadtest.bench`."""
    options = arguments()
    document = run(options)
    print(json.dumps(document) if options.as_json else text(document))  # noqa: T201


if __name__ == "__main__":
    main()
