"""Deciding what becomes of an organisation's rules. Pure; refusals come back as facts.

Whoever asks has read the document (`rules.document.parse_rule`); here is decided what depends on the other rules.
"""

from __future__ import annotations

from typing import get_args

import msgspec

from actors.coupon_terms import CouponTerms
from actors.facts import CommandRefused, Fact
from actors.refusals import LIMIT_REACHED, PRECONDITION_FAILED, RULE_INVALID, RULE_UNKNOWN
from actors.rounds import rescheduled
from actors.rule_commands import DeleteRule, RuleCommand, SaveRule
from actors.rule_facts import RuleDeleted, RuleSaved
from actors.rulebook import RULE_BYTES_MAX, RULES_BYTES_MAX, Rulebook
from actors.scope import Scope
from actors.terms import Tier
from actors.versions import rule_version
from rules.document import admission_error
from rules.language import GrantCoupon, RuleDefinition, SetTier

_CHANGED = "it is not as it was in any of the versions that the change is for"
_encoder = msgspec.msgpack.Encoder()


def decide_save_rule(scope: Scope, command: SaveRule, at_ms: int) -> list[Fact]:
    """Saves the next version, or refuses: the rule unknown, changed meanwhile, not possible here, too many or too much
    in all, in this order."""
    rulebook = scope.tenant.rulebook
    rule_id = command.definition.rule_id
    before = rulebook.get(rule_id)
    if before is None and not command.is_new:
        return [_refused(command, rule_id, RULE_UNKNOWN, "no such rule", at_ms)]
    if before is not None and command.if_version is not None and rule_version(before) not in command.if_version:
        return [_refused(command, rule_id, PRECONDITION_FAILED, _CHANGED, at_ms)]
    version = before.version + 1 if before is not None else 1
    definition = msgspec.structs.replace(command.definition, version=version)
    fault = fault_of(definition) or _no_coupon(scope, definition, before)
    if fault:
        return [_refused(command, rule_id, RULE_INVALID, fault, at_ms)]
    over = _over_limit(rulebook, definition)
    if over:
        return [_refused(command, rule_id, LIMIT_REACHED, over, at_ms)]
    saved = RuleSaved(command.tenant_id, command.request_id, command.fingerprint, at_ms, definition)
    return [saved, *_rescheduled(scope, rulebook.with_rule(definition), at_ms)]


def decide_delete_rule(scope: Scope, command: DeleteRule, at_ms: int) -> list[Fact]:
    """Deletes it, unless it is unknown or was changed meanwhile."""
    rule = scope.tenant.rulebook.get(command.rule_id)
    if rule is None:
        return [_refused(command, command.rule_id, RULE_UNKNOWN, "no such rule", at_ms)]
    if command.if_version is not None and rule_version(rule) not in command.if_version:
        return [_refused(command, command.rule_id, PRECONDITION_FAILED, _CHANGED, at_ms)]
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms)
    left = scope.tenant.rulebook.without(command.rule_id)
    return [RuleDeleted(*head, command.rule_id, rule.version), *_rescheduled(scope, left, at_ms)]


def _rescheduled(scope: Scope, rulebook: Rulebook, at_ms: int) -> list[Fact]:
    return rescheduled(scope.tenant, rulebook, scope.tenant.settings.time_zone, at_ms)


def fault_of(definition: RuleDefinition) -> str:
    """What of a rule that reads well is not possible here, "" for nothing."""
    for number, action in enumerate(definition.then):
        if isinstance(action, SetTier) and action.tier not in get_args(Tier):
            return f"/then/{number}/tier: the tier must be one of {', '.join(get_args(Tier))}"
    return ""


def _no_coupon(scope: Scope, definition: RuleDefinition, before: RuleDefinition | None) -> str:
    """Which coupon is none that rules can ever grant, "" if all are. What the version before granted is not asked
    again, so that a rule can still be changed or paused whose coupon has ended. Raises `NotLoaded`."""
    known = before.then if before is not None else ()
    granted = [
        (number, action)
        for number, action in enumerate(definition.then)
        if isinstance(action, GrantCoupon) and action not in known
    ]
    coupons = scope.find_all(("coupon", action.coupon_id) for _, action in granted)
    for (number, action), coupon in zip(granted, coupons, strict=True):
        fault = fault_of_granting(coupon.terms if coupon is not None else None)
        if fault:
            return f"/then/{number}/coupon_id: {action.coupon_id!r}: {fault}"
    return ""


def fault_of_granting(terms: CouponTerms | None) -> str:
    """Why rules can never grant a coupon with these terms (None: there is no such), "" if they can."""
    if terms is None:
        return "there is no such coupon"
    if terms.state == "ended":
        return "the coupon has ended"
    return "a coupon with a shared code cannot be granted: everybody has it" if terms.shared_code else ""


def _over_limit(rulebook: Rulebook, definition: RuleDefinition) -> str:
    size = len(_encoder.encode(definition))
    if size > RULE_BYTES_MAX:
        return f"a rule takes at most {RULE_BYTES_MAX} bytes, not {size}"
    total = size + len(_encoder.encode(rulebook.without(definition.rule_id)))
    if total > RULES_BYTES_MAX:
        return f"all rules together take at most {RULES_BYTES_MAX} bytes, not {total}"
    error = admission_error(rulebook.rules, definition)
    return error.message if error is not None else ""


def _refused(command: RuleCommand, rule_id: str, reason: str, detail: str, at_ms: int) -> CommandRefused:
    head = (command.tenant_id, command.request_id, command.fingerprint, at_ms)
    return CommandRefused(*head, type(command).__name__, rule_id, reason, detail)
