"""Scanner devices: pairing and pairing again, what they are bound to, their gate, the list, the end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from gateway import limits
from gateway.access_feed import AccessChange
from gateway.devices import Sightings
from storage.postgres import reader_pool
from tests.edge.in_process import System

MINUTE_MS = 60_000


class Org:
    """An organisation with an event with two gates, and its key."""

    def __init__(self, system: System, key: str, event: dict[str, Any]) -> None:
        self.system = system
        self.key = key
        self.event_id: str = event["id"]
        self.gates: list[str] = [gate["id"] for gate in event["gates"]]

    async def made(self, method: str, path: str, body: Any = None, token: str | None = None, **more: Any) -> Any:
        return await self.system.made(method, path, body, token or self.key, **more)

    async def refused(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, str]:
        answer = await self.system.call(method, path, body, token or self.key)
        return answer.status, answer.json()["code"]

    async def paired(self, **fields: Any) -> Any:
        """A device with its token."""
        asked = await self.made("POST", "/v1/devices", {"event_id": self.event_id} | fields)
        return await self.system.made("POST", "/v1/devices/pair", {"code": asked["pairing_code"]})

    async def another_event(self) -> Any:
        gates = [{"name": "South"}]
        return await self.made("POST", "/v1/events", {"name": "Ball", "capacity": 5, "gates": gates})


@pytest.fixture
async def org(system: System) -> Org:
    key = (await system.open_org())["key"]
    gates = [{"name": "North"}, {"name": "River"}]
    return Org(
        system, key, await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 9, "gates": gates}, key)
    )


class TestPairing:
    async def test_the_code_comes_as_text_and_as_a_picture_and_stays_the_same(self, org: Org) -> None:
        path = f"/v1/events/{org.event_id}/devices"
        asked = await org.system.call("POST", path, {"name": "Door"}, org.key, key="one")
        code = asked.json()["pairing_code"]
        assert asked.json()["pairing_qr"].lstrip().startswith("<?xml")
        seen = {}
        for form in ("text", "svg", "png"):
            answer = await org.system.call("POST", f"{path}?format={form}", {"name": "Door"}, org.key, key="one")
            assert answer.status == 201
            seen[answer.headers["content-type"].split(";")[0]] = answer.body
        assert seen["text/plain"].decode() == code
        assert seen["image/svg+xml"].decode() == asked.json()["pairing_qr"]
        assert seen["image/png"].startswith(b"\x89PNG")
        assert (await org.system.call("POST", f"{path}?format=gif", {}, org.key)).status == 400

    async def test_a_device_of_the_whole_organisation_scans_for_all_its_events(self, org: Org) -> None:
        asked = await org.made("POST", "/v1/devices", {"name": "Roving"})
        assert asked["event_id"] is None
        device = await org.system.made("POST", "/v1/devices/pair", {"code": asked["pairing_code"]})
        assert (device["event_id"], device["gate_id"], device["name"]) == (None, None, "Roving")
        card = await org.made("POST", "/v1/cards", {"member": {"name": "Ann"}})
        for event_id in (org.event_id, (await org.another_event())["id"]):
            body = {"event_id": event_id, "credential": card["credential"]}
            assert (await org.made("POST", "/v1/checkins", body, device["token"]))["verdict"] == "admitted"

    async def test_a_device_of_an_event_scans_for_no_other(self, org: Org) -> None:
        device = await org.paired()
        card = await org.made("POST", "/v1/cards", {"member": {"name": "Ann"}})
        body = {"event_id": (await org.another_event())["id"], "credential": card["credential"]}
        assert await org.refused("POST", "/v1/checkins", body, device["token"]) == (403, "wrong_event")

    async def test_pairing_again_keeps_the_device_and_ends_its_old_token(self, org: Org) -> None:
        first = await org.paired(name="Door", gate_id=org.gates[0])
        asked = await org.made("POST", f"/v1/devices/{first['device_id']}/pairing-code")
        assert asked["device_id"] == first["device_id"]
        assert (await org.system.call("GET", "/v1/devices/self", token=first["token"])).status == 200, (
            "until it is used"
        )
        heard: list[AccessChange] = []
        org.system.app.parts.access.follow(heard.append)
        pairing = {"code": asked["pairing_code"]}
        second = await org.system.call("POST", "/v1/devices/pair", pairing, key="p")
        assert second.json() == first | {"token": second.json()["token"]}
        assert second.json()["token"] != first["token"]
        assert [(change.kind, change.id) for change in heard] == [("device", first["device_id"])]
        assert (await org.system.call("GET", "/v1/devices/self", token=first["token"])).status == 401
        assert (await org.system.call("GET", "/v1/devices/self", token=second.json()["token"])).status == 200
        assert (await org.system.call("POST", "/v1/devices/pair", pairing, key="p")).json() == second.json()
        assert (await org.system.call("POST", "/v1/devices/pair", pairing, key="q")).status == 404
        assert len((await org.made("GET", "/v1/devices"))["items"]) == 1

    async def test_a_lost_answer_is_given_again_for_a_while_only(
        self, org: Org, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pairing = {"code": (await org.made("POST", "/v1/devices", {}))["pairing_code"]}
        assert (await org.system.call("POST", "/v1/devices/pair", pairing, key="p")).status == 201
        monkeypatch.setattr(limits, "PAIRING_REPLAY_MS", 0)
        assert (await org.system.call("POST", "/v1/devices/pair", pairing, key="p")).status == 404

    async def test_a_code_that_ran_out_or_is_of_a_revoked_device_pairs_nothing(
        self, org: Org, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device = await org.paired()
        again = await org.made("POST", f"/v1/devices/{device['device_id']}/pairing-code")
        await org.system.call("DELETE", f"/v1/devices/{device['device_id']}", token=org.key)
        assert await org.refused("POST", "/v1/devices/pair", {"code": again["pairing_code"]}) == (
            404,
            "pairing_code_invalid",
        )
        monkeypatch.setattr(limits, "PAIRING_CODE_VALID_MS", 0)
        late = await org.made("POST", "/v1/devices", {})
        assert (await org.refused("POST", "/v1/devices/pair", {"code": late["pairing_code"]}))[0] == 404

    async def test_devices_in_force_are_limited(self, org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "DEVICES_PER_TENANT_MAX", 1)
        device = await org.paired()
        assert await org.refused("POST", "/v1/devices", {}) == (409, "limit_reached")
        assert (await org.made("POST", f"/v1/devices/{device['device_id']}/pairing-code"))["pairing_code"]
        await org.system.call("DELETE", f"/v1/devices/{device['device_id']}", token=org.key)
        assert (await org.made("POST", "/v1/devices", {}))["pairing_code"]

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"event_id": "evt_none"}, 404, "event_unknown"),
            ({"event_id": "evt_none", "gate_id": "gate_none"}, 404, "event_unknown"),
            ({"event_id": "{event}", "gate_id": "gate_none"}, 409, "gate_unknown"),
            ({"gate_id": "gate_none"}, 400, "malformed"),
            ({"name": ""}, 400, "malformed"),
            ({"tenant_id": "org_x"}, 400, "malformed"),
        ],
    )
    async def test_what_cannot_be_paired_is_told(self, org: Org, body: Any, status: int, code: str) -> None:
        filled = {name: value.replace("{event}", org.event_id) for name, value in body.items()}
        assert await org.refused("POST", "/v1/devices", filled) == (status, code)


class TestGate:
    async def test_a_device_chooses_its_gate_and_its_scans_are_of_that_gate(self, org: Org) -> None:
        device = await org.paired()
        seen = await org.made("GET", "/v1/devices/self", token=device["token"])
        assert [(gate["id"], gate["open"]) for gate in seen["gates"]] == [(gate, True) for gate in org.gates]
        assert (seen["id"], seen["gate_id"], seen["event_id"]) == (device["device_id"], None, org.event_id)
        chosen = await org.made("PATCH", "/v1/devices/self", {"gate_id": org.gates[1]}, device["token"])
        assert chosen["gate_id"] == org.gates[1]
        assert await org.refused("PATCH", "/v1/devices/self", {"gate_id": "gate_none"}, device["token"]) == (
            409,
            "gate_unknown",
        )
        assert (await org.refused("PATCH", "/v1/devices/self", {}, device["token"]))[0] == 400
        card = await org.made("POST", "/v1/cards", {"member": {"name": "Ann"}})
        scan = {"event_id": org.event_id, "credential": card["credential"], "scan_id": "s-1"}
        first = await org.made("POST", "/v1/checkins", scan, device["token"])
        log = await org.made("GET", f"/v1/events/{org.event_id}/checkins")
        assert [line["gate_id"] for line in log["items"]] == [org.gates[1]]
        await org.made("PATCH", f"/v1/devices/{device['device_id']}", {"gate_id": org.gates[0]})
        again = await org.made("POST", "/v1/checkins", scan, device["token"])
        assert again == first | {"replayed": True}, "a retry from another gate is the same request"
        assert (await org.made("PATCH", "/v1/devices/self", {"gate_id": None}, device["token"]))["gate_id"] is None

    async def test_a_device_of_the_organisation_has_no_gate_to_choose(self, org: Org) -> None:
        asked = await org.made("POST", "/v1/devices", {})
        token = (await org.system.made("POST", "/v1/devices/pair", {"code": asked["pairing_code"]}))["token"]
        assert (await org.made("GET", "/v1/devices/self", token=token))["gates"] == []
        answer = await org.system.call("PATCH", "/v1/devices/self", {"gate_id": org.gates[0]}, token)
        assert (answer.status, answer.json()["errors"][0]["pointer"]) == (400, "#/gate_id")

    async def test_only_devices_are_devices(self, org: Org) -> None:
        assert await org.refused("GET", "/v1/devices/self") == (403, "forbidden")
        device = await org.paired()
        assert await org.refused("GET", "/v1/devices", token=device["token"]) == (403, "forbidden")
        path = f"/v1/devices/{device['device_id']}"
        assert await org.refused("PATCH", path, {"name": "Mine"}, device["token"]) == (403, "forbidden")


class TestChanges:
    async def test_devices_are_listed_as_they_are(self, org: Org) -> None:
        ball = await org.another_event()
        one = await org.paired(name="One", gate_id=org.gates[0])
        two = await org.paired(name="Two", event_id=ball["id"])
        three = await org.paired(name="Three", event_id=None)
        await org.system.call("DELETE", f"/v1/devices/{two['device_id']}", token=org.key)
        first = await org.made("GET", "/v1/devices?limit=2")
        rest = await org.made("GET", f"/v1/devices?limit=2&cursor={first['next_cursor']}")
        assert (len(first["items"]), rest["next_cursor"]) == (2, None)
        found = {item["id"]: item for item in first["items"] + rest["items"]}
        assert found.keys() == {one["device_id"], two["device_id"], three["device_id"]}
        shown = found[one["device_id"]]
        assert (shown["name"], shown["event_id"], shown["gate_id"]) == ("One", org.event_id, org.gates[0])
        assert shown["paired_at"] is not None
        assert (shown["last_seen_at"], shown["revoked_at"]) == (None, None)
        assert found[two["device_id"]]["revoked_at"] is not None
        assert found[three["device_id"]]["event_id"] is None
        assert await org.made("GET", f"/v1/devices/{one['device_id']}") == shown
        for query, ids in (
            (f"event_id={ball['id']}", {two["device_id"]}),
            ("revoked=true", {two["device_id"]}),
            ("revoked=false", {one["device_id"], three["device_id"]}),
        ):
            assert {item["id"] for item in (await org.made("GET", f"/v1/devices?{query}"))["items"]} == ids
        assert await org.refused("GET", f"/v1/devices?revoked=true&cursor={first['next_cursor']}") == (
            400,
            "cursor_invalid",
        )

    async def test_a_device_is_renamed_and_bound_to_something_else(self, org: Org) -> None:
        ball = await org.another_event()
        device = await org.paired(name="Door", gate_id=org.gates[0])
        path = f"/v1/devices/{device['device_id']}"
        renamed = await org.made("PATCH", path, {"name": "Gate A"})
        assert (renamed["name"], renamed["gate_id"]) == ("Gate A", org.gates[0])
        assert (await org.made("PATCH", path, {}))["name"] == "Gate A"
        assert await org.refused("PATCH", path, {"event_id": "evt_none"}) == (404, "event_unknown")
        assert await org.refused("PATCH", path, {"gate_id": ball["gates"][0]["id"]}) == (409, "gate_unknown")
        moved = await org.made("PATCH", path, {"event_id": ball["id"]})
        assert (moved["event_id"], moved["gate_id"]) == (ball["id"], None), "the gate was the other event's"
        card = await org.made("POST", "/v1/cards", {"member": {"name": "Ann"}})
        scan = {"event_id": ball["id"], "credential": card["credential"]}
        assert (await org.made("POST", "/v1/checkins", scan, device["token"]))["verdict"] == "admitted", "at once"
        assert (await org.made("PATCH", path, {"event_id": None}))["event_id"] is None
        assert await org.refused("PATCH", path, {"revoked_at": None}) == (400, "malformed")

    async def test_revoking_is_final_and_can_be_said_twice(self, org: Org) -> None:
        device = await org.paired()
        path = f"/v1/devices/{device['device_id']}"
        heard: list[AccessChange] = []
        org.system.app.parts.access.follow(heard.append)
        assert (await org.system.call("DELETE", path, token=org.key)).status == 204
        ended = (await org.made("GET", path))["revoked_at"]
        await asyncio.sleep(0.002)
        assert (await org.system.call("DELETE", path, token=org.key)).status == 204
        assert {change.id for change in heard} == {device["device_id"]}
        assert (await org.system.call("GET", "/v1/devices/self", token=device["token"])).status == 401
        assert await org.refused("PATCH", path, {"name": "Again"}) == (409, "device_revoked")
        assert await org.refused("POST", path + "/pairing-code") == (409, "device_revoked")
        assert (await org.made("GET", path))["revoked_at"] == ended
        assert await org.refused("DELETE", "/v1/devices/dev_none") == (404, "device_unknown")

    async def test_an_edit_under_a_condition_holds_for_what_was_seen_only(self, org: Org) -> None:
        device = await org.paired()
        path = f"/v1/devices/{device['device_id']}"
        seen = (await org.system.call("GET", path, token=org.key)).headers["etag"]
        own = (await org.system.call("GET", "/v1/devices/self", token=device["token"])).headers["etag"]
        unchanged = await org.system.call("GET", path, token=org.key, **{"If-None-Match": seen})
        assert (unchanged.status, unchanged.body) == (304, b"")
        names = [f"Door {number}" for number in range(4)]
        answers = await asyncio.gather(
            *(org.system.call("PATCH", path, {"name": name}, org.key, **{"If-Match": seen}) for name in names)
        )
        assert sorted(answer.status for answer in answers) == [200, 412, 412, 412]
        (changed,) = [answer for answer in answers if answer.status == 200]
        gate = {"gate_id": org.gates[0]}
        late = await org.system.call("PATCH", "/v1/devices/self", gate, device["token"], **{"If-Match": own})
        assert (late.status, late.json()["code"]) == (412, "precondition_failed")
        now = (await org.system.call("GET", path, token=org.key)).json()
        assert now == changed.json()
        if_now = {"If-Match": changed.headers["etag"]}
        again = await org.system.call("PATCH", "/v1/devices/self", gate, device["token"], **if_now)
        assert (again.status, again.json()["gate_id"]) == (200, org.gates[0])

    async def test_what_was_done_is_in_the_log(self, org: Org, migrated_database: str) -> None:
        device = await org.paired()
        path = f"/v1/devices/{device['device_id']}"
        await org.made("PATCH", path, {"name": "Door"})
        await org.made("PATCH", "/v1/devices/self", {"gate_id": org.gates[0]}, device["token"])
        again = await org.made("POST", path + "/pairing-code")
        await org.system.made("POST", "/v1/devices/pair", {"code": again["pairing_code"]})
        await org.system.call("DELETE", path, token=org.key)
        connection = await asyncpg.connect(migrated_database)
        rows = await connection.fetch(
            "SELECT action, detail FROM admin_log WHERE target = $1 ORDER BY entry_id", device["device_id"]
        )
        await connection.close()
        done = [(row["action"], " ".join(sorted(json.loads(row["detail"])))) for row in rows]
        assert done == [
            ("devices.manage", "event gate invited"),
            ("devices.manage", "paired"),
            ("devices.manage", "event gate name"),
            ("devices.manage", "invited_again"),
            ("devices.manage", "paired"),
            ("devices.manage", "revoked"),
        ]
        assert again["pairing_code"] not in str([row["detail"] for row in rows])


class TestLastSeen:
    async def test_a_device_that_calls_is_seen_once_a_minute_in_one_statement(
        self, org: Org, migrated_database: str
    ) -> None:
        devices = [await org.paired() for _ in range(3)]
        tenant_id = devices[0]["org_id"]
        pool = await reader_pool(migrated_database, 1)
        now_ms = 1_800_000_000_000
        sightings = Sightings(pool, lambda: now_ms)

        async def seen() -> list[int | None]:
            rows = {row["device_id"]: row["last_seen_ms"] for row in await pool.fetch("SELECT * FROM devices")}
            return [rows[device["device_id"]] for device in devices]

        for device in devices[:2]:
            sightings.note(tenant_id, device["device_id"])
        await sightings.write()
        assert await seen() == [now_ms, now_ms, None]
        sightings.note(tenant_id, devices[0]["device_id"])
        assert len(sightings) == 0, "nothing waits that was told just before"
        began = now_ms
        for step_ms, expected in ((MINUTE_MS - 1, began), (1, began + MINUTE_MS)):
            now_ms += step_ms
            sightings.note(tenant_id, devices[0]["device_id"])
            await sightings.write()
            assert (await seen())[0] == expected
        other = Sightings(pool, lambda: now_ms)
        now_ms += MINUTE_MS - 1
        other.note(tenant_id, devices[0]["device_id"])
        await other.write()
        assert (await seen())[0] == began + MINUTE_MS, "another gateway has told it already"
        await pool.close()

    async def test_while_postgres_is_away_sightings_are_kept(self, org: Org, migrated_database: str) -> None:
        device = await org.paired()
        pool = await reader_pool(migrated_database, 1)
        await pool.close()
        sightings = Sightings(pool, lambda: 1_800_000_000_000)
        sightings.note(device["org_id"], device["device_id"])
        await sightings.write()
        sightings._pool = pool = await reader_pool(migrated_database, 1)
        await sightings.write()
        assert await pool.fetchval("SELECT last_seen_ms FROM devices") == 1_800_000_000_000
        await pool.close()

    async def test_a_call_by_the_device_is_enough(self, org: Org) -> None:
        device = await org.paired()
        assert (await org.made("GET", "/v1/devices/self", token=device["token"]))["last_seen_at"] is None
        await org.system.sightings.write()
        shown, idle = await asyncio.gather(
            org.made("GET", f"/v1/devices/{device['device_id']}"),
            org.made("GET", "/v1/devices/self", None, device["token"]),
        )
        assert shown["last_seen_at"] == idle["last_seen_at"] is not None
