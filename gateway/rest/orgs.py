"""Organisations: opening, changing, closing and suspending them, and their plans.

Rules:
1. An organisation's id is derived from whoever opened it and the request id, and so are its first key and that key's
   secret: a retry of `POST /v1/orgs` finds the same organisation and gives the same key again.
2. Whoever opens an organisation takes a place of their plan first (`gateway.orgs.profiles`); then the engine opens it.
3. Time zone, points and plan are the engine's; branding, locale and origins are Postgres'. **A change is decided with
   the profile locked**, and by the engine first: where that refuses, nothing has changed.
4. An organisation's tag has both versions, that of what the engine keeps and that of the profile. A condition
   (`If-Match`) is always the engine's to decide, so that a retry gets the same outcome: it is told those versions of
   its own that stand beside the version that the locked profile has.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from actors.commands import ChangePlan, ChangeTenant, OpenTenant, fingerprint
from actors.facts import TenantChanged, TenantOpened
from actors.queries import GetTenant
from actors.refusals import TENANT_UNKNOWN
from actors.replies import TenantView
from actors.terms import CARDS_PER_FREE_TENANT_MAX, LAPSED_GRACE_MS_MAX, POINTS_PER_ENTRY_MAX, Plan, TenantSettings
from actors.versions import tenant_version
from gateway import limits
from gateway.access_feed import AccessChange
from gateway.identity import memberships
from gateway.identity.policy import OrgState
from gateway.identity.tokens import hash_secret, make_token
from gateway.ids import derived_id
from gateway.lists import page_of
from gateway.orgs import api_keys, profiles
from gateway.orgs.listing import OrgRow, of_account, of_platform
from gateway.orgs.profiles import Profile
from gateway.problems import FieldError, Problem
from gateway.render import rfc3339_or_none
from gateway.rest.api_keys import ALL_SCOPES, ApiKeyView
from gateway.rest.common import Allowed, Body, Call, Cursor, Limit, Name, PathId, TimeZone, View
from gateway.rest.org_fields import Color, Locale, LogoUrl, Origins, SupportEmail
from gateway.rest.preconditions import Copied, Editing, tag_of
from rules.model import Rule
from storage.postgres import Connection

CHECKIN_POINTS_DEFAULT = 10
CHECKIN_RULE_ID = "rule_checkin"

Points = Annotated[int, Field(ge=0, le=POINTS_PER_ENTRY_MAX)]
Grace = Annotated[int, Field(ge=0, le=LAPSED_GRACE_MS_MAX)]
Overdraft = Annotated[int, Field(ge=0, le=limits.SAFE_INTEGER_MAX)]
Opener = Annotated[Call, Depends(Allowed("orgs.create"))]
OrgLister = Annotated[Call, Depends(Allowed("orgs.list"))]
OrgReader = Annotated[Call, Depends(Allowed("orgs.read"))]
OrgChanger = Annotated[Call, Depends(Allowed("orgs.update"))]
OrgCloser = Annotated[Call, Depends(Allowed("orgs.close"))]
OrgSuspender = Annotated[Call, Depends(Allowed("orgs.suspend"))]
PlanSetter = Annotated[Call, Depends(Allowed("plans.set"))]
Confirm = Annotated[str, Query(min_length=1, max_length=limits.NAME_CHARS_MAX)]
router = APIRouter(prefix="/v1/orgs", tags=["organisations"])


class NewOrg(Body):
    """`lapsed_grace_ms` is how long points live that a reversal gives back though they have lapsed meanwhile.
    `checkin_points` is what the rule "Points per check-in" awards for a card's first entry to an event; 0 =
    nothing. The plan is the platform's to choose (Premium where it does not); others begin on Free."""

    name: Name
    time_zone: TimeZone = "UTC"
    overdraft_max: Overdraft = 0
    lapsed_grace_ms: Grace = 0
    checkin_points: Points = CHECKIN_POINTS_DEFAULT
    plan: Plan | None = None


class BrandingChange(Body):
    """What is left out stays as it is; "" takes it away. Colours are #rrggbb, the logo an https address."""

    display_name: Annotated[str, Field(max_length=limits.NAME_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    logo_url: LogoUrl | None = None
    primary_color: Color | None = None
    accent_color: Color | None = None
    support_email: SupportEmail | None = None


class OrgChange(Body):
    """What is left out stays as it is. `allowed_origins` are the origins (https://host[:port]) whose web pages may use
    the API with this organisation's tokens; the list is replaced as a whole."""

    name: Name | None = None
    time_zone: TimeZone | None = None
    overdraft_max: Overdraft | None = None
    lapsed_grace_ms: Grace | None = None
    checkin_points: Points | None = None
    branding: BrandingChange | None = None
    locale: Locale | None = None
    allowed_origins: Origins | None = None


class PlanChange(Body):
    """The plan from now on."""

    plan: Plan


class BrandingView(View):
    """How an organisation shows itself; "" where nothing is set."""

    display_name: str
    logo_url: str
    primary_color: str
    accent_color: str
    support_email: str


class UsageView(View):
    """`cards` count towards the plan; `cards_max` is null where there is no limit."""

    cards: int
    cards_max: int | None


class OrgView(View):
    """An organisation. `version` grows with every change."""

    id: str
    name: str
    plan: Plan
    state: OrgState
    time_zone: str
    overdraft_max: int
    lapsed_grace_ms: int
    checkin_points: int
    usage: UsageView
    branding: BrandingView
    locale: str
    allowed_origins: list[str]
    version: int


class NewOrgView(OrgView):
    """An organisation with its first API key."""

    api_key: ApiKeyView


class ListedOrgView(View):
    """An organisation in a list. `role` is the caller's; null for the platform. `name` and `plan` are null where the
    organisation was not opened after all; closing it gives its place back."""

    id: str
    name: str | None
    plan: Plan | None
    state: OrgState
    role: str | None
    created_at: str | None


class OrgPage(View):
    """A page of organisations."""

    items: list[ListedOrgView]
    next_cursor: str | None


@router.post("", status_code=201, summary="Open an organisation")
async def open_org(body: NewOrg, call: Opener) -> NewOrgView:
    """Anybody with a confirmed e-mail address may, and becomes its first admin. Answers with the first API key, which
    has all scopes."""
    owner_id = _owner_of(body, call)
    plan: Plan = body.plan or ("free" if owner_id else "premium")
    tenant_id = derived_id("org", owner_id or "superadmin", call.request_id)
    key_id = derived_id("key", tenant_id, call.request_id)
    secret = api_keys.secret_of(call.parts.secrets, tenant_id, key_id)
    await _take_place(call, owner_id, tenant_id, key_id, hash_secret(secret))
    rule = Rule(CHECKIN_RULE_ID, 1, "Points per check-in", "checkin", body.checkin_points)
    settings = TenantSettings(body.time_zone, body.overdraft_max, (rule,), plan, body.lapsed_grace_ms)
    try:
        opened = await call.tell(OpenTenant(tenant_id, call.request_id, b"", body.name, settings), TenantOpened)
    except Problem:
        if owner_id and not call.is_named:
            await _give_place_back(call, tenant_id)  # nobody could try again under this request id
        raise
    async with call.cold.connection() as connection:
        profile = await profiles.find(connection, tenant_id)
    view = TenantView(tenant_id, opened.name, opened.settings)
    key = make_token("api_key", tenant_id, key_id, secret)
    api_key = ApiKeyView(id=key_id, name="First key", scopes=list(ALL_SCOPES), expires_at=None, key=key)
    return NewOrgView(**_fields(view, profile), api_key=api_key)


@router.get("", summary="Organisations")
async def orgs(call: OrgLister, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None) -> OrgPage:
    """Those that the caller takes part in, without closed ones; the platform's are all."""
    async with call.cold.connection() as connection:
        account_id = "" if call.reach == "platform" else call.caller.account_id
        read = partial(of_account, connection, account_id) if account_id else partial(of_platform, connection)
        page = await page_of(("orgs", account_id), cursor, limit, read, lambda row: row.tenant_id)
    rows = await asyncio.gather(*(_known_row(call, row) for row in page.rows))
    return OrgPage(items=[_listed(row) for row in rows], next_cursor=page.next_cursor)


@router.get("/{org_id}", summary="An organisation")
async def get_org(org_id: PathId, call: OrgReader, copied: Copied) -> OrgView:
    """Only the caller's own exist for it."""
    view, profile = await _found(call.in_org(org_id))
    copied.tagged(_tag(view, profile))
    return OrgView(**_fields(view, profile))


@router.patch("/{org_id}", summary="Change an organisation")
async def change_org(org_id: PathId, body: OrgChange, call: OrgChanger, edit: Editing) -> OrgView:
    """Changes what is given. With `If-Match`: if it is as it was then, but for the use of its plan."""
    call = call.in_org(org_id)
    view = await call.query(GetTenant(org_id), TenantView)
    await _require_not_closed(call)
    asked = ChangeTenant(
        org_id,
        call.request_id,
        b"",
        body.name,
        body.time_zone,
        body.overdraft_max,
        body.checkin_points,
        edit.versions,
        body.lapsed_grace_ms,
    )
    is_engines = any(value is not None for value in msgspec.structs.astuple(asked)[3:])
    changes = body.model_dump(include={"locale", "allowed_origins"}, exclude_none=True)
    changes |= body.branding.model_dump(exclude_none=True) if body.branding else {}

    async def work(connection: Connection) -> dict[str, Any]:
        now_ms = call.parts.clock_ms()
        held = await profiles.locked(connection, org_id, now_ms)
        after, at_ms = view, None
        if is_engines:
            command = msgspec.structs.replace(
                asked, if_version=_engine_versions(edit.versions, held), fingerprint=fingerprint(asked)
            )
            fact = await call.tell(command, TenantChanged, is_noted=False)
            after, at_ms = TenantView(org_id, fact.name, fact.settings, view.cards), fact.at_ms
        profile = await profiles.change(connection, org_id, changes, now_ms)
        await call.note(connection, org_id, at_ms=at_ms, detail=body.model_dump(exclude_none=True))
        return {"org": _fields(after, profile), "tag": _tag(after, profile)}

    if not is_engines and not changes:
        view, profile = await _found(call)
        answer: dict[str, Any] = {"org": _fields(view, profile), "tag": _tag(view, profile)}
    else:
        answer = await call.once(f"change org {org_id}{edit.asked()}", body, work)
    if body.allowed_origins is not None:
        await call.parts.access.publish(AccessChange("org", org_id))
    edit.tagged(answer["tag"])
    return OrgView(**answer["org"])


@router.delete("/{org_id}", status_code=204, summary="Close an organisation, for good")
async def close_org(org_id: PathId, confirm: Confirm, call: OrgCloser) -> Response:
    """`confirm` is its name. From then on all its keys, devices and people are refused with `org_closed`."""
    call = call.in_org(org_id)
    async with call.cold.connection() as connection:
        profile = await profiles.find(connection, org_id)
    try:
        name = (await call.query(GetTenant(org_id), TenantView)).name
    except Problem as problem:
        if problem.code != TENANT_UNKNOWN or not profile.owner_id:
            raise
        name = org_id  # taken a place for, but never opened
    if confirm != name:
        detail = "confirm must be the organisation's name, letter by letter"
        raise Problem("malformed", detail, [FieldError(detail, parameter="confirm")])
    await _set_state(call, "closed")
    return Response(status_code=204)


@router.post("/{org_id}/suspend", summary="Suspend an organisation (platform)")
async def suspend_org(org_id: PathId, call: OrgSuspender) -> OrgView:
    """Its keys, devices and people are refused with `org_suspended`, and their sockets closed, until it is resumed."""
    call = call.in_org(org_id)
    await call.query(GetTenant(org_id), TenantView)
    await _set_state(call, "suspended")
    return await _view(call)


@router.post("/{org_id}/resume", summary="Resume a suspended organisation (platform)")
async def resume_org(org_id: PathId, call: OrgSuspender) -> OrgView:
    """Everything is as it was before."""
    call = call.in_org(org_id)
    await call.query(GetTenant(org_id), TenantView)
    await _set_state(call, "open")
    return await _view(call)


@router.put("/{org_id}/plan", summary="Put an organisation on a plan (platform)")
async def set_plan(org_id: PathId, body: PlanChange, call: PlanSetter) -> OrgView:
    """The new limits hold at once; what was made before goes on working."""
    call = call.in_org(org_id)
    await _require_not_closed(call)
    await call.tell(ChangePlan(org_id, call.request_id, b"", body.plan), TenantChanged)
    view = await call.query(GetTenant(org_id), TenantView)
    async with call.cold.connection() as connection, connection.transaction():
        await profiles.set_plan(connection, org_id, view.settings.plan, call.parts.clock_ms())
    await call.is_fresh()  # gateways that hear the news look into the row that the projector writes
    await call.parts.access.publish(AccessChange("org", org_id))
    return await _view(call)


def _owner_of(body: NewOrg, call: Call) -> str:
    """The account that will own it, "" where it is the platform's. Raises `Problem`."""
    if call.reach == "platform":
        return ""
    if not call.caller.is_verified:
        raise Problem("email_unverified")
    if body.plan not in (None, "free"):
        raise Problem("forbidden", "An organisation begins on the Free plan; the platform changes plans.")
    return call.caller.account_id


async def _take_place(call: Call, owner_id: str, tenant_id: str, key_id: str, secret_hash: bytes) -> None:
    """Rule 2. Only the first try gives the role and the key: what has been taken away since stays away."""
    now_ms = call.parts.clock_ms()
    async with call.cold.connection() as connection, connection.transaction():
        if not await profiles.take_place(connection, owner_id, tenant_id, now_ms):
            return
        if owner_id:
            await memberships.grant(connection, owner_id, tenant_id, "org_admin", None, now_ms)
        await api_keys.add(connection, tenant_id, key_id, "First key", secret_hash, ALL_SCOPES, None, now_ms)
    if owner_id:
        await call.parts.access.publish(AccessChange("account", owner_id))


async def _give_place_back(call: Call, tenant_id: str) -> None:
    async with call.cold.connection() as connection, connection.transaction():
        await profiles.set_state(connection, tenant_id, "closed", call.parts.clock_ms())


async def _set_state(call: Call, state: OrgState) -> None:
    """Raises `Problem` (`org_closed`)."""
    async with call.cold.connection() as connection, connection.transaction():
        if await profiles.set_state(connection, call.tenant_id, state, call.parts.clock_ms()):
            await call.note(connection, call.tenant_id, detail={"state": state})
    await call.parts.access.publish(AccessChange("org", call.tenant_id))


async def _require_not_closed(call: Call) -> None:
    async with call.cold.connection() as connection:
        if (await profiles.find(connection, call.tenant_id)).state == "closed":
            raise Problem("org_closed")


async def _known_row(call: Call, row: OrgRow) -> OrgRow:
    """The row with what the engine knows, where it has no name: what was opened a moment ago has no row yet."""
    if row.name is not None:
        return row
    try:
        view = await call.query(GetTenant(row.tenant_id), TenantView)
    except Problem as problem:
        if problem.code != TENANT_UNKNOWN:
            raise
        return row
    return msgspec.structs.replace(row, name=view.name, plan=view.settings.plan)


def _listed(row: OrgRow) -> ListedOrgView:
    return ListedOrgView(
        id=row.tenant_id,
        name=row.name,
        plan=row.plan,
        state=row.state,
        role=row.role,
        created_at=rfc3339_or_none(row.opened_at_ms or 0),
    )


async def _found(call: Call) -> tuple[TenantView, Profile]:
    """What is known of the call's organisation. Raises `Problem` (`tenant_unknown`)."""
    view = await call.query(GetTenant(call.tenant_id), TenantView)
    async with call.cold.connection() as connection:
        return view, await profiles.find(connection, call.tenant_id)


async def _view(call: Call) -> OrgView:
    return OrgView(**_fields(*await _found(call)))


def _tag(view: TenantView, profile: Profile) -> str:
    """Rule 4. How many cards it has is shown only."""
    return tag_of(f"{tenant_version(view.name, view.settings)}-{profile.version}", view.cards)


def _engine_versions(versions: tuple[str, ...] | None, profile: Profile) -> tuple[str, ...] | None:
    """Rule 4. None: no condition; empty: the profile is not as in any of them."""
    if versions is None:
        return None
    pairs = (version.rpartition("-") for version in versions)
    return tuple(engines for engines, _, profiles_ in pairs if profiles_ == str(profile.version))


def _fields(view: TenantView, profile: Profile) -> dict[str, Any]:
    settings = view.settings
    return {
        "id": view.tenant_id,
        "name": view.name,
        "plan": settings.plan,
        "state": profile.state,
        "time_zone": settings.time_zone,
        "overdraft_max": settings.overdraft_max,
        "lapsed_grace_ms": settings.lapsed_grace_ms,
        "checkin_points": sum(rule.points for rule in settings.rules if rule.rule_id == CHECKIN_RULE_ID),
        "usage": {"cards": view.cards, "cards_max": CARDS_PER_FREE_TENANT_MAX if settings.plan == "free" else None},
        "branding": {name: getattr(profile, name) for name in BrandingView.model_fields},
        "locale": profile.locale,
        "allowed_origins": list(profile.allowed_origins),
        "version": profile.version,
    }
