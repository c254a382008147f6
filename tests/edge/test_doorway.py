"""What reaches the engine of what scanners read: rotating codes with the time that they hold, and taps of tags."""

from __future__ import annotations

from typing import Any

import pytest

from actors.commands import CheckIn, fingerprint
from gateway.tags import TagBook, text_of_url
from tests.edge.asgi import call
from tests.edge.edge import KEY, MASTER, OTHER_KEY, FakeEdge, bearer
from tests.edge.fakes import NOW_MS, TENANT
from tests.support.fake_tag import FakeTag

STEP_MS = NOW_MS // 15_000 * 15_000


UID = "04DE5F1EACC040"


def fake_tag(tenant_id: str = TENANT) -> FakeTag:
    keys = TagBook(MASTER).keys(tenant_id, bytes.fromhex(UID))
    return FakeTag(bytes.fromhex(UID), keys.meta_read, keys.file_read)


@pytest.fixture
def edge() -> FakeEdge:
    return FakeEdge()


async def scan(edge: FakeEdge, credential: str, token: str = KEY, **fields: Any) -> str | None:
    """The reason that the scan is refused for, if it is."""
    body = {"event_id": "evt_1", "credential": credential, **fields}
    answer = await call(edge.app, "POST", "/v1/checkins", body, bearer(token))
    assert answer.status == 200, answer.body
    reason: str | None = answer.json()["reason"]
    return reason


async def reaches_the_engine(edge: FakeEdge, credential: str, **fields: Any) -> CheckIn | None:
    """The command that came of it; None where it was refused at the edge."""
    before = len(edge.engine.messages)
    reason = await scan(edge, credential, **fields)
    if reason == "credential_invalid":
        assert len(edge.engine.messages) == before
        return None
    command = edge.engine.messages[before]
    assert isinstance(command, CheckIn)
    return command


async def test_a_rotating_credential_brings_the_time_that_its_code_holds(edge: FakeEdge) -> None:
    command = await reaches_the_engine(edge, edge.rotating())
    assert command is not None
    assert (command.tenant_id, command.card_id) == (TENANT, "card_1")
    assert (command.valid_from_ms, command.valid_until_ms) == (STEP_MS - 15_000, STEP_MS + 30_000)
    command = await reaches_the_engine(edge, edge.rotating(valid_until_ms=STEP_MS + 5_000))
    assert command is not None
    assert command.valid_until_ms == STEP_MS + 5_000


async def test_an_old_code_is_the_engines_to_refuse_and_a_made_up_one_the_edges(edge: FakeEdge) -> None:
    old = await reaches_the_engine(edge, edge.rotating(NOW_MS - 60_000))
    assert old is not None
    assert old.valid_until_ms <= NOW_MS
    good = edge.rotating()
    made_up = good[:-1] + ("0" if good[-1] != "0" else "1")
    for credential in (made_up, good[:-8], edge.rotating(NOW_MS - 11 * 60_000)):
        assert await reaches_the_engine(edge, credential) is None
    assert edge.app.doorway.forged_count == 3


async def test_a_scan_that_was_made_earlier_is_judged_by_the_codes_of_then(edge: FakeEdge) -> None:
    """A scanner that was offline uploads what it read."""
    hour_ago = NOW_MS - 3_600_000
    at = "2026-11-22T09:00:00.123Z"
    command = await reaches_the_engine(edge, edge.rotating(hour_ago), scanned_at=at)
    assert command is not None
    assert command.scanned_at_ms == hour_ago
    assert command.valid_from_ms <= hour_ago < command.valid_until_ms
    assert await reaches_the_engine(edge, edge.rotating(), scanned_at=at) is None


async def test_a_retry_with_a_newer_code_is_the_same_request(edge: FakeEdge) -> None:
    shown = [edge.rotating(), edge.rotating(NOW_MS - 15_000), edge.credential()]
    commands = [await reaches_the_engine(edge, credential, scan_id="s-1") for credential in shown]
    assert len({command.fingerprint for command in commands if command is not None}) == 1
    assert None not in commands
    other = await reaches_the_engine(edge, edge.credential(card_id="card_2"), scan_id="s-1")
    assert other is not None
    assert commands[0] is not None
    assert other.fingerprint != commands[0].fingerprint


async def test_another_tenants_rotating_code_is_nothing(edge: FakeEdge) -> None:
    assert await scan(edge, edge.rotating(), OTHER_KEY) == "credential_invalid"
    assert edge.engine.messages == []


async def test_a_tags_tap_names_the_tag_and_the_engine_knows_whose_card_it_is(edge: FakeEdge) -> None:
    tag = fake_tag()
    first, second = (tag.tap(f"https://vip.example.com/t/{TENANT}") for _ in range(2))
    commands = []
    for counter, credential in ((1, first), (1, str(text_of_url(first))), (2, second)):
        command = await reaches_the_engine(edge, credential)
        assert command is not None
        assert (command.card_id, command.serial, command.tag_uid, command.tag_counter) == ("", 0, UID, counter)
        assert command.fingerprint == fingerprint(command)
        commands.append(command)
    assert len({command.fingerprint for command in commands}) == 1, "a newer tap asks the same"


async def test_a_tap_that_somebody_made_up_never_reaches_the_engine(edge: FakeEdge) -> None:
    url = fake_tag().tap(f"https://vip.example.com/t/{TENANT}")
    forged = url[:-1] + ("0" if url[-1] != "0" else "1")
    foreign = fake_tag("org_other").tap("https://vip.example.com/t/org_other")
    for credential in (forged, foreign):
        assert await reaches_the_engine(edge, credential) is None
    assert edge.app.doorway.forged_count == 2


async def test_a_credential_brings_its_serial(edge: FakeEdge) -> None:
    text = edge.book.issue(TENANT, "card_1", "gold", NOW_MS, serial=7)
    command = await reaches_the_engine(edge, text)
    assert command is not None
    assert command.serial == 7
