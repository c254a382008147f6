"""Loading coupons and what belongs to them: codes, cards' uses, bills, redemptions. See `storage.other_actors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.coupon import Bill, Code, Coupon, CouponUse, Redemption
from actors.coupon_terms import BillCoupon, CouponCounts, CouponTerms, CouponValue, Hold
from actors.kinds import Actor
from actors.rule_facts import RuleUnits
from storage.postgres import Connection

Key = tuple[str, str]

_terms_decoder = msgspec.json.Decoder(CouponTerms)
_value_decoder: msgspec.json.Decoder[CouponValue] = msgspec.json.Decoder(CouponValue)
_rules_decoder = msgspec.json.Decoder(tuple[RuleUnits, ...])

_COUPONS = """
SELECT t.tenant_id, t.coupon_id, t.terms, c.issued, c.redeemed, c.on_hold, c.day, c.day_uses,
    greatest(t.position, c.position)
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, coupon_id) JOIN coupons AS t USING (tenant_id, coupon_id)
JOIN coupon_counts AS c USING (tenant_id, coupon_id)
"""
_HOLDS = """
SELECT t.tenant_id, t.coupon_id, t.redemption_id, t.hold_until_ms, t.code_id, t.card_id, t.bill
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, coupon_id)
JOIN coupon_redemptions AS t USING (tenant_id, coupon_id) WHERE t.state = 'on_hold'
"""
_CODES = """
SELECT t.tenant_id, t.code_id, t.coupon_id, t.card_id, t.tail, t.issue_id, t.number, t.issued_at_ms, t.expires_at_ms,
    t.is_shared, coalesce(s.state, 'issued'), coalesce(s.redemption_id, ''), greatest(t.position, s.position)
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, code_id) JOIN coupon_codes AS t USING (tenant_id, code_id)
LEFT JOIN coupon_code_states AS s USING (tenant_id, code_id)
"""
_USES = """
SELECT t.tenant_id, t.coupon_id, t.card_id, t.uses, t.position
FROM unnest($1::text[], $2::text[], $3::text[]) AS u (tenant_id, coupon_id, card_id)
JOIN coupon_uses AS t USING (tenant_id, coupon_id, card_id)
"""
_BILLS = """
SELECT t.tenant_id, t.bill, t.position FROM unnest($1::text[], $2::text[]) AS u (tenant_id, bill)
JOIN coupon_bills AS t USING (tenant_id, bill)
"""
# `bill <> ''` lets it use the index.
_ON_BILLS = """
SELECT t.tenant_id, t.bill, t.redemption_id, t.state, t.stacking, t.stacking_group, t.hold_until_ms, t.position
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, bill) JOIN coupon_redemptions AS t USING (tenant_id, bill)
WHERE t.bill <> ''
"""
_REDEMPTIONS = """
SELECT t.tenant_id, t.redemption_id, t.coupon_id, t.code_id, t.card_id, t.bill, t.state, t.hold_until_ms, t.day,
    t.value, t.stacking, t.stacking_group, t.points_seq, t.began_at_ms, t.changed_at_ms, t.rules, t.rules_seq,
    t.position
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, redemption_id)
JOIN coupon_redemptions AS t USING (tenant_id, redemption_id)
"""


async def load_coupons(connection: Connection, keys: Sequence[Key]) -> dict[Key, Actor]:
    """Coupons with their counts and open holds."""
    columns = _columns(keys)
    holds: dict[Key, dict[str, Hold]] = {}
    for tenant_id, coupon_id, redemption_id, *hold in await connection.fetch(_HOLDS, *columns):
        holds.setdefault((tenant_id, coupon_id), {})[redemption_id] = Hold(*hold)
    found: dict[Key, Actor] = {}
    for tenant_id, coupon_id, terms, *counts, position in await connection.fetch(_COUPONS, *columns):
        key = (tenant_id, coupon_id)
        found[key] = Coupon(*key, _terms_decoder.decode(terms), CouponCounts(*counts), holds.get(key, {}), position)
    return found


async def load_codes(connection: Connection, keys: Sequence[Key]) -> dict[Key, Actor]:
    """Codes, in the state that they are in now."""
    return {(row[0], row[1]): Code(*row) for row in await connection.fetch(_CODES, *_columns(keys))}


async def load_coupon_uses(connection: Connection, keys: Sequence[Key]) -> dict[Key, Actor]:
    """Cards' uses; an id is that of the coupon and that of the card with a stroke between them."""
    parts = [(tenant_id, *own_id.partition("/")) for tenant_id, own_id in keys]
    columns = _columns([(tenant_id, coupon_id, card_id) for tenant_id, coupon_id, _, card_id in parts])
    uses = [CouponUse(*row) for row in await connection.fetch(_USES, *columns)]
    return {(use.tenant_id, use.coupon_use_id): use for use in uses}


async def load_bills(connection: Connection, keys: Sequence[Key]) -> dict[Key, Actor]:
    """Bills with their coupons; the name stands at the end of an id (`actors.coupon_facts.bill_id_of`)."""
    columns = _columns([(tenant_id, own_id.removeprefix(f"{tenant_id}/bill/")) for tenant_id, own_id in keys])
    bills = {(row[0], row[1]): Bill(row[0], row[1], {}, row[2]) for row in await connection.fetch(_BILLS, *columns)}
    for tenant_id, name, redemption_id, state, *coupon, position in await connection.fetch(_ON_BILLS, *columns):
        bill = bills[tenant_id, name]
        bill.position = max(bill.position, position)
        if state in ("on_hold", "redeemed"):
            bill.coupons[redemption_id] = BillCoupon(*coupon)
    return {(bill.tenant_id, bill.bill_id): bill for bill in bills.values()}


async def load_redemptions(connection: Connection, keys: Sequence[Key]) -> dict[Key, Actor]:
    """Redemptions, whatever became of them."""
    found: dict[Key, Actor] = {}
    for row in await connection.fetch(_REDEMPTIONS, *_columns(keys)):
        values: list[Any] = list(row)
        values[9], values[15] = _value_decoder.decode(values[9]), _rules_decoder.decode(values[15])
        found[values[0], values[1]] = Redemption(*values)
    return found


def _columns(keys: Sequence[tuple[str, ...]]) -> list[list[str]]:
    return [list(column) for column in zip(*keys, strict=True)]
