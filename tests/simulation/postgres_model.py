"""A model of Postgres as the projector writes it and partitions read it, and of projectors that crash anywhere.

Rows are written from the values in the facts, without the production code's `apply`, so that a wrong `apply` and a
wrong fact both show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from actors.accounts import contra_of
from actors.board_facts import BoardPaidOut
from actors.card import Card
from actors.card_facts import (
    CardReissued,
    CardRenewed,
    CardTierChanged,
    TagAssigned,
    TagEnrolled,
    TagRemoved,
    TierReviewed,
)
from actors.codec import decode_facts
from actors.coupon_facts import CouponFact
from actors.door_facts import AdmissionListChanged, CardNoted, EveryoneLeft, QuestionsAnswered, ScanAnnulled
from actors.entry import Entry, Mark
from actors.event import Attendance, Event
from actors.facts import (
    AlarmSet,
    CardHolderRenamed,
    CardIssued,
    CardStateChanged,
    EventChanged,
    EventCreated,
    Fact,
    PointsPosted,
    ScanDetails,
    ScanJudged,
    TenantChanged,
    TenantOpened,
)
from actors.ids import claimed_ahead_ms, position_of
from actors.member_facts import BirthdayCame, CardHolderDescribed
from actors.ports import Alarm, BoardScore, LedgerEntry, Loaded, LoadRequest, OtherActor
from actors.rule_facts import RuleDeleted, RulesApplied, RuleSaved, RuleUnitsReturned
from actors.schedule_facts import SchedulesMoved
from actors.seldom import seldom_of
from actors.tag import Tag
from actors.tenant import Tenant
from actors.terms import FAR_MS, EarnedDay, Hold, Lot
from actors.visits import NO_VISITS
from tests.simulation.journal_model import JournalModel
from tests.simulation.postgres_boards import BoardRows
from tests.simulation.postgres_coupons import CouponTables
from tests.simulation.postgres_members import member_of, write_member
from tests.simulation.postgres_rules import RuleTables
from tests.simulation.world import World

READ_MAX = 4
# As small as everything else in this world, so that clocks get there within a seed.
CLOCK_AHEAD_MS_MAX = 200


class PostgresModel:
    """The tables of one partition."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.position = Mark()
        self.is_away = False
        self.tenants: dict[str, tuple[Any, ...]] = {}
        self.cards: dict[tuple[str, str], dict[str, Any]] = {}
        self.lots: dict[tuple[str, str], dict[int, tuple[int, int, int]]] = {}
        self.holds: dict[tuple[str, str], dict[int, Hold]] = {}
        # By tenant and account: balance, position.
        self.accounts: dict[tuple[str, str], tuple[int, int]] = {}
        self.events: dict[tuple[str, str], dict[str, Any]] = {}
        self.attendance: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self.board_rows = BoardRows()
        self.tags: dict[tuple[str, str], tuple[str, int, int]] = {}
        # By tenant and rule: the definition (None: deleted), the points given; by card its uses. With positions.
        self.rules = RuleTables()
        self.requests: dict[tuple[str, str], tuple[Fact, int]] = {}
        self.claims: dict[str, int] = {}
        self.ledger: dict[tuple[str, str, int], PointsPosted] = {}
        self.reversed: dict[tuple[str, str, int], str] = {}
        self.alarms: dict[tuple[str, str, str], int] = {}
        self.coupons = CouponTables()

    def outage(self, length_ms: int) -> None:
        """Nobody is answered for a while."""
        self._world.trace("postgres is away")
        self._world.note("postgres outage")
        self.is_away = True

        def back() -> None:
            self.is_away = False

        self._world.after(length_ms, back)

    def commit(self, before: Mark, entries: Sequence[Entry]) -> bool:
        """One transaction: rows and position together, if the position is still `before`."""
        if self.position != before:
            self._world.note("belated projector refused")
            return False
        self.write_rows(entries)
        last = entries[-1]
        self.position = Mark(last.epoch, last.seq, last.checksum)
        return True

    def write_rows(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            for index, fact in enumerate(decode_facts(entry)):
                self._write(fact, position_of(entry.seq, index))

    def _write(self, fact: Fact, position: int) -> None:
        if fact.request_id:
            assert (fact.tenant_id, fact.request_id) not in self.requests, "requests has a primary key"
            self.requests[fact.tenant_id, fact.request_id] = (fact, position)
            claimed_ms = claimed_ahead_ms(fact.request_id, fact.at_ms, CLOCK_AHEAD_MS_MAX)
            if claimed_ms:
                self.claims[fact.tenant_id] = max(claimed_ms, self.claims.get(fact.tenant_id, 0))
        match fact:
            case TenantOpened():
                self.tenants[fact.tenant_id] = (fact.name, fact.settings, 0, position, 0)
            case TenantChanged():
                _, _, cards, _, issued = self.tenants[fact.tenant_id]
                self.tenants[fact.tenant_id] = (fact.name, fact.settings, cards, position, issued)
            case CardIssued():
                self._write_cards_after(fact, position)
                self.cards[fact.tenant_id, fact.card_id] = {
                    "who": (fact.member_id, fact.member_name, fact.tier, fact.valid_from_ms, fact.valid_until_ms),
                    "state": "active",
                    "points": (0, 0, 0, 0),
                    "wallet": 0,
                    "day": (0, 0, 0),
                    "position": position,
                    "number": fact.number,
                    "issued": fact.at_ms,
                    "profile": fact.profile,
                    "birthday": (fact.birthday_on, fact.birthday_due_ms),
                }
            case CardStateChanged():
                self._write_cards_after(fact, position)
                self.cards[fact.tenant_id, fact.card_id].update(state=fact.state, position=position)
            case CardReissued() | CardRenewed() | CardTierChanged() | TierReviewed():
                self._write_card(fact, position)
            case TagAssigned() | TagRemoved() | TagEnrolled():
                self._write_card(fact, position)
            case CardHolderRenamed():
                card = self.cards[fact.tenant_id, fact.card_id]
                card["who"] = (card["who"][0], fact.member_name, *card["who"][2:])
                card["position"] = position
            case CardHolderDescribed() | BirthdayCame():
                write_member(self.cards[fact.tenant_id, fact.card_id], fact, position)
            case EventCreated():
                self.events[fact.tenant_id, fact.event_id] = {
                    "terms": fact.terms,
                    "counts": (0, 0, 0),
                    "position": position,
                    "zones": {},
                    "session": "",
                    "left_ms": 0,
                    "listed": set(),
                }
            case EventChanged():
                self.events[fact.tenant_id, fact.event_id].update(terms=fact.terms, position=position)
            case ScanJudged():
                self._write_scan(fact, position)
            case PointsPosted():
                self._write_points(fact, position)
            case CardNoted():
                self.cards[fact.tenant_id, fact.card_id].update(attention=fact.attention, position=position)
            case ScanAnnulled() | EveryoneLeft() | AdmissionListChanged() | QuestionsAnswered():
                self._write_doors(fact, position)
            case _ if isinstance(fact, CouponFact):
                self.coupons.write(fact, position)
            case BoardPaidOut():
                self.board_rows.pay_out(fact, position)
            case RuleSaved() | RuleDeleted() | RulesApplied() | RuleUnitsReturned():
                self._write_rules(fact, position)
            case SchedulesMoved():
                self.rules.write_schedules(fact, position)
            case AlarmSet():
                self.alarms[fact.tenant_id, fact.kind, fact.entity_id] = fact.wake_ms

    def _write_cards_after(self, fact: CardIssued | CardStateChanged, position: int) -> None:
        name, settings, _, _, issued = self.tenants[fact.tenant_id]
        issued = fact.number if isinstance(fact, CardIssued) else issued
        self.tenants[fact.tenant_id] = (name, settings, fact.cards_after, position, issued)

    def _write_card(self, fact: Any, position: int) -> None:
        if isinstance(fact, TagAssigned | TagRemoved | TagEnrolled):
            card_id = fact.card_id if isinstance(fact, TagAssigned) else ""
            self.tags[fact.tenant_id, fact.tag_uid] = (card_id, fact.counter, position)
            if isinstance(fact, TagEnrolled):
                return
        card = self.cards[fact.tenant_id, fact.card_id]
        card["position"] = position
        if isinstance(fact, CardReissued):
            card["serial"] = fact.serial
        elif isinstance(fact, CardRenewed):
            card["who"] = (*card["who"][:3], fact.valid_from_ms, fact.valid_until_ms)
        elif isinstance(fact, CardTierChanged):
            card["who"] = (*card["who"][:2], fact.tier, *card["who"][3:])
            card["tier_due"] = (fact.due_ms, fact.is_held)
        elif isinstance(fact, TierReviewed):
            card["tier_due"] = (fact.due_ms, False)
        else:
            card["tag"] = fact.tag_uid if isinstance(fact, TagAssigned) else ""

    def _write_rules(self, fact: Any, position: int) -> None:
        self.rules.write(fact, position)
        if isinstance(fact, RulesApplied | RuleUnitsReturned):
            self.cards[fact.tenant_id, fact.card_id]["position"] = position

    def _write_scan(self, fact: ScanJudged, position: int) -> None:
        key = (fact.tenant_id, fact.event_id)
        self.events[key].update(counts=(fact.inside, fact.admitted, fact.refused), position=position)
        if fact.details is not None and fact.details.tag_uid:
            told = fact.details
            self.tags[fact.tenant_id, told.tag_uid] = (fact.card_id, told.tag_counter, position)
        self._write_visits(fact, position)
        if fact.reason:
            return
        if not fact.member_id:
            return
        details = fact.details or ScanDetails()
        zones = self.events[key]["zones"]
        if details.left_zone_id:
            zones[details.left_zone_id] = details.left_zone_inside
        if details.zone_id:
            zones[details.zone_id] = details.zone_inside
        name = f"{fact.card_id}/{details.session_id}" if details.session_id else fact.card_id
        row = self.attendance.setdefault(key, {}).setdefault(name, {})
        row["is_inside"] = fact.card_inside
        seen_ms = fact.scanned_at_ms if details.is_offline else fact.at_ms
        if fact.direction == "entry":
            row["entries"] = fact.card_entries
            if details.is_latest_entry:
                row.update(admitted_at_ms=seen_ms, gate_id=fact.gate_id, device_id=fact.device_id)
        if details.is_latest:
            row.update(seen_ms=seen_ms, zone_id=details.zone_id)

    def _write_visits(self, fact: ScanJudged | ScanAnnulled, position: int) -> None:
        if fact.visits is not None:
            self.cards[fact.tenant_id, fact.card_id].update(visits=fact.visits, position=position)
            self.board_rows.write(fact, position)

    def _write_doors(self, fact: Any, position: int) -> None:
        key = (fact.tenant_id, fact.event_id)
        event, attendance = self.events[key], self.attendance.setdefault(key, {})
        event["position"] = position
        if isinstance(fact, ScanAnnulled):
            self._write_visits(fact, position)
            event["counts"] = (fact.inside, fact.admitted, event["counts"][2])
            for zone, people in ((fact.zone_id, fact.zone_inside), (fact.back_zone_id, fact.back_zone_inside)):
                if zone:
                    event["zones"][zone] = people
            row = attendance[f"{fact.card_id}/{fact.session_id}" if fact.session_id else fact.card_id]
            row.update(is_inside=fact.card_inside, entries=fact.card_entries, seen_ms=fact.at_ms)
            row["zone_id"] = fact.back_zone_id
            if not fact.card_inside:
                row.update(admitted_at_ms=0, gate_id="", device_id="")
        elif isinstance(fact, EveryoneLeft):
            event["counts"] = (0, *event["counts"][1:])
            event.update(zones=dict.fromkeys(event["zones"], 0), left_ms=fact.left_ms)
            event["session"] = fact.session_id or event["session"]
            for row in attendance.values():
                if row.get("is_inside"):
                    row.update(is_inside=False, zone_id="")
        elif isinstance(fact, AdmissionListChanged):
            event["listed"] = event["listed"].union(fact.added).difference(fact.removed)
        else:
            attendance.setdefault(fact.card_id, {})["answered"] = fact.answered

    def _write_points(self, fact: PointsPosted, position: int) -> None:
        key = (fact.tenant_id, fact.card_id)
        ledger_key = (*key, fact.entry_seq)
        assert ledger_key not in self.ledger, "the ledger has a primary key"
        self.ledger[ledger_key] = fact
        if fact.reverses:
            assert (*key, fact.reverses) not in self.reversed, "reversals have a unique index"
            self.reversed[*key, fact.reverses] = fact.kind
        card = self.cards[key]
        _, earned, earned_position, _ = card["points"]
        if earned != fact.earned_after:
            earned, earned_position = fact.earned_after, position
        points, wallet = (fact.balance_after, fact.other_after)[:: 1 if fact.account == "points" else -1]
        card["points"] = (points, earned, earned_position, fact.entry_seq)
        card["wallet"] = wallet
        self._write_accounts(fact, position)
        if fact.day >= card["day"][0] and (fact.day, fact.day_earned_after) != card["day"][:2]:
            card["day"] = (fact.day, fact.day_earned_after, position)
        card["position"] = position
        if fact.earned_on is not None:
            card.setdefault("earned_days", {})[fact.earned_on.day] = fact.earned_on.points
        self.board_rows.post(fact, position)
        for lot in fact.lots:
            self.lots.setdefault(key, {})[lot.lot] = (lot.expires_at_ms, lot.remaining, lot.available_from_ms)
        if fact.event_id:
            event_key = (fact.tenant_id, fact.event_id)
            self.events[event_key]["position"] = position
            row = self.attendance.setdefault(event_key, {}).setdefault(fact.card_id, {})
            row.update(earned=fact.event_earned_after, earned_position=position)

    def _write_accounts(self, fact: PointsPosted, position: int) -> None:
        if fact.contra_after is not None:
            drawn_on = contra_of(fact.account, fact.kind, fact.amount)
            self.accounts[fact.tenant_id, drawn_on] = (fact.contra_after, position)
        holds = self.holds.setdefault((fact.tenant_id, fact.card_id), {})
        if fact.held > 0:
            expiry = {lot.lot: lot.expires_at_ms for lot in fact.lots}
            parts = tuple(Lot(one.lot, one.amount, expiry.get(one.lot, FAR_MS)) for one in fact.takings)
            holds[fact.entry_seq] = Hold(fact.entry_seq, fact.account, fact.held, fact.due_ms, parts)
        elif fact.held:
            del holds[fact.reverses]

    # --- reading ----------------------------------------------------------------------------------------------------

    def load(self, request: LoadRequest) -> Loaded:
        """What is asked, from one snapshot."""
        return Loaded(
            self.position,
            {t: self.load_tenant(t) for t in request.tenants if t in self.tenants},
            {key: self.card(key) for key in request.cards if key in self.cards},
            {key: self.event(key) for key in request.events if key in self.events},
            {key: self.requests[key] for key in request.requests if key in self.requests},
            {
                key: LedgerEntry(self.ledger[key], self.reversed.get(key, ""))
                for key in request.ledger_entries
                if key in self.ledger
            },
            {key: self._board(*key) for key in request.boards},
            self._others(request),
            self._due(request.alarms_until_ms)[: request.alarms_max],
            {key: self._walk(*key) for key in request.walks},
        )

    def _others(self, request: LoadRequest) -> dict[OtherActor, Any]:
        tags = {(tag.tenant_id, tag.tag_id): tag for tag in map(self.tag, self.tags)}
        rows = {"tag": tags, "payout": self.board_rows.payouts}
        found = {
            key: rows[key[0]].get(key[1:]) if key[0] in rows else self.coupons.load(*key) for key in request.others
        }
        return {key: actor for key, actor in found.items() if actor is not None}

    def _walk(self, tenant_id: str, after: str, until_ms: int, count: int) -> tuple[str, ...]:
        own = [
            card_id for (owner, card_id), row in self.cards.items() if owner == tenant_id and row["issued"] <= until_ms
        ]
        return tuple(sorted(card_id for card_id in own if card_id > after)[:count])

    def _due(self, until_ms: int) -> tuple[Alarm, ...]:
        due = [Alarm(wake_ms, *key) for key, wake_ms in self.alarms.items() if 0 < wake_ms <= until_ms]
        return tuple(sorted(due))

    def load_tenant(self, tenant_id: str) -> Tenant:
        own = {name: row for (owner, name), row in self.accounts.items() if owner == tenant_id}
        balances = {name: balance for name, (balance, _) in own.items()}
        latest = max((position for _, position in own.values()), default=0)
        *told, issued = self.tenants[tenant_id]
        return Tenant(tenant_id, *told, balances, latest, issued, *self.rules.of(tenant_id))

    def card(self, key: tuple[str, str]) -> Card:
        row = self.cards[key]
        balance, earned, earned_position, entry_count = row["points"]
        lots = sorted((at_ms, lot, left, since) for lot, (at_ms, left, since) in self.lots.get(key, {}).items() if left)
        earned_days = tuple(EarnedDay(*day) for day in sorted(row.get("earned_days", {}).items()))
        return Card(
            *key,
            *row["who"],
            row["state"],
            balance,
            earned,
            earned_position,
            entry_count,
            *row["day"],
            tuple(Lot(lot, left, at_ms, since) for at_ms, lot, left, since in lots),
            row["wallet"],
            row["position"],
            row.get("serial", 0),
            row["number"],
            row.get("visits", NO_VISITS),
            row["issued"],
            self.board_rows.past_days(*key, row["day"][0]),
            seldom_of(
                *(row.get("attention", ""), row.get("tag", ""), self.rules.uses(key)),
                *row.get("tier_due", (0, False)),
                earned_days,
                *member_of(row),
                tuple(self.holds.get(key, {}).values()),
            ),
        )

    def tag(self, key: tuple[str, str]) -> Tag:
        return Tag(*key, *self.tags[key])

    def event(self, key: tuple[str, str]) -> Event:
        row = self.events[key]
        attendance = {card_id: Attendance(**seen) for card_id, seen in self.attendance.get(key, {}).items()}
        doors = (dict(row["zones"]), row["session"], row["left_ms"], set(row["listed"]))
        return Event(*key, row["terms"], *row["counts"], attendance, row["position"], *doors)

    def _board(self, tenant_id: str, board: str) -> list[BoardScore]:
        metric, _, window = board.partition("/")
        kind, _, key = window.partition(":")
        if metric != "points":
            names = {card_id: row["who"][1] for (tenant, card_id), row in self.cards.items() if tenant == tenant_id}
            return self.board_rows.board(tenant_id, metric, kind, key, names)
        if kind in ("day", "week", "month"):
            return self.board_rows.of_days(tenant_id, kind, key)
        cards = [(card_id, row) for (tenant, card_id), row in self.cards.items() if tenant == tenant_id]
        scores = []
        for card_id, row in cards:
            if kind == "all":
                _, score, reached, _ = row["points"]
            else:
                seen = self.attendance.get((tenant_id, key), {}).get(card_id, {})
                score, reached = seen.get("earned", 0), seen.get("earned_position", 0)
            if score > 0:
                scores.append(BoardScore(card_id, row["who"][1], score, reached))
        return scores


class Projector:
    """Reads the journal, writes rows, leaves the hint, trims; may die, or fall asleep, between any two steps."""

    def __init__(self, world: World, journal: JournalModel, postgres: PostgresModel) -> None:
        self._world = world
        self._journal = journal
        self._postgres = postgres
        self._after: Mark | None = None
        self.is_dead = False

    def start(self) -> None:
        self._next(self._read)

    def _next(self, step: Callable[[], None]) -> None:
        world = self._world
        if world.happens(world.faults.projector_crash):
            world.note("projector crashed")
            self._succeed(world.rng.choice((20, 200, 1_200)))
            return
        delay = world.rng.randint(1, 12)
        if world.happens(world.faults.projector_crash / 3):
            # Asleep between two steps, while a successor takes over: a zombie, which ends after this round.
            world.note("projector slept")
            delay = world.rng.randint(200, 900)
            self._succeed(30)
        world.after(delay, step)

    def _succeed(self, delay_ms: int) -> None:
        if not self.is_dead:
            self.is_dead = True
            self._world.after(delay_ms, Projector(self._world, self._journal, self._postgres).start)

    def _read(self) -> None:
        if self._after is None:
            if self._postgres.is_away:
                return self._again()
            self._after = self._postgres.position
            # The one before may have died between its commit and the hint, and nothing may ever come after that.
            self._journal.note_projected(self._after.seq)
        after = self._after
        entries = self._journal.read(after, READ_MAX)
        if isinstance(entries, str):
            self._after = None
            return self._again()
        if not entries:
            return self._again()
        self._next(lambda: self._commit(after, entries))
        return None

    def _commit(self, before: Mark, entries: list[Entry]) -> None:
        if self._postgres.is_away or not self._postgres.commit(before, entries):
            self._after = None
            return self._again()
        last = entries[-1]
        self._after = Mark(last.epoch, last.seq, last.checksum)
        if self._world.happens(self._world.faults.projector_crash):
            self._world.note("commit outcome unknown")
            self._after = None
            return self._again()
        mark = self._after
        self._next(lambda: self._note(mark))
        return None

    def _note(self, mark: Mark) -> None:
        self._journal.note_projected(mark.seq)
        self._next(lambda: self._trim(mark))

    def _trim(self, mark: Mark) -> None:
        self._journal.trim(mark)
        self._again()

    def _again(self) -> None:
        if not self.is_dead:
            self._world.after(self._world.rng.randint(5, 40), lambda: self._next(self._read))
