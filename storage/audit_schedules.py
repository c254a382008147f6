"""The auditor's check of scheduled rules, from the facts a second time. Pure.

Rules as in `storage.audit_checks`, and those of `actors.rounds`:

1. A rule is expected at a time while it is active and scheduled, and at one that its schedule has by the organisation's
   clocks.
2. A round begins with rules whose time has come, walks along the cards once, in the order of their ids, and moves no
   rules but those.
"""

from __future__ import annotations

from collections import defaultdict

from actors.calendar import last_of_month, local_day, moment_of, weekday
from actors.facts import Fact, TenantChanged, TenantOpened
from actors.rule_facts import RuleDeleted, RulesApplied, RuleSaved
from actors.schedule_facts import NO_SCHEDULES, Round, Schedules, SchedulesMoved
from rules.language import RuleDefinition
from storage.audit_checks import Findings


class ScheduleCheck:
    """`schedules`."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._zones: dict[str, str] = {}
        self._rules: dict[str, dict[str, RuleDefinition]] = defaultdict(dict)
        self._told: dict[str, Schedules] = {}
        # Of the step whose facts are being read: its round, and up to which card it went.
        self._step: dict[str, tuple[Round, str | None]] = {}

    def take(self, fact: Fact, place: str) -> None:
        """The next fact."""
        tenant_id = fact.tenant_id
        if isinstance(fact, TenantOpened | TenantChanged):
            self._zones[tenant_id] = fact.settings.time_zone
        elif isinstance(fact, RuleSaved):
            self._rules[tenant_id][fact.rule_id] = fact.definition
        elif isinstance(fact, RuleDeleted):
            self._rules[tenant_id].pop(fact.rule_id, None)
        elif isinstance(fact, SchedulesMoved):
            self._moved(fact, place)
        elif isinstance(fact, RulesApplied) and fact.trigger == "schedule":
            self._applied(fact, place)

    def _moved(self, fact: SchedulesMoved, place: str) -> None:
        before = self._told.get(fact.tenant_id, NO_SCHEDULES)
        expected = {one.rule_id: one.due_ms for one in before.dues}
        for one in fact.schedules.dues:
            if expected.get(one.rule_id) != one.due_ms and not self._may_come(fact, one.rule_id, one.due_ms):
                self._note(place, f"{one.rule_id} is expected at {one.due_ms}")
        self._walk(before.round, fact, expected, place)
        self._told[fact.tenant_id] = fact.schedules

    def _may_come(self, fact: SchedulesMoved, rule_id: str, due_ms: int) -> bool:
        """Rule 1."""
        rule = self._rules[fact.tenant_id].get(rule_id)
        if rule is None or rule.state != "active" or rule.schedule is None or due_ms <= fact.at_ms:
            return False
        zone = self._zones.get(fact.tenant_id, "UTC")
        told, day = rule.schedule, local_day(due_ms, zone)
        is_last = day == last_of_month(day // 100) and any(one > day % 100 for one in told.days_of_month)
        is_any_day = not told.weekdays and not told.days_of_month
        is_day = is_any_day or weekday(day) in told.weekdays or day % 100 in told.days_of_month or is_last
        return is_day and due_ms == moment_of(day, told.minute // 60, told.minute % 60, zone)

    def _walk(self, before: Round | None, fact: SchedulesMoved, expected: dict[str, int], place: str) -> None:
        """Rule 2."""
        now = fact.schedules.round
        self._step.pop(fact.tenant_id, None)
        if fact.walked_ms:
            if before is None or before.due_ms != fact.walked_ms:
                self._note(place, f"a step of the round of {fact.walked_ms}, under way is {before}")
                return
            self._step[fact.tenant_id] = (before, now.after if now is not None else None)
            is_next = now is None or (now.due_ms, now.rule_ids) == (before.due_ms, before.rule_ids)
            if not is_next or (now is not None and now.after <= before.after):
                self._note(place, f"the round {before} goes on as {now}")
        elif now != before:
            come = {rule_id for rule_id, due_ms in expected.items() if now is not None and due_ms == now.due_ms}
            if before is not None or now is None or now.after or not 0 < now.due_ms <= fact.at_ms:
                self._note(place, f"the round {before} becomes {now}")
            elif set(now.rule_ids) != come:
                self._note(place, f"{sorted(come)} have come, the round is {now}")

    def _applied(self, fact: RulesApplied, place: str) -> None:
        walk, until = self._step.get(fact.tenant_id, (None, None))
        is_its_turn = walk is not None and walk.after < fact.card_id and (until is None or fact.card_id <= until)
        if walk is None or not is_its_turn or fact.cause != f"schedule:{walk.due_ms}":
            self._note(place, f"{fact.cause} moves rules for {fact.card_id} in the round {walk}")
            return
        for rule_id in [step.units.rule_id for step in fact.steps]:
            if rule_id not in walk.rule_ids:
                self._note(place, f"{rule_id} has not come in the round {walk}")

    def _note(self, place: str, detail: str) -> None:
        self._findings.add("schedules", f"{place}: {detail}")
