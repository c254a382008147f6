"""Random histories of one partition, as the engine would journal them: facts that follow from the states they build on.

The author keeps the states with the actors' own `apply` and makes each fact from them, so a history is consistent but
not polite: scores come back to what they were, lots run dry and fill again, days jump, cards are issued and changed in
one entry.
"""

from __future__ import annotations

from random import Random

import msgspec

from actors.accounts import contra_of
from actors.card import Card
from actors.card_facts import (
    CardReissued,
    CardRenewed,
    CardTierChanged,
    TagAssigned,
    TagEnrolled,
    TagRemoved,
    TierReviewed,
    tag_id_of,
)
from actors.codec import encode_facts
from actors.door_facts import AdmissionListChanged, CardNoted, EveryoneLeft, QuestionsAnswered, ScanAnnulled
from actors.entry import Entry, Mark, sealed
from actors.event import attendance_key
from actors.facts import (
    CardHolderRenamed,
    CardIssued,
    CardStateChanged,
    CommandRefused,
    EventChanged,
    EventCreated,
    Fact,
    PointsPosted,
    ScanDetails,
    ScanJudged,
    TenantChanged,
    TenantOpened,
)
from actors.ids import position_of
from actors.member_facts import BirthdayCame, CardHolderDescribed, MemberFact
from actors.profiles import NO_PROFILE, Profile
from actors.schedule_facts import Round, RuleDue, Schedules, SchedulesMoved
from actors.terms import (
    FAR_MS,
    POOL,
    Account,
    EarnedDay,
    EntryKind,
    EventTerms,
    Gate,
    Lot,
    Taking,
    TenantSettings,
    Zone,
)
from actors.visits import Visits, admitted, taken_back
from rules.model import Rule
from storage.replay import WorldState
from tests.support.coupon_histories import coupon_fact
from tests.support.rule_facts import rule_fact

START_MS = 1_700_000_000_000
FINGERPRINT = b"\x00\x01finger"
TENANTS = ("org_A", "org_B")
TEXTS = ("", "Nguyễn Thị Ánh", 'a "quoted" \\ {braces}, NULL', "日本\n\t", "🎟️")


def card_issued(tenant_id: str, card_id: str, name: str) -> CardIssued:
    return CardIssued(tenant_id, f"request {card_id}", FINGERPRINT, START_MS, card_id, "mem_1", name, "gold")


class Author:
    """Writes entries of random facts; `world` is the state they lead to, `mark` the last entry's place."""

    def __init__(self, seed: int, tenants: tuple[str, ...] = TENANTS) -> None:
        self.random = Random(seed)
        self.world = WorldState()
        self.mark = Mark()
        self.positions: dict[tuple[str, str], tuple[Fact, int]] = {}
        self.postings: dict[tuple[str, str, int], PointsPosted] = {}
        self.ordered_postings: list[tuple[PointsPosted, int]] = []
        self.reversed: set[tuple[str, str, int]] = set()
        self._tenants = tenants
        self._epoch = 1
        self._requests = 0
        self._at_ms = START_MS

    def entry(self, fact_count: int) -> Entry:
        """The next entry; now and then one that opens a new epoch, without facts."""
        seq = self.mark.seq + 1
        facts: list[Fact] = []
        if seq == 1 or self.random.random() < 0.05:
            self._epoch += seq > 1
        else:
            while len(facts) < fact_count:
                fact = self._fact()
                self._record(fact, position_of(seq, len(facts)))
                facts.append(fact)
        self._at_ms += self.random.randrange(100)
        entry = sealed(self.mark.checksum, self._epoch, seq, self._at_ms, encode_facts(facts))
        self.mark = Mark(entry.epoch, entry.seq, entry.checksum)
        return entry

    def entries(self, count: int, facts_max: int = 12) -> list[Entry]:
        return [self.entry(self.random.randrange(facts_max + 1)) for _ in range(count)]

    def _record(self, fact: Fact, position: int) -> None:
        self.world.apply(fact, position)
        if fact.request_id:
            self.positions[fact.tenant_id, fact.request_id] = (fact, position)
        if isinstance(fact, PointsPosted):
            self.postings[fact.tenant_id, fact.card_id, fact.entry_seq] = fact
            self.ordered_postings.append((fact, position))
            if fact.reverses:
                self.reversed.add((fact.tenant_id, fact.card_id, fact.reverses))

    def _request_id(self) -> str:
        self._requests += 1
        return f"request-{self._requests}"

    def _fact(self) -> Fact:
        """A fact about one of few actors, so that they meet often; what it needs is created first."""
        random = self.random
        tenant_id = random.choice(self._tenants)
        if tenant_id not in self.world.tenants:
            return TenantOpened(tenant_id, self._request_id(), FINGERPRINT, self._at_ms, "First", self._settings())
        card_id, event_id = f"card_{random.randrange(6)}", f"evt_{random.randrange(2)}"
        if (tenant_id, card_id) not in self.world.cards:
            return self._issue(tenant_id, card_id)
        if (tenant_id, event_id) not in self.world.events:
            return EventCreated(
                tenant_id, self._request_id(), FINGERPRINT, self._at_ms, event_id, self._terms(event_id)
            )
        kind = random.choices(
            ("scan", "points", "card", "event", "tenant", "refused", "door", "life", "coupon", "rule", "member"),
            (45, 35, 5, 5, 2, 8, 8, 12, 40, 12, 6),
        )[0]
        return {
            "coupon": lambda: self._coupon(tenant_id, card_id),
            "scan": lambda: self._scan(tenant_id, event_id, card_id),
            "points": lambda: self._points(tenant_id, event_id, card_id),
            "card": lambda: self._card_state(tenant_id, card_id),
            "event": lambda: EventChanged(
                tenant_id, self._request_id(), FINGERPRINT, self._at_ms, event_id, self._terms(random.choice(TEXTS))
            ),
            "tenant": lambda: TenantChanged(
                tenant_id,
                self._request_id(),
                FINGERPRINT,
                self._at_ms,
                random.choice(TEXTS),
                self._settings(),
            ),
            "rule": lambda: rule_fact(
                random,
                self.world.tenants[tenant_id],
                self.world.cards[tenant_id, card_id],
                (tenant_id, self._request_id(), FINGERPRINT, self._at_ms),
            ),
            "life": lambda: self._life(tenant_id, card_id),
            "member": lambda: self._member(tenant_id, card_id),
            "door": lambda: self._door(tenant_id, event_id, card_id),
            "refused": lambda: CommandRefused(
                *(tenant_id, self._request_id(), FINGERPRINT, self._at_ms),
                *("RedeemPoints", card_id, "insufficient_points", random.choice(TEXTS)),
            ),
        }[kind]()

    def _coupon(self, tenant_id: str, card_id: str) -> Fact:
        request_id, text = self._request_id(), self.random.choice(TEXTS)
        return coupon_fact(self.random, self.world, tenant_id, card_id, request_id, self._at_ms, text)

    def _cards_after(self, tenant_id: str, change: int) -> int:
        """Now and then as the first release wrote it, without a count."""
        return -1 if self.random.random() < 0.1 else max(0, self.world.tenants[tenant_id].cards + change)

    def _settings(self) -> TenantSettings:
        rules = tuple(
            Rule(f"rule_{n}", self.random.randrange(9), self.random.choice(TEXTS), "checkin", 10) for n in range(2)
        )
        return TenantSettings(
            "Asia/Ho_Chi_Minh", self.random.randrange(100), rules, self.random.choice(("free", "premium"))
        )

    def _terms(self, name: str) -> EventTerms:
        zones: tuple[Zone, ...] = ()
        if self.random.random() < 0.5:
            zones = (Zone("zone_1", self.random.choice(TEXTS), 5), Zone("zone_2", ""))
        gates = tuple(Gate(f"gate_{n}", self.random.choice(TEXTS)) for n in range(self.random.randrange(3)))
        return EventTerms(name, 10_000_000, doors_open_ms=self.random.choice((0, START_MS)), gates=gates, zones=zones)

    def _issue(self, tenant_id: str, card_id: str) -> CardIssued:
        cards_after = self._cards_after(tenant_id, 1)
        return CardIssued(
            *(tenant_id, self._request_id(), FINGERPRINT, self._at_ms, card_id, f"mem_{card_id}"),
            member_name=self.random.choice(TEXTS),
            tier=self.random.choice(("bronze", "gold", "diamond")),
            valid_until_ms=self.random.choice((0, 2_000_000_000_000)),
            cards_after=cards_after,
            number=self.world.tenants[tenant_id].issued + 1 if cards_after >= 0 else 0,
            profile=self.random.choice((NO_PROFILE, Profile(521, 1990, '{"vip":true}'))),
            birthday_on=20_270_521,
            birthday_due_ms=START_MS,
        )

    def _life(self, tenant_id: str, card_id: str) -> Fact:
        """What becomes of a card; and whose an NFC tag is."""
        random = self.random
        head = (tenant_id, self._request_id(), FINGERPRINT, self._at_ms, card_id)
        card = self.world.cards[tenant_id, card_id]
        uid = f"04{random.randrange(3):012X}"
        tag = self.world.actors["tag"].get((tenant_id, tag_id_of(tenant_id, uid)))
        kind = random.randrange(5)
        if kind == 0:
            return CardReissued(*head, card.serial + 1, card.state, random.choice(TEXTS))
        if kind == 1:
            return CardRenewed(*head, random.choice((0, START_MS)), random.choice((0, 2_100_000_000_000)))
        if kind == 2:
            tier = random.choice(("silver", "platinum"))
            if random.random() < 0.4:
                return TierReviewed(*head, tier, 40, random.choice((0, START_MS)), START_MS)
            told = (50, random.choice((0, START_MS)), random.random() < 0.5, random.choice((0, START_MS)))
            return CardTierChanged(*head, tier, card.tier, "manual", random.choice(TEXTS), "", "", *told)
        if card.tag_uid:
            removed = self.world.actors["tag"][tenant_id, tag_id_of(tenant_id, card.tag_uid)]
            return TagRemoved(*head, card.tag_uid, removed.counter)
        if tag is None:
            return TagEnrolled(tenant_id, "", b"", self._at_ms, "", uid, 0)
        if not tag.card_id:
            return TagAssigned(*head, uid, tag.counter)
        return CardReissued(*head, card.serial + 1, card.state)

    def _member(self, tenant_id: str, card_id: str) -> MemberFact | SchedulesMoved:
        """What rules may know of a card's holder, a birthday that comes, and rules that are scheduled."""
        random, on = self.random, self.random.choice((0, 20_270_228))
        head = (tenant_id, self._request_id(), FINGERPRINT, self._at_ms, card_id)
        if random.random() < 0.2:
            walk = random.choice((None, Round(START_MS, ("rule_1", "rule_2"), card_id)))
            schedules = Schedules((RuleDue("rule_1", START_MS),), walk)
            return SchedulesMoved(tenant_id, "", b"", self._at_ms, schedules)
        if random.random() < 0.5:
            caused = (tenant_id, "", b"", self._at_ms, card_id)
            return BirthdayCame(*caused, random.choice((0, 20_260_228)), on, START_MS if on else 0)
        attributes = random.choice(("", '{"city":"Huế","likes":["\\"jazz\\""]}'))
        return CardHolderDescribed(*head, Profile(random.choice((0, 229)), 0, attributes), on, START_MS if on else 0)

    def _card_state(self, tenant_id: str, card_id: str) -> CardStateChanged | CardHolderRenamed:
        if self.random.random() < 0.3:
            name = self.random.choice(TEXTS)
            return CardHolderRenamed(tenant_id, self._request_id(), FINGERPRINT, self._at_ms, card_id, name)
        state = self.random.choice(("active", "suspended", "revoked"))
        is_freed = state == "revoked" and self.world.cards[tenant_id, card_id].state != "revoked"
        count = self._cards_after(tenant_id, -is_freed)
        return CardStateChanged(tenant_id, self._request_id(), FINGERPRINT, self._at_ms, card_id, state, "", count)

    def _scan(self, tenant_id: str, event_id: str, card_id: str) -> ScanJudged:
        random = self.random
        event = self.world.events[tenant_id, event_id]
        card = self.world.cards[tenant_id, card_id]
        session_id = random.choice(("", "", "", "ses_1", "ses_2"))
        attendance = event.attendance.get(attendance_key(card_id, session_id))
        is_inside, entries = (attendance.is_inside, attendance.entries) if attendance else (False, 0)
        is_exit = random.random() < 0.3
        reason = random.choice(("", "", "", "gate_closed", "credential_invalid"))
        if not is_exit and is_inside and not reason:
            reason = "already_admitted"
        if not reason:
            is_inside, entries = not is_exit, entries + (not is_exit)
        came_in = not reason and not is_exit
        went_out = not reason and is_exit and attendance is not None and attendance.is_inside
        first = attendance if reason == "already_admitted" else None
        details = self._details(session_id) if session_id or random.random() < 0.3 else None
        if card.tag_uid and random.random() < 0.5:
            counter = self.world.actors["tag"][tenant_id, tag_id_of(tenant_id, card.tag_uid)].counter
            details = msgspec.structs.replace(
                details or ScanDetails(session_id=session_id), tag_uid=card.tag_uid, tag_counter=counter + 3
            )
        return ScanJudged(
            *(tenant_id, self._request_id(), FINGERPRINT, self._at_ms),
            *(event_id, card_id, f"gate_{random.randrange(3)}", f"dev_{random.randrange(3)}"),
            *("exit" if is_exit else "entry", self._at_ms - random.randrange(1000), reason),
            *(card.member_id, card.member_name, card.tier),
            *(event.inside + came_in - went_out, event.admitted + came_in, event.refused + bool(reason)),
            *(event.terms.capacity, is_inside, entries, 10 if came_in else 0, card.balance),
            *((first.admitted_at_ms, first.gate_id, first.device_id) if first else (0, "", "")),
            random.choice((0, 0, card.entry_count)),
            details,
            *self._visit(card, event_id, came_in),
        )

    def _visit(self, card: Card, event_id: str, came_in: bool) -> tuple[Visits | None, int]:
        if not came_in:
            return None, 0
        day = self.random.choice((20_261_119, 20_261_121, 20_261_122))
        visits, is_new = admitted(card.visits, day, event_id)
        return visits, day if is_new else 0

    def _details(self, session_id: str) -> ScanDetails:
        random = self.random
        zone_id, left_zone_id = random.choice(("", "zone_1", "zone_2")), random.choice(("", "zone_1"))
        is_offline = random.random() < 0.4
        return ScanDetails(
            *(zone_id, random.randrange(5), left_zone_id, random.randrange(5), random.random() < 0.2, session_id),
            *(is_offline, random.choice(("", "full")), random.random() < 0.7, random.random() < 0.7),
            *(random.choice(("", "card_expired")), "acc_1", random.choice(TEXTS), random.choice(TEXTS), ("q_1",)),
        )

    def _door(self, tenant_id: str, event_id: str, card_id: str) -> Fact:
        random = self.random
        head = (tenant_id, self._request_id(), FINGERPRINT, self._at_ms)
        event = self.world.events[tenant_id, event_id]
        kind = random.randrange(6)
        if kind == 0 and card_id in event.attendance:
            counts = (event.inside, event.admitted, event.attendance[card_id].entries, random.random() < 0.5)
            zones = (random.choice(("", "zone_1")), 1, random.choice(("", "zone_2")), 2)
            scan = (f"scan-{self._requests}", "dev_1", *counts, "", *zones)
            visits = taken_back(self.world.cards[tenant_id, card_id].visits, 20_261_121, event_id)
            return ScanAnnulled(*head, event_id, card_id, *scan, visits, 20_261_121 if visits is not None else 0)
        if kind == 1:
            cause = head if random.random() < 0.5 else (tenant_id, "", b"", self._at_ms)
            return EveryoneLeft(*cause, event_id, self._at_ms, event.inside, random.choice(("", "ses_1", "ses_2")))
        if kind == 2:
            return AdmissionListChanged(*head, event_id, (card_id, "card_x"), (), 2)
        if kind == 3:
            return AdmissionListChanged(*head, event_id, (), (card_id,), 1)
        if kind == 4:
            return QuestionsAnswered(*head, event_id, card_id, (("q_1", random.choice(TEXTS)),), ("q_1", "q_2"))
        return CardNoted(*head, card_id, random.choice(TEXTS))

    def _points(self, tenant_id: str, event_id: str, card_id: str) -> PointsPosted:
        """Any posting a ledger could hold; scores move by -5, 0 or 5, so that they often come back to where they
        were."""
        random = self.random
        card = self.world.cards[tenant_id, card_id]
        seq = card.entry_count + 1
        amount = random.choice((-5, -5, 5, 5, 10))
        earned, day_earned = random.choice((-5, 0, 0, 5, 5)), random.choice((-5, 0, 0, 5, 5))
        day = random.choice((0, 20_261_121, 20_261_122))
        at_event = event_id if random.random() < 0.5 else ""
        here = self.world.events[tenant_id, event_id].attendance.get(card_id)
        lots = self._lots(card.lots, seq)
        takings = tuple(Taking(lot.lot, 5) for lot in lots)
        reverses, held, due_ms = 0, 0, 0
        account: Account = random.choice(("points", "points", "wallet"))
        kind: EntryKind = random.choice(("award", "redeem", "expire") if account == "points" else ("top_up", "pay"))
        holds = [hold.hold for hold in card.holds]
        candidates = [n for n in range(1, seq) if (tenant_id, card_id, n) not in self.reversed and n not in holds]
        dice = random.random()
        if dice < 0.2 and candidates:
            kind, reverses = "reverse", random.choice(candidates)
        elif dice < 0.3:
            takings = (Taking(POOL, 5), *takings)
            kind, amount, held, due_ms = "hold", 0, 5 * len(takings), self._at_ms + 1
        elif dice < 0.4 and card.holds:
            hold = random.choice(card.holds)
            kind, account, reverses, held = random.choice(("capture", "lapse")), hold.account, hold.hold, -hold.held
            due_ms, amount = hold.lapses_at_ms, -5 if kind == "capture" else 0
        points, wallet = (amount, 0) if account == "points" else (0, amount)
        after = (card.balance + points, card.wallet + wallet)
        return PointsPosted(
            *(tenant_id, random.choice(("", self._request_id())), FINGERPRINT, self._at_ms, card_id, card.member_name),
            *(seq, kind, amount, after[account == "wallet"], "request", random.choice(TEXTS), "rule_1@2", at_event),
            *(day, card.earned + earned, (card.day_earned if card.day == day else 0) + day_earned),
            (here.earned if here else 0) + random.choice((-5, 0, 5)) if at_event else 0,
            *(lots, takings, reverses, random.choice((0, 3))),
            *(account, after[account == "points"], self._contra_after(tenant_id, account, kind, amount), held, due_ms),
            earned_on=self._earned_on(),
        )

    def _earned_on(self) -> EarnedDay | None:
        """One of the days is too long ago to be remembered beside the others."""
        day = self.random.choice((0, 20_241_101, 20_261_120, 20_261_122))
        return EarnedDay(day, self.random.choice((0, 5, 40))) if day else None

    def _contra_after(self, tenant_id: str, account: Account, kind: EntryKind, amount: int) -> int | None:
        """Now and then as it was before there were such accounts."""
        if not amount or self.random.random() < 0.2:
            return None
        return self.world.tenants[tenant_id].accounts.get(contra_of(account, kind, amount), 0) - amount

    def _lots(self, present: tuple[Lot, ...], seq: int) -> tuple[Lot, ...]:
        """Some of the card's lots used up or filled, and perhaps a new one."""
        changed = [
            Lot(lot.lot, self.random.choice((0, 5, 7)), lot.expires_at_ms, self.random.choice((0, FAR_MS)))
            for lot in present
            if self.random.random() < 0.5
        ]
        if self.random.random() < 0.3:
            changed.append(Lot(seq, 5, START_MS + self.random.randrange(3)))
        return tuple(changed)
