"""Read queries for lists of coupons, codes and redemptions; the rules are those of `storage.logs`."""

from __future__ import annotations

import msgspec

from actors.coupon_terms import CouponCounts, CouponTerms, CouponValue, RedemptionState
from storage.logs import BIGINT_MAX, BadCursor
from storage.postgres import Connection

_terms_decoder = msgspec.json.Decoder(CouponTerms)
_value_decoder: msgspec.json.Decoder[CouponValue] = msgspec.json.Decoder(CouponValue)

_COUPONS = """
SELECT t.coupon_id, t.terms, c.issued, c.redeemed, c.on_hold, c.day, c.day_uses
FROM coupons AS t JOIN coupon_counts AS c USING (tenant_id, coupon_id)
WHERE t.tenant_id = $1 AND t.coupon_id > $2 ORDER BY t.coupon_id LIMIT $3
"""
_CODE_COLUMNS = """
t.position, t.code_id, t.coupon_id, t.card_id, t.tail, t.issue_id, t.number, t.issued_at_ms, t.expires_at_ms,
    coalesce(s.state, 'issued'), coalesce(s.redemption_id, ''), p.name
FROM coupon_codes AS t JOIN coupons AS p USING (tenant_id, coupon_id)
LEFT JOIN coupon_code_states AS s USING (tenant_id, code_id)
"""
_CODES = f"""
SELECT {_CODE_COLUMNS}
WHERE t.tenant_id = $1 AND t.coupon_id = $2 AND t.position < $3 AND NOT t.is_shared ORDER BY t.position DESC LIMIT $4
"""
_OF_CARD = f"""
SELECT {_CODE_COLUMNS}
WHERE t.tenant_id = $1 AND t.card_id = $2 AND t.card_id <> '' AND t.position < $3 ORDER BY t.position DESC LIMIT $4
"""
# Ids go up with time. A hold whose time is over has lapsed, posted or not.
_REDEMPTIONS = """
SELECT t.value, t.redemption_id, t.coupon_id, t.card_id, t.bill, t.state, t.hold_until_ms, t.points_seq, t.changed_at_ms
FROM coupon_redemptions AS t
WHERE t.tenant_id = $1 AND t.coupon_id = $2 AND ($3 = '' OR t.redemption_id < $3)
"""
_OF_STATE: dict[RedemptionState, str] = {
    "on_hold": " AND t.state = 'on_hold' AND t.hold_until_ms > {now}",
    "lapsed": " AND (t.state = 'lapsed' OR t.state = 'on_hold' AND t.hold_until_ms <= {now})",
}


class CouponRow(msgspec.Struct, frozen=True):
    """A coupon as projected."""

    coupon_id: str
    terms: CouponTerms
    counts: CouponCounts


class CodeRow(msgspec.Struct, frozen=True):
    """An issued code as projected; `position` orders them."""

    position: int
    code_id: str
    coupon_id: str
    card_id: str
    tail: str
    issue_id: str
    number: int
    issued_at_ms: int
    expires_at_ms: int
    state: str
    redemption_id: str
    name: str


class RedemptionRow(msgspec.Struct, frozen=True):
    """A redemption as projected; `at_ms` is since when it is in its state."""

    value: CouponValue
    redemption_id: str
    coupon_id: str
    card_id: str
    bill: str
    state: RedemptionState
    hold_until_ms: int
    points_seq: int
    at_ms: int


async def coupons(connection: Connection, tenant_id: str, after: str, count: int) -> list[CouponRow]:
    """Coupons, by id."""
    rows = await connection.fetch(_COUPONS, tenant_id, after, count)
    return [CouponRow(row[0], _terms_decoder.decode(row[1]), CouponCounts(*row[2:])) for row in rows]


async def codes_of_coupon(
    connection: Connection, tenant_id: str, coupon_id: str, after: str, count: int
) -> list[CodeRow]:
    """The codes of a coupon, newest first. Raises `storage.logs.BadCursor`."""
    return [CodeRow(*row) for row in await connection.fetch(_CODES, tenant_id, coupon_id, _before(after), count)]


async def codes_of_card(connection: Connection, tenant_id: str, card_id: str, after: str, count: int) -> list[CodeRow]:
    """The codes that were issued for a card, newest first. Raises `storage.logs.BadCursor`."""
    return [CodeRow(*row) for row in await connection.fetch(_OF_CARD, tenant_id, card_id, _before(after), count)]


async def redemptions(
    connection: Connection,
    tenant_id: str,
    coupon_id: str,
    after: str,
    count: int,
    *,
    card_id: str = "",
    state: RedemptionState | None = None,
    now_ms: int,
) -> list[RedemptionRow]:
    """The redemptions of a coupon, newest first: those of a card, in a state as of `now_ms`."""
    query = _REDEMPTIONS
    values: list[object] = [tenant_id, coupon_id, after]

    def place(value: object) -> str:
        values.append(value)
        return f"${len(values)}"

    if card_id:
        query += f" AND t.card_id = {place(card_id)}"
    if state in _OF_STATE:
        query += _OF_STATE[state].format(now=place(now_ms))
    elif state is not None:
        query += f" AND t.state = {place(state)}"
    query += f" ORDER BY t.redemption_id DESC LIMIT {place(count)}"
    rows = await connection.fetch(query, *values)
    return [RedemptionRow(_value_decoder.decode(row[0]), *row[1:]) for row in rows]


def _before(after: str) -> int:
    if not after:
        return BIGINT_MAX
    if not (after.isascii() and after.isdigit() and int(after) <= BIGINT_MAX):
        raise BadCursor(after)
    return int(after)
