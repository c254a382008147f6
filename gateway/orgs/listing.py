"""Lists of organisations: all, for those who run the platform, and those that an account takes part in."""

from __future__ import annotations

import msgspec

from actors.terms import Plan, TenantSettings
from gateway.identity import memberships
from gateway.identity.policy import OrgState
from gateway.orgs import profiles
from storage.postgres import Connection

_settings = msgspec.json.Decoder(TenantSettings)
# What the projector has not brought yet has no name here, what is older than profiles no profile.
_ORGS = """
SELECT u.tenant_id, t.name, t.settings, coalesce(p.state, 'open') AS state, t.opened_at_ms
FROM (
    (SELECT tenant_id FROM tenants WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2)
    UNION (SELECT tenant_id FROM org_profiles WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2)
) AS u LEFT JOIN tenants AS t USING (tenant_id) LEFT JOIN org_profiles AS p USING (tenant_id)
ORDER BY u.tenant_id LIMIT $2
"""


_OPENED = "SELECT tenant_id, opened_at_ms FROM tenants WHERE tenant_id = ANY($1::text[])"


class OrgRow(msgspec.Struct, frozen=True):
    """An organisation in a list. `name` and `plan` are None where it has no row yet; `role` is the caller's."""

    tenant_id: str
    name: str | None
    plan: Plan | None
    state: OrgState
    opened_at_ms: int | None
    role: str | None = None


async def of_platform(connection: Connection, after: str, limit: int) -> list[OrgRow]:
    """Organisations behind `after`, by id."""
    return [
        OrgRow(tenant_id, name, None if settings is None else _settings.decode(settings).plan, state, opened_at_ms)
        for tenant_id, name, settings, state, opened_at_ms in await connection.fetch(_ORGS, after, limit)
    ]


async def of_account(connection: Connection, account_id: str, after: str, limit: int) -> list[OrgRow]:
    """Those behind `after` in which an account has a part, by id, without closed ones; names and plans are left to the
    engine, which knows them as they are now."""
    held = {part.tenant_id: part.role for part in await memberships.of_account(connection, account_id)}
    states = await profiles.refused_states(connection, list(held))
    ids = sorted(org_id for org_id in held if org_id > after and states.get(org_id) != "closed")[:limit]
    opened = {row[0]: row[1] for row in await connection.fetch(_OPENED, ids)}
    return [OrgRow(org_id, None, None, states.get(org_id, "open"), opened.get(org_id), held[org_id]) for org_id in ids]
