"""All members as CSV, page by page, in the columns that an import takes (`gateway.members.csv_file`).

Attributes get a column for each property of the organisation's schema; without a schema they are one column, as JSON.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from gateway import limits
from gateway.members import listing, store
from gateway.members.attributes import properties_of
from gateway.members.csv_file import ATTRIBUTE, CONSENT
from gateway.members.listing import MemberFilter
from gateway.members.model import CONSENT_FLAGS, Member
from gateway.render import rfc3339
from gateway.rest.common import Call, csv_cell

_PLAIN = ("id", "external_id", "name", "email", "phone", "birthday", "locale", "created_at")


async def csv_lines(call: Call, which: MemberFilter) -> AsyncIterator[str]:
    """The lines. The first page is read at once, so that its errors can be told."""
    async with call.cold.connection() as connection:
        stored = await store.schema_of(connection, call.tenant_id)
    names = list(properties_of(stored.schema)) if stored is not None else None
    return _lines(call, which, names, await _page(call, which, ""))


async def _lines(
    call: Call, which: MemberFilter, names: Sequence[str] | None, members: list[Member]
) -> AsyncIterator[str]:
    attributes = ["attributes"] if names is None else [ATTRIBUTE + name for name in names]
    yield _line([*_PLAIN, *(CONSENT + flag for flag in CONSENT_FLAGS), *attributes])
    written = 0
    while members:
        yield "".join(_line(_cells(member, names)) for member in members)
        written += len(members)
        if len(members) < limits.CSV_PAGE_ROWS or written >= limits.CSV_ROWS_MAX:
            return
        members = await _page(call, which, members[-1].member_id)


async def _page(call: Call, which: MemberFilter, after: str) -> list[Member]:
    async with call.cold.connection() as connection:
        return await listing.page(connection, call.tenant_id, which, after, limits.CSV_PAGE_ROWS)


def _line(cells: Sequence[object]) -> str:
    return ",".join(map(csv_cell, cells)) + "\r\n"


def _cells(member: Member, names: Sequence[str] | None) -> list[object]:
    plain = [member.member_id, member.external_id, member.name, member.email, member.phone, member.birthday]
    consents = [_told(member.consents[flag].given) if flag in member.consents else None for flag in CONSENT_FLAGS]
    if names is None:
        attributes: list[object] = [msgspec.json.encode(member.attributes).decode() if member.attributes else None]
    else:
        attributes = [_told(member.attributes.get(name)) for name in names]
    return [*plain, member.locale, rfc3339(member.created_at_ms), *consents, *attributes]


def _told(value: Any) -> str | None:
    """A value as an import reads it."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
