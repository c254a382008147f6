"""Several Ray nodes on this machine, for tests: each is a raylet with workers of its own, as on a machine of its own.

`python -m tests.support.ray_nodes COUNT TOKEN` starts them, prints a line of JSON (address, raylets' process ids, the
head's first) and ends them when its stdin ends. A process of its own, because Ray reads its environment at import.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serve.ray_environment import prepare
from tests.support.running import ROOT

STOP_TIMEOUT_S = 60.0
# As in ray-cluster.yaml.
HEALTH_CHECKS = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}


class RayNodes:
    """The nodes, each with room for so many hosts. Use it as a context manager."""

    def __init__(self, count: int, token: Path) -> None:
        self._command = [sys.executable, "-m", "tests.support.ray_nodes", str(count), str(token)]
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""
        self.raylets: list[int] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.address, self.raylets = told["address"], told["raylets"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        finally:
            self._process.kill()
            assert self._process.stdout is not None
            self._process.stdout.close()


def main(count: int, token: Path) -> None:
    """Starts `count` nodes and waits for the end of stdin."""
    os.environ.update(HEALTH_CHECKS)
    prepare(token, is_alone=True)
    from ray.cluster_utils import Cluster

    arguments: dict[str, Any] = {
        "node_ip_address": "127.0.0.1",
        "num_cpus": 4,
        "resources": {"host": 1},
        "object_store_memory": 80 * 1024**2,
    }
    cluster = Cluster(initialize_head=True, head_node_args={**arguments, "include_dashboard": False})
    for _ in range(count - 1):
        cluster.add_node(**arguments)
    cluster.wait_for_nodes()
    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)  # noqa: T201 — what the test reads
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
