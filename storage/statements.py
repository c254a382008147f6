"""Read queries over one card's ledger by time: filtered lists, the balance at any time, the sums of a period.

Rules:
1. A card's entries are numbered without holes and their times never go back, so the entry that a time falls upon is
   found by halving the numbers: some thirty look-ups by the primary key, however long the ledger, and no index more for
   a check-in to feed.
2. Every entry tells the balances of both accounts after it, so a balance at a time is one entry.
3. What reads entries one by one is bounded: a filtered page looks at `LOOKED_AT_MAX` entries and may come back short,
   with a cursor; whoever sums a period asks how many entries it has first.
4. Like `storage.logs`, this is behind the engine by the projector's lag.
"""

from __future__ import annotations

import msgspec

from storage.logs import BIGINT_MAX, Page, fetch, number_before
from storage.postgres import Connection, Pool

LOOKED_AT_MAX = 10_000

_LAST_BEFORE = """
WITH RECURSIVE halves (low, high) AS (
    SELECT 0::bigint, coalesce(max(entry_seq), 0) FROM ledger WHERE tenant_id = $1 AND card_id = $2
    UNION ALL
    SELECT CASE WHEN l.at_ms < $3 THEN l.entry_seq ELSE h.low END,
        CASE WHEN l.at_ms < $3 THEN h.high ELSE l.entry_seq - 1 END
    FROM halves AS h JOIN ledger AS l
        ON l.tenant_id = $1 AND l.card_id = $2 AND l.entry_seq = (h.low + h.high + 1) / 2
    WHERE h.low < h.high
)
SELECT low FROM halves WHERE low >= high
"""
_ENTRY = """
SELECT entry_seq, account, balance_after, other_after FROM ledger
WHERE tenant_id = $1 AND card_id = $2 AND entry_seq = $3
"""
_LEDGER = """
SELECT entry_seq, position, at_ms, kind, amount, balance_after, cause, note, rule, event_id, reverses, short_by,
    request_id, account, held, due_ms
FROM ledger WHERE tenant_id = $1 AND card_id = $2 AND entry_seq < $3 AND entry_seq >= $4
    AND ($6::text IS NULL OR account = $6) AND ($7::text IS NULL OR kind = $7)
ORDER BY entry_seq DESC LIMIT $5
"""
_SUMS = """
SELECT kind, count(*), sum(amount)::bigint FROM ledger
WHERE tenant_id = $1 AND card_id = $2 AND entry_seq > $3 AND entry_seq <= $4 AND account = $5
GROUP BY kind ORDER BY kind
"""


class LedgerFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries of a card; None does not filter. `from_ms` ≤ time < `until_ms`."""

    account: str | None = None
    kind: str | None = None
    from_ms: int | None = None
    until_ms: int | None = None


class Balances(msgspec.Struct, frozen=True):
    """What a card had after an entry; `entry_seq` 0: before the first."""

    entry_seq: int = 0
    points: int = 0
    wallet: int = 0


class Sum(msgspec.Struct, frozen=True):
    """What the entries of a kind add up to."""

    kind: str
    entries: int
    amount: int


async def last_before(source: Pool | Connection, tenant_id: str, card_id: str, at_ms: int) -> Balances:
    """What the card had just before `at_ms`. Raises `StoreUnavailable`."""
    found = await fetch(source, _LAST_BEFORE, tenant_id, card_id, at_ms)
    rows = await fetch(source, _ENTRY, tenant_id, card_id, found[0][0]) if found else ()
    if not rows:
        return Balances()
    entry_seq, account, balance, other = rows[0]
    return Balances(entry_seq, balance, other) if account == "points" else Balances(entry_seq, other, balance)


async def sums(
    source: Pool | Connection, tenant_id: str, card_id: str, after_seq: int, until_seq: int, account: str
) -> list[Sum]:
    """The sums by kind of an account's entries with after_seq < seq ≤ until_seq. Raises `StoreUnavailable`."""
    rows = await fetch(source, _SUMS, tenant_id, card_id, after_seq, until_seq, account)
    return [Sum(*row) for row in rows]


async def ledger_of_card(
    source: Pool | Connection,
    tenant_id: str,
    card_id: str,
    which: LedgerFilter,
    limit: int,
    cursor: str | None = None,
) -> Page:
    """A card's ledger, newest first; rule 3. Raises `BadCursor`, `StoreUnavailable`."""
    end, start = number_before(cursor), 1
    if which.until_ms is not None:
        end = min(end, (await last_before(source, tenant_id, card_id, which.until_ms)).entry_seq + 1)
    if which.from_ms is not None:
        start = (await last_before(source, tenant_id, card_id, which.from_ms)).entry_seq + 1
    is_sparse = which.account is not None or which.kind is not None
    if is_sparse and end == BIGINT_MAX:
        end = (await last_before(source, tenant_id, card_id, BIGINT_MAX)).entry_seq + 1
    floor = max(start, end - LOOKED_AT_MAX) if is_sparse else start
    # One row more than asked for tells whether there is a next page.
    rows = await fetch(source, _LEDGER, tenant_id, card_id, end, floor, limit + 1, which.account, which.kind)
    items = [dict(row) for row in rows[:limit]]
    if len(rows) > limit:
        return Page(items, str(items[-1]["entry_seq"]))
    return Page(items, str(floor) if floor > start else None)
