"""WebSocket frames (RFC 6455, section 5.2) as nearly all are: a whole message in one frame. Pure.

What is anything else, `websockets` reads (`serve.socket_protocol`); it takes ten times as long, because it can be
stopped at any byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

TEXT: Final = 0x81
BINARY: Final = 0x82
# Close, ping and pong; they are never in pieces, and their payload has 125 bytes at most.
CONTROL: Final = frozenset({0x88, 0x89, 0x8A})
_MASKED: Final = 0x80
_SIZE: Final = 0x7F
_SIZE_OF_TWO_BYTES: Final = 126
_SIZE_OF_EIGHT_BYTES: Final = 127
_MASK_BYTES: Final = 4
_SHORT_HEADS: Final = {kind: tuple(bytes((kind, size)) for size in range(126)) for kind in (TEXT, BINARY)}


def bounds(data: bytes, start: int) -> tuple[int, int]:
    """Where the payload of a client's frame begins that begins at `start`, and where the frame ends: beyond the data
    where it has not come whole. (0, 0) where not even that can be told yet, or where the frame is not masked, which
    only a server's is."""
    if len(data) < start + 2:
        return 0, 0
    second = data[start + 1]
    size = second & _SIZE
    payload = start + 2 + _MASK_BYTES
    if size >= _SIZE_OF_TWO_BYTES:
        more = 2 if size == _SIZE_OF_TWO_BYTES else 8
        if len(data) < start + 2 + more:
            return 0, 0
        size = int.from_bytes(data[start + 2 : start + 2 + more])
        payload += more
    return (payload, payload + size) if second & _MASKED else (0, 0)


def is_masked(data: bytes, start: int) -> bool:
    """Whether the frame is masked, as far as it has come."""
    return len(data) < start + 2 or bool(data[start + 1] & _MASKED)


def frames_of(payloads: Sequence[bytes], kind: int) -> bytes:
    """A server's frames, one for each payload, one after the other."""
    heads = _SHORT_HEADS[kind]
    pieces: list[bytes] = []
    for payload in payloads:
        size = len(payload)
        if size < _SIZE_OF_TWO_BYTES:
            pieces.append(heads[size])
        elif size < 1 << 16:
            pieces.append(bytes((kind, _SIZE_OF_TWO_BYTES, size >> 8, size & 0xFF)))
        else:
            pieces.append(bytes((kind, _SIZE_OF_EIGHT_BYTES)) + size.to_bytes(8))
        pieces.append(payload)
    return b"".join(pieces)
