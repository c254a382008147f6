"""`mastervip seed`: fills a running system through its public API, and writes what it made to the fixtures file.

Rules:
1. Only the public API is used. The bootstrap SuperAdmin of `connection.json` makes an account, and that account opens
   the organisation.
2. Through the project's own client, which tries every request under one id until it is answered: nothing is made twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import Any

import msgspec
from click import ClickException, echo

from gateway.client import AsyncClient, AsyncMasterVip, MasterVipError, RetryPolicy
from serve import connection
from serve.connection import Connection, NotRunning, Superadmin

CARDS_PER_REQUEST = 250
REQUESTS_AT_ONCE = 4
SCANNERS_PER_EVENT = 4
RETRY = RetryPolicy(pause_s_max=2.0, deadline_s=60.0, try_timeout_s=30.0)

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


async def seed(
    base_url: str, superadmin: Superadmin, members: int, events: int, ssl_context: ssl.SSLContext | None = None
) -> Json:
    """Makes an organisation with that much in it, and returns the fixtures. Raises `SeedError`."""
    if superadmin.password is None:
        raise SeedError(f"the password of {superadmin.email} was changed, so nobody here can make accounts")
    admin = {"email": f"admin-{token_hex(4)}@localhost", "password": token_urlsafe(18)}
    try:
        async with (
            AsyncMasterVip(base_url, retry=RETRY, ssl_context=ssl_context) as platform,
            AsyncMasterVip(base_url, retry=RETRY, ssl_context=ssl_context) as vip,
        ):
            await platform.login(superadmin.email, superadmin.password)
            await platform.request("POST", "/v1/accounts", json=admin | {"name": "Winston", "verified": True})
            await vip.login(admin["email"], admin["password"])
            org = await vip.orgs.open("The Continental", checkin_points=10)
            await platform.request("PUT", f"/v1/orgs/{org['id']}/plan", json={"plan": "premium"})
            await platform.logout()
            key = org["api_key"]["key"]
            echo(f"organisation {org['id']}", err=True)
            organiser = vip.acting_as(key)
            made_events = [await _event(organiser, number, members) for number in range(events)]
            cards = await _cards(organiser, members)
            # For the organisation that was not there at the first sign-in, and with its time before it.
            signed_in = await vip.login(admin["email"], admin["password"], org_id=org["id"])
    except MasterVipError as error:
        raise SeedError(str(error)) from error
    return {
        "base_url": base_url,
        "org_id": org["id"],
        "admin": admin | {"access_token": signed_in["access_token"]},
        "api_key": key,
        "superadmin": {"email": superadmin.email, "password": superadmin.password},
        "events": made_events,
        "cards": cards,
    }


async def _event(vip: AsyncClient, number: int, members: int) -> Json:
    name = EVENT_NAMES[number % len(EVENT_NAMES)]
    if number >= len(EVENT_NAMES):
        name = f"{name} {number // len(EVENT_NAMES) + 1}"
    # Room for everybody: a full house is for tests to make.
    event = await vip.events.create(name, max(500, 2 * members), gates=GATE_NAMES[:2])
    scanners = [await _scanner(vip, event["id"], index) for index in range(SCANNERS_PER_EVENT)]
    echo(f"event {event['id']} {name}: {len(event['gates'])} gates, {len(scanners)} scanners", err=True)
    return {
        "id": event["id"],
        "name": event["name"],
        "capacity": event["capacity"],
        "gates": [{"id": gate["id"]} for gate in event["gates"]],
        "scanners": scanners,
    }


async def _scanner(vip: AsyncClient, event_id: str, index: int) -> Json:
    made = await vip.devices.add(event_id, name=f"Scanner {index + 1}")
    paired = await vip.devices.pair(made["pairing_code"])
    return {"device_id": paired["device_id"], "token": paired["token"]}


async def _cards(vip: AsyncClient, count: int) -> list[Json]:
    progress = _Progress(count)
    at_once = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def issue(first: int) -> list[Json]:
        async with at_once:
            results = await vip.cards.issue_many(
                [_new_card(number) for number in range(first, min(first + CARDS_PER_REQUEST, count))]
            )
        progress.add(len(results))
        return [_issued(result) for result in results]

    batches = await asyncio.gather(*(issue(first) for first in range(0, count, CARDS_PER_REQUEST)))
    return [card for batch in batches for card in batch]


def _new_card(number: int) -> Json:
    """The same members at every seed; only ids differ."""
    choice = random.Random(number)
    name = f"{choice.choice(FIRST_NAMES)} {choice.choice(LAST_NAMES)}"
    tier = choice.choices(list(TIER_WEIGHTS), list(TIER_WEIGHTS.values()))[0]
    return {"member": {"name": name}, "tier": tier}


def _issued(result: Json) -> Json:
    card = result["card"]
    if card is None:
        raise SeedError(f"a card was refused: {result['problem']}")
    return {
        "id": card["id"],
        "member_id": card["member"]["id"],
        "tier": card["tier"],
        "credential": card["credential"],
    }


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
        fixtures = asyncio.run(seed(url or found.base_url, found.superadmin, members, events, found.ssl_context()))
    except (NotRunning, SeedError) as error:
        raise ClickException(str(error)) from error
    write_fixtures(out, fixtures)
    summary = {"out": str(out), "org_id": fixtures["org_id"], "events": events, "cards": len(fixtures["cards"])}
    echo(msgspec.json.encode(summary).decode() if as_json else f"wrote {out}: {events} events, {members} cards")
