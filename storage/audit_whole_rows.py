"""What the auditor expects of tables whose rows a fact always tells whole (`storage.state_tables`). Pure; built from
the facts here, and not by the projector's own code."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.card_facts import CardTierChanged, TagAssigned, TagEnrolled, TagRemoved
from actors.door_facts import AdmissionListChanged, EveryoneLeft, QuestionsAnswered, ScanAnnulled
from actors.facts import AlarmSet, Fact, PointsPosted, ScanJudged
from actors.rule_facts import RuleDeleted, RulesApplied, RuleSaved, RuleUnitsReturned
from actors.schedule_facts import SchedulesMoved
from storage.state_tables import STATE_TABLES

Row = tuple[Any, ...]


class WholeRows:
    """The rows by table and key."""

    def __init__(self) -> None:
        self.expected: dict[str, dict[Row, Row]] = {table.name: {} for table in STATE_TABLES}

    def take(self, partition: int, fact: Fact, position: int) -> None:
        """The next fact."""
        tenant_id = fact.tenant_id
        if isinstance(fact, ScanJudged):
            if fact.details is not None and fact.details.tag_uid:
                tag = (tenant_id, fact.details.tag_uid)
                self._set("tags", tag, fact.card_id, fact.details.tag_counter, position)
            if fact.details is not None and fact.member_id and not fact.reason:
                told = fact.details
                self._zone(fact, told.left_zone_id, told.left_zone_inside, position)
                self._zone(fact, told.zone_id, told.zone_inside, position)
        elif isinstance(fact, TagEnrolled | TagAssigned | TagRemoved):
            card_id = "" if isinstance(fact, TagRemoved) else fact.card_id
            self._set("tags", (tenant_id, fact.tag_uid), card_id, fact.counter, position)
        elif isinstance(fact, PointsPosted):
            if fact.earned_on is not None:
                day = (tenant_id, fact.card_id, fact.earned_on.day)
                self._set("earned_days", day, fact.earned_on.points, position)
        elif isinstance(fact, CardTierChanged):
            if fact.as_of_ms:
                change = (fact.at_ms, fact.as_of_ms, fact.tier, fact.tier_before, fact.reason)
                why = (fact.points, fact.note, fact.cause, fact.rule)
                self._set("tier_changes", (tenant_id, fact.card_id, position), *change, *why, position)
        elif isinstance(fact, RuleSaved | RuleDeleted | RulesApplied | RuleUnitsReturned):
            self._rule(fact, position)
        elif isinstance(fact, SchedulesMoved):
            text = msgspec.json.encode(fact.schedules).decode()
            self._set("rule_schedules", (tenant_id,), text, position)
        elif isinstance(fact, AlarmSet):
            self._set("alarms", (tenant_id, fact.kind, fact.entity_id), partition, fact.wake_ms, position)
        elif isinstance(fact, ScanAnnulled):
            self._zone(fact, fact.zone_id, fact.zone_inside, position)
            self._zone(fact, fact.back_zone_id, fact.back_zone_inside, position)
            key = (tenant_id, fact.event_id, fact.scan_id)
            self._set("annulments", key, fact.card_id, fact.device_id, fact.at_ms, position)
        elif isinstance(fact, EveryoneLeft):
            zones = self.expected["event_zones"]
            for zone in [zone for zone in zones if zone[:2] == (tenant_id, fact.event_id)]:
                zones[zone] = (*zone, 0, zones[zone][-1])
        elif isinstance(fact, AdmissionListChanged):
            for card_id in fact.added:
                self._set("admission_list", (tenant_id, fact.event_id, card_id), True, position)
            for card_id in fact.removed:
                self._set("admission_list", (tenant_id, fact.event_id, card_id), False, position)
        elif isinstance(fact, QuestionsAnswered):
            for question_id, answer in fact.answers:
                asked = (tenant_id, fact.event_id, fact.card_id, question_id)
                self._set("answers", asked, answer, fact.at_ms, position)

    def _rule(self, fact: RuleSaved | RuleDeleted | RulesApplied | RuleUnitsReturned, position: int) -> None:
        tenant_id = fact.tenant_id
        if isinstance(fact, RuleSaved):
            rule = fact.definition
            text = msgspec.json.encode(rule).decode()
            self._set("rules", (tenant_id, rule.rule_id), text, fact.at_ms, position)
            self._set("rule_versions", (tenant_id, rule.rule_id, rule.version), text, fact.at_ms, position)
        elif isinstance(fact, RuleDeleted):
            self._set("rules", (tenant_id, fact.rule_id), "", fact.at_ms, position)
        else:
            if isinstance(fact, RulesApplied) and fact.failed_on:
                for one in fact.failures:
                    why = (fact.failed_on, fact.at_ms, one.where, one.reason)
                    self._set("rule_failures", (tenant_id, one.rule_id), one.version, *why, position)
            for step in fact.steps:
                self._set("rule_points", (tenant_id, step.units.rule_id), step.points_after, position)
                if step.use is not None:
                    counts = (step.use.times, step.use.day, step.use.day_times)
                    self._set("rule_uses", (tenant_id, fact.card_id, step.use.rule_id), *counts, position)

    def _zone(self, fact: ScanJudged | ScanAnnulled, zone_id: str, people: int, position: int) -> None:
        if zone_id:
            self._set("event_zones", (fact.tenant_id, fact.event_id, zone_id), people, position)

    def _set(self, table: str, key: Row, *values: object) -> None:
        self.expected[table][key] = (*key, *values)
