"""Starting Ray for ourselves, or attaching to a cluster that is there.

Rules:
1. Token authentication, always: whoever is let in can run code. A cluster of this machine alone keeps to 127.0.0.1
   (`serve.ray_environment.ALONE`), but for the port on which Serve's replicas would be asked by each other.
2. `serve.ray_environment.prepare` runs before this module is imported: Ray reads its environment when it is imported.
3. Ray's sockets lie below its directory and their paths may have 107 characters at most, so the directory is a short
   one in /tmp, ours alone, and not DATA.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from hashlib import blake2b
from pathlib import Path
from typing import Any

import ray

from serve.connection import RayAddress
from serve.ray_environment import token_path
from serve.settings import Settings
from storage.process import private_directory

NAMESPACE = "mastervip"


def session_directory(data: Path) -> Path:
    """Where the Ray that `up` starts on `data` keeps its sockets and logs."""
    digest = blake2b(str(data).encode(), digest_size=4).hexdigest()
    return Path("/tmp") / f"mv-{os.geteuid()}" / digest


def start(settings: Settings) -> RayAddress:
    """Starts a cluster of this machine alone, or attaches to `settings.ray_address`. Call it from the main thread: the
    cluster's processes die with the thread that started them."""
    if settings.ray_address:
        token = settings.ray_auth_token_path
        address = RayAddress(settings.ray_address, str(token) if token else None)
        _attach(address)
        return address
    directory = session_directory(settings.data)
    private_directory(directory.parent)
    # What an earlier start left (it was killed); nobody else can be using it, since DATA is locked.
    shutil.rmtree(directory, ignore_errors=True)
    private_directory(directory)
    context: Any = ray.init(
        address="local",
        namespace=NAMESPACE,
        num_cpus=max(4, os.cpu_count() or 1),
        resources={settings.host_resource: settings.hosts + 1} if settings.host_resource else None,
        include_dashboard=False,
        object_store_memory=settings.object_store_bytes,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(directory),
    )
    return RayAddress(context.address_info["gcs_address"], str(token_path(settings.data)))


@contextmanager
def attached(address: RayAddress) -> Iterator[None]:
    """Connects this process to a running cluster until it is left. Raises `ConnectionError` when it is not there.

    Meanwhile stdout is stderr: Ray prints the cluster's troubles there from a thread of its own, amid what a command
    answers.
    """
    with redirect_stdout(sys.stderr):
        try:
            _attach(address)
            yield
        finally:
            ray.shutdown()


def _attach(address: RayAddress) -> None:
    ray.init(
        address=address.address,
        namespace=NAMESPACE,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def own_ip(settings: Settings) -> str:
    """The address on which this process can be reached by the system's others, and by as few besides as may be: a Ray
    that `up` started is of one machine."""
    if not settings.ray_address:
        return "127.0.0.1"
    util: Any = ray.util  # it has no types
    return str(util.get_node_ip_address())


def stop(settings: Settings) -> None:
    """Leaves the cluster, and ends it if we started it; its logs move to DATA/logs."""
    ray.shutdown()
    if settings.ray_address:
        return
    directory = session_directory(settings.data.resolve())
    logs = directory / "session_latest" / "logs"
    if logs.is_dir():
        kept = settings.data / "logs"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(logs, kept, ignore=shutil.ignore_patterns("*.sock"), dirs_exist_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
