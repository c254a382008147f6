"""DATA/connection.json: how other commands, tests and operators find a running system. Mode 0600: it holds secrets."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import msgspec

from serve import tls

FILE_NAME = "connection.json"


class NotRunning(Exception):
    """There is no `connection.json` in the data directory: nothing was started on it, or it has been stopped."""


class Superadmin(msgspec.Struct, frozen=True):
    """The bootstrap SuperAdmin, who signs in like everybody. `password` is null once it has been changed."""

    email: str
    password: str | None


class RayAddress(msgspec.Struct, frozen=True):
    """Where the Ray cluster is, and the file with its token (null: wherever Ray looks by itself)."""

    address: str
    token_path: str | None = None


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """The file's content. `pids` is by kind, kept current as processes are replaced. With TLS `ca_file` is the server's
    certificate, which is all that a client has to trust."""

    base_url: str
    data: str
    postgres_url: str
    redis_url: str
    ray: RayAddress
    partitions: int
    superadmin: Superadmin
    up_pid: int
    started_at_ms: int
    pids: dict[str, list[int]]
    ca_file: str | None = None

    def ssl_context(self) -> ssl.SSLContext | None:
        """What a client needs to trust the system; None where it listens without TLS."""
        return None if self.ca_file is None else tls.client_context(Path(self.ca_file))


def read(data: Path) -> Connection:
    """The connection of the system on `data`. Raises `NotRunning`."""
    path = data / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Connection)
    except FileNotFoundError:
        raise NotRunning(f"{path} is not there: start the system with `mastervip up --data {data}`") from None


def write(data: Path, connection: Connection) -> None:
    """Replaces the file in one step, so that a reader never sees half of it."""
    draft = data / f".{FILE_NAME}.new"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(connection)) + b"\n")
    draft.replace(data / FILE_NAME)


def with_pids(connection: Connection, pids: dict[str, list[int]]) -> Connection:
    """The same with other process ids."""
    return msgspec.structs.replace(connection, pids=pids)


def remove(data: Path) -> None:
    """Takes the file away: the system has stopped."""
    (data / FILE_NAME).unlink(missing_ok=True)
