"""The bodies of the hot paths, typed. Decoding checks types, lengths and unknown fields; `check_*` what types cannot
say.

The same structs give the schemas in the OpenAPI document, so what is documented is what is decoded.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from actors.refusals import SCAN_REASONS
from actors.terms import Account, Direction
from gateway import limits
from gateway.ids import is_id, is_request_id
from gateway.problems import Problem, malformed, pointer_of

_TEXT_SCAN_MAX = 4_096  # whatever a scanner reads is judged, not refused as malformed; beyond this it is no code at all
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_unprintable = re.compile("[\x00-\x1f\x7f\ud800-\udfff]").search
_ID_SCHEMA: dict[str, Any] = {"pattern": "^[A-Za-z0-9_.-]+$"}

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.ID_CHARS_MAX, extra_json_schema=_ID_SCHEMA)]
RequestId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=limits.REQUEST_ID_CHARS_MAX,
        description="Printable characters; UUIDv7 is recommended. For 7 days, the same id is the same request.",
        extra_json_schema={"pattern": "^[ -~]+$"},
    ),
]
Note = Annotated[
    str, msgspec.Meta(max_length=limits.NOTE_CHARS_MAX, extra_json_schema={"pattern": "^[^\\x00-\\x1f]*$"})
]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
EntrySeq = Annotated[int, msgspec.Meta(ge=1, le=limits.SAFE_INTEGER_MAX)]
Amount = Annotated[int, msgspec.Meta(ge=-limits.SAFE_INTEGER_MAX, le=limits.SAFE_INTEGER_MAX)]


RefusedOffline = Annotated[str, msgspec.Meta(max_length=40, extra_json_schema={"enum": list(SCAN_REASONS)})]


class CheckInRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A scan. Without `scan_id` the Idempotency-Key header is the request id."""

    event_id: Id
    credential: Annotated[str, msgspec.Meta(min_length=1, max_length=_TEXT_SCAN_MAX)]
    gate_id: Id | None = None
    direction: Direction = "entry"
    scan_id: RequestId | None = None
    scanned_at: Time | None = None
    offline: Annotated[
        bool | None,
        msgspec.Meta(
            description="A scanner without a network has decided already, at `scanned_at`: recorded, not judged away. "
            "In a batch this is so for every item with `scanned_at`, unless it says otherwise."
        ),
    ] = None
    refused: Annotated[
        RefusedOffline | None,
        msgspec.Meta(description="Why the scanner refused, where it was offline and did; else it let the person in."),
    ] = None
    force: Annotated[
        bool,
        msgspec.Meta(
            description="Let the person in although the door says no; for supervisors (`checkins.force`), recorded."
        ),
    ] = False


class CheckInBatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Up to 1,000 scans; each is decoded and judged by itself. `now` is the sender's clock: by what it is off, the
    times of the scans are corrected."""

    items: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=limits.BATCH_ITEMS_MAX)]
    now: Time | None = None


class AwardRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Points to give; they expire at `expires_at`, or never. They cannot be spent before `pending_until`, or, with
    `pending`, until they are confirmed."""

    amount: Amount
    note: Note = ""
    expires_at: Time | None = None
    pending: bool = False
    pending_until: Time | None = None


class RedeemRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Points to take."""

    amount: Amount
    note: Note = ""


class MoneyRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Money, in the smallest unit (VND)."""

    amount: Amount
    note: Note = ""


class TopUpRequest(MoneyRequest):
    """Money that comes into the wallet, in the smallest unit (VND)."""


class PayRequest(MoneyRequest):
    """Money that is paid from the wallet, in the smallest unit (VND)."""


class EntryRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The ledger entry that it is about."""

    entry_seq: EntrySeq
    note: Note = ""


class ReverseRequest(EntryRequest):
    """The ledger entry to undo."""


class ConfirmRequest(EntryRequest):
    """The award whose pending points can be spent from now on."""


class ReleaseRequest(EntryRequest):
    """The hold to let go."""


class HoldRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What to put aside, until it is captured or released or, at `lapses_at` (15 minutes from now), lapses."""

    amount: Amount
    account: Account = "points"
    lapses_at: Time | None = None
    note: Note = ""


class CaptureRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The hold to capture, all or `amount` of it; the rest is let go."""

    entry_seq: EntrySeq
    amount: Amount | None = None
    note: Note = ""


class TransferRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What to give to another card of the organisation."""

    to_card_id: Id
    amount: Amount
    account: Account = "points"
    note: Note = ""


def decode(decoder: msgspec.json.Decoder[Any], body: bytes | msgspec.Raw) -> Any:
    """The typed body. Raises `Problem` that names the field."""
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        pointer, message = pointer_of(error)
        raise malformed(pointer, message) from error
    except UnicodeDecodeError as error:
        raise malformed("#", f"The body is not valid UTF-8: {error.reason}.") from error
    except RecursionError as error:
        raise malformed("#", "The body is nested too deeply.") from error


def check_check_in(request: CheckInRequest) -> None:
    """Raises `Problem` for ids that cannot be ids."""
    if not is_id(request.event_id):
        raise malformed("#/event_id", "An id has letters, digits, `_`, `.` and `-` only.")
    if request.gate_id is not None and not is_id(request.gate_id):
        raise malformed("#/gate_id", "An id has letters, digits, `_`, `.` and `-` only.")
    if request.scan_id is not None and not is_request_id(request.scan_id):
        raise malformed("#/scan_id", "A request id has 1-64 printable characters.")
    if request.refused is not None and not request.offline:
        raise malformed("#/refused", "Only a scanner that was offline says itself that it refused.")
    if request.refused is not None and request.refused not in SCAN_REASONS:
        raise malformed("#/refused", f"One of {', '.join(SCAN_REASONS)}.")
    if request.offline and request.force:
        raise malformed("#/force", "What was decided offline cannot be forced.")


def check_note(note: str) -> None:
    """Raises `Problem` for control characters (NUL cannot be stored in Postgres at all) and halves of surrogate
    pairs."""
    if note and _unprintable(note):
        raise malformed("#/note", "A note has no control characters.")


def time_ms(time: datetime | None, pointer: str) -> int:
    """Milliseconds since 1970, 0 for None. Raises `Problem` for times before 1970."""
    if time is None:
        return 0
    ms = (time - _EPOCH) // _MS
    if ms <= 0:
        raise malformed(pointer, "The time must be after 1970.")
    return ms


def unknown_card(card_id: str) -> Problem:
    """For a card id that cannot be one."""
    return Problem("card_unknown", f"There is no card {card_id[: limits.ID_CHARS_MAX]!r}.")
