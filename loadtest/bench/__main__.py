"""`mastervip bench`, `python -m loadtest.bench`: everything, one after the other."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from loadtest import processes
from loadtest.bench import baselines, engine, limits, page, text
from loadtest.bench.fixtures import Fixtures, fixtures_of
from loadtest.bench.load import Json, measured
from loadtest.bench.options import orders_for, parse
from loadtest.bench.say import say
from loadtest.bench.system import started
from loadtest.client.orders import Orders
from serve import connection
from serve.connection import Connection

DATA_DEFAULT = Path(".mastervip")


def run(options: argparse.Namespace) -> Json:
    """The report's document."""
    with ExitStack() as stack:
        if options.data is None and options.url is None:
            data = stack.enter_context(started(options.hosts, options.gateways))
        else:
            data = (options.data or DATA_DEFAULT).resolve()
        found = connection.read(data)
        fixtures = fixtures_of(found, data, options.fixtures, options.members, options.events)
        orders = orders_for(options, fixtures, int(found.base_url.rpartition(":")[2]))
        document: Json = {"profile": options.profile, "load": _told(orders, options.runs), "mastervip": {}}
        runs = []
        for number in range(options.runs):
            say(f"{options.profile}, run {number + 1} of {options.runs}: {options.seconds:.0f} s")
            found = connection.read(data)
            runs.append(engine.run(found, _elsewhere(orders, number)))
        document["mastervip"] = engine.median(runs)
        if not options.no_baselines:
            document |= _compared(found, fixtures, orders, options.baseline_seconds, document["mastervip"])
    return document


def _elsewhere(orders: Orders, number: int) -> Orders:
    """The same with every card at another event than in the run before, whose end left some inside. Where the first is
    goes by the time, as there may have been runs before."""
    shift = (int(time.time()) + number) % len(orders.events)
    return msgspec.structs.replace(orders, events=orders.events[shift:] + orders.events[:shift])


def _told(orders: Orders, runs: int) -> Json:
    """What the load was, for the report."""
    return {
        "cards": len(orders.credentials),
        "events": len(orders.events),
        "rest_connections": orders.rest_connections,
        "sockets": orders.sockets,
        "scans_per_frame": orders.scans_per_frame,
        "window": orders.window,
        "rate": orders.rate,
        "curve": orders.curve,
        "seconds": orders.seconds,
        "runs": runs,
    }


def _compared(found: Connection, fixtures: Fixtures, orders: Orders, seconds: float, own: Json) -> Json:
    """Limits and baselines."""
    gateways = max(1, len(found.pids["gateway"]))
    stages: dict[str, Json] = {}
    say("limit: the same listener, a constant verdict")
    stages["constant"] = limits.listener(orders, gateways, seconds, sockets=False)
    say("limit: the same listener, frames echoed")
    stages["echo"] = limits.listener(orders, gateways, seconds, sockets=True)
    say("limit: Redis, the same bytes")
    entry_bytes = round(own["journal_bytes_per_checkin"] * own["checkins_per_entry"])
    stages["redis"] = limits.redis(entry_bytes, own["checkins_per_entry"], seconds)
    say("limit: Postgres, the same rows")
    stages["postgres"] = limits.postgres(found, own["rows_per_checkin"])
    designs: dict[str, Json] = {}
    for design, name in baselines.DESIGNS.items():
        say(f"baseline: {name}")
        designs[design] = baselines.measure(design, found, fixtures, orders, seconds)
    socket_share = orders.socket_share if orders.sockets and orders.rest_connections else float(orders.sockets > 0)
    return {
        "limits": stages,
        "shares_of_limits": limits.shares(own, stages, socket_share),
        "healthz": _healthz(found, orders, seconds),
        "baselines": designs,
        "times_faster": {name: round(own["per_s"] / max(1.0, one["per_s"]), 2) for name, one in designs.items()},
    }


def _healthz(found: Connection, orders: Orders, seconds: float) -> Json:
    """The same gateways answering a constant by their ordinary routes."""
    say("limit: /healthz of the same gateways")
    asked = msgspec.structs.replace(
        orders,
        seconds=seconds,
        rest_connections=orders.rest_connections + orders.sockets,
        sockets=0,
        rate=0.0,
        curve="even",
        path="/healthz",
        is_get=True,
        ca_file=found.ca_file,
    )
    return measured(asked, lambda: processes.cpu_seconds(found.pids, found.up_pid))


def main() -> None:
    """The command."""
    options = parse()
    document = run(options)
    if options.html is not None:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(page.html(document), encoding="utf-8")
        say(f"wrote {options.html}")
    print(msgspec.json.encode(document).decode() if options.as_json else text.text(document))  # noqa: T201


if __name__ == "__main__":
    main()
