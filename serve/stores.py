"""The stores that `up` runs itself, kept running: one that dies is started again on the same port and data.

Ports come from below the range that the kernel gives to outgoing connections. In that range a client that reconnects to
a store which is just being restarted could be given the store's own port and connect to itself.
"""

from __future__ import annotations

import random
import socket
import threading
from pathlib import Path
from typing import Protocol

from click import echo

from storage.embedded_postgres import EmbeddedPostgres
from storage.embedded_redis import EmbeddedRedis
from storage.process import EmbeddedStoreError

PORT_MIN = 20_000
PORT_MAX = 31_999
PORT_TRIES_MAX = 200
RESTART_PAUSE_S_MAX = 5.0


class EmbeddedStore(Protocol):
    """What `storage.embedded_redis` and `storage.embedded_postgres` have in common."""

    @property
    def url(self) -> str: ...

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


def quiet_port() -> int:
    """A free TCP port of 127.0.0.1 that no outgoing connection will be given. Raises `OSError` when there is none."""
    for _ in range(PORT_TRIES_MAX):
        port = random.randint(PORT_MIN, PORT_MAX)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port between {PORT_MIN} and {PORT_MAX}")


def embedded_redis(data: Path, memory_bytes_max: int) -> EmbeddedStore:
    """Redis on DATA/redis."""
    return EmbeddedRedis(data / "redis", quiet_port(), maxmemory_bytes=memory_bytes_max)


def embedded_postgres(data: Path) -> EmbeddedStore:
    """Postgres on DATA/postgres."""
    return EmbeddedPostgres(data / "postgres", quiet_port())


class StoreKeeper:
    """Starts a store, watches it from a thread of its own and starts it again whenever it has died, until `stop`."""

    def __init__(self, kind: str, store: EmbeddedStore, poll_interval_s: float) -> None:
        self.kind = kind
        self._store = store
        self._poll_interval_s = poll_interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"{kind}-keeper", daemon=True)

    @property
    def url(self) -> str:
        return self._store.url

    def pids(self) -> list[int]:
        """The server's process id, or nothing while it is being replaced."""
        return [self._store.pid] if self._store.poll() is None else []

    def start(self) -> None:
        """Returns once the store answers. Raises `EmbeddedStoreError`."""
        self._store.start()
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch, then the store. Nothing happens if it was never started."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._store.stop()

    def _watch(self) -> None:
        pause_s = self._poll_interval_s
        while not self._stopping.wait(pause_s):
            pause_s = self._poll_interval_s
            if self._store.poll() is None:
                continue
            echo(f"{self.kind} ended with status {self._store.poll()}: starting it again", err=True)
            try:
                self._store.start()
            except EmbeddedStoreError as error:
                # Nothing that was acknowledged is in danger while it is down, so keep trying and keep saying why.
                echo(f"{self.kind}: {error}", err=True)
                pause_s = RESTART_PAUSE_S_MAX
