"""Callers of every kind, for each organisation of a world."""

from __future__ import annotations

from itertools import count

from gateway.identity.policy import Principal
from gateway.identity.tokens import hash_secret, make_token
from gateway.ids import derived_id
from tests.edge.in_process import SUPERADMIN_TOKEN
from tests.security.world import Seat, Tenant, World

_numbers = count()
PEOPLE: tuple[Principal, ...] = ("superadmin", "org_admin", "staff", "member", "account")


async def seats_of(world: World, tenant: Tenant) -> list[Seat]:
    """One caller for every name of the policy table, and a second one where the name has two sides to it."""
    return [
        Seat("the first superadmin", "superadmin", SUPERADMIN_TOKEN),
        *await _people(world, tenant),
        *await _keys(world, tenant),
        await _device_of_event(world, tenant),
        await _device_of_all(world, tenant),
    ]


async def _people(world: World, tenant: Tenant) -> list[Seat]:
    return [await person(world, tenant, principal) for principal in PEOPLE]


async def person(world: World, tenant: Tenant, principal: Principal) -> Seat:
    """Somebody new; a member has two cards."""
    system, mine = world.system, {}
    match principal:
        case "superadmin":
            signed_in = await system.superadmin()
        case "org_admin" | "staff":
            signed_in = await system.signed_in(principal, tenant.org_id)
        case "member":
            bundle = world.bundle(tenant)
            mine = {kind: await bundle.get(kind) for kind in ("member", "card")}
            await bundle.made("/v1/cards", {"member_id": mine["member"]})
            signed_in = await system.signed_in(principal, tenant.org_id, mine["member"])
        case _:
            signed_in = await system.register_and_login(f"nobody-{next(_numbers)}@example.com")
    account = signed_in["account"]
    return Seat(principal, principal, signed_in["access_token"], mine | {"account": account["id"]}, account["email"])


async def _keys(world: World, tenant: Tenant) -> list[Seat]:
    seats = []
    for principal in ("key:manage", "key:read", "key:scan"):
        body = {"name": principal, "scopes": [principal.removeprefix("key:")]}
        key = await world.system.made("POST", f"/v1/orgs/{tenant.org_id}/api-keys", body, tenant.key)
        seats.append(Seat(principal, principal, key["key"]))
    return seats


async def _device_of_event(world: World, tenant: Tenant) -> Seat:
    bundle = world.bundle(tenant)
    own = {kind: await bundle.get(kind) for kind in ("device", "event", "gate")}
    return Seat("device of an event", "device", bundle.ids["device_token"], own)


async def _device_of_all(world: World, tenant: Tenant) -> Seat:
    device_id = derived_id("dev", tenant.org_id, "all")
    await world.system.parts.pool.execute(
        "INSERT INTO devices (tenant_id, device_id, event_id, name, token_hash, created_at_ms) "
        "VALUES ($1, $2, '', 'All', $3, 1)",
        tenant.org_id,
        device_id,
        hash_secret("secret"),
    )
    token = make_token("device", tenant.org_id, device_id, "secret")
    return Seat("device of the organisation", "device", token, {"device": device_id})
