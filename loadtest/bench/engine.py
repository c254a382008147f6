"""The figures of the system itself; of several runs, the one in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from loadtest import processes
from loadtest.bench.load import Json, measured
from loadtest.client.orders import Orders
from loadtest.stores import Figures, drained, figures, lag_entries
from serve.connection import Connection

DRAIN_TIMEOUT_S = 180.0


def run(found: Connection, orders: Orders) -> Json:
    """One run, drained before and after."""
    orders = msgspec.structs.replace(orders, ca_file=found.ca_file)
    asyncio.run(drained(found, DRAIN_TIMEOUT_S))
    before: Figures = asyncio.run(figures(found))
    document = measured(orders, lambda: processes.cpu_seconds(found.pids, found.up_pid))
    lag = asyncio.run(lag_entries(found))
    drain_s = asyncio.run(drained(found, DRAIN_TIMEOUT_S))
    after: Figures = asyncio.run(figures(found))
    scans = max(1, after.scans - before.scans)
    entries = max(1, after.entries - before.entries)
    return document | {
        "projector_lag_entries": lag,
        "drain_s": drain_s,
        "scans_in_postgres": after.scans - before.scans,
        "journal_bytes_per_checkin": round((after.journal_bytes - before.journal_bytes) / scans, 1),
        "database_bytes_per_checkin": round((after.database_bytes - before.database_bytes) / scans, 1),
        "rows_per_checkin": {
            table: round((count - before.rows[table]) / scans, 3) for table, count in after.rows.items()
        },
        "checkins_per_entry": round(scans / entries, 1),
        "rss_mb": {kind: round(size / 1e6) for kind, size in processes.rss_bytes(found.pids, found.up_pid).items()},
    }


def median(runs: Sequence[Json]) -> Json:
    """The run with the middle rate (of two, the slower), with the rates and p95 of all as `runs`."""
    ordered = sorted(runs, key=lambda one: float(one["per_s"]))
    every = [{"per_s": one["per_s"], "p95_ms": one["latency_ms"]["p95"]} for one in runs]
    return ordered[(len(ordered) - 1) // 2] | {"runs": every}
