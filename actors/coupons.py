"""Deciding what organisers ask about coupons: define, change, issue codes. Pure; refusals come back as facts."""

from __future__ import annotations

import msgspec

from actors.admin import CHANGED_MEANWHILE
from actors.coupon_commands import ChangeCoupon, CouponCommand, DefineCoupon, IssueCoupons
from actors.coupon_facts import CodeIssued, CodesIssued, CouponChanged, CouponDefined
from actors.coupon_terms import (
    CODES_PER_COMMAND_MAX,
    CODES_PER_COUPON_MAX,
    DAY_MS,
    USES_MAX,
    VALID_DAYS_MAX,
    AmountValue,
    CouponTerms,
    ItemValue,
    PercentValue,
    PointsValue,
)
from actors.facts import CommandRefused, Fact
from actors.refusals import CODE_TAKEN, COUPON_ENDED, COUPON_TERMS_INVALID, LIMIT_REACHED, PRECONDITION_FAILED
from actors.scope import UNKNOWN, Scope, Unknown
from actors.terms import POINTS_PER_ENTRY_MAX
from actors.versions import coupon_version

SHARED_TAIL_CHARS = 4


def decide_define_coupon(scope: Scope, command: DefineCoupon, at_ms: int) -> list[Fact]:
    """Defines a coupon, and its shared code if it has one; or refuses: terms, the shared code's text, in this order."""
    terms = command.terms
    fault = terms_fault(terms)
    if fault:
        return [refused(command, command.coupon_id, COUPON_TERMS_INVALID, fault, at_ms)]
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms)
    facts: list[Fact] = [CouponDefined(*head, command.coupon_id, terms)]
    if terms.shared_code:
        if scope.find("code", command.shared_code_id) is not None:
            return [refused(command, command.coupon_id, CODE_TAKEN, "the shared code is another coupon's", at_ms)]
        tail = terms.shared_code[-SHARED_TAIL_CHARS:]
        facts.append(
            CodeIssued(
                *(command.tenant_id, "", b"", at_ms, command.shared_code_id, command.coupon_id),
                *("", tail, command.request_id, 0),
                is_shared=True,
            )
        )
    return facts


def decide_change_coupon(scope: Scope, command: ChangeCoupon, at_ms: int) -> list[Fact]:
    """Changes what is given, if the condition holds; or refuses: the condition, a coupon that ended, terms."""
    terms: CouponTerms = scope.actors["coupon"].terms
    if command.if_version is not None and coupon_version(terms) not in command.if_version:
        return [refused(command, command.coupon_id, PRECONDITION_FAILED, CHANGED_MEANWHILE, at_ms)]
    if terms.state == "ended":
        return [refused(command, command.coupon_id, COUPON_ENDED, "what has ended stays as it is", at_ms)]
    changes = {
        name: value
        for name in CouponTerms.__struct_fields__
        if name != "shared_code" and (value := getattr(command, name)) is not None
    }
    changed = msgspec.structs.replace(terms, **changes)
    fault = terms_fault(changed)
    if not fault and changed.state == "draft" and terms.state != "draft":
        fault = "a coupon that was active does not become a draft again; pause it"
    if fault:
        return [refused(command, command.coupon_id, COUPON_TERMS_INVALID, fault, at_ms)]
    return [
        CouponChanged(command.tenant_id, command.request_id, command.fingerprint, at_ms, command.coupon_id, changed)
    ]


def decide_issue_coupons(scope: Scope, command: IssueCoupons, at_ms: int) -> list[Fact]:
    """Issues all of the codes, or none: the coupon ended, too many, one that is there already; then every card that is
    named must exist."""
    coupon = scope.actors["coupon"]
    count = len(command.codes)
    if coupon.terms.state == "ended":
        return [refused(command, command.coupon_id, COUPON_ENDED, "the coupon has ended", at_ms)]
    if not 1 <= count <= CODES_PER_COMMAND_MAX or coupon.counts.issued + count > CODES_PER_COUPON_MAX:
        detail = f"1 to {CODES_PER_COMMAND_MAX} codes at a time, {CODES_PER_COUPON_MAX} of a coupon in all"
        return [refused(command, command.coupon_id, LIMIT_REACHED, detail, at_ms)]
    code_ids = [("code", code.code_id) for code in command.codes]
    card_ids = [("card", card_id) for card_id in sorted({code.card_id for code in command.codes} - {""})]
    found = scope.find_all([*code_ids, *card_ids])
    if any(code is not None for code in found[:count]) or len(set(code_ids)) < count:
        return [refused(command, command.coupon_id, CODE_TAKEN, "a code is there already", at_ms)]
    if None in found[count:]:
        raise Unknown(UNKNOWN["card"])
    counts = msgspec.structs.replace(coupon.counts, issued=coupon.counts.issued + count)
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms)
    expires_at_ms = at_ms + coupon.terms.valid_days * DAY_MS if coupon.terms.valid_days else 0
    return [
        CodesIssued(*head, command.coupon_id, count, counts),
        *(
            CodeIssued(
                *(command.tenant_id, "", b"", at_ms, code.code_id, command.coupon_id, code.card_id, code.tail),
                *(command.request_id, number, expires_at_ms),
            )
            for number, code in enumerate(command.codes)
        ),
    ]


def terms_fault(terms: CouponTerms) -> str:
    """What is wrong with a coupon's terms, "" for nothing."""
    if terms.ends_ms and terms.ends_ms <= terms.starts_ms:
        return "valid_until must be after valid_from"
    if not all(0 <= most <= USES_MAX for most in (terms.uses_max, terms.uses_per_card_max, terms.uses_per_day_max)):
        return f"limits are 0 (none) to {USES_MAX}"
    if not 0 <= terms.valid_days <= VALID_DAYS_MAX:
        return f"valid_days is 0 (none) to {VALID_DAYS_MAX}"
    match terms.value:
        case PointsValue(points):
            is_right = 1 <= points <= POINTS_PER_ENTRY_MAX
        case PercentValue(percent, cap_vnd):
            is_right = 1 <= percent <= 100 and cap_vnd >= 0
        case AmountValue(vnd):
            is_right = vnd >= 1
        case ItemValue(text):
            is_right = bool(text)
    return "" if is_right else "the value is out of bounds"


def refused(command: CouponCommand, entity_id: str, reason: str, detail: str, at_ms: int) -> CommandRefused:
    """The refusal of a command about coupons."""
    return CommandRefused(
        command.tenant_id,
        command.request_id,
        command.fingerprint,
        at_ms,
        type(command).__name__,
        entity_id,
        reason,
        detail,
    )
