"""Frames that are read without the library say the same as the library says, however the bytes are cut."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from gateway.sockets import limits
from gateway.sockets.connection import FRAMES
from serve.socket_frames import BINARY, TEXT, frames_of
from serve.socket_protocol import SocketProtocol

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# Not masked, of no kind, with a reserved bit, longer than there are bytes.
NEVER = (b"\x82\x01a", b"\x83\x80abcd", b"\xc2\x80abcd", b"\x82\xff" + b"\xff" * 12)
SIZES = (0, 1, 125, 126, 127, 400, 65_535, 65_536)


class Wire(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Heard:
    """An application that accepts and notes what it is told; `at_once`: by the extension, too."""

    def __init__(self, *, at_once: bool) -> None:
        self.messages: list[Any] = []
        self._at_once = at_once

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        pipe = scope["extensions"][FRAMES]
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            messages = [await receive(), *(pipe.take_waiting() if self._at_once else ())]
            for message in messages:
                self.messages.append(message.get("bytes", message.get("text", message.get("code"))))
                if message["type"] == "websocket.disconnect":
                    return


async def told(chunks: Sequence[bytes], *, at_once: bool = True, is_plain: bool = True) -> tuple[list[Any], bytes]:
    """What the application hears, and what the peer is sent after the handshake."""
    heard, wire = Heard(at_once=at_once), Wire()
    config = uvicorn.Config(heard, interface="asgi3", lifespan="off", log_config=None, ws_max_size=100_000)
    config.load()
    protocol = SocketProtocol(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(wire)
    protocol.data_received(HANDSHAKE)
    for _ in range(5):
        await asyncio.sleep(0)
    protocol._is_plain &= is_plain
    handshake = len(wire.written)
    for chunk in chunks:
        protocol.data_received(chunk)
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    await asyncio.gather(*protocol.tasks)
    return heard.messages, bytes(wire.written[handshake:])


def masked(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    return Frame(Opcode(opcode), payload, fin).serialize(mask=True)


class Conversation(list[bytes]):
    """Frames that are shown by how they begin: a frame may have 65,536 bytes."""

    def __repr__(self) -> str:
        return f"<frames {[(frame[:2].hex(), len(frame)) for frame in self]}>"


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Frames: messages whole and in pieces, control frames, and at the end perhaps what ends the conversation."""
    frames: list[bytes] = []
    for _ in range(draw(st.integers(0, 6))):
        payload = draw(st.binary(max_size=8)) * (draw(st.sampled_from(SIZES)) // 8 + 1)
        match draw(st.integers(0, 8)):
            case 0 | 1 | 2 | 3:
                frames.append(masked(2, payload))
            case 4 | 5:
                frames.append(masked(1, payload.hex().encode()))
            case 6:
                frames += [masked(2, payload, fin=False), masked(9, b"x"), masked(0, payload)]
            case 7:
                frames.append(masked(9, payload[:100]))
            case _:
                frames.append(masked(10, b"late"))
    good = (b"", masked(8, (1000).to_bytes(2)), masked(8, b""))
    bad = (masked(1, b"\xff\xfe"), masked(8, b"\x03"), *NEVER)
    # Once there was a fragment the library reads all that comes at once, and drops what came before a bad frame.
    is_whole = all(frame[0] & 0x80 for frame in frames)
    return Conversation([*frames, draw(st.sampled_from((*good, *bad) if is_whole else good))])


@settings(max_examples=150, deadline=None)
@given(conversations(), st.lists(st.integers(0, 200_000), max_size=8), st.booleans())
def test_it_says_what_the_library_says(frames: Conversation, cuts: list[int], at_once: bool) -> None:
    """What the library says to one frame after the other."""
    data = b"".join(frames)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    chunks = [data[start:end] for start, end in pairwise(places)]
    assert asyncio.run(told(chunks, at_once=at_once)) == asyncio.run(told(frames, is_plain=False))


def test_a_message_may_be_cut_anywhere() -> None:
    data = masked(2, b"hello" * 30) + masked(1, b"world") + masked(9, b"n") + masked(2, b"!")
    whole = asyncio.run(told([data], is_plain=False))
    assert whole[0][:3] == [b"hello" * 30, "world", b"!"]
    for cut in range(len(data)):
        assert asyncio.run(told([data[:cut], data[cut:]])) == whole
    assert asyncio.run(told([data[n : n + 1] for n in range(len(data))])) == whole


def test_frames_go_out_as_the_library_makes_them() -> None:
    payloads = [bytes(size) for size in SIZES]
    for kind, opcode in ((BINARY, Opcode.BINARY), (TEXT, Opcode.TEXT)):
        alone = b"".join(Frame(opcode, payload).serialize(mask=False) for payload in payloads)
        assert frames_of(payloads, kind) == alone


def test_a_frame_that_is_too_big_is_the_librarys() -> None:
    assert limits.SERVER_FRAME_BYTES_MAX > 100_000
    messages, sent = asyncio.run(told([masked(2, bytes(100_001))]))
    assert messages == [1009]
    assert sent[:1] == b"\x88"
