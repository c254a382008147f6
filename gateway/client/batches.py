"""Many items, each with an id of its own, in as many requests as it takes.

Rules:
1. An item that the system was too busy for is sent again under its own id, so that it is executed once.
2. Each round is a request of its own, with a new Idempotency-Key: it has other items than the one before.
3. After the policy's deadline the items that are left keep the answer that they have: 429 or 503.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.client.caller import Caller
from gateway.client.errors import Json
from gateway.client.http import RETRY_STATUSES

BATCH_ITEMS = 250  # of the 1,000 allowed: so many are done well within one try


async def in_batches(caller: Caller, address: str, items: Sequence[Json], id_name: str) -> list[Json]:
    """The result of each item, in the order of the items. `id_name` is the field with an item's id. Raises what
    `Caller.request` does, and `ValueError` when two items have the same id."""
    if len({item[id_name] for item in items}) < len(items):
        raise ValueError("two items have the same id")
    results: list[Json] = []
    for first in range(0, len(items), BATCH_ITEMS):
        results += await _answered(caller, address, items[first : first + BATCH_ITEMS], id_name)
    return results


async def _answered(caller: Caller, address: str, items: Sequence[Json], id_name: str) -> list[Json]:
    found: dict[str, Json] = {}
    left = list(items)
    async for _ in caller.rounds():
        answer: Json = await caller.request("POST", address, json={"items": left})
        for item, result in zip(left, answer["items"], strict=True):
            found[item[id_name]] = result
        left = [item for item in left if _is_busy(found[item[id_name]])]
        if not left:
            break
    return [found[item[id_name]] for item in items]


def _is_busy(result: Json) -> bool:
    problem = result.get("problem")
    return problem is not None and (problem["status"] in RETRY_STATUSES or problem["code"] == "in_progress")
