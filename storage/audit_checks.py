"""The auditor's checks over the journal: entries and facts, one partition at a time. Pure.

Rules:
1. Nothing here trusts `apply`: what can be counted is counted a second time, in another way.
2. A check never stops at what it finds: it notes it and goes on from what the facts say; one fault is one finding.
3. A finding names the check, the place and both values; `Findings` bounds how many are kept, not how many are counted.
"""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import pairwise
from typing import get_args

import msgspec

from actors.calendar import add_days, local_day
from actors.card import DAYS_REMEMBERED
from actors.card_facts import CardTierChanged, TagEnrolled, TagRemoved, TierReviewed
from actors.coupon_facts import BillBegan, CodeGranted, CodeIssued, CodeWithdrawn, CouponUseBegan, RedemptionChanged
from actors.door_facts import EveryoneLeft
from actors.entry import EMPTY_PAYLOAD, Entry, Mark, is_intact
from actors.facts import (
    AlarmSet,
    CommandRefused,
    Fact,
    PointsPosted,
    ScanJudged,
    TenantChanged,
    TenantOpened,
)
from actors.ids import partition_of
from actors.kinds import NOWHERE, ROUTES, id_of
from actors.member_facts import BirthdayCame
from actors.refusals import COMMAND_REASONS
from actors.rule_facts import EffectRequested, RulesApplied, RuleUnitsReturned
from actors.schedule_facts import SchedulesMoved
from actors.terms import EntryKind, TenantSettings

FINDINGS_KEPT_PER_CHECK_MAX = 10
FINGERPRINT_BYTES = 8

TenantThing = tuple[str, str]
AttendanceKey = tuple[str, str, str]


class Finding(msgspec.Struct, frozen=True, order=True):
    """Something that does not hold."""

    check: str
    partition: int
    detail: str


class Findings:
    """What was found in one partition. `counts` is complete, `kept` the first few of each check."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.kept: list[Finding] = []
        self.counts: Counter[str] = Counter()

    def add(self, check: str, detail: str) -> None:
        """Notes a violation."""
        self.counts[check] += 1
        if self.counts[check] <= FINDINGS_KEPT_PER_CHECK_MAX:
            self.kept.append(Finding(check, self.partition, detail))


class ChainCheck:
    """`journal_chain`: seqs contiguous from 1, epochs opened once each and one after the other, checksums chained."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.last = Mark()

    def take(self, entry: Entry) -> None:
        """The next entry."""
        last, name = self.last, f"entry {entry.epoch}-{entry.seq}"
        if entry.seq != last.seq + 1:
            self._findings.add("journal_chain", f"{name} follows {last.epoch}-{last.seq}")
        if not is_intact(last.checksum, entry):
            self._findings.add("journal_chain", f"{name} does not match its checksum and the entry before it")
        if entry.epoch != last.epoch:
            if entry.epoch != last.epoch + 1:
                self._findings.add("journal_chain", f"{name} opens an epoch after epoch {last.epoch}")
            if entry.payload != EMPTY_PAYLOAD:
                self._findings.add("journal_chain", f"{name} has facts, but its epoch was not opened before it")
        self.last = Mark(entry.epoch, entry.seq, entry.checksum)


def check_stream(findings: Findings, position: Mark, stream: list[Entry], archived: dict[int, Entry]) -> None:
    """`journal_stream`: it reaches back to Postgres' position, ends there or later, and agrees with the archive."""
    if not stream:
        if position.seq:
            findings.add("journal_stream", f"the stream is empty, Postgres stands at {position.epoch}-{position.seq}")
        return
    if stream[0].seq > position.seq + 1:
        findings.add("journal_stream", f"the stream begins at {stream[0].seq}, Postgres stands at {position.seq}")
    if stream[-1].seq < position.seq:
        findings.add("journal_stream", f"the stream ends at {stream[-1].seq}, Postgres stands at {position.seq}")
    for before, entry in pairwise(stream):
        if entry.seq != before.seq + 1 or entry.epoch < before.epoch:
            findings.add(
                "journal_stream", f"entry {entry.epoch}-{entry.seq} of the stream follows {before.epoch}-{before.seq}"
            )
    for entry in stream:
        if entry.seq in archived and archived[entry.seq] != entry:
            findings.add("journal_stream", f"entry {entry.epoch}-{entry.seq} of the stream differs from the archive's")


class Ownership:
    """`tenants_apart`: every id belongs to one tenant, every tenant to this partition, and no fact mixes tenants."""

    def __init__(self, findings: Findings, partition_count: int) -> None:
        self._findings = findings
        self._partition_count = partition_count
        self._owner: dict[str, str] = {}
        self._tenants: set[str] = set()

    def take(self, fact: Fact, place: str) -> None:
        """The next fact."""
        tenant_id = fact.tenant_id
        if tenant_id not in self._tenants:
            self._tenants.add(tenant_id)
            home = partition_of(tenant_id, self._partition_count)
            if home != self._findings.partition:
                self._findings.add("tenants_apart", f"{place} is of tenant {tenant_id}, whose partition is {home}")
        route = ROUTES.get(type(fact), NOWHERE)
        if route.creates and route.creates != "tenant":
            self._claim(id_of(fact, route.creates), tenant_id, place)
        for kind in route.touches:
            if kind != "tenant":
                self._is_own(id_of(fact, kind), tenant_id, place)
        if isinstance(fact, ScanJudged):
            self._is_own(fact.card_id, tenant_id, place)

    def _claim(self, thing: str, tenant_id: str, place: str) -> None:
        if thing in self._owner:
            self._findings.add("tenants_apart", f"{place} creates {thing} again (tenant {self._owner[thing]} has it)")
        self._owner[thing] = tenant_id

    def _is_own(self, thing: str, tenant_id: str, place: str) -> None:
        owner = self._owner.get(thing, tenant_id)
        if owner != tenant_id:
            self._findings.add("tenants_apart", f"{place} of tenant {tenant_id} is about {thing} of tenant {owner}")


# What another fact, or the time, may lead to.
_CAUSED = (
    *(PointsPosted, AlarmSet, EveryoneLeft, TagEnrolled, TagRemoved, CardTierChanged, TierReviewed),
    *(BirthdayCame, SchedulesMoved),
    *(CodeIssued, CodeGranted, CodeWithdrawn, CouponUseBegan, BillBegan, RedemptionChanged),
    *(RulesApplied, EffectRequested, RuleUnitsReturned),
)


class RequestCheck:
    """`requests`: a fact answers a request (id and fingerprint) or another fact caused it (neither)."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def take(self, fact: Fact, place: str) -> None:
        """The next fact."""
        if bool(fact.request_id) != (len(fact.fingerprint) == FINGERPRINT_BYTES):
            self._findings.add("requests", f"{place}: request id {fact.request_id!r} with {fact.fingerprint!r}")
        if not fact.request_id and not isinstance(fact, _CAUSED):
            self._findings.add("requests", f"{place}: a {type(fact).__name__} answers no request")
        if isinstance(fact, CommandRefused) and fact.reason not in COMMAND_REASONS:
            self._findings.add("requests", f"{place}: refused for {fact.reason!r}, which is no known reason")


_OTHER = {"points": "wallet", "wallet": "points"}


class _Book(msgspec.Struct):
    """A card's ledger: amounts by entry (0-based), what each award earned on which day and where, what was reversed.
    `balances` are those of points and wallet, `day` is that of the latest entry."""

    amounts: array[int]
    kinds: bytearray
    days: array[int]
    events: dict[int, str]
    reversed: set[int]
    balances: dict[str, int]
    in_lots: int = 0
    held: int = 0
    day: int = 0


class Score(msgspec.Struct, gc=False):
    """Points earned and the position at which that score was reached."""

    earned: int = 0
    reached: int = 0
    position: int = 0


_KINDS: tuple[EntryKind, ...] = get_args(EntryKind)
_GIVE: frozenset[EntryKind] = frozenset({"award", "top_up"})
_SPEND: frozenset[EntryKind] = frozenset({"redeem", "capture", "pay"})
# What time takes may go below an overdraft that was lowered meanwhile, and so may what was put aside before.
_BELOW_OVERDRAFT: frozenset[EntryKind] = frozenset({"expire", "capture"})


class LedgerCheck:
    """`ledger`: entries contiguous, balance = Σ amounts at every prefix and never below the overdraft; `reversals`:
    once, at most the original; `award_causes`: an award for a check-in cites one admitted scan of its own entry;
    `leaderboards`: the scores that facts carry are those of the history."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._settings: dict[str, TenantSettings] = {}
        self._overdraft_max: dict[str, int] = {}
        self._books: dict[TenantThing, _Book] = {}
        self._lots: dict[tuple[str, str, int], int] = {}
        # The admissions of the entry being read, with what they still have to be awarded.
        self._admitted: dict[TenantThing, tuple[ScanJudged, int]] = {}
        self.earned: dict[TenantThing, Score] = {}
        self.day_scores: dict[tuple[str, int, str], Score] = {}
        self.event_scores: dict[AttendanceKey, Score] = {}

    def begin_entry(self) -> None:
        """A new journal entry: what a scan caused is in the scan's own entry or nowhere."""
        for scan, left in self._admitted.values():
            if left:
                self._findings.add("award_causes", f"scan {scan.request_id} awarded {left} that no ledger entry has")
        self._admitted.clear()

    def take(self, fact: Fact, position: int, place: str) -> None:
        """The next fact."""
        if isinstance(fact, PointsPosted):
            self._posting(fact, position, place)
        elif isinstance(fact, ScanJudged):
            if not fact.reason:
                self._admitted[fact.tenant_id, fact.request_id] = (fact, fact.points_awarded)
            elif fact.points_awarded:
                self._findings.add("award_causes", f"{place} awards points without admitting")
        elif isinstance(fact, TenantOpened | TenantChanged):
            self._settings[fact.tenant_id] = fact.settings
            most = self._overdraft_max.get(fact.tenant_id, 0)
            self._overdraft_max[fact.tenant_id] = max(most, fact.settings.overdraft_max)

    def _posting(self, fact: PointsPosted, position: int, place: str) -> None:
        key = (fact.tenant_id, fact.card_id)
        book = self._books.get(key)
        if book is None:
            book = self._books[key] = _Book(array("q"), bytearray(), array("i"), {}, set(), {"points": 0, "wallet": 0})
        if fact.entry_seq != len(book.amounts) + 1:
            self._findings.add(
                "ledger", f"{place}: entry {fact.entry_seq} of {fact.card_id} follows {len(book.amounts)}"
            )
        before, other = book.balances[fact.account], book.balances[_OTHER[fact.account]]
        if (fact.balance_after, fact.other_after) != (before + fact.amount, other):
            self._findings.add(
                "ledger",
                f"{place}: {fact.card_id} has {fact.balance_after} and {fact.other_after} after {before} and {other}, "
                f"and {fact.amount} to its {fact.account}",
            )
        book.balances[fact.account] = fact.balance_after
        self._lots_of(fact, book, place)
        self._floor(fact, book, place)
        self._takings(fact, place)
        self._scores(fact, book, position, place)
        if fact.cause.startswith(("checkin:", "exit:")):
            self._cause(fact, place)
        book.amounts.append(fact.amount)
        book.kinds.append(_KINDS.index(fact.kind))
        book.days.append(fact.day)
        if fact.event_id:
            book.events[fact.entry_seq] = fact.event_id

    def _lots_of(self, fact: PointsPosted, book: _Book, place: str) -> None:
        for lot in fact.lots:
            key = (fact.tenant_id, fact.card_id, lot.lot)
            book.in_lots += lot.remaining - self._lots.get(key, 0)
            self._lots[key] = lot.remaining
            if lot.remaining < 0:
                self._findings.add("ledger", f"{place}: lot {lot.lot} of {fact.card_id} has {lot.remaining}")

    def _floor(self, fact: PointsPosted, book: _Book, place: str) -> None:
        if fact.account == "wallet":
            if fact.balance_after < 0:
                self._findings.add("ledger", f"{place}: the wallet of {fact.card_id} has {fact.balance_after}")
            return
        book.held += fact.held
        # A tenant may lower its overdraft while a card is below it; then only the expiry of lots goes on falling.
        now = self._settings.get(fact.tenant_id, TenantSettings()).overdraft_max
        floor = self._overdraft_max.get(fact.tenant_id, 0) if fact.kind in _BELOW_OVERDRAFT else now
        if fact.amount < 0 and fact.balance_after < -floor:
            self._findings.add("ledger", f"{place}: {fact.card_id} has {fact.balance_after}, the overdraft is {floor}")
        pool = fact.balance_after - book.in_lots - book.held
        if (fact.amount < 0 or fact.held > 0) and pool < -self._overdraft_max.get(fact.tenant_id, 0):
            self._findings.add(
                "ledger",
                f"{place}: {fact.card_id} has {book.in_lots} in lots and {book.held} held of {fact.balance_after}",
            )

    def _takings(self, fact: PointsPosted, place: str) -> None:
        if fact.kind in _GIVE or (fact.kind == "transfer" and fact.amount > 0):
            if fact.amount <= 0 or fact.takings:
                self._findings.add("ledger", f"{place}: an award of {fact.amount} that takes {fact.takings}")
            return
        # What is put aside leaves its lots, and comes back to them where it is not captured.
        wanted = -fact.amount if fact.amount else fact.held
        if sum(taking.amount for taking in fact.takings) != wanted:
            self._findings.add("ledger", f"{place}: takes {fact.takings} for {fact.amount}")

    def _day(self, fact: PointsPosted, book: _Book, earned: int, own: int) -> tuple[int, int]:
        """The day that the posting is of, and what it adds to that day's score: what was earned, or is taken back, on
        day `own` counts there while that is not frozen and the card remembers it."""
        settings = self._settings.get(fact.tenant_id, TenantSettings())
        oldest = add_days(book.day, -DAYS_REMEMBERED) if book.day else 0
        today = local_day(fact.at_ms, settings.time_zone)
        today = today if today >= oldest else book.day
        if earned and own >= max(oldest, local_day(fact.at_ms - settings.board_grace_ms, settings.time_zone)):
            return own, earned
        return today, max(0, earned)

    def _earned_day(self, fact: PointsPosted) -> int:
        """The day of the scan or birthday that an award is for, else of the award."""
        kind, _, of = fact.cause.partition(":")
        if kind == "birthday" and of.isdecimal():
            return int(of)
        zone = self._settings.get(fact.tenant_id, TenantSettings()).time_zone
        scan, _ = self._admitted.get((fact.tenant_id, of), (None, 0))
        is_late = scan is not None and scan.details is not None and scan.details.is_offline
        return local_day(scan.scanned_at_ms if scan is not None and is_late else fact.at_ms, zone)

    def _scores(self, fact: PointsPosted, book: _Book, position: int, place: str) -> None:
        """Adds what the posting earned, here and on its day, to the scores so far; compares with what the fact says."""
        earned, event_id, own = 0, "", 0
        if fact.kind == "award":
            earned, event_id, own = fact.amount, fact.event_id, self._earned_day(fact)
        elif fact.reverses and fact.kind == "reverse":
            original = self._original(fact, book, place)
            if original is not None:
                was_award, amount, own, event_id = original
                earned = -amount if was_award else 0
        day, on_day = self._day(fact, book, earned, own)
        book.day = max(book.day, fact.day)
        if fact.day != day:
            self._findings.add("leaderboards", f"{place}: of day {fact.day}, should be of {day}")
        total = self.earned.setdefault((fact.tenant_id, fact.card_id), Score())
        day_key = (fact.tenant_id, fact.day, fact.card_id)
        is_first = day_key not in self.day_scores
        today = self.day_scores.setdefault(day_key, Score())
        _score(total, earned, position)
        _score(today, on_day, position, is_first=is_first)
        expected: tuple[int, ...] = (total.earned, today.earned)
        said: tuple[int, ...] = (fact.earned_after, fact.day_earned_after)
        if fact.event_id:
            here = self.event_scores.setdefault((fact.tenant_id, fact.event_id, fact.card_id), Score())
            _score(here, earned if event_id == fact.event_id else 0, position, is_first=True)
            expected, said = (*expected, here.earned), (*said, fact.event_earned_after)
        if expected != said:
            self._findings.add(
                "leaderboards", f"{place}: scores of {fact.card_id} (all, day, event) are {said}, counted {expected}"
            )

    def _original(self, fact: PointsPosted, book: _Book, place: str) -> tuple[bool, int, int, str] | None:
        """Whether the reversed entry was an award, its amount, day and event."""
        index = fact.reverses - 1
        if not 0 <= index < len(book.amounts):
            self._findings.add("reversals", f"{place} ({fact.kind}) reverses entry {fact.reverses}, which is not there")
            return None
        kind, amount = _KINDS[book.kinds[index]], book.amounts[index]
        if kind not in _GIVE | _SPEND:
            self._findings.add("reversals", f"{place} reverses entry {fact.reverses}, which is of kind {kind}")
        if fact.reverses in book.reversed:
            self._findings.add("reversals", f"{place} reverses entry {fact.reverses} a second time")
        book.reversed.add(fact.reverses)
        is_given = kind in _GIVE
        if -fact.amount + (fact.short_by if is_given else 0) != amount or (is_given and fact.amount > 0):
            self._findings.add(
                "reversals",
                f"{place} posts {fact.amount}, short by {fact.short_by}, for entry {fact.reverses} of {amount}",
            )
        return kind == "award", amount, book.days[index], book.events.get(fact.reverses, "")

    def _cause(self, fact: PointsPosted, place: str) -> None:
        kind, _, scan_id = fact.cause.partition(":")
        key = (fact.tenant_id, scan_id)
        scan, left = self._admitted.get(key, (None, 0))
        if scan is None or (scan.direction == "entry") != (kind == "checkin"):
            self._findings.add("award_causes", f"{place} cites scan {key[1]}, which admits nobody in this entry")
        elif (scan.card_id, scan.event_id if kind == "checkin" else "") != (
            fact.card_id,
            fact.event_id,
        ) or fact.amount > left:
            self._findings.add("award_causes", f"{place} gives {fact.card_id} {fact.amount} for {scan}")
        else:
            self._admitted[key] = (scan, left - fact.amount)


def _score(score: Score, change: int, position: int, *, is_first: bool = False) -> None:
    score.earned += change
    score.position = position
    if change or is_first:
        score.reached = position
