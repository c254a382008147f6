"""Which processes run, by kind: each leaves a note in DATA/run as it starts; whoever asks drops the notes of the dead.
And what each does once it has started.

A file a process, written once: needs no store and no Ray, so it is right also while those are being replaced.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import psutil

KINDS = ("host", "gateway", "projector", "relay", "redis", "postgres")
START_TOLERANCE_S = 2.0  # a process whose start differs by more got the pid of one that is gone

# New containers after which the collector looks at them, and so many looks before one at older ones, and at all.
COLLECTOR_THRESHOLDS = (20_000, 20, 100)


def settle() -> None:
    """What a process has made while it started stays for as long as it lives, some 200,000 objects of libraries' code
    above all: the collector need not look at them again. Each time that it did would stop everything for 50 ms or
    more."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def announce(data: Path, kind: str) -> None:
    """Notes that this process is one of `kind`. Without the directory (another machine's) nothing is noted."""
    directory = data / "run"
    if not directory.is_dir():
        return
    note = directory / f"{kind}.{os.getpid()}"
    draft = directory / f".{note.name}"
    draft.write_text(str(psutil.Process().create_time()))
    draft.replace(note)


def clear(data: Path) -> None:
    """Makes the directory, and forgets the processes of an earlier start."""
    directory = data / "run"
    directory.mkdir(mode=0o700, exist_ok=True)
    for note in directory.iterdir():
        note.unlink(missing_ok=True)


def running(data: Path) -> dict[str, list[int]]:
    """The process ids of every kind, ascending."""
    pids: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for note in (data / "run").glob("*.*"):
        kind, _, pid = note.name.partition(".")
        if kind not in pids or not pid.isdigit():
            continue
        if _is_alive(int(pid), note):
            pids[kind].append(int(pid))
        else:
            note.unlink(missing_ok=True)
    return {kind: sorted(found) for kind, found in pids.items()}


def _is_alive(pid: int, note: Path) -> bool:
    try:
        process = psutil.Process(pid)
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and abs(process.create_time() - float(note.read_text())) < START_TOLERANCE_S
        )
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
