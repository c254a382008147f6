"""Points and wallets through the whole system: what REST asks, what it shows, and what was before."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.in_process import System


async def carded(system: System) -> tuple[str, str, str]:
    """An organisation's key, and the paths of two cards."""
    org = await system.open_org()
    cards = [await system.made("POST", "/v1/cards", {"member": {"name": "Lan"}}, org["key"]) for _ in range(2)]
    first, second = (f"/v1/cards/{card['id']}" for card in cards)
    return org["key"], first, second


async def test_a_hold_is_captured_in_part(system: System) -> None:
    key, card, _ = await carded(system)
    await system.made("POST", f"{card}/points/award", {"amount": 70}, key)
    held = await system.made("POST", f"{card}/points/hold", {"amount": 50}, key)
    assert (held["balance"], held["entry"]["amount"], held["entry"]["held"]) == (70, 0, 50)
    balance = await system.made("GET", f"{card}/balance", token=key)
    assert (balance["available"], balance["held"], balance["holds"][0]["entry_seq"]) == (20, 50, held["entry"]["seq"])
    assert balance["holds"][0]["lapses_at"] == held["entry"]["due_at"]
    seq = held["entry"]["seq"]
    taken = await system.made("POST", f"{card}/points/capture", {"entry_seq": seq, "amount": 20}, key)
    assert (taken["balance"], taken["entry"]["reverses"], taken["entry"]["kind"]) == (50, seq, "capture")
    answer = await system.call("POST", f"{card}/points/release", {"entry_seq": seq}, key)
    assert (answer.status, answer.json()["code"]) == (409, "hold_captured")
    back = await system.made("POST", f"{card}/points/reverse", {"entry_seq": taken["entry"]["seq"]}, key)
    assert back["balance"] == 70


async def test_pending_points(system: System) -> None:
    key, card, _ = await carded(system)
    made = await system.made("POST", f"{card}/points/award", {"amount": 30, "pending": True}, key)
    later = "2099-01-01T00:00:00Z"
    await system.made("POST", f"{card}/points/award", {"amount": 5, "pending_until": later}, key)
    balance = await system.made("GET", f"{card}/balance", token=key)
    assert (balance["balance"], balance["available"], balance["pending"]) == (35, 0, 35)
    shown = [(lot["is_pending"], lot["available_from"], lot["expires_at"]) for lot in balance["lots"]]
    assert shown == [(True, None, None), (True, "2099-01-01T00:00:00.000Z", None)]
    await system.made("POST", f"{card}/points/confirm", {"entry_seq": made["entry"]["seq"]}, key)
    assert (await system.made("GET", f"{card}/balance", token=key))["available"] == 30


async def test_wallet_and_transfer(system: System) -> None:
    key, card, other = await carded(system)
    up = await system.made("POST", f"{card}/wallet/top-up", {"amount": 100_000}, key)
    assert (up["balance"], up["entry"]["account"], up["entry"]["kind"]) == (100_000, "wallet", "top_up")
    paid = await system.made("POST", f"{card}/wallet/pay", {"amount": 60_000}, key)
    refund = await system.made("POST", f"{card}/points/reverse", {"entry_seq": paid["entry"]["seq"]}, key)
    assert (refund["balance"], refund["entry"]["account"]) == (100_000, "wallet")
    asked = {"to_card_id": other.rpartition("/")[2], "amount": 40_000, "account": "wallet"}
    await system.made("POST", f"{card}/points/transfer", asked, key)
    wallets = [(await system.made("GET", f"{path}/balance", token=key))["wallet"] for path in (card, other)]
    assert wallets == [{"balance": 60_000, "available": 60_000}, {"balance": 40_000, "available": 40_000}]


async def test_ledger_statement_and_past_balance(system: System) -> None:
    key, card, _ = await carded(system)
    entries = [
        (await system.made("POST", f"{card}/{verb}", {"amount": amount}, key))["entry"]
        for verb, amount in (
            ("points/award", 50),
            ("wallet/top-up", 900),
            ("points/redeem", 20),
            ("wallet/pay", 300),
            ("points/award", 7),
        )
    ]
    kinds = await system.made("GET", f"{card}/ledger?account=points&kind=award", token=key)
    assert [entry["amount"] for entry in kinds["items"]] == [7, 50]
    page = await system.made("GET", f"{card}/ledger?account=wallet&limit=1", token=key)
    assert [entry["kind"] for entry in page["items"]] == ["pay"]
    page = await system.made("GET", f"{card}/ledger?account=wallet&limit=1&cursor={page['next_cursor']}", token=key)
    assert ([entry["kind"] for entry in page["items"]], page["next_cursor"]) == (["top_up"], None)
    begin, middle = "2020-01-01T00:00:00.000Z", entries[2]["at"]
    whole = await system.made("GET", f"{card}/statement?from={begin}&until=2099-01-01T00:00:00Z", token=key)
    assert (whole["opening_balance"], whole["closing_balance"], whole["entries"]) == (0, 37, 3)
    assert {one["kind"]: one["amount"] for one in whole["sums"]} == {"award": 57, "redeem": -20}
    late = f"{card}/statement?from={middle}&until=2099-01-01T00:00:00Z&account=wallet"
    wallet = await system.made("GET", late, token=key)
    # Entries of the same millisecond fall into the same period.
    before = sum(entry["amount"] for entry in entries if entry["account"] == "wallet" and entry["at"] < middle)
    assert (wallet["opening_balance"], wallet["closing_balance"]) == (before, 600)
    for at in (begin, *(entry["at"] for entry in entries)):
        then = await system.made("GET", f"{card}/balance?at={at}", token=key)
        seen = [entry for entry in entries if entry["at"] <= at]
        wanted = [sum(entry["amount"] for entry in seen if entry["account"] == one) for one in ("points", "wallet")]
        assert ([then["balance"], then["wallet"]], then["entries"]) == (wanted, len(seen))


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("points/hold", {"amount": 1, "account": "gold"}, 400, "malformed"),
        ("points/hold", {"amount": 11}, 409, "insufficient_points"),
        ("points/hold", {"amount": 1, "lapses_at": "2020-01-01T00:00:00Z"}, 409, "expiry_invalid"),
        ("points/award", {"amount": 1, "expires_at": "2020-01-01T00:00:00Z"}, 409, "expiry_invalid"),
        ("points/award", {"amount": 1, "pending_until": "2020-01-01T00:00:00Z"}, 409, "pending_invalid"),
        ("points/award", {"amount": 1, "pending": True, "pending_until": "2099-01-01T00:00:00Z"}, 400, "malformed"),
        ("points/confirm", {"entry_seq": 1}, 409, "entry_not_pending"),
        ("points/capture", {"entry_seq": 1}, 409, "hold_unknown"),
        ("points/capture", {"entry_seq": 0}, 400, "malformed"),
        ("points/transfer", {"to_card_id": "a b", "amount": 1}, 400, "malformed"),
        ("points/transfer", {"to_card_id": "card_nobody", "amount": 1}, 404, "card_unknown"),
        ("wallet/pay", {"amount": 1}, 409, "insufficient_funds"),
        ("wallet/top-up", {"amount": 0}, 409, "amount_invalid"),
        ("wallet/award", {"amount": 1}, 404, "not_found"),
    ],
)
async def test_what_is_refused(system: System, path: str, body: dict[str, Any], status: int, code: str) -> None:
    key, card, _ = await carded(system)
    await system.made("POST", f"{card}/points/award", {"amount": 10}, key)
    answer = await system.call("POST", f"{card}/{path}", body, key)
    assert (answer.status, answer.json()["code"]) == (status, code)


async def test_a_transfer_to_itself(system: System) -> None:
    key, card, _ = await carded(system)
    answer = await system.call(
        "POST", f"{card}/points/transfer", {"to_card_id": card.rpartition("/")[2], "amount": 1}, key
    )
    assert (answer.status, answer.json()["code"]) == (409, "transfer_to_itself")


@pytest.mark.parametrize("query", ["from=2026-01-01T00:00:00Z", "from=2026-01-01T00:00:00Z&until=2026-01-01T00:00:00Z"])
async def test_a_statement_has_a_period(system: System, query: str) -> None:
    key, card, _ = await carded(system)
    answer = await system.call("GET", f"{card}/statement?{query}", None, key)
    assert (answer.status, answer.json()["errors"][0]["parameter"]) == (400, "until")
