"""One batch of an import: records to members, and what is wrong with the rest.

Rules:
1. A record is known by its external id, without one by its e-mail address. `create` refuses what is known already,
   `upsert` changes it; a record with neither can only be created. Records of one file meet each other like members that
   were there before.
2. A record goes in whole or not at all; what is wrong with it is told by column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import ValidationError

from gateway.ids import derived_id
from gateway.members import limits, store
from gateway.members.csv_file import ATTRIBUTE, CONSENT, Fault
from gateway.members.fields import PATCH, given
from gateway.members.imports import LeasedImport, RowError, Tally
from gateway.members.model import Member, changed, new_member
from gateway.members.profiles import profile_errors
from gateway.problems import FieldError
from storage.postgres import Connection


class Draft(msgspec.Struct, frozen=True):
    """A record that can go in, or `faults`. `fields` are those that were filled in."""

    row: int
    fields: dict[str, Any]
    faults: list[Fault]


def drafted(row: int, fields: dict[str, Any], faults: list[Fault]) -> Draft:
    """A record with its fields checked, each by itself."""
    try:
        clean = given(PATCH.validate_python(fields))
    except ValidationError as error:
        found = [_fault(problem["loc"], problem["msg"]) for problem in error.errors()]
        return Draft(row, {}, [*faults, *found][: limits.ERRORS_MAX])
    return Draft(row, {} if faults else clean, faults)


class Batch:
    """Members that a batch of drafts makes and changes."""

    def __init__(self, leased: LeasedImport, schema: str | None, now_ms: int) -> None:
        self._leased = leased
        self._schema = schema
        self._now_ms = now_ms
        self._before: dict[str, Member] = {}
        self._after: dict[str, Member] = {}
        self._by_external_id: dict[str, str] = {}
        self._by_email: dict[str, list[str]] = {}
        self._counts = {"created": 0, "updated": 0, "unchanged": 0, "failed": 0}
        self.errors: list[RowError] = []

    @property
    def tally(self) -> Tally:
        """What became of the drafts."""
        return Tally(**self._counts)

    async def take(self, connection: Connection, drafts: Sequence[Draft]) -> None:
        """Decides the drafts and writes the members, in the caller's transaction. Raises `store.ExternalIdTaken` where
        somebody else was quicker: then all of it has to be done again."""
        external_ids = [draft.fields["external_id"] for draft in drafts if draft.fields.get("external_id")]
        emails = [draft.fields["email"].lower() for draft in drafts if draft.fields.get("email")]
        for member in await store.locked_by_keys(connection, self._leased.tenant_id, external_ids, emails):
            self._before[member.member_id] = member
            self._keep(member)
        for draft in drafts:
            faults = draft.faults or self._decide(draft)
            self._counts["failed"] += bool(faults)
            self.errors += [
                RowError(draft.row, place, fault.column, fault.reason) for place, fault in enumerate(faults)
            ]
        actor = self._leased.actor
        added = [member for key, member in self._after.items() if key not in self._before]
        await store.add(connection, self._leased.tenant_id, added, actor)
        pairs = [(before, self._after[key]) for key, before in self._before.items() if self._after[key] is not before]
        await store.save(connection, self._leased.tenant_id, pairs, actor)

    def _decide(self, draft: Draft) -> list[Fault]:
        """Makes or changes a member; what is wrong otherwise."""
        fields = draft.fields
        known = self._known(fields)
        if isinstance(known, Fault):
            return [known]
        if known is None:
            return self._create(draft)
        if self._leased.mode == "create":
            column = "external_id" if fields.get("external_id") else "email"
            return [Fault(column, "There is such a member already.")]
        member = changed(known, fields, self._now_ms, "import")
        faults = self._checked(member, fields)
        if not faults:
            self._counts["unchanged" if member is known else "updated"] += 1
            self._keep(member)
        return faults

    def _create(self, draft: Draft) -> list[Fault]:
        if not draft.fields.get("name"):
            return [Fault("name", "A new member needs a name.")]
        member_id = derived_id("mem", self._leased.tenant_id, self._leased.job_id, str(draft.row))
        member = new_member(member_id, draft.fields, self._now_ms, "import")
        faults = self._checked(member, {"attributes": None, **draft.fields})
        if not faults:
            self._counts["created"] += 1
            self._keep(member)
        return faults

    def _known(self, fields: dict[str, Any]) -> Member | Fault | None:
        """Rule 1."""
        external_id, email = fields.get("external_id"), fields.get("email")
        if external_id:
            found = self._by_external_id.get(external_id)
            return self._after[found] if found else None
        if email:
            same = self._by_email.get(email.lower(), [])
            if len(same) > 1:
                return Fault("email", "Several members have this address: give their external_id.")
            return self._after[same[0]] if same else None
        return Fault("", "An upsert needs external_id or email.") if self._leased.mode == "upsert" else None

    def _checked(self, member: Member, written: dict[str, Any]) -> list[Fault]:
        errors = profile_errors(member, written, self._schema, self._now_ms)
        return [Fault(_column(error), error.detail) for error in errors]

    def _keep(self, member: Member) -> None:
        key = member.member_id
        before = self._after.get(key)
        if before is not None:
            if before.external_id:
                self._by_external_id.pop(before.external_id, None)
            if before.email:
                self._by_email[before.email.lower()].remove(key)
        self._after[key] = member
        if member.external_id:
            self._by_external_id[member.external_id] = key
        if member.email:
            self._by_email.setdefault(member.email.lower(), []).append(key)


def _fault(location: Sequence[int | str], message: str) -> Fault:
    """What pydantic found, by column."""
    name = str(location[0]) if location else ""
    if name == "consents" and len(location) > 1:
        return Fault(f"{CONSENT}{location[1]}", message)
    return Fault(name, message)


def _column(error: FieldError) -> str:
    """The column of a place within a member."""
    steps = (error.pointer or "#").split("/")[1:]
    if steps[:1] == ["attributes"]:
        return ATTRIBUTE + "/".join(steps[1:]) if len(steps) > 1 else "attributes"
    return steps[0] if steps else ""
