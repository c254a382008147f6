"""What a draft of a rule would have done, over the API: against the past, against moments that are made up."""

from __future__ import annotations

from typing import Any

import pytest

from actors.codec import decode_facts
from actors.rule_facts import EffectRequested
from gateway import limits
from storage import past
from tests.edge.in_process import PARTITIONS, System

SIMULATE = "/v1/rules:simulate"
NOTES: dict[str, Any] = {
    "name": "Notes",
    "on": "checkin",
    "when": "true",
    "then": [{"action": "notify", "text": "Hello"}],
    "state": "active",
}
AWARDS: dict[str, Any] = NOTES | {"then": [{"action": "award_points", "points": 7}]}
CONDITIONS = {
    "checkin": "counts.visits_event == 1 && card.earned < 30",
    "exit": "event.name == 'Gala'",
    "points_earned": "points.amount > 10 || card.points == 0",
    "points_spent": "points.account == 'wallet' || card.points >= 40",
    "top_up": "top_up.amount >= 500",
    "card_issued": "card.tier == 'gold'",
    "tier_changed": "tier.to == 'diamond'",
    "streak_reached": "streak.days == 1",
    "coupon_used": "coupon.kind == 'points' && coupon.amount == 20",
}


@pytest.fixture
async def org(system: System) -> Any:
    return await system.open_org()


async def guest(system: System, key: str, name: str, tier: str = "gold") -> Any:
    return await system.made("POST", "/v1/cards", {"member": {"name": name}, "tier": tier}, key)


async def gala(system: System, key: str, capacity: int = 50) -> str:
    made = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": capacity, "reentry": "after_exit"}, key)
    return str(made["id"])


async def scanned(system: System, key: str, event_id: str, card: Any, direction: str = "entry") -> Any:
    body = {"event_id": event_id, "credential": card["credential"], "direction": direction}
    return await system.made("POST", "/v1/checkins", body, key)


async def evening(system: System, key: str) -> list[Any]:
    """Guests who come, go, earn and spend."""
    event_id = await gala(system, key)
    cards = [await guest(system, key, f"Guest {number}", "gold" if number % 2 else "silver") for number in range(4)]
    for card in cards:
        await scanned(system, key, event_id, card)
    for card in cards[:2]:
        await scanned(system, key, event_id, card, "exit")
        await scanned(system, key, event_id, card)
    points, wallet = (f"/v1/cards/{cards[0]['id']}/{account}" for account in ("points", "wallet"))
    entry = await system.made("POST", f"{points}/award", {"amount": 40}, key)
    await system.made("POST", f"{points}/redeem", {"amount": 15}, key)
    await system.made("POST", f"{points}/award", {"amount": 5}, key)
    seq = entry["entry"]["seq"]
    await system.made("POST", f"{points}/reverse", {"entry_seq": seq}, key)
    await system.made("POST", f"{wallet}/top-up", {"amount": 900}, key)
    await system.made("POST", f"{wallet}/pay", {"amount": 100}, key)
    await system.made("POST", f"/v1/cards/{cards[1]['id']}/tier", {"tier": "diamond"}, key)
    for shared, value in (("TWENTY", {"type": "points", "points": 20}), ("FREETEA", {"type": "item", "text": "A tea"})):
        await system.made("POST", "/v1/coupons", {"name": shared, "value": value, "shared_code": shared}, key)
        await system.made("POST", "/v1/coupons/redeem", {"code": shared, "card_id": cards[2]["id"]}, key)
    return cards


async def simulated(system: System, key: str, rule: dict[str, Any], **more: Any) -> Any:
    return await system.made("POST", SIMULATE, {"rule": rule, **more}, key)


async def noted(system: System) -> dict[str, list[tuple[str, str]]]:
    """By rule: the card and the cause of all that rules did, as the archive has it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for partition in PARTITIONS:
        seq = 1
        while entries := await past.entries_from(system.parts.pool, partition, seq):
            seq = entries[-1].seq + 1
            for entry in entries:
                for fact in decode_facts(entry):
                    if isinstance(fact, EffectRequested):
                        found.setdefault(fact.rule_id, []).append((fact.card_id, fact.cause))
    return found


async def test_a_draft_does_in_the_past_what_the_same_rule_did(system: System, org: Any) -> None:
    key = org["key"]
    rules = {}
    for on, when in CONDITIONS.items():
        rules[on] = (await system.made("POST", "/v1/rules", {"rule": NOTES | {"on": on, "when": when}}, key))["id"]
    await evening(system, key)
    for on, when in CONDITIONS.items():
        draft = NOTES | {"on": on, "when": when, "state": "draft"}
        report = await simulated(system, key, draft, rule_id=rules[on])
        did = (await noted(system))[rules[on]]
        assert [(one["card_id"], one["cause"]) for one in report["examples"]] == did, on
        (own,) = [rule for rule in report["rules"] if rule["is_draft"]]
        assert (own["id"], own["version"], own["applied"], own["effects"]) == (rules[on], 2, len(did), len(did))
        assert (report["span"]["complete"], report["span"]["stale"]) == (True, False)
        assert report["span"]["read_until"] == report["span"]["until"]


async def test_what_it_would_have_cost(system: System, org: Any) -> None:
    key = org["key"]
    await system.made("POST", "/v1/rules", {"rule": AWARDS | {"when": "card.tier == 'gold'"}}, key)
    cards = await evening(system, key)
    draft = AWARDS | {
        "state": "draft",
        "when": "counts.visits_event == 1",
        "then": [{"action": "multiply", "factor": 2}],
        "limits": {"points_budget": 40},
        "priority": -1,
        "valid_until": "2020-01-01T00:00:00Z",
    }
    before = await system.made("GET", "/v1/rules", token=key)
    report = await simulated(system, key, draft)
    (own,) = [rule for rule in report["rules"] if rule["is_draft"]]
    (saved,) = [rule for rule in report["rules"] if not rule["is_draft"]]
    base = 10
    assert (saved["applied"], saved["points"], saved["cards"]) == (3, 21, 2)
    # The two silver guests have the base alone; the first golden one has 7 more; then the budget is used up.
    assert (own["id"], own["applied"], own["points"], own["withheld"]) == ("draft", 3, base + base + 7 + base, 1)
    assert sum(day["points"] for day in own["days"]) == own["points"]
    assert report["points"] == own["points"] + saved["points"] == sum(day["points"] for day in report["days"])
    assert report["examples"][0]["effects"][0]["action"] == "award_points"
    assert report["examples"][0]["card_id"] == cards[0]["id"]
    assert await system.made("GET", "/v1/rules", token=key) == before, "nothing was saved or given"


async def test_anothers_past_is_not_looked_at(system: System, org: Any) -> None:
    await evening(system, org["key"])
    neighbours = [await system.open_org() for _ in range(4)]
    for other in neighbours:
        report = await simulated(system, other["key"], NOTES)
        assert (report["moments"], report["span"]["facts"], report["examples"]) == (0, 0, [])
    made = await system.made("POST", "/v1/rules", {"rule": NOTES}, org["key"])
    for rule_id in (made["id"], "rule_absent"):
        foreign = await system.call("POST", SIMULATE, {"rule": NOTES, "rule_id": rule_id}, neighbours[0]["key"])
        assert (foreign.status, foreign.json()["code"]) == (404, "rule_unknown")


async def test_a_span_of_time_goes_on_where_it_ended(system: System, org: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = org["key"]
    await evening(system, key)
    whole = await simulated(system, key, NOTES)
    monkeypatch.setattr(limits, "SIMULATION_FACTS_MAX", 9)
    span, seen, parts = whole["span"], 0, 0
    since = span["from"]
    while True:
        part = await simulated(system, key, NOTES, **{"from": since, "until": span["until"]})
        seen += part["span"]["facts"]
        parts += 1
        if part["span"]["complete"]:
            break
        assert part["span"]["facts"] == 9
        assert since < part["span"]["read_until"] < span["until"]
        since = part["span"]["read_until"]
    # What happened within the same millisecond as the end of a part may be looked at twice.
    assert seen >= span["facts"] > 9
    assert parts > 2
    long_ago = {"from": "2001-01-01T00:00:00Z", "until": "2001-02-01T00:00:00Z"}
    empty = await simulated(system, key, NOTES, **long_ago)
    assert (empty["moments"], empty["span"]["complete"]) == (0, True)


@pytest.mark.parametrize("limit", ["SIMULATION_BYTES_MAX", "SIMULATION_MAX_MS"])
async def test_a_simulation_ends_with_its_limits(
    system: System, org: Any, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    key = org["key"]
    await evening(system, key)
    monkeypatch.setattr(past, "PAGE_ENTRIES_MAX", 3)
    monkeypatch.setattr(limits, limit, 0)
    report = await simulated(system, key, NOTES)
    assert report["span"]["complete"] is False
    assert report["span"]["read_until"] < report["span"]["until"]


async def test_moments_that_are_made_up(system: System, org: Any) -> None:
    draft = AWARDS | {
        "when": "counts.streak_days >= 3 && member.attributes.city == 'Huế'",
        "then": [{"action": "award_points", "amount": "card.points / 10"}],
    }
    moments = [
        {"at": "2026-05-20T18:00:00+07:00", "counts": {"streak_days": 3}, "member": {"attributes": {"city": "Huế"}}},
        {
            "at": "2026-05-19T18:00:00+07:00",
            "counts": {"streak_days": 4},
            "member": {"attributes": {"city": "Huế"}},
            "card": {"id": "lan", "points": 250},
        },
        {"at": "2026-05-21T18:00:00+07:00", "counts": {"streak_days": 3}},
    ]
    report = await simulated(system, org["key"], draft, moments=moments)
    assert (report["moments"], report["points"], report["span"]) == (3, 25, None)
    assert report["failures"] == {"key_missing": 1}
    (example,) = report["examples"]
    assert (example["card_id"], example["cause"], example["at"]) == ("lan", None, "2026-05-19T11:00:00.000Z")
    assert [day["date"] for day in report["days"]] == ["2026-05-19", "2026-05-20", "2026-05-21"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"rule": NOTES | {"when": "nonsense"}}, "#/rule/when"),
        ({"rule": NOTES | {"on": "noon"}}, "#/rule/on"),
        ({"moments": []}, "#/moments"),
        ({"moments": [{"at": "2026-05-19T18:00:00Z"}] * (limits.SIMULATION_MOMENTS_MAX + 1)}, "#/moments"),
        ({"moments": [{}]}, "#/moments/0"),
        ({"moments": [{"at": "2026-05-19"}]}, "#/moments/0/at"),
        ({"moments": [{"at": "1960-05-19T00:00:00Z"}]}, "#/moments/0/at"),
        ({"moments": [{"at": "2026-05-19T18:00:00Z", "card": {"points": "many"}}]}, "#/moments/0/card/points"),
        ({"moments": [{"at": "2026-05-19T18:00:00Z", "top_up": {"amount": 5}}]}, "#/moments/0/top_up"),
        ({"moments": [{"at": "2026-05-19T18:00:00Z"}], "from": "2026-05-19T18:00:00Z"}, "#/moments"),
        ({"from": "2026-05-19T18:00:00Z", "until": "2026-05-19T18:00:00Z"}, "#/from"),
        ({"from": "2999-05-19T18:00:00Z"}, "#/from"),
        ({"from": "2026-05-19T18:00:00Z", "until": "9999-05-19T18:00:00Z"}, "#/until"),
        ({"from": "yesterday"}, "#/from"),
    ],
)
async def test_what_is_wrong_is_told(system: System, org: Any, change: dict[str, Any], pointer: str) -> None:
    answer = await system.call("POST", SIMULATE, {"rule": NOTES, **change}, org["key"])
    assert answer.status == 400, answer.body
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_what_could_not_be_active_is_refused(system: System, org: Any) -> None:
    heavy = " || ".join(["event.tags.exists(t, t.contains(card.id))"] * 2)
    draft = NOTES | {"when": heavy}
    made = [await system.call("POST", "/v1/rules", {"rule": draft}, org["key"]) for _ in range(8)]
    refused = next(answer for answer in made if answer.status != 201)
    assert refused.json()["code"] == "limit_reached"
    answer = await system.call("POST", SIMULATE, {"rule": draft | {"state": "draft"}}, org["key"])
    assert (answer.status, answer.json()["code"]) == (refused.status, "limit_reached")


async def test_one_at_a_time(system: System, org: Any) -> None:
    slots = system.app._api.state.simulations  # type: ignore[attr-defined]
    with slots.hold(org["id"]):
        answer = await system.call("POST", SIMULATE, {"rule": NOTES}, org["key"])
    assert (answer.status, answer.json()["code"]) == (429, "rate_limited")
    assert "retry-after" in answer.headers
