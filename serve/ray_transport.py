"""`gateway.ports.Transport` over Ray: one actor call per batch.

Rules:
1. Whatever goes wrong on the way is `HostUnavailable`: the batch may have been executed, and is safe to send again.
2. A handle outlives its actor's restarts. It is looked up again only when the actor is gone for good.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError

from gateway.ports import HostUnavailable
from serve.ray_cluster import NAMESPACE


class RayTransport:
    """Implements `gateway.ports.Transport`. Belongs to one event loop."""

    def __init__(self, submit_timeout_ms: int, collect_timeout_ms: int, lookup_timeout_ms: int) -> None:
        self._submit_timeout_s = submit_timeout_ms / 1000
        self._collect_timeout_s = collect_timeout_ms / 1000
        self._lookup_timeout_s = lookup_timeout_ms / 1000
        self._handles: dict[str, ActorHandle[Any]] = {}

    async def submit(self, host: str, batch: bytes) -> bytes:
        handle = self._handles.get(host) or await self._look_up(host)
        return await self._answer(host, handle.submit.remote(batch), self._submit_timeout_s)

    async def collect(self, host: str, ticket: int) -> bytes:
        handle = self._handles.get(host) or await self._look_up(host)
        return await self._answer(host, handle.collect.remote(ticket), self._collect_timeout_s)

    async def _answer(self, host: str, ref: Any, timeout_s: float) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                answer: bytes = await ref
                return answer
        except ActorDiedError as error:
            self._handles.pop(host, None)
            raise HostUnavailable(f"{host}: {type(error).__name__}") from error
        except (RayError, GetTimeoutError) as error:
            raise HostUnavailable(f"{host}: {type(error).__name__}") from error
        except TimeoutError as error:
            raise HostUnavailable(f"{host} did not answer within {timeout_s} s") from error

    async def _look_up(self, host: str) -> ActorHandle[Any]:
        """Asks Ray for the actor, in a thread, because that call blocks."""
        try:
            async with asyncio.timeout(self._lookup_timeout_s):
                handle = await asyncio.to_thread(ray.get_actor, host, NAMESPACE)
        except (ValueError, RayError, TimeoutError) as error:
            raise HostUnavailable(f"{host} is not known to Ray") from error
        self._handles[host] = handle
        return handle
