"""News of changed access: a session, account, key, device or organisation that may do less (or more) than a moment ago.

Rules:
1. News travels by Redis pub/sub, on one channel for all gateways, and may be lost (Redis keeps nothing): whoever acts
   on it must also look again by itself now and then (`IDENTITY_FRESH_MS`, `TOKEN_CHECK_EVERY_MS`).
2. It names what changed, never how: a gateway that hears it asks Postgres.
3. After the connection was down, an `AccessChange` with no id tells to look at everything again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Literal, Protocol

import msgspec
import structlog
from redis.exceptions import RedisError

from gateway.redis_listener import RedisListener, redis_client
from storage.tasks import ended

CHANNEL: Final = "mv:access"
AccessKind = Literal["account", "session", "api_key", "device", "org", "everything"]
_log = structlog.get_logger(__name__)


class AccessChange(msgspec.Struct, frozen=True):
    """What changed. `tenant_id` is "" for accounts and sessions, which are nobody's."""

    kind: AccessKind
    id: str = ""
    tenant_id: str = ""


EVERYTHING: Final = AccessChange("everything")


class AccessFeed(Protocol):
    """How gateways tell each other."""

    async def publish(self, change: AccessChange) -> None:
        """Tells all gateways, this one included. Never raises: what cannot be told is found by looking again."""

    def follow(self, on_change: Callable[[AccessChange], None]) -> None:
        """Has `on_change` called for every change from now on."""


class MemoryAccessFeed:
    """The feed within one process."""

    def __init__(self) -> None:
        self._followers: list[Callable[[AccessChange], None]] = []

    async def publish(self, change: AccessChange) -> None:
        """See `AccessFeed`."""
        for follower in self._followers:
            follower(change)

    def follow(self, on_change: Callable[[AccessChange], None]) -> None:
        """See `AccessFeed`."""
        self._followers.append(on_change)


class RedisAccessFeed:
    """The feed over Redis. `start` and `close` in the event loop that uses it."""

    def __init__(self, url: str) -> None:
        self._redis = redis_client(url)
        self._followers: list[Callable[[AccessChange], None]] = []
        self._listener = RedisListener(self._redis, self._take, lambda: self._tell(EVERYTHING))
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to listen."""
        self._tasks = [
            asyncio.create_task(self._listener.run()),
            asyncio.create_task(self._listener.subscribe(CHANNEL)),
        ]

    async def publish(self, change: AccessChange) -> None:
        """See `AccessFeed`. Followers here hear it at once, also while Redis is away."""
        self._tell(change)
        try:
            await self._redis.publish(CHANNEL, msgspec.msgpack.encode(change))
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("news of changed access not published", kind=change.kind, error=repr(error))

    def follow(self, on_change: Callable[[AccessChange], None]) -> None:
        """See `AccessFeed`."""
        self._followers.append(on_change)

    async def close(self) -> None:
        """Stops listening."""
        await ended(*self._tasks)
        await self._redis.aclose()

    def _take(self, channel: str, payload: bytes) -> None:
        try:
            change = msgspec.msgpack.decode(payload, type=AccessChange)
        except msgspec.DecodeError as error:
            _log.warning("news of changed access unreadable", error=str(error))
            change = EVERYTHING
        self._tell(change)

    def _tell(self, change: AccessChange) -> None:
        for follower in self._followers:
            follower(change)
