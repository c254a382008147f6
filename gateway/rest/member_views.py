"""Members as clients see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gateway.members.model import Consent, Member
from gateway.render import rfc3339, rfc3339_or_none
from gateway.rest.common import View
from storage.postgres import Connection


class ConsentView(View):
    """What holds for a consent, since when, and who told: the `member`, an `organiser`, an `import`, or `erasure`."""

    given: bool
    at: str
    source: Literal["member", "organiser", "import", "erasure"]


class MemberView(View):
    """A person known to the organisation. `linked`: an account is linked to them, `account_id`. `version` grows with
    every change. `erased_at` is set once personal data was erased."""

    id: str
    name: str
    email: str | None
    phone: str | None
    birthday: str | None
    locale: str | None
    external_id: str | None
    attributes: dict[str, Any]
    consents: dict[str, ConsentView]
    linked: bool
    account_id: str | None
    version: int
    created_at: str
    changed_at: str
    erased_at: str | None


def consent_view(consent: Consent) -> ConsentView:
    """A consent."""
    return ConsentView(given=consent.given, at=rfc3339(consent.at_ms), source=consent.source)


def member_view(member: Member, account_id: str | None) -> MemberView:
    """A member, with the account that is linked to them."""
    return MemberView(
        id=member.member_id,
        name=member.name,
        email=member.email,
        phone=member.phone,
        birthday=member.birthday.isoformat() if member.birthday is not None else None,
        locale=member.locale,
        external_id=member.external_id,
        attributes=member.attributes,
        consents={flag: consent_view(consent) for flag, consent in member.consents.items()},
        linked=account_id is not None,
        account_id=account_id,
        version=member.version,
        created_at=rfc3339(member.created_at_ms),
        changed_at=rfc3339(member.changed_at_ms),
        erased_at=rfc3339_or_none(member.erased_at_ms or 0),
    )


async def accounts_of(connection: Connection, tenant_id: str, member_ids: Sequence[str]) -> Mapping[str, str]:
    """The account that is linked to each of these members, where one is; of several, the one linked first."""
    rows = await connection.fetch(
        "SELECT DISTINCT ON (member_id) member_id, account_id FROM memberships WHERE tenant_id = $1 "
        "AND member_id = ANY($2::text[]) AND member_id IS NOT NULL AND state = 'active' "
        "ORDER BY member_id, joined_at_ms, account_id",
        tenant_id,
        list(member_ids),
    )
    return {row["member_id"]: row["account_id"] for row in rows}


async def views(connection: Connection, tenant_id: str, members: Sequence[Member]) -> list[MemberView]:
    """Members with their accounts."""
    accounts = await accounts_of(connection, tenant_id, [member.member_id for member in members])
    return [member_view(member, accounts.get(member.member_id)) for member in members]
