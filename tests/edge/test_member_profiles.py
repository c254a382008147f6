"""Birthday and attributes of members follow to their cards, where rules see them, and go with an erasure."""

from __future__ import annotations

from typing import Any

from tests.edge.in_process import System
from tests.edge.test_members import a_member


async def profiles(system: System, org: Any) -> list[str]:
    """What rules know of the holders of all cards, as Postgres has it once that is as far as the engine."""
    assert await system.parts.freshness.is_fresh(org["id"])
    rows = await system.parts.pool.fetch("SELECT profile FROM cards ORDER BY issued_at_ms, card_id")
    return [row["profile"] for row in rows]


async def test_birthday_and_attributes_follow_to_the_cards_and_go_with_an_erasure(system: System) -> None:
    org = await system.open_org()
    key = org["key"]
    member = await a_member(system, key, birthday="1990-02-28", attributes={"vip": True, "city": "Huế"})
    path = f"/v1/members/{member['id']}"
    card = await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    assert await profiles(system, org) == ['[228,1990,"{\\"city\\":\\"Huế\\",\\"vip\\":true}"]']
    await system.made("PATCH", path, {"attributes": {"city": None}}, key)
    assert await profiles(system, org) == ['[228,1990,"{\\"vip\\":true}"]']
    await system.made("PATCH", path, {"phone": "+84 912 345 678"}, key)
    assert await system.parts.pool.fetchval("SELECT count(*) FROM members WHERE cards_behind") == 0
    await system.made("PATCH", path, {"birthday": "1991-02-28"}, key)
    assert await profiles(system, org) == ['[228,1991,"{\\"vip\\":true}"]']
    await system.made("POST", f"/v1/cards/{card['id']}/revoke", None, key)
    assert (await system.call("DELETE", path, token=key)).status == 204
    assert await profiles(system, org) == [""]
    assert await system.parts.pool.fetchval("SELECT count(*) FROM members WHERE cards_behind") == 0


async def test_what_could_not_follow_at_once_follows_later(system: System) -> None:
    org = await system.open_org()
    key = org["key"]
    member = await a_member(system, key)
    await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    # As if the gateway had been killed between the commit and the engine.
    change = "UPDATE members SET birthday = '2000-02-29', attributes = '{\"n\":1.50}', version = 2, cards_behind = true"
    await system.parts.pool.execute(change)
    assert await profiles(system, org) == [""]
    assert await system.app.member_work.names.follow_all()
    assert await profiles(system, org) == ['[229,2000,"{\\"n\\":1.5}"]']
    assert await system.parts.pool.fetchval("SELECT count(*) FROM members WHERE cards_behind") == 0


async def test_a_card_that_was_issued_while_its_holder_changed_follows(system: System) -> None:
    org = await system.open_org()
    key = org["key"]
    member = await a_member(system, key, birthday="1990-02-28")
    first = await system.call("POST", "/v1/cards", {"member_id": member["id"]}, key, key="c")
    assert first.status == 201
    # As if the change had come between the reading of the member and the noting of the card.
    await system.parts.pool.execute("UPDATE members SET birthday = '1990-03-01', version = 2")
    assert (await system.call("POST", "/v1/cards", {"member_id": member["id"]}, key, key="c")).status == 201
    assert await system.parts.pool.fetchval("SELECT count(*) FROM members WHERE cards_behind") == 1
    assert await system.app.member_work.names.follow_all()
    assert await profiles(system, org) == ['[301,1990,""]']


async def test_rules_see_a_member_at_the_door(system: System) -> None:
    key = (await system.open_org())["key"]
    rule = {"name": "For VIPs", "on": "checkin", "when": "member.attributes.vip == true && member.birthday == 228"}
    rule |= {"then": [{"action": "award_points", "points": 7}], "state": "active"}
    await system.made("POST", "/v1/rules", {"rule": rule}, key)
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 5}, key)
    member = await a_member(system, key, birthday="1990-02-28", attributes={"vip": False})
    card = await system.made("POST", "/v1/cards", {"member_id": member["id"]}, key)
    check_in = {"event_id": event["id"], "credential": card["credential"]}
    before = (await system.made("POST", "/v1/checkins", check_in, key))["points"]["awarded"]
    await system.made("PATCH", f"/v1/members/{member['id']}", {"attributes": {"vip": True}}, key)
    other = await system.made("POST", "/v1/events", {"name": "Ball", "capacity": 5}, key)
    after = await system.made("POST", "/v1/checkins", {**check_in, "event_id": other["id"]}, key)
    assert after["points"]["awarded"] == before + 7


async def test_scheduled_rules_are_taken(system: System) -> None:
    key = (await system.open_org())["key"]
    rule: dict[str, Any] = {"name": "News", "on": "schedule", "then": [{"action": "notify", "text": "News"}]}
    rule |= {"schedule": {"at": "09:30", "days_of_month": [31]}, "state": "active"}
    made = await system.made("POST", "/v1/rules", {"rule": rule}, key)
    assert made["rule"]["schedule"] == {"at": "09:30", "days_of_month": [31]}
    report = await system.made(
        "POST", "/v1/rules:simulate", {"rule": rule, "moments": [{"at": "2026-05-31T09:30:00+07:00"}]}, key
    )
    assert report["applied"] == 2, "the draft, beside the active one"


async def test_rules_on_birthdays_are_taken(system: System) -> None:
    key = (await system.open_org())["key"]
    rule = {"name": "Wishes", "on": "birthday", "then": [{"action": "notify", "text": "All the best"}]}
    made = await system.made("POST", "/v1/rules", {"rule": rule}, key)
    assert (made["rule"]["on"], made["version"]) == ("birthday", 1)
    moment = {
        "at": "2026-02-28T00:00:00Z",
        "member": {"birthday": 228, "birth_year": 1990, "attributes": {"vip": True}},
    }
    report = await system.made("POST", "/v1/rules:simulate", {"rule": rule, "moments": [moment]}, key)
    assert (report["moments"], report["applied"]) == (1, 1)
