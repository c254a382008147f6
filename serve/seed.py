"""`mastervip seed`: fills a running system through its public API, and writes what it made to the fixtures file.

Rules:
1. Only the public API is used, with the bootstrap SuperAdmin's token from `connection.json` for the organisation.
2. Every POST has a UUIDv7 as its request id, so that trying again after a lost answer makes nothing twice.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
from click import ClickException, echo

from gateway.ids import IdMaker
from serve import connection
from serve.clocks import wall_clock_ms
from serve.connection import Connection, NotRunning, Superadmin

CARDS_PER_REQUEST = 250
REQUESTS_AT_ONCE = 4
SCANNERS_PER_EVENT = 4
TRIES_MAX = 20
TIMEOUT_S = 30.0
RETRY_STATUSES = frozenset({429, 503})
RETRY_PAUSE_S_MAX = 2.0

EVENT_NAMES = ("Opening Night", "Masquerade Ball", "Rooftop Session", "Wine Tasting", "Gala Dinner", "Summer Festival")
GATE_NAMES = ("Main Entrance", "Side Door", "Terrace")
FIRST_NAMES = (
    "Anh",
    "Bao",
    "Chi",
    "Dung",
    "Giang",
    "Hoa",
    "Khanh",
    "Lan",
    "Minh",
    "Nga",
    "Phuc",
    "Quynh",
    "Son",
    "Thu",
)
LAST_NAMES = ("Nguyen", "Tran", "Le", "Pham", "Hoang", "Phan", "Vu", "Dang", "Bui", "Do", "Ho", "Ngo", "Duong", "Ly")
TIER_WEIGHTS = {"bronze": 50, "silver": 25, "gold": 15, "platinum": 7, "diamond": 3}

Json = dict[str, Any]


class SeedError(Exception):
    """The system refused what was asked, or did not answer; the message says what."""


class _Api:
    """POSTs that are tried again, with the same request id, until they are answered."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.ids = IdMaker(wall_clock_ms, os.urandom)

    async def post(self, path: str, token: str, body: Json) -> Json:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": self.ids.request_id()}
        for attempt in range(TRIES_MAX):
            try:
                answer = await self._client.post(path, json=body, headers=headers)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if answer.is_success:
                    document: Json = answer.json()
                    return document
                problem = f"{answer.status_code} {answer.text[:500]}"
                if answer.status_code not in RETRY_STATUSES:
                    break
            await asyncio.sleep(min(0.1 * 2**attempt, RETRY_PAUSE_S_MAX))
        raise SeedError(f"POST {path}: {problem}")


class _Progress:
    """Tells on stderr how far the cards are, at every tenth."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._told = 0

    def add(self, count: int) -> None:
        self._done += count
        if self._done == self._total or (self._done - self._told) * 10 >= self._total:
            self._told = self._done
            echo(f"cards: {self._done} of {self._total}", err=True)


async def seed(base_url: str, superadmin: Superadmin, members: int, events: int) -> Json:
    """Makes an organisation with that much in it, and returns the fixtures. Raises `SeedError`."""
    async with httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT_S) as client:
        api = _Api(client)
        org = await api.post("/v1/orgs", superadmin.access_token, {"name": "The Continental", "checkin_points": 10})
        key = org["api_key"]["key"]
        echo(f"organisation {org['id']}", err=True)
        made_events = [await _event(api, key, number, members) for number in range(events)]
        cards = await _cards(api, key, members)
    return {
        "base_url": base_url,
        "org_id": org["id"],
        "admin": {"email": "admin@localhost", "password": None, "access_token": key},
        "api_key": key,
        "superadmin": {
            "email": superadmin.email,
            "password": superadmin.password,
            "access_token": superadmin.access_token,
        },
        "events": made_events,
        "cards": cards,
    }


async def _event(api: _Api, key: str, number: int, members: int) -> Json:
    name = EVENT_NAMES[number % len(EVENT_NAMES)]
    if number >= len(EVENT_NAMES):
        name = f"{name} {number // len(EVENT_NAMES) + 1}"
    gates = [{"name": gate} for gate in GATE_NAMES[:2]]
    # Room for everybody: a full house is for tests to make.
    event = await api.post("/v1/events", key, {"name": name, "capacity": max(500, 2 * members), "gates": gates})
    scanners = [await _scanner(api, key, event["id"], index) for index in range(SCANNERS_PER_EVENT)]
    echo(f"event {event['id']} {name}: {len(event['gates'])} gates, {len(scanners)} scanners", err=True)
    return {
        "id": event["id"],
        "name": event["name"],
        "capacity": event["capacity"],
        "gates": [{"id": gate["id"]} for gate in event["gates"]],
        "scanners": scanners,
    }


async def _scanner(api: _Api, key: str, event_id: str, index: int) -> Json:
    made = await api.post(f"/v1/events/{event_id}/devices", key, {"name": f"Scanner {index + 1}"})
    paired = await api.post("/v1/devices/pair", key, {"code": made["pairing_code"]})
    return {"device_id": paired["device_id"], "token": paired["token"]}


async def _cards(api: _Api, key: str, count: int) -> list[Json]:
    progress = _Progress(count)
    at_once = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def issue(first: int) -> list[Json]:
        items = [_new_card(api, number) for number in range(first, min(first + CARDS_PER_REQUEST, count))]
        async with at_once:
            issued = await _issue(api, key, items)
        progress.add(len(issued))
        return issued

    batches = await asyncio.gather(*(issue(first) for first in range(0, count, CARDS_PER_REQUEST)))
    return [card for batch in batches for card in batch]


def _new_card(api: _Api, number: int) -> Json:
    """The same members at every seed; only ids differ."""
    choice = random.Random(number)
    name = f"{choice.choice(FIRST_NAMES)} {choice.choice(LAST_NAMES)}"
    tier = choice.choices(list(TIER_WEIGHTS), list(TIER_WEIGHTS.values()))[0]
    return {"request_id": api.ids.request_id(), "member": {"name": name}, "tier": tier}


async def _issue(api: _Api, key: str, items: Sequence[Json]) -> list[Json]:
    """Issues the cards; those that found the system busy are asked for again, under their own request ids."""
    issued: dict[str, Json] = {}
    for _ in range(TRIES_MAX):
        left = [item for item in items if item["request_id"] not in issued]
        if not left:
            break
        answer = await api.post("/v1/cards:batch", key, {"items": left})
        for result in answer["items"]:
            if result["card"] is not None:
                issued[result["request_id"]] = result["card"]
            elif result["status"] not in RETRY_STATUSES:
                raise SeedError(f"a card was refused: {result['problem']}")
    if len(issued) < len(items):
        raise SeedError(f"{len(items) - len(issued)} cards could not be issued: the system stayed busy")
    cards = (issued[item["request_id"]] for item in items)
    return [
        {"id": card["id"], "member_id": card["member"]["id"], "tier": card["tier"], "credential": card["credential"]}
        for card in cards
    ]


def write_fixtures(path: Path, fixtures: Json) -> None:
    """The fixtures file, mode 0600: it holds tokens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(fixtures)) + b"\n")
    draft.replace(path)


def main(url: str | None, data: Path, members: int, events: int, out: Path, as_json: bool) -> None:
    """The command."""
    try:
        found: Connection = connection.read(data)
        fixtures = asyncio.run(seed(url or found.base_url, found.superadmin, members, events))
    except (NotRunning, SeedError) as error:
        raise ClickException(str(error)) from error
    write_fixtures(out, fixtures)
    summary = {"out": str(out), "org_id": fixtures["org_id"], "events": events, "cards": len(fixtures["cards"])}
    echo(msgspec.json.encode(summary).decode() if as_json else f"wrote {out}: {events} events, {members} cards")
