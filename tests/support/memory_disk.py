"""A directory in memory for the stores that tests share: they run with their real settings and wait for no disk. (What
tests of durability kill and start again lies on the disk.)

Rules:
1. It goes with the process that made it. One that was left, because its process was killed, is removed by the next:
   its lock is free, and the lock is held from the moment at which it has its name.
2. Where there is no such memory, or too little (containers have 64 MB), it is a directory on the disk: slower, no more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
NEEDED_BYTES = 2 * 1024**3
PREFIX = "mastervip-tests-"
LOCK = "lock"


@contextmanager
def memory_directory(otherwise: Path, memory: Path = MEMORY, needed_bytes: int = NEEDED_BYTES) -> Iterator[Path]:
    """A new directory in `memory`, removed after; `otherwise` where there is none."""
    if not memory.is_dir() or not os.access(memory, os.W_OK):
        yield otherwise
        return
    _remove_what_was_left(memory)
    if shutil.disk_usage(memory).free < needed_bytes:
        yield otherwise
        return
    directory = Path(tempfile.mkdtemp(dir=memory, prefix=PREFIX))
    draft = directory / f"{LOCK}.new"
    with draft.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        draft.rename(directory / LOCK)
        try:
            yield directory
        finally:
            shutil.rmtree(directory)


def _remove_what_was_left(memory: Path) -> None:
    for path in memory.glob(f"{PREFIX}*/{LOCK}"):
        try:
            with path.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent, ignore_errors=True)
        except OSError:
            continue  # in use, another user's, or removed by another process just now
