"""A whole system for a test: `mastervip up` in a directory of its own, on a free port, stopped afterwards.

Rules:
1. The system is a child process with a session of its own: what a test kills or stops is never the test itself.
2. `connection.json` is read anew at every question: process ids change while a test kills processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import psutil

from actors.ids import partition_of
from serve import connection
from serve.connection import Connection
from serve.stores import quiet_port

START_TIMEOUT_S = 150.0
STOP_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 600.0
PIDS_TIMEOUT_S = 30.0
POLL_S = 0.1
# Tests seed one organisation after the other, all from here and each with sign-ins of its own.
UNLIMITED_LOGINS = json.dumps({"login-ip": "1000/s", "login-account": "1000/s"})
ROOT = Path(__file__).parents[2]


class Running:
    """A running system. Use it as a context manager."""

    def __init__(
        self,
        data: Path,
        *,
        hosts: int = 1,
        gateways: int = 1,
        settings: dict[str, str] | None = None,
        port: int | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.data = data
        self.port = port or quiet_port()
        sizes = ["--port", str(self.port), "--hosts", str(hosts), "--gateways", str(gateways)]
        self._arguments = [*sizes, *arguments]
        self._environment = {**os.environ, "MASTERVIP_RATES": UNLIMITED_LOGINS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = data.with_name(data.name + ".log")

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once a check-in would succeed. Raises `RuntimeError` with the log's end."""
        command = [sys.executable, "-m", "serve.cli", "up", "--data", str(self.data), *self._arguments]
        self.data.parent.mkdir(parents=True, exist_ok=True)
        log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready(log_start):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.stop()
                raise RuntimeError(f"the system did not start; its log ends: {self.log.read_text()[-3000:]}")
            time.sleep(POLL_S)

    def _is_ready(self, log_start: int) -> bool:
        return (self.data / connection.FILE_NAME).exists() and b"ready http" in self.log.read_bytes()[log_start:]

    def stop(self) -> int | None:
        """Stops it as an operator would, and returns its exit status; what does not end by then is killed."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def kill(self) -> None:
        """Kills the process that was started; the system then stops by itself."""
        assert self._process is not None, "it is not running"
        self._process.kill()
        self._process.wait()
        self._process = None

    @property
    def pid(self) -> int:
        """The process that was started; all others come from it."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def connection(self) -> Connection:
        """`connection.json` as it is now."""
        return connection.read(self.data)

    def pids(self, kind: str) -> list[int]:
        """The processes of a kind; waits until there is one."""
        deadline_s = time.monotonic() + PIDS_TIMEOUT_S
        while True:
            found = self.connection().pids[kind]
            if found or time.monotonic() > deadline_s:
                return found
            time.sleep(POLL_S)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `mastervip ARGUMENTS --data DIR`."""
        name, *rest = arguments
        return subprocess.run(
            [sys.executable, "-m", "serve.cli", name, "--data", str(self.data), *rest],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )

    def seed(self, members: int = 200, events: int = 2) -> dict[str, Any]:
        """Fills it; returns the fixtures."""
        out = self.data.with_name(self.data.name + ".fixtures.json")
        done = self.command("seed", "--members", str(members), "--events", str(events), "--out", str(out))
        if done.returncode:
            raise RuntimeError(f"seeding failed: {done.stderr}")
        fixtures: dict[str, Any] = json.loads(out.read_bytes())
        return fixtures

    def audit(self, acks: Path | None = None, drain_s: float | None = None) -> dict[str, Any]:
        """The audit's document. `drain_s` is how long it waits for Postgres, if not as long as usual."""
        more = ["--acks", str(acks)] if acks else []
        more += [] if drain_s is None else ["--drain-seconds", str(drain_s)]
        done = self.command("audit", "--json", *more)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"the audit could not look: {done.stderr}")
        document: dict[str, Any] = msgspec.json.decode(done.stdout)
        return document

    def status(self) -> dict[str, Any]:
        """The status document."""
        document: dict[str, Any] = msgspec.json.decode(self.command("status", "--json").stdout)
        return document

    def organisations(self, count: int, members: int = 60, events: int = 1) -> list[dict[str, Any]]:
        """Fixtures of so many organisations, each in a partition of its own."""
        found: dict[int, dict[str, Any]] = {}
        partitions = self.connection().partitions
        while len(found) < count:
            fixtures = self.seed(members, events)
            found.setdefault(partition_of(fixtures["org_id"], partitions), fixtures)
        return list(found.values())

    def owner(self, partition: int) -> tuple[str, int]:
        """Name and process id of the host that has a partition now."""
        status = self.status()
        name: str = next(line["owner"] for line in status["partitions"] if line["partition"] == partition)
        return name, next(host["pid"] for host in status["hosts"] if host["name"] == name)

    def log_end(self, lines: int = 60) -> str:
        """The last lines that the system's processes logged, by time."""
        files = (self.data / "logs").glob("worker-*.out")
        logged = [line for file in files for line in file.read_text(errors="replace").splitlines() if line[:2] == "20"]
        return "\n".join(sorted(logged)[-lines:])

    def tree(self, pid: int) -> list[int]:
        """A process and all below it, parents first."""
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
