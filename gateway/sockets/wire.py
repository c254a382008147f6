"""The two wire formats, JSON text and MessagePack binary frames: the same maps in both, decoded into typed structs.

Rules:
1. What is decoded has been checked completely: types, lengths, ranges, characters. Nothing that passes can hurt the
   engine (an integer beyond 64 bits, a NUL in an id). Fields that are not known are ignored.
2. A bad frame raises `BadFrame`, which names the field, and the `id` of the scan where it can still be read.
3. One bad item of a `scans` frame stands alone: the others are decoded as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from actors.refusals import SCAN_REASONS
from gateway.ids import is_id, is_request_id
from gateway.limits import CREDENTIAL_CHARS_MAX, ID_CHARS_MAX, REQUEST_ID_CHARS_MAX, SAFE_INTEGER_MAX, TOKEN_CHARS_MAX
from gateway.sockets.limits import CURSOR_CHARS_MAX, SCANS_PER_FRAME_MAX, TOPIC_CHARS_MAX

# The last millisecond of the year 9999: later times have no RFC 3339 form.
TIME_MS_MAX: Final = 253_402_300_799_999

Token = Annotated[str, Meta(min_length=1, max_length=8 * TOKEN_CHARS_MAX)]
EntityId = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]
RequestId = Annotated[str, Meta(min_length=1, max_length=REQUEST_ID_CHARS_MAX)]
Credential = Annotated[str, Meta(min_length=1, max_length=CREDENTIAL_CHARS_MAX)]
TimeMs = Annotated[int, Meta(ge=0, le=TIME_MS_MAX, description="milliseconds since 1970, UTC")]
Whole = Annotated[int, Meta(ge=0, le=SAFE_INTEGER_MAX)]
Topic = Annotated[str, Meta(min_length=1, max_length=TOPIC_CHARS_MAX)]


class BadFrame(Exception):
    """A frame or item that cannot be accepted; `item_id` is the scan's id where it can be read, else None."""

    def __init__(self, message: str, item_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.item_id = item_id


class Hello(msgspec.Struct, tag_field="t", tag="hello", gc=False):
    """Opens a conversation. `org_id` chooses among the organisations of somebody signed in. `resume` is the cursor up
    to which the scanner knows the revoked cards, `now` its time. On `/v1/live` only `token`, `org_id` and `now`
    count."""

    token: Token | None = None
    org_id: EntityId | None = None
    event_id: EntityId | None = None
    gate_id: EntityId | None = None
    resume: Annotated[str, Meta(max_length=CURSOR_CHARS_MAX)] | None = None
    now: TimeMs | None = None


class ScanItem(msgspec.Struct, gc=False):
    """One presentation of a credential; `scanned_at` in milliseconds since 1970. `offline`: the scanner had no network
    and has let the person in or out, or, with `refused`, told them why not."""

    id: Annotated[RequestId, Meta(description="yours; sent again, it is the same scan")]
    credential: Credential
    direction: Annotated[Literal["entry", "exit"], Meta(description="without it, entry")] | None = None
    gate_id: Annotated[EntityId, Meta(description="without it, that of the hello")] | None = None
    scanned_at: TimeMs | None = None
    offline: Annotated[bool, Meta(description="decided without a network, and told now")] = False
    refused: Annotated[str, Meta(max_length=40, description="with `offline`, a ScanReason")] | None = None


class Scan(ScanItem, tag_field="t", tag="scan", gc=False):
    """A frame with one scan."""


class Scans(msgspec.Struct, tag_field="t", tag="scans"):
    """A frame with several."""

    items: Annotated[list[ScanItem], Meta(max_length=SCANS_PER_FRAME_MAX)]


class Annul(msgspec.Struct, tag_field="t", tag="annul", gc=False):
    """The turnstile did not turn: takes back the admission that scan `scan_id` led to. Answered `annulled`, or with an
    error; `id` is its request id, as a scan's."""

    id: RequestId
    scan_id: RequestId


class Ping(msgspec.Struct, tag_field="t", tag="ping", gc=False):
    """Asks for a pong with the same `n`."""

    n: Whole = 0


class Pong(msgspec.Struct, tag_field="t", tag="pong", gc=False):
    """Answers a ping; `now` is the peer's time."""

    n: Whole = 0
    now: TimeMs | None = None


class Since(msgspec.Struct, gc=False):
    """Up to where a subscriber has a topic."""

    epoch: Whole
    offset: Whole


class Subscribe(msgspec.Struct, tag_field="t", tag="subscribe"):
    """Asks for a topic, from `since` on where it is known."""

    topic: Topic
    since: Since | None = None


class Unsubscribe(msgspec.Struct, tag_field="t", tag="unsubscribe", gc=False):
    """Ends a subscription."""

    topic: Topic


ScanFrame = Hello | Scan | Scans | Annul | Ping | Pong
LiveFrame = Hello | Subscribe | Unsubscribe | Ping | Pong
Items = list[ScanItem | BadFrame]


class _LooseScans(msgspec.Struct):
    items: Annotated[list[msgspec.Raw], Meta(max_length=SCANS_PER_FRAME_MAX)]


class _Identified(msgspec.Struct):
    """What can be read of a bad scan: its id and the kind of frame, if they are strings."""

    id: Any = None
    t: Any = None


# What decoding can raise on bytes from outside; RecursionError on deep nesting.
_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError)


class Wire:
    """One format. `is_text` says which kind of websocket message carries it."""

    def __init__(self, name: str, is_text: bool, library: Any) -> None:
        self.name = name
        self.is_text = is_text
        self.encode: Callable[[Any], bytes] = library.Encoder().encode
        self._scan_frame = library.Decoder(ScanFrame).decode
        self._live_frame = library.Decoder(LiveFrame).decode
        self._loose_scans = library.Decoder(_LooseScans).decode
        self._scan_item = library.Decoder(ScanItem).decode
        self._identified = library.Decoder(_Identified).decode

    def scan_frame(self, data: bytes) -> ScanFrame | Items:
        """A frame from a scanner; `Items` in place of `Scans` when some of them are bad. Raises `BadFrame`."""
        try:
            frame = self._scan_frame(data)
            kind = type(frame)
            if kind is Scan:
                check_item(frame)
            elif kind is Scans:
                for item in frame.items:
                    check_item(item)
            elif kind is Annul:
                _check_annul(frame)
            elif kind is Hello and (complaint := _bad_hello(frame)):
                raise BadFrame(complaint)
        except BadFrame as bad:
            if not isinstance(frame, Scans):
                raise
            return self._each_item(data, bad)
        except _DECODE_ERRORS as error:
            return self._each_item(data, BadFrame(complaint_of(error)))
        return frame  # type: ignore[no-any-return]

    def live_frame(self, data: bytes) -> LiveFrame:
        """A frame from a subscriber. Raises `BadFrame`."""
        try:
            return self._live_frame(data)  # type: ignore[no-any-return]
        except _DECODE_ERRORS as error:
            raise BadFrame(complaint_of(error)) from None

    def _each_item(self, data: bytes, bad: BadFrame) -> Items:
        """The second look at a frame that failed: a `scans` frame item by item; anything else raises `bad` with the
        id."""
        try:
            identified = self._identified(data)
            if identified.t != "scans":
                raise BadFrame(bad.message, _readable(identified.id))
            raws = self._loose_scans(data).items
        except _DECODE_ERRORS:
            raise bad from None
        return [self._item(raw) for raw in raws]

    def _item(self, raw: msgspec.Raw) -> ScanItem | BadFrame:
        try:
            item: ScanItem = self._scan_item(raw)
            check_item(item)
        except BadFrame as bad:
            return bad
        except _DECODE_ERRORS as error:
            try:
                item_id = _readable(self._identified(raw).id)
            except _DECODE_ERRORS:
                item_id = None
            return BadFrame(complaint_of(error), item_id)
        return item


def check_item(item: ScanItem) -> None:
    """Checks the characters of the ids, which types cannot express. Raises `BadFrame`."""
    if not is_request_id(item.id):
        raise BadFrame("id: only printable ASCII, no space at either end")
    if item.gate_id is not None and not is_id(item.gate_id):
        raise BadFrame("gate_id: only letters, digits, '_', '.' and '-'", item.id)
    if item.refused is not None and not item.offline:
        raise BadFrame("refused: only a scanner that was offline says itself that it refused", item.id)
    if item.refused is not None and item.refused not in SCAN_REASONS:
        raise BadFrame("refused: not one of the reasons", item.id)


def _check_annul(annul: Annul) -> None:
    if not is_request_id(annul.id):
        raise BadFrame("id: only printable ASCII, no space at either end")
    if not is_request_id(annul.scan_id):
        raise BadFrame("scan_id: only printable ASCII, no space at either end", annul.id)


def complaint_of(error: Exception) -> str:
    """The decoder's message with the field first ("items[3].credential: Expected `str`, got `int`")."""
    if isinstance(error, RecursionError):
        return "The frame is nested too deeply."
    if isinstance(error, UnicodeError):
        return "A string is not UTF-8."
    message, _, path = str(error).partition(" - at `$")
    field = path.removesuffix("`").lstrip(".")
    return f"{field}: {message}" if field else message


def _bad_hello(hello: Hello) -> str:
    for name, value in (("org_id", hello.org_id), ("event_id", hello.event_id), ("gate_id", hello.gate_id)):
        if value is not None and not is_id(value):
            return f"{name}: only letters, digits, '_', '.' and '-'"
    return ""


def _readable(item_id: object) -> str | None:
    return item_id if isinstance(item_id, str) and is_request_id(item_id) else None


JSON: Final = Wire("mastervip.v1.json", True, msgspec.json)
MSGPACK: Final = Wire("mastervip.v1.msgpack", False, msgspec.msgpack)
WIRES: Final[Mapping[str, Wire]] = {wire.name: wire for wire in (JSON, MSGPACK)}
