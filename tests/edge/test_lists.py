"""Lists: pages, filters, cursors, CSV, and that what was confirmed is there or the list says that it may not be."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from actors.commands import CreateEvent
from actors.entry import Mark
from actors.ports import OutcomeUnknown
from actors.replies import Done
from actors.terms import EventTerms
from gateway import limits
from gateway.rest.common import csv_cell, signed
from tests.edge.in_process import System


async def pages(system: System, path: str, key: str, limit: int) -> list[list[Any]]:
    """All pages of a list."""
    found, cursor = [], ""
    while True:
        mark = "&" if "?" in path else "?"
        page = await system.made("GET", f"{path}{mark}limit={limit}{cursor}", token=key)
        assert not page.get("stale")
        found.append(page["items"])
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def an_evening(system: System) -> tuple[str, Any, list[Any]]:
    """An event with 7 cards admitted, 2 of them tried again, and one gone; returns key, event and cards."""
    key = (await system.open_org())["key"]
    event = await system.made("POST", "/v1/events", {"name": "Gala", "capacity": 100, "gates": [{"name": "N"}]}, key)
    items = [{"member": {"name": f"=M{number}"}} for number in range(7)]
    made = await system.made("POST", "/v1/cards:batch", {"items": items}, key)
    cards = [result["card"] for result in made["items"]]
    gate = event["gates"][0]["id"]
    scans: list[Any] = [{"event_id": event["id"], "credential": card["credential"], "gate_id": gate} for card in cards]
    scans += [{"event_id": event["id"], "credential": card["credential"]} for card in cards[:2]]
    scans += [{"event_id": event["id"], "credential": cards[6]["credential"], "direction": "exit"}]
    for scan in scans:
        await system.made("POST", "/v1/checkins", scan, key)
    return key, event, cards


async def test_the_scan_log(system: System) -> None:
    key, event, cards = await an_evening(system)
    path = f"/v1/events/{event['id']}/checkins"
    found = await pages(system, path, key, 4)
    assert [len(page) for page in found] == [4, 4, 2]
    scans = [scan for page in found for scan in page]
    assert [scan["verdict"] for scan in scans] == ["admitted", "refused", "refused"] + ["admitted"] * 7
    assert (scans[0]["direction"], scans[0]["inside"], scans[0]["card_id"]) == ("exit", 6, cards[6]["id"])
    assert scans[1]["reason"] == "already_admitted"
    assert scans[9]["member"]["name"] == "=M0"
    for query, count in (
        ("verdict=refused", 2),
        ("verdict=admitted", 8),
        ("reason=already_admitted", 2),
        (f"card_id={cards[0]['id']}", 2),
        (f"gate_id={event['gates'][0]['id']}", 7),
        (f"gate_id={event['gates'][0]['id']}&verdict=refused", 0),
        ("device_id=dev_none", 0),
    ):
        assert sum(map(len, await pages(system, f"{path}?{query}", key, 3))) == count, query
    assert (await system.call("GET", "/v1/events/evt_none/checkins", token=key)).status == 404


async def test_the_scan_log_as_csv(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key, event, _ = await an_evening(system)
    monkeypatch.setattr(limits, "EXPORT_PAGE_ROWS", 3)
    answer = await system.call("GET", f"/v1/events/{event['id']}/checkins", token=key, Accept="text/csv")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert len(rows) == 10
    assert rows[1]["reason"] == "already_admitted"
    assert rows[9]["member_name"] == "'=M0", "no cell is a formula"


@pytest.mark.parametrize(
    ("value", "cell"),
    [("a", "a"), (None, ""), (7, "7"), ('a"b', '"a""b"'), ("a,b", '"a,b"'), ("-1", "'-1"), ("@x", "'@x")],
)
def test_csv_cells(value: object, cell: str) -> None:
    assert csv_cell(value) == cell


async def test_the_other_lists(system: System) -> None:
    key, event, cards = await an_evening(system)
    ids = sorted(card["id"] for card in cards)
    assert [card["id"] for page in await pages(system, "/v1/cards", key, 3) for card in page] == ids
    (one,) = (await pages(system, f"/v1/cards?member_id={cards[3]['member']['id']}", key, 3))[0]
    assert (one["id"], one["balance"]) == (cards[3]["id"], 10)
    assert sum(map(len, await pages(system, "/v1/members", key, 2))) == 7
    second = await system.made("POST", "/v1/events", {"name": "Next", "capacity": 1}, key)
    names = {event["id"] for page in await pages(system, "/v1/events", key, 1) for event in page}
    assert names == {second["id"], event["id"]}
    for amount in range(1, 6):
        await system.made("POST", f"/v1/cards/{cards[0]['id']}/points/award", {"amount": amount}, key)
    entries = [entry for page in await pages(system, f"/v1/cards/{cards[0]['id']}/ledger", key, 2) for entry in page]
    assert [entry["seq"] for entry in entries] == [6, 5, 4, 3, 2, 1]
    assert [entry["amount"] for entry in entries] == [5, 4, 3, 2, 1, 10]
    assert entries[5]["cause"].startswith("checkin:")
    assert sum(entry["amount"] for entry in entries) == entries[0]["balance_after"]
    assert (await system.call("GET", "/v1/cards/card_none/ledger", token=key)).status == 404


async def test_a_list_that_cannot_be_fresh_says_so(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_YOUR_WRITES_WAIT_MAX_MS", 100)
    key = (await system.open_org())["key"]
    await system.projector.stop()
    card = await system.made("POST", "/v1/cards", {"member": {"name": "Ann"}}, key)
    page = await system.made("GET", "/v1/cards", token=key)
    assert (page["items"], page["stale"]) == ([], True)
    assert (await system.made("GET", f"/v1/cards/{card['id']}", token=key))["id"] == card["id"], "the engine knows it"


async def test_what_another_gateway_confirmed_is_there_or_the_list_says_that_it_may_not_be(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = await system.open_org()
    assert await pages(system, "/v1/events", org["key"], 10) == [[]]
    created = signed(CreateEvent(org["id"], "elsewhere-1", b"", "evt_1", EventTerms("Gala", 10)))
    assert isinstance(await system.elsewhere.ask(created), Done)
    (event,) = (await system.made("GET", "/v1/events", token=org["key"]))["items"]
    assert event["id"] == "evt_1"
    monkeypatch.setattr(limits, "READ_YOUR_WRITES_WAIT_MAX_MS", 100)
    await system.projector.stop()
    created = signed(CreateEvent(org["id"], "elsewhere-2", b"", "evt_2", EventTerms("Late", 10)))
    assert isinstance(await system.elsewhere.ask(created), Done)
    page = await system.made("GET", "/v1/events", token=org["key"])
    assert ([each["id"] for each in page["items"]], page["stale"]) == (["evt_1"], True)


async def test_a_list_says_that_it_may_lack_something_while_the_journal_is_away(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (await system.open_org())["key"]
    assert not (await system.made("GET", "/v1/events", token=key))["stale"]

    async def away(partition: int) -> Mark:
        raise OutcomeUnknown(f"no Redis for partition {partition}")

    monkeypatch.setattr(system.parts.freshness, "_tail", away)
    page = await system.made("GET", "/v1/events", token=key)
    assert (page["items"], page["stale"]) == ([], True)


@pytest.mark.parametrize("cursor", ["x", "AAAA", "_" * 299, "k8QI", "zw"])
async def test_a_cursor_that_is_none_of_ours(system: System, cursor: str) -> None:
    key, event, _ = await an_evening(system)
    for path in ("/v1/cards", "/v1/members", "/v1/events", f"/v1/events/{event['id']}/checkins"):
        answer = await system.call("GET", f"{path}?cursor={cursor}", token=key)
        assert (answer.status, answer.json()["code"]) == (400, "cursor_invalid"), path


async def test_a_cursor_of_another_list_or_other_filters(system: System) -> None:
    key, event, _ = await an_evening(system)
    path = f"/v1/events/{event['id']}/checkins"
    cursor = (await system.made("GET", f"{path}?limit=1", token=key))["next_cursor"]
    for other in (f"{path}?verdict=refused&", "/v1/cards?", "/v1/events?"):
        answer = await system.call("GET", f"{other}cursor={cursor}", token=key)
        assert (answer.status, answer.json()["code"]) == (400, "cursor_invalid"), other
