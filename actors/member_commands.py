"""Commands about members, as far as the engine knows of them. Rules as in `actors.commands`."""

from __future__ import annotations

import msgspec

from actors.profiles import Profile


class DescribeCardHolder(msgspec.Struct, frozen=True, array_like=True, tag=75):
    """Rules may know this of the member who holds the card from now on; of a revoked card's, too."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    card_id: str
    profile: Profile


MemberCommand = DescribeCardHolder
