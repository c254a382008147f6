"""Scanner devices: a one-time pairing code for an event, and the device token it is exchanged for.

Rules:
1. A pairing code names its organisation, so it is looked up in one place; its other part has 50 bits, lives for 15
   minutes and pairs one device. Only its hash is stored. Guessing is bounded per client address.
2. Device id and token are derived from the code and the Idempotency-Key of the pairing. So a device whose first answer
   was lost gets the same token again, within 10 minutes and with the same key; anybody else who comes with a used code
   gets nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from actors.queries import GetEvent
from actors.replies import EventView
from gateway import limits
from gateway.access_feed import AccessChange
from gateway.cold import ColdStore
from gateway.entrance import Entrance
from gateway.http import request_headers
from gateway.identity.tokens import hash_secret, make_token
from gateway.ids import derived_id, is_id
from gateway.parts import EdgeParts
from gateway.problems import Problem
from gateway.render import rfc3339
from gateway.rest.common import Allowed, Body, Call, Name, PathId, View, edge_parts
from storage.postgres import Connection

DeviceManager = Annotated[Call, Depends(Allowed("devices.manage"))]
router = APIRouter(prefix="/v1", tags=["devices"])


class NewDevice(Body):
    """A scanner to be paired."""

    name: Name = "Scanner"


class PairingCodeView(View):
    """Enter `code` on the device before `expires_at`."""

    device_id: str
    event_id: str
    name: str
    pairing_code: str
    expires_at: str


class Pairing(Body):
    """The code that the organiser was given."""

    code: Annotated[str, Field(min_length=1, max_length=128, pattern="^[A-Za-z0-9_.-]+$")]


class DeviceTokenView(View):
    """A paired device. Send the token as `Authorization: Bearer`."""

    device_id: str
    org_id: str
    event_id: str
    name: str
    token: str


@router.post("/events/{event_id}/devices", status_code=201, summary="Make a pairing code for a scanner")
async def add_device(event_id: PathId, body: NewDevice, call: DeviceManager) -> PairingCodeView:
    """The code works once."""
    await call.query(GetEvent(call.tenant_id, event_id), EventView)
    code = f"{call.tenant_id}.{call.parts.secrets.code('pairing', call.tenant_id, event_id, call.request_id)}"
    until_ms = call.parts.clock_ms() + limits.PAIRING_CODE_VALID_MS

    async def work(connection: Connection) -> dict[str, Any]:
        await call.cold.add_pairing_code(connection, call.tenant_id, hash_secret(code), event_id, body.name, until_ms)
        device_id = _device_id(call.tenant_id, code)
        await call.note(connection, device_id, detail={"invited": body.name, "event": event_id})
        return {"until_ms": until_ms}

    answer = await call.once(f"devices {event_id}", body, work)
    return PairingCodeView(
        device_id=_device_id(call.tenant_id, code),
        event_id=event_id,
        name=body.name,
        pairing_code=code,
        expires_at=rfc3339(answer["until_ms"]),
    )


@router.post("/devices/pair", status_code=201, summary="Exchange a pairing code for a device token")
async def pair(body: Pairing, request: Request, parts: Annotated[EdgeParts, Depends(edge_parts)]) -> DeviceTokenView:
    """Needs no credentials but the code."""
    entrance: Entrance = request.app.state.entrance
    cold: ColdStore = request.app.state.cold
    # Counted before the code is looked at and given back if it was good: guesses at the same time count, too.
    attempt = ("pairing-failed-ip", entrance.address(request.scope))
    await parts.limiter.check(attempt)
    tenant_id = body.code.rpartition(".")[0]
    request_id = request_headers(request.scope["headers"]).idempotency_key or parts.ids.request_id()
    secret = parts.secrets.secret("device", tenant_id, body.code, request_id)
    device_id = _device_id(tenant_id, body.code)
    found = None
    if is_id(tenant_id):
        found = await cold.pair(tenant_id, hash_secret(body.code), device_id, hash_secret(secret))
    if found is None:
        raise Problem("pairing_code_invalid")
    await parts.limiter.give_back(attempt)
    token = make_token("device", tenant_id, device_id, secret)
    return DeviceTokenView(device_id=device_id, org_id=tenant_id, event_id=found[0], name=found[1], token=token)


@router.delete("/devices/{device_id}", status_code=204, summary="Revoke a device")
async def revoke_device(device_id: PathId, call: DeviceManager) -> Response:
    """Its token stops working everywhere within a second, and its socket is closed."""
    async with call.cold.connection() as connection, connection.transaction():
        if not await call.cold.revoke_device(connection, call.tenant_id, device_id):
            raise Problem("device_unknown")
        await call.note(connection, device_id, detail={"revoked": True})
    await call.parts.access.publish(AccessChange("device", device_id, call.tenant_id))
    return Response(status_code=204)


def _device_id(tenant_id: str, code: str) -> str:
    return derived_id("dev", tenant_id, code)
