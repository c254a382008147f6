"""What the embedded stores share: one server process for one data directory, its log, its lock, its password.

Rules:
1. A directory has one server at most. The server itself holds the lock (it and its children inherit the descriptor),
   so the lock is free exactly when the last process that could still write there is gone, however it and we died.
2. The server dies with us, even if we are SIGKILLed (Linux). The kernel ties that to the *thread* that started the
   server, so all are started from one thread that lives as long as this process.
3. The server has its own session: Ctrl-C in the terminal reaches only us, and the stores outlive what drains into them.
4. The server gets none of our environment: secrets for others are not its business.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

START_TIMEOUT_S = 300.0  # recovery after a crash reads the whole journal: slow is not dead
STOP_TIMEOUT_S = 30.0
LOCK_TIMEOUT_S = 20.0  # a store whose parent was killed needs a moment to end
POLL_INTERVAL_S = 0.02
LOG_BYTES_MAX = 16 * 1024 * 1024
LOG_TAIL_BYTES = 4000
PASSWORD_BYTES = 24

ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/local/bin:/usr/bin:/bin"}
LAUNCHER = Path(__file__).with_name("launch.py")


class EmbeddedStoreError(Exception):
    """An embedded store could not be started. The message has the end of its log and says what to do next."""


@dataclass(frozen=True)
class Command:
    """How to run a server: program and arguments, the directory to start in, the user (None: ours)."""

    arguments: Sequence[str]
    directory: Path
    uid: int | None = None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago. Another process may take it before you do."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def kept_password(path: Path, *, may_create: bool) -> str:
    """The password in the file at `path` (mode 0600), made on first use. Hexadecimal, so it needs no quoting."""
    if not path.exists():
        if not may_create:
            raise EmbeddedStoreError(f"{path} is gone, and the store beside it was made with it. Put it back.")
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(PASSWORD_BYTES))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    return path.read_text().strip()


def private_directory(path: Path) -> None:
    """Makes the directory, open to us alone. Refuses one that belongs to somebody else."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.geteuid():
        owner, us = path.stat().st_uid, os.geteuid()
        raise EmbeddedStoreError(
            f"{path} belongs to user {owner}, and this is user {us}. "
            "Run as the user that made it, or choose another --data DIR."
        )


class DirectoryLock:
    """The right to run a server on a directory; `descriptor` is handed to every process that writes there (rule 1)."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)

    def __enter__(self) -> DirectoryLock:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(self.descriptor)
                    raise EmbeddedStoreError(
                        f"Another server is running on {self._path.parent}. Stop it, or choose another --data DIR."
                    ) from None
            time.sleep(POLL_INTERVAL_S)

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)  # the lock goes on for as long as a server has its copy


class _Spawner:
    """The thread that starts every server (rule 2). It waits for work until the process ends."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]] = (
            SimpleQueue()
        )
        self._start_once = threading.Lock()
        self._thread: threading.Thread | None = None

    def run(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._start_once:
            if self._thread is None or not self._thread.is_alive():  # not alive: we are the child of a fork
                self._thread = threading.Thread(target=self._serve, name="store-spawner", daemon=True)
                self._thread.start()
        future: Future[subprocess.Popen[bytes]] = Future()
        self._work.put((start, future))
        return future.result()

    def _serve(self) -> None:
        while True:
            start, future = self._work.get()
            try:
                future.set_result(start())
            except OSError as error:
                future.set_exception(error)


_SPAWNER = _Spawner()


class ServerProcess:
    """One server process, its log and its end. The embedded stores say how to start it and when it is ready."""

    def __init__(self, name: str, log_path: Path, *, stop_signal: signal.Signals, death_signal: signal.Signals) -> None:
        self._name = name
        self._log_path = log_path
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        return self._started().pid

    def poll(self) -> int | None:
        """None while it runs, else the status it ended with (negative: the signal that ended it)."""
        return self._started().poll()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self, command: Command, lock: DirectoryLock) -> None:
        """Starts the process and returns at once."""
        launch = [
            *(sys.executable, "-I", "-S", str(LAUNCHER)),
            *(str(os.getpid()), str(int(self._death_signal)), str(-1 if command.uid is None else command.uid)),
            *(str(command.directory), *command.arguments),
        ]
        with self._open_log() as log:
            log_descriptor = log.fileno()

            def start() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    launch,
                    stdin=subprocess.DEVNULL,
                    stdout=log_descriptor,
                    stderr=log_descriptor,
                    env=ENVIRONMENT,
                    pass_fds=(lock.descriptor,),
                    start_new_session=True,
                )

            self._process = _SPAWNER.run(start)

    def wait_until(self, is_ready: Callable[[], bool], advise: Callable[[str], str]) -> None:
        """Blocks until `is_ready()`. If the process ends or takes too long, raises with `advise(end of the log)`."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            status = self.poll()
            if status is not None:
                raise self._failure(f"ended with status {status} before it was ready", advise)
            if time.monotonic() > deadline:
                self.kill()
                raise self._failure(f"was not ready after {START_TIMEOUT_S:.0f} s and was stopped", advise)
            time.sleep(POLL_INTERVAL_S)

    def stop(self) -> None:
        """Asks it to end, waits, and kills it if it does not. Nothing happens if it has ended."""
        if not self.is_running():
            return
        process = self._started()
        process.send_signal(self._stop_signal)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as the machine's own failures would. Nothing happens if it has ended."""
        if self.is_running():
            process = self._started()
            process.kill()
            process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise EmbeddedStoreError(f"{self._name} has not been started.")
        return self._process

    def _open_log(self) -> BinaryIO:
        if self._log_path.exists() and self._log_path.stat().st_size > LOG_BYTES_MAX:
            self._log_path.replace(self._log_path.with_suffix(".log.1"))
        log = os.fdopen(os.open(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
        self._log_start = self._log_path.stat().st_size
        return log

    def _failure(self, what: str, advise: Callable[[str], str]) -> EmbeddedStoreError:
        with self._log_path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - LOG_TAIL_BYTES))
            tail = log.read().decode(errors="replace").strip()
        return EmbeddedStoreError(f"{self._name} {what}.\n{advise(tail)}\nThe end of {self._log_path}:\n{tail}")
