"""Lists of members: which, in the order of their ids, page by page."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.members.model import Member
from gateway.members.store import COLUMNS, member_of
from storage.postgres import Connection

_LIST: Final = f"""
SELECT {COLUMNS} FROM members WHERE tenant_id = $1 AND member_id > $2
    AND ($4::text IS NULL OR (email IS NOT NULL AND lower(email) = lower($4)))
    AND ($5::text IS NULL OR external_id = $5)
    AND ($6::text IS NULL OR (consents -> $6 ->> 'given')::boolean)
    AND ($7::bigint IS NULL OR created_at_ms >= $7) AND ($8::bigint IS NULL OR created_at_ms < $8)
    AND ($9::boolean IS NULL OR (erased_at_ms IS NOT NULL) = $9)
ORDER BY member_id LIMIT $3
"""


class MemberFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which members; None does not filter. `consent` is a flag that was given and not withdrawn; `since_ms` ≤ time of
    creation < `until_ms`."""

    email: str | None = None
    external_id: str | None = None
    consent: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    is_erased: bool | None = None


async def page(connection: Connection, tenant_id: str, which: MemberFilter, after: str, limit: int) -> list[Member]:
    """Members behind `after`, by id."""
    rows = await connection.fetch(_LIST, tenant_id, after, limit, *msgspec.structs.astuple(which))
    return [member_of(row) for row in rows]
