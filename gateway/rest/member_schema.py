"""The schema that an organisation sets for its members' attributes: a subset of JSON Schema
(`gateway.members.attributes`).

A schema that changes breaks nobody: stored attributes are held against it when they are written next. The answer tells
how many would not pass.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from pydantic import Field

from gateway.members import limits, store
from gateway.members.attributes import KEYWORDS, is_valid, schema_errors
from gateway.members.store import StoredSchema
from gateway.problems import Problem
from gateway.render import rfc3339
from gateway.rest.common import Allowed, Body, Call, PathId, View
from gateway.rest.preconditions import Copied, Editing, digest_of, tag_of
from storage.postgres import Connection

_DESCRIPTION = (
    "JSON Schema 2020-12 of an object, with these keywords: " + ", ".join(sorted(KEYWORDS)) + ". Null: any attributes."
)
SchemaReader = Annotated[Call, Depends(Allowed("member_schema.read"))]
SchemaChanger = Annotated[Call, Depends(Allowed("member_schema.change"))]
Schema = Annotated[dict[str, Any] | None, Field(alias="schema", description=_DESCRIPTION)]
router = APIRouter(prefix="/v1/orgs", tags=["members"])


class SchemaBody(Body):
    """The schema from now on."""

    schema_: Schema


class MemberSchemaView(View):
    """The schema in force; null where any attributes are taken. `version` grows with every change, 0 without one."""

    schema_: Schema
    version: int
    changed_at: str | None


class ChangedSchemaView(MemberSchemaView):
    """The same, with how many members were held against it, and how many of them would not pass. `complete`: that were
    all members."""

    checked: int
    failing: int
    complete: bool


@router.get("/{org_id}/member-schema", summary="The schema of members' attributes")
async def get_schema(org_id: PathId, call: SchemaReader, copied: Copied) -> MemberSchemaView:
    """As it was set."""
    call = call.in_org(org_id)
    async with call.cold.connection() as connection:
        stored = await store.schema_of(connection, org_id)
    copied.tagged(tag_of(_version(stored)))
    return MemberSchemaView(**_fields(stored))


@router.put("/{org_id}/member-schema", summary="Set the schema of members' attributes")
async def set_schema(org_id: PathId, body: SchemaBody, call: SchemaChanger, edit: Editing) -> ChangedSchemaView:
    """Refused with a pointer to every place that is wrong. A retry changes nothing more and tells the schema of by
    then."""
    call = call.in_org(org_id)
    if body.schema_ is not None:
        errors = schema_errors(body.schema_, "#/schema")
        if errors:
            raise Problem("malformed", errors[0].detail if len(errors) == 1 else "", errors)
    text = None if body.schema_ is None else msgspec.json.encode(body.schema_).decode()
    made: list[StoredSchema | None] = []

    async def work(connection: Connection) -> dict[str, Any]:
        before = await store.schema_of(connection, org_id, is_locking=True)
        edit.check(_version(before))
        await store.set_schema(connection, org_id, text, call.parts.clock_ms())
        stored = await store.schema_of(connection, org_id)
        if stored != before:
            await call.note(connection, org_id, detail={"version": stored.version if stored is not None else 0})
        made.append(stored)
        return {}

    await call.once(f"schema {org_id}{edit.asked()}", body, work)
    if not made:
        async with call.cold.connection() as connection:
            made.append(await store.schema_of(connection, org_id))
    stored = made[0]
    edit.tagged(tag_of(_version(stored)))
    checked, failing, is_complete = (0, 0, True) if text is None else await _held_against(call, org_id, text)
    return ChangedSchemaView(**_fields(stored), checked=checked, failing=failing, complete=is_complete)


async def _held_against(call: Call, tenant_id: str, schema: str) -> tuple[int, int, bool]:
    """How many stored members were looked at, how many would not pass, and whether that were all. A page at a time, so
    that check-ins have their turn in between."""
    checked = failing = 0
    after = ""
    while checked < limits.SCHEMA_CHECKED_MEMBERS_MAX:
        async with call.cold.connection() as connection:
            page = await store.attributes_after(connection, tenant_id, after, limits.SCHEMA_CHECKED_PAGE_ROWS)
        failing += sum(not is_valid(schema, attributes) for _, attributes in page)
        checked += len(page)
        if len(page) < limits.SCHEMA_CHECKED_PAGE_ROWS:
            return checked, failing, True
        after = page[-1][0]
        await asyncio.sleep(0)
    return checked, failing, False


def _version(stored: StoredSchema | None) -> str:
    """All of it: its own `version` begins anew after there was none."""
    return digest_of(None if stored is None else msgspec.structs.astuple(stored))


def _fields(stored: StoredSchema | None) -> dict[str, Any]:
    if stored is None:
        return {"schema": None, "version": 0, "changed_at": None}
    schema = msgspec.json.decode(stored.schema)
    return {"schema": schema, "version": stored.version, "changed_at": rfc3339(stored.changed_at_ms)}
