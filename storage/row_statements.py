"""The statements that write rows, one per table and purpose, however many rows there are.

Rules:
1. What is appended is copied (`columns` are given); what is set is set by a statement over arrays, one per column.
2. An array comes as the text of one (`storage.postgres_texts`): `$1::text::bigint[]`.
3. A statement takes a change only where the row is older than the change (`position`), so that the count of rows that
   took it tells whether the journal and the rows agree.
"""

from __future__ import annotations

from functools import cache

from storage.state_tables import StateTable


def arrays(types: str) -> str:
    """SQL for a table made of the first parameters, one array a column: "text*2 bigint" is
    `unnest($1::text::text[], $2::text::text[], $3::text::bigint[])`."""
    names = [name for word in types.split() for name, _, times in [word.partition("*")] for _ in range(int(times or 1))]
    return "unnest(" + ", ".join(f"${number}::text::{name}[]" for number, name in enumerate(names, 1)) + ")"


JOURNAL_ENTRIES = ("partition_id", "seq", "epoch", "version", "at_ms", "checksum", "payload")
REQUESTS = ("tenant_id", "request_id", "partition_id", "position", "at_ms")
SCANS = (
    *("tenant_id", "event_id", "position", "at_ms", "scanned_at_ms", "request_id", "card_id", "gate_id", "device_id"),
    *("direction", "reason", "member_id", "member_name", "tier", "inside", "admitted", "points_awarded"),
    *("points_balance", "first_at_ms", "first_gate_id", "first_device_id"),
)
DETAILED_SCANS = (*SCANS, "zone_id", "session_id", "is_offline", "conflict", "forced", "forced_by")
LEDGER = (
    *("tenant_id", "card_id", "entry_seq", "position", "partition_id", "at_ms", "kind", "amount", "balance_after"),
    *("cause", "note", "rule", "event_id", "reverses", "short_by", "request_id"),
    *("account", "other_after", "held", "due_ms"),
)


TENANTS_OPENED = f"""
INSERT INTO tenants (tenant_id, name, settings, opened_at_ms, cards, issued, position)
SELECT * FROM {arrays("text*2 jsonb bigint*4")}
"""
TENANTS_CHANGED = f"""
UPDATE tenants AS t SET
    name = coalesce(u.name, t.name),
    settings = coalesce(u.settings, t.settings),
    cards = coalesce(u.cards, t.cards),
    issued = coalesce(u.issued, t.issued),
    position = u.position
FROM {arrays("text*2 jsonb bigint*3")} AS u (tenant_id, name, settings, cards, issued, position)
WHERE t.tenant_id = u.tenant_id AND t.position < u.position
"""
CARDS_ISSUED = f"""
INSERT INTO cards (tenant_id, card_id, member_id, member_name, tier, valid_from_ms, valid_until_ms, issued_at_ms, state,
    state_position, balance, wallet, entry_count, earned, earned_position, day, day_earned, day_position, position,
    attention, serial, number, tag_uid, visits, tier_due_ms, tier_is_held, profile, birthday_on, birthday_due_ms,
    birthday_year)
SELECT * FROM {
    arrays(
        "text*5 bigint*3 text bigint*6 integer bigint*3 text bigint*2 text*2 bigint boolean text integer bigint integer"
    )
}
"""


def _cards_changed(rare: str = "", rare_types: str = "") -> str:
    """Rows with `rare` columns after those that a check-in changes, and two flags: the score (the day's score) changed
    within the batch, so its position moves even if the present row happens to have the same one."""
    columns = ["visits", "entry_count", "balance", "wallet", *rare.split()]
    sets = ", ".join(f"{name} = coalesce(u.{name}, t.{name})" for name in columns)
    types = f"text*2 bigint text bigint*8 integer bigint*2 {rare_types}"
    named = ", ".join([*_CARD_CHANGE.split(), *rare.split()])
    count = len(named.split())
    return f"""
UPDATE cards AS t SET
    position = u.position, {sets}, earned = coalesce(u.earned, t.earned),
    earned_position = CASE WHEN ${count + 1}::boolean OR u.earned <> t.earned
        THEN u.earned_position ELSE t.earned_position END,
    day = greatest(u.day, t.day),
    day_earned = CASE WHEN u.day >= t.day THEN u.day_earned ELSE t.day_earned END,
    day_position = CASE
        WHEN u.day > t.day OR (u.day = t.day AND (${count + 2}::boolean OR u.day_earned <> t.day_earned))
        THEN u.day_position ELSE t.day_position END
FROM {arrays(types)} AS u ({named})
WHERE t.tenant_id = u.tenant_id AND t.card_id = u.card_id AND t.position < u.position AND (u.first_entry_seq IS NULL
    OR (t.entry_count = u.first_entry_seq - 1 AND t.balance = u.balance_before AND t.wallet = u.wallet_before))
"""


_CARD_CHANGE = (
    "tenant_id card_id position visits first_entry_seq balance_before wallet_before entry_count balance wallet earned "
    "earned_position day day_earned day_position"
)
# By far the most rows are of this kind: half the columns, half the work.
CARDS_VISITED = _cards_changed()
CARDS_CHANGED = _cards_changed(
    "state state_position member_name attention tier tier_due_ms tier_is_held valid_from_ms valid_until_ms serial "
    "tag_uid profile birthday_on birthday_due_ms birthday_year",
    "text bigint text*3 bigint boolean bigint*3 text*2 integer bigint integer",
)
LOTS = f"""
INSERT INTO lots AS t (tenant_id, card_id, lot, remaining, expires_at_ms, available_from_ms, position)
SELECT * FROM {arrays("text*2 bigint*5")}
ON CONFLICT (tenant_id, card_id, lot) DO UPDATE SET
    remaining = excluded.remaining, expires_at_ms = excluded.expires_at_ms,
    available_from_ms = excluded.available_from_ms, position = excluded.position
WHERE t.position < excluded.position
"""
EVENTS_CREATED = f"""
INSERT INTO events (tenant_id, event_id, position, created_at_ms, terms, name, state, capacity, doors_open_ms,
    doors_close_ms, inside, admitted, refused, session_id, left_ms)
SELECT * FROM {arrays("text*2 bigint*2 jsonb text*2 bigint*6 text bigint")}
"""
EVENTS_CHANGED = f"""
UPDATE events AS t SET
    position = u.position,
    terms = coalesce(u.terms, t.terms),
    name = coalesce(u.name, t.name),
    state = coalesce(u.state, t.state),
    capacity = coalesce(u.capacity, t.capacity),
    doors_open_ms = coalesce(u.doors_open_ms, t.doors_open_ms),
    doors_close_ms = coalesce(u.doors_close_ms, t.doors_close_ms),
    inside = coalesce(u.inside, t.inside),
    admitted = coalesce(u.admitted, t.admitted),
    refused = coalesce(u.refused, t.refused),
    session_id = coalesce(u.session_id, t.session_id),
    left_ms = coalesce(u.left_ms, t.left_ms)
FROM {arrays("text*2 bigint*2 jsonb text*2 bigint*6 text bigint")}
    AS u (tenant_id, event_id, position, created_at_ms, terms, name, state, capacity, doors_open_ms, doors_close_ms,
    inside, admitted, refused, session_id, left_ms)
WHERE t.tenant_id = u.tenant_id AND t.event_id = u.event_id AND t.position < u.position
"""
ATTENDANCE = f"""
INSERT INTO attendance AS t (tenant_id, event_id, card_id, session_id, is_inside, entries, admitted_at_ms, gate_id,
    device_id, earned, earned_position, position, zone_id, seen_ms, answered)
SELECT * FROM {arrays("text*4 boolean bigint*2 text*2 bigint*3 text bigint text")}
ON CONFLICT (tenant_id, event_id, card_id, session_id) DO UPDATE SET
    is_inside = coalesce(excluded.is_inside, t.is_inside),
    entries = coalesce(excluded.entries, t.entries),
    admitted_at_ms = coalesce(excluded.admitted_at_ms, t.admitted_at_ms),
    gate_id = coalesce(excluded.gate_id, t.gate_id),
    device_id = coalesce(excluded.device_id, t.device_id),
    earned = coalesce(excluded.earned, t.earned),
    earned_position = coalesce(excluded.earned_position, t.earned_position),
    zone_id = coalesce(excluded.zone_id, t.zone_id),
    seen_ms = coalesce(excluded.seen_ms, t.seen_ms),
    answered = coalesce(excluded.answered, t.answered),
    position = excluded.position
WHERE t.position < excluded.position
"""
# Everybody left: all rows of the event are from before, what came after is written afterwards.
_LEFT = """
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, event_id)
WHERE t.tenant_id = u.tenant_id AND t.event_id = u.event_id
"""
LEFT_ATTENDANCE = f"""
UPDATE attendance AS t SET is_inside = false, zone_id = '' {_LEFT} AND (t.is_inside OR t.zone_id <> '')
"""
LEFT_ZONES = f"UPDATE event_zones AS t SET inside = 0 {_LEFT} AND t.inside > 0"
# $7: as the flags above.
DAY_SCORES = f"""
INSERT INTO day_scores AS t (tenant_id, day, card_id, earned, reached, position)
SELECT * FROM {arrays("text integer text bigint*3")}
ON CONFLICT (tenant_id, day, card_id) DO UPDATE SET
    earned = excluded.earned,
    reached = CASE WHEN $7::boolean OR excluded.earned <> t.earned THEN excluded.reached ELSE t.reached END,
    position = excluded.position
WHERE t.position < excluded.position
"""
# $8: as the flags above, for the best streak. Each fact with a visit changes how many there are.
VISIT_SCORES = f"""
INSERT INTO visit_scores AS t (tenant_id, card_id, ever, ever_reached, best, best_reached, position)
SELECT * FROM {arrays("text*2 bigint*5")}
ON CONFLICT (tenant_id, card_id) DO UPDATE SET
    ever = excluded.ever,
    ever_reached = excluded.ever_reached,
    best = excluded.best,
    best_reached = CASE WHEN $8::boolean OR excluded.best <> t.best THEN excluded.best_reached ELSE t.best_reached END,
    position = excluded.position
WHERE t.position < excluded.position
"""

CLAIMS = """
INSERT INTO claims AS t (tenant_id, partition_id, until_ms)
SELECT u.tenant_id, $3, u.until_ms FROM unnest($1::text::text[], $2::text::bigint[]) AS u (tenant_id, until_ms)
ON CONFLICT (tenant_id) DO UPDATE SET until_ms = greatest(t.until_ms, excluded.until_ms)
"""
# What postings drew that do not tell the account's balance (`storage.rows_points`, rule 2).
DRAWN = f"""
INSERT INTO tenant_accounts AS t (tenant_id, account, balance, position)
SELECT * FROM {arrays("text*2 bigint*2")}
ON CONFLICT (tenant_id, account) DO UPDATE SET
    balance = t.balance + excluded.balance, position = excluded.position
WHERE t.position < excluded.position
"""


@cache
def upsert(table: StateTable) -> str:
    """The statement that sets rows of a table, each to what a later fact says."""
    key = ", ".join(name for name, _ in table.key)
    sets = ", ".join(f"{name} = excluded.{name}" for name in table.columns[len(table.key) :])
    return (
        f"INSERT INTO {table.name} AS t ({', '.join(table.columns)}) SELECT * FROM {arrays(table.types)} "
        f"ON CONFLICT ({key}) DO UPDATE SET {sets} WHERE t.position < excluded.position"
    )
