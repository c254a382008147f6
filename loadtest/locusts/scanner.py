"""Doors: scanners over a socket, four of five, and over REST.

Each has cards of its own and lets them in and out by turns, so that nearly every scan is admitted.
"""

from __future__ import annotations

from itertools import cycle

from locust import task

from loadtest.locusts.run import Json
from loadtest.locusts.visitor import Visitor

CARDS_PER_SCANNER = 20


class Scanner(Visitor):
    """A door with a steady stream of guests, about one a second."""

    abstract = True
    pause_s = (0.5, 1.5)

    def on_start(self) -> None:
        """Takes an event, a device and cards."""
        super().on_start()
        self._event: Json = self.fixture("events")
        scanners = self._event["scanners"]
        cards = self.run_now.fixtures["cards"]
        first = self.number * CARDS_PER_SCANNER % len(cards)
        own = (cards + cards)[first : first + CARDS_PER_SCANNER]
        self._scans = cycle([(card["credential"], direction) for direction in ("entry", "exit") for card in own])
        self._vip = self.run_now.client.acting_as(scanners[self.number % len(scanners)]["token"])


class RestScanner(Scanner):
    """One that asks over REST."""

    weight = 1
    kind = "door/rest"

    @task
    def check_in(self) -> None:
        """The next guest."""
        credential, direction = next(self._scans)
        self.asked("scan", lambda: self._vip.check_in(self._event["id"], credential, direction=direction))


class SocketScanner(Scanner):
    """One with a socket."""

    weight = 4
    kind = "door/socket"

    def on_start(self) -> None:
        """Connects, too."""
        super().on_start()
        self._socket = self._vip.scan_socket(self._event["id"])
        self.leaving.callback(self._socket.close)
        self.begun("connect", self._socket.__enter__)

    @task
    def scan(self) -> None:
        """The next guest."""
        credential, direction = next(self._scans)
        self.asked("scan", lambda: self._socket.scan(credential, direction=direction))
