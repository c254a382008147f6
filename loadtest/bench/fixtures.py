"""What there is to scan: cards, events with their scanners, and three active rules of which one matches.

Rules:
1. Everything is made through the public API, by `mastervip seed` and by `POST /v1/rules`.
2. A file that is there already is used, and completed with the rules that its organisation does not have.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import msgspec

from loadtest.bench.say import say
from serve.connection import Connection

RULES: list[dict[str, Any]] = [
    {"name": "A thousand points", "when": "card.points < 0", "then": [{"action": "award_points", "points": 100}]},
    {"name": "Here today", "when": "counts.visits_today >= 1", "then": [{"action": "award_points", "points": 5}]},
    {
        "name": "Who came from Hue",
        "when": "has(member.attributes.city) && member.attributes.city == 'Hue'",
        "then": [{"action": "award_points", "points": 50}],
    },
]
API_TIMEOUT_S = 30.0


class FixtureCard(msgspec.Struct):
    """What is read of a card."""

    id: str
    member_id: str
    tier: str
    credential: str


class FixtureScanner(msgspec.Struct):
    """What is read of a scanner."""

    token: str


class FixtureEvent(msgspec.Struct):
    """What is read of an event."""

    id: str
    capacity: int
    scanners: list[FixtureScanner]


class Fixtures(msgspec.Struct):
    """What the benchmark reads of the fixtures file."""

    org_id: str
    api_key: str
    events: list[FixtureEvent]
    cards: list[FixtureCard]


def fixtures_of(found: Connection, data: Path, path: Path | None, members: int, events: int) -> Fixtures:
    """What there is to scan on a running system. Raises `SystemExit` when it could not be seeded."""
    with tempfile.TemporaryDirectory() as directory:
        out = path or Path(directory) / "fixtures.json"
        if not out.exists():
            say(f"seeding {members} members, {events} events")
            command = [sys.executable, "-m", "serve.cli", "seed", "--data", str(data), "--events", str(events)]
            command += ["--members", str(members), "--out", str(out)]
            done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"seeding failed: {done.stderr[-1000:]}")
        made = msgspec.json.decode(out.read_bytes(), type=Fixtures)
    _make_rules(found, made)
    return made


def _make_rules(found: Connection, fixtures: Fixtures) -> None:
    """Rule 2."""
    verify = found.ssl_context() or True
    headers = {"X-API-Key": fixtures.api_key}
    with httpx.Client(base_url=found.base_url, headers=headers, verify=verify, timeout=API_TIMEOUT_S) as client:
        listed = client.get("/v1/rules").raise_for_status().json()["items"]
        there = {rule["rule"]["name"] for rule in listed}
        for rule in RULES:
            if rule["name"] not in there:
                body = {"rule": {"on": "checkin", "state": "active", **rule}}
                client.post("/v1/rules", json=body).raise_for_status()
