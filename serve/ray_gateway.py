"""The gateways as a Ray Serve deployment. Serve places, checks and replaces the replicas; each has its own listener.

Serve's drain knows nothing of our sockets. It ends with `__del__`, which therefore drains for itself, within Serve's
`graceful_shutdown_timeout_s`. Where there may be more gateways under load, Serve asks each how busy it is, and
`serve.gateway_scaling` how many there should be.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

import ray.serve as ray_serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from gateway.sockets import limits
from serve import gateway_scaling, log_output, processes
from serve.edge import Edge
from serve.frame_transport import FrameTransport
from serve.frame_wire import wire_key
from serve.listener import Listener
from serve.ray_addresses import RayAddresses
from serve.settings import Settings
from storage.tasks import ended

APPLICATION = "gateway"
DEPLOYMENT = "Gateway"
HEALTH_CHECK_PERIOD_S = 2
HEALTH_CHECK_TIMEOUT_S = 5
WAIT_LOOP_S = 0.1
# How busy gateways were is a mean over so long; then it has to stay so for a while before one is added.
LOOK_BACK_S = 6.0
ADD_AFTER_S = 4.0
# Between two rounds of making room: those who were sent away have found another gateway by then.
ROUND_S = limits.RECONNECT_WINDOW_MS_MAX / 1_000 + 2.0
CALL_TIMEOUT_S = 10.0


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
        self._name = ray_serve.get_replica_context().replica_id.unique_id
        self._asking: asyncio.Task[None] | None = None
        if settings.gateways_max:
            self._asking = asyncio.get_running_loop().create_task(self._ask_for_room())
        self._busy_aim = settings.gateway_busy_aim
        self._told_at_s, self._worked_s = time.monotonic(), time.process_time()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve asks for every few seconds: how busy this gateway was since the last time, and how full it is,
        as shares of what one should be."""
        now_s, worked_s = time.monotonic(), time.process_time()
        busy = (worked_s - self._worked_s) / max(0.1, now_s - self._told_at_s)
        self._told_at_s, self._worked_s = now_s, worked_s
        full = len(self._edge.sockets) / limits.SOCKETS_MAX
        return {gateway_scaling.BUSY: busy / self._busy_aim, gateway_scaling.FULL: full / gateway_scaling.FULL_AIM}

    async def sockets(self) -> tuple[str, int]:
        """This replica's name, and how many sockets it has."""
        return self._name, len(self._edge.sockets)

    async def make_room(self, most: int) -> None:
        """Sends away what is above `most`."""
        await self._edge.sockets.make_room(most)

    async def _ask_for_room(self) -> None:
        """`gateway_scaling`'s rule 3."""
        others: Any = ray_serve.get_deployment_handle(DEPLOYMENT, APPLICATION)
        for _ in range(gateway_scaling.ROUNDS_MAX):
            with contextlib.suppress(RayError, TimeoutError):
                counts = dict(await others.broadcast("sockets").results_async(timeout_s=CALL_TIMEOUT_S))
                most = gateway_scaling.surplus({self._name: len(self._edge.sockets), **counts}, self._name)
                if most is None:
                    return
                await others.broadcast("make_room", most).results_async(timeout_s=CALL_TIMEOUT_S)
            await asyncio.sleep(ROUND_S)

    async def check_health(self) -> None:
        """Raises when this replica is of no use any more."""
        if not self._listener.is_serving:
            raise RuntimeError("the listener has ended")

    async def __del__(self) -> None:
        if self._asking is not None:
            await ended(self._asking)
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
        name=DEPLOYMENT,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_wait_loop_s=WAIT_LOOP_S,
        graceful_shutdown_timeout_s=settings.drain_timeout_s + 5,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        health_check_timeout_s=HEALTH_CHECK_TIMEOUT_S,
        **_number(settings),
    )(Gateway)
    ray_serve.run(deployment.bind(settings), name=APPLICATION, route_prefix=None)


def _number(settings: Settings) -> dict[str, Any]:
    if not settings.gateways_max:
        return {"num_replicas": settings.gateways}
    scaling = AutoscalingConfig(
        min_replicas=settings.gateways,
        max_replicas=settings.gateways_max,
        look_back_period_s=LOOK_BACK_S,
        upscale_delay_s=ADD_AFTER_S,
        downscale_delay_s=settings.gateway_linger_s,
        policy=AutoscalingPolicy(policy_function=gateway_scaling.policy),  # type: ignore[no-untyped-call]
    )
    return {"autoscaling_config": scaling}


def remove(settings: Settings) -> None:
    """Drains and ends the gateways. In a cluster that stays Serve is ended, too; ours ends as a whole."""
    ray_serve.delete(APPLICATION, _blocking=True)
    if settings.ray_address:
        ray_serve.shutdown()  # type: ignore[no-untyped-call]
