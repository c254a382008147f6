"""Limits over HTTP: who is refused when, what they are told, and whom it does not touch."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.proxies import TrustedProxies
from tests.edge.asgi import Answer, call
from tests.edge.edge import DEVICE, KEY, OTHER_KEY, FakeEdge, bearer

PATH = "/v1/checkins"
COLD = "/v1/events/evt_1"
GUESSING = {"auth-failed-ip": "1/h burst 3"}


def body(edge: FakeEdge) -> dict[str, str]:
    return {"event_id": "evt_1", "credential": edge.credential()}


async def checked_in(edge: FakeEdge, token: str = KEY, **headers: str) -> Answer:
    return await call(edge.app, "POST", PATH, body(edge), bearer(token) | headers)


def is_limited(answer: Answer, name: str) -> bool:
    """Whether it is 429 as the contract has it, for this limit."""
    if answer.status != 429:
        return False
    document = answer.json()
    assert document["code"] == "rate_limited"
    assert document["retry_after_ms"] > 0
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["ratelimit-policy"].startswith(f'"{name}";q=')
    assert f'"{name}";r=0;t=' in answer.headers["ratelimit"]
    return True


class TestCheckIns:
    async def test_a_caller_over_its_limit_is_refused_and_others_are_not(self) -> None:
        edge = FakeEdge({"checkins-key": "1/h burst 2"})
        answers = [await checked_in(edge) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 429, 429]
        assert is_limited(answers[3], "checkins-key")
        assert len(edge.engine.messages) == 2, "refused without effect"
        assert (await checked_in(edge, DEVICE)).status == 200

    async def test_an_organisation_over_its_limit_is_refused_whoever_calls(self) -> None:
        edge = FakeEdge({"checkins-org": "1/h burst 2"})
        assert [(await checked_in(edge, token)).status for token in (KEY, DEVICE)] == [200, 200]
        assert is_limited(await checked_in(edge, KEY), "checkins-org")
        assert is_limited(await checked_in(edge, DEVICE), "checkins-org")
        other = {"event_id": "evt_1", "credential": edge.credential("org_d")}
        assert (await call(edge.app, "POST", PATH, other, bearer(OTHER_KEY))).status == 200

    async def test_the_items_of_a_batch_count_each(self) -> None:
        edge = FakeEdge({"checkins-key": "1/h burst 3"})
        batch = {"items": [body(edge) for _ in range(5)]}
        answer = await call(edge.app, "POST", PATH + ":batch", batch, bearer(KEY))
        problems = [item.get("problem", {}).get("code") for item in answer.json()["items"]]
        assert problems == [None, None, None, "rate_limited", "rate_limited"]
        assert is_limited(await checked_in(edge), "checkins-key")

    async def test_points_count_as_check_ins(self) -> None:
        edge = FakeEdge({"checkins-key": "1/h burst 1"})
        path = "/v1/cards/card_1/points/award"
        assert (await call(edge.app, "POST", path, {"amount": 1}, bearer(KEY))).status == 200
        assert is_limited(await call(edge.app, "POST", path, {"amount": 1}, bearer(KEY)), "checkins-key")

    async def test_answers_that_are_no_refusal_say_nothing_of_limits(self) -> None:
        assert "ratelimit" not in (await checked_in(FakeEdge())).headers


class TestColdRoutes:
    async def test_a_caller_over_its_limit_is_refused_and_others_are_not(self) -> None:
        edge = FakeEdge({"rest-key": "1/h burst 2"})
        answers = [await call(edge.app, "GET", COLD, headers=bearer(KEY)) for _ in range(3)]
        assert answers[0].headers["ratelimit"] == '"rest-key";r=1;t=3600'
        assert answers[0].headers["ratelimit-policy"] == '"rest-key";q=2;w=7200'
        assert is_limited(answers[2], "rest-key")
        assert (await call(edge.app, "GET", COLD, headers=bearer(OTHER_KEY))).status != 429
        assert (await checked_in(edge)).status == 200, "check-ins are counted by themselves"

    async def test_without_a_caller_the_address_is_limited(self) -> None:
        edge = FakeEdge({"rest-ip": "1/h burst 2"})
        pairing = {"code": "org_a.wrong"}
        answers = [await call(edge.app, "POST", "/v1/devices/pair", pairing) for _ in range(3)]
        assert is_limited(answers[2], "rest-ip")

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"])
    async def test_what_operators_ask_all_the_time_is_not_limited(self, path: str) -> None:
        edge = FakeEdge({"rest-ip": "1/h burst 1", "rest-key": "1/h burst 1"})
        for _ in range(3):
            answer = await call(edge.app, "GET", path)
            assert (answer.status, "ratelimit" in answer.headers) == (200, False)


class TestFailedAttempts:
    @staticmethod
    async def guess(edge: FakeEdge, path: str = PATH, token: str = "mvk_guess", **headers: str) -> int:
        method = "POST" if path == PATH else "GET"
        given = body(edge) if path == PATH else None
        return (await call(edge.app, method, path, given, bearer(token) | headers)).status

    @pytest.mark.parametrize("path", [PATH, COLD])
    async def test_guessing_ends_and_the_callers_next_door_go_on(self, path: str) -> None:
        edge = FakeEdge(GUESSING)
        guesses = [await self.guess(edge, path, f"mvk_guess-{number}") for number in range(6)]
        assert guesses == [401, 401, 401, 429, 429, 429]
        assert await self.guess(edge, path, KEY) != 429

    async def test_once_refused_a_token_never_seen_is_not_even_looked_at(self) -> None:
        edge = FakeEdge(GUESSING)
        for _ in range(4):
            await self.guess(edge)
        identity: Any = edge.app.parts.identity
        identity._callers = {}  # KEY is good, but this gateway has not seen it yet

        async def authenticate(token: str, org_id: str = "") -> None:
            raise AssertionError("a guess was looked at")

        identity.authenticate = authenticate
        assert await self.guess(edge, token=KEY) == 429

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP"])
    async def test_made_up_addresses_do_not_help(self, header: str) -> None:
        edge = FakeEdge(GUESSING)
        guesses = []
        for number in range(6):
            value = f"for=203.0.113.{number}" if header == "Forwarded" else f"203.0.113.{number}"
            guesses.append(await self.guess(edge, **{header: value}))
        assert guesses == [401, 401, 401, 429, 429, 429]

    async def test_behind_a_trusted_proxy_each_client_has_its_own(self) -> None:
        edge = FakeEdge(GUESSING, proxies=TrustedProxies(["127.0.0.1"]))
        for _ in range(6):
            await self.guess(edge, **{"X-Forwarded-For": "203.0.113.1"})
        assert await self.guess(edge, **{"X-Forwarded-For": "203.0.113.1"}) == 429
        assert await self.guess(edge, **{"X-Forwarded-For": "203.0.113.2"}) == 401
        # What stands left of the proxy's own word is made up.
        assert await self.guess(edge, **{"X-Forwarded-For": "203.0.113.77, 203.0.113.1"}) == 429

    async def test_no_credentials_are_no_attempt(self) -> None:
        edge = FakeEdge(GUESSING)
        for _ in range(6):
            assert (await call(edge.app, "POST", PATH, body(edge))).status == 401
        assert await self.guess(edge) == 401
