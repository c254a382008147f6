"""Many at the same instant, for the same thing: exactly as many as there is get it, whatever the order."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from gateway.render import rfc3339
from tests.edge.in_process import System

AT_ONCE = 200


async def test_one_balance_spent_by_many_at_once(system: System) -> None:
    org = await system.open_org()
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}}, org["key"])
    path = f"/v1/cards/{card['id']}"
    await system.made("POST", f"{path}/points/award", {"amount": 70}, org["key"])
    answers = await asyncio.gather(
        *(system.call("POST", f"{path}/points/redeem", {"amount": 1}, org["key"]) for _ in range(AT_ONCE))
    )
    refused = [answer.json()["code"] for answer in answers if answer.status != 200]
    assert refused == ["insufficient_points"] * (AT_ONCE - 70)
    assert (await system.made("GET", f"{path}/balance", token=org["key"]))["balance"] == 0


async def test_one_hold_and_one_wallet_wanted_by_many_at_once(system: System) -> None:
    org = await system.open_org()
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}}, org["key"])
    path = f"/v1/cards/{card['id']}"
    await system.made("POST", f"{path}/points/award", {"amount": 70}, org["key"])
    await system.made("POST", f"{path}/wallet/top-up", {"amount": 70}, org["key"])
    held = await system.made("POST", f"{path}/points/hold", {"amount": 30}, org["key"])
    asked: list[tuple[str, dict[str, int]]] = []
    for number in range(AT_ONCE):
        asked.append((f"points/{('capture', 'release')[number % 2]}", {"entry_seq": held["entry"]["seq"]}))
        asked.append(("points/redeem", {"amount": 1}))
        asked.append(("wallet/pay", {"amount": 1}))
    answers = await asyncio.gather(*(system.call("POST", f"{path}/{verb}", body, org["key"]) for verb, body in asked))
    done = Counter(verb for (verb, _), answer in zip(asked, answers, strict=True) if answer.status == 200)
    ends = done["points/capture"] + done["points/release"]
    assert (ends, done["wallet/pay"]) == (1, 70)
    balance = await system.made("GET", f"{path}/balance", token=org["key"])
    spent = done["points/redeem"] + 30 * done["points/capture"]
    assert (balance["balance"], balance["held"], balance["wallet"]["balance"]) == (70 - spent, 0, 0)
    codes = {answer.json()["code"] for answer in answers if answer.status != 200}
    end = "hold_captured" if done["points/capture"] else "hold_released"
    assert codes <= {end, "insufficient_points", "insufficient_funds"}


async def test_the_last_place_wanted_by_many_at_once(system: System) -> None:
    org = await system.open_org()
    items = {"items": [{"member": {"name": "Lan"}}] * AT_ONCE}
    made = (await system.made("POST", "/v1/cards:batch", items, org["key"]))["items"]
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 1}, org["key"])
    scans = [{"event_id": event["id"], "credential": each["card"]["credential"]} for each in made]
    verdicts = await _verdicts(system, org, scans)
    assert Counter(verdicts) == {("admitted", None): 1, ("refused", "full"): AT_ONCE - 1}


async def test_one_card_shown_at_two_gates_at_once_a_hundred_times(system: System) -> None:
    """A screenshot: whichever scan comes first is let in, and nobody after."""
    org = await system.open_org()
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}}, org["key"])
    gates = [{"name": "North"}, {"name": "South"}]
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 500, "gates": gates}, org["key"])
    scans = [
        {"event_id": event["id"], "credential": card["credential"], "gate_id": event["gates"][number % 2]["id"]}
        for number in range(AT_ONCE)
    ]
    verdicts = await _verdicts(system, org, scans)
    assert Counter(verdicts) == {("admitted", None): 1, ("refused", "already_admitted"): AT_ONCE - 1}
    attendance = await system.made("GET", f"/v1/events/{event['id']}/attendance", token=org["key"])
    assert attendance["inside"] == 1


async def test_a_coupon_with_ten_uses_wanted_by_many_at_once(system: System) -> None:
    """A shared code, half of the tills holding it first: neither holds nor redemptions go beyond the limit."""
    coupon_id, key, cards = await _coupon_with_cards(system, {"limit_in_all": 10, "shared_code": "SUMMER26"})
    until = rfc3339(system.clock.wall_ms() + 3_600_000)
    bodies = [
        {"code": "SUMMER26", "card_id": card_id, **({"hold_until": until} if number % 2 else {})}
        for number, card_id in enumerate(cards)
    ]
    answers = await asyncio.gather(*(system.call("POST", "/v1/coupons/redeem", body, key) for body in bodies))
    refused = [answer.json()["code"] for answer in answers if answer.status != 200]
    assert refused == ["coupon_limit_reached"] * (AT_ONCE - 10)
    made = [answer.json() for answer in answers if answer.status == 200]
    seen = await system.made("GET", f"/v1/coupons/{coupon_id}", token=key)
    assert seen["redeemed"] + seen["on_hold"] == 10
    assert seen["on_hold"] == sum(one["state"] == "on_hold" for one in made)
    # As many as were given back are there again, and no more, whoever else comes at the same time.
    ends = [
        system.call(
            "POST",
            f"/v1/coupons/redemptions/{one['id']}/{'release' if one['state'] == 'on_hold' else 'rollback'}",
            token=key,
        )
        for one in made[:5]
    ]
    more = [system.call("POST", "/v1/coupons/redeem", body, key) for body in bodies]
    await asyncio.gather(*ends, *more)
    again = await asyncio.gather(*(system.call("POST", "/v1/coupons/redeem", body, key) for body in bodies))
    assert {answer.json()["code"] for answer in again if answer.status != 200} == {"coupon_limit_reached"}
    seen = await system.made("GET", f"/v1/coupons/{coupon_id}", token=key)
    assert seen["redeemed"] + seen["on_hold"] == 10


async def test_one_code_redeemed_by_many_at_once(system: System) -> None:
    coupon_id, key, cards = await _coupon_with_cards(system, {})
    issued = await system.made("POST", f"/v1/coupons/{coupon_id}/codes", {"count": 1}, key)
    code = issued["items"][0]["code"]
    answers = await asyncio.gather(
        *(system.call("POST", "/v1/coupons/redeem", {"code": code, "card_id": card_id}, key) for card_id in cards)
    )
    told = Counter(answer.json().get("code", "redeemed") for answer in answers)
    assert told == {"redeemed": 1, "coupon_already_used": AT_ONCE - 1}
    (made,) = [answer.json() for answer in answers if answer.status == 200]
    path = f"/v1/coupons/redemptions/{made['id']}/rollback"
    backs = await asyncio.gather(*(system.call("POST", path, token=key) for _ in range(20)))
    told = Counter(answer.json().get("code", "rolled back") for answer in backs)
    assert told == {"rolled back": 1, "already_rolled_back": 19}


async def test_a_hold_that_is_captured_and_released_by_many_at_once_ends_once(system: System) -> None:
    _, key, cards = await _coupon_with_cards(system, {"shared_code": "TEA1", "value": {"type": "points", "points": 7}})
    until = rfc3339(system.clock.wall_ms() + 3_600_000)
    body = {"code": "TEA1", "card_id": cards[0], "hold_until": until}
    held = await system.made("POST", "/v1/coupons/redeem", body, key)
    path = f"/v1/coupons/redemptions/{held['id']}"
    answers = await asyncio.gather(
        *(system.call("POST", f"{path}/{('capture', 'release')[number % 2]}", token=key) for number in range(40))
    )
    (made,) = [answer.json() for answer in answers if answer.status == 200]
    (code,) = {answer.json()["code"] for answer in answers if answer.status != 200}
    assert code == {"redeemed": "hold_captured", "released": "hold_released"}[made["state"]]
    balance = (await system.made("GET", f"/v1/cards/{cards[0]}/balance", token=key))["balance"]
    assert balance == (7 if made["state"] == "redeemed" else 0)


async def _coupon_with_cards(system: System, terms: Any) -> tuple[str, str, list[str]]:
    """A coupon's id, the organisation's key and cards for everybody."""
    org = await system.open_org()
    items = {"items": [{"member": {"name": "Lan"}}] * AT_ONCE}
    made = (await system.made("POST", "/v1/cards:batch", items, org["key"]))["items"]
    body = {"name": "Tea", "value": {"type": "item", "text": "A tea"}, **terms}
    coupon = await system.made("POST", "/v1/coupons", body, org["key"])
    return coupon["id"], org["key"], [each["card"]["id"] for each in made]


async def _verdicts(system: System, org: Any, scans: list[Any]) -> list[tuple[str, str | None]]:
    answers = await asyncio.gather(*(system.made("POST", "/v1/checkins", scan, org["key"]) for scan in scans))
    return [(answer["verdict"], answer["reason"]) for answer in answers]
