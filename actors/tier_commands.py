"""Commands about an organisation's tiers. Rules as in `actors.commands`."""

from __future__ import annotations

import msgspec

from actors.terms import TierTerms


class SetTiers(msgspec.Struct, frozen=True, array_like=True, tag=80):
    """Which tiers there are, and how cards get into them; None: by hand alone. Nobody's tier changes at once."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    tiers: TierTerms | None
    if_version: tuple[str, ...] | None = None
