"""Leaderboards over the API: visits, streaks, an organisation's own boards, shared ranks, what is told late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.edge.in_process import System


@pytest.fixture
async def org(system: System) -> Any:
    return await system.open_org()


OWN = [{"name": "regulars", "metric": "visits", "ties": "shared"}]


async def rows(system: System, org: Any, board: str, window: str = "all") -> list[tuple[int, str, int]]:
    view = await system.made("GET", f"/v1/leaderboards/{board}?window={window}", token=org["key"])
    assert view["board"] == board
    return [(row["rank"], row["name"], row["score"]) for row in view["items"]]


async def came(system: System, org: Any, names: list[str], **event: Any) -> tuple[Any, dict[str, Any]]:
    """An event to which these came, once each."""
    body = {"name": "Gala", "capacity": 50, "reentry": "multiple", **event}
    made = await system.made("POST", "/v1/events", body, org["key"])
    cards = {}
    for name in names:
        cards[name] = await system.made("POST", "/v1/cards", {"member": {"name": name}}, org["key"])
        await check_in(system, org, made, cards[name])
    return made, cards


async def check_in(system: System, org: Any, event: Any, card: Any, **more: Any) -> Any:
    body = {"event_id": event["id"], "credential": card["credential"], **more}
    verdict = await system.made("POST", "/v1/checkins", body, org["key"])
    assert verdict["verdict"] == "admitted"
    return verdict


async def test_visits_and_streaks_have_boards_over_every_window(system: System, org: Any) -> None:
    gala, cards = await came(system, org, ["Ann", "Bob"])
    await check_in(system, org, gala, cards["Ann"])
    concert = await system.made("POST", "/v1/events", {"name": "Concert", "capacity": 50}, org["key"])
    await check_in(system, org, concert, cards["Bob"])
    for window in ("all", "day", "week", "month"):
        assert await rows(system, org, "visits", window) == [(1, "Bob", 2), (2, "Ann", 1)]
        assert await rows(system, org, "streak", window) == [(1, "Ann", 1), (2, "Bob", 1)]
    assert await rows(system, org, "visits", f"event:{concert['id']}") == [(1, "Bob", 1)]
    assert await rows(system, org, "streak", f"event:{gala['id']}") == [(1, "Ann", 1), (2, "Bob", 1)]


async def test_an_organisation_sets_boards_of_its_own(system: System, org: Any) -> None:
    path = f"/v1/orgs/{org['id']}/leaderboards"
    assert await system.made("GET", path, token=org["key"]) == {"boards": [], "grace_hours": 48}
    await came(system, org, ["Ann", "Bob"])
    body = {"boards": OWN, "grace_hours": 3}
    assert await system.made("PUT", path, body, org["key"]) == body
    assert await system.made("GET", path, token=org["key"]) == body
    assert await rows(system, org, "regulars") == [(1, "Ann", 1), (1, "Bob", 1)]
    assert await rows(system, org, "visits") == [(1, "Ann", 1), (2, "Bob", 1)]
    assert (await system.call("PUT", path, body, org["key"], **{"If-Match": '"other"'})).status == 412
    await system.made("PUT", path, {"boards": []}, org["key"])
    gone = await system.call("GET", "/v1/leaderboards/regulars", token=org["key"])
    assert (gone.status, gone.json()["code"]) == (404, "board_unknown")
    stranger = await system.open_org()
    assert (await system.call("PUT", path, body, stranger["key"])).status == 404


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"boards": [{"name": "points", "metric": "visits"}]}, 409, "there is a board 'points' already"),
        ({"boards": [{"name": "Best", "metric": "visits"}]}, 400, "/boards/0/name"),
        ({"boards": [{"name": "best", "metric": "karma"}]}, 400, "/boards/0/metric"),
        ({"boards": [{"name": f"b{n}", "metric": "points"} for n in range(21)]}, 400, "/boards"),
        ({"boards": [], "grace_hours": 0}, 400, "/grace_hours"),
        ({"boards": [], "grace_hours": 145}, 400, "/grace_hours"),
    ],
)
async def test_what_no_board_is(system: System, org: Any, body: Any, status: int, told: str) -> None:
    answer = await system.call("PUT", f"/v1/orgs/{org['id']}/leaderboards", body, org["key"])
    assert answer.status == status
    assert told in answer.body.decode()


async def test_what_is_told_late_counts_on_its_day(system: System, org: Any) -> None:
    gala, cards = await came(system, org, ["Ann"])
    now = datetime.now(UTC)
    yesterday = now - timedelta(days=1)
    item = {"event_id": gala["id"], "credential": cards["Ann"]["credential"], "scanned_at": written(yesterday)}
    await system.made("POST", "/v1/checkins:batch", {"items": [item], "now": written(now)}, org["key"])
    assert await rows(system, org, "visits", f"day:{yesterday:%Y%m%d}") == [(1, "Ann", 1)]
    assert await rows(system, org, "visits", f"day:{now:%Y%m%d}") == [(1, "Ann", 1)]
    assert await rows(system, org, "streak") == [(1, "Ann", 2)]


def written(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def test_a_window_that_is_frozen_is_paid_out_once(system: System, org: Any) -> None:
    await system.made("PUT", f"/v1/orgs/{org['id']}/leaderboards", {"boards": OWN, "grace_hours": 1}, org["key"])
    now = datetime.now(UTC)
    gala, cards = await came(system, org, ["Ann", "Bob", "Cy"], doors_close=written(now + timedelta(minutes=1)))
    await check_in(system, org, gala, cards["Bob"])
    await system.made("POST", f"/v1/cards/{cards['Cy']['id']}/suspend", {}, org["key"])
    path, window = "/v1/leaderboards/regulars/payout", f"event:{gala['id']}"
    body = {"window": window, "prizes": [50, 20], "note": "Gala"}
    early = await system.call("POST", path, body, org["key"])
    assert (early.status, early.json()["code"]) == (409, "window_open")
    assert "the window is frozen from 20" in early.json()["detail"]
    none = await system.call("GET", f"{path}?window={window}", token=org["key"])
    assert (none.status, none.json()["code"]) == (404, "payout_unknown")
    # As if the doors had closed two hours ago.
    changed = {"doors_close": written(now - timedelta(hours=2))}
    await system.made("PATCH", f"/v1/events/{gala['id']}", changed, org["key"])
    paid = await system.made("POST", path, body, org["key"])
    told = [(one["rank"], one["card_id"], one["score"], one["points"]) for one in paid["winners"]]
    assert told == [(1, cards["Ann"]["id"], 1, 50), (1, cards["Bob"]["id"], 1, 50), (1, cards["Cy"]["id"], 1, 0)]
    assert await system.made("GET", f"{path}?window={window}", token=org["key"]) == paid
    again = await system.call("POST", path, body, org["key"])
    assert (again.status, again.json()["code"]) == (409, "already_paid_out")
    entries = await system.made("GET", f"/v1/cards/{cards['Ann']['id']}/balance", token=org["key"])
    assert entries["balance"] == 60
    stranger = await system.open_org()
    assert (await system.call("POST", path, body, stranger["key"])).status == 404
    assert (await system.call("GET", f"{path}?window={window}", token=stranger["key"])).status == 404


@pytest.mark.parametrize(
    ("board", "body", "status", "code"),
    [
        ("karma", {"window": "week:202010", "prizes": [5]}, 404, "board_unknown"),
        ("points", {"window": "all", "prizes": [5]}, 404, "board_unknown"),
        ("points", {"window": "week", "prizes": [5]}, 404, "board_unknown"),
        ("points", {"window": "day:20201301", "prizes": [5]}, 404, "board_unknown"),
        ("points", {"window": "event:none", "prizes": [5]}, 404, "event_unknown"),
        ("points", {"window": "month:299901", "prizes": [5]}, 409, "window_open"),
        ("points", {"window": "week:202010", "prizes": []}, 400, "malformed"),
        ("points", {"window": "week:202010", "prizes": [0]}, 400, "malformed"),
        ("points", {"window": "week:202010", "prizes": [1] * 101}, 400, "malformed"),
    ],
)
async def test_what_cannot_be_paid_out(system: System, org: Any, board: str, body: Any, status: int, code: str) -> None:
    answer = await system.call("POST", f"/v1/leaderboards/{board}/payout", body, org["key"])
    assert (answer.status, answer.json()["code"]) == (status, code)


async def test_a_window_in_which_nobody_was_is_paid_out_to_nobody(system: System, org: Any) -> None:
    body = {"window": "week:202010", "prizes": [5]}
    assert (await system.made("POST", "/v1/leaderboards/streak/payout", body, org["key"]))["winners"] == []
