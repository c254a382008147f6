"""The auditor's check of rules: what they used is counted a second time, from the facts. Pure.

Rules:
1. Versions of a rule follow each other from 1 up. Whatever applied was the latest version, active, and for that moment.
2. What is counted for the card and for the budget is the sum of all applications less what came back; no limit of the
   version that applied is exceeded by it.
3. An application has a cause in its own entry, and a rule applies to one moment once: one trigger and depth under what
   happened by itself (depth 0) or a rise by points. What comes back was used, and comes back once.
4. A version that fails is told once a day.
5. A redemption of a coupon keeps what rules used for it, and its rollback gives back what of that a rule still has.
6. The points that an entry's applications tell are posted in it, and no others cite a rule of these; another tier and
   what is to happen outside cite an application of the entry, too.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from actors.card_facts import CardTierChanged
from actors.coupon_facts import CouponRedeemed, RedemptionChanged
from actors.facts import CardIssued, Fact, PointsPosted, ScanJudged
from actors.member_facts import BirthdayCame
from actors.rule_facts import EffectRequested, RuleDeleted, RulesApplied, RuleSaved, RuleStep, RuleUnitsReturned
from actors.schedule_facts import SchedulesMoved
from rules.language import RuleDefinition
from storage.audit_checks import Findings, TenantThing

# Of an organisation's rule: tenant, rule, version.
_Version = tuple[str, str, int]
# An application that counts: tenant, card, cause.
_Cause = tuple[str, str, str]


class _Used(msgspec.Struct):
    """What a rule has used: points in all; by card times, the latest day and the times on it."""

    points: int = 0
    times: Counter[str] = msgspec.field(default_factory=Counter)
    days: dict[str, int] = msgspec.field(default_factory=dict)
    day_times: Counter[tuple[str, int]] = msgspec.field(default_factory=Counter)


class RulesCheck:
    """`rules`: limits hold at every prefix, and every effect cites a version that there was and a cause, once."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._current: dict[TenantThing, RuleDefinition] = {}
        self._used: dict[TenantThing, _Used] = {}
        self._failed: dict[TenantThing, tuple[int, int]] = {}
        self._standing: Counter[tuple[_Cause, str, int]] = Counter()
        # Of the journal entry under way: causes, what applied at which moment, points told and posted, what is cited.
        # The step of a round that is being read: its organisation and cause.
        self._walked = ("", "")
        self._causes: set[_Cause] = set()
        self._moments: set[tuple[_Cause, int, str, str, int]] = set()
        # By card: how many things have happened to it, each with moments of its own.
        self._happened: Counter[TenantThing] = Counter()
        self._points: Counter[tuple[_Cause, str]] = Counter()
        self._cited: set[tuple[_Cause, str]] = set()
        self._applied: set[tuple[_Cause, str]] = set()
        self._redemptions: list[tuple[_Cause, CouponRedeemed | RedemptionChanged]] = []

    def end_entry(self, place: str) -> None:
        """Rules 5 and 6."""
        for cause, fact in self._redemptions:
            self._compare_kept(cause, fact, place)
        for (cause, rule), points in self._points.items():
            if points:
                self._wrong(place, f"rule {rule} gave {cause} {points} more than it tells")
        for cause, rule in self._cited - self._applied:
            self._wrong(place, f"an effect for {cause} cites {rule}, which did not apply")
        for kept in (self._causes, self._moments, self._happened, self._points, self._cited, self._applied):
            kept.clear()
        self._redemptions.clear()

    def _compare_kept(self, cause: _Cause, fact: CouponRedeemed | RedemptionChanged, place: str) -> None:
        if fact.state == "redeemed":
            kept = {(units.rule_id, units.version) for units in fact.rules}
            used = {tuple(rule.rsplit(":", 1)) for of, rule in self._applied if of == cause}
            if {(rule_id, str(version)) for rule_id, version in kept} != used:
                self._wrong(place, f"{cause} keeps units of {sorted(kept)}, applied were {sorted(used)}")
            return
        for units in fact.rules:
            is_there = (fact.tenant_id, units.rule_id) in self._current
            if is_there and self._standing[cause, units.rule_id, units.version]:
                self._wrong(place, f"{units.rule_id}:{units.version} still has used what {cause} led to")

    def take(self, fact: Fact, place: str) -> None:
        """The next fact."""
        tenant_id = fact.tenant_id
        if isinstance(fact, ScanJudged):
            kind = "checkin" if fact.direction == "entry" else "exit"
            self._causes.add((tenant_id, fact.card_id, f"{kind}:{fact.request_id}"))
        elif isinstance(fact, PointsPosted):
            self._posting(fact)
        elif isinstance(fact, CardIssued):
            self._causes.add((tenant_id, fact.card_id, f"issue:{fact.request_id}"))
        elif isinstance(fact, CardTierChanged):
            self._causes.add((tenant_id, fact.card_id, f"tier:{fact.request_id}"))
            self._happened[tenant_id, fact.card_id] += fact.reason == "points"
            if fact.reason == "rule":
                self._cited.add(((tenant_id, fact.card_id, fact.cause), fact.rule))
        elif isinstance(fact, CouponRedeemed | RedemptionChanged):
            cause = (tenant_id, fact.card_id, f"coupon:{fact.redemption_id}")
            if fact.state == "redeemed":
                self._causes.add(cause)
            if fact.state in ("redeemed", "rolled_back"):
                self._redemptions.append((cause, fact))
        elif isinstance(fact, SchedulesMoved):
            self._walked = (tenant_id, f"schedule:{fact.walked_ms}")
        elif isinstance(fact, BirthdayCame):
            self._causes.add((tenant_id, fact.card_id, f"birthday:{fact.came_on}"))
        elif isinstance(fact, EffectRequested):
            self._cited.add(((tenant_id, fact.card_id, fact.cause), f"{fact.rule_id}:{fact.version}"))
        elif isinstance(fact, RuleSaved):
            self._save(fact, place)
        elif isinstance(fact, RuleDeleted):
            self._delete(fact, place)
        elif isinstance(fact, RulesApplied):
            self._failures(fact, place)
            self._happened[tenant_id, fact.card_id] += not fact.depth
            for step in fact.steps:
                self._apply(fact, step, place)
        elif isinstance(fact, RuleUnitsReturned):
            for step in fact.steps:
                self._return(fact, step, place)

    def _failures(self, fact: RulesApplied, place: str) -> None:
        for one in fact.failures if fact.failed_on else ():
            key = (fact.tenant_id, one.rule_id)
            version, day = self._failed.get(key, (0, 0))
            if version == one.version and fact.failed_on <= day:
                self._wrong(place, f"{one.rule_id}:{one.version} is told to have failed twice on {fact.failed_on}")
            self._failed[key] = (one.version, fact.failed_on)

    def _posting(self, fact: PointsPosted) -> None:
        if fact.request_id:
            self._causes.add((fact.tenant_id, fact.card_id, f"entry:{fact.entry_seq}"))
        rule_id = fact.rule.rpartition(":")[0]
        if fact.kind == "award" and (fact.tenant_id, rule_id) in self._used:
            self._points[(fact.tenant_id, fact.card_id, fact.cause), fact.rule] += fact.amount

    def _save(self, fact: RuleSaved, place: str) -> None:
        definition = fact.definition
        key = (fact.tenant_id, definition.rule_id)
        before = self._current.get(key)
        expected = before.version + 1 if before is not None else 1
        if definition.version != expected:
            self._wrong(place, f"{definition.rule_id} gets version {definition.version}, {expected} is the next")
        self._current[key] = definition
        self._used.setdefault(key, _Used())

    def _delete(self, fact: RuleDeleted, place: str) -> None:
        before = self._current.pop((fact.tenant_id, fact.rule_id), None)
        if before is None or before.version != fact.version:
            self._wrong(place, f"deletes version {fact.version} of {fact.rule_id}, which is not there")

    def _apply(self, fact: RulesApplied, step: RuleStep, place: str) -> None:
        units = step.units
        cause = (fact.tenant_id, fact.card_id, fact.cause)
        rule = self._current.get((fact.tenant_id, units.rule_id))
        if rule is None or (rule.version, rule.state, rule.on) != (units.version, "active", fact.trigger):
            self._wrong(place, f"{units.rule_id}:{units.version} applies at {fact.trigger}, but is {rule}")
            return
        if cause not in self._causes and (fact.tenant_id, fact.cause) != self._walked:
            self._wrong(place, f"{units.rule_id} applies for {cause}, which is not in its entry")
        happened = self._happened[fact.tenant_id, fact.card_id]
        moment = (cause, happened, units.rule_id, fact.trigger, fact.depth)
        if moment in self._moments:
            self._wrong(place, f"{units.rule_id} applies twice to one moment of {cause}")
        self._moments.add(moment)
        self._standing[cause, units.rule_id, units.version] += 1
        self._points[cause, f"{units.rule_id}:{units.version}"] -= units.points
        self._applied.add((cause, f"{units.rule_id}:{units.version}"))
        used = self._count(fact.tenant_id, fact.card_id, step, 1, place)
        most = rule.limits
        today = used.day_times[fact.card_id, units.day]
        is_over = (
            (most.per_card and used.times[fact.card_id] > most.per_card)
            or (most.per_card_per_day and today > most.per_card_per_day)
            or (most.points_budget and used.points > most.points_budget)
        )
        if is_over or bool(most.per_card or most.per_card_per_day) != bool(units.day):
            self._wrong(place, f"{units.rule_id} is beyond its limits {most}: {used.points} points, {step.use}")

    def _return(self, fact: RuleUnitsReturned, step: RuleStep, place: str) -> None:
        units = step.units
        standing = ((fact.tenant_id, fact.card_id, fact.cause), units.rule_id, units.version)
        if not self._standing[standing]:
            self._wrong(place, f"{units.rule_id}:{units.version} gets back what {fact.cause} did not use")
        self._standing[standing] -= 1
        self._count(fact.tenant_id, fact.card_id, step, -1, place)

    def _count(self, tenant_id: str, card_id: str, step: RuleStep, change: int, place: str) -> _Used:
        units = step.units
        used = self._used.setdefault((tenant_id, units.rule_id), _Used())
        used.points += change * units.points
        counted: tuple[int, int, int] | None = None
        if units.day:
            used.times[card_id] += change
            used.day_times[card_id, units.day] += change
            used.days[card_id] = day = max(units.day, used.days.get(card_id, 0))
            counted = (used.times[card_id], day, used.day_times[card_id, day])
        told = (step.use.times, step.use.day, step.use.day_times) if step.use is not None else None
        if (step.points_after, told) != (used.points, counted):
            self._wrong(place, f"{units.rule_id} used {step.points_after}, {told}; counted {used.points}, {counted}")
        return used

    def _wrong(self, place: str, message: str) -> None:
        self._findings.add("rules", f"{place}: {message}")
