"""What gateways know of organisations without asking: which pages may talk to them, and which plan they are on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from gateway.orgs import limits
from gateway.orgs.mirror import OrgMirror
from storage.postgres import reader_pool
from tests.edge.in_process import SUPERADMIN_TOKEN, System, running_system
from tests.support.socket_edge import until

PAGE, FOREIGN_PAGE = "https://club.example.org", "https://evil.example"


@pytest.fixture
async def mirrored(migrated_database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[System, OrgMirror]]:
    """The system with its mirror, which looks as soon as there is news."""
    monkeypatch.setattr(limits, "MIRROR_PAUSE_S", 0.001)
    pool = await reader_pool(migrated_database, 1)
    mirror = OrgMirror(pool)
    async with running_system(migrated_database, origins=mirror) as system:
        system.parts.access.follow(mirror.on_change)
        running = asyncio.create_task(mirror.run())
        yield system, mirror
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await pool.close()


async def test_pages_of_allowed_origins_may_read_their_own_organisations_answers(
    mirrored: tuple[System, OrgMirror],
) -> None:
    system, mirror = mirrored
    org, other = await system.open_org(), await system.open_org()

    async def allowed(of: Any, origin: str) -> str | None:
        answer = await system.call("GET", f"/v1/orgs/{of['id']}", token=of["key"], Origin=origin)
        assert answer.status == 200
        return answer.headers.get("access-control-allow-origin")

    assert await allowed(org, PAGE) is None
    await system.made("PATCH", f"/v1/orgs/{org['id']}", {"allowed_origins": [PAGE]}, org["key"])
    await until(lambda: mirror.is_known(PAGE))
    assert await allowed(org, PAGE) == PAGE
    assert await allowed(org, FOREIGN_PAGE) is None
    assert await allowed(other, PAGE) is None, "another organisation has not allowed it"
    await system.made("POST", f"/v1/orgs/{org['id']}/suspend", None, SUPERADMIN_TOKEN)
    await until(lambda: not mirror.is_known(PAGE))
    assert not mirror.allows(org["id"], PAGE)


async def test_a_plan_is_known_soon_and_follows(mirrored: tuple[System, OrgMirror]) -> None:
    system, mirror = mirrored
    free, premium = await system.open_org(plan="free"), await system.open_org()
    assert mirror.plan_of(free["id"]) == ""
    await until(lambda: mirror.plan_of(free["id"]) == "free")
    await until(lambda: mirror.plan_of(premium["id"]) == "premium")
    assert mirror.plan_of("org_none") == ""
    await system.made("PUT", f"/v1/orgs/{free['id']}/plan", {"plan": "premium"}, SUPERADMIN_TOKEN)
    await until(lambda: mirror.plan_of(free["id"]) == "premium")


async def test_while_postgres_is_away_all_is_as_it_was(
    mirrored: tuple[System, OrgMirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    system, mirror = mirrored
    org = await system.open_org()
    await system.made("PATCH", f"/v1/orgs/{org['id']}", {"allowed_origins": [PAGE]}, org["key"])
    await until(lambda: mirror.allows(org["id"], PAGE) and mirror.plan_of(org["id"]) == "premium")

    async def away(*_: Any) -> None:
        raise asyncpg.CannotConnectNowError

    monkeypatch.setattr(asyncpg.Pool, "fetch", away)
    await mirror.load()
    assert (mirror.allows(org["id"], PAGE), mirror.plan_of(org["id"])) == (True, "premium")


async def test_what_nobody_asks_about_is_forgotten(
    mirrored: tuple[System, OrgMirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    system, mirror = mirrored
    monkeypatch.setattr(limits, "MIRROR_PLANS_MAX", 2)
    orgs = [await system.open_org() for _ in range(5)]
    for org in orgs:
        mirror.plan_of(org["id"])
    await until(lambda: mirror.plan_of(orgs[0]["id"]) == mirror.plan_of(orgs[1]["id"]) == "premium")
    await system.made("GET", "/v1/cards", token=orgs[4]["key"])  # waits for the projector
    await mirror.load()
    assert mirror.plan_of(orgs[4]["id"]) == "", "so many at a time"
    mirror._asked, mirror._asked_before = set(), set()  # two intervals without a question
    await mirror.load()
    assert mirror._plans == {}
