"""A scanner for Locust: one check-in after the other over REST.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8080 --fixtures fixtures.json

Rules:
1. Each user has cards of its own and lets them in and out by turns, so that nearly every scan is admitted.
2. A refusal is an answer: only a status other than 200 is a failure. Locust itself costs about a millisecond a request;
   for what the system can do at most there is `loadtest.bench`.
"""

from __future__ import annotations

import json
import sys
from itertools import count, cycle
from pathlib import Path
from typing import Any

from locust import HttpUser, between, events, task

from loadtest.plan import RequestIds

CARDS_PER_USER = 20

_numbers = count()
_ids = RequestIds()
_fixtures: dict[str, Any] = {}


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


class Scanner(HttpUser):
    """A door with a steady stream of guests."""

    wait_time = between(0.05, 0.2)

    def on_start(self) -> None:
        """Takes an event, a device and cards."""
        number = next(_numbers)
        event = _fixtures["events"][number % len(_fixtures["events"])]
        scanner = event["scanners"][number % len(event["scanners"])]
        cards = _fixtures["cards"]
        first = number * CARDS_PER_USER % len(cards)
        own = (cards + cards)[first : first + CARDS_PER_USER]
        self._event_id = event["id"]
        self._headers = {"Authorization": f"Bearer {scanner['token']}"}
        self._scans = cycle([(card["credential"], direction) for direction in ("entry", "exit") for card in own])

    @task
    def check_in(self) -> None:
        """The next guest."""
        credential, direction = next(self._scans)
        body = {
            "event_id": self._event_id,
            "credential": credential,
            "direction": direction,
            "scan_id": _ids.next().decode(),
        }
        self.client.post("/v1/checkins", json=body, headers=self._headers)
