"""A card's life over the API: new credentials, validity, tiers, numbers, NFC tags; and what the door makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from actors.card_numbers import formatted
from gateway.render import rfc3339
from tests.edge.in_process import System
from tests.support.fake_tag import FakeTag

UID = "04de5f1eacc040"


@pytest.fixture
async def org(system: System) -> Any:
    return await system.open_org()


@pytest.fixture
async def event(system: System, org: Any) -> Any:
    return await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 10, "reentry": "multiple"}, org["key"])


async def new_card(system: System, org: Any, **fields: Any) -> Any:
    return await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}, **fields}, org["key"])


async def reason(system: System, org: Any, event: Any, credential: str) -> str | None:
    body = {"event_id": event["id"], "credential": credential}
    found: str | None = (await system.made("POST", "/v1/checkins", body, org["key"]))["reason"]
    return found


async def refused(system: System, method: str, path: str, body: Any, org: Any) -> tuple[int, str]:
    answer = await system.call(method, path, body, org["key"])
    return answer.status, answer.json()["code"]


# --- credentials ------------------------------------------------------------------------------------------------------


async def test_the_old_credential_is_dead_at_once(system: System, org: Any, event: Any) -> None:
    card = await new_card(system, org, tier="gold")
    path = f"/v1/cards/{card['id']}"
    phone = await system.made("GET", f"{path}/credential?format=rotating", token=org["key"])
    made = await system.call("POST", f"{path}/reissue", {"note": "lost"}, org["key"], key="again")
    assert made.status == 200, made.body
    new = made.json()
    assert (new["card_id"], new["serial"]) == (card["id"], 1)
    assert (await system.call("POST", f"{path}/reissue", {"note": "lost"}, org["key"], key="again")).json() == new
    for dead in (card["credential"], phone["credential"]):
        assert await reason(system, org, event, dead) == "credential_invalid"
    later = await system.made("GET", f"{path}/credential", token=org["key"])
    on_phone = await system.made("GET", f"{path}/credential?format=rotating", token=org["key"])
    for good in (new["credential"], later["credential"], on_phone["credential"]):
        assert await reason(system, org, event, good) is None
    assert (await system.made("GET", path, token=org["key"]))["serial"] == 1


async def test_scanners_without_a_network_learn_it(system: System, org: Any) -> None:
    card = await new_card(system, org)
    await system.made("POST", f"/v1/cards/{card['id']}/reissue", None, org["key"])
    listed = await system.made("GET", "/v1/cards/revocations", token=org["key"])
    assert (listed["cards"], listed["serials"]) == ([], {card["id"]: 1})


async def test_a_revoked_card_is_not_issued_again(system: System, org: Any) -> None:
    card = await new_card(system, org)
    await system.made("POST", f"/v1/cards/{card['id']}/revoke", None, org["key"])
    for method, step, body in (("POST", "reissue", {}), ("POST", "renew", {}), ("POST", "tier", {"tier": "gold"})):
        assert await refused(system, method, f"/v1/cards/{card['id']}/{step}", body, org) == (409, "card_revoked")
    assert await refused(system, "PUT", f"/v1/cards/{card['id']}/tag", {"uid": UID}, org) == (409, "card_revoked")


# --- validity and tier ------------------------------------------------------------------------------------------------


async def test_a_card_whose_time_is_over_is_shown_so_until_it_is_renewed(system: System, org: Any) -> None:
    card = await new_card(system, org, valid_until="2098-01-01T00:00:00Z")
    path = f"/v1/cards/{card['id']}"
    system.clock.ahead_ms += 100 * 365 * 86_400_000
    assert (await system.made("GET", path, token=org["key"]))["state"] == "expired"
    (listed,) = (await system.made("GET", "/v1/cards", token=org["key"]))["items"]
    assert listed["state"] == "expired"
    renewed = await system.made("POST", f"{path}/renew", {"valid_until": "2198-01-01T00:00:00Z"}, org["key"])
    assert (renewed["valid_from"], renewed["valid_until"]) == (None, "2198-01-01T00:00:00.000Z")
    assert (await system.made("GET", path, token=org["key"]))["state"] == "active"
    fetched = await system.made("GET", f"{path}/credential", token=org["key"])
    ends = [system.book.verify(text) for text in (card["credential"], fetched["credential"])]
    assert [claims and rfc3339(claims.valid_until_ms)[:4] for claims in ends] == ["2098", "2198"]


async def test_a_validity_that_is_none(system: System, org: Any) -> None:
    path = f"/v1/cards/{(await new_card(system, org))['id']}/renew"
    backwards = {"valid_from": "2098-01-02T00:00:00Z", "valid_until": "2098-01-01T00:00:00Z"}
    assert await refused(system, "POST", path, backwards, org) == (400, "malformed")
    assert await refused(system, "POST", path, {"valid_until": "2001-01-01T00:00:00Z"}, org) == (409, "expiry_invalid")


async def test_a_tier_set_by_hand(system: System, org: Any) -> None:
    path = f"/v1/cards/{(await new_card(system, org))['id']}"
    assert (await system.made("POST", f"{path}/tier", {"tier": "diamond", "note": "friend"}, org["key"]))["tier"] == (
        "diamond"
    )
    assert (await system.made("GET", path, token=org["key"]))["tier"] == "diamond"
    assert await refused(system, "POST", f"{path}/tier", {"tier": "tin"}, org) == (400, "malformed")


# --- numbers ----------------------------------------------------------------------------------------------------------


async def test_a_card_is_found_by_its_number_however_it_is_typed(system: System, org: Any) -> None:
    cards = [await new_card(system, org) for _ in range(3)]
    assert len({card["number"] for card in cards}) == 3
    wanted = cards[1]
    for typed in (wanted["number"], formatted(wanted["number"]).replace(" ", "%20"), formatted(wanted["number"])[:4]):
        answer = await system.call("GET", f"/v1/cards?number={typed}", token=org["key"])
        if len(typed) < 16:
            assert (answer.status, answer.json()["errors"][0]["parameter"]) == (400, "number")
        else:
            assert [card["id"] for card in answer.json()["items"]] == [wanted["id"]]
    other = await system.open_org()
    assert (await system.made("GET", f"/v1/cards?number={wanted['number']}", token=other["key"]))["items"] == []


# --- tags -------------------------------------------------------------------------------------------------------------


async def tagged(system: System, org: Any, card: Any) -> FakeTag:
    path = f"/v1/cards/{card['id']}/tag"
    assert await system.made("PUT", path, {"uid": UID}, org["key"]) == {"card_id": card["id"], "uid": UID.upper()}
    keys = await system.made("GET", f"{path}/keys", token=org["key"])
    assert keys["uid"] == UID.upper()
    return FakeTag(bytes.fromhex(UID), bytes.fromhex(keys["meta_read"]), bytes.fromhex(keys["file_read"]))


async def test_a_tap_is_good_once(system: System, org: Any, event: Any) -> None:
    card = await new_card(system, org)
    tag = await tagged(system, org, card)
    assert (await system.made("GET", f"/v1/cards/{card['id']}", token=org["key"]))["tag_uid"] == UID.upper()
    early, late = (tag.tap(f"https://vip.example.com/t/{org['id']}") for _ in range(2))
    body = {"event_id": event["id"], "credential": late, "scan_id": "s-1"}
    verdict = await system.made("POST", "/v1/checkins", body, org["key"])
    assert (verdict["verdict"], verdict["card_id"]) == ("admitted", card["id"])
    assert (await system.made("POST", "/v1/checkins", body, org["key"]))["replayed"] is True, "a retry is no replay"
    for url in (late, early):
        assert await reason(system, org, event, url) == "credential_replayed"
    assert await reason(system, org, event, tag.tap(f"https://vip.example.com/t/{org['id']}")) is None


async def test_a_tag_that_was_taken_from_its_card_opens_nothing(system: System, org: Any, event: Any) -> None:
    card, other = await new_card(system, org), await new_card(system, org)
    tag = await tagged(system, org, card)
    path = f"/v1/cards/{card['id']}/tag"
    assert await refused(system, "PUT", f"/v1/cards/{other['id']}/tag", {"uid": UID}, org) == (409, "tag_in_use")
    assert (await system.call("DELETE", path, None, org["key"])).status == 204
    assert await refused(system, "DELETE", path, None, org) == (409, "tag_unknown")
    assert await refused(system, "GET", f"{path}/keys", None, org) == (409, "tag_unknown")
    tap = tag.tap(f"https://vip.example.com/t/{org['id']}")
    assert await reason(system, org, event, tap) == "credential_invalid"
    await system.made("PUT", f"/v1/cards/{other['id']}/tag", {"uid": UID}, org["key"])
    assert await reason(system, org, event, tap) is None, "nobody had accepted it"


@pytest.mark.parametrize("uid", ["", "04", UID + "00", "04DE5F1EACC04G", 4])
async def test_what_is_no_uid(system: System, org: Any, uid: Any) -> None:
    card = await new_card(system, org)
    answer = await system.call("PUT", f"/v1/cards/{card['id']}/tag", {"uid": uid}, org["key"])
    assert (answer.status, answer.json()["errors"][0]["pointer"]) == (400, "#/uid")


async def test_keys_are_told_to_managers_and_that_they_were_is_noted(system: System, org: Any) -> None:
    card = await new_card(system, org)
    await tagged(system, org, card)
    path = f"/v1/cards/{card['id']}/tag/keys"
    member = (await system.signed_in("member", org["id"], card["member"]["id"]))["access_token"]
    assert (await system.call("GET", path, token=member)).status == 403
    answer = await system.call("GET", path, token=org["key"])
    assert answer.headers["cache-control"] == "no-store"
    log = await system.made("GET", f"/v1/orgs/{org['id']}/audit-log?action=cards.tag_keys", token=org["key"])
    assert [(line["target"], line["detail"]) for line in log["items"]] == [(card["id"], {"tag_uid": UID.upper()})] * 2


# --- visits -----------------------------------------------------------------------------------------------------------


async def test_a_card_tells_how_often_it_came(system: System, org: Any, event: Any) -> None:
    other = await system.made("POST", "/v1/events", {"name": "Brunch", "capacity": 10}, org["key"])
    card = await new_card(system, org)
    for place in (event, event, other):
        assert await reason(system, org, place, card["credential"]) is None
    shown = (await system.made("GET", f"/v1/cards/{card['id']}", token=org["key"]))["visits"]
    assert shown == {"ever": 2, "today": 2, "this_week": 2, "this_month": 2, "streak": 1, "best_streak": 1}
