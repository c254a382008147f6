"""What the load clients send: pre-encoded requests and frames, so that the client costs as little as it can. Pure.

Rules:
1. Every scan has a request id of its own, a UUIDv7; it is the only part of a request that is made when it is sent.
2. A card belongs to one connection, which lets it in and out by turns: nearly every scan is admitted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from itertools import count, cycle
from typing import Any

import msgspec

REQUEST_ID_CHARS = 36
_PLACE = "\0" * REQUEST_ID_CHARS

Pieces = tuple[bytes, bytes]


class RequestIds:
    """UUIDv7s as bytes, about a microsecond each: the clock, a counter, and 32 random bits of this process."""

    def __init__(self) -> None:
        self._counter = count()
        self._random = os.urandom(4).hex().encode()

    def next(self) -> bytes:
        """A new one."""
        at_ms = b"%012x" % (time.time_ns() // 1_000_000)
        number = next(self._counter)
        return b"%b-%b-7%03x-8%03x-%b%04x" % (
            *(at_ms[:8], at_ms[8:], number >> 28 & 0xFFF),
            *(number >> 16 & 0xFFF, self._random, number & 0xFFFF),
        )


def rest_check_in(host: str, path: str, token: str, event_id: str, credential: str, direction: str) -> Pieces:
    """A whole HTTP request, in two pieces: the request id goes in between."""
    # Neither ids nor base45 have characters that JSON escapes.
    scan = f'"credential":"{credential}","direction":"{direction}","scan_id":"{_PLACE}"'
    body = f'{{"event_id":"{event_id}",{scan}}}'.encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    before, _, after = (head + body).partition(_PLACE.encode())
    return before, after


def rest_get(host: str, path: str) -> Pieces:
    """A GET; it has no place for an id, which goes where nobody looks."""
    before, _, after = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: {_PLACE}\r\n\r\n".encode().partition(
        _PLACE.encode()
    )
    return before, after


def scan_item(credential: str, direction: str, *, is_frame: bool) -> Pieces:
    """A MessagePack map for `/v1/scan`: a whole `scan` frame, or an item of a `scans` frame."""
    tag = {"t": "scan"} if is_frame else {}
    packed = msgspec.msgpack.encode({**tag, "id": _PLACE, "credential": credential, "direction": direction})
    before, _, after = packed.partition(_PLACE.encode())
    return before, after


def scans_head(count_of_items: int) -> bytes:
    """How a `scans` frame of that many items begins; the items follow."""
    empty = msgspec.msgpack.encode({"t": "scans", "items": [0] * count_of_items})
    return empty[:-count_of_items]


def in_and_out(ins: Sequence[Pieces], outs: Sequence[Pieces]) -> Iterator[Pieces]:
    """All cards in, then all out, and so on for ever."""
    return cycle([*ins, *outs])


def shares(things: Sequence[Any], parts: int) -> list[list[Any]]:
    """The things dealt out to so many parts, each at least one."""
    if len(things) < parts:
        raise ValueError(f"{len(things)} are not enough for {parts}: seed more members, or use fewer connections")
    return [list(things[number::parts]) for number in range(parts)]
