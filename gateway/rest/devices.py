"""Scanner devices: one-time pairing codes, the tokens they are exchanged for, and what becomes of a device after.

Rules:
1. A pairing code names its organisation, so it is looked up in one place; its other part has 50 bits, lives for 15
   minutes and works once. Only its hash is stored. Guessing is bounded per client address.
2. Id and token of a device are derived from the code and the Idempotency-Key of the pairing. So a device whose first
   answer was lost gets the same token again, within 10 minutes and with the same key; anybody else who comes with a
   used code gets nothing.
3. A device that is known is paired again under its id: with the new token the old one dies, and its socket ends.
4. A device is bound to one event or to the whole organisation. The gate that it stands at is one of its event's; a
   device of the whole organisation names it where it names the event, with each scan or in the socket's hello.
5. Every gateway hears of a change at once (`gateway.access_feed`), so that it holds everywhere within a second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from actors.queries import GetEvent
from actors.replies import EventView as EngineEventView
from gateway import admin_log, devices, limits
from gateway.access_feed import AccessChange
from gateway.cold import ColdStore
from gateway.credential_images import qr_png, qr_svg
from gateway.devices import DeviceRow, PairingCode
from gateway.entrance import Entrance
from gateway.http import request_headers
from gateway.identity.callers import Caller
from gateway.identity.tokens import hash_secret, make_token
from gateway.ids import derived_id, is_id
from gateway.lists import list_devices
from gateway.parts import EdgeParts
from gateway.problems import Problem, malformed
from gateway.render import rfc3339, rfc3339_or_none
from gateway.rest.common import ID_PATTERN, Allowed, Body, Call, Cursor, Id, Limit, Name, PathId, View, edge_parts
from gateway.rest.preconditions import Copied, Edit, Editing, digest_of, tag_of
from storage.postgres import Connection

Choice = tuple[str, str, str]  # name, event_id, gate_id
DeviceManager = Annotated[Call, Depends(Allowed("devices.manage"))]
DeviceReader = Annotated[Call, Depends(Allowed("devices.read"))]
Self = Annotated[Call, Depends(Allowed("devices.self"))]
Format = Annotated[Literal["text", "png", "svg"] | None, Query()]
router = APIRouter(prefix="/v1", tags=["devices"])


class NewEventDevice(Body):
    """A scanner to be paired, and the gate that it will stand at."""

    name: Name = "Scanner"
    gate_id: Id | None = None


class NewDevice(NewEventDevice):
    """The same; without `event_id` it is bound to the whole organisation."""

    event_id: Id | None = None


class DeviceChange(Body):
    """What is left out stays as it is. `event_id` null binds the device to the whole organisation, `gate_id` null takes
    it from its gate; another event does that, too."""

    name: Name | None = None
    event_id: Id | None = None
    gate_id: Id | None = None


class GateChoice(Body):
    """The gate that the device stands at; null for none."""

    gate_id: Id | None


class Again(Body):
    """Nothing has to be told."""


class PairingCodeView(View):
    """Enter `pairing_code` on the device, or have it read `pairing_qr` (an SVG image), before `expires_at`."""

    device_id: str
    event_id: str | None
    name: str
    pairing_code: str
    pairing_qr: str
    expires_at: str


class Pairing(Body):
    """The code that the organiser was given."""

    code: Annotated[str, Field(min_length=1, max_length=128, pattern="^[A-Za-z0-9_.-]+$")]


class DeviceTokenView(View):
    """A paired device. Send the token as `Authorization: Bearer`."""

    device_id: str
    org_id: str
    event_id: str | None
    gate_id: str | None
    name: str
    token: str


class DeviceView(View):
    """A device. `event_id` null: bound to the whole organisation. `last_seen_at` is exact to a minute or so."""

    id: str
    name: str
    event_id: str | None
    gate_id: str | None
    paired_at: str
    last_seen_at: str | None
    revoked_at: str | None


class DevicePage(View):
    """A page of devices."""

    items: list[DeviceView]
    next_cursor: str | None


class GateRef(View):
    """A gate to choose."""

    id: str
    name: str
    open: bool


class OwnDeviceView(DeviceView):
    """A device as it sees itself, with the gates that it may choose from (none where it is bound to no event)."""

    org_id: str
    gates: list[GateRef]


_CODE_ANSWER: dict[int | str, dict[str, Any]] = {
    201: {
        "model": PairingCodeView,
        "description": "As JSON, or in the format asked for",
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "image/svg+xml": {"schema": {"type": "string"}},
        },
    }
}


@router.post(
    "/events/{event_id}/devices",
    status_code=201,
    summary="Make a pairing code for a scanner of an event",
    response_model=None,
    responses=_CODE_ANSWER,
)
async def add_event_device(
    event_id: PathId, body: NewEventDevice, call: DeviceManager, format: Format = None
) -> Response | PairingCodeView:
    """The code works once. Asked again with the same Idempotency-Key and another `format`, it is the same code."""
    gate_id = await _gate(call, event_id, body.gate_id)
    return await _code(call, f"devices {event_id}", body, PairingCode(event_id, body.name, gate_id), format)


@router.post(
    "/devices",
    status_code=201,
    summary="Make a pairing code for a scanner of an event or of the whole organisation",
    response_model=None,
    responses=_CODE_ANSWER,
)
async def add_device(body: NewDevice, call: DeviceManager, format: Format = None) -> Response | PairingCodeView:
    """The code works once. Asked again with the same Idempotency-Key and another `format`, it is the same code."""
    event_id = body.event_id or ""
    gate_id = await _gate(call, event_id, body.gate_id)
    return await _code(call, "devices", body, PairingCode(event_id, body.name, gate_id), format)


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
    found = None
    if is_id(tenant_id):
        found = await _pair(cold, parts, tenant_id, body.code, hash_secret(secret), request_id)
    if found is None:
        raise Problem("pairing_code_invalid")
    await parts.limiter.give_back(attempt)
    device = found.device
    if found.is_again:
        await parts.access.publish(AccessChange("device", device.device_id, tenant_id))
    return DeviceTokenView(
        device_id=device.device_id,
        org_id=tenant_id,
        event_id=device.event_id or None,
        gate_id=device.gate_id or None,
        name=device.name,
        token=make_token("device", tenant_id, device.device_id, secret),
    )


@router.get("/devices/self", summary="The device that asks")
async def get_self(call: Self, copied: Copied) -> OwnDeviceView:
    """What it is bound to, where it stands, and the gates that it may choose from."""
    row = await _device(call, call.caller.device_id)
    view = await _own_view(call, row)
    copied.tagged(_tag(row, view))
    return view


@router.patch("/devices/self", summary="Choose the gate that the asking device stands at")
async def change_self(body: GateChoice, call: Self, edit: Editing) -> OwnDeviceView:
    """Its scans that name no gate are of this one from now on, also on a socket that is open."""

    async def chosen(before: DeviceRow) -> Choice:
        return before.name, before.event_id, await _gate(call, before.event_id, body.gate_id)

    row = await _changed(call, call.caller.device_id, body, edit, chosen)
    view = await _own_view(call, row)
    edit.tagged(_tag(row, view))
    return view


@router.get("/devices", summary="Devices")
async def all_devices(
    call: DeviceReader,
    event_id: Annotated[str | None, Query(min_length=1, max_length=64, pattern=ID_PATTERN)] = None,
    revoked: Annotated[bool | None, Query()] = None,
    limit: Limit = limits.PAGE_ITEMS_DEFAULT,
    cursor: Cursor = None,
) -> DevicePage:
    """Those that were paired, in the order of their ids; of one event, in force or revoked where asked for."""
    page = await list_devices(call.parts.pool, call.tenant_id, event_id, revoked, limit, cursor)
    return DevicePage(items=[DeviceView(**_fields(row)) for row in page.rows], next_cursor=page.next_cursor)


@router.get("/devices/{device_id}", summary="A device")
async def get_device(device_id: PathId, call: DeviceReader, copied: Copied) -> DeviceView:
    """Also one that was revoked."""
    row = await _device(call, device_id)
    view = DeviceView(**_fields(row))
    copied.tagged(_tag(row, view))
    return view


@router.patch("/devices/{device_id}", summary="Rename a device, bind it to another event, put it at a gate")
async def change_device(device_id: PathId, body: DeviceChange, call: DeviceManager, edit: Editing) -> DeviceView:
    """A device that is bound to something else is asked to connect again."""
    given = body.model_fields_set

    async def chosen(before: DeviceRow) -> Choice:
        event_id = (body.event_id or "") if "event_id" in given else before.event_id
        gate_id = before.gate_id if event_id == before.event_id else ""
        if "gate_id" in given:
            gate_id = await _gate(call, event_id, body.gate_id)
        elif event_id and event_id != before.event_id:
            await _gate(call, event_id, None)
        return body.name or before.name, event_id, gate_id

    row = await _changed(call, device_id, body, edit, chosen)
    view = DeviceView(**_fields(row))
    edit.tagged(_tag(row, view))
    return view


@router.post(
    "/devices/{device_id}/pairing-code",
    status_code=201,
    summary="Make a pairing code for a known device",
    response_model=None,
    responses=_CODE_ANSWER,
)
async def pair_again(
    device_id: PathId, call: DeviceManager, body: Again | None = None, format: Format = None
) -> Response | PairingCodeView:
    """Once the code is used, the device's old token is no longer good. Until then it is."""
    row = await _device(call, device_id)
    if row.revoked_at_ms is not None:
        raise Problem("device_revoked")
    code = PairingCode(row.event_id, row.name, row.gate_id, device_id)
    return await _code(call, f"pairing-code {device_id}", body or Again(), code, format)


@router.delete("/devices/{device_id}", status_code=204, summary="Revoke a device, for good")
async def revoke_device(device_id: PathId, call: DeviceManager) -> Response:
    """Its token stops working everywhere within a second, and its socket is closed."""
    now_ms = call.parts.clock_ms()
    async with call.cold.connection() as connection, connection.transaction():
        revoked_at_ms = await devices.revoke(connection, call.tenant_id, device_id, now_ms)
        if revoked_at_ms is None:
            raise Problem("device_unknown")
        if revoked_at_ms == now_ms:  # else it was noted then
            await call.note(connection, device_id, detail={"revoked": True})
    await call.parts.access.publish(AccessChange("device", device_id, call.tenant_id))
    return Response(status_code=204)


async def _gate(call: Call, event_id: str, gate_id: str | None) -> str:
    """The gate to be stored; that the event exists and has it is checked. Raises `Problem`."""
    if not event_id:
        if gate_id is not None:
            raise malformed("#/gate_id", "A device of the whole organisation stands at no gate.")
        return ""
    event = await call.query(GetEvent(call.tenant_id, event_id), EngineEventView)
    if gate_id is not None and all(gate.gate_id != gate_id for gate in event.terms.gates):
        raise Problem("gate_unknown")
    return gate_id or ""


async def _code(
    call: Call, route: str, body: Body, code: PairingCode, format: Literal["text", "png", "svg"] | None
) -> Response | PairingCodeView:
    """A new code, or the one that was made under the same request id."""
    tenant_id, secrets = call.tenant_id, call.parts.secrets
    text = f"{tenant_id}.{secrets.code('pairing', tenant_id, code.device_id or code.event_id, call.request_id)}"
    device_id = code.device_id or _device_id(tenant_id, text)

    async def work(connection: Connection) -> dict[str, Any]:
        if await devices.count_in_force(connection, tenant_id) >= limits.DEVICES_PER_TENANT_MAX and not code.device_id:
            raise Problem("limit_reached", f"At most {limits.DEVICES_PER_TENANT_MAX} devices are in force at a time.")
        now_ms = call.parts.clock_ms()
        until_ms = await devices.add_pairing_code(connection, tenant_id, hash_secret(text), code, now_ms)
        invited = {"invited": code.name, "event": code.event_id, "gate": code.gate_id}
        await call.note(connection, device_id, detail={"invited_again": True} if code.device_id else invited)
        return {"until_ms": until_ms}

    answer = await call.once(route, body, work)
    if format == "text":
        return Response(text, 201, media_type="text/plain; charset=utf-8")
    if format == "png":
        return Response(qr_png(text), 201, media_type="image/png")
    if format == "svg":
        return Response(qr_svg(text), 201, media_type="image/svg+xml")
    return PairingCodeView(
        device_id=device_id,
        event_id=code.event_id or None,
        name=code.name,
        pairing_code=text,
        pairing_qr=qr_svg(text).decode(),
        expires_at=rfc3339(answer["until_ms"]),
    )


async def _pair(
    cold: ColdStore, parts: EdgeParts, tenant_id: str, code: str, token_hash: bytes, request_id: str
) -> devices.Paired | None:
    now_ms = parts.clock_ms()
    new_id = _device_id(tenant_id, code)
    async with cold.connection() as connection, connection.transaction():
        found = await devices.pair(connection, tenant_id, hash_secret(code), new_id, token_hash, now_ms)
        if found is not None and not found.is_replay:
            device_id = found.device.device_id
            itself = Caller(tenant_id, "device", device_id=device_id)
            await admin_log.note(
                connection, tenant_id, now_ms, itself, request_id, "devices.manage", device_id, paired=True
            )
    return found


async def _device(call: Call, device_id: str) -> DeviceRow:
    async with call.cold.connection() as connection:
        row = await devices.find(connection, call.tenant_id, device_id)
    if row is None:
        raise Problem("device_unknown")
    return row


async def _changed(
    call: Call, device_id: str, body: Body, edit: Edit, chosen: Callable[[DeviceRow], Awaitable[Choice]]
) -> DeviceRow:
    """The device after a change that every gateway has heard of. Raises `Problem`."""

    async def work(connection: Connection) -> dict[str, Any]:
        before = await devices.find(connection, call.tenant_id, device_id, is_locking=True)
        if before is None:
            raise Problem("device_unknown")
        if before.revoked_at_ms is not None:
            raise Problem("device_revoked")
        edit.check(_version(before))
        name, event_id, gate_id = await chosen(before)
        await devices.change(connection, call.tenant_id, device_id, name, event_id, gate_id)
        if call.reach != "own":
            await call.note(connection, device_id, detail={"name": name, "event": event_id, "gate": gate_id})
        return {}

    # What is given as null is something else than what is left out.
    await call.once(f"change device {device_id} {sorted(body.model_fields_set)}{edit.asked()}", body, work)
    await call.parts.access.publish(AccessChange("device", device_id, call.tenant_id))
    return await _device(call, device_id)


def _version(row: DeviceRow) -> str:
    """Of what can be edited."""
    return digest_of(row.name, row.event_id, row.gate_id)


def _tag(row: DeviceRow, view: View) -> str:
    return tag_of(_version(row), view.model_dump_json())


async def _own_view(call: Call, row: DeviceRow) -> OwnDeviceView:
    gates: list[GateRef] = []
    if row.event_id:
        event = await call.query(GetEvent(call.tenant_id, row.event_id), EngineEventView)
        gates = [GateRef(id=gate.gate_id, name=gate.name, open=gate.is_open) for gate in event.terms.gates]
    return OwnDeviceView(**_fields(row), org_id=call.tenant_id, gates=gates)


def _fields(row: DeviceRow) -> dict[str, Any]:
    return {
        "id": row.device_id,
        "name": row.name,
        "event_id": row.event_id or None,
        "gate_id": row.gate_id or None,
        "paired_at": rfc3339(row.paired_at_ms),
        "last_seen_at": rfc3339_or_none(row.last_seen_ms or 0),
        "revoked_at": rfc3339_or_none(row.revoked_at_ms or 0),
    }


def _device_id(tenant_id: str, code: str) -> str:
    return derived_id("dev", tenant_id, code)
