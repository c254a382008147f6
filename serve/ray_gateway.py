"""The gateways as a Ray Serve deployment. Serve places, checks and replaces the replicas; each has its own listener.

Serve's drain knows nothing of our sockets. It ends with `__del__`, which therefore drains for itself, within Serve's
`graceful_shutdown_timeout_s`.
"""

from __future__ import annotations

import logging
from typing import Any

import ray.serve as ray_serve

from serve import log_output, processes
from serve.edge import Edge
from serve.frame_transport import FrameTransport
from serve.frame_wire import wire_key
from serve.listener import Listener
from serve.ray_addresses import RayAddresses
from serve.settings import Settings

APPLICATION = "gateway"
HEALTH_CHECK_PERIOD_S = 2
HEALTH_CHECK_TIMEOUT_S = 5
WAIT_LOOP_S = 0.1


class Gateway:
    """One replica."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        log_output.configure()
        self._transport = FrameTransport(
            RayAddresses().find,
            wire_key(settings.secret()),
            settings.submit_timeout_ms,
            settings.collect_timeout_ms,
            settings.actor_lookup_timeout_ms,
        )
        self._edge = Edge(settings, self._transport)
        await self._edge.start()
        self._listener = Listener(self._edge.app, settings, self._edge.app.direct)
        await self._listener.start()
        processes.announce(settings.data, "gateway")
        processes.settle()

    async def check_health(self) -> None:
        """Raises when this replica is of no use any more."""
        if not self._listener.is_serving:
            raise RuntimeError("the listener has ended")

    async def __del__(self) -> None:
        self._listener.close_doors()
        await self._edge.drain()
        await self._listener.stop()
        await self._edge.stop()
        await self._transport.close()


def deploy(settings: Settings) -> None:
    """Starts the gateways and returns once they all listen."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray_serve.start(proxy_location="Disabled")
    deployment: Any = ray_serve.deployment(
        name="Gateway",
        num_replicas=settings.gateways,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_wait_loop_s=WAIT_LOOP_S,
        graceful_shutdown_timeout_s=settings.drain_timeout_s + 5,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        health_check_timeout_s=HEALTH_CHECK_TIMEOUT_S,
    )(Gateway)
    ray_serve.run(deployment.bind(settings), name=APPLICATION, route_prefix=None)


def remove(settings: Settings) -> None:
    """Drains and ends the gateways. In a cluster that stays Serve is ended, too; ours ends as a whole."""
    ray_serve.delete(APPLICATION, _blocking=True)
    if settings.ray_address:
        ray_serve.shutdown()  # type: ignore[no-untyped-call]
