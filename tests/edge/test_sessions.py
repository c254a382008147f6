"""Sessions: refresh tokens that rotate, what a thief gets from one, and news that reaches whoever is there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.identity import limits, sessions
from gateway.sockets import codes
from gateway.sockets import limits as socket_limits
from tests.edge.asgi import Answer
from tests.edge.in_process import SUPERADMIN_TOKEN, System
from tests.support.asgi_socket import open_socket

ANN = "ann@example.com"
WAITING = "SELECT true FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def refresh(system: System, token: str, **more: Any) -> Answer:
    return await system.call("POST", "/v1/auth/refresh", {"refresh_token": token, **more})


async def renewed(system: System, token: str, **more: Any) -> Any:
    answer = await refresh(system, token, **more)
    assert answer.status == 200, answer.body
    return answer.json()


async def is_good(system: System, signed_in: Any) -> bool:
    return (await system.call("GET", "/v1/me", token=signed_in["access_token"])).status == 200


# --- refresh tokens ---------------------------------------------------------------------------------------------------


async def test_each_use_gives_the_next(system: System) -> None:
    first = await system.register_and_login(ANN)
    assert (first["token_type"], first["expires_in"], first["refresh_expires_in"]) == ("Bearer", 900, 30 * 86_400)
    tokens = [first["refresh_token"]]
    for _ in range(3):
        system.clock.ahead_ms += limits.REFRESH_REPLAY_MS
        after = await renewed(system, tokens[-1])
        assert await is_good(system, after)
        tokens.append(after["refresh_token"])
    assert len(set(tokens)) == 4
    sessions = await system.made("GET", "/v1/auth/sessions", token=after["access_token"])
    assert len(sessions["items"]) == 1


async def test_a_lost_answer_is_given_again_for_a_while(system: System) -> None:
    first = await system.register_and_login(ANN)
    answer = await renewed(system, first["refresh_token"])
    system.clock.ahead_ms += limits.REFRESH_REPLAY_MS - 2_000
    again = await renewed(system, first["refresh_token"])
    assert {**again, "expires_in": 0, "refresh_expires_in": 0} == {**answer, "expires_in": 0, "refresh_expires_in": 0}
    assert await is_good(system, again)
    assert await renewed(system, answer["refresh_token"])


async def test_a_token_used_again_later_ends_the_session_for_thief_and_victim(system: System) -> None:
    first = await system.register_and_login(ANN)
    elsewhere = await system.login(ANN)
    after = await renewed(system, first["refresh_token"])
    system.clock.ahead_ms += limits.REFRESH_REPLAY_MS
    stolen = await refresh(system, first["refresh_token"])
    assert (stolen.status, stolen.json()["code"]) == (401, "refresh_token_invalid")
    assert not await is_good(system, after), "at once, not when the access token ends"
    assert (await refresh(system, after["refresh_token"])).status == 401
    assert await is_good(system, elsewhere), "the account's other sessions go on"


async def test_a_token_of_long_ago_ends_the_session_within_the_window_too(system: System) -> None:
    first = await system.register_and_login(ANN)
    second = await renewed(system, first["refresh_token"])
    third = await renewed(system, second["refresh_token"])
    assert (await refresh(system, first["refresh_token"])).status == 401
    assert (await refresh(system, third["refresh_token"])).status == 401
    assert not await is_good(system, third)


async def test_fifty_at_once_leave_one_successor_and_no_revocation(system: System) -> None:
    first = await system.register_and_login(ANN)
    answers = await asyncio.gather(*(renewed(system, first["refresh_token"]) for _ in range(50)))
    assert len({answer["refresh_token"] for answer in answers}) == 1
    assert len({answer["access_token"] for answer in answers}) == 1
    assert await is_good(system, answers[0])
    rows = await system.parts.pool.fetch("SELECT generation, ended_at_ms FROM sessions")
    assert [tuple(row) for row in rows] == [(1, None)]
    assert await renewed(system, answers[0]["refresh_token"])


async def test_two_at_once_never_take_a_session_back(system: System) -> None:
    """A use that is slow must not overwrite two later ones."""
    first = await system.register_and_login(ANN)
    secrets, now_ms = system.parts.secrets, system.clock.wall_ms()
    async with system.parts.pool.acquire() as connection, asyncio.timeout(20):
        async with connection.transaction():
            token = first["refresh_token"]
            for _ in range(2):
                parsed = sessions.parse(token)
                assert parsed is not None
                session = await sessions.rotate(connection, secrets, parsed, now_ms)
                assert isinstance(session, sessions.Session)
                token = sessions.refresh_token(secrets, session)
            slow = asyncio.create_task(refresh(system, first["refresh_token"]))
            while not await system.parts.pool.fetchval(WAITING):
                await system.parts.pool.fetchval("SELECT pg_sleep(0.01)")
        assert (await slow).status == 401
    assert await system.parts.pool.fetchval("SELECT generation FROM sessions") == 2


async def test_a_token_newer_than_postgres_remembers_ends_nothing(system: System) -> None:
    """Postgres was set back to a backup; the client signs in again."""
    first = await system.register_and_login(ANN)
    second = await renewed(system, first["refresh_token"])
    await system.parts.pool.execute("UPDATE sessions SET generation = 0")
    assert (await refresh(system, second["refresh_token"])).status == 401
    assert await is_good(system, second)


async def test_made_up_tokens_change_nothing(system: System) -> None:
    """Who knows a session's id cannot end it."""
    first = await system.register_and_login(ANN)
    after = await renewed(system, first["refresh_token"])
    head, _, secret = after["refresh_token"].rpartition("_")
    prefix, account, session, generation = head.split("_")
    made_up = [
        f"{head}_{'0' * len(secret)}",
        f"{prefix}_{account}_{session}_0_{secret}",
        f"{prefix}_{account}_{session}_{int(generation) + 1}_{secret}",
        f"{prefix}_{account}_nosuch_{generation}_{secret}",
        f"{prefix}_nobody_{session}_{generation}_{secret}",
        f"{prefix}_{account}_{session}_{'9' * 30}_{secret}",
        f"{prefix}_{account}_{session}_x_{secret}",
        f"{prefix}_{account}_{session}_-1_{secret}",
        f"{prefix}_{account}_{session}_²_{secret}",
        f"mvk_{account}_{session}_{generation}_{secret}",
        after["access_token"],
        "' OR 1=1 --",
        "x",
    ]
    for token in made_up:
        answer = await refresh(system, token[: limits.REFRESH_TOKEN_CHARS_MAX])
        assert (answer.status, answer.json()["code"]) == (401, "refresh_token_invalid"), token
    assert await is_good(system, after)
    assert await renewed(system, after["refresh_token"])


async def test_a_refresh_token_is_no_access_token_and_dies_after_thirty_days(system: System) -> None:
    first = await system.register_and_login(ANN)
    assert (await system.call("GET", "/v1/me", token=first["refresh_token"])).status == 401
    system.clock.ahead_ms += limits.REFRESH_TOKEN_LIFE_MS
    assert (await refresh(system, first["refresh_token"])).status == 401


async def test_an_access_token_ends_when_it_says(system: System) -> None:
    first = await system.register_and_login(ANN)
    system.clock.ahead_ms += limits.ACCESS_TOKEN_LIFE_MS - 5_000
    assert await is_good(system, first)
    system.clock.ahead_ms += 5_000
    assert not await is_good(system, first), "also where it was remembered a moment ago"
    assert await renewed(system, first["refresh_token"])


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_sign_in_tried_again_finds_its_session(system: System) -> None:
    await system.register(ANN)
    body = {"email": ANN, "password": "a-lamp-and-8842-doors"}
    first = (await system.call("POST", "/v1/auth/login", body, key="l-1")).json()
    again = (await system.call("POST", "/v1/auth/login", body, key="l-1")).json()
    assert (again["refresh_token"], again["access_token"]) == (first["refresh_token"], first["access_token"])
    assert (await system.call("POST", "/v1/auth/login", body, key="l-2")).json()["refresh_token"] != first[
        "refresh_token"
    ]
    await renewed(system, first["refresh_token"])
    later = (await system.call("POST", "/v1/auth/login", body, key="l-1")).json()
    assert await renewed(system, later["refresh_token"]), "a used one is somebody else's by now"
    assert await system.parts.pool.fetchval("SELECT count(*) FROM sessions") == 3


async def test_ones_sessions_are_listed_and_ended(system: System) -> None:
    here = await system.register_and_login(ANN)
    answer = await system.call(
        "POST",
        "/v1/auth/login",
        {"email": ANN, "password": "a-lamp-and-8842-doors"},
        **{"User-Agent": "Phone\x07 " + "x" * 300},
    )
    there = answer.json()
    sessions = (await system.made("GET", "/v1/auth/sessions", token=here["access_token"]))["items"]
    assert [session["is_current"] for session in sessions] == [False, True]
    assert sessions[0]["user_agent"] == ("Phone " + "x" * 300)[: limits.USER_AGENT_CHARS_MAX]
    assert sessions[0]["origin"] == "127.0.0.1"
    path = f"/v1/auth/sessions/{sessions[0]['id']}"
    other = await system.register_and_login("bob@example.com")
    foreign = await system.call("DELETE", path, token=other["access_token"])
    absent = await system.call("DELETE", "/v1/auth/sessions/ses_none", token=other["access_token"])
    assert (
        (foreign.status, foreign.json()["code"]) == (absent.status, absent.json()["code"]) == (404, "session_unknown")
    )
    assert await is_good(system, there)
    assert (await system.call("DELETE", path, token=here["access_token"])).status == 204
    assert not await is_good(system, there)
    assert await is_good(system, here)


async def test_signing_out_here_or_everywhere(system: System) -> None:
    first, second, third = [await system.register_and_login(ANN), await system.login(ANN), await system.login(ANN)]
    assert (await system.call("POST", "/v1/auth/logout", token=first["access_token"])).status == 204
    assert [await is_good(system, each) for each in (first, second, third)] == [False, True, True]
    assert (await refresh(system, first["refresh_token"])).status == 401
    answer = await system.call("POST", "/v1/auth/logout", {"all": True}, token=second["access_token"])
    assert answer.status == 204
    assert [await is_good(system, each) for each in (first, second, third)] == [False, False, False]


async def test_the_session_not_used_for_longest_makes_room(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_PER_ACCOUNT_MAX", 3)
    monkeypatch.setattr(limits, "SESSIONS_REMEMBERED_MAX", 2)
    signed_in = [await system.register_and_login(ANN)]
    for _ in range(2):
        system.clock.ahead_ms += 1_000
        signed_in.append(await system.login(ANN))
    system.clock.ahead_ms += 1_000
    signed_in[0] = await renewed(system, signed_in[0]["refresh_token"])
    system.clock.ahead_ms += 1_000
    signed_in.append(await system.login(ANN))
    assert [await is_good(system, each) for each in signed_in] == [True, False, True, True]
    for _ in range(6):
        system.clock.ahead_ms += 1_000
        await system.login(ANN)
    rows = await system.parts.pool.fetch("SELECT ended_at_ms FROM sessions")
    assert sum(row["ended_at_ms"] is None for row in rows) == 3
    assert len(rows) <= 3 + 2 + 1, "those that are over are not kept for ever"


# --- organisations ----------------------------------------------------------------------------------------------------


async def test_an_account_acts_for_one_organisation_at_a_time(system: System) -> None:
    one, two = [(await system.open_org(name))["id"] for name in ("One", "Two")]
    ann = await system.register_and_login(ANN)
    account_id = ann["account"]["id"]

    async def me(signed_in: Any, **headers: str) -> tuple[str | None, str]:
        found = await system.made("GET", "/v1/me", token=signed_in["access_token"], **headers)
        return found["org_id"], found["role"]

    assert await me(ann) == (None, "account")
    await system.grant(account_id, two, "staff")
    assert await me(ann) == (two, "staff"), "the sole one; known at once"
    await system.grant(account_id, one, "org_admin")
    assert await me(ann) == (two, "staff"), "the one joined first"
    assert await me(ann, **{"X-Org-Id": one}) == (one, "org_admin")
    chosen = await system.login(ANN, org_id=one)
    assert await me(chosen) == (one, "org_admin")
    assert await me(chosen, **{"X-Org-Id": two}) == (two, "staff")
    assert chosen["orgs"] == [{"id": two, "role": "staff"}, {"id": one, "role": "org_admin"}]
    kept = await renewed(system, chosen["refresh_token"])
    assert await me(kept) == (one, "org_admin"), "the choice is kept"
    switched = await renewed(system, kept["refresh_token"], org_id=two)
    assert await me(switched) == (two, "staff")


async def test_a_foreign_organisation_looks_absent(system: System) -> None:
    own, foreign = [(await system.open_org(name))["id"] for name in ("Own", "Foreign")]
    admin = await system.signed_in("org_admin", own)
    assert (await system.call("GET", f"/v1/orgs/{own}", token=admin["access_token"])).status == 200
    found = []
    for org_id in (foreign, "org_none"):
        answers = [
            await system.call("GET", f"/v1/orgs/{org_id}", token=admin["access_token"]),
            await system.call("GET", "/v1/events", token=admin["access_token"], **{"X-Org-Id": org_id}),
            await refresh(system, admin["refresh_token"], org_id=org_id),
            await system.call(
                "POST",
                "/v1/auth/login",
                {"email": admin["account"]["email"], "password": "a-lamp-and-8842-doors", "org_id": org_id},
            ),
        ]
        found.append([(answer.status, answer.json()["code"], answer.json()["detail"]) for answer in answers])
    assert found[0] == found[1]
    assert {status for status, _, _ in found[0]} <= {403, 404}
    assert await renewed(system, admin["refresh_token"]), "asking for what is not there uses nothing up"


async def test_a_member_sees_which_cards_are_theirs(system: System) -> None:
    org = await system.open_org()
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Ann"}, "tier": "gold"}, org["key"])
    await system.made("POST", "/v1/cards", {"member": {"name": "Bob"}, "tier": "gold"}, org["key"])
    await system.made("GET", "/v1/cards", token=org["key"])  # waits until the cards are in Postgres
    ann = await system.signed_in("member", org["id"], card["member"]["id"])
    me = await system.made("GET", "/v1/me", token=ann["access_token"])
    assert me["orgs"] == [
        {
            "id": org["id"],
            "name": "Table",
            "role": "member",
            "member_id": card["member"]["id"],
            "card_ids": [card["id"]],
        }
    ]
    changed = await system.made("PATCH", "/v1/me", {"name": "Ánh", "locale": "vi"}, ann["access_token"])
    assert (changed["account"]["name"], changed["account"]["locale"]) == ("Ánh", "vi")
    same = await system.made("PATCH", "/v1/me", {}, ann["access_token"])
    assert same == changed
    assert (await system.call("GET", "/v1/me", token=org["key"])).status == 403, "keys are nobody"


async def test_the_bootstrap_token_has_no_profile(system: System) -> None:
    answer = await system.call("GET", "/v1/me", token=SUPERADMIN_TOKEN)
    assert (answer.status, answer.json()["code"]) == (404, "account_unknown")


async def test_a_superadmin_is_one_everywhere(system: System) -> None:
    org = await system.open_org()
    platform = await system.superadmin()
    await system.grant(platform["account"]["id"], org["id"], "staff")
    for headers in ({}, {"X-Org-Id": org["id"]}):
        me = await system.made("GET", "/v1/me", token=platform["access_token"], **headers)
        assert (me["role"], me["account"]["platform_role"]) == ("superadmin", "superadmin")
    assert (await system.call("GET", f"/v1/orgs/{org['id']}", token=platform["access_token"])).status == 200


# --- sockets ----------------------------------------------------------------------------------------------------------


async def end_logout(system: System, signed_in: Any, org_id: str) -> None:
    await system.call("POST", "/v1/auth/logout", token=signed_in["access_token"])


async def end_reuse(system: System, signed_in: Any, org_id: str) -> None:
    second = await renewed(system, signed_in["refresh_token"])
    await renewed(system, second["refresh_token"])
    await refresh(system, signed_in["refresh_token"])


async def end_role(system: System, signed_in: Any, org_id: str) -> None:
    await system.grant(signed_in["account"]["id"], org_id, "org_admin")


async def end_suspension(system: System, signed_in: Any, org_id: str) -> None:
    platform = (await system.superadmin())["access_token"]
    await system.made("POST", f"/v1/accounts/{signed_in['account']['id']}/suspend", token=platform)


async def end_password(system: System, signed_in: Any, org_id: str) -> None:
    email = signed_in["account"]["email"]
    await system.call("POST", "/v1/auth/forgot-password", {"email": email})
    await system.parts.post.settled()
    body = {"token": system.mailbox.to(email)[-1].token, "password": "another-8842-lamp"}
    assert (await system.call("POST", "/v1/auth/reset-password", body)).status == 204


async def end_of_the_token(system: System, signed_in: Any, org_id: str) -> None:
    system.clock.ahead_ms += limits.ACCESS_TOKEN_LIFE_MS


@pytest.mark.parametrize("end", [end_logout, end_reuse, end_role, end_suspension, end_password, end_of_the_token])
async def test_what_ends_a_session_reaches_its_sockets(
    system: System, end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_limits, "WATCH_EVERY_MS", 50)  # and every `TOKEN_CHECK_EVERY_MS`, far later, anyway
    org = await system.open_org()
    staff = await system.signed_in("staff", org["id"])
    other = await system.signed_in("staff", org["id"])
    async with open_socket(system.app, "/v1/live", staff["access_token"]) as socket:
        await socket.send({"t": "ping", "n": 1})
        assert (await socket.frames.get())["t"] == "pong"
        async with open_socket(system.app, "/v1/live", other["access_token"]) as theirs:
            await theirs.send({"t": "ping", "n": 1})
            assert (await theirs.frames.get())["t"] == "pong"
            await end(system, staff, org["id"])
            # With another role they may come again; else not.
            close = codes.ACCESS_CHANGED if end is end_role else codes.TOKEN_INVALID
            assert await socket.closed() == close.code
            if end is not end_of_the_token:
                await theirs.send({"t": "ping", "n": 2})
                assert (await theirs.frames.get())["n"] == 2, "nobody else is sent away"
