"""Who one is: the account, its parts in organisations, and, where it is linked to a member, that member's cards."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends

from gateway.access_feed import AccessChange
from gateway.identity import accounts, memberships
from gateway.identity.accounts import Account
from gateway.identity.limits import CARDS_PER_PART_MAX
from gateway.identity.memberships import Membership
from gateway.problems import Problem
from gateway.render import rfc3339
from gateway.rest.auth import AccountView, Locale, OrgPartView
from gateway.rest.common import Allowed, Body, Call, Name, View
from gateway.rest.preconditions import Copied, Editing, digest_of, tag_of
from storage.postgres import Connection

Myself = Annotated[Call, Depends(Allowed("me.read"))]
ChangingMyself = Annotated[Call, Depends(Allowed("account.self"))]
router = APIRouter(prefix="/v1/me", tags=["accounts"])


class MyAccountView(AccountView):
    """An account, as its owner sees it. `platform_role` is "superadmin" for those who run the platform."""

    locale: str
    platform_role: Literal["", "superadmin"]
    created_at: str


class MyOrgView(OrgPartView):
    """A part in an organisation; `member_id` and `card_ids` are there where the account is linked to a member of it."""

    name: str
    member_id: str | None
    card_ids: list[str]


class MeView(View):
    """`org_id` and `role` are those that this request was made under."""

    account: MyAccountView
    org_id: str | None
    role: str
    orgs: list[MyOrgView]


class MeChange(Body):
    """What is left out stays as it is."""

    name: Name | None = None
    locale: Locale | None = None


@router.get("", summary="Oneself")
async def get_me(call: Myself, copied: Copied) -> MeView:
    """The account, its organisations, and the cards of the members that it is linked to."""
    async with call.cold.connection() as connection:
        me = await _me(connection, call)
    copied.tagged(_tag(me))
    return me


@router.patch("", summary="Change one's own profile")
async def change_me(body: MeChange, call: ChangingMyself, edit: Editing) -> MeView:
    """Changes what is given. With `If-Match`: if name and locale are as they were then. A retry changes nothing more
    and tells oneself as one is by then."""
    account_id = call.caller.account_id
    made: list[MeView] = []

    async def work(connection: Connection) -> dict[str, Any]:
        account = await accounts.find(connection, account_id, is_locking=True)
        if account is None:
            raise Problem("account_unknown")
        edit.check(_version(account.name, account.locale))
        await accounts.set_profile(connection, account_id, body.name, body.locale, call.parts.clock_ms())
        made.append(await _me(connection, call))
        return {}

    # Kept beside the account: it is the same request, whichever organisation it is sent for.
    await call.within(account_id).once(f"change me{edit.asked()}", body, work)
    if not made:
        async with call.cold.connection() as connection:
            made.append(await _me(connection, call))
    await call.parts.access.publish(AccessChange("account", account_id))
    edit.tagged(_tag(made[0]))
    return made[0]


def _version(name: str, locale: str) -> str:
    """Of what one changes oneself."""
    return digest_of(name, locale)


def _tag(me: MeView) -> str:
    """The organisations are shown only, and differ by the one that is called for."""
    return tag_of(_version(me.account.name, me.account.locale), me.model_dump_json())


async def _me(connection: Connection, call: Call) -> MeView:
    account = await accounts.find(connection, call.caller.account_id)
    if account is None:
        raise Problem("account_unknown")
    held = await memberships.of_account(connection, account.account_id)
    return MeView(
        account=_account(account),
        org_id=call.tenant_id or None,
        role=call.caller.role,
        orgs=[await _org(connection, part) for part in held],
    )


async def _org(connection: Connection, part: Membership) -> MyOrgView:
    name = await connection.fetchval("SELECT name FROM tenants WHERE tenant_id = $1", part.tenant_id)
    cards = []
    if part.member_id is not None:
        cards = await connection.fetch(
            "SELECT card_id FROM cards WHERE tenant_id = $1 AND member_id = $2 ORDER BY card_id LIMIT $3",
            part.tenant_id,
            part.member_id,
            CARDS_PER_PART_MAX,
        )
    return MyOrgView(
        id=part.tenant_id,
        name=name or "",
        role=part.role,
        member_id=part.member_id,
        card_ids=[row["card_id"] for row in cards],
    )


def _account(account: Account) -> MyAccountView:
    return MyAccountView(
        id=account.account_id,
        email=account.email,
        name=account.name,
        verified=account.is_verified,
        locale=account.locale,
        platform_role=account.platform_role,
        created_at=rfc3339(account.created_at_ms),
    )
