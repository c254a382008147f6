"""Facts about members, as far as rules know of them. Rules as in `actors.facts`.

`birthday_on` is the local day (yyyymmdd) on which the card's birthday comes next, `birthday_due_ms` when that day
begins; 0 and 0: never.
"""

from __future__ import annotations

import msgspec

from actors.profiles import Profile


class CardHolderDescribed(msgspec.Struct, frozen=True, array_like=True, tag=79):
    """Rules know this of the member who holds a card from now on."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    profile: Profile
    birthday_on: int
    birthday_due_ms: int


class BirthdayCame(msgspec.Struct, frozen=True, array_like=True, tag=90):
    """The time for which a card's birthday was expected is there. `came_on` is the local day on which it came for an
    active card; 0 where it did not: the card is not active, or the organisation's clocks are others by now, and the day
    has not begun."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    came_on: int
    birthday_on: int
    birthday_due_ms: int


MemberFact = CardHolderDescribed | BirthdayCame
