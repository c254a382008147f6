"""Commands: what a client asks of the engine, as the edge hands it in.

Rules:
1. Every command names its tenant and carries a request id (1-64 characters) and a fingerprint of what it asks. The
   same id with the same fingerprint is the same request, answered with the first outcome; with another fingerprint
   it is `id_reused`.
2. Ids of things to be created come with the command (the edge makes them); they are not part of the fingerprint, so
   a retry that brings a fresh id still is the same request.
3. The time of arrival is not here: the partition stamps it.
4. `if_version` is a condition: the change is made only if what it changes has one of these versions
   (`actors.versions`) at that moment, else it is refused. None: no condition; an empty tuple never holds.
"""

from __future__ import annotations

from collections.abc import Set
from functools import cache
from hashlib import blake2b

import msgspec

from actors.board_commands import PayOutBoard, SetBoards
from actors.card_commands import CardCommand, RenewCard
from actors.coupon_commands import CouponCommand, DefineCoupon, RedeemCoupon
from actors.door_commands import DoorCommand
from actors.member_commands import MemberCommand
from actors.points_commands import CapturePoints, ConfirmPoints, HoldPoints, ReleasePoints, TransferPoints
from actors.profiles import NO_PROFILE, Profile
from actors.rule_commands import RuleCommand
from actors.terms import (
    Account,
    Admission,
    CardState,
    Direction,
    EventState,
    EventTerms,
    Gate,
    Plan,
    Question,
    Reentry,
    Session,
    TenantSettings,
    Tier,
    Zone,
)
from actors.tier_commands import SetTiers

FINGERPRINT_BYTES = 8


class OpenTenant(msgspec.Struct, frozen=True, array_like=True, tag=1):
    tenant_id: str
    request_id: str
    fingerprint: bytes
    name: str
    settings: TenantSettings


class ChangeTenant(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """None leaves a field as it is. `checkin_points` sets what the tenant's check-in rule awards (0 = nothing)."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    name: str | None = None
    time_zone: str | None = None
    overdraft_max: int | None = None
    checkin_points: int | None = None
    if_version: tuple[str, ...] | None = None
    lapsed_grace_ms: int | None = None


class IssueCard(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """`profile` is what rules may know of the member, as of now; like the name it is no part of what is asked."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    member_id: str
    member_name: str
    tier: Tier
    valid_from_ms: int = 0
    valid_until_ms: int = 0
    profile: Profile = NO_PROFILE


class ChangeCardState(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Suspend ("suspended"), resume ("active") or revoke ("revoked", final) a card. The state it already has: no
    change, accepted."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    state: CardState
    note: str = ""


class RenameCardHolder(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The member who holds the card has another name from now on; a revoked card's, too."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    member_name: str


class CreateEvent(msgspec.Struct, frozen=True, array_like=True, tag=5):
    tenant_id: str
    request_id: str
    fingerprint: bytes
    event_id: str
    terms: EventTerms


class ChangeEvent(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """None leaves a field as it is. `gate` is added, or replaces the gate with the same id; `if_version` is then about
    that gate, else about the event."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    event_id: str
    name: str | None = None
    capacity: int | None = None
    time_zone: str | None = None
    doors_open_ms: int | None = None
    doors_close_ms: int | None = None
    reentry: Reentry | None = None
    strict_exit: bool | None = None
    state: EventState | None = None
    gate: Gate | None = None
    if_version: tuple[str, ...] | None = None
    zones: tuple[Zone, ...] | None = None
    sessions: tuple[Session, ...] | None = None
    admission: Admission | None = None
    exit_all_minute: int | None = None
    questions: tuple[Question, ...] | None = None
    tags: tuple[str, ...] | None = None


class CheckIn(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """A credential whose signature the edge has verified, presented at a gate. `valid_*_ms` are the credential's own
    validity (0 = no bound). Empty `gate_id`/`device_id`: not told. `scanned_at_ms` 0: now.

    `is_offline`: a scanner without a network has let the person in or out already, at `scanned_at_ms`, or, with
    `offline_reason`, refused them; it is recorded, not judged away. `forced_by`: a supervisor lets them in whatever the
    door would say (but for what `actors.checkin.NEVER_FORCED` names).

    `serial` is the credential's. With `tag_uid` an NFC tag was tapped that told `tag_counter`: whose card it is the
    engine knows, and `card_id` is ""."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    event_id: str
    card_id: str
    gate_id: str
    device_id: str
    direction: Direction
    scanned_at_ms: int = 0
    valid_from_ms: int = 0
    valid_until_ms: int = 0
    is_offline: bool = False
    offline_reason: str = ""
    forced_by: str = ""
    serial: int = 0
    tag_uid: str = ""
    tag_counter: int = 0


class AwardPoints(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """Gives `amount` points; `expires_at_ms` 0: they never expire. They can be spent from `pending_until_ms` on, 0: at
    once, `FAR_MS`: once they are confirmed. With `account` "wallet" it is a top-up; money neither expires nor is
    pending."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    amount: int
    note: str = ""
    expires_at_ms: int = 0
    pending_until_ms: int = 0
    account: Account = "points"


class RedeemPoints(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """Takes `amount` points; with `account` "wallet" it is a payment."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    amount: int
    note: str = ""
    account: Account = "points"


class ReversePoints(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """Undoes ledger entry `entry_seq` (an award, a redemption, a capture, a top-up or a payment), once. A transfer is
    undone by another, back."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    entry_seq: int
    note: str = ""


class ChangePlan(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Puts an organisation on a plan. What it made before goes on working; the new limits hold from now on."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    plan: Plan


class Wake(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    """The time that an actor set its alarm to has come. The partition asks this of itself; it answers nobody, so it has
    no request id, and what it finds undone it does, however often it is asked."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    kind: str
    entity_id: str


Command = (
    OpenTenant
    | ChangeTenant
    | IssueCard
    | ChangeCardState
    | RenameCardHolder
    | CreateEvent
    | ChangeEvent
    | CheckIn
    | AwardPoints
    | RedeemPoints
    | ReversePoints
    | ChangePlan
    | SetTiers
    | SetBoards
    | PayOutBoard
    | Wake
    | DoorCommand
    | ConfirmPoints
    | HoldPoints
    | CapturePoints
    | ReleasePoints
    | TransferPoints
    | CardCommand
    | CouponCommand
    | RuleCommand
    | MemberCommand
)

# Left out of the fingerprint: the id itself, what the edge makes up anew at every try, and the device, which may
# differ between tries.
_NOT_ASKED = frozenset({"tenant_id", "request_id", "fingerprint", "device_id", "valid_from_ms", "valid_until_ms"})
# Fields that commands got after their release, with what they are where they are not given: such a request keeps the
# fingerprint from before.
_GIVEN_SINCE: dict[str, object] = {
    "if_version": None,
    "lapsed_grace_ms": None,
    "pending_until_ms": 0,
    "account": "points",
    "until_ms": 0,
}
_MADE_BY_THE_EDGE = {
    IssueCard: "card_id",
    CreateEvent: "event_id",
    OpenTenant: "tenant_id",
    DefineCoupon: "coupon_id",
    RedeemCoupon: "redemption_id",
}


# Fields that a kind did not always have. A request that leaves them at their default keeps the fingerprint it had then;
# else they follow the others, with their names (but for `if_version`, the first to come).
_ADDED: dict[type, tuple[str, ...]] = {
    ChangeEvent: ("zones", "sessions", "admission", "exit_all_minute", "questions", "tags"),
    EventTerms: ("zones", "sessions", "admission", "exit_all_minute", "questions", "tags"),
    Gate: ("zone_id",),
}


def fingerprint(command: Command) -> bytes:
    """What distinguishes one request from another under the same id: BLAKE2b-64 over the kind and the fields that
    are asked."""
    kind = type(command)
    if isinstance(command, CheckIn):
        return check_in_fingerprint(
            command.event_id,
            command.card_id or tapped(command.tag_uid),
            command.gate_id,
            command.direction,
            command.scanned_at_ms,
            command.is_offline,
            command.offline_reason,
            bool(command.forced_by),
        )
    left_out = {_MADE_BY_THE_EDGE.get(kind), *_NOT_ASKED}
    if kind in (IssueCard, RenewCard):
        left_out -= {"valid_from_ms", "valid_until_ms"}
    if kind is IssueCard:
        left_out.add("profile")
    left_out |= {name for name, first in _GIVEN_SINCE.items() if getattr(command, name, first) == first}
    asked = _told(command, left_out)
    return blake2b(msgspec.msgpack.encode((kind.__name__, asked)), digest_size=FINGERPRINT_BYTES).digest()


def _told(value: msgspec.Struct, left_out: Set[str | None] = frozenset()) -> list[object]:
    added = _ADDED.get(type(value), ())
    told = [
        _as_asked(getattr(value, name))
        for name in value.__struct_fields__
        if name not in left_out and name not in added
    ]
    if added:
        defaults = _defaults(type(value))
        told += [(name, getattr(value, name)) for name in added if getattr(value, name) != defaults[name]]
    return told


@cache
def _defaults(kind: type[msgspec.Struct]) -> dict[str, object]:
    """A quarter of a millisecond to find out, because it evaluates the annotations."""
    return {field.name: field.default for field in msgspec.structs.fields(kind)}


def _as_asked(value: object) -> object:
    """Settings that name the default plan (and no grace, tiers, boards) are as they were before there were plans
    (grace, tiers, boards): a request that was first tried then keeps its fingerprint."""
    if isinstance(value, TenantSettings) and value.tiers is None and not value.boards:
        asked = (value.time_zone, value.overdraft_max, value.rules)
        if value.lapsed_grace_ms:
            return (*asked, value.plan, value.lapsed_grace_ms)
        return asked if value.plan == "premium" else (*asked, value.plan)
    if isinstance(value, EventTerms | Gate):
        return _told(value)
    if isinstance(value, tuple):
        return [_as_asked(item) for item in value]
    return value


def tapped(tag_uid: str) -> str:
    """What stands for the card in the fingerprint of a tap: a scan that is sent again with a newer tap of the same tag
    is the same request."""
    return f"tag:{tag_uid}" if tag_uid else ""


def check_in_fingerprint(
    event_id: str,
    card_id: str,
    gate_id: str,
    direction: str,
    scanned_at_ms: int,
    is_offline: bool = False,
    offline_reason: str = "",
    is_forced: bool = False,
) -> bytes:
    """`fingerprint` of a CheckIn, for the path where every microsecond counts. Who forces it is not part of it."""
    text = f"{event_id}|{card_id}|{gate_id}|{direction}|{scanned_at_ms}"
    if is_offline:
        text += f"|offline|{offline_reason}"
    if is_forced:
        text += "|forced"
    return blake2b(text.encode(), digest_size=FINGERPRINT_BYTES).digest()
