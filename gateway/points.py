"""Requests that move points and money, each with its body, who may make it, and the command it becomes.

Rules:
1. Points and wallet have verbs of their own where the word differs (award and top-up, redeem and pay); what is the same
   for both (hold, transfer) names the `account`; what cites an entry (reverse, capture, release) goes by the entry's.
2. `points.spend` is what happens at a till, where somebody hands over their card: it takes, or puts aside, what the
   card has. Whatever gives, gives back or moves to another card is `points.write`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actors.commands import AwardPoints, Command, RedeemPoints, ReversePoints, fingerprint
from actors.points_commands import CapturePoints, ConfirmPoints, HoldPoints, ReleasePoints, TransferPoints
from actors.terms import FAR_MS
from gateway import requests
from gateway.ids import is_id
from gateway.problems import malformed
from gateway.requests import time_ms

GIVE = "points.write"
SPEND = "points.spend"
# Tenant, request id, no fingerprint yet, card.
Head = tuple[str, str, bytes, str]


class Verb(msgspec.Struct, frozen=True):
    """A request: `action` of the policy, the body's type, and the command that it becomes. `summary` is for the
    document."""

    action: str
    summary: str
    body: type[Any]
    command: Callable[[Head, Any], Command]
    decoder: msgspec.json.Decoder[Any]


def _award(head: Head, asked: requests.AwardRequest) -> Command:
    if asked.pending and asked.pending_until is not None:
        raise malformed("#/pending_until", "Points are pending until a time, or until they are confirmed, not both.")
    pending_until_ms = FAR_MS if asked.pending else time_ms(asked.pending_until, "#/pending_until")
    expires_at_ms = time_ms(asked.expires_at, "#/expires_at")
    return AwardPoints(*head, asked.amount, asked.note, expires_at_ms, pending_until_ms)


def _redeem(head: Head, asked: requests.RedeemRequest) -> Command:
    return RedeemPoints(*head, asked.amount, asked.note)


def _reverse(head: Head, asked: requests.EntryRequest) -> Command:
    return ReversePoints(*head, asked.entry_seq, asked.note)


def _confirm(head: Head, asked: requests.EntryRequest) -> Command:
    return ConfirmPoints(*head, asked.entry_seq, asked.note)


def _hold(head: Head, asked: requests.HoldRequest) -> Command:
    return HoldPoints(*head, asked.amount, asked.note, time_ms(asked.lapses_at, "#/lapses_at"), asked.account)


def _capture(head: Head, asked: requests.CaptureRequest) -> Command:
    return CapturePoints(*head, asked.entry_seq, asked.amount, asked.note)


def _release(head: Head, asked: requests.EntryRequest) -> Command:
    return ReleasePoints(*head, asked.entry_seq, asked.note)


def _transfer(head: Head, asked: requests.TransferRequest) -> Command:
    if not is_id(asked.to_card_id):
        raise malformed("#/to_card_id", "An id has letters, digits, `_`, `.` and `-` only.")
    return TransferPoints(*head, asked.to_card_id, asked.amount, asked.note, asked.account)


def _top_up(head: Head, asked: requests.MoneyRequest) -> Command:
    return AwardPoints(*head, asked.amount, asked.note, account="wallet")


def _pay(head: Head, asked: requests.MoneyRequest) -> Command:
    return RedeemPoints(*head, asked.amount, asked.note, account="wallet")


def _verb(action: str, summary: str, body: type[Any], command: Callable[[Head, Any], Command]) -> Verb:
    return Verb(action, summary, body, command, msgspec.json.Decoder(body))


# By the end of the path, after the card's id.
VERBS: dict[str, Verb] = {
    "points/award": _verb(GIVE, "Award points", requests.AwardRequest, _award),
    "points/redeem": _verb(SPEND, "Redeem points", requests.RedeemRequest, _redeem),
    "points/reverse": _verb(GIVE, "Reverse points", requests.ReverseRequest, _reverse),
    "points/confirm": _verb(GIVE, "Confirm pending points", requests.ConfirmRequest, _confirm),
    "points/hold": _verb(SPEND, "Put points or money aside", requests.HoldRequest, _hold),
    "points/capture": _verb(SPEND, "Take what was put aside", requests.CaptureRequest, _capture),
    "points/release": _verb(SPEND, "Let go what was put aside", requests.ReleaseRequest, _release),
    "points/transfer": _verb(GIVE, "Transfer to another card", requests.TransferRequest, _transfer),
    "wallet/top-up": _verb(GIVE, "Top up the wallet", requests.TopUpRequest, _top_up),
    "wallet/pay": _verb(SPEND, "Pay from the wallet", requests.PayRequest, _pay),
}


def command_of(verb: Verb, tenant_id: str, request_id: str, card_id: str, asked: Any) -> Command:
    """The command, with its fingerprint. Raises `Problem` for what types cannot say."""
    command = verb.command((tenant_id, request_id, b"", card_id), asked)
    return msgspec.structs.replace(command, fingerprint=fingerprint(command))
