"""The auditor: reads journal, Postgres and (where hosts run) live actors, and says which invariants do not hold.

Rules:
1. It only reads. Postgres is read in one snapshot per partition, from the primary.
2. The journal is the truth: the archive in Postgres up to Postgres' position, the stream after it. Everything else is
   compared with what a full replay of it gives.
3. On a live system things move between two looks. What does not hold is looked at again until nothing has moved
   meanwhile; only that is reported. Who cannot wait drains first.
4. `storage.audit_checks` and `storage.audit_rows` decide; this module reads and passes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec
from redis.asyncio import Redis

from actors.codec import UnknownEntryVersion, decode_facts
from actors.digests import digest_of
from actors.entry import Entry, Mark
from actors.facts import Fact
from actors.ids import partition_of, position_of
from actors.kinds import Actor
from actors.ports import EntityStore, LoadRequest
from storage.audit_accounts import AccountsCheck
from storage.audit_boards import compare_boards
from storage.audit_cards import CardCheck
from storage.audit_checks import (
    ChainCheck,
    Finding,
    Findings,
    LedgerCheck,
    Ownership,
    RequestCheck,
    check_stream,
)
from storage.audit_coupons import CouponCheck
from storage.audit_doors import AttendanceCheck
from storage.audit_grants import GrantCheck
from storage.audit_members import BirthdayCheck
from storage.audit_payouts import PayoutCheck
from storage.audit_plans import PlanCheck
from storage.audit_rows import (
    HISTORIES,
    STATES,
    Row,
    StateRows,
    compare_run,
    compare_scores,
    compare_states,
    history_rows,
    normalised,
)
from storage.audit_rules import RulesCheck
from storage.audit_schedules import ScheduleCheck
from storage.audit_tiers import TierCheck
from storage.audit_visits import VisitsCheck
from storage.postgres import Connection, Pool
from storage.replay import WorldState

ENTRIES_PER_READ = 200
ROWS_PER_READ = 5_000
CARDS_PER_LOAD = 500
LOOKS_MAX = 5

# Every check by name, with what it says when it holds.
CHECKS: dict[str, str] = {
    "journal_chain": "seqs contiguous, epochs opened once and in order, checksums chained, first entry to last",
    "journal_stream": "stream and archive agree and leave no gap between them",
    "journal_position": "Postgres' position is the archive's last entry",
    "facts": "every entry can be read",
    "replay": "every fact can be applied",
    "requests": "every fact answers one request or is caused by one that does",
    "attendance": "inside = ins - outs, within the capacity, at every prefix; counts and re-entry are right",
    "ledger": "balance = sum of entries, never below the overdraft, at every prefix; entries contiguous",
    "double_entry": "all accounts of an organisation, its own and its cards', sum to zero at every prefix",
    "holds": "what was put aside = captured + let go + still open; a hold ends once",
    "transfers": "both cards have their part, or neither",
    "award_causes": "every award for a check-in cites exactly one admitted scan",
    "reversals": "an entry is reversed once, and by no more than it was",
    "leaderboards": "boards are what the ledger gives, ties included",
    "payouts": "a window is paid out once, to those who were first, and each prize is posted",
    "plans": "every organisation's count of cards is right, and no plan is exceeded",
    "coupons": "every coupon's counts are right, no limit is exceeded, a redemption ends once, its points with it",
    "grants": "rules grant what they say and there is, once; an annulled cause takes back what nobody used",
    "card_life": "each new credential has the next serial, none is of a revoked card; tiers follow each other",
    "card_numbers": "an organisation's cards are numbered from 1 up",
    "tiers": "what counts in the window is what was earned there, and tiers follow from it",
    "visits": "visits are the first admissions of a card at an event on a day; days, weeks, months and streaks follow",
    "rules": "no limit of a rule is exceeded; every effect cites a version that there was, and a cause, once",
    "schedules": "scheduled rules come at their times, once for each card",
    "birthdays": "a birthday comes once a year, on its day, for active cards",
    "tags": "a tag is one card's, a card has one, and each accepted counter is above those before",
    "tenants_apart": "nothing references another tenant",
    "requests_rows": "one request id, one outcome: requests ↔ facts",
    "scans_rows": "scans ↔ facts",
    "ledger_rows": "ledger entries ↔ facts",
    **{f"{table}_rows": f"{table} are what the journal says" for table in STATES},
    "postgres_state": "actors loaded from Postgres = actors replayed from the journal",
    "live_state": "actors in memory = actors replayed from the journal",
    "acks": "everything acknowledged is in the journal, with the outcome that was told",
}


class LiveStates(Protocol):
    """The actors in the memory of running hosts."""

    async def digests(self, partition: int) -> tuple[int, dict[str, bytes]]:
        """Durable seq of an open partition with nothing under way, and each actor's digest by id. Raises `NotLive`."""


class NotLive(Exception):
    """The partition is open nowhere, or halted; the message says which and why."""


class FactListener(Protocol):
    """Who wants to see every fact while it is read."""

    def take(self, findings: Findings, fact: Fact) -> None:
        """The next fact; may be shown twice, when a partition is looked at again."""


class Sources(msgspec.Struct, frozen=True):
    """What is read. `live` is None where no hosts run."""

    pool: Pool
    redis: Redis
    store: EntityStore
    partition_count: int
    live: LiveStates | None = None
    listeners: tuple[FactListener, ...] = ()


class PartitionAudit(msgspec.Struct):
    """What was looked at, and what was found."""

    partition: int
    entries: int = 0
    facts: int = 0
    seq: int = 0
    projected_seq: int = 0
    live_actors: int = 0
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    findings: list[Finding] = msgspec.field(default_factory=list)


class Replay:
    """The journal taken in from its first entry on, by all checks at once."""

    def __init__(self, findings: Findings, sources: Sources) -> None:
        self._findings = findings
        self._listeners = sources.listeners
        self.partition = findings.partition
        self.chain = ChainCheck(findings)
        self.world = WorldState()
        self.attendance = AttendanceCheck(findings)
        self.ledger = LedgerCheck(findings)
        self.plans = PlanCheck(findings)
        self.coupons = CouponCheck(findings)
        self._grants = GrantCheck(findings)
        self.accounts = AccountsCheck(findings)
        self._cards = CardCheck(findings)
        self._visits = VisitsCheck(findings)
        self._rules = RulesCheck(findings)
        self._tiers = TierCheck(findings)
        self._birthdays = BirthdayCheck(findings)
        self._schedules = ScheduleCheck(findings)
        self.states = StateRows()
        self._payouts = PayoutCheck(findings, self.ledger, self.states)
        self.entries = self.facts = 0
        self.is_whole = True
        self._by_id: dict[str, Actor] | None = None
        self._ownership = Ownership(findings, sources.partition_count)
        self._requests = RequestCheck(findings)

    def take(self, entry: Entry) -> list[tuple[str, Row]]:
        """The next entry; returns the rows that Postgres must hold for its facts."""
        self.chain.take(entry)
        self.entries += 1
        try:
            facts = decode_facts(entry)
        except (UnknownEntryVersion, msgspec.DecodeError, UnicodeDecodeError) as error:
            self._findings.add("facts", f"entry {entry.epoch}-{entry.seq} cannot be read: {error}")
            self.is_whole = False
            return []
        rows: list[tuple[str, Row]] = []
        for counted in (self._tiers, self.ledger, self.coupons, self.accounts):
            counted.begin_entry()
        for index, fact in enumerate(facts):
            position, place = position_of(entry.seq, index), f"fact {entry.seq}.{index}"
            self.facts += 1
            self._ownership.take(fact, place)
            self._requests.take(fact, place)
            self.attendance.take(fact, position, place)
            self.ledger.take(fact, position, place)
            self.plans.take(fact, place)
            self.coupons.take(fact, place)
            self._grants.take(fact, place)
            self.accounts.take(fact, position, place)
            self._cards.take(fact, place)
            self._visits.take(fact, place)
            self._tiers.take(fact, place)
            self._birthdays.take(fact, place)
            self._schedules.take(fact, place)
            self._rules.take(fact, place)
            self._payouts.take(fact, place)
            self.states.take(self.partition, fact, position)
            for listener in self._listeners:
                listener.take(self._findings, fact)
            self._apply(fact, position, place)
            rows += history_rows(self.partition, fact, position)
        self._rules.end_entry(f"entry {entry.seq}")
        self._grants.end_entry(f"entry {entry.seq}")
        self._payouts.end_entry(f"entry {entry.seq}")
        for counted in (self.ledger, self.coupons, self.accounts):
            counted.begin_entry()
        return rows

    def _apply(self, fact: Fact, position: int, place: str) -> None:
        if not self.is_whole:
            return
        try:
            self.world.apply(fact, position)
        except (AssertionError, LookupError) as error:
            self._findings.add("replay", f"{place}, a {type(fact).__name__}, cannot be applied: {error!r}")
            self.is_whole = False

    def digest(self, key: str) -> bytes | None:
        """The digest of a replayed actor; ids are unique across tenants (`tenants_apart`)."""
        if self._by_id is None or len(self._by_id) != self._actor_count():
            self._by_id = {own_id: state for (_, _, own_id), state in self.world.states()}
        actor = self._by_id.get(key)
        return digest_of(actor) if actor is not None else None

    def _actor_count(self) -> int:
        return len(self.world.tenants) + sum(map(len, self.world.actors.values()))


class _History:
    """A table of history, read in the order of positions."""

    def __init__(self, connection: Connection, table: str, tenants: Sequence[str]) -> None:
        columns = ", ".join(HISTORIES[table])
        self._query = f"SELECT {columns} FROM {table} WHERE tenant_id = ANY($1::text[]) ORDER BY position"
        self._connection = connection
        self._tenants = tenants
        self._cursor: Any = None
        self._rows: list[Row] = []
        self._is_over = False

    async def until(self, position: int | None) -> list[Row]:
        """The rows up to and at `position`, None: all that are left."""
        if self._cursor is None:
            self._cursor = await self._connection.cursor(self._query, list(self._tenants))
        while not self._is_over and (not self._rows or position is None or self._rows[-1][0] <= position):
            records = await self._cursor.fetch(ROWS_PER_READ)
            self._rows += map(tuple, records)
            self._is_over = len(records) < ROWS_PER_READ
        count = len(self._rows) if position is None else sum(1 for row in self._rows if row[0] <= position)
        taken, self._rows = self._rows[:count], self._rows[count:]
        return taken


async def audit(sources: Sources, partitions: Iterable[int] | None = None) -> list[PartitionAudit]:
    """Audits all partitions (or these), one after the other, and what is across them."""
    numbers = list(range(sources.partition_count)) if partitions is None else list(partitions)
    results = [await audit_partition(sources, number) for number in numbers]
    across = Findings(-1)
    async with sources.pool.acquire() as connection:
        await _check_references(connection, across)
    if across.counts:
        results.append(PartitionAudit(-1, counts=dict(across.counts), findings=across.kept))
    return results


async def audit_partition(sources: Sources, partition: int) -> PartitionAudit:
    """Audits a partition; what does not hold is reported once nothing has moved since it was first seen."""
    seen: Mark | None = None
    for _ in range(LOOKS_MAX):
        result, tail = await _look(sources, partition)
        if not result.findings or tail == seen:
            break
        seen = tail
    return result


async def _look(sources: Sources, partition: int) -> tuple[PartitionAudit, Mark]:
    findings = Findings(partition)
    replay = Replay(findings, sources)
    async with sources.pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        row = await connection.fetchrow("SELECT epoch, seq, checksum FROM positions WHERE partition_id = $1", partition)
        position = Mark(row["epoch"], row["seq"], row["checksum"]) if row else Mark()
        stream = await read_stream(sources.redis, findings)
        archived = await _replay_archive(connection, replay, findings, sources, {entry.seq for entry in stream})
        check_stream(findings, position, stream, archived)
        if replay.chain.last != position:
            findings.add(
                "journal_position", f"Postgres stands at {position}, the archive ends with {replay.chain.last}"
            )
        if replay.is_whole:
            await _compare_states(connection, replay, findings, sources.partition_count)
            await _compare_store(sources.store, replay, findings, position)
    for entry in stream:
        if entry.seq > position.seq:
            replay.take(entry)
    live_actors = await _compare_live(sources.live, replay, findings) if sources.live and replay.is_whole else 0
    result = PartitionAudit(
        *(partition, replay.entries, replay.facts, replay.chain.last.seq, position.seq, live_actors),
        dict(findings.counts),
        findings.kept,
    )
    return result, replay.chain.last


async def read_stream(redis: Redis, findings: Findings) -> list[Entry]:
    """What the partition's stream holds, oldest first, as it is: no check of the journal's own stands in between."""
    tag = f"mv:{{p{findings.partition:02d}}}"
    entries = []
    rows: Any = await redis.xrange(f"{tag}:journal")
    for entry_id, fields in rows:
        epoch, _, seq = entry_id.partition(b"-")
        try:
            at_ms, version = int(fields[b"t"]), int(fields[b"v"])
            entries.append(Entry(int(epoch), int(seq), at_ms, fields[b"c"], fields[b"f"], version))
        except (KeyError, ValueError) as error:
            findings.add("journal_stream", f"entry {entry_id.decode()} of the stream cannot be read: {error!r}")
    fence: Any = await redis.hmget(f"{tag}:fence", ["epoch", "seq", "checksum"])
    last = entries[-1] if entries else None
    expected = [b"%d" % last.epoch, b"%d" % last.seq, last.checksum] if last else [None, None, None]
    if fence != expected:
        findings.add("journal_stream", f"the fence says {fence}, the stream ends with {expected}")
    return entries


async def _replay_archive(
    connection: Connection, replay: Replay, findings: Findings, sources: Sources, kept_seqs: set[int]
) -> dict[int, Entry]:
    """Replays the archive and compares the histories along the way. Returns the entries of `kept_seqs`."""
    tenants = await _tenants(connection, replay.partition, sources.partition_count)
    histories = {table: _History(connection, table, tenants) for table in HISTORIES}
    kept: dict[int, Entry] = {}
    cursor = await connection.cursor(
        "SELECT epoch, seq, at_ms, checksum, payload, version FROM journal_entries"
        " WHERE partition_id = $1 ORDER BY seq",
        replay.partition,
    )
    records: list[Any] = [None]
    while records:
        records = await cursor.fetch(ENTRIES_PER_READ)
        expected: dict[str, list[Row]] = {table: [] for table in HISTORIES}
        seq = 0
        for record in records:
            entry = Entry(*record)
            seq = entry.seq
            if seq in kept_seqs:
                kept[seq] = entry
            for table, row in replay.take(entry):
                expected[table].append(row)
        until = position_of(seq + 1, 0) - 1 if records else None
        for table, history in histories.items():
            compare_run(findings, table, expected[table], await history.until(until))
    return kept


async def _tenants(connection: Connection, partition: int, partition_count: int) -> list[str]:
    """The partition's tenants, as far as any table knows them: found by hopping along the primary keys."""
    found: set[str] = set()
    for table in (*HISTORIES, *STATES):
        tenant_id: str | None = ""
        while tenant_id is not None:
            found.add(tenant_id)
            tenant_id = await connection.fetchval(
                f"SELECT tenant_id FROM {table} WHERE tenant_id > $1 ORDER BY tenant_id LIMIT 1", tenant_id
            )
    return sorted(
        tenant_id for tenant_id in found if tenant_id and partition_of(tenant_id, partition_count) == partition
    )


async def _compare_states(connection: Connection, replay: Replay, findings: Findings, partition_count: int) -> None:
    tenants = await _tenants(connection, replay.partition, partition_count)
    expected = replay.states.expected(replay.world, replay.attendance, replay.ledger, replay.accounts)
    for table, (columns, _) in STATES.items():
        rows = await _rows(connection, table, columns, tenants)
        compare_states(findings, table, expected[table], map(normalised(table), rows))
    counts = await _rows(connection, "tenants", ("tenant_id", "cards"), tenants)
    replay.plans.compare_rows(counts, await _rows(connection, "cards", ("tenant_id", "state"), tenants))
    replay.accounts.compare_rows(
        await _rows(connection, "cards", ("tenant_id", "balance", "wallet"), tenants),
        await _rows(connection, "tenant_accounts", ("tenant_id", "balance"), tenants),
    )
    compare_scores(
        findings,
        replay.ledger,
        await _rows(connection, "cards", ("tenant_id", "card_id", "earned", "earned_position"), tenants),
        await _rows(connection, "day_scores", ("tenant_id", "day", "card_id", "earned", "reached"), tenants),
        await _rows(
            connection, "attendance", ("tenant_id", "event_id", "card_id", "earned", "earned_position"), tenants
        ),
    )


async def _rows(connection: Connection, table: str, columns: Sequence[str], tenants: Sequence[str]) -> list[Row]:
    query = f"SELECT {', '.join(columns)} FROM {table} WHERE tenant_id = ANY($1::text[])"
    return [tuple(record) for record in await connection.fetch(query, list(tenants))]


async def _compare_store(store: EntityStore, replay: Replay, findings: Findings, position: Mark) -> None:
    """`postgres_state`: what a host would load now, by the host's own way, is what a replay gives."""
    cards = list(replay.world.cards)
    requests = [LoadRequest(tenants=tuple(replay.world.tenants))]
    requests += [LoadRequest(cards=tuple(cards[n : n + CARDS_PER_LOAD])) for n in range(0, len(cards), CARDS_PER_LOAD)]
    requests += [LoadRequest(events=(key,)) for key in replay.world.events]
    others = [
        (kind, *key) for kind, actors in replay.world.actors.items() if kind not in ("card", "event") for key in actors
    ]
    requests += [
        LoadRequest(others=tuple(others[n : n + CARDS_PER_LOAD])) for n in range(0, len(others), CARDS_PER_LOAD)
    ]
    for request in requests:
        loaded = await store.load(replay.partition, request)
        if loaded.projected != position:
            findings.add("postgres_state", f"the store answers as of {loaded.projected}, the audit looks at {position}")
            return
        found: dict[str, bytes] = {key: digest_of(tenant) for key, tenant in loaded.tenants.items()}
        found |= {key: digest_of(card) for (_, key), card in loaded.cards.items()}
        found |= {key: digest_of(event) for (_, key), event in loaded.events.items()}
        found |= {key: digest_of(actor) for (_, _, key), actor in loaded.others.items()}
        asked = [*request.tenants, *(key for _, key in request.cards), *(key for _, key in request.events)]
        asked += [key for _, _, key in request.others]
        for key in asked:
            if found.get(key) != replay.digest(key):
                findings.add(
                    "postgres_state", f"{key} as loaded from Postgres is not what a replay of the journal gives"
                )
    await compare_boards(store, replay.partition, replay.ledger, replay.states, findings)


async def _compare_live(live: LiveStates, replay: Replay, findings: Findings) -> int:
    """`live_state`: returns how many actors were compared."""
    try:
        seq, digests = await live.digests(replay.partition)
    except NotLive as reason:
        findings.add("live_state", f"the partition cannot be looked at: {reason}")
        return 0
    if seq != replay.chain.last.seq:
        findings.add("live_state", f"the host has confirmed up to {seq}, the journal ends at {replay.chain.last.seq}")
        return 0
    for key, digest in digests.items():
        if digest != replay.digest(key):
            findings.add("live_state", f"{key} in the host's memory is not what a replay of the journal gives")
    return len(digests)


# Which table owns the things that a column names.
_OWNERS = {
    "coupon_id": "coupons",
    "card_id": "cards",
    "event_id": "events",
    "member_id": "members",
    "device_id": "devices",
}
_REFERENCES = """
SELECT c.table_name, c.column_name FROM information_schema.columns c
JOIN information_schema.columns t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
    AND t.column_name = 'tenant_id'
WHERE c.table_schema = current_schema() AND c.column_name = ANY($1::text[])
ORDER BY c.table_name, c.column_name
"""


async def _check_references(connection: Connection, findings: Findings) -> None:
    """`tenants_apart` in Postgres: what a row names is not another tenant's."""
    for table, column in await connection.fetch(_REFERENCES, list(_OWNERS)):
        owner = _OWNERS[column]
        rows = await connection.fetch(
            f"SELECT DISTINCT t.tenant_id, t.{column}, o.tenant_id FROM {table} t"
            f" JOIN {owner} o ON o.{column} = t.{column} AND o.tenant_id <> t.tenant_id WHERE NOT EXISTS"
            f" (SELECT FROM {owner} own WHERE own.tenant_id = t.tenant_id AND own.{column} = t.{column})"
        )
        for tenant_id, thing, other in rows:
            findings.add("tenants_apart", f"{table} of tenant {tenant_id} names {column} {thing} of tenant {other}")


def summary(results: Sequence[PartitionAudit]) -> dict[str, int]:
    """How often each check failed, all partitions together; 0 where it holds."""
    totals = dict.fromkeys(CHECKS, 0)
    for result in results:
        for check, count in result.counts.items():
            totals[check] += count
    return totals
