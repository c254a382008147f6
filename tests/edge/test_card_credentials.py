"""Credentials over the API: what a phone gets to show, who gets it, and keys that rotate while cards are in use."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import replace
from pydantic import ValidationError

from gateway.app import EdgeApp
from gateway.base45 import b45decode
from gateway.credentials import PREFIX, ROTATING_PREFIX, CredentialBook
from gateway.rotating import step_of
from serve.edge import credential_book
from serve.settings import Settings
from tests.edge.in_process import MASTER, System


@pytest.fixture
async def org(system: System) -> Any:
    return await system.open_org()


async def new_card(system: System, org: Any, **fields: Any) -> Any:
    return await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}, **fields}, org["key"])


async def open_event(system: System, org: Any) -> Any:
    return await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 10}, org["key"])


# --- rotating ---------------------------------------------------------------------------------------------------------


async def test_a_phone_gets_the_code_of_now(system: System, org: Any) -> None:
    card = await new_card(system, org, tier="gold", valid_until="2099-01-01T00:00:00Z")
    path = f"/v1/cards/{card['id']}/credential"
    shown = await system.made("GET", f"{path}?format=rotating", token=org["key"])
    assert shown["credential"] == shown["base"] + shown["codes"][0]
    assert (len(shown["codes"]), shown["step_ms"], shown["card_id"]) == (1, 15_000, card["id"])
    assert 0 < shown["changes_in_ms"] <= 15_000
    now_ms = system.clock.wall_ms()
    presented = system.book.read(shown["credential"], now_ms)
    assert presented is not None
    assert (presented.form, presented.card_id, presented.tier) == ("rotating", card["id"], "gold")
    assert presented.valid_from_ms <= now_ms < presented.valid_until_ms
    assert (await system.made("GET", f"{path}?rotating=true", token=org["key"]))["base"].startswith(ROTATING_PREFIX)


async def test_the_code_is_taken_at_the_door_and_ends(system: System, org: Any) -> None:
    card, event = await new_card(system, org), await open_event(system, org)
    path = f"/v1/cards/{card['id']}/credential?format=rotating"

    async def scan(credential: str, scan_id: str) -> tuple[str, str | None, bool]:
        body = {"event_id": event["id"], "credential": credential, "scan_id": scan_id}
        verdict = await system.made("POST", "/v1/checkins", body, org["key"])
        return verdict["verdict"], verdict["reason"], verdict["replayed"]

    shown = await system.made("GET", path, token=org["key"])
    minute_ago = step_of(system.clock.wall_ms() - 60_000)
    old = shown["base"] + system.book.codes.code(org["id"], card["id"], 0, minute_ago)
    assert await scan(old, "s-1") == ("refused", "credential_expired", False)
    assert await scan(shown["credential"], "s-2") == ("admitted", None, False)
    # The answer was lost, and meanwhile the code has ended.
    system.clock.ahead_ms += 120_000
    assert await scan(shown["credential"], "s-2") == ("admitted", None, True)
    newer = (await system.made("GET", path, token=org["key"]))["credential"]
    assert newer != shown["credential"]
    assert await scan(newer, "s-2") == ("admitted", None, True)
    system.clock.ahead_ms += 600_000
    assert await scan(old, "s-3") == ("refused", "credential_invalid", False)


async def test_a_phone_without_a_network_has_the_codes_of_an_hour(system: System, org: Any) -> None:
    card = await new_card(system, org)
    path = f"/v1/cards/{card['id']}/credential?format=rotating"
    shown = await system.made("GET", f"{path}&ahead=240", token=org["key"])
    assert len(shown["codes"]) == 241
    first = step_of(system.clock.wall_ms())
    for after in (0, 1, 240):
        presented = system.book.read(shown["base"] + shown["codes"][after], (first + after) * 15_000)
        assert presented is not None
        assert presented.valid_from_ms // 15_000 - first in (after - 1, after - 2), "the clock may have gone on a step"
    later = await system.made("GET", path, token=org["key"])
    assert later["base"] == shown["base"], "one text but for the code"


async def test_pictures_of_now(system: System, org: Any) -> None:
    card = await new_card(system, org)
    path = f"/v1/cards/{card['id']}/credential?rotating=true&format="
    for form, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("text", ROTATING_PREFIX.encode())):
        answer = await system.call("GET", path + form, token=org["key"])
        assert (answer.status, answer.body.startswith(start)) == (200, True)
        assert answer.headers["cache-control"] == "no-store"
    assert system.book.read(answer.body.decode(), system.clock.wall_ms()) is not None


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("format=ndef&rotating=true", "rotating"),
        ("ahead=1", "ahead"),
        ("format=png&rotating=true&ahead=1", "ahead"),
        ("format=rotating&ahead=241", "ahead"),
        ("format=rotating&ahead=-1", "ahead"),
        ("rotating=maybe", "rotating"),
    ],
)
async def test_what_cannot_be_asked_together(system: System, org: Any, query: str, parameter: str) -> None:
    card = await new_card(system, org)
    answer = await system.call("GET", f"/v1/cards/{card['id']}/credential?{query}", token=org["key"])
    assert (answer.status, answer.json()["code"]) == (400, "malformed")
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]
    assert answer.json()["detail"]


async def test_a_member_gets_the_codes_of_their_own_card_only(system: System, org: Any) -> None:
    mine, other = await new_card(system, org), await new_card(system, org)
    token = (await system.signed_in("member", org["id"], mine["member"]["id"]))["access_token"]
    assert (await system.made("GET", f"/v1/cards/{mine['id']}/credential?format=rotating", token=token))["codes"]
    answers = [
        await system.call("GET", f"/v1/cards/{card_id}/credential?format=rotating", token=token)
        for card_id in (other["id"], "card_none")
    ]
    assert {(answer.status, answer.json()["code"]) for answer in answers} == {(404, "card_unknown")}
    await system.made("POST", f"/v1/cards/{mine['id']}/revoke", None, org["key"])
    gone = await system.call("GET", f"/v1/cards/{mine['id']}/credential?format=rotating", token=token)
    assert (gone.status, gone.json()["code"]) == (409, "card_revoked")


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_with_the_public_keys_anybody_can_check_a_credential(system: System, org: Any) -> None:
    card = await new_card(system, org)
    answer = await system.made("GET", f"/v1/orgs/{org['id']}/credential-keys", token=org["key"])
    (key,) = answer["keys"]
    assert {name: key[name] for name in ("kty", "crv", "use", "alg", "kid")} == {
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "1",
    }  # fmt: skip
    assert len(key["x"]) == 43
    public = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(key["x"] + "="))
    protected, _, payload, signature = cbor2.loads(b45decode(card["credential"].removeprefix(PREFIX))).value
    assert str(cbor2.loads(protected)[4][0]) == key["kid"]
    public.verify(signature, cbor2.dumps(["Signature1", protected, b"", payload]))


async def test_who_reads_the_public_keys(system: System, org: Any) -> None:
    path = f"/v1/orgs/{org['id']}/credential-keys"
    other = await system.open_org()
    scanner = await system.made("POST", f"/v1/orgs/{org['id']}/api-keys", {"name": "s", "scopes": ["scan"]}, org["key"])
    staff = (await system.signed_in("staff", org["id"]))["access_token"]
    for token in (scanner["key"], staff):
        assert (await system.call("GET", path, token=token)).status == 200
    for foreign in (other["id"], "org_none"):
        answer = await system.call("GET", f"/v1/orgs/{foreign}/credential-keys", token=org["key"])
        assert (answer.status, answer.json()["code"]) == (404, "tenant_unknown")
    member = (await system.signed_in("member", org["id"]))["access_token"]
    assert (await system.call("GET", path, token=member)).status == 403


async def test_keys_rotate_while_cards_are_in_use(system: System, org: Any) -> None:
    """As an operator does it: key 2 is announced, then it signs, then key 1 is retired."""
    event = await open_event(system, org)
    path = f"/v1/orgs/{org['id']}/credential-keys"

    async def gone_on(app: EdgeApp, credential: str) -> str | None:
        system.app = app
        scan = {"event_id": event["id"], "credential": credential}
        reason: str | None = (await system.made("POST", "/v1/checkins", scan, org["key"]))["reason"]
        return reason

    async def kids() -> list[str]:
        return [key["kid"] for key in (await system.made("GET", path, token=org["key"]))["keys"]]

    stages = {
        ids: EdgeApp(replace(system.parts, credentials=CredentialBook(MASTER, ids)))
        for ids in ((1,), (2, 1), (1, 2), (2,))
    }
    old, older = await new_card(system, org), await new_card(system, org)
    third = await new_card(system, org)
    assert await gone_on(stages[2, 1], old["credential"]) is None
    assert await kids() == ["1", "2"]
    assert key_of(await new_card(system, org)) == 1
    assert await gone_on(stages[1, 2], older["credential"]) is None
    new = await new_card(system, org)
    assert key_of(new) == 2
    assert await gone_on(stages[2,], third["credential"]) == "credential_invalid"
    assert await kids() == ["2"]
    assert await gone_on(stages[2,], new["credential"]) is None
    fresh = (await system.made("GET", f"/v1/cards/{third['id']}/credential", token=org["key"]))["credential"]
    assert await gone_on(stages[2,], fresh) is None, "the card is good, only the print was old"


def key_of(card: Any) -> int:
    claims = CredentialBook(MASTER, (1, 2)).verify(card["credential"])
    assert claims is not None
    return claims.key_id


def test_an_operator_says_which_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTERVIP_MASTER_SECRET", MASTER.decode())
    assert Settings().card_key_ids == (1,)
    monkeypatch.setenv("MASTERVIP_CARD_KEY_IDS", "1, 2")
    book = credential_book(Settings())
    claims = book.verify(book.issue("org_1", "card_1", "gold", 1_000))
    assert claims is not None
    assert claims.key_id == 2
    assert set(book.public_keys("org_1")) == {1, 2}


@pytest.mark.parametrize(
    ("given", "why"), [("", "at least one"), ("256", "0-255"), ("1,1", "once"), ("one", "integer")]
)
def test_key_ids_that_cannot_be(monkeypatch: pytest.MonkeyPatch, given: str, why: str) -> None:
    monkeypatch.setenv("MASTERVIP_CARD_KEY_IDS", given)
    with pytest.raises(ValidationError, match=why):
        Settings()
