"""What the edge needs of the rest, as protocols: the way to the hosts, who owns which partition, and the live updates.

`Engine` is what routes and sockets call; `gateway.dispatcher` implements it on `Transport` and `Directory`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

import msgspec

from actors.codec import Message
from actors.replies import Digest, Reply


class HostUnavailable(Exception):
    """The host did not answer. The batch may have been executed or not; sending it again is safe (request ids)."""


class Transport(Protocol):
    """Carries encoded batches (`actors.codec`) to a host and its answers back. Keeps no order between calls."""

    async def submit(self, host: str, batch: bytes) -> bytes:
        """Hands over a batch (up to `gateway.limits.BATCH_BYTES_MAX`, more only if it is one message) and returns the
        encoded `Answers` once all that is decided is durable. Raises `HostUnavailable`."""

    async def collect(self, host: str, ticket: int) -> bytes:
        """The replies that `submit` deferred, once decided. Raises `HostUnavailable`."""


class Placement(msgspec.Struct, frozen=True):
    """Which host owns which partition, as last heard. A hint: a host that is not the owner answers `moved`, and the
    journal refuses its writes. `version` grows with each change. `pins` says which host an operator chose for a
    partition; it holds for as long as that host lives."""

    version: int
    partition_count: int
    hosts: dict[str, list[int]]
    pins: dict[int, str] = {}


class Directory(Protocol):
    """Where placement is read from."""

    async def placement(self) -> Placement | None:
        """The placement now; None before the first host took a partition or while the store is away."""

    def changes(self) -> AsyncIterator[Placement]:
        """Every placement from now on, as it changes. Ends when closed."""


class LiveSource(Protocol):
    """Updates of live topics, as hosts publish them. May lose messages (the consumer sees it by the offset) but never
    reorders."""

    async def subscribe(self, tenant_id: str, topic: str) -> None:
        """Starts delivery of a topic's digests; returns once the subscription holds."""

    async def unsubscribe(self, tenant_id: str, topic: str) -> None:
        """Ends it."""

    def digests(self) -> AsyncIterator[Digest]:
        """All subscribed digests, in order per topic."""


class Engine(Protocol):
    """The hosts as one: finds the owner, batches, retries within the deadline with the same request id."""

    async def ask(self, message: Message) -> Reply:
        """The reply to one message; infrastructure trouble comes back as `Failed` with `retry_after_ms`, never as an
        exception."""

    def submit(self, message: Message, on_reply: Callable[[Reply], None]) -> None:
        """Same, without a task or future per message, for the paths where microseconds count."""
