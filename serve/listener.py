"""A gateway's own listener: uvicorn inside the event loop it is given, on a port that all gateways of a node share.

Ray Serve's proxy passes a few hundred requests a second and a bare uvicorn some ten thousand, so each replica listens
for itself (SO_REUSEPORT) and Serve only places and replaces it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn

from gateway.http import AsgiApp, DirectRoutes
from gateway.sockets.limits import SERVER_FRAME_BYTES_MAX
from gateway.trace_ids import TraceIds
from serve.direct_protocol import DefaultLines, DirectProtocol
from serve.settings import Settings
from serve.socket_protocol import SocketProtocol
from serve.tls import server_context

START_POLL_S = 0.01
WS_PING_INTERVAL_S = 30
WS_PING_TIMEOUT_S = 20


class _QuietServer(uvicorn.Server):
    """uvicorn without signal handlers (signals are the business of the process that owns the loop) and with a limit on
    the time of a TLS handshake."""

    def __init__(self, config: uvicorn.Config, handshake_timeout_s: float) -> None:
        super().__init__(config)
        self._handshake_timeout_s = handshake_timeout_s

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes connections on the sockets."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        config = self.config
        make: Any = config.http_protocol_class

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = make(
                config=config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop
            )
            return made

        timeout_s = self._handshake_timeout_s if config.ssl is not None else None
        self.servers = [
            await loop.create_server(
                protocol, sock=each, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=timeout_s
            )
            for each in sockets or []
        ]
        self.started = True


def shared_socket(address: str, port: int) -> socket.socket:
    """A socket bound to the port, which other sockets of this user may share. Raises `OSError` when it is taken."""
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound


class Listener:
    """Serves one ASGI application, and what of it needs no ASGI by `direct`. `start`, then `stop`."""

    def __init__(self, app: AsgiApp, settings: Settings, direct: DirectRoutes = lambda _url: None) -> None:
        trace_ids = TraceIds(f"lst-{os.urandom(6).hex()}")
        http: Any = partial(DirectProtocol, direct, DefaultLines(), settings, trace_ids)
        cert, key = settings.tls_cert, settings.tls_key
        tls: Any = None if cert is None or key is None else lambda *_: server_context(cert, key)
        self._socket = shared_socket(settings.bind_address, settings.port)
        self._server = _QuietServer(
            uvicorn.Config(
                app,
                interface="asgi3",
                lifespan="off",
                loop="none",
                http=http,
                ssl_context_factory=tls,
                # Each request in a context of its own: what one binds to its log lines must not show in another's.
                reset_contextvars=True,
                ws=SocketProtocol,
                ws_max_size=SERVER_FRAME_BYTES_MAX,
                ws_per_message_deflate=False,
                # Finds peers that are gone without a word; the sockets' own pings only keep the clock.
                ws_ping_interval=WS_PING_INTERVAL_S,
                ws_ping_timeout=WS_PING_TIMEOUT_S,
                backlog=settings.listen_backlog,
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=max(1, int(settings.drain_timeout_s)),
                proxy_headers=False,  # `gateway.proxies` knows whom to believe
                access_log=False,
                server_header=False,
                log_config=None,
            ),
            settings.head_timeout_s,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once connections are taken."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise RuntimeError("the listener ended before it had started")
            await asyncio.sleep(START_POLL_S)

    @property
    def is_serving(self) -> bool:
        """Whether connections are still taken."""
        return self._task is not None and not self._task.done()

    def close_doors(self) -> None:
        """Takes no more connections: new ones go to the other gateways on the port. Those that are open stay."""
        for server in self._server.servers:
            server.close()

    async def stop(self) -> None:
        """Takes no more connections, lets requests under way finish, and closes."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close()
