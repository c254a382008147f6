"""Commands about points and wallets beyond award, redemption and reversal (`actors.commands`, whose rules hold here):
what is pending is confirmed; amounts are put aside, captured or let go; one card gives to another."""

from __future__ import annotations

import msgspec

from actors.terms import Account


class ConfirmPoints(msgspec.Struct, frozen=True, array_like=True, tag=21, gc=False):
    """The pending points of award `entry_seq` can be spent from now on. Cancelling them is reversing the award."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    entry_seq: int
    note: str = ""


class HoldPoints(msgspec.Struct, frozen=True, array_like=True, tag=22, gc=False):
    """Puts `amount` aside until `lapses_at_ms`, 0: for `HOLD_MS_DEFAULT` from now."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    amount: int
    note: str = ""
    lapses_at_ms: int = 0
    account: Account = "points"


class CapturePoints(msgspec.Struct, frozen=True, array_like=True, tag=23, gc=False):
    """Takes what hold `entry_seq` put aside, or `amount` of it (None: all); the rest is let go."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    entry_seq: int
    amount: int | None = None
    note: str = ""


class ReleasePoints(msgspec.Struct, frozen=True, array_like=True, tag=24, gc=False):
    """Lets go what hold `entry_seq` put aside."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    entry_seq: int
    note: str = ""


class TransferPoints(msgspec.Struct, frozen=True, array_like=True, tag=25, gc=False):
    """Gives `amount` from card `card_id` to card `to_card_id` of the same organisation."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    to_card_id: str
    amount: int
    note: str = ""
    account: Account = "points"
