"""Where hosts listen, asked of their Ray actors.

A handle outlives its actor's restarts. It is looked up again only when the actor is gone for good.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from gateway.ports import HostUnavailable
from serve.frame_wire import HostAddress
from serve.ray_cluster import NAMESPACE


class RayAddresses:
    """Belongs to one event loop. Has no timeouts of its own."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}  # Ray's types lose the answers'

    async def find(self, host: str) -> HostAddress:
        """The address of the process that runs as this host now. Raises `HostUnavailable`."""
        try:
            handle = self._handles.get(host)
            if handle is None:
                # In a thread, because this call blocks.
                handle = self._handles[host] = await asyncio.to_thread(ray.get_actor, host, NAMESPACE)
            address: HostAddress = await handle.address.remote()
        except ActorDiedError as error:
            self._handles.pop(host, None)
            raise HostUnavailable(f"{host} is gone for good") from error
        except (ValueError, RayError) as error:
            raise HostUnavailable(f"Ray cannot tell where {host} is: {type(error).__name__}") from error
        return address
