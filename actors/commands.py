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

from hashlib import blake2b

import msgspec

from actors.coupon_commands import CouponCommand, DefineCoupon, RedeemCoupon
from actors.terms import CardState, Direction, EventState, EventTerms, Gate, Plan, Reentry, TenantSettings, Tier

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


class IssueCard(msgspec.Struct, frozen=True, array_like=True, tag=3):
    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    member_id: str
    member_name: str
    tier: Tier
    valid_from_ms: int = 0
    valid_until_ms: int = 0


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


class CheckIn(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """A credential whose signature the edge has verified, presented at a gate. `valid_*_ms` are the credential's own
    validity (0 = no bound). Empty `gate_id`/`device_id`: not told. `scanned_at_ms` 0: now."""

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


class AwardPoints(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """Gives `amount` points; `expires_at_ms` 0: they never expire."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    amount: int
    note: str = ""
    expires_at_ms: int = 0


class RedeemPoints(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    amount: int
    note: str = ""


class ReversePoints(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """Undoes ledger entry `entry_seq` (an award or a redemption), once."""

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
    | Wake
    | CouponCommand
)

# Left out of the fingerprint: the id itself, what the edge makes up anew at every try, and the device, which may
# differ between tries.
_NOT_ASKED = frozenset({"tenant_id", "request_id", "fingerprint", "device_id", "valid_from_ms", "valid_until_ms"})
_MADE_BY_THE_EDGE = {
    IssueCard: "card_id",
    CreateEvent: "event_id",
    OpenTenant: "tenant_id",
    DefineCoupon: "coupon_id",
    RedeemCoupon: "redemption_id",
}


def fingerprint(command: Command) -> bytes:
    """What distinguishes one request from another under the same id: BLAKE2b-64 over the kind and the fields that
    are asked."""
    kind = type(command)
    if isinstance(command, CheckIn):
        return check_in_fingerprint(
            command.event_id, command.card_id, command.gate_id, command.direction, command.scanned_at_ms
        )
    made = _MADE_BY_THE_EDGE.get(kind)
    kept_validity = kind is IssueCard
    asked = [
        _as_asked(getattr(command, name))
        for name in kind.__struct_fields__
        if (name not in _NOT_ASKED or (kept_validity and name.startswith("valid_")))
        and name != made
        # A request without a condition keeps the fingerprint from before there were any.
        and not (name == "if_version" and getattr(command, name) is None)
    ]
    return blake2b(msgspec.msgpack.encode((kind.__name__, asked)), digest_size=FINGERPRINT_BYTES).digest()


def _as_asked(value: object) -> object:
    """Settings that name the default plan are as they were before there were plans: a request that was first tried
    then keeps its fingerprint."""
    if isinstance(value, TenantSettings) and value.plan == "premium":
        return (value.time_zone, value.overdraft_max, value.rules)
    return value


def check_in_fingerprint(event_id: str, card_id: str, gate_id: str, direction: str, scanned_at_ms: int) -> bytes:
    """`fingerprint` of a CheckIn, for the path where every microsecond counts."""
    text = f"{event_id}|{card_id}|{gate_id}|{direction}|{scanned_at_ms}"
    return blake2b(text.encode(), digest_size=FINGERPRINT_BYTES).digest()
