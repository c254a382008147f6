"""Many at the same instant, for the same thing: exactly as many as there is get it, whatever the order."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

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


async def _verdicts(system: System, org: Any, scans: list[Any]) -> list[tuple[str, str | None]]:
    answers = await asyncio.gather(*(system.made("POST", "/v1/checkins", scan, org["key"]) for scan in scans))
    return [(answer["verdict"], answer["reason"]) for answer in answers]
