"""Watching one Ray actor: asks for its health over and over, one question at a time, and keeps what is known of it.

Rules:
1. Dead is: Ray says so, or no answer within the timeout (a stopped process), or a report of a loop that stands still.
   The last two are silence (`is_silent`): such a process may go on with all that it has.
2. A process that stays silent for `hung_kill_after_ms` is killed, so that Ray replaces it.
3. An actor that is gone for good is created anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import ray
import structlog
from ray.exceptions import ActorDiedError, RayError

from serve.settings import Settings


class Report(Protocol):
    """What every watched actor's `health` answers, at least."""

    @property
    def incarnation(self) -> str: ...

    @property
    def pid(self) -> int: ...

    @property
    def beat_age_ms(self) -> int: ...


R = TypeVar("R", bound=Report)

_log = structlog.get_logger(__name__)


class ActorWatch(Generic[R]):
    """What is known of the actor `name`. `on_change` is called when it dies, comes back or was replaced."""

    def __init__(self, name: str, create: Callable[[], Any], settings: Settings, on_change: Callable[[], None]) -> None:
        self.name = name
        self.report: R | None = None
        self.reported_at_s = 0.0
        self.is_alive = False
        self.is_silent = False
        self.handle: Any = None
        self._create = create
        self._interval_s = settings.health_interval_ms / 1000
        self._timeout_s = settings.health_timeout_ms / 1000
        self._beat_age_ms_max = settings.beat_age_ms_max
        self._hung_kill_after_s = settings.hung_kill_after_ms / 1000
        self._on_change = on_change
        self._last_answer_s = time.monotonic()
        self._asked = False

    async def run(self) -> None:
        """Watches until cancelled."""
        self.handle = self._create()
        while True:
            await self._ask()
            await asyncio.sleep(self._interval_s)

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(
                self._timeout_s if self._asked else None
            ):  # the first answer waits for the start
                report: R = await self.handle.health.remote()
        except ActorDiedError:
            self._set_dead("is gone for good", is_silent=False)
            self._asked = False
            self.handle = self._create()
        except RayError as error:
            self._set_dead(f"does not answer: {type(error).__name__}", is_silent=False)
        except TimeoutError:
            self._set_dead("does not answer in time", is_silent=True)
            self._kill_if_hung()
        else:
            self._take(report)
        self._asked = True

    def _take(self, report: R) -> None:
        self._last_answer_s = self.reported_at_s = time.monotonic()
        was_replaced = self.report is not None and self.report.incarnation != report.incarnation
        self.report = report
        if was_replaced:
            _log.warning("process was replaced", actor=self.name, pid=report.pid)
            self._on_change()
        if report.beat_age_ms > self._beat_age_ms_max:
            self._set_dead(f"has stood still for {report.beat_age_ms} ms", is_silent=not was_replaced)
        elif not self.is_alive:
            self.is_alive, self.is_silent = True, False
            self._changed("is well")

    def _set_dead(self, why: str, *, is_silent: bool) -> None:
        was_silent, self.is_silent = self.is_silent, is_silent and (self.is_alive or self.is_silent)
        if self.is_alive or was_silent != self.is_silent:
            self.is_alive = False
            self._changed(why)

    def _changed(self, why: str) -> None:
        _log.warning("actor " + why, actor=self.name)
        self._on_change()

    def _kill_if_hung(self) -> None:
        if time.monotonic() - self._last_answer_s > self._hung_kill_after_s:
            _log.warning("actor is killed to be replaced", actor=self.name)
            self._last_answer_s = time.monotonic()
            ray.kill(self.handle, no_restart=False)
