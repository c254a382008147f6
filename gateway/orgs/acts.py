"""The log of administrative acts, for reading: newest first, as a whole or by who, what, to what and when.

Lines are written by `gateway.admin_log`."""

from __future__ import annotations

from typing import Any

import msgspec

from storage.postgres import Connection

_ENTRY_ID_MAX = "~"  # behind every entry id
AT_MS_MAX = 9_999_999_999_999  # 13 digits: the year 2286


class ActFilter(msgspec.Struct, frozen=True):
    """Which acts; None does not filter. `since_ms` ≤ time of the act < `until_ms`."""

    action: str | None = None
    actor: str | None = None
    target: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class Act(msgspec.Struct, frozen=True):
    """A line of the log."""

    entry_id: str
    at_ms: int
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    request_id: str


async def page(connection: Connection, tenant_id: str, which: ActFilter, before: str, limit: int) -> list[Act]:
    """Lines before `before` (an entry id, "" for none), newest first."""
    before = before or _ENTRY_ID_MAX
    # An entry id begins with its time in 13 digits, so a span of time is a span of the key.
    since = "" if which.since_ms is None else _prefix(which.since_ms)
    until = before if which.until_ms is None else min(before, _prefix(which.until_ms))
    rows = await connection.fetch(
        "SELECT entry_id, at_ms, actor, action, target, detail, request_id FROM admin_log "
        "WHERE tenant_id = $1 AND entry_id < $2 AND entry_id >= $3 AND ($4::text IS NULL OR action = $4) "
        "AND ($5::text IS NULL OR actor = $5) AND ($6::text IS NULL OR target = $6) "
        "ORDER BY entry_id DESC LIMIT $7",
        tenant_id,
        until,
        since,
        which.action,
        which.actor,
        which.target,
        limit,
    )
    return [msgspec.convert({**row, "detail": msgspec.json.decode(row["detail"])}, Act) for row in rows]


def _prefix(at_ms: int) -> str:
    return f"{min(at_ms, AT_MS_MAX):013d}"
