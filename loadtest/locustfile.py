"""Scanners for Locust, over REST and over sockets, through the project's own client.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8080 --fixtures fixtures.json [RestScanner|SocketScanner]

Rules:
1. Each user has cards of its own and lets them in and out by turns, so that nearly every scan is admitted.
2. A refusal is an answer. A scan fails when it has no verdict after all that the client tries; the time that it took is
   that of all tries.
3. Locust and the client cost about a millisecond a scan; for what the system can do at most there is `loadtest.bench`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from itertools import count, cycle
from pathlib import Path
from typing import Any

from locust import User, between, events, task

from gateway.client import Client, MasterVip, MasterVipError
from gateway.client.client import URL_DEFAULT

CARDS_PER_USER = 20
CONNECTIONS_MAX = 256

Json = dict[str, Any]
_numbers = count()
_fixtures: Json = {}


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_option(parser: Any) -> None:
    """`--fixtures`: the file that `mastervip seed` wrote (also FIXTURES in the environment)."""
    parser.add_argument("--fixtures", env_var="FIXTURES", default="fixtures.json", help="fixtures of `mastervip seed`")


@events.init.add_listener  # type: ignore[untyped-decorator]
def read_fixtures(environment: Any, **_: Any) -> None:
    """Once per process."""
    path = Path(environment.parsed_options.fixtures)
    if not path.exists():
        sys.exit(f"{path} is not there: run `mastervip seed --out {path}` first, or name another file with --fixtures")
    _fixtures.update(json.loads(path.read_bytes()))
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request is too much


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def connect(environment: Any, **_: Any) -> None:
    """One client per process, whose connections all users share: under gevent there can be no other event loop."""
    Scanner.client = MasterVip(environment.host or URL_DEFAULT, connections_max=CONNECTIONS_MAX)


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def disconnect(**_: Any) -> None:
    """When all users have stopped."""
    Scanner.client.close()


class Scanner(User):
    """A door with a steady stream of guests."""

    abstract = True
    wait_time = between(0.05, 0.2)
    kind = ""
    client: MasterVip

    def on_start(self) -> None:
        """Takes an event, a device and cards."""
        number = next(_numbers)
        self._event: Json = _fixtures["events"][number % len(_fixtures["events"])]
        scanner = self._event["scanners"][number % len(self._event["scanners"])]
        cards = _fixtures["cards"]
        first = number * CARDS_PER_USER % len(cards)
        own = (cards + cards)[first : first + CARDS_PER_USER]
        self._scans = cycle([(card["credential"], direction) for direction in ("entry", "exit") for card in own])
        self._vip: Client = self.client.acting_as(scanner["token"])

    def reported(self, scan: Callable[[str, str], Json]) -> None:
        """Does the next guest's scan and tells Locust how it went (rule 2)."""
        credential, direction = next(self._scans)
        began_s = time.perf_counter()
        error: MasterVipError | None = None
        try:
            scan(credential, direction)
        except MasterVipError as failed:
            error = failed
        self.environment.events.request.fire(
            request_type=self.kind,
            name="scan",
            response_time=1_000 * (time.perf_counter() - began_s),
            response_length=0,
            exception=error,
            context={},
        )


class RestScanner(Scanner):
    """One that asks over REST."""

    kind = "REST"

    @task
    def check_in(self) -> None:
        """The next guest."""
        self.reported(lambda credential, way: self._vip.check_in(self._event["id"], credential, direction=way))


class SocketScanner(Scanner):
    """One with a socket."""

    kind = "WS"

    def on_start(self) -> None:
        """Connects, too."""
        super().on_start()
        self._socket = self._vip.scan_socket(self._event["id"])
        self._socket.__enter__()

    def on_stop(self) -> None:
        """Disconnects."""
        self._socket.close()

    @task
    def scan(self) -> None:
        """The next guest."""
        self.reported(lambda credential, way: self._socket.scan(credential, direction=way))
