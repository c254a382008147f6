"""Doors through the public API: zones and sessions, lists, forcing, offline uploads and their conflicts, annulments."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import datetime, timedelta
from typing import Any

import pytest

from actors.replies import EventFeed, ScanSummary
from gateway.client import AsyncMasterVip, ScanError
from gateway.live_hub import Published
from gateway.render import rfc3339
from tests.edge.in_process import System, clock_ms
from tests.support.serving import serving

HOUR_MS = 3_600_000


async def set_up(system: System, **event: Any) -> tuple[Any, Any, list[Any]]:
    """An organisation, an event with two gates, and three cards."""
    org = await system.open_org()
    fields = {"name": "Gala", "capacity": 50, "gates": [{"name": "North"}, {"name": "South"}], **event}
    made = await system.made("POST", "/v1/events", fields, org["key"])
    items = {"items": [{"member": {"name": name}, "tier": "gold"} for name in ("Lan", "Minh", "Hoa")]}
    cards = (await system.made("POST", "/v1/cards:batch", items, org["key"]))["items"]
    return org, made, [each["card"] for each in cards]


async def scan(system: System, org: Any, event: Any, card: Any, **more: Any) -> Any:
    body = {"event_id": event["id"], "credential": card["credential"], **more}
    return await system.made("POST", "/v1/checkins", body, org["key"])


async def test_an_event_tells_what_its_doors_know(system: System) -> None:
    now = clock_ms()
    session = {"name": "Night", "doors_open": rfc3339(now - HOUR_MS), "doors_close": rfc3339(now + HOUR_MS)}
    org, event, (lan, minh, _) = await set_up(
        system,
        zones=[{"id": "floor", "name": "Floor", "capacity": 1}],
        sessions=[session],
        exit_all_at="04:00",
        questions=[{"id": "q_1", "text": "Allergies?"}],
    )
    assert event["zones"] == [{"id": "floor", "name": "Floor", "capacity": 1}]
    assert (event["exit_all_at"], event["admission"]["list_only"]) == ("04:00", False)
    gate = await system.made("POST", f"/v1/events/{event['id']}/gates", {"name": "F", "zone_id": "floor"}, org["key"])
    first = await scan(system, org, event, lan, gate_id=gate["id"])
    assert (first["verdict"], first["zone_id"], first["questions"]) == ("admitted", "floor", ["q_1"])
    assert first["session_id"] == event["sessions"][0]["id"]
    second = await scan(system, org, event, minh, gate_id=gate["id"])
    assert (second["verdict"], second["reason"]) == ("refused", "full")
    counts = await system.made("GET", f"/v1/events/{event['id']}/attendance", token=org["key"])
    assert counts["zones"] == [{"id": "floor", "name": "Floor", "inside": 1, "capacity": 1}]
    changed = await system.made("PATCH", f"/v1/events/{event['id']}", {"exit_all_at": None}, org["key"])
    assert (changed["exit_all_at"], changed["zones"]) == (None, event["zones"])
    gone = await system.call("PATCH", f"/v1/events/{event['id']}", {"zones": []}, org["key"])
    assert (gone.status, gone.json()["code"]) == (409, "terms_invalid")
    kept = await system.made("PATCH", f"/v1/events/{event['id']}/gates/{gate['id']}", {"open": False}, org["key"])
    assert kept["zone_id"] == "floor"


async def test_an_events_tags_are_what_rules_go_by(system: System) -> None:
    org, event, (lan, minh, _) = await set_up(system, tags=["jazz", "late"])
    path = f"/v1/events/{event['id']}"
    jazz = {"name": "Jazz", "on": "checkin", "when": "'jazz' in event.tags", "state": "active"}
    await system.made(
        "POST", "/v1/rules", {"rule": jazz | {"then": [{"action": "award_points", "points": 7}]}}, org["key"]
    )
    assert event["tags"] == ["jazz", "late"]
    before = (await scan(system, org, event, minh))["points"]
    changed = await system.made("PATCH", path, {"tags": ["rock"]}, org["key"])
    assert changed["tags"] == (await system.made("GET", path, token=org["key"]))["tags"] == ["rock"]
    assert before["awarded"] == (await scan(system, org, event, lan))["points"]["awarded"] + 7
    assert (await system.made("PATCH", path, {"name": "Ball"}, org["key"]))["tags"] == ["rock"]
    for wrong in (["a", "a"], [""], ["x" * 121], [str(number) for number in range(33)]):
        refused = await system.call("PATCH", path, {"tags": wrong}, org["key"])
        assert (refused.status, refused.json()["errors"][0]["pointer"][:6]) == (400, "#/tags"), wrong


async def test_times_of_doors_are_taken_away_by_null(system: System) -> None:
    times = {"doors_open": rfc3339(clock_ms() + HOUR_MS), "doors_close": rfc3339(clock_ms() + 2 * HOUR_MS)}
    org, event, (lan, _, _) = await set_up(system, exit_all_at="04:00", **times)
    assert (await scan(system, org, event, lan))["reason"] == "event_not_open"
    async with serving(system.app) as server, AsyncMasterVip(f"http://127.0.0.1:{server.port}", org["key"]) as vip:
        changed = await vip.events.change(event["id"], name="Late")
        assert {name: changed[name] for name in times} == times
        changed = await vip.events.change(event["id"], doors_open=None, exit_all_at=None)
        assert (changed["doors_open"], changed["doors_close"]) == (None, times["doors_close"])
        assert changed["exit_all_at"] is None
        assert (await scan(system, org, event, lan))["verdict"] == "admitted"
        assert (await vip.events.change(event["id"], doors_close=None))["doors_close"] is None


async def test_the_list_decides_and_a_supervisor_overrides(system: System) -> None:
    rule = {"list_only": True, "message": "Members only"}
    org, event, (lan, minh, _) = await set_up(system, admission=rule)
    path = f"/v1/events/{event['id']}/admission-list"
    assert await system.made("POST", path, {"add": [lan["id"]]}, org["key"]) == {"added": 1, "removed": 0, "size": 1}
    ghost = await system.call("POST", path, {"add": ["card_ghost"]}, org["key"])
    assert (ghost.status, ghost.json()["code"]) == (404, "card_unknown")
    assert (await system.made("GET", path, token=org["key"]))["items"] == [lan["id"]]
    assert (await scan(system, org, event, lan))["verdict"] == "admitted"
    refused = await scan(system, org, event, minh)
    assert (refused["reason"], refused["message"]) == ("not_eligible", "Members only")
    forced = await scan(system, org, event, minh, force=True)
    assert (forced["verdict"], forced["forced"]) == ("admitted", "not_eligible")


async def test_a_condition_decides_who_is_let_in(system: System) -> None:
    rule = {"condition": "card.points >= 5 || scan.gate_id == ''", "message": "Collect five points first"}
    org, event, (lan, minh, _) = await set_up(system)
    path, north = f"/v1/events/{event['id']}", {"gate_id": event["gates"][0]["id"]}
    async with serving(system.app) as server, AsyncMasterVip(f"http://127.0.0.1:{server.port}", org["key"]) as vip:
        made = await vip.events.create("Ball", 5, admission=rule)
        shown = {"tiers": [], "list_only": False, **rule}
        assert (made["admission"], (await vip.events.get(made["id"]))["admission"]) == (shown, shown)
        assert (await vip.events.change(event["id"], admission=rule))["admission"] == shown
        refused = await scan(system, org, event, lan, **north)
        assert (refused["reason"], refused["message"]) == ("not_eligible", "Collect five points first")
        assert (await scan(system, org, event, minh))["verdict"] == "admitted"
        await vip.cards.award(lan["id"], 5)
        assert (await scan(system, org, event, lan, **north))["verdict"] == "admitted"
        # A rule that is given replaces the one there was, and null lets everybody in.
        for admission in ({"condition": None}, {"tiers": []}, None):
            await vip.events.change(event["id"], admission=rule)
            cleared = await vip.events.change(event["id"], admission=admission)
            assert cleared["admission"] == {"tiers": [], "list_only": False, "message": "", "condition": None}
        assert (await vip.events.change(event["id"], name="Late"))["admission"]["condition"] is None
    for condition, told in (
        ("card.points >=\n  'many'", "(line 1, column 13)"),
        ("points.amount > 5", "(line 1, column 1)"),
        ("card.points", "(line 1, column 6)"),
        ("", "at least 1 character"),
        ("true || " * 500 + "true", "at most 2000 characters"),
    ):
        for method, where, more in (("POST", "/v1/events", {"name": "x", "capacity": 1}), ("PATCH", path, {})):
            body = {**more, "admission": {"condition": condition}}
            answer = await system.call(method, where, body, org["key"])
            assert answer.status == 400
            (error,) = answer.json()["errors"]
            assert error["pointer"] == "#/admission/condition"
            assert told in error["detail"]


async def test_a_scanner_is_told_that_there_is_a_condition(system: System) -> None:
    org, event, _ = await set_up(system, admission={"condition": "card.points >= 5"})
    asked = await system.made("POST", f"/v1/events/{event['id']}/devices", {}, org["key"])
    device = await system.made("POST", "/v1/devices/pair", {"code": asked["pairing_code"]})
    async with (
        serving(system.app) as server,
        AsyncMasterVip(f"http://127.0.0.1:{server.port}", device["token"]) as vip,
        vip.scan_socket(event["id"]) as door,
    ):
        assert door.welcome["event"]["admission"] == {
            "tiers": [],
            "list_only": False,
            "condition": "card.points >= 5",
        }


async def test_only_supervisors_force(system: System) -> None:
    org, event, (lan, _, _) = await set_up(system)
    asked = await system.made("POST", f"/v1/events/{event['id']}/devices", {}, org["key"])
    device = await system.made("POST", "/v1/devices/pair", {"code": asked["pairing_code"]})
    body = {"event_id": event["id"], "credential": lan["credential"], "force": True}
    answer = await system.call("POST", "/v1/checkins", body, device["token"])
    assert (answer.status, answer.json()["code"]) == (403, "forbidden")


async def test_what_was_decided_offline_is_recorded_and_its_conflicts_are_listed(system: System) -> None:
    org, event, (lan, minh, hoa) = await set_up(system)
    now = clock_ms()
    north, south = (gate["id"] for gate in event["gates"])

    def item(card: Any, gate: str, seconds_ago: int, **more: Any) -> Any:
        # The scanner's clock is a minute ahead.
        at = rfc3339(now + 60_000 - 1_000 * seconds_ago)
        return {"event_id": event["id"], "credential": card["credential"], "gate_id": gate, "scanned_at": at, **more}

    await system.made("POST", f"/v1/cards/{hoa['id']}/revoke", {}, org["key"])
    items = [
        item(lan, south, 50, scan_id="lan-south"),
        item(lan, north, 90, scan_id="lan-north"),
        item(minh, north, 40, scan_id="minh", refused="card_suspended"),
        {**item(hoa, north, 30, scan_id="hoa"), "credential": hoa["credential"]},
        {"event_id": event["id"], "credential": "MV1:FORGED", "scanned_at": rfc3339(now), "scan_id": "forged"},
        {"event_id": event["id"]},
    ]
    upload = {"items": items, "now": rfc3339(now + 60_000)}
    answers = (await system.made("POST", "/v1/checkins:batch", upload, org["key"]))["items"]
    told = [(each.get("verdict"), each.get("reason"), each.get("conflict")) for each in answers[:5]]
    assert told == [
        ("admitted", None, None),
        ("admitted", None, "already_admitted"),
        ("refused", "card_suspended", None),
        ("admitted", None, "card_revoked"),
        ("refused", "credential_invalid", None),
    ]
    assert answers[5]["problem"]["code"] == "malformed"
    again = (await system.made("POST", "/v1/checkins:batch", upload, org["key"]))["items"]
    assert [each["replayed"] for each in again[:4]] == [True] * 4
    counts = await system.made("GET", f"/v1/events/{event['id']}/attendance", token=org["key"])
    assert (counts["inside"], counts["admitted"], counts["refused"]) == (2, 3, 1)
    page = await system.made("GET", f"/v1/events/{event['id']}/conflicts", token=org["key"])
    found = {one["scan"]["scan_id"]: one for one in page["items"]}
    assert found.keys() == {"lan-south", "hoa"}, "the later of two admissions, whichever came first"
    other = found["lan-south"]["other"]
    assert (other["scan_id"], other["gate_id"], found["lan-south"]["scan"]["gate_id"]) == ("lan-north", north, south)
    times = [datetime.fromisoformat(side["at"]) for side in (other, found["lan-south"]["scan"])]
    assert times[1] - times[0] == timedelta(seconds=40)
    assert times[1] < datetime.fromisoformat(rfc3339(now)), "the scanner's clock was a minute ahead"
    assert (found["hoa"]["reason"], found["hoa"]["other"]) == ("card_revoked", None)


class Conflicts:
    """Who follows an event, and notes every conflict that is pushed."""

    def __init__(self) -> None:
        self.found: list[ScanSummary] = []
        self.standing: set[tuple[str, str]] = set()
        self.snapshot, self.news = asyncio.Event(), asyncio.Event()

    def on_snapshot(self, snapshot: Published, recovered: bool | None) -> None:
        self.snapshot.set()

    def on_update(self, update: Published) -> None:
        assert isinstance(update.data, EventFeed)
        self.found += [line for line in update.data.scans if line.conflict]
        for change in update.data.conflict_changes:
            assert not update.data.must_look_up
            self.standing ^= {(change.scan_id, change.other_scan_id)}
        self.news.set()

    def on_refused(self, code: str, detail: str, retry_after_ms: int) -> None:
        raise AssertionError(code)


async def test_every_conflict_of_an_upload_is_pushed(system: System) -> None:
    org, event, _ = await set_up(system, capacity=500)
    north, south = (gate["id"] for gate in event["gates"])
    members = [{"member": {"name": f"M{number}"}} for number in range(150)]
    made = await system.made("POST", "/v1/cards:batch", {"items": members}, org["key"])
    cards = [each["card"] for each in made["items"]]
    seen, follower = rfc3339(clock_ms() - 60_000), Conflicts()
    for card in cards:
        await scan(system, org, event, card, gate_id=north)
    subscription = system.hub.subscribe(org["id"], f"event:{event['id']}", follower)
    await follower.snapshot.wait()
    items = [
        {
            "event_id": event["id"],
            "credential": card["credential"],
            "gate_id": south,
            "scanned_at": seen,
            "scan_id": card["id"],
        }
        for card in cards
    ]
    await system.made("POST", "/v1/checkins:batch", {"items": items}, org["key"])
    while len(follower.found) < len(cards):
        follower.news.clear()
        async with asyncio.timeout(10):
            await follower.news.wait()
    system.hub.unsubscribe(subscription)
    assert sorted(line.scan_id for line in follower.found) == sorted(card["id"] for card in cards)
    for line in follower.found:
        assert line.first is not None
        assert (line.conflict, line.gate_name, line.first.gate_name) == ("already_admitted", "South", "North")
        assert rfc3339(line.scanned_at_ms) == seen
        assert line.first.at_ms > line.scanned_at_ms


async def test_a_conflict_that_is_resolved_is_taken_back_on_the_live_line(system: System) -> None:
    org, event, (lan, hoa, _) = await set_up(system, capacity=500)
    follower = Conflicts()
    subscription = system.hub.subscribe(org["id"], f"event:{event['id']}", follower)
    await follower.snapshot.wait()

    async def listed() -> set[tuple[str, str]]:
        """What the list says, once the line has told the same."""
        items = (await system.made("GET", f"/v1/events/{event['id']}/conflicts", token=org["key"]))["items"]
        wanted = {(item["scan"]["scan_id"], item["other"]["scan_id"]) for item in items}
        async with asyncio.timeout(10):
            while follower.standing != wanted:
                follower.news.clear()
                await follower.news.wait()
        return wanted

    async def upload(card: dict[str, Any], scan_id: str, seconds_ago: int, direction: str = "entry") -> None:
        item = {"credential": card["credential"], "scan_id": scan_id, "direction": direction, "event_id": event["id"]}
        item["scanned_at"] = rfc3339(clock_ms() - seconds_ago * 1_000)
        await system.made("POST", "/v1/checkins:batch", {"items": [item]}, org["key"])

    await scan(system, org, event, lan, scan_id="lan here")
    await upload(lan, "lan late", 60)
    await upload(hoa, "hoa first", 90)
    await upload(hoa, "hoa last", 30)
    assert await listed() == {("lan here", "lan late"), ("hoa last", "hoa first")}
    await system.made("POST", f"/v1/events/{event['id']}/checkins/lan here/annul", None, org["key"])
    assert await listed() == {("hoa last", "hoa first")}
    await upload(hoa, "hoa out", 60, "exit")
    assert await listed() == set()
    system.hub.unsubscribe(subscription)


async def test_an_admission_is_annulled_by_the_device_that_made_it(system: System) -> None:
    org, event, (lan, _, _) = await set_up(system, reentry="none")
    await system.made("PATCH", f"/v1/orgs/{org['id']}", {"checkin_points": 10}, org["key"])
    tokens = []
    for _ in range(2):
        asked = await system.made("POST", f"/v1/events/{event['id']}/devices", {}, org["key"])
        tokens.append((await system.made("POST", "/v1/devices/pair", {"code": asked["pairing_code"]}))["token"])
    body = {"event_id": event["id"], "credential": lan["credential"], "scan_id": "turnstile"}
    assert (await system.made("POST", "/v1/checkins", body, tokens[0]))["points"]["awarded"] == 10
    path = f"/v1/events/{event['id']}/checkins/turnstile/annul"
    other = await system.call("POST", path, None, tokens[1], key="annul-2")
    assert other.json()["code"] == "scan_of_other_device"
    done = await system.made("POST", path, None, tokens[0], **{"Idempotency-Key": "annul-1"})
    assert (done["inside"], done["admitted"]) == (0, 0)
    again = await system.made("POST", path, None, tokens[0], **{"Idempotency-Key": "annul-1"})
    assert again == done
    assert (await system.made("GET", f"/v1/cards/{lan['id']}/balance", token=org["key"]))["balance"] == 0
    assert (await scan(system, org, event, lan))["verdict"] == "admitted"


@pytest.mark.parametrize("wire", ["json", "msgpack"])
async def test_an_admission_is_annulled_over_the_socket_by_the_rules_of_rest(system: System, wire: Any) -> None:
    org, event, (lan, minh, _) = await set_up(system, reentry="none")
    asked = [await system.made("POST", f"/v1/events/{event['id']}/devices", {}, org["key"]) for _ in range(2)]
    own, other = [(await system.made("POST", "/v1/devices/pair", {"code": a["pairing_code"]}))["token"] for a in asked]
    async with serving(system.app) as server:
        address = f"http://127.0.0.1:{server.port}"
        async with (
            AsyncMasterVip(address, own) as vip,
            vip.scan_socket(event["id"], wire=wire) as door,
        ):
            assert (await door.scan(lan["credential"], scan_id="turnstile"))["verdict"] == "admitted"
            await door.scan(minh["credential"], scan_id="minh")
            assert (await door.scan(minh["credential"], scan_id="twice"))["reason"] == "already_admitted"
            done = await door.annul("turnstile", request_id="annul-1")
            assert (done["scan_id"], done["card_id"], done["inside"], done["admitted"]) == (
                "turnstile",
                lan["id"],
                1,
                1,
            )
            assert await door.annul("turnstile", request_id="annul-1") == {**done, "replayed": True}
            for scan_id, code in (
                ("turnstile", "scan_superseded"),
                ("twice", "scan_not_admitted"),
                ("never", "scan_unknown"),
            ):
                with pytest.raises(ScanError) as refused:
                    await door.annul(scan_id)
                assert refused.value.code == code
            with pytest.raises(ScanError) as reused:
                await door.annul("minh", request_id="annul-1")
            assert reused.value.code == "id_reused"
            # Among scans, in the order in which they were handed in.
            outcomes = await asyncio.gather(door.scan(lan["credential"]), door.annul("minh"), door.scan("forged"))
            assert [outcome.get("verdict", "annulled") for outcome in outcomes] == ["admitted", "annulled", "refused"]
            await door.scan(minh["credential"], scan_id="late")
            async with (
                AsyncMasterVip(address, other) as stranger,
                stranger.scan_socket(event["id"], wire=wire) as theirs,
            ):
                with pytest.raises(ScanError) as foreign:
                    await theirs.annul("late")
                assert foreign.value.code == "scan_of_other_device"
            over_rest = await system.made("GET", f"/v1/events/{event['id']}/attendance", token=org["key"])
            assert over_rest["inside"] == 2


async def test_the_scan_log_tells_zones_offline_forced_and_annulled(system: System) -> None:
    gates = [{"name": "Main"}, {"name": "Lounge", "zone_id": "z_1"}]
    org, event, (lan, minh, cam) = await set_up(
        system, reentry="none", gates=gates, zones=[{"id": "z_1", "name": "Lounge", "capacity": 5}]
    )
    lounge = next(gate["id"] for gate in event["gates"] if gate["name"] == "Lounge")
    await scan(system, org, event, lan, gate_id=lounge, scan_id="in the lounge")
    await scan(system, org, event, minh, scan_id="first")
    await scan(system, org, event, minh, scan_id="again")
    await scan(system, org, event, minh, scan_id="forced", force=True)
    late = rfc3339(clock_ms() - HOUR_MS)
    offline = {"event_id": event["id"], "scanned_at": late, "offline": True}
    await scan(system, org, event, lan, scan_id="conflict", **offline)
    await scan(system, org, event, cam, scan_id="turnstile")
    path = f"/v1/events/{event['id']}/checkins"

    async def log(query: str = "") -> list[str]:
        items = (await system.made("GET", f"{path}{query}", token=org["key"]))["items"]
        return [item["scan_id"] for item in reversed(items)]

    everything = ["in the lounge", "first", "again", "forced", "conflict", "turnstile"]
    assert await log() == everything
    assert await log("?annulled=true") == []
    await system.made("POST", f"{path}/turnstile/annul", None, org["key"])
    for name, passing in (
        ("zone_id=z_1", ["in the lounge"]),
        ("forced=true", ["forced"]),
        ("conflict=true", ["conflict"]),
        ("offline=true", ["conflict"]),
        ("annulled=true", ["turnstile"]),
    ):
        assert await log("?" + name) == passing, name
        rest = [scan_id for scan_id in everything if scan_id not in passing]
        if name.endswith("true"):
            assert await log("?" + name.replace("true", "false")) == rest, name
    answer = await system.call("GET", path, token=org["key"], Accept="text/csv")
    rows = {row["scan_id"]: row for row in csv.DictReader(io.StringIO(answer.body.decode()))}
    assert [row["offline"] for row in rows.values()] == ["false", "true", "false", "false", "false", "false"]
    assert (rows["forced"]["forced"], rows["forced"]["forced_by"]) == ("already_admitted", org["api_key"]["id"])
    assert rows["conflict"]["conflict"] == "already_admitted"
    assert rows["turnstile"]["annulled_at"]
    assert not rows["first"]["annulled_at"]
    counted = await system.made("GET", f"/v1/events/{event['id']}/statistics", token=org["key"])
    totals = counted["totals"]
    assert (totals["offline"], totals["forced"], totals["annulled"], totals["admitted"]) == (1, 1, 1, 5)


async def test_everybody_leaves_and_answers_are_kept(system: System) -> None:
    org, event, (lan, _, _) = await set_up(
        system, questions=[{"id": "q_1", "text": "Vegan?", "choices": ["yes", "no"]}]
    )
    await system.made("POST", f"/v1/cards/{lan['id']}/attention", {"attention": "Greet by name"}, org["key"])
    first = await scan(system, org, event, lan)
    assert (first["attention"], first["questions"]) == ("Greet by name", ["q_1"])
    path = f"/v1/events/{event['id']}/answers"
    wrong = {"card_id": lan["id"], "answers": [{"question_id": "q_1", "answer": "maybe"}]}
    assert (await system.call("POST", path, wrong, org["key"])).json()["code"] == "answer_invalid"
    right = {"card_id": lan["id"], "answers": [{"question_id": "q_1", "answer": "no"}]}
    assert (await system.made("POST", path, right, org["key"]))["answered"] == ["q_1"]
    left = await system.made("POST", f"/v1/events/{event['id']}/exit-all", None, org["key"])
    assert left["left"] == 1
    second = await scan(system, org, event, lan)
    assert (second["verdict"], second.get("questions")) == ("admitted", None)
