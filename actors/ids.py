"""Identifiers: which partition a tenant belongs to, and what a request id tells about its own age.

Pure. Identifiers are opaque strings with a type prefix (`org_…`, `card_…`); they are made by the shells, never here.
"""

from __future__ import annotations

from zlib import crc32

PARTITION_COUNT_DEFAULT = 16
REQUEST_ID_CHARS_MAX = 64
# How far a clock that makes UUIDv7s may be ahead of ours for their time to be believed.
CLOCK_AHEAD_MS_MAX = 10_000
# How long request ids are remembered at least.
RETENTION_MS = 7 * 24 * 3_600_000

# A fact's position orders all facts of a partition: journal sequence number and index within the entry in one integer.
POSITION_INDEX_BITS = 16
FACTS_PER_ENTRY_MAX = 1 << POSITION_INDEX_BITS


def partition_of(tenant_id: str, partition_count: int) -> int:
    """The partition (0 … partition_count-1) that holds a tenant with all its cards and events."""
    return crc32(tenant_id.encode()) % partition_count


def position_of(seq: int, index: int) -> int:
    """The position of fact number `index` (from 0) of journal entry `seq`; comparable within one partition."""
    return seq << POSITION_INDEX_BITS | index


def seq_of(position: int) -> int:
    """The journal sequence number of a position."""
    return position >> POSITION_INDEX_BITS


def uuid7_time_ms(request_id: str) -> int | None:
    """Milliseconds since 1970 that a UUIDv7 (RFC 9562 §5.7, in its 36-character form) carries; None for any other
    id."""
    if len(request_id) != 36 or request_id[14] != "7" or request_id[8] != "-" or request_id[13] != "-":
        return None
    try:
        return int(request_id[:8] + request_id[9:13], 16)
    except ValueError:
        return None


def claimed_ahead_ms(request_id: str, at_ms: int, ahead_ms_max: int = CLOCK_AHEAD_MS_MAX) -> int:
    """The time that an id claims to have been made at, where that lies beyond belief for an id that came at `at_ms`;
    else 0.

    Once the clock gets there, such an id looks as if it were new. One that is further ahead than ids are remembered
    gets there too late to matter.
    """
    made_ms = uuid7_time_ms(request_id)
    if made_ms is None or not at_ms + ahead_ms_max < made_ms <= at_ms + RETENTION_MS:
        return 0
    return made_ms
