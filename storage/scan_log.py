"""The scan log of an event: pages newest first, and counts by gate and by time.

Rules:
1. The table's key is tenant, event, position, and it has no other index: the projector writes it for each scan. What
   the key cannot find is filtered while reading, and no page reads more than `limits` of its caller allow: one that
   comes to that bound is short, even empty, and its cursor goes on behind what was read.
2. A page costs the same however deep it lies, and rows that arrive meanwhile neither repeat nor hide others.
3. Times go up with positions, but for what the clocks of two hosts differ at a failover. So the key also finds a span
   of time, by bisection, `SKEW_MS_MAX` wider than asked for; the time itself is compared besides.
4. Every query names its tenant first. Times are milliseconds since 1970.
5. Whether an admission was annulled stands beside the log and is looked up with each row: an annulment that comes
   later counts at once. What an offline scan conflicted with is what was known when it came (`storage.door_queries` has
   the list as it is).
6. All of this is behind the engine by the projector's lag (`storage.logs.is_projected`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storage.logs import BIGINT_MAX, PAGE_ROWS_MAX, Page, fetch, number_before
from storage.postgres import DATA_FAULTS, Connection, Pool

SKEW_MS_MAX = 10 * 60_000
_COLUMNS = (
    "position, request_id, at_ms, scanned_at_ms, card_id, gate_id, device_id, direction, reason, member_id, "
    "member_name, tier, inside, admitted, points_awarded, points_balance, first_at_ms, first_gate_id, first_device_id, "
    "zone_id, session_id, is_offline, conflict, forced, forced_by"
)


class ScanFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which scans of an event; None does not filter, nor do no reasons. `since_ms` ≤ time of the verdict <
    `until_ms`."""

    is_admitted: bool | None = None
    reasons: tuple[str, ...] = ()
    gate_id: str | None = None
    card_id: str | None = None
    member_id: str | None = None
    device_id: str | None = None
    direction: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    zone_id: str | None = None
    is_offline: bool | None = None
    has_conflict: bool | None = None
    is_forced: bool | None = None
    is_annulled: bool | None = None

    @property
    def is_open(self) -> bool:
        """Whether everything passes."""
        return self == _ALL


_ALL = ScanFilter()


class Count(msgspec.Struct, frozen=True, gc=False):
    """How many scans of one kind, and how many of those were offline, forced, or annulled since. `bucket` is the number
    of the span of time (from 0), None where `gate_id` and `reason` are told instead; "" is no gate of the event, or no
    refusal."""

    bucket: int | None
    gate_id: str
    direction: str
    is_refused: bool
    reason: str
    scans: int
    offline: int
    forced: int
    annulled: int


# The limit within keeps its order and lets no condition in, so reading ends with the page or with rule 1's bound.
_SCANS = f"""
SELECT {_COLUMNS}, coalesce((SELECT a.at_ms FROM annulments AS a
    WHERE a.tenant_id = $1 AND a.event_id = $2 AND a.scan_id = request_id), 0) AS annulled_at_ms
FROM (
    SELECT {_COLUMNS} FROM scans
    WHERE tenant_id = $1 AND event_id = $2 AND position >= $3 AND position < $4 ORDER BY position DESC LIMIT $5
) AS looked_at
WHERE ($7::boolean IS NULL OR (reason = '') = $7) AND ($8::text[] = '{{}}' OR reason = ANY($8))
    AND ($9::text IS NULL OR gate_id = $9) AND ($10::text IS NULL OR card_id = $10)
    AND ($11::text IS NULL OR member_id = $11) AND ($12::text IS NULL OR device_id = $12)
    AND ($13::text IS NULL OR direction = $13)
    AND ($14::bigint IS NULL OR at_ms >= $14) AND ($15::bigint IS NULL OR at_ms < $15)
    AND ($16::text IS NULL OR zone_id = $16) AND ($17::boolean IS NULL OR is_offline = $17)
    AND ($18::boolean IS NULL OR (conflict <> '') = $18) AND ($19::boolean IS NULL OR (forced <> '') = $19)
    AND ($20::boolean IS NULL OR $20 = (reason = '' AND EXISTS (SELECT FROM annulments AS a
        WHERE a.tenant_id = $1 AND a.event_id = $2 AND a.scan_id = request_id)))
ORDER BY position DESC LIMIT $6
"""
_LAST_LOOKED_AT = """
SELECT position FROM scans
WHERE tenant_id = $1 AND event_id = $2 AND position >= $3 AND position < $4
ORDER BY position DESC OFFSET $5 - 1 LIMIT 1
"""
_NEWEST = """
SELECT position, at_ms FROM scans WHERE tenant_id = $1 AND event_id = $2 ORDER BY position DESC LIMIT 1
"""
# `low` and `high` close in on the first position from which on the time is $3 or later.
_BISECTION = """
WITH RECURSIVE search(low, high) AS (
    SELECT min(position), max(position) + 1 FROM scans WHERE tenant_id = $1 AND event_id = $2
    UNION ALL
    SELECT CASE WHEN found.at_ms < $3 THEN found.position + 1 ELSE low END,
        CASE WHEN found.at_ms < $3 THEN high ELSE low + (high - low) / 2 END
    FROM search, LATERAL (
        SELECT position, at_ms FROM scans
        WHERE tenant_id = $1 AND event_id = $2 AND position >= low + (high - low) / 2 ORDER BY position LIMIT 1
    ) AS found
    WHERE low < high
)
SELECT low FROM search WHERE low >= high
"""
_COUNTS = """
WITH judged AS (
    SELECT width_bucket(at_ms, $7::bigint[]) - 1 AS bucket,
        CASE WHEN gate_id = ANY($8::text[]) THEN gate_id ELSE '' END AS gate_id,
        direction, reason <> '' AS is_refused, reason, is_offline, forced <> '' AS is_forced,
        reason = '' AND EXISTS (SELECT FROM annulments AS a
            WHERE a.tenant_id = $1 AND a.event_id = $2 AND a.scan_id = request_id) AS is_annulled
    FROM scans
    WHERE tenant_id = $1 AND event_id = $2 AND position >= $3 AND position < $4 AND at_ms >= $5 AND at_ms < $6
)
SELECT bucket, gate_id, direction, is_refused, reason, count(*) AS scans, count(*) FILTER (WHERE is_offline) AS offline,
    count(*) FILTER (WHERE is_forced) AS forced, count(*) FILTER (WHERE is_annulled) AS annulled
FROM judged
GROUP BY GROUPING SETS ((bucket, direction, is_refused), (gate_id, direction, is_refused, reason))
"""


async def scans_of_event(
    source: Pool | Connection,
    tenant_id: str,
    event_id: str,
    which: ScanFilter,
    limit: int,
    cursor: str | None = None,
    *,
    looked_at_max: int,
) -> Page:
    """A page of at most `limit` scans, newest first, for which at most `looked_at_max` are read (rule 1). Raises
    `BadCursor`, `StoreUnavailable`."""
    of_event = (tenant_id, event_id)
    count = max(1, min(limit, PAGE_ROWS_MAX))
    before = number_before(cursor)
    first, end = await _span(source, tenant_id, event_id, which.since_ms, which.until_ms)
    if cursor is None and not which.is_open:
        # Scans that arrive between this page's queries must not count as looked at.
        newest = await fetch(source, _NEWEST, *of_event)
        before = newest[0]["position"] + 1 if newest else 0
    key = (*of_event, first, min(before, end))
    # One row more than asked for tells whether there is a next page.
    reads = max(looked_at_max, count + 1)
    rows = await fetch(source, _SCANS, *key, reads, count + 1, *_filters(which))
    items = [dict(row) for row in rows[:count]]
    if len(rows) > count:
        return Page(items, str(items[-1]["position"]))
    last = [] if which.is_open else await fetch(source, _LAST_LOOKED_AT, *key, reads)
    return Page(items, str(last[0]["position"]) if last else None)


async def newest_at_ms(source: Pool | Connection, tenant_id: str, event_id: str) -> int | None:
    """When the newest scan was judged; None without any. Raises `StoreUnavailable`."""
    rows = await fetch(source, _NEWEST, tenant_id, event_id)
    return rows[0]["at_ms"] if rows else None


async def counts_of_event(
    connection: Connection,
    tenant_id: str,
    event_id: str,
    starts_ms: Sequence[int],
    span: tuple[int, int],
    gate_ids: Sequence[str],
    timeout_s: float,
) -> list[Count]:
    """How many scans of the span (from, before) there are by bucket, and by gate and reason. A bucket goes from one of
    `starts_ms`, in order, to the next; the first is not after the span's beginning. Raises `StoreUnavailable`, and
    `TimeoutError` when Postgres has not counted them in time."""
    try:
        first, end = await _span(connection, tenant_id, event_id, *span)
        key = (tenant_id, event_id, first, end)
        rows = await connection.fetch(_COUNTS, *key, *span, starts_ms, gate_ids, timeout=timeout_s)
    except DATA_FAULTS:
        return []  # as in `storage.logs`: an id that Postgres cannot take is that of nothing
    return [
        Count(
            row["bucket"],
            row["gate_id"] or "",
            row["direction"],
            row["is_refused"],
            row["reason"] or "",
            *(row[name] for name in ("scans", "offline", "forced", "annulled")),
        )
        for row in rows
    ]


async def _span(
    source: Pool | Connection, tenant_id: str, event_id: str, since_ms: int | None, until_ms: int | None
) -> tuple[int, int]:
    """Positions (from, before) between which all scans of a span of time are (rule 3)."""
    first, end = 0, BIGINT_MAX
    if since_ms is not None:
        rows = await fetch(source, _BISECTION, tenant_id, event_id, since_ms - SKEW_MS_MAX)
        first = rows[0]["low"] if rows else 0
    if until_ms is not None:
        rows = await fetch(source, _BISECTION, tenant_id, event_id, until_ms + SKEW_MS_MAX)
        end = rows[0]["low"] if rows else BIGINT_MAX
    return first, end


def _filters(which: ScanFilter) -> tuple[object, ...]:
    """The parameters of `_SCANS` from the seventh on."""
    return (
        which.is_admitted,
        which.reasons,
        which.gate_id,
        which.card_id,
        which.member_id,
        which.device_id,
        which.direction,
        which.since_ms,
        which.until_ms,
        which.zone_id,
        which.is_offline,
        which.has_conflict,
        which.is_forced,
        which.is_annulled,
    )
