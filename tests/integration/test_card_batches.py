"""A batch of cards in the whole system, whose gateways are killed in the middle of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import msgspec

from tests.integration.conftest import SeededSystem

ROWS = 6_000
TIMEOUT_S = 120.0


def patient(request: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer, asked for again while gateways are away."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            answer = request()
            if answer.status_code < 500 and answer.status_code != 429:
                return answer
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline_s, "no answer in time"
        time.sleep(0.05)


def batch_when(client: httpx.Client, batch_id: str, holds: Callable[[Any], bool]) -> Any:
    """The batch as soon as this holds."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        told = patient(lambda: client.get(f"/v1/cards/batches/{batch_id}")).json()
        if holds(told):
            return told
        assert time.monotonic() < deadline_s, told
        time.sleep(0.01)


def test_gateways_killed_in_the_middle_lose_no_card_and_make_none_twice(seeded_system: SeededSystem) -> None:
    with httpx.Client(base_url=seeded_system.base_url, headers=seeded_system.headers, timeout=30) as client:
        has_ids = patient(lambda: client.get("/v1/members", params={"limit": 20})).json()["items"]
        members = [member["id"] for member in has_ids]
        before = {card["id"] for card in everything(client)}
        rows = "member_id\n" + "".join(f"{members[n % len(members)]}\n" for n in range(ROWS))
        named = {"Content-Type": "text/csv", "Idempotency-Key": "a-batch-with-deaths"}
        asked = patient(lambda: client.post("/v1/cards:csv", content=rows, headers=named))
        assert asked.status_code == 202, asked.text
        batch_id = asked.json()["id"]
        for share in (0.2, 0.5):
            batch_when(client, batch_id, lambda told, share=share: told["progress"]["done"] >= share * ROWS)
            for gateway in seeded_system.running.pids("gateway"):
                os.kill(gateway, signal.SIGKILL)
        told = batch_when(client, batch_id, lambda told: told["state"] != "running")
        assert told["state"] == "done"
        assert (told["progress"]["succeeded"], told["progress"]["failed"]) == (ROWS, 0)
        result = patient(lambda: client.get(f"/v1/cards/batches/{batch_id}/result"))
        lines = [msgspec.json.decode(line) for line in result.content.splitlines()]
        assert [line["member_id"] for line in lines] == [members[n % len(members)] for n in range(ROWS)]
        made = {line["card_id"] for line in lines}
        assert len(made) == ROWS
        assert {card["id"] for card in everything(client)} - before == made, "all there are, and no others"


def everything(client: httpx.Client) -> list[Any]:
    """All cards of the organisation."""
    found: list[Any] = []
    cursor = None
    while True:
        params = {"limit": "500", **({"cursor": cursor} if cursor else {})}
        page = patient(lambda params=params: client.get("/v1/cards", params=params)).json()
        if page["stale"]:
            continue
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
