"""Tiers by points over the API: an organisation's levels, and where a card stands between them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.in_process import System

LEVELS = [{"tier": "bronze", "points": 0}, {"tier": "silver", "points": 100, "name": "Moon"}]
GOLD = {"tier": "gold", "points": 500}


@pytest.fixture
async def org(system: System) -> Any:
    return await system.open_org()


async def standing(system: System, org: Any, card: Any) -> Any:
    return await system.made("GET", f"/v1/cards/{card['id']}/tier", token=org["key"])


async def test_levels_are_set_shown_and_given_up(system: System, org: Any) -> None:
    path = f"/v1/orgs/{org['id']}/tiers"
    assert await system.made("GET", path, token=org["key"]) == {"tiers": None}
    body = {"levels": [*LEVELS, GOLD], "policy": "one_down", "review": {"month_days": [31, 1], "hour": 4, "minute": 30}}
    made = (await system.made("PUT", path, body, org["key"]))["tiers"]
    assert [(level["tier"], level["points"], level["name"]) for level in made["levels"]] == [
        ("bronze", 0, ""),
        ("silver", 100, "Moon"),
        ("gold", 500, ""),
    ]
    assert (made["window_days"], made["policy"]) == (365, "one_down")
    assert made["review"] == {"month": 0, "day": 0, "month_days": [1, 31], "hour": 4, "minute": 30}
    assert (await system.made("GET", path, token=org["key"]))["tiers"] == made
    assert (await system.call("PUT", path, body, org["key"], **{"If-Match": '"other"'})).status == 412
    assert (await system.call("DELETE", path, token=org["key"])).status == 204
    assert await system.made("GET", path, token=org["key"]) == {"tiers": None}


async def test_a_card_rises_with_the_points_that_are_enough(system: System, org: Any) -> None:
    await system.made("PUT", f"/v1/orgs/{org['id']}/tiers", {"levels": [*LEVELS, GOLD]}, org["key"])
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}}, org["key"])
    before = await standing(system, org, card)
    assert (before["tier"], before["name"], before["points"], before["window_days"]) == ("bronze", "bronze", 0, 365)
    assert before["next"] == {"tier": "silver", "name": "Moon", "points": 100, "missing": 100}
    assert (before["review_at"], before["until"], before["history"]) == (None, None, [])
    await system.made("POST", f"/v1/cards/{card['id']}/points/award", {"amount": 120}, org["key"])
    after = await standing(system, org, card)
    assert (after["tier"], after["name"], after["points"]) == ("silver", "Moon", 120)
    assert after["next"] == {"tier": "gold", "name": "gold", "points": 500, "missing": 380}
    assert after["review_at"] is not None
    assert (await system.made("GET", f"/v1/cards/{card['id']}", token=org["key"]))["tier"] == "silver"


async def test_set_by_hand_until_a_time(system: System, org: Any) -> None:
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}}, org["key"])
    path, until = f"/v1/cards/{card['id']}/tier", "2099-01-01T00:00:00.000Z"
    refused = await system.call("POST", path, {"tier": "gold", "until": until}, org["key"])
    assert (refused.status, refused.json()["code"]) == (409, "terms_invalid")
    await system.made("PUT", f"/v1/orgs/{org['id']}/tiers", {"levels": LEVELS}, org["key"])
    past = await system.call("POST", path, {"tier": "gold", "until": "2001-01-01T00:00:00Z"}, org["key"])
    assert (past.status, past.json()["code"]) == (409, "expiry_invalid")
    await system.made("POST", path, {"tier": "gold", "until": until, "note": "guest"}, org["key"])
    found = await standing(system, org, card)
    assert (found["tier"], found["until"], found["review_at"], found["next"]) == ("gold", until, None, None)


async def test_without_levels_a_tier_is_what_a_person_set(system: System, org: Any) -> None:
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}, "tier": "gold"}, org["key"])
    found = await standing(system, org, card)
    assert (found["tier"], found["points"], found["window_days"], found["next"]) == ("gold", None, None, None)


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"levels": []}, 400, "/levels"),
        ({"levels": [{"tier": "wood", "points": 0}]}, 400, "/levels/0/tier"),
        ({"levels": [{"tier": "bronze", "points": -1}]}, 400, "/levels/0/points"),
        ({"window_days": 733}, 400, "/window_days"),
        ({"policy": "none"}, 400, "/policy"),
        ({"review": {}}, 400, "/review"),
        ({"review": {"month": 2, "day": 30}}, 400, "/review"),
        ({"review": {"month_days": [0]}}, 400, "/review/month_days/0"),
        ({"levels": [LEVELS[1]]}, 409, ""),
        ({"levels": [LEVELS[0], GOLD, LEVELS[1]]}, 409, ""),
    ],
)
async def test_levels_that_make_no_sense(system: System, org: Any, change: Any, status: int, field: str) -> None:
    answer = await system.call("PUT", f"/v1/orgs/{org['id']}/tiers", {"levels": LEVELS} | change, org["key"])
    assert answer.status == status, answer.body
    if field:
        assert field in str(answer.json()["errors"])
    else:
        assert answer.json()["code"] == "terms_invalid"
