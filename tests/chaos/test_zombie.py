"""A host that stands still, loses its partitions and wakes up: it must not write, answer or show anything any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg

from tests.chaos.conftest import Site
from tests.chaos.run import Chaos, verdict

PAUSE_S = 8.0


async def test_a_host_that_wakes_up_after_its_successor_took_over_does_nothing(site: Site, tmp_path: Path) -> None:
    chaos = Chaos(site.running, site.organisations, tmp_path / "acks.jsonl", rate=100, seed=1)
    await chaos.begin()
    acked_before = chaos.load.tally.acked
    figures = await chaos.zombie(PAUSE_S)
    acked = chaos.load.tally.acked - acked_before
    document = await chaos.end()
    assert figures["successor"] != figures["zombie"], "somebody else took over"
    assert acked > PAUSE_S * 20, "the load went on meanwhile"
    # The audit says that epochs never fall and that all that was acknowledged, by whomever, is in the journal.
    assert verdict(document) == []
    entries = await _entries(site.running.connection().postgres_url, figures["partition"])
    opened = [entry["seq"] for entry in entries if entry["epoch"] == entries[-1]["epoch"]]
    assert len(opened) > 5, "the successor wrote"
    assert min(opened) == max(entry["seq"] for entry in entries if entry["epoch"] < entries[-1]["epoch"]) + 1


async def _entries(url: str, partition: int) -> list[Any]:
    session = await asyncpg.connect(url)
    try:
        query = "SELECT epoch, seq FROM journal_entries WHERE partition_id = $1 ORDER BY seq"
        return list(await session.fetch(query, partition))
    finally:
        await session.close()
