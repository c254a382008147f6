"""`mastervip up`: starts everything in order, keeps `connection.json` current, and stops it all in the reverse order.

Rules:
1. What was started is stopped, whatever goes wrong in between; after a stop by signal the exit status is 0.
2. "ready" is printed only once a check-in would succeed: every partition is open and a gateway says that it is ready.
3. One `up` to a data directory (a lock) and to a port (a socket that is bound, never listening, while we run).
4. If we are killed the rest goes with us: Redis, Postgres and Ray's processes ask the kernel for a signal when the
   thread that started them dies. Hence Ray is started from the main thread.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import FrameType

import asyncpg
import httpx
import ray
from click import echo
from ray.exceptions import RayError

from actors.ports import JournalError
from gateway.identity.bootstrap import ensure_superadmin
from gateway.identity.passwords import PasswordHasher
from serve import connection, processes, ray_cluster, ray_gateway, ray_supervisor, tls
from serve.clocks import wall_clock_ms
from serve.connection import Connection, RayAddress, Superadmin
from serve.listener import shared_socket
from serve.ray_environment import kept_token
from serve.settings import SUPERADMIN_EMAIL, Settings, resolved
from serve.stores import StoreKeeper, embedded_postgres, embedded_redis
from storage.migrate import MigrationError, migrate
from storage.postgres import Connection as PostgresConnection
from storage.process import EmbeddedStoreError
from storage.redis_journal import RedisJournal

FILES_WANTED = 65_536
READY_POLL_S = 0.1
PROBE_TIMEOUT_S = 2.0
PORT_WAIT_S = 3.0
STOPPING = b"stopping"

OnReady = Callable[[Connection, threading.Event], None]


class StartError(Exception):
    """The system could not be started; the message says why and what to do."""


class _Stopped(Exception):
    """A signal came before the system was ready."""


class Up:
    """One run of the whole system in this process and its children."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keepers: list[StoreKeeper] = []
        self._stopping = threading.Event()
        self._started_s = time.monotonic()
        self._connection: Connection | None = None
        self._lock: _DataLock | None = None
        self._superadmin_password: str | None = None
        self._ca_file: Path | None = None

    def run(self, on_ready: OnReady | None = None) -> int:
        """Starts, prints "ready", calls `on_ready` in a thread, waits for a signal, stops. Raises `StartError`."""
        try:
            with ExitStack() as cleanup:
                self._install_signal_handlers()
                self._start(cleanup)
                assert self._connection is not None
                echo(f"ready {self._connection.base_url}")
                if on_ready is not None:
                    arguments = (self._connection, self._stopping)
                    threading.Thread(target=on_ready, args=arguments, daemon=True, name="on-ready").start()
                while not self._stopping.wait(self._settings.connection_refresh_ms / 1000):
                    self._refresh_connection()
                self._say("stopping")
            self._say("stopped")
        except _Stopped:
            self._say("stopped before it was ready")
        return 0

    # --- start --------------------------------------------------------------------------------------------------------

    def _start(self, cleanup: ExitStack) -> None:
        settings = self._settings
        data = settings.data.resolve()
        _raise_file_limit()
        self._lock = cleanup.enter_context(_DataLock(data, self._say))
        if settings.tls:
            settings = self._settings = self._with_tls(settings, data)
        cleanup.enter_context(_guarded_port(settings.bind_address, settings.port))
        processes.clear(data)
        connection.remove(data)
        with ThreadPoolExecutor(max_workers=2) as pool:
            self._say("starting Redis, Postgres and Ray" if self._owns_stores() else "starting Ray")
            redis_url, postgres_url = self._start_stores(data, cleanup, pool)
            if not settings.ray_address:
                kept_token(data)
            ray_address = self._start_ray(cleanup)
            self._settings = settings = resolved(settings, postgres_url=postgres_url(), redis_url=redis_url())
        self._check_stopping("the stores and Ray run")
        asyncio.run(self._prepare_stores())
        self._check_stopping("the stores are safe and migrated")
        supervisor = ray_supervisor.create(settings)
        cleanup.callback(self._within_drain_time, partial(self._end_engine, supervisor), "the engine")
        cleanup.callback(self._within_drain_time, partial(ray_gateway.remove, settings), "the gateways")
        try:
            ray_gateway.deploy(settings)
        except RuntimeError as error:
            raise StartError(f"the gateways could not be started; the reason is in {data / 'logs'}: {error}") from error
        self._check_stopping(f"{settings.gateways} gateways listen")
        self._wait_until_ready(supervisor)
        cleanup.callback(connection.remove, data)
        self._write_connection(ray_address)

    def _with_tls(self, settings: Settings, data: Path) -> Settings:
        try:
            certificate, key, self._ca_file = tls.prepare(data, settings.tls_cert, settings.tls_key)
        except tls.TlsError as error:
            raise StartError(str(error)) from error
        return settings.model_copy(update={"tls_cert": certificate, "tls_key": key})

    def _owns_stores(self) -> bool:
        return self._settings.redis_url is None or self._settings.postgres_url is None

    def _start_stores(
        self, data: Path, cleanup: ExitStack, pool: ThreadPoolExecutor
    ) -> tuple[Callable[[], str], Callable[[], str]]:
        """Begins to start what is ours; the results give the addresses once the stores answer."""
        settings = self._settings
        poll_s = settings.store_poll_interval_ms / 1000
        waits: list[Callable[[], str]] = []
        for kind, given in (("redis", settings.redis_url), ("postgres", settings.postgres_url)):
            if given is not None:
                waits.append(given.get_secret_value)
                continue
            store = (
                embedded_redis(data, settings.redis_memory_bytes_max) if kind == "redis" else embedded_postgres(data)
            )
            keeper = StoreKeeper(kind, store, poll_s)
            self._keepers.append(keeper)
            cleanup.callback(keeper.stop)
            waits.append(_started(pool.submit(keeper.start).result, keeper))
        return waits[0], waits[1]

    def _start_ray(self, cleanup: ExitStack) -> RayAddress:
        cleanup.callback(ray_cluster.stop, self._settings)
        try:
            address = ray_cluster.start(self._settings)
        except SystemExit:  # Ray's own SIGTERM handler, while it starts
            raise _Stopped from None
        finally:
            self._install_signal_handlers()  # Ray has put its own in their place
        return address

    async def _prepare_stores(self) -> None:
        settings = self._settings
        assert settings.redis_url is not None
        assert settings.postgres_url is not None
        journal = RedisJournal(settings.redis_url.get_secret_value(), unsafe=settings.unsafe_journal)
        try:
            await journal.check_settings()
            ran = await migrate(settings.postgres_url.get_secret_value())
            self._superadmin_password = await _superadmin_password(settings)
        except (JournalError, MigrationError, OSError, asyncpg.PostgresError) as error:
            raise StartError(str(error)) from error
        finally:
            await journal.close()
        if ran:
            self._say(f"migrations that ran: {', '.join(ran)}")

    def _wait_until_ready(self, supervisor: ray_supervisor.Handle) -> None:
        url = f"{self._base_url()}/readyz"
        deadline_s = time.monotonic() + self._settings.start_timeout_s
        missing = "the supervisor"
        while time.monotonic() < deadline_s:
            self._check_stopping()
            missing = self._what_is_missing(supervisor, url)
            if not missing:
                return
            time.sleep(READY_POLL_S)
        raise StartError(f"not ready after {self._settings.start_timeout_s:.0f} s: {missing}")

    def _what_is_missing(self, supervisor: ray_supervisor.Handle, ready_url: str) -> str:
        try:
            status = ray_supervisor.ask_status(supervisor, PROBE_TIMEOUT_S)
        except RayError as error:
            return f"the supervisor does not answer ({type(error).__name__})"
        if not status.is_open:
            halted = [
                line.figures.halt_reason for line in status.partitions if line.figures and line.figures.halt_reason
            ]
            return "; ".join(["not every partition is open", *halted])
        try:
            trusted = True if self._ca_file is None else tls.client_context(self._ca_file)
            answer = httpx.get(ready_url, timeout=PROBE_TIMEOUT_S, verify=trusted)
        except httpx.HTTPError as error:
            return f"{ready_url} does not answer ({type(error).__name__})"
        return "" if answer.status_code == httpx.codes.OK else f"{ready_url} answers {answer.status_code}"

    # --- while it runs ------------------------------------------------------------------------------------------------

    def _base_url(self) -> str:
        return f"{'https' if self._settings.tls else 'http'}://127.0.0.1:{self._settings.port}"

    def _pids(self) -> dict[str, list[int]]:
        pids = processes.running(self._settings.data)
        return pids | {keeper.kind: keeper.pids() for keeper in self._keepers}

    def _write_connection(self, ray_address: RayAddress) -> None:
        settings = self._settings
        assert settings.redis_url is not None
        assert settings.postgres_url is not None
        self._connection = Connection(
            base_url=self._base_url(),
            data=str(settings.data),
            postgres_url=settings.postgres_url.get_secret_value(),
            redis_url=settings.redis_url.get_secret_value(),
            ray=ray_address,
            partitions=settings.partitions,
            superadmin=Superadmin(SUPERADMIN_EMAIL, self._superadmin_password),
            up_pid=os.getpid(),
            started_at_ms=time.time_ns() // 1_000_000,
            pids=self._pids(),
            ca_file=None if self._ca_file is None else str(self._ca_file),
        )
        connection.write(settings.data, self._connection)

    def _refresh_connection(self) -> None:
        """Writes the file anew when a process was replaced."""
        assert self._connection is not None
        pids = self._pids()
        if pids != self._connection.pids:
            self._connection = connection.with_pids(self._connection, pids)
            connection.write(self._settings.data, self._connection)

    # --- stop ---------------------------------------------------------------------------------------------------------

    def _end_engine(self, supervisor: ray_supervisor.Handle) -> None:
        try:
            ray.get(supervisor.shutdown.remote(), timeout=2 * self._settings.drain_timeout_s)
        finally:
            ray.kill(supervisor, no_restart=True)

    def _within_drain_time(self, end: Callable[[], None], what: str) -> None:
        """Calls `end`, but goes on when it fails or takes too long. Nothing acknowledged depends on it: what was not
        drained is in the journal, and is replayed at the next start."""
        done = threading.Event()
        errors: list[str] = []

        def work() -> None:
            try:
                end()
            except (RayError, RuntimeError) as error:
                errors.append(f" ({type(error).__name__})")
            finally:
                done.set()

        threading.Thread(target=work, daemon=True, name=f"ending {what}").start()
        if not done.wait(3 * self._settings.drain_timeout_s) or errors:
            self._say(f"{what} could not be drained{''.join(errors)}; going on")

    def _install_signal_handlers(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        # The front started us with these blocked, so that none is lost (or deadly) before it can be handled.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        # The front process held them back while it started us, and what is held back is inherited.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()
        if self._lock is not None:
            self._lock.note_stopping()

    def _check_stopping(self, progress: str = "") -> None:
        if progress:
            self._say(progress)
        if self._stopping.is_set():
            raise _Stopped

    def _say(self, text: str) -> None:
        with suppress(OSError):  # nobody may be there to read it any more
            echo(f"{time.monotonic() - self._started_s:6.1f} s  {text}", err=True)


async def _superadmin_password(settings: Settings) -> str | None:
    """The password of the bootstrap SuperAdmin, who is made now if there is none; None once they have another."""
    assert settings.postgres_url is not None
    password = settings.superadmin_password()
    passwords = PasswordHasher()
    connection: PostgresConnection = await asyncpg.connect(settings.postgres_url.get_secret_value())
    try:
        is_theirs = await ensure_superadmin(connection, passwords, SUPERADMIN_EMAIL, password, wall_clock_ms())
    finally:
        passwords.close()
        await connection.close()
    return password if is_theirs else None


def _raise_file_limit() -> None:
    """A socket is a file: systems allow 1,024 unless asked, fewer than one gateway's scanners. Children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _started(wait: Callable[[], None], keeper: StoreKeeper) -> Callable[[], str]:
    def address() -> str:
        try:
            wait()
        except EmbeddedStoreError as error:
            raise StartError(str(error)) from error
        return keeper.url

    return address


class _DataLock:
    """Holds the data directory: at most one `up` runs on it. One that is just stopping is waited for."""

    def __init__(self, data: Path, say: Callable[[str], None]) -> None:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._data = data
        self._say = say
        self._descriptor = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)

    def __enter__(self) -> _DataLock:
        try:
            if not self._is_taken():
                self._say(f"waiting for the `mastervip up` that is stopping on {self._data}")
                while not self._is_taken():
                    time.sleep(READY_POLL_S)
            os.truncate(self._descriptor, 0)
        except StartError:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def note_stopping(self) -> None:
        """Tells the next one that the directory will be free."""
        os.pwrite(self._descriptor, STOPPING, 0)

    def _is_taken(self) -> bool:
        """Whether the directory is ours now; False while its holder is stopping. Raises `StartError` if it is not."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if os.pread(self._descriptor, len(STOPPING), 0) == STOPPING:
                return False
            raise StartError(
                f"another `mastervip up` runs on {self._data}: stop it, or choose another --data DIR"
            ) from None
        return True


def _guarded_port(address: str, port: int) -> socket.socket:
    """A socket that keeps the port ours. First without sharing, to find out whether anybody has it; then shared with
    our gateways alone, since it never listens itself. Gateways of a system that was just killed get a moment to end."""
    deadline_s = time.monotonic() + PORT_WAIT_S
    while True:
        try:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind((address, port))
            return shared_socket(address, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline_s:
                raise StartError(
                    f"port {port} of {address} cannot be used ({error.strerror}): choose another --port"
                ) from error
        time.sleep(READY_POLL_S)
