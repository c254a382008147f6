"""An ASGI application on a real server at 127.0.0.1, with the protocols of the real listener."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvicorn

from gateway.http import AsgiApp
from gateway.sockets import limits
from serve.socket_protocol import SocketProtocol

END_TIMEOUT_S, END_LOOKS = 0.1, 100


class Errors(logging.Handler):
    """What the server logs as an error: an exception that came out of our application."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class QuietServer(uvicorn.Server):
    """A server that leaves the process's signals alone, and ends at once when it is told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ending = asyncio.Event()

    async def main_loop(self) -> None:
        await self.ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's with `force_exit`, which gives connections and what they run a tenth of a second to end: no
        longer, and no longer than they need."""
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        for _ in range(END_LOOKS):
            if not state.connections and not state.tasks:
                return
            await asyncio.sleep(END_TIMEOUT_S / END_LOOKS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Serving:
    """A server that runs: where, and what it has logged as errors."""

    port: int
    errors: Errors
    server: QuietServer

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def serving(app: AsgiApp, send_buffer_bytes: int = 0) -> AsyncIterator[Serving]:
    """The application, served; at the end, no exception may have come out of it."""
    # With its protocol named, asyncio switches Nagle's algorithm off.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1_000)
    if send_buffer_bytes:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    config = uvicorn.Config(
        app,
        ws=SocketProtocol,
        ws_per_message_deflate=False,
        ws_max_size=limits.SERVER_FRAME_BYTES_MAX,
        lifespan="off",
        log_config=None,
        log_level="warning",
    )
    running = Serving(listener.getsockname()[1], Errors(), QuietServer(config))
    logging.getLogger("uvicorn.error").addHandler(running.errors)
    task = asyncio.create_task(running.server.serve(sockets=[listener]))
    try:
        yield running
    finally:
        running.server.ending.set()
        await task
        logging.getLogger("uvicorn.error").removeHandler(running.errors)
    assert running.errors.lines == []
