"""People of an organisation: invited by mail, with a role that changes, and never without an admin."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.orgs import limits
from tests.edge.asgi import Answer
from tests.edge.in_process import SUPERADMIN_TOKEN, System

BOB = "bob@example.com"


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


async def invited(system: System, path: str, token: str, email: str = BOB, role: str = "staff", **more: Any) -> str:
    """The token that the mail brings."""
    await system.made("POST", f"{path}/invitations", {"email": email, "role": role, **more}, token)
    await system.parts.post.settled()
    return system.mailbox.to(email)[-1].text.split("\n\n")[2]


async def accept(system: System, invitation: str, token: str) -> Answer:
    return await system.call("POST", "/v1/invitations/accept", {"token": invitation}, token)


@pytest.fixture
async def org(system: System) -> Any:
    """An organisation with its admin in `admin` and `admin_id`, and its `path`."""
    made = await system.open_org("High Table")
    signed_in = await system.signed_in("org_admin", made["id"])
    more = {"admin": signed_in["access_token"], "admin_id": signed_in["account"]["id"]}
    return made | more | {"path": f"/v1/orgs/{made['id']}"}


# --- invitations -----------------------------------------------------------------------------------------------------


async def test_from_an_invitation_to_a_role(system: System, org: Any) -> None:
    body = {"email": " Bob@Example.COM", "role": "staff"}
    made = await system.call("POST", f"{org['path']}/invitations", body, org["admin"], key="invite-1")
    again = await system.call("POST", f"{org['path']}/invitations", body, org["admin"], key="invite-1")
    assert made.status == 201
    assert again.json() == made.json()
    await system.parts.post.settled()
    (mail,) = system.mailbox.to(BOB)
    assert "High Table" in mail.text
    invitation = mail.text.split("\n\n")[2]
    assert invitation.startswith("mvi_")
    assert invitation not in made.body.decode(), "the token is in the mail and nowhere else"
    assert (made.json()["email"], made.json()["state"], made.json()["invited_by"]) == (BOB, "open", org["admin_id"])
    bob = await system.register_and_login(BOB)
    token = bob["access_token"]
    accepted = await accept(system, invitation, token)
    assert accepted.json() == {"org_id": org["id"], "role": "staff", "member_id": None}
    assert (await system.call("GET", org["path"], token=token)).status == 200
    assert (await accept(system, invitation, token)).json() == accepted.json(), "a lost answer is told again"
    (listed,) = (await system.made("GET", f"{org['path']}/invitations", token=org["admin"]))["items"]
    assert (listed["state"], listed["accepted_at"] is None) == ("accepted", False)
    people = (await system.made("GET", f"{org['path']}/roles", token=org["admin"]))["items"]
    assert {(person["email"], person["role"]) for person in people} >= {(BOB, "staff")}
    assert len(people) == 2


async def test_members_of_the_contract_are_invitations(system: System, org: Any) -> None:
    made = await system.call("POST", f"{org['path']}/members", {"email": BOB, "role": "staff"}, org["admin"])
    assert (made.status, made.json()["state"]) == (201, "open")
    await system.parts.post.settled()
    assert len(system.mailbox.to(BOB)) == 1


async def test_a_token_is_for_one_address_one_use_and_a_week(system: System, org: Any) -> None:
    first = await invited(system, org["path"], org["admin"])
    invalid = (404, "invitation_invalid")
    carol = (await system.register_and_login("carol@example.com"))["access_token"]
    assert code(await accept(system, first, carol)) == invalid, "it was another's address"
    unverified = (await system.register_and_login(BOB, is_verified=False))["access_token"]
    assert code(await accept(system, first, unverified)) == (403, "email_unverified")
    verification = next(mail.token for mail in system.mailbox.to(BOB) if "confirm" in mail.subject)
    await system.made("POST", "/v1/auth/verify", {"token": verification})
    second = await invited(system, org["path"], org["admin"], role="member")
    assert code(await accept(system, first, unverified)) == invalid, "a later invitation replaces it"
    wrong = second[:-1] + ("a" if second[-1] != "a" else "b")
    for token in (wrong, "mvi_", "mvi_x_y_z", second + "x", f"mvi_{org['id']}_none_{'0' * 52}", "x"):
        assert code(await accept(system, token, unverified)) == invalid, token
    system.clock.ahead_ms += limits.INVITATION_LIFE_MS
    bob = (await system.login(BOB))["access_token"]
    assert code(await accept(system, second, bob)) == invalid
    items = (await system.made("GET", f"{org['path']}/invitations", token=SUPERADMIN_TOKEN))["items"]
    assert sorted(item["state"] for item in items) == ["expired", "revoked"]


async def test_ten_accept_one_invitation_at_once(system: System, org: Any) -> None:
    invitation = await invited(system, org["path"], org["admin"])
    bob = (await system.register_and_login(BOB))["access_token"]
    answers = await asyncio.gather(*(accept(system, invitation, bob) for _ in range(10)))
    assert {answer.status for answer in answers} == {200}
    log = await system.made("GET", f"{org['path']}/audit-log?action=invitations.accept", token=org["admin"])
    assert len(log["items"]) == 1


async def test_a_revoked_invitation_is_worth_nothing(system: System, org: Any) -> None:
    invitation = await invited(system, org["path"], org["admin"])
    (listed,) = (await system.made("GET", f"{org['path']}/invitations", token=org["admin"]))["items"]
    path = f"{org['path']}/invitations/{listed['id']}"
    other = await system.open_org()
    foreign = f"/v1/orgs/{other['id']}/invitations/{listed['id']}"
    assert code(await system.call("DELETE", foreign, token=SUPERADMIN_TOKEN)) == (404, "invitation_unknown")
    assert (await system.call("DELETE", path, token=org["admin"])).status == 204
    assert code(await system.call("DELETE", path, token=org["admin"])) == (404, "invitation_unknown")
    bob = (await system.register_and_login(BOB))["access_token"]
    assert code(await accept(system, invitation, bob)) == (404, "invitation_invalid")


async def test_accepting_takes_nothing_away(system: System, org: Any) -> None:
    """An admin who accepts an invitation as a member stays an admin, and is that member, too."""
    member = await system.made("POST", "/v1/members", {"name": "Ann"}, org["key"])
    email = (await system.made("GET", "/v1/me", token=org["admin"]))["account"]["email"]
    invitation = await invited(system, org["path"], org["admin"], email, "member", member_id=member["id"])
    answer = (await accept(system, invitation, org["admin"])).json()
    assert answer == {"org_id": org["id"], "role": "org_admin", "member_id": member["id"]}
    ghost = {"email": BOB, "role": "member", "member_id": "mem_none"}
    assert code(await system.call("POST", f"{org['path']}/invitations", ghost, org["admin"])) == (404, "member_unknown")


async def test_nobody_joins_what_is_not_open(system: System, org: Any) -> None:
    invitation = await invited(system, org["path"], org["admin"])
    bob = (await system.register_and_login(BOB))["access_token"]
    await system.made("POST", f"{org['path']}/suspend", None, SUPERADMIN_TOKEN)
    assert code(await accept(system, invitation, bob)) == (403, "org_suspended")
    closing = f"{org['path']}?confirm=High%20Table"
    assert (await system.call("DELETE", closing, token=SUPERADMIN_TOKEN)).status == 204
    assert code(await accept(system, invitation, bob)) == (404, "invitation_invalid")


async def test_who_may_invite(system: System, org: Any) -> None:
    other = await system.open_org()
    outsider = (await system.signed_in("org_admin", other["id"]))["access_token"]
    staff = (await system.signed_in("staff", org["id"]))["access_token"]
    body = {"email": BOB, "role": "org_admin"}
    for token in (staff, outsider, org["key"]):
        for tail in ("invitations", "members"):
            assert code(await system.call("POST", f"{org['path']}/{tail}", body, token)) == (403, "forbidden")
        assert code(await system.call("GET", f"{org['path']}/roles", token=token)) == (403, "forbidden")
    assert (await system.call("POST", f"{org['path']}/invitations", body, SUPERADMIN_TOKEN)).status == 201
    assert code(await accept(system, "mvi_x", org["key"])) == (403, "forbidden")
    assert code(await accept(system, "mvi_x", SUPERADMIN_TOKEN)) == (403, "forbidden")
    for wrong in ({"email": "x", "role": "staff"}, {"email": BOB, "role": "superadmin"}, {"email": BOB}):
        assert (await system.call("POST", f"{org['path']}/invitations", wrong, org["admin"])).status == 400


async def test_invitations_do_not_carry_addresses_to_strangers(system: System) -> None:
    org = await system.open_org("Win now: http://evil.example/x?a=b (click)")
    await invited(system, f"/v1/orgs/{org['id']}", SUPERADMIN_TOKEN)
    text = system.mailbox.to(BOB)[-1].text
    assert "Win now http evil example" in text
    assert "evil.example" not in text
    assert "://" not in text


async def test_an_organisation_sends_so_many_a_day(system: System, org: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INVITATIONS_MAX", 3)
    body = {"role": "staff"}
    answers = await asyncio.gather(
        *(
            system.call("POST", f"{org['path']}/invitations", body | {"email": f"p{n}@example.com"}, org["admin"])
            for n in range(8)
        )
    )
    assert sorted(answer.status for answer in answers) == [201] * 3 + [409] * 5
    await system.parts.post.settled()
    assert len([mail for mail in system.mailbox.mails if "invited" in mail.subject]) == 3


# --- roles -----------------------------------------------------------------------------------------------------------


async def test_a_role_changes_at_once(system: System, org: Any) -> None:
    staff = await system.signed_in("staff", org["id"])
    token, path = staff["access_token"], f"{org['path']}/roles/{staff['account']['id']}"
    assert (await system.call("PATCH", org["path"], {"name": "Mine"}, token)).status == 403
    assert code(await system.call("PATCH", path, {"role": "org_admin"}, token)) == (403, "forbidden")
    await system.made("PATCH", path, {"role": "org_admin"}, org["admin"])
    assert (await system.call("PATCH", org["path"], {"name": "Ours"}, token)).status == 200
    assert (await system.call("DELETE", path, token=org["admin"])).status == 204
    assert (await system.call("GET", org["path"], token=token)).status == 403
    for method, body in (("PATCH", {"role": "staff"}), ("DELETE", None)):
        assert code(await system.call(method, path, body, org["admin"])) == (404, "role_unknown")


async def test_the_last_admin_stays(system: System, org: Any) -> None:
    own = f"{org['path']}/roles/{org['admin_id']}"
    assert code(await system.call("PATCH", own, {"role": "staff"}, org["admin"])) == (409, "last_admin")
    assert code(await system.call("DELETE", own, token=org["admin"])) == (409, "last_admin")
    assert code(await system.call("DELETE", own, token=SUPERADMIN_TOKEN)) == (409, "last_admin")
    assert (await system.call("PATCH", own, {"role": "org_admin"}, org["admin"])).status == 200
    second = await system.signed_in("org_admin", org["id"])
    await system.parts.pool.execute(
        "UPDATE accounts SET state = 'suspended' WHERE account_id = $1", second["account"]["id"]
    )
    assert code(await system.call("DELETE", own, token=org["admin"])) == (409, "last_admin"), "the other cannot sign in"


async def test_two_admins_who_demote_each_other_leave_one(system: System, org: Any) -> None:
    for _ in range(5):
        second = await system.signed_in("org_admin", org["id"])
        ids = (org["admin_id"], second["account"]["id"])
        answers = await asyncio.gather(
            *(
                system.call("PATCH", f"{org['path']}/roles/{account_id}", {"role": "staff"}, SUPERADMIN_TOKEN)
                for account_id in ids
            )
        )
        assert sorted(answer.status for answer in answers) == [200, 409]
        people = (await system.made("GET", f"{org['path']}/roles", token=SUPERADMIN_TOKEN))["items"]
        assert [person["role"] for person in people].count("org_admin") == 1
        for account_id in ids:
            await system.made("PATCH", f"{org['path']}/roles/{account_id}", {"role": "org_admin"}, SUPERADMIN_TOKEN)
        await system.call("DELETE", f"{org['path']}/roles/{ids[1]}", token=SUPERADMIN_TOKEN)


async def test_nobody_widens_their_own_role(system: System, org: Any) -> None:
    """Somebody who runs the platform and is on the staff of an organisation, too."""
    platform = await system.superadmin()
    await system.grant(platform["account"]["id"], org["id"], "staff")
    own = f"{org['path']}/roles/{platform['account']['id']}"
    assert code(await system.call("PATCH", own, {"role": "org_admin"}, platform["access_token"])) == (403, "forbidden")
    assert (await system.call("PATCH", own, {"role": "member"}, platform["access_token"])).status == 200


async def test_people_of_another_organisation_are_nobody(system: System, org: Any) -> None:
    other = await system.open_org()
    stranger = await system.signed_in("staff", other["id"])
    path = f"{org['path']}/roles/{stranger['account']['id']}"
    foreign = await system.call("PATCH", path, {"role": "member"}, org["admin"])
    absent = await system.call("PATCH", f"{org['path']}/roles/acc_none", {"role": "member"}, org["admin"])
    assert code(foreign) == code(absent) == (404, "role_unknown")
    for _ in range(3):
        await system.signed_in("staff", org["id"])
    pages: list[Any] = []
    cursor = ""
    for count in (2, 2):
        page = await system.made("GET", f"{org['path']}/roles?limit=2{cursor}", token=org["admin"])
        assert len(page["items"]) == count
        pages += page["items"]
        cursor = f"&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    ids = {person["account_id"] for person in pages}
    assert (len(ids), stranger["account"]["id"] in ids) == (4, False)
