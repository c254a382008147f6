"""An organisation's API keys.

A key's secret is derived from the request that made or rotated it: it is in no table, and a retry gets the same again.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from gateway import limits
from gateway.access_feed import AccessChange
from gateway.identity.tokens import hash_secret, make_token
from gateway.ids import derived_id
from gateway.lists import page_of
from gateway.orgs import api_keys
from gateway.orgs.api_keys import KeyRow
from gateway.orgs.limits import KEY_OVERLAP_S_MAX
from gateway.problems import Problem, malformed
from gateway.render import rfc3339, rfc3339_or_none
from gateway.rest.common import Allowed, Body, Call, Cursor, Limit, Name, PathId, Time, View, ms
from storage.postgres import Connection

ALL_SCOPES: tuple[str, ...] = ("manage", "read", "scan")
Scope = Literal["manage", "read", "scan"]
KeyManager = Annotated[Call, Depends(Allowed("api_keys.manage"))]
router = APIRouter(prefix="/v1/orgs/{org_id}/api-keys", tags=["API keys"])


class NewApiKey(Body):
    """`manage`: everything an organiser does; `read`: look at it; `scan`: check in. Without `expires_at` it has no
    end."""

    name: Name = "API key"
    scopes: Annotated[
        list[Scope], Field(min_length=1, max_length=3, default_factory=lambda: ["manage", "read", "scan"])
    ]
    expires_at: Time | None = None


class KeyRotation(Body):
    """For how long the old secret goes on working, up to a day; and, if given, another end of the key."""

    overlap_seconds: Annotated[int, Field(ge=0, le=KEY_OVERLAP_S_MAX)] = 0
    expires_at: Time | None = None


class ApiKeyView(View):
    """A key with its secret. `key` is shown here only (and to a retry with the same Idempotency-Key)."""

    id: str
    name: str
    scopes: list[str]
    expires_at: str | None
    key: str


class RotatedKeyView(ApiKeyView):
    """A key with its new secret. The old one works until `old_key_until`; null: no longer."""

    old_key_until: str | None


class ListedKeyView(View):
    """A key, without its secret. `prefix` is what its text begins with; `last_used_at` is a minute behind at most."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    in_force: bool
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    rotated_at: str | None
    old_key_until: str | None
    last_used_at: str | None


class ApiKeyPage(View):
    """A page of keys."""

    items: list[ListedKeyView]
    next_cursor: str | None


@router.post("", status_code=201, summary="Make an API key")
async def add_api_key(org_id: PathId, body: NewApiKey, call: KeyManager) -> ApiKeyView:
    """The key is shown once."""
    call = call.in_org(org_id)
    expires_at_ms = ms(body.expires_at) or None
    key_id = derived_id("key", org_id, call.request_id)
    secret = api_keys.secret_of(call.parts.secrets, org_id, key_id)
    scopes = sorted(set(body.scopes))

    async def work(connection: Connection) -> dict[str, Any]:
        now_ms = call.parts.clock_ms()
        _check_end(expires_at_ms, now_ms)
        hashed = hash_secret(secret)
        await api_keys.add(connection, org_id, key_id, body.name, hashed, scopes, expires_at_ms, now_ms)
        await call.note(connection, key_id, detail={"made": body.name, "scopes": scopes})
        return {}

    await call.once("api-keys", body, work)
    return ApiKeyView(
        id=key_id,
        name=body.name,
        scopes=list(scopes),
        expires_at=rfc3339_or_none(expires_at_ms or 0),
        key=make_token("api_key", org_id, key_id, secret),
    )


@router.get("", summary="API keys")
async def list_api_keys(
    org_id: PathId, call: KeyManager, limit: Limit = limits.PAGE_ITEMS_DEFAULT, cursor: Cursor = None
) -> ApiKeyPage:
    """In the order of their ids, revoked and expired ones too."""
    call = call.in_org(org_id)
    now_ms = call.parts.clock_ms()
    async with call.cold.connection() as connection:
        read = partial(api_keys.page, connection, org_id)
        page = await page_of(("api-keys", org_id), cursor, limit, read, lambda row: row.key_id)
    return ApiKeyPage(items=[_listed(org_id, row, now_ms) for row in page.rows], next_cursor=page.next_cursor)


@router.post("/{key_id}/rotate", summary="Give an API key a new secret")
async def rotate_api_key(org_id: PathId, key_id: PathId, body: KeyRotation, call: KeyManager) -> RotatedKeyView:
    """The old secret stops at once, or works for `overlap_seconds` more; what is left of an earlier overlap ends."""
    call = call.in_org(org_id)
    secret = api_keys.secret_of(call.parts.secrets, org_id, key_id, call.request_id)

    async def work(connection: Connection) -> dict[str, Any]:
        now_ms = call.parts.clock_ms()
        until_ms = now_ms + body.overlap_seconds * 1_000 if body.overlap_seconds else None
        expires_at_ms = ms(body.expires_at) or None
        _check_end(expires_at_ms, now_ms)
        hashed = hash_secret(secret)
        row = await api_keys.rotate(connection, org_id, key_id, hashed, until_ms, expires_at_ms, now_ms)
        if row is None:
            raise Problem("api_key_unknown")
        await call.note(connection, key_id, detail={"rotated": row.name, "overlap_seconds": body.overlap_seconds})
        return {
            "name": row.name,
            "scopes": row.scopes,
            "expires_at": rfc3339_or_none(row.expires_at_ms or 0),
            "old_key_until": rfc3339_or_none(until_ms or 0),
        }

    answer = await call.once(f"rotate {org_id} {key_id}", body, work)
    await call.parts.access.publish(AccessChange("api_key", key_id, org_id))
    return RotatedKeyView(id=key_id, key=make_token("api_key", org_id, key_id, secret), **answer)


@router.delete("/{key_id}", status_code=204, summary="Revoke an API key")
async def revoke_api_key(org_id: PathId, key_id: PathId, call: KeyManager) -> Response:
    """It stops working everywhere within a second, and its sockets are closed."""
    call = call.in_org(org_id)
    async with call.cold.connection() as connection, connection.transaction():
        if not await api_keys.revoke(connection, org_id, key_id, call.parts.clock_ms()):
            raise Problem("api_key_unknown")
        await call.note(connection, key_id, detail={"revoked": True})
    await call.parts.access.publish(AccessChange("api_key", key_id, org_id))
    return Response(status_code=204)


def _check_end(expires_at_ms: int | None, now_ms: int) -> None:
    """Raises `Problem` for a key that would be over already."""
    if expires_at_ms is not None and expires_at_ms <= now_ms:
        raise malformed("#/expires_at", "the key would be over already")


def _listed(org_id: str, row: KeyRow, now_ms: int) -> ListedKeyView:
    old_until_ms = row.previous_until_ms or 0
    return ListedKeyView(
        id=row.key_id,
        name=row.name,
        prefix=make_token("api_key", org_id, row.key_id, ""),
        scopes=row.scopes,
        in_force=row.is_in_force(now_ms),
        created_at=rfc3339(row.created_at_ms),
        expires_at=rfc3339_or_none(row.expires_at_ms or 0),
        revoked_at=rfc3339_or_none(row.revoked_at_ms or 0),
        rotated_at=rfc3339_or_none(row.rotated_at_ms or 0),
        old_key_until=rfc3339_or_none(old_until_ms if now_ms < old_until_ms else 0),
        last_used_at=rfc3339_or_none(row.last_used_at_ms or 0),
    )
