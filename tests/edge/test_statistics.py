"""An event's scans counted by gate and by time: spans, buckets in local time, and what counting may cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.calendar import start_of_day_ms
from gateway import limits
from gateway.problems import Problem
from gateway.statistics import Step, bucket_starts
from tests.edge.in_process import System

HOUR_MS = 3_600_000
ZONE = "America/New_York"
NONE = {"offline": 0, "forced": 0, "annulled": 0}


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def told(at_ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


async def an_event(system: System, *scans: tuple[str, str, str, str]) -> tuple[str, str, dict[str, Any]]:
    """The key, the address of the statistics and the event, with scans given by time, gate (its name), direction and
    reason."""
    org = await system.open_org()
    terms = {"name": "Gala", "capacity": 100, "time_zone": ZONE, "gates": [{"name": "N"}, {"name": "S"}]}
    event = await system.made("POST", "/v1/events", terms, org["key"])
    gates = {gate["name"]: gate["id"] for gate in event["gates"]}
    rows = [(ms(at), gates.get(gate, gate), direction, reason) for at, gate, direction, reason in scans]
    await system.parts.pool.execute(
        "INSERT INTO scans SELECT $1, $2, n, at_ms, at_ms, 'r' || n, 'card', gate_id, 'dev', direction, reason, 'm',"
        " 'Ann', 'gold', 1, 1, 0, 0, 0, '', '' FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[])"
        " WITH ORDINALITY AS given(at_ms, gate_id, direction, reason, n)",
        *(org["id"], event["id"], *([list(column) for column in zip(*rows, strict=True)] or [[]] * 4)),
    )
    return org["key"], f"/v1/events/{event['id']}/statistics", event


EVENING = (
    ("2026-05-20T23:59:59.999Z", "N", "entry", ""),
    ("2026-05-21T00:00:00Z", "N", "entry", ""),
    ("2026-05-21T00:00:30Z", "S", "entry", "full"),
    ("2026-05-21T00:00:59.999Z", "S", "exit", ""),
    ("2026-05-21T00:01:00Z", "", "entry", "already_admitted"),
    ("2026-05-21T03:59:59.999Z", "gate_made_up", "entry", "gate_unknown"),
    ("2026-05-21T04:00:00Z", "N", "exit", "not_inside"),  # midnight in New York
)


async def test_counts_of_the_last_day_by_the_minute(system: System) -> None:
    key, path, _ = await an_event(system, *EVENING)
    found = await system.made("GET", path, token=key)
    assert (found["from"], found["until"]) == ("2026-05-21T04:00:00.000Z", "2026-05-22T04:00:00.000Z")
    assert found["totals"] == {"admitted": 0, "exits": 0, "refused": 1, "refused_by_reason": {"not_inside": 1}, **NONE}
    assert (found["step"], found["time_zone"], found["stale"]) == ("minute", ZONE, False)


async def test_counts_of_a_span(system: System) -> None:
    key, path, event = await an_event(system, *EVENING)
    span = "from=2026-05-21T00:00:00Z&until=2026-05-21T04:00:00Z"
    found = await system.made("GET", f"{path}?{span}", token=key)
    reasons = {"already_admitted": 1, "full": 1, "gate_unknown": 1}
    assert found["totals"] == {"admitted": 1, "exits": 1, "refused": 3, "refused_by_reason": reasons, **NONE}
    north, south = event["gates"]
    gates = {gate["gate_id"]: gate for gate in found["gates"]}
    assert set(gates) == {None, north["id"], south["id"]}
    assert (gates[north["id"]]["name"], gates[north["id"]]["admitted"], gates[north["id"]]["refused"]) == ("N", 1, 0)
    assert (gates[south["id"]]["exits"], gates[south["id"]]["refused_by_reason"]) == (1, {"full": 1})
    assert gates[None]["refused_by_reason"] == {"already_admitted": 1, "gate_unknown": 1}
    assert found["buckets"] == [
        {"start": "2026-05-21T00:00:00.000Z", "admitted": 1, "exits": 1, "refused": 1},
        {"start": "2026-05-21T00:01:00.000Z", "admitted": 0, "exits": 0, "refused": 1},
        {"start": "2026-05-21T03:59:00.000Z", "admitted": 0, "exits": 0, "refused": 1},
    ]
    hours = await system.made("GET", f"{path}?{span}&step=hour", token=key)
    assert [bucket["start"][11:16] for bucket in hours["buckets"]] == ["00:00", "03:00"]
    days = await system.made("GET", f"{path}?{span.replace('20T', '21T')}&step=day", token=key)
    assert [bucket["start"] for bucket in days["buckets"]] == ["2026-05-20T04:00:00.000Z"], "a local day, begun before"
    assert hours["totals"] == days["totals"] == found["totals"]


async def test_an_event_without_scans_has_counted_nothing_today(system: System) -> None:
    key, path, _ = await an_event(system)
    found = await system.made("GET", path, token=key)
    assert (found["totals"]["admitted"], found["gates"], found["buckets"]) == (0, [], [])
    assert ms(found["from"]) <= system.parts.clock_ms() < ms(found["until"])


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("from=2026-05-21T00:00:00Z", "until"),
        ("until=2026-05-21T00:00:00Z", "from"),
        ("from=2026-05-21T00:00:00Z&until=2026-05-21T00:00:00Z", "until"),
        ("from=2026-05-21T00:00:00Z&until=2026-05-23T00:00:00Z", "step"),
        ("from=2026-05-21T00:00:00Z&until=2027-05-23T00:00:00Z&step=hour", "step"),
        ("from=1970-01-02T00:00:00Z&until=2026-05-23T00:00:00Z&step=day", "step"),
        ("from=2026-05-21T00:00:00Z&until=9999-12-31T23:59:59Z&step=day", "until"),
        ("from=yesterday&until=2026-05-23T00:00:00Z", "from"),
        ("step=week", "step"),
    ],
)
async def test_what_cannot_be_counted(system: System, query: str, parameter: str) -> None:
    key, path, _ = await an_event(system)
    answer = await system.call("GET", f"{path}?{query}", token=key)
    assert (answer.status, answer.json()["code"]) == (400, "malformed")
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


async def test_what_takes_too_long_is_told(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock stands for a table that takes long to read; the statement ends with the answer."""
    monkeypatch.setattr(limits, "STATISTICS_TIMEOUT_MS", 300)
    key, path, _ = await an_event(system, *EVENING)
    span = "?from=2026-05-21T00:00:00Z&until=2026-05-21T04:00:00Z"
    async with system.parts.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE scans IN ACCESS EXCLUSIVE MODE")
        answer = await system.call("GET", path + span, token=key)
        assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
        assert "shorter span" in answer.json()["detail"]
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        assert await connection.fetchval(waiting) == 0
    monkeypatch.undo()
    assert (await system.call("GET", path + span, token=key)).status == 200


@pytest.mark.parametrize(
    ("day", "zone", "step", "count", "last_hours"),
    [
        (20260520, ZONE, "hour", 24, 23.0),
        (20260308, ZONE, "hour", 23, 22.0),
        (20261101, ZONE, "hour", 25, 24.0),
        (20260405, "Australia/Lord_Howe", "hour", 25, 24.0),  # of which the last has half an hour
        (20261025, "Antarctica/Troll", "minute", 1_560, 26 - 1 / 60),
        (20260520, "Asia/Kathmandu", "day", 1, 0.0),
    ],
)
def test_buckets_of_a_day(day: int, zone: str, step: Step, count: int, last_hours: float) -> None:
    start_ms = start_of_day_ms(day, zone)
    starts = bucket_starts((start_ms, start_of_day_ms(day + 1, zone)), step, zone)
    assert (len(starts), starts[0], starts[-1]) == (count, start_ms, start_ms + round(last_hours * HOUR_MS))


def test_the_first_bucket_is_the_one_that_the_span_begins_in() -> None:
    span = (ms("2026-05-20T10:20:30Z"), ms("2026-05-20T13:00:00Z"))
    assert [told(start) for start in bucket_starts(span, "hour", "Asia/Kathmandu")] == [
        f"2026-05-20T{hour}:15:00.000Z" for hour in (10, 11, 12)
    ]


def test_more_buckets_than_there_may_be() -> None:
    start_ms = ms("2026-05-20T00:00:00Z")
    most = limits.STATISTICS_BUCKETS_MAX
    assert len(bucket_starts((start_ms, start_ms + most * 60_000), "minute", "UTC")) == most
    with pytest.raises(Problem):
        bucket_starts((start_ms + 1, start_ms + 1 + most * 60_000), "minute", "UTC")
