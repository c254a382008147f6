"""How a card came into its tier, newest first. Like `storage.logs`, this is behind the engine by the projector's
lag."""

from __future__ import annotations

import msgspec

from storage.logs import fetch
from storage.postgres import Connection, Pool

_LATEST = """
SELECT as_of_ms, tier, tier_before, reason, points, note, cause, rule FROM tier_changes
WHERE tenant_id = $1 AND card_id = $2 ORDER BY changed_position DESC LIMIT $3
"""


class TierChange(msgspec.Struct, frozen=True):
    """A change, as in `actors.card_facts.CardTierChanged`."""

    as_of_ms: int
    tier: str
    tier_before: str
    reason: str
    points: int
    note: str
    cause: str
    rule: str


async def latest(source: Pool | Connection, tenant_id: str, card_id: str, count: int) -> list[TierChange]:
    """The last `count` changes. Raises `actors.ports.StoreUnavailable`."""
    return [TierChange(*row) for row in await fetch(source, _LATEST, tenant_id, card_id, count)]
