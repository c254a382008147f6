"""What the load clients send: pre-encoded requests and frames, so that the client costs as little as it can. Pure.

Rules:
1. Every scan has a request id of its own, a UUIDv7. Nothing is encoded when a request is sent; its pieces are joined.
2. A card belongs to one connection, which lets it in and out by turns: nearly every scan is admitted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from itertools import count, cycle, repeat
from typing import Any

import msgspec

REQUEST_ID_CHARS = 36
_FOUR_DIGITS = [b"%04x" % number for number in range(0x10000)]

Pieces = tuple[bytes, bytes]


class RequestIds:
    """UUIDv7s as bytes, a third of a microsecond each: the clock, a counter, and 32 random bits of this process. All
    but the last four digits are made once a millisecond, or once every 65,536 ids."""

    def __init__(self) -> None:
        self._counter = count()
        self._random = os.urandom(4).hex().encode()
        self._at_ms = 0
        self._head = b""

    def next(self) -> bytes:
        """A new one."""
        at_ms = time.time_ns() // 1_000_000
        number = next(self._counter)
        low = number & 0xFFFF
        if at_ms != self._at_ms or not low:
            self._at_ms = at_ms
            clock = b"%012x" % at_ms
            high = (number >> 28 & 0xFFF, number >> 16 & 0xFFF)
            self._head = b"%b-%b-7%03x-8%03x-%b" % (clock[:8], clock[8:], *high, self._random)
        return self._head + _FOUR_DIGITS[low]


def rest_check_ins(host: str, path: str, token: str, event_id: str, credentials: Sequence[str]) -> Iterator[Pieces]:
    """Whole HTTP requests for ever, each in two pieces: the request id goes in between. All cards in, all out, and so
    on."""
    # Neither ids nor base45 have characters that JSON escapes.
    cards = [credential.encode() for credential in credentials]
    ways = [f'","direction":"{direction}","credential":"'.encode() for direction in ("entry", "exit")]
    begin = f'{{"event_id":"{event_id}","scan_id":"'.encode()
    heads: dict[int, bytes] = {}
    for way in cycle(ways):
        for card in cards:
            length = len(begin) + REQUEST_ID_CHARS + len(way) + len(card) + 2
            before = heads.get(length)
            if before is None:
                before = heads[length] = (
                    f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
                ).encode() + begin
            yield before, way + card + b'"}'


def rest_gets(host: str, path: str) -> Iterator[Pieces]:
    """The same GET for ever; it has no place for an id, which goes where nobody looks."""
    return repeat((f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: ".encode(), b"\r\n\r\n"))


def scan_items(credentials: Sequence[str], *, is_frame: bool) -> Iterator[Pieces]:
    """MessagePack maps for `/v1/scan` for ever, in two pieces: whole `scan` frames, or items of a `scans` frame."""
    cards = [msgspec.msgpack.encode(credential) for credential in credentials]
    begin = (b"\x84\xa1t\xa4scan" if is_frame else b"\x83") + b"\xa2id\xd9" + bytes([REQUEST_ID_CHARS])
    for direction in cycle((b"\xa9direction\xa5entry", b"\xa9direction\xa4exit")):
        way = direction + b"\xaacredential"
        for card in cards:
            yield begin, way + card


def scans_head(count_of_items: int) -> bytes:
    """How a `scans` frame of that many items begins; the items follow."""
    empty = msgspec.msgpack.encode({"t": "scans", "items": [0] * count_of_items})
    return empty[:-count_of_items]


def shares(things: Sequence[Any], parts: int) -> list[list[Any]]:
    """The things dealt out to so many parts, each at least one."""
    if len(things) < parts:
        raise ValueError(f"{len(things)} are not enough for {parts}: seed more members, or use fewer connections")
    return [list(things[number::parts]) for number in range(parts)]
