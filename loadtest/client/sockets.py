"""A scanner's socket of the load client, with a window of scans under way.

Rules:
1. A verdict is not decoded: its request id and outcome are found by the bytes before them. MessagePack makes these
   certain: a string's head tells its length, and of all strings only request ids have theirs after the key "id".
2. Every other frame is decoded; there are few.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import picows

from loadtest.client.orders import Orders
from loadtest.client.pacer import Pacer
from loadtest.client.tally import Tally
from loadtest.plan import REQUEST_ID_CHARS, Pieces, RequestIds, scans_head

_VERDICT = b"\xa1t\xa7verdict\xa2id\xd9$"
_ECHO = (b"\xa1t\xa4scan\xa2id\xd9$", b"\xa1t\xa5scans")
_VERDICTS = b"\xa1t\xa8verdicts"
_ID = b"\xa2id\xd9$"
_MAP_HEAD_BYTES_MAX = 3  # a map's head has one byte, or three
_VERDICT_END_MAX = _MAP_HEAD_BYTES_MAX + len(_VERDICT)
_ADMITTED = b"\xa7verdict\xa8admitted"
_REFUSED = b"\xa7verdict\xa7refused"


class Frame(msgspec.Struct, gc=False):
    """What is read of a frame that is no verdict."""

    t: str
    id: str = ""
    code: str = ""


_decode = msgspec.msgpack.Decoder(Frame).decode


class ScanSocket(picows.WSListener):
    """One socket."""

    def __init__(
        self, hello: bytes, plan: Iterator[Pieces], ids: RequestIds, tally: Tally, pacer: Pacer, orders: Orders
    ) -> None:
        self._hello = hello
        self._plan = plan
        self._next_id = ids.next
        self._tally = tally
        self._pacer = pacer
        self._per_frame = orders.scans_per_frame
        self._window = max(1, orders.window // orders.scans_per_frame)
        self._head = scans_head(orders.scans_per_frame) if orders.scans_per_frame > 1 else b""
        self._sent: dict[bytes, float] = {}
        self._answers_owed = 0
        self._transport: Any = None
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def itself(self) -> ScanSocket:
        """For whoever wants a factory."""
        return self

    def on_ws_connected(self, transport: Any) -> None:
        self._transport = transport
        transport.send(picows.WSMsgType.BINARY, self._hello)

    def begin(self) -> None:
        """Fills the window."""
        for _ in range(self._window):
            self._pacer.next("socket", self._send)

    def _send(self, due_s: float) -> None:
        if self._per_frame == 1:
            before, after = next(self._plan)
            request_id = self._next_id()
            self._sent[request_id] = due_s
            self._transport.send(picows.WSMsgType.BINARY, before + request_id + after)
            return
        pieces = [self._head]
        for _ in range(self._per_frame):
            before, after = next(self._plan)
            request_id = self._next_id()
            self._sent[request_id] = due_s
            pieces += (before, request_id, after)
        self._transport.send(picows.WSMsgType.BINARY, b"".join(pieces))

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type != picows.WSMsgType.BINARY:
            return
        payload: bytes = frame.get_payload_as_bytes()
        verdict_at = payload.find(_VERDICT, 1, _VERDICT_END_MAX)
        if verdict_at > 0:
            id_at = verdict_at + len(_VERDICT)
            self._answered(payload[id_at : id_at + REQUEST_ID_CHARS], payload)
            self._refill(1)
        elif payload.startswith(_VERDICTS, 1):
            parts = payload.split(_ID)
            for part in parts[1:]:
                self._answered(part[:REQUEST_ID_CHARS], part)
            self._refill(len(parts) - 1)
        elif payload.startswith(_ECHO, 1):
            self._echoed(payload)
        else:
            self._other(_decode(payload))

    def _echoed(self, payload: bytes) -> None:
        """The frame that was sent: there is nothing but a listener behind the socket."""
        now_s = time.perf_counter()
        parts = payload.split(_ID)
        for part in parts[1:]:
            self._tally.done(self._sent.pop(part[:REQUEST_ID_CHARS], now_s), now_s, "echoed")
        self._refill(len(parts) - 1)

    def _other(self, frame: Frame) -> None:
        """Rule 2."""
        if frame.t == "welcome":
            self.welcomed.set_result(None)
        elif frame.t == "error":
            now_s = time.perf_counter()
            self._tally.done(self._sent.pop(frame.id.encode(), now_s), now_s, frame.code)
            self._refill(1)

    def _refill(self, answers: int) -> None:
        self._answers_owed += answers
        while self._answers_owed >= self._per_frame:
            self._answers_owed -= self._per_frame
            if not self._tally.is_over:
                self._pacer.next("socket", self._send)

    def _answered(self, request_id: bytes, verdict: bytes) -> None:
        now_s = time.perf_counter()
        outcome = "admitted" if _ADMITTED in verdict else "refused" if _REFUSED in verdict else "error"
        self._tally.done(self._sent.pop(request_id, now_s), now_s, outcome)

    def on_ws_disconnected(self, transport: Any) -> None:
        if not self._tally.is_over:
            self._tally.outcomes["connection lost"] += 1
