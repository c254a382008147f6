"""Accounts through the API: registering, confirming, passwords, and that nobody learns who has an account."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from gateway.identity import accounts, limits
from gateway.identity.bootstrap import ensure_superadmin
from gateway.identity.passwords import PasswordHasher
from tests.edge.asgi import Answer
from tests.edge.in_process import PASSWORD, System
from tests.support.identity import CHEAP

ANN = "ann@example.com"
OTHER = "another-8842-lamp"


async def post(system: System, act: str, **body: Any) -> Answer:
    return await system.call("POST", f"/v1/auth/{act}", body)


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


async def test_from_registering_to_signing_in(system: System) -> None:
    answer = await post(system, "register", email=" Ann@Example.COM ", password=PASSWORD, name="Ann", locale="vi-VN")
    assert (answer.status, answer.json()) == (201, {"email": ANN, "status": "mail_sent"})
    await system.parts.post.settled()
    unverified = await system.login("ANN@example.com")
    assert unverified["account"] == {
        "id": unverified["account"]["id"],
        "email": ANN,
        "name": "Ann",
        "verified": False,
    }
    assert unverified["orgs"] == []
    (mail,) = system.mailbox.mails
    assert (await post(system, "verify", token=mail.token)).json() == {"verified": True}
    answer = await system.made("GET", "/v1/me", token=unverified["access_token"])
    assert answer["account"]["verified"], "known at once, also to sessions from before"
    assert answer["account"]["locale"] == "vi-VN"
    assert (await system.login(ANN))["account"]["verified"]


async def test_whether_a_caller_is_verified_is_known_to_routes(system: System) -> None:
    signed_in = await system.register_and_login(ANN, is_verified=False)
    caller = await system.parts.identity.authenticate(signed_in["access_token"])
    assert caller is not None
    assert (caller.role, caller.is_verified) == ("account", False)
    await post(system, "verify", token=system.mailbox.mails[0].token)
    caller = await system.parts.identity.authenticate(signed_in["access_token"])
    assert caller is not None
    assert caller.is_verified


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("email", "no address", "not an e-mail address"),
        ("email", "a,b@example.com", "not an e-mail address"),
        ("password", "short", "at least 10"),
        ("password", "password-1234", "first that are tried"),
        ("password", "ann@example.com!", "part of your name"),
        ("password", 12345678901, "string"),
        ("name", "", "at least 1"),
        ("name", "a\nb", "pattern"),
        ("locale", "../../etc", "pattern"),
        ("is_admin", True, "not permitted"),
        ("platform_role", "superadmin", "not permitted"),
    ],
)
async def test_what_is_wrong_is_said(system: System, field: str, value: Any, says: str) -> None:
    body = {"email": ANN, "password": PASSWORD, "name": "Ann"} | {field: value}
    answer = await post(system, "register", **body)
    assert answer.status == 400
    (error,) = answer.json()["errors"]
    assert error["pointer"] == f"#/{field}"
    assert says in error["detail"]
    assert await system.parts.pool.fetchval("SELECT count(*) FROM accounts") == 0


async def test_registering_again_looks_the_same_and_changes_nothing(system: System) -> None:
    first = await post(system, "register", email=ANN, password=PASSWORD, name="Ann")
    await system.parts.post.settled()
    again = await post(system, "register", email=ANN, password=OTHER, name="Mallory <a href=x>")
    await system.parts.post.settled()
    assert (first.status, first.json()) == (again.status, again.json())
    assert set(first.headers) == set(again.headers)
    assert code(await post(system, "login", email=ANN, password=OTHER)) == (401, "credentials_invalid")
    assert (await system.login(ANN))["account"]["name"] == "Ann"
    mails = system.mailbox.to(ANN)
    assert len(mails) == 2
    assert "you have an account already" in mails[1].subject
    assert "Mallory" not in mails[1].text, "nobody writes to others through us"
    assert code(await post(system, "verify", token=mails[1].token)) == (404, "mail_token_invalid")
    assert (await post(system, "reset-password", token=mails[1].token, password=OTHER)).status == 204
    assert (await system.login(ANN, OTHER))["account"]["verified"], "the owner gets it, whoever registered first"


async def test_a_registration_tried_again_is_the_same_one(system: System) -> None:
    body = {"email": ANN, "password": PASSWORD, "name": "Ann"}
    for _ in range(2):
        assert (await system.call("POST", "/v1/auth/register", body, key="r-1")).status == 201
        await system.parts.post.settled()
    assert [mail.subject for mail in system.mailbox.mails] == ["MasterVIP: confirm your e-mail address"] * 2


async def test_many_register_one_address_at_once(system: System) -> None:
    answers = await asyncio.gather(
        *(post(system, "register", email=ANN, password=PASSWORD, name=f"Ann {number}") for number in range(10))
    )
    assert {answer.status for answer in answers} == {201}
    assert await system.parts.pool.fetchval("SELECT count(*) FROM accounts") == 1
    assert await system.parts.pool.fetchval("SELECT count(*) FROM account_emails") == 1


async def test_nobody_learns_who_has_an_account(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same status, body and header names, and the same questions to Postgres and to the hasher."""
    await system.register(ANN)
    await post(system, "login", email="first@example.com", password=OTHER)  # the first one in an hour also cleans up
    for act, extra in (
        ("login", {"password": OTHER}),
        ("forgot-password", {}),
        ("resend-verification", {}),
    ):
        answers, queries = [], []
        for email in (ANN, "nobody@example.com"):
            asked = _Asked(monkeypatch)
            answer = await post(system, act, email=email, **extra)
            answers.append((answer.status, answer.body.replace(email.encode(), b"EMAIL"), set(answer.headers)))
            queries.append(asked.stop())
            await system.parts.post.settled()
        known, unknown = [(status, _without_ids(body), names) for status, body, names in answers]
        assert known == unknown, act
        assert queries[0] == queries[1], act
        assert queries[0], act
    assert len(system.mailbox.to(ANN)) == 2, "confirmed, so there is nothing to confirm again"
    assert system.mailbox.to("nobody@example.com") == []


def _without_ids(body: bytes) -> bytes:
    """A problem document names its own request."""
    head, _, tail = body.partition(b'"request_id":"')
    return head + tail.partition(b'"')[2]


class _Asked:
    """What a request asks of Postgres and of the hasher, until the answer is out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        self._patch = monkeypatch
        for kind, name in (
            *((asyncpg.Connection, name) for name in ("execute", "fetch", "fetchrow", "fetchval")),
            (PasswordHasher, "verify"),
        ):
            self._watch(kind, name)

    def _watch(self, kind: Any, name: str) -> None:
        method = getattr(kind, name)

        async def watched(subject: Any, first: Any, *args: Any, **more: Any) -> Any:
            self.seen.append(first if kind is asyncpg.Connection else name)
            return await method(subject, first, *args, **more)

        self._patch.setattr(kind, name, watched)

    def stop(self) -> list[str]:
        self._patch.undo()
        return self.seen


@pytest.mark.parametrize("act", ["verify", "reset-password"])
async def test_a_mailed_token_works_once_for_its_purpose_and_in_time(system: System, act: str) -> None:
    await system.register(ANN, is_verified=False)
    await post(system, "forgot-password", email=ANN)
    await system.parts.post.settled()
    verifying, resetting = (mail.token for mail in system.mailbox.to(ANN))
    token, other = (verifying, resetting) if act == "verify" else (resetting, verifying)
    more = {} if act == "verify" else {"password": OTHER}
    life_ms = limits.VERIFY_TOKEN_LIFE_MS if act == "verify" else limits.RESET_TOKEN_LIFE_MS
    for wrong in (other, token[:-1], token + "x", "mvm_x_y", token.replace("mvm", "mvr"), "' OR 1=1 --"):
        assert code(await post(system, act, token=wrong, **more)) == (404, "mail_token_invalid")
    system.clock.ahead_ms = life_ms
    assert code(await post(system, act, token=token, **more)) == (404, "mail_token_invalid")
    system.clock.ahead_ms = 0
    answers = await asyncio.gather(*(post(system, act, token=token, **more) for _ in range(8)))
    assert sorted(answer.status < 300 for answer in answers) == [False] * 7 + [True]
    stored = await system.parts.pool.fetch("SELECT token_hash FROM mail_tokens")
    assert all(token.encode() not in row["token_hash"] for row in stored)


async def test_a_reset_ends_all_sessions_and_all_other_reset_tokens(system: System) -> None:
    before = await system.register_and_login(ANN)
    for _ in range(2):
        await post(system, "forgot-password", email=ANN)
        await system.parts.post.settled()
    first, second = (mail.token for mail in system.mailbox.to(ANN)[-2:])
    weak = await post(system, "reset-password", token=first, password="password-1234")
    assert code(weak) == (400, "password_weak")
    assert weak.json()["errors"][0]["pointer"] == "#/password"
    assert (await post(system, "reset-password", token=first, password=OTHER)).status == 204, "the token was kept"
    assert code(await post(system, "reset-password", token=second, password=PASSWORD)) == (404, "mail_token_invalid")
    assert (await system.call("GET", "/v1/me", token=before["access_token"])).status == 401
    assert code(await post(system, "refresh", refresh_token=before["refresh_token"])) == (401, "refresh_token_invalid")
    assert code(await post(system, "login", email=ANN, password=PASSWORD)) == (401, "credentials_invalid")
    assert await system.login(ANN, OTHER)
    await system.parts.post.settled()
    assert "was changed" in system.mailbox.to(ANN)[-1].subject


async def test_another_password_ends_all_other_sessions(system: System) -> None:
    here = await system.register_and_login(ANN)
    there = await system.login(ANN)

    async def change(current: str, new: str) -> Answer:
        body = {"current_password": current, "new_password": new}
        return await system.call("POST", "/v1/auth/change-password", body, here["access_token"])

    assert code(await change(OTHER, OTHER)) == (403, "password_wrong")
    weak = await change(PASSWORD, "password-1234")
    assert code(weak) == (400, "password_weak")
    assert weak.json()["errors"][0]["pointer"] == "#/new_password"
    assert (await change(PASSWORD, OTHER)).status == 204
    assert (await system.call("GET", "/v1/me", token=here["access_token"])).status == 200
    assert (await system.call("GET", "/v1/me", token=there["access_token"])).status == 401
    assert await system.login(ANN, OTHER)


async def test_a_found_session_does_not_help_to_find_the_password(system: System) -> None:
    found = await system.register_and_login(ANN)
    body = {"current_password": OTHER, "new_password": OTHER}
    statuses = [
        (await system.call("POST", "/v1/auth/change-password", body, found["access_token"])).status
        for _ in range(limits.LOGIN_FREE_FAILURES + 1)
    ]
    assert statuses == [403] * limits.LOGIN_FREE_FAILURES + [429]
    assert await system.login(ANN), "the owner is not locked out by it"


async def test_a_mailbox_is_not_flooded(system: System) -> None:
    await system.register(ANN)
    for _ in range(limits.MAILS_PER_ACCOUNT_MAX + 3):
        assert (await post(system, "forgot-password", email=ANN)).status == 202
        await system.parts.post.settled()
    resets = [mail for mail in system.mailbox.to(ANN) if "new password" in mail.subject]
    assert len(resets) == limits.MAILS_PER_ACCOUNT_MAX


async def test_a_mail_server_that_is_away_changes_no_answer(system: System) -> None:
    system.mailbox.is_away = True
    assert (await post(system, "register", email=ANN, password=PASSWORD, name="Ann")).status == 201
    await system.parts.post.settled()
    system.mailbox.is_away = False
    assert (await post(system, "resend-verification", email=ANN)).status == 202
    await system.parts.post.settled()
    assert (await post(system, "verify", token=system.mailbox.to(ANN)[0].token)).status == 200


async def test_a_hash_of_other_parameters_is_renewed_at_the_next_sign_in(system: System) -> None:
    await system.register(ANN)
    dearer = CHEAP.__class__(CHEAP.type, 19, 16, 32, time_cost=2, memory_cost=8, parallelism=1)
    older = PasswordHasher(dearer)
    await system.parts.pool.execute("UPDATE accounts SET password_hash = $1", await older.hash(PASSWORD))
    older.close()
    await system.login(ANN)
    stored = await system.parts.pool.fetchval("SELECT password_hash FROM accounts")
    assert not system.parts.passwords.needs_rehash(stored)
    assert await system.login(ANN)


async def test_a_password_changed_while_somebody_signs_in_lets_them_in_no_more(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    await system.register(ANN)
    hasher: Any = system.parts.passwords
    verify = hasher.verify

    async def verify_then_change(password_hash: str | None, password: str) -> bool:
        is_right: bool = await verify(password_hash, password)
        await system.parts.pool.execute("UPDATE accounts SET password_hash = $1", await hasher.hash(OTHER))
        return is_right

    monkeypatch.setattr(hasher, "verify", verify_then_change)
    assert code(await post(system, "login", email=ANN, password=PASSWORD)) == (401, "credentials_invalid")
    assert await system.parts.pool.fetchval("SELECT count(*) FROM sessions") == 0


async def test_a_suspended_account_is_told_so_only_where_its_password_is_known(system: System) -> None:
    signed_in = await system.register_and_login(ANN)
    platform = (await system.superadmin())["access_token"]
    account_id = signed_in["account"]["id"]
    suspended = await system.made("POST", f"/v1/accounts/{account_id}/suspend", token=platform)
    assert suspended["state"] == "suspended"
    assert (await system.call("GET", "/v1/me", token=signed_in["access_token"])).status == 401
    assert code(await post(system, "refresh", refresh_token=signed_in["refresh_token"]))[0] == 401
    assert code(await post(system, "login", email=ANN, password=OTHER)) == (401, "credentials_invalid")
    assert code(await post(system, "login", email=ANN, password=PASSWORD)) == (403, "account_suspended")
    await system.made("POST", f"/v1/accounts/{account_id}/suspend", token=platform)
    await system.made("POST", f"/v1/accounts/{account_id}/resume", token=platform)
    assert (await system.call("GET", "/v1/me", token=signed_in["access_token"])).status == 200
    assert (await post(system, "refresh", refresh_token=signed_in["refresh_token"])).status == 200, "it was not used up"
    lines = await system.parts.pool.fetch("SELECT target, detail FROM admin_log WHERE tenant_id = '' ORDER BY entry_id")
    assert [(row["target"], row["detail"]) for row in lines] == [
        (account_id, '{"state": "suspended"}'),
        (account_id, '{"state": "active"}'),
    ], "an act that changes nothing is no act"


async def test_only_the_platform_manages_accounts(system: System) -> None:
    ann = await system.register_and_login(ANN)
    for act in ("suspend", "resume"):
        answer = await system.call("POST", f"/v1/accounts/{ann['account']['id']}/{act}", token=ann["access_token"])
        assert code(answer) == (403, "forbidden")
    platform = (await system.superadmin())["access_token"]
    assert code(await system.call("GET", "/v1/accounts/acc_none", token=platform)) == (404, "account_unknown")
    found = await system.made("GET", f"/v1/accounts/{ann['account']['id']}", token=platform)
    assert (found["email"], found["state"]) == (ANN, "active")


async def test_nothing_at_rest_opens_an_account(system: System) -> None:
    signed_in = await system.register_and_login(ANN)
    secrets = [PASSWORD, signed_in["access_token"], signed_in["refresh_token"].rpartition("_")[2]]
    secrets += [mail.token.rpartition("_")[2] for mail in system.mailbox.mails if "mvm_" in mail.text]
    for table in ("accounts", "sessions", "mail_tokens", "login_attempts", "cold_requests", "admin_log"):
        text = str(await system.parts.pool.fetch(f"SELECT * FROM {table}"))
        assert not any(secret in text for secret in secrets), table


async def test_standing_is_one_question(system: System) -> None:
    """A look-up on the way to a request asks Postgres once, however many organisations somebody is part of."""
    signed_in = await system.register_and_login(ANN)
    account_id = signed_in["account"]["id"]
    for number in range(3):
        await system.grant(account_id, f"org_{number}", "staff")
    sessions = await system.made("GET", "/v1/auth/sessions", token=signed_in["access_token"])
    pool: Any = system.parts.pool
    person = await accounts.standing(pool, account_id, sessions["items"][0]["id"], system.clock.wall_ms())
    assert person is not None
    assert list(person.parts) == ["org_0", "org_1", "org_2"]


async def test_the_platform_makes_accounts(system: System) -> None:
    platform = (await system.superadmin())["access_token"]
    body = {"email": "Winston@example.com", "password": PASSWORD, "name": "Winston", "verified": True}

    async def make(key: str, **changes: Any) -> Answer:
        return await system.call("POST", "/v1/accounts", body | changes, platform, key=key)

    made = await make("one")
    assert made.status == 201
    assert made.json()["verified"]
    assert (await make("one")).json() == made.json(), "tried again"
    assert code(await make("two")) == (409, "email_taken")
    assert code(await make("three", email="x@example.com", password="password-1234")) == (400, "password_weak")
    signed_in = await system.login("winston@example.com")
    assert signed_in["account"]["id"] == made.json()["id"]
    assert code(await system.call("POST", "/v1/accounts", body, signed_in["access_token"])) == (403, "forbidden")
    assert system.mailbox.to("winston@example.com") == []
    assert await system.parts.pool.fetchval("SELECT count(*) FROM admin_log WHERE target = $1", made.json()["id"]) == 1


async def test_the_first_superadmin_is_made_once_and_stays_as_they_are(system: System) -> None:
    pool: Any = system.parts.pool
    passwords = system.parts.passwords

    async def ensured(password: str) -> bool:
        async with pool.acquire() as connection:
            return await ensure_superadmin(connection, passwords, "root@localhost", password, system.clock.wall_ms())

    assert await asyncio.gather(*(ensured(PASSWORD) for _ in range(4))) == [True] * 4
    signed_in = await system.login("root@localhost")
    assert (await system.made("GET", "/v1/me", token=signed_in["access_token"]))["role"] == "superadmin"
    assert signed_in["account"]["verified"]
    body = {"current_password": PASSWORD, "new_password": OTHER}
    await system.call("POST", "/v1/auth/change-password", body, signed_in["access_token"])
    assert not await ensured(PASSWORD)
    assert await system.login("root@localhost", OTHER)
    await pool.execute("UPDATE accounts SET platform_role = ''")
    assert not await ensured(OTHER), "who was demoted is not promoted again"
    me = await system.made("GET", "/v1/me", token=(await system.login("root@localhost", OTHER))["access_token"])
    assert me["role"] == "account"
