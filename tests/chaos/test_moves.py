"""Partitions that move between hosts while clients scan: nothing is lost, nothing happens twice, nobody is told
anything wrong."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from actors.ids import partition_of
from tests.chaos.conftest import Site
from tests.chaos.run import Chaos, say, verdict
from tests.support.running import ROOT

MOVES = 100


async def test_a_hundred_moves_under_load(site: Site, tmp_path: Path) -> None:
    chaos = Chaos(site.running, site.organisations, tmp_path / "acks.jsonl", rate=100, seed=3)
    await chaos.begin()
    partitions_count = site.running.connection().partitions
    busy = sorted({partition_of(one["org_id"], partitions_count) for one in site.organisations})
    epochs = await chaos.epochs()
    acked_before = chaos.load.tally.acked
    moves = await _moved(site.running.data, busy)
    acked = chaos.load.tally.acked - acked_before
    later = await chaos.epochs()
    document = await chaos.end()
    assert [move for move in moves if move["error"]] == []
    assert len(moves) == MOVES
    for partition in busy:
        assert later[partition] - epochs[partition] >= MOVES // len(busy), "each move opened it anew"
    assert acked > MOVES, "the load went on meanwhile"
    assert verdict(document) == []
    took_ms = sorted(move["took_ms"] for move in moves)
    say(
        f"{MOVES} moves: open at the new host after {statistics.median(took_ms):.0f} ms in the middle, {took_ms[-1]} "
        f"at most; of {acked} answers meanwhile p50 {document['latency_p50_ms']} ms, p99 {document['latency_p99_ms']}, "
        f"longest {document['latency_max_ms']}"
    )
    for partition in busy:
        done = site.running.command("move", str(partition), "--anywhere", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["error"] == ""


def test_what_cannot_be_moved_says_why(site: Site) -> None:
    done = site.running.command("move", "3", "--to", "host-99")
    assert done.returncode == 1
    assert "host-99 is not running; these are: host-0" in done.stderr
    assert "name a host with --to" in site.running.command("move", "3").stderr


async def _moved(data: Path, partitions: list[int]) -> list[dict[str, Any]]:
    """What became of the moves, one after the other."""
    command = [sys.executable, "-m", "tests.chaos.mover", str(data), str(MOVES), *map(str, partitions)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 300)
    assert process.returncode == 0, err.decode()[-2000:]
    return [json.loads(line) for line in out.splitlines()]
