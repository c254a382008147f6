"""Loading the actors that are neither tenants nor cards nor events: one function a kind, for many keys at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from actors.kinds import Actor
from actors.ports import OtherActor
from storage.coupon_actors import load_bills, load_codes, load_coupon_uses, load_coupons, load_redemptions
from storage.postgres import Connection

# For a kind: the actors with these (tenant, id), as far as there are any.
Loader = Callable[[Connection, Sequence[tuple[str, str]]], Awaitable[dict[tuple[str, str], Actor]]]
LOADERS: dict[str, Loader] = {
    "coupon": load_coupons,
    "code": load_codes,
    "coupon_use": load_coupon_uses,
    "bill": load_bills,
    "redemption": load_redemptions,
}


async def load_others(connection: Connection, keys: Sequence[OtherActor]) -> dict[OtherActor, Actor]:
    """Those of the actors that there are."""
    by_kind: dict[str, list[tuple[str, str]]] = {}
    for kind, tenant_id, own_id in keys:
        by_kind.setdefault(kind, []).append((tenant_id, own_id))
    found: dict[OtherActor, Actor] = {}
    for kind, wanted in by_kind.items():
        for key, actor in (await LOADERS[kind](connection, wanted)).items():
            found[kind, *key] = actor
    return found
