"""Reading the past of an organisation: its partition's archive by time, and its cards as they were at a position.

Rules:
1. Entries of a partition have no holes and their times go up, but for what the clocks of two hosts differ at a failover
   (`storage.scan_log.SKEW_MS_MAX`). So where a span begins is found by halving, and the archive needs no index by time.
2. A page has at most `PAGE_ENTRIES_MAX` entries and about `PAGE_BYTES_MAX` bytes, at least one entry.
3. What a card was is worked out from its ledger and its changes of tier: the last before the position, the first after.
   Its visits and its holder are told as they are now. (Changes of tiers from before there were tiers by points have no
   rows.)
4. The archive is the partition's, so it holds what others did: whoever reads entries keeps to the facts of the tenant.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from actors.entry import Entry
from actors.past import CardThen
from actors.profiles import NO_PROFILE, Profile
from actors.terms import EventTerms
from actors.visits import NO_VISITS, Visits
from rules.moment import EventView
from storage.logs import fetch
from storage.postgres import Connection, Pool

PAGE_ENTRIES_MAX = 500
PAGE_BYTES_MAX = 4_000_000
_visits_decoder = msgspec.json.Decoder(Visits)
_profile_decoder = msgspec.json.Decoder(Profile)

_FIRST = """
WITH RECURSIVE halves (low, high) AS (
    SELECT min(seq), max(seq) + 1 FROM journal_entries WHERE partition_id = $1
    UNION ALL
    SELECT CASE WHEN e.at_ms < $2 THEN e.seq + 1 ELSE h.low END, CASE WHEN e.at_ms < $2 THEN h.high ELSE e.seq END
    FROM halves AS h JOIN journal_entries AS e ON e.partition_id = $1 AND e.seq = (h.low + h.high) / 2
    WHERE h.low < h.high
)
SELECT low FROM halves WHERE low >= high
"""
_PAGE = """
SELECT epoch, seq, at_ms, checksum, payload, version FROM (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY seq) - octet_length(payload) AS bytes_before FROM (
        SELECT epoch, seq, at_ms, checksum, payload, version FROM journal_entries
        WHERE partition_id = $1 AND seq >= $2 ORDER BY seq LIMIT $3
    ) AS next_entries
) AS counted
WHERE bytes_before < $4 ORDER BY seq
"""
# What was earned after: awards, less what reversals of awards took or could not take.
_CARDS = """
SELECT c.card_id, c.member_id, coalesce(t.tier_before, c.tier), c.issued_at_ms, c.visits, c.profile,
    coalesce(l.account, 'points'),
    coalesce(l.balance_after, 0), coalesce(l.other_after, 0), c.earned - coalesce(s.earned, 0)
FROM unnest($2::text[]) AS u (card_id) JOIN cards AS c ON c.tenant_id = $1 AND c.card_id = u.card_id
LEFT JOIN LATERAL (
    SELECT entry_seq, account, balance_after, other_after FROM ledger
    WHERE tenant_id = $1 AND card_id = c.card_id AND position < $3 ORDER BY entry_seq DESC LIMIT 1
) AS l ON true
LEFT JOIN LATERAL (
    SELECT sum(CASE
        WHEN kind = 'award' THEN amount
        WHEN kind = 'reverse' AND account = 'points' AND (amount < 0 OR short_by > 0) THEN amount - short_by
        ELSE 0 END)::bigint AS earned
    FROM ledger WHERE tenant_id = $1 AND card_id = c.card_id AND entry_seq > coalesce(l.entry_seq, 0)
) AS s ON true
LEFT JOIN LATERAL (
    SELECT tier_before FROM tier_changes
    WHERE tenant_id = $1 AND card_id = c.card_id AND changed_position >= $3 ORDER BY changed_position LIMIT 1
) AS t ON true
"""
_EVENTS = "SELECT event_id, terms FROM events WHERE tenant_id = $1 AND event_id = ANY($2)"


async def first_seq(source: Pool | Connection, partition_id: int, at_ms: int) -> int:
    """The first entry that is of `at_ms` or later; one behind the last where none is. Raises `StoreUnavailable`."""
    rows = await fetch(source, _FIRST, partition_id, at_ms)
    return rows[0][0] if rows else 0


async def entries_from(source: Pool | Connection, partition_id: int, seq: int) -> list[Entry]:
    """The next page of entries, oldest first, empty at the end. Raises `StoreUnavailable`."""
    rows = await fetch(source, _PAGE, partition_id, seq, PAGE_ENTRIES_MAX, PAGE_BYTES_MAX)
    return [Entry(*row) for row in rows]


async def cards_then(
    source: Pool | Connection, tenant_id: str, card_ids: Iterable[str], position: int
) -> dict[str, CardThen]:
    """The organisation's cards as they were before `position`, by their ids. Raises `StoreUnavailable`."""
    rows = await fetch(source, _CARDS, tenant_id, sorted(card_ids), position)
    return {card_id: _card_then(*card) for card_id, *card in rows}


async def events_named(source: Pool | Connection, tenant_id: str, event_ids: Iterable[str]) -> dict[str, EventView]:
    """The organisation's events as they are now, by their ids. Raises `StoreUnavailable`."""
    rows = await fetch(source, _EVENTS, tenant_id, sorted(event_ids))
    events = [(event_id, msgspec.json.decode(terms, type=EventTerms)) for event_id, terms in rows]
    return {event_id: EventView(event_id, terms.name, terms.tags, terms.doors_open_ms) for event_id, terms in events}


def _card_then(
    member_id: str,
    tier: str,
    issued_at_ms: int,
    visits: str,
    profile: str,
    account: str,
    balance: int,
    other: int,
    earned: int,
) -> CardThen:
    points, wallet = (balance, other) if account == "points" else (other, balance)
    known = _visits_decoder.decode(visits) if visits else NO_VISITS
    holder = _profile_decoder.decode(profile) if profile else NO_PROFILE
    return CardThen(member_id, tier, points, earned, wallet, issued_at_ms, known, profile=holder)
