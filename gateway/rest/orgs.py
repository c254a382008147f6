"""Organisations and their API keys.

An organisation's id is derived from the request id that asked for it, and so are its first key and that key's secret: a
retry of `POST /v1/orgs` finds the same organisation and gives the same key again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from actors.commands import ChangeTenant, OpenTenant
from actors.facts import TenantChanged, TenantOpened
from actors.queries import GetTenant
from actors.replies import TenantView
from actors.terms import POINTS_PER_ENTRY_MAX, TenantSettings
from gateway import limits
from gateway.access_feed import AccessChange
from gateway.identity.tokens import hash_secret, make_token
from gateway.ids import derived_id
from gateway.problems import Problem
from gateway.rest.common import Allowed, Body, Call, Name, PathId, TimeZone, View
from rules.model import Rule
from storage.postgres import Connection

CHECKIN_POINTS_DEFAULT = 10
CHECKIN_RULE_ID = "rule_checkin"
ALL_SCOPES: tuple[str, ...] = ("manage", "read", "scan")

Points = Annotated[int, Field(ge=0, le=POINTS_PER_ENTRY_MAX)]
Overdraft = Annotated[int, Field(ge=0, le=limits.SAFE_INTEGER_MAX)]
Scope = Literal["manage", "read", "scan"]
Opener = Annotated[Call, Depends(Allowed("orgs.create"))]
OrgReader = Annotated[Call, Depends(Allowed("orgs.read"))]
OrgChanger = Annotated[Call, Depends(Allowed("orgs.update"))]
KeyManager = Annotated[Call, Depends(Allowed("api_keys.manage"))]
router = APIRouter(prefix="/v1/orgs", tags=["organisations"])


class NewOrg(Body):
    """`checkin_points` is what the rule "Points per check-in" awards for a card's first entry to an event; 0 =
    nothing."""

    name: Name
    time_zone: TimeZone = "UTC"
    overdraft_max: Overdraft = 0
    checkin_points: Points = CHECKIN_POINTS_DEFAULT


class OrgChange(Body):
    """What is left out stays as it is."""

    name: Name | None = None
    time_zone: TimeZone | None = None
    overdraft_max: Overdraft | None = None
    checkin_points: Points | None = None


class NewApiKey(Body):
    """`manage`: everything an organiser does; `read`: look at it; `scan`: check in."""

    name: Name = "API key"
    scopes: Annotated[
        list[Scope], Field(min_length=1, max_length=3, default_factory=lambda: ["manage", "read", "scan"])
    ]


class ApiKeyView(View):
    """A new key. `key` is shown here only (and to a retry with the same Idempotency-Key)."""

    id: str
    name: str
    scopes: list[str]
    key: str


class OrgView(View):
    """An organisation."""

    id: str
    name: str
    time_zone: str
    overdraft_max: int
    checkin_points: int


class NewOrgView(OrgView):
    """An organisation with its first API key."""

    api_key: ApiKeyView


@router.post("", status_code=201, summary="Create an organisation (SuperAdmin)")
async def open_org(body: NewOrg, call: Opener) -> NewOrgView:
    """Answers with the organisation's first API key, which has all scopes."""
    tenant_id = derived_id("org", "superadmin", call.request_id)
    rule = Rule(CHECKIN_RULE_ID, 1, "Points per check-in", "checkin", body.checkin_points)
    settings = TenantSettings(body.time_zone, body.overdraft_max, (rule,))
    opened = await call.tell(OpenTenant(tenant_id, call.request_id, b"", body.name, settings), TenantOpened)
    key_id = derived_id("key", tenant_id, call.request_id)
    secret = call.parts.secrets.secret("api_key", tenant_id, key_id)
    async with call.cold.connection() as connection:
        await call.cold.add_api_key(connection, tenant_id, key_id, "First key", hash_secret(secret), ALL_SCOPES)
    key = make_token("api_key", tenant_id, key_id, secret)
    api_key = ApiKeyView(id=key_id, name="First key", scopes=list(ALL_SCOPES), key=key)
    return NewOrgView(**_fields(opened.tenant_id, opened.name, opened.settings), api_key=api_key)


@router.get("/{org_id}", summary="An organisation")
async def get_org(org_id: PathId, call: OrgReader) -> OrgView:
    """Only the caller's own exists for it."""
    call = call.in_org(org_id)
    view = await call.query(GetTenant(org_id), TenantView)
    return OrgView(**_fields(view.tenant_id, view.name, view.settings))


@router.patch("/{org_id}", summary="Change an organisation")
async def change_org(org_id: PathId, body: OrgChange, call: OrgChanger) -> OrgView:
    """Changes what is given."""
    call = call.in_org(org_id)
    changed = await call.tell(
        ChangeTenant(org_id, call.request_id, b"", body.name, body.time_zone, body.overdraft_max, body.checkin_points),
        TenantChanged,
    )
    return OrgView(**_fields(org_id, changed.name, changed.settings))


@router.post("/{org_id}/api-keys", status_code=201, summary="Make an API key")
async def add_api_key(org_id: PathId, body: NewApiKey, call: KeyManager) -> ApiKeyView:
    """The key's secret is derived from the request id, so it is in no table and a retry gets the same."""
    call = call.in_org(org_id)
    key_id = derived_id("key", org_id, call.request_id)
    secret = call.parts.secrets.secret("api_key", org_id, key_id)
    scopes = sorted(set(body.scopes))

    async def work(connection: Connection) -> dict[str, object]:
        await call.cold.add_api_key(connection, org_id, key_id, body.name, hash_secret(secret), scopes)
        return {}

    await call.once("api-keys", body, work)
    return ApiKeyView(id=key_id, name=body.name, scopes=list(scopes), key=make_token("api_key", org_id, key_id, secret))


@router.delete("/{org_id}/api-keys/{key_id}", status_code=204, summary="Revoke an API key")
async def revoke_api_key(org_id: PathId, key_id: PathId, call: KeyManager) -> Response:
    """It stops working everywhere within a second, and its sockets are closed."""
    call = call.in_org(org_id)
    if not await call.cold.revoke("api_keys", org_id, key_id):
        raise Problem("api_key_unknown")
    await call.parts.access.publish(AccessChange("api_key", key_id, org_id))
    return Response(status_code=204)


def _fields(tenant_id: str, name: str, settings: TenantSettings) -> dict[str, Any]:
    points = sum(rule.points for rule in settings.rules if rule.rule_id == CHECKIN_RULE_ID)
    return {
        "id": tenant_id,
        "name": name,
        "time_zone": settings.time_zone,
        "overdraft_max": settings.overdraft_max,
        "checkin_points": points,
    }
