"""Organisers: a live board that is always open, and questions that come and go.

Rules:
1. "live snapshot" is from asking for a topic until there is something to see.
2. "live update" is how old the newest scan of an update is when it is here: by the clocks of the system and of this
   machine, which have to agree where they are two.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from locust import task

from gateway.client import MasterVipError
from loadtest.locusts.run import Json
from loadtest.locusts.visitor import Visitor

TOP = 20
PAGE = 50


class Organiser(Visitor):
    """Somebody who runs an event: about one question in four seconds."""

    weight = 1
    kind = "organiser"
    pause_s = (2.0, 6.0)

    def on_start(self) -> None:
        """Opens the board of an event and the one of points."""
        super().on_start()
        self._event: str = self.fixture("events")["id"]
        self._vip = self.with_key(["read"])
        self._live = self._vip.live_socket()
        self.leaving.callback(self._live.close)
        self.begun("connect", self._live.__enter__)
        topics: list[tuple[str, Callable[[Json], None]]] = [
            (f"event:{self._event}", self._on_event),
            ("leaderboard:points", lambda _: None),
        ]
        for topic in topics:
            # A greenlet: Locust has seen to that. It ends when the socket is closed.
            threading.Thread(target=self._watch, args=topic, daemon=True).start()

    def _watch(self, topic: str, on_update: Callable[[Json], None]) -> None:
        """Follows a topic until the socket is closed."""
        began_s: float | None = time.perf_counter()
        try:
            for change in self._live.subscribe(topic):
                if began_s is not None:
                    self.told("live snapshot", 1_000 * (time.perf_counter() - began_s))
                    began_s = None
                elif change.kind == "update":
                    on_update(change.data)
        except MasterVipError as error:
            self.told("live", 0.0, error)

    def _on_event(self, feed: Json) -> None:
        if feed["scans"]:
            newest_ms = max(scan["at"] for scan in feed["scans"])
            self.told("live update", max(0.0, time.time() * 1_000 - newest_ms))

    @task(4)
    def attendance(self) -> None:
        """How many are inside."""
        self.asked("attendance", lambda: self._vip.events.attendance(self._event))

    @task(3)
    def leaderboard(self) -> None:
        """The top."""
        self.asked("leaderboard", lambda: self._vip.leaderboards.get("points", limit=TOP))

    @task(2)
    def statistics(self) -> None:
        """Scans by gate and by minute."""
        self.asked("statistics", lambda: self._vip.events.statistics(self._event, step="minute"))

    @task(2)
    def scan_log(self) -> None:
        """The newest refusals."""
        path = f"/v1/events/{self._event}/checkins"
        self.read(self._vip, "scan log", path, limit=PAGE, verdict="refused")
