"""Sockets that wait, opened by the program that measures them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import SeededSystem


def test_many_that_wait_are_welcomed_kept_and_still_answer(seeded_system: SeededSystem, tmp_path: Path) -> None:
    fixtures = tmp_path / "fixtures.json"
    fixtures.write_text(json.dumps(seeded_system.fixtures))
    command = [sys.executable, "-m", "loadtest.idle_sockets", "--fixtures", str(fixtures), "--count", "300"]
    command += ["--data", str(seeded_system.data), "--idle-seconds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["refused"] == {}
    assert found["welcomed"] == found["open_after_the_wait"] == found["answered_at_the_end"] == 300
    assert found["gateways"] == len(seeded_system.running.connection().pids["gateway"])
    assert found["bytes_per_socket"] < 200_000
