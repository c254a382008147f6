"""The rows of coupons, from their facts. Pure; the rules are those of `storage.rows`. All of these tables are written
whole rows at a time: what changes often (counts, states of codes) stands apart from what does not."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from actors.coupon import code_state, told
from actors.coupon_facts import (
    BillBegan,
    CodeGranted,
    CodeIssued,
    CodesIssued,
    CodeWithdrawn,
    CouponChanged,
    CouponDefined,
    CouponFact,
    CouponRedeemed,
    CouponUseBegan,
    RedemptionChanged,
)
from actors.coupon_terms import CouponCounts
from storage.state_tables import (
    COUPON_BILLS,
    COUPON_CODE_STATES,
    COUPON_CODES,
    COUPON_COUNTS,
    COUPON_REDEMPTIONS,
    COUPON_USES,
    COUPONS,
    Row,
    StateTable,
)

_COLUMNS = [name for name, _ in (*COUPON_REDEMPTIONS.key, *COUPON_REDEMPTIONS.values)]
_AS_JSON = (_COLUMNS.index("value"), _COLUMNS.index("rules"))


def coupon_rows(fact: CouponFact, position: int) -> Iterator[tuple[StateTable, Row]]:
    """The rows that a fact sets."""
    tenant_id = fact.tenant_id
    match fact:
        case CouponDefined() | CouponChanged():
            terms = fact.terms
            said = (_json(terms), terms.name, terms.state, terms.shared_code)
            yield COUPONS, (tenant_id, fact.coupon_id, *said, position)
            if isinstance(fact, CouponDefined):
                yield COUPON_COUNTS, _counts(tenant_id, fact.coupon_id, CouponCounts(), position)
        case CodesIssued():
            yield COUPON_COUNTS, _counts(tenant_id, fact.coupon_id, fact.counts, position)
        case CodeIssued():
            code = (fact.coupon_id, fact.card_id, fact.tail, fact.issue_id, fact.number, fact.at_ms)
            yield COUPON_CODES, (tenant_id, fact.code_id, *code, fact.expires_at_ms, fact.is_shared, position)
        case CodeGranted():
            code = (fact.coupon_id, fact.card_id, "", fact.cause, fact.number, fact.at_ms)
            yield COUPON_CODES, (tenant_id, fact.code_id, *code, fact.expires_at_ms, False, position)
            yield COUPON_COUNTS, _counts(tenant_id, fact.coupon_id, fact.counts, position)
        case CodeWithdrawn():
            yield COUPON_CODE_STATES, (tenant_id, fact.code_id, "withdrawn", "", position)
            yield COUPON_COUNTS, _counts(tenant_id, fact.coupon_id, fact.counts, position)
        case CouponUseBegan():
            yield COUPON_USES, (tenant_id, fact.coupon_id, fact.card_id, 0, position)
        case BillBegan():
            yield COUPON_BILLS, (tenant_id, fact.bill, fact.at_ms, position)
        case CouponRedeemed() | RedemptionChanged():
            yield from _redemption(fact, position)


def _redemption(fact: CouponRedeemed | RedemptionChanged, position: int) -> Iterator[tuple[StateTable, Row]]:
    tenant_id = fact.tenant_id
    values = list(told(fact, fact.began_at_ms if isinstance(fact, RedemptionChanged) else fact.at_ms))
    for place in _AS_JSON:
        values[place] = _json(values[place])
    yield COUPON_REDEMPTIONS, (*values, position)
    yield COUPON_COUNTS, _counts(tenant_id, fact.coupon_id, fact.counts, position)
    yield COUPON_USES, (tenant_id, fact.coupon_id, fact.card_id, fact.card_uses, position)
    if fact.code_id:
        state = code_state(fact.state)
        owner = fact.redemption_id if state != "issued" else ""
        yield COUPON_CODE_STATES, (tenant_id, fact.code_id, state, owner, position)


def _counts(tenant_id: str, coupon_id: str, counts: CouponCounts, position: int) -> Row:
    said = (counts.issued, counts.redeemed, counts.on_hold, counts.day, counts.day_uses)
    return (tenant_id, coupon_id, *said, position)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
