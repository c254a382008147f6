"""Read queries for versions of rules; the rules are those of `storage.logs`."""

from __future__ import annotations

import msgspec

from rules.language import RuleDefinition
from storage.logs import BIGINT_MAX, BadCursor
from storage.postgres import Connection

_decoder = msgspec.json.Decoder(RuleDefinition)
_VERSIONS = """
SELECT definition, at_ms FROM rule_versions
WHERE tenant_id = $1 AND rule_id = $2 AND version < $3 ORDER BY version DESC LIMIT $4
"""
_VERSION = "SELECT definition, at_ms FROM rule_versions WHERE tenant_id = $1 AND rule_id = $2 AND version = $3"


class VersionRow(msgspec.Struct, frozen=True):
    """A version of a rule, and when it was saved."""

    definition: RuleDefinition
    at_ms: int


async def versions(connection: Connection, tenant_id: str, rule_id: str, after: str, count: int) -> list[VersionRow]:
    """The versions of a rule, newest first, also of one that was deleted. Raises `storage.logs.BadCursor`."""
    if after and not (after.isascii() and after.isdigit() and int(after) <= BIGINT_MAX):
        raise BadCursor(after)
    rows = await connection.fetch(_VERSIONS, tenant_id, rule_id, int(after) if after else BIGINT_MAX, count)
    return [VersionRow(_decoder.decode(text), at_ms) for text, at_ms in rows]


async def version(connection: Connection, tenant_id: str, rule_id: str, number: int) -> VersionRow | None:
    """One version, None where there is none."""
    row = await connection.fetchrow(_VERSION, tenant_id, rule_id, number)
    return VersionRow(_decoder.decode(row[0]), row[1]) if row is not None else None
