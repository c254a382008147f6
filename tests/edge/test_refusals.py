"""Refusals that no other test meets: what the public API answers, by code."""

from __future__ import annotations

import msgspec

from actors.replies import Failed
from tests.edge.asgi import call
from tests.edge.edge import KEY, FakeEdge, bearer
from tests.edge.in_process import System


async def test_a_capacity_below_the_people_inside(system: System) -> None:
    key = (await system.open_org())["key"]
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 5}, key)
    for number in range(2):
        card = await system.made("POST", "/v1/cards", {"member": {"name": f"Guest {number}"}}, key)
        scan = {"event_id": event["id"], "credential": card["credential"]}
        assert (await system.made("POST", "/v1/checkins", scan, key))["verdict"] == "admitted"
    path = f"/v1/events/{event['id']}"
    answer = await system.call("PATCH", path, {"capacity": 1}, key)
    assert (answer.status, answer.json()["code"]) == (409, "capacity_invalid")
    assert (await system.made("GET", path, token=key))["capacity"] == 5


async def test_a_code_of_a_newer_host_is_our_fault_and_not_told() -> None:
    edge = FakeEdge()
    edge.engine.failure = Failed("invented_tomorrow", "a secret of the engine")
    answer = await call(edge.app, "GET", "/v1/cards/card_1", None, bearer(KEY))
    told = msgspec.json.decode(answer.body)
    assert (answer.status, told["code"]) == (500, "internal")
    assert "invented_tomorrow" not in answer.body.decode()
