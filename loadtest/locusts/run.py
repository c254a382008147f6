"""What all users of one Locust process share: the fixtures, the client, and what is made once for all of them.

Rules:
1. Made once: whoever needs it first makes it while those who need the same wait. What could not be made is tried again
   by the next. Of one sort (the first word of its name) one thing is made at a time: an address may sign in 30 times a
   minute, and of many that try together some would wait too long.
2. Users of different workers begin at different cards, as far as there are enough.
3. API keys that were made here are revoked at the end.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar, get_args

from gateway.client import Client, MasterVip, MasterVipError
from loadtest.client.orders import Curve

T = TypeVar("T")
Json = dict[str, Any]
CURVES: tuple[str, ...] = get_args(Curve)
NUMBERS_BETWEEN_WORKERS = 37


class Run:
    """One process's. `begin` it before its users, `end` it after them; it may begin again."""

    def __init__(self, fixtures: Json, pace: float) -> None:
        self.fixtures = fixtures
        self.pace = pace
        self._client: MasterVip | None = None

    def begin(self, client: MasterVip, worker: int) -> None:
        """With a client that this run closes, as the worker with that number (from 0)."""
        self._client = client
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._made: dict[tuple[str, ...], Any] = {}
        self._key_ids: list[str] = []
        self._numbers = count(worker * NUMBERS_BETWEEN_WORKERS)

    def end(self) -> None:
        """Revokes its keys and closes its client. Locust may say twice that it is over, also at the same time."""
        client, self._client = self._client, None
        if client is None:
            return
        owner = client.acting_as(self.fixtures["api_key"])
        try:
            for key_id in self._key_ids:
                owner.orgs.revoke_api_key(self.fixtures["org_id"], key_id)
        except MasterVipError as error:
            logging.getLogger(__name__).warning("an API key was not revoked: %s", error)
        client.close()

    @property
    def client(self) -> MasterVip:
        """Whose connections all share."""
        assert self._client is not None, "users come after the beginning and go before the end"
        return self._client

    def next_number(self) -> int:
        """Of a new user."""
        return next(self._numbers)

    def shared(self, name: tuple[str, ...], make: Callable[[], T]) -> T:
        """What goes by this name (rule 1)."""
        if name not in self._made:
            with self._locks[name[0]]:
                if name not in self._made:
                    self._made[name] = make()
        made: T = self._made[name]
        return made

    def new_key(self, kind: str, scopes: list[str]) -> Client:
        """A client with an API key of its own."""
        owner = self.client.acting_as(self.fixtures["api_key"])
        made = owner.orgs.add_api_key(self.fixtures["org_id"], name=f"Load: {kind}", scopes=scopes)
        self._key_ids.append(made["id"])
        return self.client.acting_as(made["key"])

    def sign_in(self, account: Json) -> Client:
        """A client of somebody who signs in."""
        person = self.client.acting_as(None)
        person.login(account["email"], account["password"], org_id=self.fixtures["org_id"])
        return person
