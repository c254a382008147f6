"""A signed-in person's tokens: renewed once however many ask, under one id, and never used up by a lost answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.client import ApiError, AsyncMasterVip, RetryPolicy, SignedOut, Unavailable
from tests.support.client_timing import FakeTiming
from tests.support.faulty_http import CUT, FaultyServer, Reply, Seen, problem
from tests.support.socket_edge import until

LIFE_S = 900
RETRY = RetryPolicy(first_pause_s=0.1, pause_s_max=1.0, deadline_s=5.0)


class AuthServer:
    """Access tokens `a1`, `a2`, …: only the newest is good. Refresh tokens `r1`, `r2`, … work once; the same
    Idempotency-Key gets the same answer again."""

    def __init__(self) -> None:
        self.number = 0
        self.refused = 0
        self.answers: dict[str, Reply] = {}
        self.refreshes: list[tuple[str, str | None]] = []
        self.troubles: list[Reply | None] = []  # in place of the next answers to renewals; executed all the same
        self.gate = asyncio.Event()
        self.gate.set()
        self.server = FaultyServer(self.handle)

    async def handle(self, seen: Seen) -> Reply | None:
        if seen.path == "/v1/auth/login":
            return self._tokens()
        if seen.path == "/v1/auth/logout":
            return Reply(204, b"")
        if seen.path == "/v1/auth/refresh":
            return await self._refresh(seen)
        is_good = seen.headers.get("authorization") == f"Bearer a{self.number}"
        self.refused += not is_good
        return Reply(200, {"ok": True}) if is_good else problem(401, "unauthenticated")

    async def _refresh(self, seen: Seen) -> Reply | None:
        spent = seen.json()["refresh_token"]
        assert seen.key is not None
        assert "authorization" not in seen.headers
        self.refreshes.append((spent, seen.key))
        await self.gate.wait()
        if seen.key not in self.answers:
            if spent != f"r{self.number}":
                return problem(401, "refresh_token_invalid")
            self.answers[seen.key] = self._tokens()
        return self.troubles.pop(0) if self.troubles else self.answers[seen.key]

    def _tokens(self) -> Reply:
        self.number += 1
        tokens = {"access_token": f"a{self.number}", "refresh_token": f"r{self.number}"}
        return Reply(200, {**tokens, "token_type": "Bearer", "expires_in": LIFE_S, "account": {"id": "acc_1"}})

    def revoke_access(self) -> None:
        """The newest access token is no longer good; its refresh token is."""
        self.number += 1
        self.answers.clear()


@asynccontextmanager
async def signed_in(fake: FakeTiming) -> AsyncIterator[tuple[AsyncMasterVip, AuthServer]]:
    """A client that has signed in."""
    auth = AuthServer()
    async with auth.server as server, AsyncMasterVip(server.url, retry=RETRY, timing=fake.timing) as vip:
        answer = await vip.login("ann@example.com", "correct horse")
        assert answer["account"] == {"id": "acc_1"}
        yield vip, auth


async def ask(vip: AsyncMasterVip) -> bool:
    answer: dict[str, bool] = await vip.request("GET", "/v1/me")
    return answer["ok"]


async def test_who_has_signed_in_is_known() -> None:
    async with signed_in(FakeTiming()) as (vip, auth):
        assert await ask(vip)
        assert auth.server.seen[0].json() == {"email": "ann@example.com", "password": "correct horse"}
        assert auth.refreshes == []


async def test_the_access_token_is_renewed_shortly_before_it_ends() -> None:
    fake = FakeTiming()
    async with signed_in(fake) as (vip, auth):
        fake.now_s += LIFE_S - 61
        assert await ask(vip)
        assert auth.refreshes == []
        fake.now_s += 2
        assert await ask(vip)
        assert [spent for spent, _ in auth.refreshes] == ["r1"]
        assert auth.server.seen[-1].headers["authorization"] == "Bearer a2"


@pytest.mark.parametrize("is_expired", [True, False])
async def test_twenty_calls_renew_once(is_expired: bool) -> None:
    fake = FakeTiming()
    async with signed_in(fake) as (vip, auth):
        auth.gate.clear()
        if is_expired:
            fake.now_s += LIFE_S
        else:
            auth.number = 10  # another token is good now: each call is refused with 401 first
        calls = [asyncio.create_task(ask(vip)) for _ in range(20)]
        await until(lambda: auth.refreshes != [] and (is_expired or auth.refused == 20))
        auth.number = 1
        auth.gate.set()
        assert await asyncio.gather(*calls) == [True] * 20
        assert [spent for spent, _ in auth.refreshes] == ["r1"]


async def test_a_401_is_tried_once_more_under_the_same_id() -> None:
    async with signed_in(FakeTiming()) as (vip, auth):
        held = auth.number
        auth.number = 5  # a1 is refused

        async def handle(seen: Seen) -> Reply | None:
            if seen.path == "/v1/auth/refresh":
                auth.number = held
            return await AuthServer.handle(auth, seen)

        auth.server.handler = handle
        await vip.request("POST", "/v1/cards", json={})
    first, _, again = auth.server.seen[1:]
    assert (first.path, again.path) == ("/v1/cards", "/v1/cards")
    assert first.key == again.key
    assert again.headers["authorization"] == "Bearer a2"


async def test_who_is_refused_with_a_new_token_too_is_told() -> None:
    async with signed_in(FakeTiming()) as (vip, auth):

        async def handle(seen: Seen) -> Reply | None:
            if seen.path == "/v1/me":
                return problem(401, "unauthenticated")
            return await AuthServer.handle(auth, seen)

        auth.server.handler = handle
        with pytest.raises(ApiError):
            await ask(vip)
        assert [seen.path for seen in auth.server.seen[1:]] == ["/v1/me", "/v1/auth/refresh", "/v1/me"]


async def test_a_refusal_that_comes_late_renews_nothing() -> None:
    came, gate = asyncio.Event(), asyncio.Event()

    async with signed_in(FakeTiming()) as (vip, auth):

        async def handle(seen: Seen) -> Reply | None:
            if seen.path == "/v1/slow" and not gate.is_set():
                came.set()
                await gate.wait()
                return problem(401, "unauthenticated")
            return await AuthServer.handle(auth, seen)

        auth.server.handler = handle
        slow = asyncio.create_task(vip.request("GET", "/v1/slow"))
        await came.wait()
        assert await vip._credentials.renew("a1")
        gate.set()
        assert (await slow)["ok"]
        assert len(auth.refreshes) == 1


async def test_a_renewal_whose_answer_is_lost_is_the_same_request_again() -> None:
    fake = FakeTiming()
    async with signed_in(fake) as (vip, auth):
        auth.troubles = [CUT, problem(503, "unavailable")]
        fake.now_s += LIFE_S
        assert await ask(vip)
        assert len(auth.refreshes) == 3
        assert len(set(auth.refreshes)) == 1, "one refresh token, one Idempotency-Key"


async def test_also_when_it_was_given_up_in_between() -> None:
    fake = FakeTiming(chance=1.0)
    async with signed_in(fake) as (vip, auth):
        fake.now_s += LIFE_S
        auth.troubles = [CUT] * 100
        with pytest.raises(Unavailable):
            await ask(vip)
        auth.troubles = []
        assert await ask(vip)
        assert len(set(auth.refreshes)) == 1


async def test_a_cancelled_call_does_not_lose_the_renewal() -> None:
    fake = FakeTiming()
    async with signed_in(fake) as (vip, auth):
        fake.now_s += LIFE_S
        auth.gate.clear()
        call = asyncio.create_task(ask(vip))
        await until(lambda: auth.refreshes != [])
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        auth.gate.set()
        assert await ask(vip)
        assert len(auth.refreshes) == 1


async def test_while_the_access_token_is_good_a_failed_renewal_stops_nobody() -> None:
    fake = FakeTiming(chance=1.0)
    async with signed_in(fake) as (vip, auth):
        fake.now_s += LIFE_S - 50
        auth.troubles = [problem(503, "unavailable")] * 100
        auth.answers = _Never()
        assert await ask(vip)


class _Never(dict[str, Reply]):
    """No renewal is ever executed."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> Reply:
        return problem(503, "unavailable")


async def test_a_refused_refresh_token_ends_the_session_for_all() -> None:
    fake = FakeTiming()
    async with signed_in(fake) as (vip, auth):
        auth.revoke_access()
        fake.now_s += LIFE_S
        outcomes = await asyncio.gather(*(ask(vip) for _ in range(5)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SignedOut] * 5
        with pytest.raises(SignedOut):
            await ask(vip)
        assert len(auth.refreshes) == 1, "a token that was refused is not sent again"
        await vip.login("ann@example.com", "correct horse")
        assert await ask(vip)


async def test_after_a_logout_nobody_is_signed_in() -> None:
    async with signed_in(FakeTiming()) as (vip, auth):
        await vip.logout()
        assert auth.server.seen[-1].json() == {"all": False}
        assert auth.server.seen[-1].headers["authorization"] == "Bearer a1"
        await vip.login("ann@example.com", "correct horse")
        await vip.logout(everywhere=True)
        assert auth.server.seen[-1].json() == {"all": True}
        await vip.logout()
        assert auth.server.seen[-1].json() == {"all": True}, "there was nobody to sign out"
        await vip.exchange("GET", "/v1/auth/login")
        assert "authorization" not in auth.server.seen[-1].headers


@pytest.mark.parametrize("first", [CUT, problem(401, "unauthenticated")])
async def test_a_logout_that_finds_the_session_over_is_done(first: Reply | None) -> None:
    async with signed_in(FakeTiming()) as (vip, auth):
        auth.revoke_access()
        replies = [first]

        async def handle(seen: Seen) -> Reply | None:
            if seen.path == "/v1/auth/logout":
                return replies.pop(0) if replies else problem(401, "unauthenticated")
            return await AuthServer.handle(auth, seen)

        auth.server.handler = handle
        await vip.logout()
        with pytest.raises(ApiError):
            await ask(vip)


async def test_callers_with_tokens_of_their_own_have_no_part_in_the_session() -> None:
    async with signed_in(FakeTiming()) as (vip, auth):
        device = vip.acting_as(f"a{auth.number}")
        assert (await device.request("GET", "/v1/me"))["ok"]
