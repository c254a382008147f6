"""The chaos run in short: every kind of process is killed under load, then nothing may be missing."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.run import GATEWAYS, HOSTS, KINDS, MEMBERS, ORGANISATIONS, Chaos, say, verdict
from tests.support.running import Running

KILLS = 2 * len(KINDS)
SEED = 20_260_101


async def test_killing_every_kind_of_process_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with Running(tmp_path / "data", hosts=HOSTS, gateways=GATEWAYS) as running:
        organisations = running.organisations(ORGANISATIONS, MEMBERS)
        chaos = Chaos(running, organisations, tmp_path / "acks.jsonl", rate=120, seed=SEED)
        await chaos.begin()
        await chaos.run(KILLS, 0.3)
        document = await chaos.end()
    say(chaos.table())
    assert verdict(document) == []
    assert {kind for kind, waits in chaos.recoveries.items() if waits} == set(KINDS)
    assert document["acknowledged"] == len(set(_acked(tmp_path / "acks.jsonl"))) > 500
    assert document["live_actors"] > 0, "memory was looked at"


def _acked(path: Path) -> list[bytes]:
    """Tenant and id of every acknowledgement in the book."""
    return [line.split(b', "outcome"')[0] for line in path.read_bytes().splitlines() if b'"t": "ack"' in line]
