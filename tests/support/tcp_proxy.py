"""A TCP proxy that misbehaves on command: latency, silence in one direction, cut connections, half-open ones.

For tests of clients of Redis, Postgres, Kafka: no root and no network tools needed. Rules:
1. Bytes are never altered or reordered; they are delayed, swallowed, or the connection ends.
2. What is set applies to all connections at once, those that exist and those to come, until it is set again.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Direction:
    """How the bytes of one direction are treated."""

    def __init__(self) -> None:
        self.latency_ms = 0.0
        self.is_dropping = False  # swallow all bytes, and the end of the stream too
        self.is_cutting = False  # when the next bytes arrive, cut their connection instead of passing them on
        self.passed_bytes = 0
        self.seen_bytes = 0


class _Connection:
    """The two sockets of one client's connection, and whether it has been cut."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.writers = [client]
        self.is_cut = asyncio.Event()

    def cut(self) -> None:
        self.is_cut.set()
        for writer in self.writers:
            writer.transport.abort()


class TcpProxy:
    """Listens on 127.0.0.1:`port` and passes everything on to a server.

    async with TcpProxy("127.0.0.1", server_port) as proxy:
        proxy.to_client.is_cutting = True  # the server executes the next request, its answer is lost
    """

    def __init__(self, server_host: str, server_port: int) -> None:
        self.to_server = Direction()
        self.to_client = Direction()
        self.is_refusing = False  # end new connections at once
        self.connections_count = 0
        self.port = 0
        self._target = (server_host, server_port)
        self._listener: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}

    async def __aenter__(self) -> TcpProxy:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        self.is_refusing = True
        self.cut()
        await asyncio.gather(*self._connections)

    def cut(self) -> None:
        """Ends every connection at once; both sides see it. New ones are accepted."""
        for connection in self._connections.values():
            connection.cut()

    def half_open(self) -> None:
        """From now on both sides think they are connected, and nothing arrives (a pulled cable)."""
        self.to_server.is_dropping = self.to_client.is_dropping = True

    def heal(self) -> None:
        """Treats new bytes well again. What was swallowed stays lost, so it also cuts the connections of before."""
        self.cut()
        for direction in (self.to_server, self.to_client):
            direction.latency_ms, direction.is_dropping, direction.is_cutting = 0.0, False, False
        self.is_refusing = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_count += 1
        task = asyncio.current_task()
        assert task is not None
        connection = self._connections[task] = _Connection(writer)
        try:
            if self.is_refusing:
                return
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            connection.writers.append(server_writer)
            if connection.is_cut.is_set():
                return
            await asyncio.gather(
                self._pump(self.to_server, reader, server_writer, connection),
                self._pump(self.to_client, server_reader, writer, connection),
            )
        except OSError:
            pass  # either side went away, or the server is not there: the end of the connection says it all
        finally:
            connection.cut()
            del self._connections[task]

    async def _pump(
        self,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: _Connection,
    ) -> None:
        # Reading goes on while earlier bytes wait, so that latency does not become a limit on throughput.
        delayed: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.create_task(self._deliver(direction, delayed, writer))
        loop = asyncio.get_running_loop()
        try:
            while data := await reader.read(65536):
                direction.seen_bytes += len(data)
                if direction.is_cutting:
                    connection.cut()
                    return
                if not direction.is_dropping:
                    delayed.put_nowait((loop.time() + direction.latency_ms / 1000, data))
            if direction.is_dropping:
                await connection.is_cut.wait()  # the end of the stream is swallowed as well
            delayed.put_nowait((loop.time() + direction.latency_ms / 1000, b""))
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(
        self, direction: Direction, delayed: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, data = await delayed.get()
            if (wait_s := due_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            if not data:
                if not writer.transport.is_closing():
                    writer.transport.abort()
                return
            writer.write(data)
            direction.passed_bytes += len(data)
            await writer.drain()
