"""The system that is measured: one that runs already, or one of our own in a temporary directory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.bench.say import say
from serve.stores import quiet_port

STOP_TIMEOUT_S = 60.0


@contextmanager
def started(hosts: int, gateways: int) -> Iterator[Path]:
    """The data directory of a new system, stopped and removed afterwards. Raises `SystemExit` when it does not
    start."""
    with tempfile.TemporaryDirectory(prefix="mv-bench-") as directory:
        data = Path(directory) / "data"
        command = [sys.executable, "-m", "serve.cli", "up", "--data", str(data), "--port", str(quiet_port())]
        command += ["--hosts", str(hosts), "--gateways", str(gateways)]
        say("starting a system")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            assert process.stdout is not None
            if not process.stdout.readline().startswith(b"ready"):
                raise SystemExit(f"the system did not start: run `{' '.join(command)}` to see why")
            yield data
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
