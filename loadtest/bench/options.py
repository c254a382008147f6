"""The command line, and what the profiles are. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.bench.fixtures import Fixtures
from loadtest.client.orders import Curve, Event, Orders

WARMUP_S_DEFAULT = 2.0
MEMBERS_DEFAULT = 100_000
EVENTS_DEFAULT = 50
SECONDS_DEFAULT = 20.0
BASELINE_SECONDS = 5.0


class Profile(msgspec.Struct, frozen=True):
    """How the load comes in. A connection is at one event, so there are at least as many as events. `rate` is what is
    meant where none is named; 0: as many as it takes."""

    rest_connections: int
    sockets: int
    rate: float = 0.0
    curve: Curve = "even"


PROFILES = {
    "rest": Profile(100, 0),
    "ws": Profile(0, 50),
    "mixed": Profile(50, 50),
    "doors": Profile(50, 50, 3_000.0, "doors"),
}
SOCKET_SHARE = 0.8  # of the check-ins, in `mixed` and `doors`


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="mastervip bench", description="Measure check-ins, with baselines.")
    parser.add_argument("--profile", choices=list(PROFILES), default="mixed")
    parser.add_argument("--seconds", type=float, default=SECONDS_DEFAULT, help="measured time, after a warm-up")
    parser.add_argument("--warmup", type=float, default=WARMUP_S_DEFAULT, help="seconds before each measured time")
    parser.add_argument("--runs", type=int, default=1, help="the median of so many is reported")
    parser.add_argument("--connections", type=int, help="REST connections and sockets together")
    parser.add_argument("--window", type=int, default=16, help="scans under way per socket")
    parser.add_argument("--scans-per-frame", type=int, default=1, help="above 1: `scans` frames")
    parser.add_argument("--rate", type=float, help="check-ins a second, the mean with `doors`; 0: as many as it takes")
    parser.add_argument("--members", type=int, default=MEMBERS_DEFAULT, help="cards that take part")
    parser.add_argument("--events", type=int, default=EVENTS_DEFAULT, help="events that they come to")
    parser.add_argument("--url", help="only to say where a system on the default --data runs")
    parser.add_argument("--data", type=Path, help="the directory of a running system; else one is started")
    parser.add_argument("--hosts", type=int, default=1, help="of the system that is started")
    parser.add_argument("--gateways", type=int, default=2, help="of the system that is started")
    parser.add_argument(
        "--fixtures", type=Path, help="a file of `mastervip seed` on --data; if there is none, it is written"
    )
    parser.add_argument("--baseline-seconds", type=float, default=BASELINE_SECONDS, help="for each of them")
    parser.add_argument("--no-baselines", action="store_true", help="neither baselines nor limits")
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--html", type=Path, help="write a report with plots there")
    return parser.parse_args(arguments)


def orders_for(options: argparse.Namespace, found: Fixtures, port: int) -> Orders:
    """The load client's orders for the profile."""
    profile = PROFILES[options.profile]
    rest, sockets = profile.rest_connections, profile.sockets
    if options.connections is not None:
        part = sockets / (rest + sockets)
        sockets = round(options.connections * part)
        rest = options.connections - sockets
    # With fewer cards than connections some would have nobody to let in.
    cards = len(found.cards)
    if rest + sockets > cards:
        rest, sockets = rest * cards // (rest + sockets), sockets * cards // (rest + sockets)
    return Orders(
        host="127.0.0.1",
        port=port,
        seconds=options.seconds,
        warmup_s=options.warmup,
        rest_connections=rest,
        sockets=sockets,
        socket_share=SOCKET_SHARE,
        window=max(options.window, options.scans_per_frame),
        scans_per_frame=options.scans_per_frame,
        rate=profile.rate if options.rate is None else options.rate,
        curve=profile.curve,
        events=[Event(event.id, [scanner.token for scanner in event.scanners]) for event in found.events],
        credentials=[card.credential for card in found.cards],
    )
