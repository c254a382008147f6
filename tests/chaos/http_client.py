"""A small HTTP/1.1 client for load: one keep-alive connection, one request at a time, no more parsing than needed."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Lost(Exception):
    """No answer: the request may have been executed or not."""


class Answer:
    """Status, lower-case headers, body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class HttpClient:
    """Connects when needed."""

    def __init__(self, host: str, port: int, token: str, timeout_s: float) -> None:
        self._host = host
        self._port = port
        self._token = token
        self._timeout_s = timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, request_id: str, body: bytes) -> Answer:
        """Raises `Lost`."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._token}\r\n"
            f"Idempotency-Key: {request_id}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = self._streams or await self._connect()
                writer.write(head.encode() + body)
                return await _answer(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            await self.close()
            raise Lost(f"{type(error).__name__}: {error}") from error

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._streams = await asyncio.open_connection(self._host, self._port)
        return self._streams

    async def close(self) -> None:
        """Hangs up."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with suppress(OSError):
                await streams[1].wait_closed()


async def _answer(reader: asyncio.StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    return Answer(int(lines[0].split(b" ")[1]), headers, body)
