"""Postgres away for a while: check-ins go on, nothing is refused or lost, write-behind catches up."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.conftest import Site
from tests.chaos.run import Chaos, say, verdict

AWAY_S = 12.0
SILENT_S = 4.0  # well above what a host may stand still before it counts as dead
RATE = 150.0


async def test_check_ins_do_not_need_postgres_for_a_while(site: Site, tmp_path: Path) -> None:
    chaos = Chaos(site.running, site.organisations, tmp_path / "acks.jsonl", rate=RATE, seed=2, reverses=False)
    await chaos.begin()
    figures = await chaos.postgres_away(AWAY_S)
    document = await chaos.end()
    say(str(figures))
    assert figures["trouble"] == 0, "nothing was refused, put off or lost on the way"
    assert figures["acked_meanwhile"] > RATE * AWAY_S / 2
    assert verdict(document) == []
    assert document["drained"]


async def test_a_silent_host_keeps_its_partitions_while_nobody_else_could_open_them(site: Site, tmp_path: Path) -> None:
    chaos = Chaos(site.running, site.organisations, tmp_path / "acks.jsonl", rate=RATE, seed=3, reverses=False)
    await chaos.begin()
    figures = await chaos.silence_without_postgres(SILENT_S)
    document = await chaos.end()
    assert figures["owner_later"] == figures["silent"]
    assert verdict(document) == []
