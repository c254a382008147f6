"""Many at the same instant for the same thing, through two gateways of a real system: exactly as many as there is get
it, and all counts agree afterwards. The audit has the last word."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx

from gateway.client import AsyncMasterVip
from tests.integration.conftest import SeededSystem

AT_ONCE = 200
BALANCE = 70
CONNECTIONS = 100  # each goes to the gateway that the kernel picks

Json = dict[str, Any]
Call = tuple[str, Json]


async def at_once(system: SeededSystem, calls: Sequence[Call]) -> list[httpx.Response]:
    """POSTs at the same time, each under an id of its own."""
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=system.base_url, headers=system.headers, timeout=60, limits=limits) as client:
        answers = await asyncio.gather(
            *(client.post(path, json=body, headers={"Idempotency-Key": str(uuid4())}) for path, body in calls)
        )
    assert all(answer.status_code < 500 for answer in answers), Counter(answer.status_code for answer in answers)
    return list(answers)


def code(answer: httpx.Response) -> str:
    """What became of a request: "" where it succeeded."""
    return "" if answer.status_code < 300 else str(answer.json()["code"])


async def made_event(system: SeededSystem, **fields: Any) -> Json:
    (answer,) = await at_once(system, [("/v1/events", {"name": "Race"} | fields)])
    event: Json = answer.json()
    return event


async def cards_of(system: SeededSystem, count: int) -> list[Json]:
    items = [{"member": {"name": f"Guest {number}"}, "tier": "gold"} for number in range(count)]
    (answer,) = await at_once(system, [("/v1/cards:batch", {"items": items})])
    return [item["card"] for item in answer.json()["items"]]


async def read(system: SeededSystem, path: str) -> Json:
    async with httpx.AsyncClient(base_url=system.base_url, headers=system.headers, timeout=60) as client:
        found: Json = (await client.get(path)).json()
    return found


def scan_of(event: Json, card: Json, **more: Any) -> Call:
    body = {"event_id": event["id"], "credential": card["credential"], "scan_id": str(uuid4())} | more
    return "/v1/checkins", body


async def test_one_balance_is_spent_once(seeded_system: SeededSystem) -> None:
    (card,) = await cards_of(seeded_system, 1)
    path = f"/v1/cards/{card['id']}"
    await at_once(seeded_system, [(f"{path}/points/award", {"amount": BALANCE})])
    answers = await at_once(seeded_system, [(f"{path}/points/redeem", {"amount": 1})] * AT_ONCE)
    assert Counter(map(code, answers)) == {"": BALANCE, "insufficient_points": AT_ONCE - BALANCE}
    left = sorted(answer.json()["balance"] for answer in answers if not code(answer))
    assert left == list(range(BALANCE)), "each spend has a balance of its own"
    assert (await read(seeded_system, f"{path}/balance"))["balance"] == 0


async def test_one_code_and_a_coupons_last_uses_are_redeemed_once(seeded_system: SeededSystem) -> None:
    terms = {"name": "Drink", "value": {"type": "points", "points": 5}, "limit_in_all": 3}
    (coupon,) = await at_once(seeded_system, [("/v1/coupons", terms)])
    path = f"/v1/coupons/{coupon.json()['id']}"
    (issued,) = await at_once(seeded_system, [(f"{path}/codes", {"count": 20})])
    codes = [item["code"] for item in issued.json()["items"]]
    cards = await cards_of(seeded_system, 10)
    one = [("/v1/coupons/redeem", {"code": codes[0], "card_id": cards[n % 10]["id"]}) for n in range(AT_ONCE)]
    answers = await at_once(seeded_system, one)
    assert Counter(map(code, answers)) == {"": 1, "coupon_already_used": AT_ONCE - 1}
    others = [
        ("/v1/coupons/redeem", {"code": each, "card_id": cards[n % 10]["id"]}) for n, each in enumerate(codes[1:])
    ]
    answers = await at_once(seeded_system, others)
    assert Counter(map(code, answers)) == {"": 2, "coupon_limit_reached": 17}
    assert (await read(seeded_system, path))["redeemed"] == 3
    balances = [(await read(seeded_system, f"/v1/cards/{card['id']}/balance"))["balance"] for card in cards]
    assert sum(balances) == 15


async def test_rules_grant_no_more_coupons_than_there_are(seeded_system: SeededSystem) -> None:
    terms = {"name": "Gift", "value": {"type": "item", "text": "A cake"}, "limit_in_all": 9}
    (coupon,) = await at_once(seeded_system, [("/v1/coupons", terms)])
    then = [{"action": "grant_coupon", "coupon_id": coupon.json()["id"]}]
    gift = {"name": "Gift", "on": "checkin", "then": then, "state": "active"}
    (rule,) = await at_once(seeded_system, [("/v1/rules", {"rule": gift})])
    assert rule.status_code == 201
    event, cards = await made_event(seeded_system, capacity=100), await cards_of(seeded_system, 40)
    scans = [scan_of(event, card) for card in cards]
    # Each twice under one id: what is asked again grants nothing again.
    answers = await at_once(seeded_system, [*scans, *scans])
    assert {answer.json()["verdict"] for answer in answers} == {"admitted"}
    path = f"/v1/coupons/{coupon.json()['id']}"
    assert (await read(seeded_system, path))["issued"] == 9
    codes = (await read(seeded_system, f"{path}/codes"))["items"]
    assert len({code["card_id"] for code in codes}) == len(codes) == 9
    first, second, *_ = codes
    redeemed = [(f"/v1/cards/{first['card_id']}/coupons/{first['id']}/redeem", {})] * 20
    assert Counter(map(code, await at_once(seeded_system, redeemed))) == {"": 1, "coupon_already_used": 19}
    scan_ids = {card["id"]: body["scan_id"] for card, (_, body) in zip(cards, scans, strict=True)}
    for one in (first, second):
        annul = f"/v1/events/{event['id']}/checkins/{scan_ids[one['card_id']]}/annul"
        (annulled,) = await at_once(seeded_system, [(annul, {})])
        assert annulled.status_code == 200, annulled.text
    states = {code["id"]: code["state"] for code in (await read(seeded_system, f"{path}/codes"))["items"]}
    assert (states[first["id"]], states[second["id"]]) == ("redeemed", "withdrawn")
    assert (await read(seeded_system, path))["issued"] == 8
    await at_once(seeded_system, [(f"/v1/rules/{rule.json()['id']}/state", {"state": "paused"})])


async def test_a_list_has_what_either_gateway_confirmed(seeded_system: SeededSystem) -> None:
    (card,) = await cards_of(seeded_system, 1)
    path, whole = f"/v1/cards/{card['id']}", 0
    for amount in range(1, 31):
        await at_once(seeded_system, [(f"{path}/points/award", {"amount": amount})])
        page = await read(seeded_system, f"{path}/ledger?limit=1")
        assert page["stale"] or page["items"][0]["amount"] == amount
        whole += not page["stale"]
    assert whole, "two seconds are time enough for Postgres, now and then at least"


async def test_one_seat_has_one_guest_over_rest_and_sockets(seeded_system: SeededSystem) -> None:
    event = await made_event(seeded_system, capacity=1)
    cards = await cards_of(seeded_system, AT_ONCE)
    over_rest, over_sockets = cards[: AT_ONCE // 2], cards[AT_ONCE // 2 :]
    key = seeded_system.fixtures["api_key"]
    async with (
        AsyncMasterVip(seeded_system.base_url, key) as vip,
        vip.scan_socket(event["id"]) as one,
        vip.scan_socket(event["id"]) as other,
    ):
        verdicts, *told = await asyncio.gather(
            at_once(seeded_system, [scan_of(event, card) for card in over_rest]),
            *((one, other)[number % 2].scan(card["credential"]) for number, card in enumerate(over_sockets)),
        )
    outcomes = Counter((verdict["verdict"], verdict["reason"]) for verdict in [*(v.json() for v in verdicts), *told])
    assert outcomes == {("admitted", None): 1, ("refused", "full"): AT_ONCE - 1}
    attendance = await read(seeded_system, f"/v1/events/{event['id']}/attendance")
    assert (attendance["inside"], attendance["admitted"], attendance["refused"]) == (1, 1, AT_ONCE - 1)


async def test_an_annulment_against_scans_of_the_same_card(seeded_system: SeededSystem) -> None:
    """One is annulled once, however many ask; a scan is let in after it and refused before, and nothing in between."""
    event = await made_event(seeded_system, capacity=500, reentry="none")
    cards = await cards_of(seeded_system, 20)
    firsts = await at_once(seeded_system, [scan_of(event, card) for card in cards])
    calls: list[Call] = []
    for card, first in zip(cards, firsts, strict=True):
        annul = (f"/v1/events/{event['id']}/checkins/{first.json()['scan_id']}/annul", {})
        calls += [scan_of(event, card), annul, scan_of(event, card), annul, scan_of(event, card)]
    answers = await at_once(seeded_system, calls)
    inside = admitted = 0
    for number, card in enumerate(cards):
        scans = [answer.json() for answer in answers[5 * number : 5 * number + 5 : 2]]
        annulled = Counter(code(answer) for answer in answers[5 * number + 1 : 5 * number + 5 : 2])
        again = [scan for scan in scans if scan["verdict"] == "admitted"]
        assert len(again) <= 1, card
        assert annulled[""] <= 1 or len({a.json()["at"] for a in answers[5 * number + 1 : 5 * number + 5 : 2]}) == 1
        assert not again or annulled[""], "nobody comes in again without the annulment"
        present = bool(again) or not annulled[""]
        inside += present
        admitted += present
        balance = await read(seeded_system, f"/v1/cards/{card['id']}/balance")
        assert balance["balance"] == 10 * present, "what an annulled admission earned was taken back"
    attendance = await read(seeded_system, f"/v1/events/{event['id']}/attendance")
    assert (attendance["inside"], attendance["admitted"]) == (inside, admitted)


async def test_a_cancellation_against_scans(seeded_system: SeededSystem) -> None:
    """Whoever was let in is counted, whoever was not hears that the event is cancelled, and nobody comes after."""
    event = await made_event(seeded_system, capacity=500)
    cards = await cards_of(seeded_system, AT_ONCE)
    path = f"/v1/events/{event['id']}"

    async def cancelled() -> None:
        async with httpx.AsyncClient(
            base_url=seeded_system.base_url, headers=seeded_system.headers, timeout=60
        ) as client:
            assert (await client.patch(path, json={"state": "cancelled"})).status_code == 200

    answers, _ = await asyncio.gather(
        at_once(seeded_system, [scan_of(event, card) for card in cards]), asyncio.create_task(cancelled())
    )
    outcomes = Counter((answer.json()["verdict"], answer.json()["reason"]) for answer in answers)
    assert set(outcomes) <= {("admitted", None), ("refused", "event_cancelled")}
    late = await at_once(seeded_system, [scan_of(event, card) for card in cards[:5]])
    assert {answer.json()["reason"] for answer in late} == {"event_cancelled"}
    attendance = await read(seeded_system, f"{path}/attendance")
    let_in = outcomes["admitted", None]
    assert (attendance["admitted"], attendance["refused"]) == (let_in, AT_ONCE - let_in + 5)


async def test_a_revocation_against_scans(seeded_system: SeededSystem) -> None:
    """The card comes in with the first scan before its end, or not at all."""
    event = await made_event(seeded_system, capacity=500, reentry="multiple")
    (card,) = await cards_of(seeded_system, 1)
    calls = [scan_of(event, card) for _ in range(40)]
    calls.insert(20, (f"/v1/cards/{card['id']}/revoke", {}))
    answers = await at_once(seeded_system, calls)
    verdicts = [answer.json() for number, answer in enumerate(answers) if number != 20]
    assert {verdict["reason"] for verdict in verdicts} <= {None, "card_revoked"}
    let_in = sum(verdict["verdict"] == "admitted" for verdict in verdicts)
    attendance = await read(seeded_system, f"/v1/events/{event['id']}/attendance")
    assert (attendance["admitted"], attendance["inside"]) == (let_in, min(let_in, 1))
    key = seeded_system.fixtures["api_key"]
    async with AsyncMasterVip(seeded_system.base_url, key) as vip, vip.scan_socket(event["id"]) as door:
        assert (await door.scan(card["credential"]))["reason"] == "card_revoked"


def test_the_audit_agrees(seeded_system: SeededSystem) -> None:
    """After all races and uploads of this folder."""
    document = seeded_system.running.audit()
    assert document["ok"], document
