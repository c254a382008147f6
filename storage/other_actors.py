"""Loading the actors that are neither tenants nor cards nor events: one function a kind, for many keys at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from actors.board_facts import Winner
from actors.kinds import Actor
from actors.payout import Payout
from actors.ports import OtherActor
from actors.tag import Tag
from storage.coupon_actors import load_bills, load_codes, load_coupon_uses, load_coupons, load_redemptions
from storage.postgres import Connection

# For a kind: the actors with these (tenant, id), as far as there are any.
Loader = Callable[[Connection, Sequence[tuple[str, str]]], Awaitable[dict[tuple[str, str], Actor]]]

_TAGS = """
SELECT t.tenant_id, t.tag_uid, t.card_id, t.counter, t.position
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, tag_uid) JOIN tags AS t USING (tenant_id, tag_uid)
"""

_PAYOUTS = """
SELECT t.tenant_id, t.board, t.win, t.paid_at_ms, t.winners, t.position
FROM unnest($1::text[], $2::text[], $3::text[]) AS u (tenant_id, board, win)
JOIN board_payouts AS t USING (tenant_id, board, win)
"""
_winners_decoder = msgspec.json.Decoder(tuple[Winner, ...])


async def _tags(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Actor]:
    # An id names its tenant; one that names another is nobody's.
    own = [(tenant_id, tag_id) for tenant_id, tag_id in keys if tag_id.startswith(f"{tenant_id}/")]
    uids = [tag_id.removeprefix(f"{tenant_id}/") for tenant_id, tag_id in own]
    tags = [Tag(*row) for row in await connection.fetch(_TAGS, [tenant_id for tenant_id, _ in own], uids)]
    return {(tag.tenant_id, tag.tag_id): tag for tag in tags}


async def _payouts(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Actor]:
    # An id is "TENANT/payout/BOARD/WINDOW"; one that names another organisation is nobody's.
    named = [(tenant_id, own_id.removeprefix(f"{tenant_id}/payout/")) for tenant_id, own_id in keys]
    split = [(tenant_id, *rest.split("/", 1)) for tenant_id, rest in named if rest.count("/") == 1]
    columns = [list(column) for column in zip(*split, strict=True)] or [[], [], []]
    found: dict[tuple[str, str], Actor] = {}
    for tenant_id, board, window, paid_at_ms, winners, position in await connection.fetch(_PAYOUTS, *columns):
        payout = Payout(tenant_id, board, window, paid_at_ms, _winners_decoder.decode(winners), position)
        found[tenant_id, payout.payout_id] = payout
    return found


LOADERS: dict[str, Loader] = {
    "tag": _tags,
    "coupon": load_coupons,
    "code": load_codes,
    "coupon_use": load_coupon_uses,
    "bill": load_bills,
    "redemption": load_redemptions,
    "payout": _payouts,
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
