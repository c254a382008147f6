"""Guessing passwords: each failure makes the next try wait longer, and nobody can lock the owner out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.identity import limits
from gateway.proxies import TrustedProxies
from tests.edge.asgi import Answer
from tests.edge.in_process import PASSWORD, System, running_system

ANN = "ann@example.com"
GUESS = "a-wrong-8842-lamp"


@pytest.fixture
async def system(migrated_database: str) -> Any:
    """Behind a proxy, so that tests can come from anywhere."""
    async with running_system(migrated_database, proxies=TrustedProxies(["127.0.0.1"])) as system:
        yield system


async def login(system: System, password: str, address: str = "198.51.100.7", email: str = ANN) -> Answer:
    body = {"email": email, "password": password}
    return await system.call("POST", "/v1/auth/login", body, **{"X-Forwarded-For": address})


async def fail(system: System, times: int, address: str = "198.51.100.7", email: str = ANN) -> list[int]:
    return [(await login(system, GUESS, address, email)).status for _ in range(times)]


async def test_the_pause_doubles_up_to_its_limit_and_a_success_ends_it(system: System) -> None:
    await system.register(ANN)
    assert await fail(system, limits.LOGIN_FREE_FAILURES) == [401] * limits.LOGIN_FREE_FAILURES
    pauses = []
    for _ in range(13):
        answer = await login(system, PASSWORD)
        assert (answer.status, answer.json()["code"]) == (429, "rate_limited"), "the right one is not looked at either"
        pauses.append(-(-answer.json()["retry_after_ms"] // 1_000))
        assert int(answer.headers["retry-after"]) == pauses[-1]
        system.clock.ahead_ms += answer.json()["retry_after_ms"]
        assert await fail(system, 1) == [401]
    most = limits.LOGIN_PAUSE_MAX_MS // 1_000
    assert pauses == [min(2**step, most) for step in range(13)]
    system.clock.ahead_ms += limits.LOGIN_PAUSE_MAX_MS
    assert (await login(system, PASSWORD)).status == 200
    assert await fail(system, limits.LOGIN_FREE_FAILURES) == [401] * limits.LOGIN_FREE_FAILURES


async def test_addresses_without_an_account_are_slowed_down_alike(system: System) -> None:
    assert await fail(system, limits.LOGIN_FREE_FAILURES + 1, email="nobody@example.com") == [401] * 5 + [429]


async def test_many_guesses_at_once_are_no_way_around_it(system: System) -> None:
    await system.register(ANN)
    answers = await asyncio.gather(*(login(system, GUESS) for _ in range(40)))
    assert sorted(answer.status for answer in answers) == [401] * 5 + [429] * 35


async def test_many_addresses_are_no_way_around_it(system: System) -> None:
    await system.register(ANN)
    statuses = [(await login(system, GUESS, f"203.0.113.{number}")).status for number in range(8)]
    assert statuses == [401] * 5 + [429] * 3


async def test_strangers_who_guess_do_not_lock_the_owner_out(system: System) -> None:
    await system.register(ANN)
    assert (await login(system, PASSWORD, "192.0.2.1")).status == 200
    await fail(system, limits.LOGIN_FREE_FAILURES)
    assert (await login(system, PASSWORD, "203.0.113.9")).status == 429
    assert (await login(system, PASSWORD, "192.0.2.1")).status == 200, "from where they signed in before"
    assert await fail(system, 6, "192.0.2.1") == [401] * 5 + [429], "but guessing from there is slowed down, too"


async def test_an_owner_far_from_home_gets_in_by_mail(system: System) -> None:
    await system.register(ANN)
    await fail(system, limits.LOGIN_FREE_FAILURES)
    away = {"X-Forwarded-For": "203.0.113.50"}
    await system.call("POST", "/v1/auth/forgot-password", {"email": ANN}, **away)
    await system.parts.post.settled()
    body = {"token": system.mailbox.to(ANN)[-1].token, "password": "another-8842-lamp"}
    assert (await system.call("POST", "/v1/auth/reset-password", body, **away)).status == 204
    await fail(system, limits.LOGIN_FREE_FAILURES + 1)
    assert (await login(system, "another-8842-lamp", "203.0.113.50")).status == 200


async def test_failures_are_forgotten_and_cleaned_away(system: System) -> None:
    await system.register(ANN)
    await fail(system, limits.LOGIN_FREE_FAILURES)
    system.clock.ahead_ms += limits.LOGIN_FORGOTTEN_AFTER_MS
    await fail(system, 1, email="nobody@example.com")
    rows = await system.parts.pool.fetch("SELECT email FROM login_attempts")
    assert [row["email"] for row in rows] == ["nobody@example.com"]
    assert await fail(system, limits.LOGIN_FREE_FAILURES) == [401] * limits.LOGIN_FREE_FAILURES


@pytest.mark.parametrize("act", ["login", "register", "forgot-password", "resend-verification", "verify"])
async def test_one_address_asks_so_often_and_no_more(migrated_database: str, act: str) -> None:
    body = {"email": ANN, "password": PASSWORD, "name": "Ann", "token": "mvm_x_y"}
    wanted = {
        "login": ("email", "password"),
        "register": ("email", "password", "name"),
        "verify": ("token",),
    }.get(act, ("email",))
    async with running_system(migrated_database, rates={"login-ip": "3/min"}) as system:
        sent = {name: body[name] for name in wanted}
        statuses = [(await system.call("POST", f"/v1/auth/{act}", sent)).status for _ in range(4)]
        await system.parts.post.settled()
    assert 429 not in statuses[:3]
    assert statuses[3] == 429
