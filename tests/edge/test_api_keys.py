"""API keys: shown without their secrets, over at their time, rotated with an overlap, and seen when they are used."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.orgs import limits
from gateway.render import rfc3339
from tests.edge.asgi import Answer
from tests.edge.in_process import System
from tests.support.asgi_socket import open_socket

MINUTE_MS = 60_000


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


@pytest.fixture
async def org(system: System) -> Any:
    made = await system.open_org()
    return made | {"path": f"/v1/orgs/{made['id']}", "keys": f"/v1/orgs/{made['id']}/api-keys"}


async def works(system: System, org: Any, key: str) -> bool:
    answer = await system.call("GET", org["path"], token=key)
    assert answer.status in (200, 401), answer.body
    return answer.status == 200


async def listed(system: System, org: Any) -> dict[str, Any]:
    page = await system.made("GET", org["keys"], token=org["key"])
    return {item["id"]: item for item in page["items"]}


async def test_keys_are_listed_without_their_secrets(system: System, org: Any) -> None:
    made = [
        await system.made("POST", org["keys"], {"name": f"Till {n}", "scopes": ["scan"]}, org["key"]) for n in range(3)
    ]
    answer = await system.call("GET", org["keys"], token=org["key"])
    for key in (*made, org["api_key"]):
        secret = key["key"].rpartition("_")[2]
        assert secret not in answer.body.decode()
        item = next(item for item in answer.json()["items"] if item["id"] == key["id"])
        assert key["key"] == item["prefix"] + secret
        assert (item["name"], item["scopes"], item["in_force"]) == (key["name"], key["scopes"], True)
    found: set[str] = set()
    cursor = ""
    for _ in range(2):
        page = await system.made("GET", f"{org['keys']}?limit=2{cursor}", token=org["key"])
        found |= {item["id"] for item in page["items"]}
        cursor = f"&cursor={page['next_cursor']}"
    assert (len(found), page["next_cursor"]) == (4, None)


async def test_a_key_is_over_at_its_time_whatever_is_remembered(system: System, org: Any) -> None:
    until_ms = system.clock.wall_ms() + 9_000  # sooner than a caller is looked up again
    made = await system.made("POST", org["keys"], {"expires_at": rfc3339(until_ms)}, org["key"])
    assert made["expires_at"] == rfc3339(until_ms)
    assert await works(system, org, made["key"])
    system.clock.ahead_ms += 2_000  # the rest is for the clock on the wall, which goes on
    assert await works(system, org, made["key"])
    system.clock.ahead_ms += 7_000
    assert not await works(system, org, made["key"])
    assert not (await listed(system, org))[made["id"]]["in_force"]
    past = {"expires_at": rfc3339(system.clock.wall_ms() - 1)}
    answer = await system.call("POST", org["keys"], past, org["key"])
    assert (answer.status, answer.json()["errors"][0]["pointer"]) == (400, "#/expires_at")


async def test_a_rotation_with_an_overlap(system: System, org: Any) -> None:
    made = await system.made("POST", org["keys"], {"name": "Till"}, org["key"])
    rotate = f"{org['keys']}/{made['id']}/rotate"
    body = {"overlap_seconds": 60}
    first = await system.call("POST", rotate, body, org["key"], key="rotate-1")
    again = await system.call("POST", rotate, body, org["key"], key="rotate-1")
    assert first.status == 200
    assert again.json() == first.json(), "a retry rotates nothing and gets the same key"
    new = first.json()["key"]
    assert new != made["key"]
    assert (await works(system, org, made["key"]), await works(system, org, new)) == (True, True)
    item = (await listed(system, org))[made["id"]]
    assert item["old_key_until"] == first.json()["old_key_until"]
    system.clock.ahead_ms += 59_000
    assert (await works(system, org, made["key"]), await works(system, org, new)) == (True, True)
    system.clock.ahead_ms += 1_000
    assert (await works(system, org, made["key"]), await works(system, org, new)) == (False, True)
    assert (await listed(system, org))[made["id"]]["old_key_until"] is None


async def test_a_rotation_without_overlap_ends_the_old_secret_at_once(system: System, org: Any) -> None:
    made = await system.made("POST", org["keys"], {"name": "Till"}, org["key"])
    assert await works(system, org, made["key"])
    rotate = f"{org['keys']}/{made['id']}/rotate"
    second = await system.made("POST", rotate, {"overlap_seconds": 3_600}, org["key"])
    third = await system.made("POST", rotate, {}, org["key"])
    assert third["old_key_until"] is None
    keys = (made["key"], second["key"], third["key"])
    assert [await works(system, org, key) for key in keys] == [False, False, True]
    for wrong in (-1, 86_401, 1.5, "60"):
        assert (await system.call("POST", rotate, {"overlap_seconds": wrong}, org["key"])).status == 400


async def test_a_socket_of_the_old_secret_lives_through_the_overlap(system: System, org: Any) -> None:
    made = await system.made("POST", org["keys"], {"name": "Board"}, org["key"])
    rotate = f"{org['keys']}/{made['id']}/rotate"
    async with open_socket(system.app, "/v1/live", made["key"]) as socket:
        await socket.send({"t": "ping", "n": 1})
        assert (await socket.frames.get())["t"] == "pong"
        await system.made("POST", rotate, {"overlap_seconds": 60}, org["key"])
        await socket.send({"t": "ping", "n": 2})
        assert (await socket.frames.get())["n"] == 2
        await system.made("POST", rotate, {}, org["key"])
        assert await socket.closed() == 4401


async def test_a_rotation_may_move_the_end(system: System, org: Any) -> None:
    made = await system.made("POST", org["keys"], {"name": "Till"}, org["key"])
    until_ms = system.clock.wall_ms() + MINUTE_MS
    new = await system.made("POST", f"{org['keys']}/{made['id']}/rotate", {"expires_at": rfc3339(until_ms)}, org["key"])
    assert new["expires_at"] == rfc3339(until_ms)
    system.clock.ahead_ms += MINUTE_MS
    assert not await works(system, org, new["key"])
    answer = await system.call("POST", f"{org['keys']}/{made['id']}/rotate", {}, org["key"])
    assert code(answer) == (404, "api_key_unknown"), "what is over is not brought back"


async def test_a_revoked_key_is_over_with_all_its_secrets(system: System, org: Any) -> None:
    made = await system.made("POST", org["keys"], {"name": "Till"}, org["key"])
    new = await system.made("POST", f"{org['keys']}/{made['id']}/rotate", {"overlap_seconds": 60}, org["key"])
    path = f"{org['keys']}/{made['id']}"
    assert (await system.call("DELETE", path, token=org["key"])).status == 204
    assert [await works(system, org, key) for key in (made["key"], new["key"])] == [False, False]
    assert (await listed(system, org))[made["id"]]["revoked_at"]
    assert code(await system.call("DELETE", path, token=org["key"])) == (404, "api_key_unknown")
    assert code(await system.call("POST", f"{path}/rotate", {}, org["key"])) == (404, "api_key_unknown")


async def test_the_latest_use_is_told(system: System, org: Any) -> None:
    made = await system.made("POST", org["keys"], {"name": "Till"}, org["key"])
    assert (await listed(system, org))[made["id"]]["last_used_at"] is None
    before_ms = system.clock.wall_ms()
    assert await works(system, org, made["key"])
    wrong = made["key"][:-1] + ("a" if made["key"][-1] != "a" else "b")
    await system.key_uses.write()
    first = (await listed(system, org))[made["id"]]["last_used_at"]
    assert rfc3339(before_ms) <= first <= rfc3339(system.clock.wall_ms())
    system.clock.ahead_ms += MINUTE_MS
    assert not await works(system, org, wrong)
    await system.key_uses.write()
    assert (await listed(system, org))[made["id"]]["last_used_at"] == first, "a wrong secret is no use of the key"
    assert await works(system, org, made["key"])
    await system.key_uses.write()
    assert (await listed(system, org))[made["id"]]["last_used_at"] > first


async def test_so_many_keys_are_in_force_at_a_time(system: System, org: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEYS_IN_FORCE_MAX", 5)
    answers = await asyncio.gather(
        *(system.call("POST", org["keys"], {"name": f"Key {n}"}, org["key"], key=f"key-{n}") for n in range(10))
    )
    assert sorted(answer.status for answer in answers) == [201] * 4 + [409] * 6
    made = next(answer for answer in answers if answer.status == 201)
    await system.call("DELETE", f"{org['keys']}/{made.json()['id']}", token=org["key"])
    assert (await system.call("POST", org["keys"], {}, org["key"])).status == 201


async def test_another_organisations_keys_do_not_exist(system: System, org: Any) -> None:
    other = await system.open_org()
    foreign, absent = other["api_key"]["id"], "key_none"
    for method, tail, body in (("DELETE", "", None), ("POST", "/rotate", {})):
        answers = [
            await system.call(method, f"{org['keys']}/{key}{tail}", body, org["key"]) for key in (foreign, absent)
        ]
        assert code(answers[0]) == code(answers[1]) == (404, "api_key_unknown")
    assert foreign not in await listed(system, org)
    reader = await system.made("POST", org["keys"], {"scopes": ["read"]}, org["key"])
    for method, tail in (("GET", ""), ("POST", ""), ("POST", f"/{org['api_key']['id']}/rotate")):
        answer = await system.call(method, org["keys"] + tail, {} if method == "POST" else None, reader["key"])
        assert code(answer) == (403, "forbidden")
