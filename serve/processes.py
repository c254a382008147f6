"""Which processes run, by kind: each leaves a note in DATA/run as it starts; whoever asks drops the notes of the dead.

A file a process, written once: needs no store and no Ray, so it is right also while those are being replaced.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

KINDS = ("host", "gateway", "projector", "relay", "redis", "postgres")
START_TOLERANCE_S = 2.0  # a process whose start differs by more got the pid of one that is gone


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
