"""`mastervip api` and `mastervip watch` against a running system."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serve.cli import cli
from tests.edge.in_process import System
from tests.support.running import ROOT
from tests.support.serving import serving


class CommandLine:
    """Somebody at a prompt."""

    def __init__(self, url: str, data: Path, key: str) -> None:
        self.where = ["--url", url, "--data", str(data)]
        self.environment = {"MASTERVIP_TOKEN": key}

    async def run(self, command: str, *words: str, typed: bytes = b"") -> Result:
        def invoke() -> Result:
            return CliRunner().invoke(cli, [command, *self.where, *words], input=typed, env=self.environment)

        return await asyncio.to_thread(invoke)

    async def api(self, *words: str, typed: bytes = b"") -> Any:
        """What it answered, decoded."""
        result = await self.run("api", *words, typed=typed)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout) if result.stdout else None


@pytest.fixture
async def prompt(system: System, tmp_path: Path) -> AsyncIterator[CommandLine]:
    org = await system.open_org()
    async with serving(system.app) as server:
        yield CommandLine(f"http://127.0.0.1:{server.port}", tmp_path, org["key"])


async def test_an_evening_at_the_prompt(prompt: CommandLine) -> None:
    event = await prompt.api("events", "add", "name=Gala", "capacity=2", "--json")
    card = await prompt.api("cards", "add", "member.name=Lan", "tier=gold")
    scan = ("checkins", f"event_id={event['id']}", f"credential={card['credential']}", "scan_id=one")
    verdict = await prompt.api(*scan)
    assert (verdict["verdict"], verdict["replayed"]) == ("admitted", False)
    assert (await prompt.api(*scan))["replayed"]
    award = ("cards", "points", "award", card["id"], "amount=50", "note=Well done", "--key", "once")
    assert (await prompt.api(*award))["balance"] == (await prompt.api(*award))["balance"] == 60
    log = await prompt.run("api", "events", "checkins", event["id"], "--accept", "text/csv")
    assert log.stdout.splitlines()[1].startswith("one,")
    assert (await prompt.api("events", "change", event["id"], "doors_close=null"))["doors_close"] is None
    assert await prompt.api("cards", "suspend", card["id"], "note=lost") is not None
    assert (await prompt.api(*scan[:3], "scan_id=two"))["reason"] == "card_suspended"


async def test_lists_go_to_their_end_and_bodies_come_from_files(prompt: CommandLine, tmp_path: Path) -> None:
    items = {"items": [{"member": {"name": f"Guest {number}"}} for number in range(5)]}
    (tmp_path / "cards.json").write_text(json.dumps(items))
    await prompt.api("cards", "batch", "--body", str(tmp_path / "cards.json"))
    await prompt.api("cards", "batch", "--body", "-", typed=json.dumps(items).encode())
    listed = await prompt.run("api", "cards", "list", "limit=3", "--all")
    lines = [json.loads(line) for line in listed.stdout.splitlines()]
    assert len({line["id"] for line in lines}) == 10
    assert await prompt.api("cards", "list", "limit=3", "--all", "--json") == {"items": lines}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("cards", "show", "card_none"), "404 card_unknown"),
        (("cards", "suspend", "card_none", "note:=5"), "note"),
        (("cards", "show"), "CARD_ID is missing"),
        (("dance",), "there is no `dance`"),
        (("cards", "batch", "items:=[]", "--body", "-"), "not both"),
        (("cards", "add", "--all"), "cards add is no list"),
    ],
)
async def test_what_goes_wrong_is_told(prompt: CommandLine, words: tuple[str, ...], why: str) -> None:
    result = await prompt.run("api", *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert why in result.stderr
    assert "Traceback" not in result.stderr


async def test_what_there_is_is_listed(prompt: CommandLine) -> None:
    every = (await prompt.run("api")).stdout.splitlines()
    assert len(every) > 140
    assert any(line.startswith("coupons codes add COUPON_ID ") for line in every)
    listed = (await prompt.api("cards", "wallet", "--json"))["operations"]
    assert [one["usage"] for one in listed] == ["cards wallet pay CARD_ID", "cards wallet top-up CARD_ID"]
    assert listed[0]["fields"] == ["amount", "[note]"]


async def test_a_topic_is_followed_line_by_line(prompt: CommandLine) -> None:
    card = await prompt.api("cards", "add", "member.name=Lan")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serve.cli", "watch", *prompt.where, f"card:{card['id']}"),
        cwd=ROOT,
        env={**prompt.environment, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            first = json.loads(await process.stdout.readline())
            await prompt.api("cards", "points", "award", card["id"], "amount=7")
            second = json.loads(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()
    assert (first["kind"], first["data"]["balance"]) == ("snapshot", 0)
    assert (second["kind"], second["data"]["balance"]) == ("update", 7)


async def test_a_topic_that_there_is_not_ends_the_command(prompt: CommandLine) -> None:
    result = await prompt.run("watch", "card:card_none")
    assert result.exit_code == 1
    assert "topic_unknown" in result.stderr
