"""Three Ray nodes, and one that dies with everything on it, under load."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from actors.ids import partition_of
from serve.ray_environment import ALONE
from storage.process import kept_password
from tests.chaos.conftest import Site
from tests.chaos.run import RECOVERY_TIMEOUT_S, Chaos, say, verdict
from tests.support.ray_nodes import RayNodes
from tests.support.running import Running

NODES = 3
HOSTS = 2
BACK_WITHIN_S = 5.0


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[RayNodes, Site]]:
    token = tmp_path / "ray.token"
    kept_password(token, may_create=True)
    with RayNodes(NODES, token) as cluster:
        settings = {
            **ALONE,  # all of its nodes are on this machine
            "RAY_ADDRESS": cluster.address,
            "RAY_AUTH_TOKEN_PATH": str(token),
            "MASTERVIP_HOST_RESOURCE": "host",
        }
        with Running(tmp_path / "data", hosts=HOSTS, gateways=2, settings=settings) as running:
            yield cluster, Site(running, running.organisations(2, 60))


async def test_a_node_that_dies_is_replaced_within_seconds(nodes: tuple[RayNodes, Site], tmp_path: Path) -> None:
    cluster, site = nodes
    running = site.running
    head = cluster.raylets[0]
    of_hosts = {host["name"]: psutil.Process(host["pid"]).ppid() for host in running.status()["hosts"]}
    assert sorted(of_hosts.values()) == sorted(cluster.raylets), "each node has a host"
    partition = partition_of(site.organisations[0]["org_id"], running.connection().partitions)
    name, _ = await asyncio.to_thread(running.owner, partition)
    if of_hosts[name] == head:
        name = next(other for other, raylet in of_hosts.items() if raylet != head)
        done = await asyncio.to_thread(running.command, "move", str(partition), "--to", name, "--json")
        assert json.loads(done.stdout)["error"] == "", done.stderr
    chaos = Chaos(running, site.organisations, tmp_path / "acks.jsonl", rate=100, seed=5)
    await chaos.begin()
    acked_before = chaos.load.tally.acked
    chaos.load.tally.mark()
    for pid in running.tree(of_hosts[name]):
        os.kill(pid, signal.SIGKILL)
    waited_s = await chaos.load.wait_until_answered(RECOVERY_TIMEOUT_S)
    await chaos.wait_until_projected()
    document = await chaos.end()
    say(f"a node died: answered after {waited_s:.2f} s, longest {document['latency_max_ms']} ms")
    successor, _ = await asyncio.to_thread(running.owner, partition)
    assert successor != name
    assert chaos.load.tally.acked > acked_before
    assert waited_s <= BACK_WITHIN_S
    assert verdict(document) == []
