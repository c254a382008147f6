"""Loading what belongs to organisations' rules: the definitions, the points they gave, how they failed, and when they
come."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.rule_facts import RuleFailed
from actors.rulebook import Rulebook
from actors.schedule_facts import Schedules
from actors.tenant import Tenant
from rules.language import RuleDefinition
from storage.postgres import Connection

_RULES = (
    "SELECT tenant_id, definition, position FROM rules WHERE tenant_id = ANY($1::text[]) ORDER BY tenant_id, rule_id"
)
_POINTS = """
SELECT tenant_id, t.rule_id, points, t.position, r.definition <> ''
FROM rule_points AS t JOIN rules AS r USING (tenant_id, rule_id) WHERE tenant_id = ANY($1::text[])
"""
_FAILURES = """
SELECT tenant_id, t.rule_id, t.position, r.definition <> '', version, day, at_ms, place, reason
FROM rule_failures AS t JOIN rules AS r USING (tenant_id, rule_id) WHERE tenant_id = ANY($1::text[])
"""
_SCHEDULES = "SELECT tenant_id, state, position FROM rule_schedules WHERE tenant_id = ANY($1::text[])"
_decoder = msgspec.json.Decoder(RuleDefinition)
_schedules_decoder = msgspec.json.Decoder(Schedules)


async def add_rules(connection: Connection, tenants: Mapping[str, Tenant]) -> None:
    """Gives the organisations their rules."""
    found: dict[str, list[RuleDefinition]] = {}
    for tenant_id, text, position in await connection.fetch(_RULES, list(tenants)):
        tenant = tenants[tenant_id]
        tenant.rules_position = max(tenant.rules_position, position)
        if text:
            found.setdefault(tenant_id, []).append(_decoder.decode(text))
    for tenant_id, rules in found.items():
        tenants[tenant_id].rulebook = Rulebook(tuple(rules))
    for tenant_id, rule_id, points, position, is_there in await connection.fetch(_POINTS, list(tenants)):
        tenant = tenants[tenant_id]
        tenant.rules_position = max(tenant.rules_position, position)
        if is_there:
            tenant.rule_points[rule_id] = points
    for tenant_id, rule_id, position, is_there, *failed in await connection.fetch(_FAILURES, list(tenants)):
        tenant = tenants[tenant_id]
        tenant.rules_position = max(tenant.rules_position, position)
        if is_there:
            tenant.rule_failures[rule_id] = RuleFailed(*failed)
    for tenant_id, state, position in await connection.fetch(_SCHEDULES, list(tenants)):
        tenants[tenant_id].schedules = _schedules_decoder.decode(state)
        tenants[tenant_id].schedules_position = position
