"""Members in Postgres.

Rules:
1. `tenant_id` leads every key and every condition; a foreign row and an absent one look the same.
2. Everything works on the caller's connection, so that it commits with what it belongs to. Consents and the history of
   them are written together.
3. Whoever changes a member has it locked (`locked`), so that changes come one after the other.
4. A name, birthday or attributes that change mark the member `cards_behind`, in the same transaction: its cards follow
   (`gateway.members.names`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import msgspec

from gateway.members.model import Consent, ConsentStep, Member, steps
from storage.postgres import Connection

COLUMNS: Final = (
    "member_id, name, email, phone, birthday, locale, external_id, attributes, consents, version, created_at_ms, "
    "changed_at_ms, erased_at_ms"
)
# The parameters of one row each, in the order of `_row`.
_ROWS: Final = (
    "unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::date[], $7::text[], $8::text[], $9::text[], "
    "$10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[]) AS m (member_id, name, email, phone, "
    "birthday, locale, external_id, attributes, consents, version, created_at_ms, changed_at_ms, erased_at_ms)"
)
_ADD: Final = f"""
INSERT INTO members (tenant_id, {COLUMNS})
SELECT $1, m.member_id, m.name, m.email, m.phone, m.birthday, m.locale, m.external_id, m.attributes::jsonb,
    m.consents::jsonb, m.version, m.created_at_ms, m.changed_at_ms, m.erased_at_ms
FROM {_ROWS} ON CONFLICT (tenant_id, member_id) DO NOTHING RETURNING member_id
"""
_SAVE: Final = f"""
UPDATE members AS t SET name = m.name, email = m.email, phone = m.phone, birthday = m.birthday, locale = m.locale,
    external_id = m.external_id, attributes = m.attributes::jsonb, consents = m.consents::jsonb, version = m.version,
    changed_at_ms = m.changed_at_ms, erased_at_ms = m.erased_at_ms, cards_behind = t.cards_behind OR t.name <> m.name
        OR t.birthday IS DISTINCT FROM m.birthday OR t.attributes <> m.attributes::jsonb
FROM {_ROWS} WHERE t.tenant_id = $1 AND t.member_id = m.member_id
"""
_CONSENTS: Final = """
INSERT INTO member_consents (tenant_id, member_id, version, flag, is_given, at_ms, source, actor)
SELECT $1, c.member_id, c.version, c.flag, c.is_given, c.at_ms, c.source, $2
FROM unnest($3::text[], $4::bigint[], $5::text[], $6::boolean[], $7::bigint[], $8::text[])
    AS c (member_id, version, flag, is_given, at_ms, source)
"""
_SCHEMA_LOCK: Final = 0x6D5F736368656D61  # "m_schema"
_encode = msgspec.json.encode
_consents_decoder = msgspec.json.Decoder(dict[str, Consent])


class ExternalIdTaken(Exception):
    """Another member of the organisation has this external id."""


class StoredSchema(msgspec.Struct, frozen=True):
    """An organisation's schema of attributes, as it was sent."""

    schema: str
    version: int
    changed_at_ms: int


def member_of(row: asyncpg.Record) -> Member:
    """A row with `COLUMNS` as a member."""
    fields = {name: row[name] for name in Member.__struct_fields__}
    fields["attributes"] = msgspec.json.decode(fields["attributes"])
    fields["consents"] = _consents_decoder.decode(fields["consents"])
    return Member(**fields)


async def find(connection: Connection, tenant_id: str, member_ids: Sequence[str]) -> dict[str, Member]:
    """The members with these ids, as far as there are such."""
    query = f"SELECT {COLUMNS} FROM members WHERE tenant_id = $1 AND member_id = ANY($2::text[])"
    return {row["member_id"]: member_of(row) for row in await connection.fetch(query, tenant_id, list(member_ids))}


async def locked(connection: Connection, tenant_id: str, member_id: str) -> Member | None:
    """The member, locked until the transaction ends; None if there is none."""
    query = f"SELECT {COLUMNS} FROM members WHERE tenant_id = $1 AND member_id = $2 FOR UPDATE"
    row = await connection.fetchrow(query, tenant_id, member_id)
    return None if row is None else member_of(row)


async def locked_by_keys(
    connection: Connection, tenant_id: str, external_ids: Sequence[str], emails: Sequence[str]
) -> list[Member]:
    """The members with one of these external ids or e-mail addresses (in lower case), locked in the order of their ids;
    none who was erased."""
    rows = await connection.fetch(
        f"SELECT {COLUMNS} FROM members WHERE tenant_id = $1 AND erased_at_ms IS NULL AND member_id IN ("
        "SELECT member_id FROM members WHERE tenant_id = $1 AND external_id = ANY($2::text[]) UNION "
        "SELECT member_id FROM members WHERE tenant_id = $1 AND email IS NOT NULL AND lower(email) = ANY($3::text[])"
        ") ORDER BY member_id FOR UPDATE",
        tenant_id,
        list(external_ids),
        list(emails),
    )
    return [member_of(row) for row in rows]


async def add(connection: Connection, tenant_id: str, members: Sequence[Member], actor: str) -> set[str]:
    """Adds members and tells the ids of those that are new; one whose id is there already stays as it is. Raises
    `ExternalIdTaken`."""
    if not members:
        return set()
    try:
        rows = await connection.fetch(_ADD, tenant_id, *_columns(members))
    except asyncpg.UniqueViolationError as error:
        raise ExternalIdTaken(str(error.detail)) from error
    added = {row["member_id"] for row in rows}
    await _keep(
        connection, tenant_id, actor, [step for m in members if m.member_id in added for step in steps(None, m)]
    )
    return added


async def save(connection: Connection, tenant_id: str, changes: Sequence[tuple[Member, Member]], actor: str) -> None:
    """Writes members that were locked, each as it was and as it is from now on. Raises `ExternalIdTaken`."""
    if not changes:
        return
    try:
        status = await connection.execute(_SAVE, tenant_id, *_columns([after for _, after in changes]))
    except asyncpg.UniqueViolationError as error:
        raise ExternalIdTaken(str(error.detail)) from error
    assert status == f"UPDATE {len(changes)}", "locked members do not go away"
    await _keep(connection, tenant_id, actor, [step for before, after in changes for step in steps(before, after)])


async def forget_invitations(connection: Connection, tenant_id: str, member_id: str) -> None:
    """Takes away the invitations of a member, which hold the address that they were sent to."""
    await connection.execute("DELETE FROM invitations WHERE tenant_id = $1 AND member_id = $2", tenant_id, member_id)


async def has_cards_in_force(connection: Connection, tenant_id: str, member_id: str) -> bool:
    """Whether the member has a card that is not revoked, as far as Postgres knows."""
    found = await connection.fetchval(
        "SELECT true FROM cards WHERE tenant_id = $1 AND member_id = $2 AND state <> 'revoked' LIMIT 1",
        tenant_id,
        member_id,
    )
    return found is not None


async def consent_history(connection: Connection, tenant_id: str, member_id: str) -> list[ConsentStep]:
    """Everything that was ever given or withdrawn, newest first."""
    rows = await connection.fetch(
        "SELECT member_id, version, flag, is_given, at_ms, source FROM member_consents "
        "WHERE tenant_id = $1 AND member_id = $2 ORDER BY version DESC, flag",
        tenant_id,
        member_id,
    )
    return [ConsentStep(*row) for row in rows]


async def schema_of(connection: Connection, tenant_id: str, *, is_locking: bool = False) -> StoredSchema | None:
    """The organisation's schema of attributes; None where it takes any. With `is_locking` nobody else who locks it
    changes it until the transaction ends, whether there is one or not."""
    if is_locking:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", tenant_id, _SCHEMA_LOCK)
    row = await connection.fetchrow(
        "SELECT schema, version, changed_at_ms FROM member_schemas WHERE tenant_id = $1", tenant_id
    )
    return None if row is None else StoredSchema(*row)


async def set_schema(connection: Connection, tenant_id: str, schema: str | None, at_ms: int) -> None:
    """Sets the schema, or takes it away."""
    if schema is None:
        await connection.execute("DELETE FROM member_schemas WHERE tenant_id = $1", tenant_id)
        return
    await connection.execute(
        "INSERT INTO member_schemas AS s (tenant_id, schema, version, changed_at_ms) VALUES ($1, $2, 1, $3) "
        "ON CONFLICT (tenant_id) DO UPDATE SET schema = excluded.schema, changed_at_ms = excluded.changed_at_ms, "
        "version = s.version + 1 WHERE s.schema <> excluded.schema",
        tenant_id,
        schema,
        at_ms,
    )


async def attributes_after(
    connection: Connection, tenant_id: str, member_id: str, limit: int
) -> list[tuple[str, dict[str, Any]]]:
    """Members behind `member_id` with their attributes, by id; none who was erased."""
    rows = await connection.fetch(
        "SELECT member_id, attributes FROM members WHERE tenant_id = $1 AND member_id > $2 AND erased_at_ms IS NULL "
        "ORDER BY member_id LIMIT $3",
        tenant_id,
        member_id,
        limit,
    )
    return [(row["member_id"], msgspec.json.decode(row["attributes"])) for row in rows]


async def _keep(connection: Connection, tenant_id: str, actor: str, told: Sequence[ConsentStep]) -> None:
    if told:
        columns = zip(*(msgspec.structs.astuple(step) for step in told), strict=True)
        await connection.execute(_CONSENTS, tenant_id, actor, *map(list, columns))


def _columns(members: Sequence[Member]) -> list[list[Any]]:
    return [list(column) for column in zip(*map(_row, members), strict=True)]


def _row(member: Member) -> tuple[Any, ...]:
    values = {name: getattr(member, name) for name in Member.__struct_fields__}
    values["attributes"] = _encode(member.attributes).decode()
    values["consents"] = _encode(member.consents).decode()
    return tuple(values.values())
