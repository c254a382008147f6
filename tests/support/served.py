"""A whole engine (`tests.edge.in_process`) behind a real server at 127.0.0.1, with its sockets: for tests of
clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import uvicorn

from gateway.http import AsgiApp
from gateway.live_hub import LiveHub
from gateway.memory_live import MemoryLive
from gateway.sockets.connection import OpenSockets
from gateway.sockets.live import LiveEndpoint
from gateway.sockets.scan import ScanEndpoint
from tests.edge.in_process import System
from tests.support.socket_edge import QuietServer


@contextlib.asynccontextmanager
async def served(system: System, asgi: AsgiApp | None = None) -> AsyncIterator[int]:
    """The port. Live topics give snapshots, and what the renewals bring. `asgi` is served in the system's place:
    something that looks on and passes on."""
    parts, app = system.app.parts, system.app
    hub, sockets = LiveHub(parts.engine, MemoryLive()), OpenSockets()
    entrance, ids, clock_ms = app.entrance, parts.ids, parts.clock_ms
    app.add_socket("/v1/scan", ScanEndpoint(parts.engine, app.doorway, entrance, hub, sockets, ids, clock_ms))
    app.add_socket("/v1/live", LiveEndpoint(entrance, hub, sockets, ids, clock_ms))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = QuietServer(
        uvicorn.Config(
            asgi or app, ws="websockets-sansio", ws_per_message_deflate=False, lifespan="off", log_config=None
        )
    )
    running = asyncio.create_task(hub.run())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        sockets.drain()
        server.ending.set()
        server.force_exit = True
        await serving
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
