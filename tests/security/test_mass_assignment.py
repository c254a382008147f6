"""Nobody sets what is not theirs to set (API3): every object in every body refuses every field that it does not take,
named; frames of sockets, which ignore unknown fields, are not moved by them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.edge import FakeEdge
from tests.security.clerk import Clerk
from tests.security.judge import reach_to
from tests.security.questions import Asker, filled
from tests.security.surface import Operation, Schema, Surface
from tests.security.world import Seat, Tenant, World
from tests.support.asgi_socket import open_socket

SURFACE = Surface(FakeEdge().app)
ASKER = Asker(SURFACE)
WITH_BODY = [operation for operation in SURFACE.operations if operation.body is not None]
# Fields of tables and of commands; to these come all fields that any answer or any other body has.
COVETED = {
    "account_id", "admitted", "at_ms", "balance", "balance_after", "created_at", "created_at_ms", "deleted",
    "email_verified", "epoch", "fingerprint", "id", "inside", "is_admin", "is_superadmin", "org_id", "owner",
    "owner_id", "password_hash", "permissions", "plan", "platform_role", "position", "principal", "quota", "refused",
    "revoked_at_ms", "role", "roles", "scopes", "secret_hash", "seq", "state", "suspended", "tenant", "tenant_id",
    "token_hash", "verified_at_ms", "__class__", "__proto__", "constructor", "$ref",
}  # fmt: skip
# One after the other, where the decoder stops at the first.
COVETED_ONE_BY_ONE = (
    "tenant_id",
    "org_id",
    "balance",
    "role",
    "plan",
    "epoch",
    "created_at",
    "device_id",
    "is_offline",
)
# Objects that take whatever the organisation keeps, with the reason why that is safe.
OPEN_OBJECTS: dict[str, str] = {}
JUDGED_ITEM_BY_ITEM = "/v1/checkins:batch"
HOT = ("/v1/checkins", JUDGED_ITEM_BY_ITEM, "/v1/cards/{card_id}/points/", "/v1/cards/{card_id}/wallet/")

pytestmark = pytest.mark.asyncio(loop_scope="module")


def all_fields() -> set[str]:
    """Every field that is in the document somewhere."""
    found = set(COVETED)
    for schema in SURFACE.document["components"]["schemas"].values():
        found |= schema.get("properties", {}).keys()
    return found


def planted(body: Any, operation: Operation, pointer: str, extra: dict[str, Any]) -> Any:
    """The body with more fields in the object at the pointer; objects on the way there are made where they are not."""
    schema: Schema = operation.body or {}
    body = here = dict(body) if isinstance(body, dict) else {}
    for step in pointer.split("/")[1:]:
        schema = SURFACE.plain(schema)
        inner = SURFACE.plain(schema["items"] if step == "0" else schema["properties"][step])
        empty: Any = [] if inner.get("type") == "array" else {}
        if step == "0":
            here[:] = [dict(here[0]) if here else empty]
            here = here[0]
        else:
            found = here.get(step)
            here[step] = list(found) if isinstance(found, list) else dict(found) if isinstance(found, dict) else empty
            here = here[step]
        schema = inner
    here.update(extra)
    return body


def seat_for(operation: Operation, tenant: Tenant) -> Seat:
    """Somebody who may do it; for what is public, anybody."""
    return next(seat for seat in tenant.seats if not operation.action or reach_to(operation.action, seat) is not None)


@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda operation: operation.name)
async def test_fields_that_are_not_taken_are_refused_by_name(world: World, operation: Operation) -> None:
    tenant, other = world.tenants
    seat = seat_for(operation, tenant)
    question = ASKER.questions(operation)[0]
    values = await Clerk(world).own(question, seat, tenant)
    before = await world.digest(tenant)
    for pointer, schema in SURFACE.objects(operation.body or {}):
        if f"{operation.name} {pointer}" in OPEN_OBJECTS:
            continue
        fields = all_fields() - schema["properties"].keys()
        is_hot = operation.path.startswith(HOT)
        for chosen in [{field} for field in COVETED_ONE_BY_ONE if field in fields] if is_hot else [fields]:
            body = planted(question.content(values), operation, pointer, dict.fromkeys(chosen, other.org_id))
            answer = await world.system.call(operation.method, question.address(values), body, seat.token)
            problem = answer.json()
            if operation.path == JUDGED_ITEM_BY_ITEM and pointer != "#":
                problem = problem["items"][0]["problem"]
                pointers = {f"#/items/0{error['pointer'][1:]}" for error in problem["errors"]}
            else:
                pointers = {error.get("pointer") for error in problem.get("errors", ())}
            assert problem["status"] == 400, (pointer, chosen, answer.body[:300])
            assert {f"{pointer}/{field}" for field in chosen} <= pointers
    assert await world.digest(tenant) == before, "what is refused changes nothing"


async def test_frames_are_not_moved_by_fields_that_they_do_not_take(world: World) -> None:
    tenant, other = world.tenants
    seat = next(seat for seat in tenant.seats if seat.name == "device of an event")
    bundle = world.bundle(tenant)
    bundle.take(seat.own)
    extra = dict.fromkeys(COVETED_ONE_BY_ONE, other.org_id) | {
        "forced_by": "x",
        "force": True,
        "card_id": "x",
        "member_id": "x",
    }
    hello = {"t": "hello", "event_id": seat.own["event"], "gate_id": seat.own["gate"]}
    scan = {"t": "scan", "id": "mass-assigned", "credential": await bundle.get("credential")}
    async with open_socket(world.system.app, "/v1/scan", seat.token) as socket:
        answers = []
        for frame in (hello | extra, scan | extra, scan):
            await socket.send(filled(frame, {}))
            answer = await socket.receive()
            while answer is not None and answer["t"] not in ("welcome", "verdict", "error"):
                answer = await socket.receive()
            answers.append(answer or {})
    _, first, again = answers
    assert (first["verdict"], first["card_id"], first["event_id"]) == (
        "admitted",
        bundle.ids["card"],
        seat.own["event"],
    )
    assert again == {**first, "replayed": True}, "a fingerprint of the same request"
    await world.projected(tenant)
    log = f"/v1/events/{seat.own['event']}/checkins?device_id={seat.own['device']}"
    scans = (await world.system.made("GET", log, token=tenant.key))["items"]
    assert [(each["scan_id"], each["device_id"]) for each in scans] == [("mass-assigned", seat.own["device"])]
