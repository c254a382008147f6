"""Fetching what a scanner has to know, all of it with the rights of a device."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from typing import Any

import msgspec

from gateway.client import AsyncClient
from loadtest.offline.kept import Kept
from loadtest.offline.known import CardChanges, Device, Event


async def paired(vip: AsyncClient, kept: Kept, code: str) -> str:
    """The device's token for a pairing code; asked again after a crash it is the same one."""
    answer = await vip.devices.pair(code, idempotency_key=kept.pairing_key(code, vip.new_id()))
    token: str = answer["token"]
    kept.keep_token(token)
    return token


async def refresh(vip: AsyncClient, kept: Kept, event_id: str | None, *, with_cards: bool = True) -> None:
    """Everything as it is now: device, event, keys, the list of who is let in, and what has changed about cards since
    the last time. `event_id` is for a device that is bound to none. While a socket brings the news of cards, they are
    not asked for (`with_cards`): two lines of news about the same could overtake each other."""
    itself = await vip.devices.itself()
    device = Device(itself["id"], itself["org_id"], itself["event_id"] or event_id or "", itself["gate_id"] or "")
    event = msgspec.convert(await vip.events.get(device.event_id), Event)
    key_set = await vip.request("GET", f"/v1/orgs/{device.org_id}/credential-keys")
    listed = [card_id async for card_id in vip.events.admission_list(event.id)] if event.admission.list_only else []
    changes = None
    if with_cards:
        since = kept.known.cursor if kept.known is not None else ""
        changes = card_changes(await vip.cards.revocations(since or None))
    kept.keep_all(device, event, _raw_keys(key_set), listed, changes)


def card_changes(told: dict[str, Any]) -> CardChanges:
    """What an answer or a `revoked` frame tells."""
    return msgspec.convert(told, CardChanges)


def _raw_keys(key_set: dict[str, Any]) -> dict[int, bytes]:
    """The keys of a JSON Web Key Set (RFC 8037): `kid` is a number, `x` base64url without padding."""
    return {int(key["kid"]): urlsafe_b64decode(key["x"] + "=" * (-len(key["x"]) % 4)) for key in key_set["keys"]}
