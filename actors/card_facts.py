"""What becomes of a card after its issue, and which NFC tag it has. Rules as in `actors.facts`."""

from __future__ import annotations

import msgspec

from actors.terms import CardState, Tier, TierReason


def tag_id_of(tenant_id: str, tag_uid: str) -> str:
    """The id of the virtual actor Tag, "" for no tag. UIDs come from outside: two tenants may name the same one, and it
    is not the same tag then."""
    return f"{tenant_id}/{tag_uid}" if tag_uid else ""


class CardReissued(msgspec.Struct, frozen=True, array_like=True, tag=50):
    """A card got a new credential: from now on those with this `serial` are good, and no other. Its state is as it
    was."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    serial: int
    state: CardState
    note: str = ""


class CardRenewed(msgspec.Struct, frozen=True, array_like=True, tag=51):
    """A card is valid from `valid_from_ms` until before `valid_until_ms` (0 = no bound) from now on."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    valid_from_ms: int
    valid_until_ms: int


class CardTierChanged(msgspec.Struct, frozen=True, array_like=True, tag=52):
    """A card is of another tier. `reason` says who decided: "manual" is a person, "points" those just earned, "review"
    a review, "until" the end of what a person had set. `cause` is what led to it as in `PointsPosted`, `rule` the rule
    with its version; "" without.

    `points` are those of the window at `as_of_ms`, when it came about. The tier is looked at again at `due_ms` (0:
    not); with `is_held` a person set it until then. `as_of_ms` is 0 in facts from before there were tiers by points."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    tier: Tier
    tier_before: str
    reason: TierReason
    note: str = ""
    cause: str = ""
    rule: str = ""
    points: int = 0
    due_ms: int = 0
    is_held: bool = False
    as_of_ms: int = 0


class TierReviewed(msgspec.Struct, frozen=True, array_like=True, tag=80):
    """A card's tier was looked at and stays, or got its first date for that. Fields as in `CardTierChanged`."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    tier: Tier
    points: int
    due_ms: int
    as_of_ms: int


class _TagFact(msgspec.Struct, frozen=True, array_like=True):
    """The tag is named by its UID; `counter` is the last one accepted of it, 0 while none was."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    tag_uid: str
    counter: int

    @property
    def tag_id(self) -> str:
        """See `tag_id_of`."""
        return tag_id_of(self.tenant_id, self.tag_uid)


class TagEnrolled(_TagFact, frozen=True, array_like=True, tag=53):
    """A tag was named for the first time. It is no card's yet; `card_id` is ""."""


class TagAssigned(_TagFact, frozen=True, array_like=True, tag=54):
    """A tag is a card's from now on, and the card has no other."""


class TagRemoved(_TagFact, frozen=True, array_like=True, tag=55):
    """A tag is the card's no more, and nobody's."""


CardFact = CardReissued | CardRenewed | CardTierChanged | TierReviewed | TagAssigned | TagRemoved
TagFact = TagEnrolled | TagAssigned | TagRemoved
