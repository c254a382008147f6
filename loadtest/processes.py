"""CPU time and memory of a running system's processes, by kind.

Rules:
1. What `connection.json` lists has its kind; every other process below `up` is Ray's ("ray": its servers, Serve's
   controller, the supervisor), `up` itself is "up".
2. A Postgres backend that ended in between is in its parent's books (children's time).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import psutil


def cpu_seconds(pids: Mapping[str, Sequence[int]], up_pid: int) -> dict[str, float]:
    """CPU seconds so far, user and system, by kind."""
    totals: dict[str, float] = defaultdict(float)
    for process, kind in _by_kind(pids, up_pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        totals[kind] += times.user + times.system
        if kind == "postgres":
            totals[kind] += times.children_user + times.children_system
    return dict(totals)


def rss_bytes(pids: Mapping[str, Sequence[int]], up_pid: int) -> dict[str, int]:
    """Resident memory by kind; what processes share is counted in each."""
    totals: dict[str, int] = defaultdict(int)
    for process, kind in _by_kind(pids, up_pid):
        try:
            totals[kind] += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return dict(totals)


def _by_kind(pids: Mapping[str, Sequence[int]], up_pid: int) -> list[tuple[psutil.Process, str]]:
    known = {pid: kind for kind, members in pids.items() for pid in members}
    try:
        up = psutil.Process(up_pid)
        below = up.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    kinds = {up.pid: "up"}
    found = [(up, "up")]
    # Parents come before their children.
    for process in below:
        try:
            parent = kinds.get(process.ppid(), "ray")
        except psutil.NoSuchProcess:
            continue
        kind = known.get(process.pid, parent if parent in ("postgres", "redis") else "ray")
        kinds[process.pid] = kind
        found.append((process, kind))
    return found


def cpu_of(pid: int) -> float:
    """CPU seconds of one process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def cpu_below(pid: int) -> float:
    """The same with its children, those that have ended included."""
    total = 0.0
    top = psutil.Process(pid)
    for process in (top, *top.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    times = top.cpu_times()
    return float(total + times.children_user + times.children_system)
