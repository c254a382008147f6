"""What all kinds of user have in common: they act, wait, and tell Locust how it went.

Rules:
1. A refusal that the task names is an answer; every other error of the client is a failure.
2. Who cannot even begin (no sign-in, no socket) is told as a failure and goes.
3. Whatever a user opens goes on `leaving`: a user may be ended anywhere, also while it begins.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar, TypeVar

from locust import User
from locust.exception import StopUser

from gateway.client import ApiError, Client, MasterVipError
from loadtest.locusts.run import Run

T = TypeVar("T")
NONE: frozenset[str] = frozenset()
# Per process. An organisation may have 100 in force, and each may ask ordinary routes 100 times a second.
KEYS_PER_KIND = 4


class Visitor(User):
    """`kind` is the type in Locust's tables, `pause_s` how long it waits at `--pace 1`, from and to."""

    abstract = True
    kind = ""
    pause_s: tuple[float, float] = (1.0, 1.0)
    run_now: ClassVar[Run]

    def on_start(self) -> None:
        """A number of its own."""
        self.leaving = ExitStack()
        self.number = self.run_now.next_number()

    def on_stop(self) -> None:
        """Closes what it opened."""
        self.leaving.close()

    def wait_time(self) -> float:
        """Seconds until its next task."""
        return random.uniform(*self.pause_s) / self.run_now.pace

    def asked(self, name: str, work: Callable[[], T], refusals: frozenset[str] = NONE) -> T | None:
        """What `work` returns, told to Locust under `name`; None if it was refused or failed."""
        began_s = time.perf_counter()
        answer: T | None = None
        failure: MasterVipError | None = None
        try:
            answer = work()
        except MasterVipError as error:
            if not (isinstance(error, ApiError) and error.code in refusals):
                failure = error
        self.told(name, 1_000 * (time.perf_counter() - began_s), failure)
        return answer

    def begun(self, name: str, work: Callable[[], T]) -> T:
        """The same for what it cannot do without (rule 2)."""
        made = self.asked(name, work)
        if made is None:
            raise StopUser
        return made

    def once(self, name: tuple[str, ...], title: str, work: Callable[[], T]) -> T:
        """The same for what all users of this process have together."""
        return self.run_now.shared(name, lambda: self.begun(title, work))

    def with_key(self, scopes: list[str]) -> Client:
        """A client with one of its kind's API keys."""
        name = ("key", self.kind, str(self.number % KEYS_PER_KIND))
        return self.once(name, "key", lambda: self.run_now.new_key(self.kind, scopes))

    def read(self, vip: Client, name: str, path: str, **params: str | int) -> None:
        """One page of a list: the client's own iterators read them all."""
        caller: Any = vip
        self.asked(name, lambda: caller.request("GET", path, params=params))

    def told(self, name: str, took_ms: float, failure: Exception | None = None) -> None:
        """A line for Locust."""
        self.environment.events.request.fire(
            request_type=self.kind,
            name=name,
            response_time=took_ms,
            response_length=0,
            exception=failure,
            context={},
        )

    def fixture(self, name: str) -> Any:
        """The item of a list in the fixtures that is this user's turn."""
        items = self.run_now.fixtures[name]
        return items[self.number % len(items)]
