"""What a member is, and how a change makes a new one of it. Pure.

Rules:
1. A change is a JSON merge patch (RFC 7396): what is left out stays, null removes, `attributes` are merged at all
   levels.
2. A patch that changes nothing gives the member as it was: no new version, so a retry is harmless.
3. Consents are never removed, only given or withdrawn; each step is history (`ConsentStep`). Null withdraws, too.
4. Who was erased keeps the id, the times and the history of consents (all withdrawn), which say nothing about a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Final, Literal, get_args

import msgspec

ERASED_NAME: Final = "Deleted member"
ConsentFlag = Literal["marketing_email", "marketing_sms", "marketing_push", "profiling", "photo", "data_sharing"]
CONSENT_FLAGS: Final[tuple[ConsentFlag, ...]] = get_args(ConsentFlag)
ConsentSource = Literal["member", "organiser", "import", "erasure"]
_json = msgspec.json.encode
_PLAIN = ("name", "email", "phone", "birthday", "locale", "external_id")


class Consent(msgspec.Struct, frozen=True):
    """What holds for a flag: given or withdrawn, since when, told by whom."""

    given: bool
    at_ms: int
    source: ConsentSource


class ConsentStep(msgspec.Struct, frozen=True):
    """A consent given or withdrawn, as history keeps it. `version` is the member's that it made."""

    member_id: str
    version: int
    flag: str
    is_given: bool
    at_ms: int
    source: ConsentSource


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A person known to an organisation. `erased_at_ms` is set where personal data was erased."""

    member_id: str
    name: str
    email: str | None = None
    phone: str | None = None
    birthday: date | None = None
    locale: str | None = None
    external_id: str | None = None
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    consents: dict[str, Consent] = msgspec.field(default_factory=dict)
    version: int = 1
    created_at_ms: int = 0
    changed_at_ms: int = 0
    erased_at_ms: int | None = None


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, §2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def new_member(member_id: str, fields: Mapping[str, Any], at_ms: int, source: ConsentSource) -> Member:
    """A member with these fields."""
    told = {flag: given for flag, given in (fields.get("consents") or {}).items() if given is not None}
    consents = {flag: Consent(given, at_ms, source) for flag, given in told.items()}
    plain = {name: fields[name] for name in _PLAIN if fields.get(name) is not None}
    plain["attributes"] = merged({}, fields.get("attributes") or {})
    return Member(**plain, member_id=member_id, consents=consents, created_at_ms=at_ms, changed_at_ms=at_ms)


def changed(member: Member, patch: Mapping[str, Any], at_ms: int, source: ConsentSource) -> Member:
    """The member after `patch` (rules 1-3)."""
    changes: dict[str, Any] = {name: patch[name] for name in _PLAIN if name in patch}
    if "attributes" in patch:
        changes["attributes"] = merged(member.attributes, patch["attributes"]) or {}
    if "consents" in patch:
        changes["consents"] = _consented(member, patch["consents"] or {}, at_ms, source)
    # As JSON: to Python, 1 is true.
    if all(_json(getattr(member, name)) == _json(value) for name, value in changes.items()):
        return member
    return msgspec.structs.replace(member, **changes, version=member.version + 1, changed_at_ms=at_ms)


def erased(member: Member, at_ms: int) -> Member:
    """Rule 4."""
    if member.erased_at_ms is not None:
        return member
    return Member(
        member_id=member.member_id,
        name=ERASED_NAME,
        consents=_consented(member, dict.fromkeys(member.consents, False), at_ms, "erasure"),
        version=member.version + 1,
        created_at_ms=member.created_at_ms,
        changed_at_ms=at_ms,
        erased_at_ms=at_ms,
    )


def steps(before: Member | None, after: Member) -> list[ConsentStep]:
    """The history that leads from one to the other."""
    held = before.consents if before is not None else {}
    return [
        ConsentStep(after.member_id, after.version, flag, consent.given, consent.at_ms, consent.source)
        for flag, consent in after.consents.items()
        if held.get(flag) != consent
    ]


def _consented(
    member: Member, patch: Mapping[str, bool | None], at_ms: int, source: ConsentSource
) -> dict[str, Consent]:
    """A flag that is told again as it is keeps its time and source; null does nothing to one that never was told."""
    consents = dict(member.consents)
    for flag, given in patch.items():
        held = consents.get(flag)
        if held is None and given is None:
            continue
        if held is None or held.given != bool(given):
            consents[flag] = Consent(bool(given), at_ms, source)
    return consents
