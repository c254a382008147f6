"""The auditor's check of coupons that rules grant: what may be granted, for what, and what becomes of it. Pure.

Rules:
1. Nothing here trusts `apply`: codes are counted one by one, causes are followed from what annuls them.
2. A grant is told by an application of its rule in the same entry, and the rule's version grants that coupon. What an
   application tells was granted. Nothing is granted twice.
3. What is granted is active and within its time, and no coupon gets more codes by it than may be redeemed in all.
4. Only its card redeems it, and not after it was withdrawn.
5. When a cause is annulled, what was granted for it and is in nobody's use is withdrawn in the same entry; nothing else
   is.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from actors.coupon_facts import (
    CodeGranted,
    CodesIssued,
    CodeWithdrawn,
    CouponChanged,
    CouponDefined,
    CouponRedeemed,
    RedemptionChanged,
)
from actors.coupon_terms import CouponTerms
from actors.door_facts import ScanAnnulled
from actors.facts import Fact, PointsPosted
from actors.rule_facts import RulesApplied, RuleSaved
from rules.language import GrantCoupon, RuleDefinition
from storage.audit_checks import Findings, TenantThing

# Of a tenant: card, cause.
_Cause = tuple[str, str, str]


class _Granted(msgspec.Struct):
    coupon_id: str
    cause: _Cause
    used_by: str = ""
    is_withdrawn: bool = False


class GrantCheck:
    """`grants`: rules grant what they say and what there is, once, and what is annulled takes back what nobody used."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._terms: dict[TenantThing, CouponTerms] = {}
        self._codes: Counter[TenantThing] = Counter()
        self._rules: dict[TenantThing, RuleDefinition] = {}
        self._granted: dict[TenantThing, _Granted] = {}
        self._of_cause: dict[_Cause, list[TenantThing]] = {}
        # Of the journal entry under way: what grants say, what applications tell, what was annulled and withdrawn.
        self._said: Counter[tuple[TenantThing, _Cause, str, int]] = Counter()
        self._told: Counter[tuple[TenantThing, _Cause, str, int]] = Counter()
        self._annulled: set[_Cause] = set()
        self._withdrawn: set[TenantThing] = set()

    def take(self, fact: Fact, place: str) -> None:
        """The next fact."""
        tenant_id = fact.tenant_id
        match fact:
            case CouponDefined() | CouponChanged():
                self._terms[tenant_id, fact.coupon_id] = fact.terms
            case CodesIssued():
                self._codes[tenant_id, fact.coupon_id] += fact.count
            case RuleSaved():
                self._rules[tenant_id, fact.rule_id] = fact.definition
            case RulesApplied():
                for units in [step.units for step in fact.steps]:
                    for code_id in units.codes:
                        cause = (tenant_id, fact.card_id, fact.cause)
                        self._told[(tenant_id, code_id), cause, units.rule_id, units.version] += 1
            case CodeGranted():
                self._grant(fact, place)
            case CodeWithdrawn():
                self._withdraw(fact, place)
            case CouponRedeemed() if (tenant_id, fact.code_id) in self._granted:
                self._redeem(fact, place)
            case RedemptionChanged():
                self._change(fact)
            case ScanAnnulled():
                self._annulled.add((tenant_id, fact.card_id, f"checkin:{fact.scan_id}"))
            case PointsPosted() if fact.reverses:
                self._annulled.add((tenant_id, fact.card_id, f"entry:{fact.reverses}"))

    def end_entry(self, place: str) -> None:
        """Rules 2 and 5."""
        for (_, code_id), cause, rule_id, version in (self._said - self._told) + (self._told - self._said):
            self._wrong(place, f"{rule_id}:{version} grants {code_id} for {cause}, or only says so")
        for cause in self._annulled:
            for key in self._of_cause.get(cause, ()):
                granted = self._granted[key]
                if not granted.used_by and not granted.is_withdrawn:
                    self._wrong(place, f"{cause} was annulled, and {key[1]} is still good")
        for key in self._withdrawn:
            if self._granted[key].cause not in self._annulled:
                self._wrong(place, f"{key[1]} is withdrawn, and {self._granted[key].cause} stands")
        for kept in (self._said, self._told, self._annulled, self._withdrawn):
            kept.clear()

    def _grant(self, fact: CodeGranted, place: str) -> None:
        tenant_id = fact.tenant_id
        key, coupon = (tenant_id, fact.code_id), (tenant_id, fact.coupon_id)
        cause = (tenant_id, fact.card_id, fact.cause)
        self._said[key, cause, fact.rule_id, fact.version] += 1
        if key in self._granted:
            self._wrong(place, f"{fact.code_id} is granted again")
        self._granted[key] = _Granted(fact.coupon_id, cause)
        self._of_cause.setdefault(cause, []).append(key)
        self._codes[coupon] += 1
        rule = self._rules.get((tenant_id, fact.rule_id))
        actions = rule.then if rule is not None and rule.version == fact.version else ()
        if not any(isinstance(one, GrantCoupon) and one.coupon_id == fact.coupon_id for one in actions):
            self._wrong(place, f"{fact.rule_id}:{fact.version} does not grant {fact.coupon_id}")
        terms = self._terms.get(coupon)
        if terms is None or terms.state != "active" or terms.shared_code:
            self._wrong(place, f"grants {fact.coupon_id}, which is {terms.state if terms is not None else 'not there'}")
        elif fact.at_ms < terms.starts_ms or 0 < terms.ends_ms <= fact.at_ms:
            self._wrong(place, f"grants {fact.coupon_id} outside its time")
        elif 0 < terms.uses_max < self._codes[coupon]:
            self._wrong(place, f"grants code {self._codes[coupon]} of {fact.coupon_id}, {terms.uses_max} are good")

    def _withdraw(self, fact: CodeWithdrawn, place: str) -> None:
        key = (fact.tenant_id, fact.code_id)
        granted = self._granted.get(key)
        if granted is None or granted.is_withdrawn or granted.used_by:
            self._wrong(place, f"{fact.code_id} is withdrawn, and is {granted}")
            return
        granted.is_withdrawn = True
        self._codes[fact.tenant_id, fact.coupon_id] -= 1
        self._withdrawn.add(key)

    def _redeem(self, fact: CouponRedeemed, place: str) -> None:
        granted = self._granted[fact.tenant_id, fact.code_id]
        if granted.is_withdrawn or granted.cause[1] != fact.card_id:
            self._wrong(place, f"card {fact.card_id} redeems {fact.code_id}, and that is {granted}")
        granted.used_by = fact.redemption_id

    def _change(self, fact: RedemptionChanged) -> None:
        granted = self._granted.get((fact.tenant_id, fact.code_id))
        if granted is not None and fact.state != "redeemed":
            granted.used_by = ""
        if fact.state == "rolled_back":
            self._annulled.add((fact.tenant_id, fact.card_id, f"coupon:{fact.redemption_id}"))

    def _wrong(self, place: str, message: str) -> None:
        self._findings.add("grants", f"{place}: {message}")
