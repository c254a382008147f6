"""A whole evening for Locust: four kinds of user, in a stated mix, along the curve of an evening, through the project's
own client.

    python -m loadtest.accounts --fixtures fixtures.json                  # once: people with a member's app
    locust -f loadtest/locustfile.py --host http://127.0.0.1:8080 --fixtures fixtures.json -u 200 -t 5m [KIND …]

The mix, of every 20 users at the same time (`weight`), and what each does a second at `--pace 1`:

    12 MemberApp       0.20   a member's app over REST: rotating code, balance, ledger, coupons, board around oneself
     4 SocketScanner   1.00   a door over a socket
     1 RestScanner     1.00   a door over REST
     2 Till            0.33   a café's till: points, coupons, wallet
     1 Organiser       0.25   the event's live board and points board over a socket; counts, statistics, log over REST

So of 100 calls about 58 are check-ins, 28 a member's, 11 a till's (which often makes several in a row) and 3 an
organiser's; what boards are told comes on top.

Rules:
1. A refusal is an answer. A request fails when it has no answer after all that the client tries, or one that nobody
   should get; the time that it took is that of all tries.
2. Workers share nothing but the fixtures file. Each process makes what else it needs, and removes its API keys.
3. Locust and the client cost about a millisecond a request; for what the system can do at most there are
   `loadtest.bench` and `loadtest/wrk`.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
from locust import events
from locust.runners import MasterRunner, WorkerRunner

from gateway.client import MasterVip
from gateway.client.client import URL_DEFAULT
from loadtest.client.orders import Curve
from loadtest.locusts.arrivals import Arrivals
from loadtest.locusts.guest import MemberApp
from loadtest.locusts.organiser import Organiser
from loadtest.locusts.run import CURVES, Run
from loadtest.locusts.scanner import RestScanner, SocketScanner
from loadtest.locusts.till import Till
from loadtest.locusts.visitor import Visitor

__all__ = ["Arrivals", "MemberApp", "Organiser", "RestScanner", "SocketScanner", "Till"]

CONNECTIONS_MAX = 256


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: Any) -> None:
    """Each may also be given in the environment."""
    parser.add_argument("--fixtures", env_var="FIXTURES", default="fixtures.json", help="fixtures of `mastervip seed`")
    parser.add_argument("--curve", env_var="CURVE", choices=CURVES, default="doors", help="users over the run")
    parser.add_argument("--pace", env_var="PACE", type=float, default=1.0, help="how many times as fast all users act")


@events.init.add_listener  # type: ignore[untyped-decorator]
def read_fixtures(environment: Any, **_: Any) -> None:
    """Once per process."""
    options = environment.parsed_options
    path = Path(options.fixtures)
    if not path.exists():
        sys.exit(f"{path} is not there: run `mastervip seed --out {path}` first, or name another file with --fixtures")
    fixtures = json.loads(path.read_bytes())
    if MemberApp in environment.user_classes and not fixtures.get("members"):
        sys.exit(
            f"{path} has no people with an account: run `python -m loadtest.accounts --fixtures {path}` first, or name "
            "the kinds of user that you want without MemberApp"
        )
    if options.pace <= 0:
        sys.exit("--pace is above 0")
    curve: Curve = options.curve
    Visitor.run_now = Run(fixtures, options.pace)
    Arrivals.curve = curve
    if options.headless and not isinstance(environment.runner, WorkerRunner):
        # While a shape runs Locust listens to no signal, and would leave its workers behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            gevent.signal_handler(number, environment.runner.quit)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request is too much


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def connect(environment: Any, **_: Any) -> None:
    """One client per process, whose connections all users share: under gevent there can be no other event loop."""
    if isinstance(environment.runner, MasterRunner):
        return  # its workers have the users
    worker = getattr(environment.runner, "worker_index", 0)
    Visitor.run_now.begin(MasterVip(environment.host or URL_DEFAULT, connections_max=CONNECTIONS_MAX), max(worker, 0))


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def disconnect(**_: Any) -> None:
    """When all users have stopped."""
    Visitor.run_now.end()
