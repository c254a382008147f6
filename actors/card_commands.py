"""Commands about a card's life and its NFC tag. Rules as in `actors.commands`."""

from __future__ import annotations

import msgspec

from actors.terms import Tier


class ReissueCard(msgspec.Struct, frozen=True, array_like=True, tag=50):
    """Gives a card a new credential; every earlier one is dead at once. Points, member and tag stay."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    note: str = ""


class RenewCard(msgspec.Struct, frozen=True, array_like=True, tag=51):
    """Sets a card's validity (0 = no bound)."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    valid_from_ms: int
    valid_until_ms: int


class SetCardTier(msgspec.Struct, frozen=True, array_like=True, tag=52):
    """Puts a card into a tier, until `until_ms` (0: as long as nothing else moves it, see `actors.tiers`). The one that
    it has already: no change, accepted."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    tier: Tier
    note: str = ""
    until_ms: int = 0


class AssignTag(msgspec.Struct, frozen=True, array_like=True, tag=53):
    """Gives a card an NFC tag (UID in 14 hexadecimal digits, capitals) in place of the one that it has."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    tag_uid: str


class RemoveTag(msgspec.Struct, frozen=True, array_like=True, tag=54):
    """Takes a card's tag from it."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str


CardCommand = ReissueCard | RenewCard | SetCardTier | AssignTag | RemoveTag
