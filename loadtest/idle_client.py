"""Many sockets that only wait, as cheap as they can be: the load generator must not be what is measured."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from typing import Any, Final

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_NO_MASK: Final = bytes(4)


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame (RFC 6455, section 5.2) with an empty mask."""
    head = bytes([0x80 | opcode])
    if len(payload) < 126:
        return head + bytes([0x80 | len(payload)]) + _NO_MASK + payload
    return head + bytes([0x80 | 126]) + len(payload).to_bytes(2) + _NO_MASK + payload


class IdleSocket(asyncio.Protocol):
    """One scanner: says hello, answers pings and counts what comes. `welcomed` is set with the welcome, or with why
    there was none."""

    __slots__ = ("_buffer", "_hello", "_pong", "_request", "_transport", "closed", "frames", "welcomed")

    def __init__(self, path: str, host: str, token: str, hello: dict[str, Any]) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n"
        ).encode()
        self._hello = frame(_TEXT, json.dumps({"t": "hello", **hello}).encode())
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._pong: asyncio.Future[bool] | None = None
        self.frames = 0
        self.closed = False
        self.welcomed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._pong is not None and not self._pong.done():
            self._pong.set_result(False)
        self._settle(f"the connection ended: {error}")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._request:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head.split(b"\r\n")[0]:
                self._settle(head.split(b"\r\n")[0].decode())
                self.close()
                return
            self._request, self._buffer = b"", rest
            self._write(self._hello)
            self._hello = b""
        while (taken := self._next_frame()) is not None:
            self._take(*taken)

    def close(self) -> None:
        """Ends it, with a close frame."""
        if self._transport is not None and not self.closed:
            self._transport.write(frame(_CLOSE, (1000).to_bytes(2)))
            self._transport.close()

    async def answers(self, timeout_s: float) -> bool:
        """Whether the server answers a ping in time."""
        if self.closed:
            return False
        self._pong = asyncio.get_running_loop().create_future()
        self._write(frame(_TEXT, b'{"t":"ping","n":1}'))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._pong
        except TimeoutError:
            return False

    def _next_frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:start])
        if len(buffer) < start + size:
            return None
        self._buffer = buffer[start + size :]
        return buffer[0] & 15, buffer[start : start + size]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._write(frame(_PONG, payload))
        elif opcode == _CLOSE:
            self._settle(f"closed with {int.from_bytes(payload[:2])}")
            self.close()
        elif opcode == _TEXT:
            self.frames += 1
            if b'"t":"ping"' in payload:
                answer = {"t": "pong", "n": json.loads(payload)["n"], "now": time.time_ns() // 1_000_000}
                self._write(frame(_TEXT, json.dumps(answer).encode()))
            elif b'"t":"welcome"' in payload:
                self._settle("")
            elif b'"t":"pong"' in payload and self._pong is not None and not self._pong.done():
                self._pong.set_result(True)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _settle(self, why_not: str) -> None:
        if not self.welcomed.done():
            self.welcomed.set_result(why_not)
