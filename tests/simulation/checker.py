"""The auditor: watches every durable entry, every reply and every live update, and knows the invariants.

- An entry is judged at the moment at which it becomes durable: chain, epochs, one effect per request, and each
  decision against the oracle's.
- A reply or update is judged at the moment at which it leaves: all that it tells must be durable by then.
- At the end, what hosts hold, what Postgres holds and what a full replay gives must be the same.

Numbers in the messages are those of design.md §3.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from actors.codec import decode_facts
from actors.commands import Command
from actors.coupon_commands import RedeemCoupon
from actors.coupon_facts import CouponFact
from actors.entry import Entry, Mark, is_intact
from actors.facts import AlarmSet, Fact, PointsPosted, ScanDetails
from actors.handlers import order_key
from actors.ids import position_of, seq_of
from actors.partition import Partition
from actors.points_commands import TransferPoints
from actors.queries import GetBoard, GetTopic, Query
from actors.refusals import ID_REUSED, UNAVAILABLE
from actors.replies import (
    BoardView,
    CardChanges,
    CardFeed,
    CardView,
    CouponView,
    Digest,
    Done,
    EventView,
    Failed,
    RedemptionView,
    Reply,
    TenantView,
    TopicData,
    TopicView,
)
from actors.terms import FAR_MS
from tests.simulation.boards_told import BoardsTold
from tests.simulation.conflicts_told import ConflictsTold
from tests.simulation.history import History
from tests.simulation.hosts import Token, Watcher
from tests.simulation.oracle import FREE_CARDS, Expected, Oracle
from tests.simulation.oracle_coupons import situation_of, told_of_coupon
from tests.simulation.plain import card_at, changed_cards, plain
from tests.simulation.postgres_model import CLOCK_AHEAD_MS_MAX
from tests.simulation.world import Violation, World

Key = tuple[str, str]
DOOR_FACTS = (
    *("EventCreated", "EventChanged", "ScanJudged", "ScanAnnulled", "EveryoneLeft", "AdmissionListChanged"),
    "QuestionsAnswered",
)
NOTED_DETAILS = (
    *("is_offline", "is_move", "conflict", "forced", "tag_uid", "left_zone_id", "session_id", "questions"),
    *("message", "condition_failure"),
)
CARD_FACTS = (
    *("CardHolderRenamed", "CardNoted", "CardReissued", "CardRenewed", "CardTierChanged", "TierReviewed"),
    *("TagAssigned", "TagRemoved", "CardHolderDescribed", "BirthdayCame"),
)
RULE_FACTS = ("RuleSaved", "RuleDeleted", "RulesApplied", "RuleUnitsReturned", "EffectRequested")


def check(holds: bool, message: str) -> None:
    """Raises `Violation` unless it holds."""
    if not holds:
        raise Violation(message)


class Checker(Watcher):
    """Knows all that was asked, all that is durable, and all that was told."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.oracle = Oracle()
        self.tail = Mark()
        self.commands: dict[Key, dict[bytes, Command]] = defaultdict(dict)
        self.facts: dict[int, Fact] = {}
        self.answers: dict[Key, tuple[Fact, int]] = {}
        self.first_told: set[Key] = set()
        self.opened_by: dict[int, int] = {}
        self.history: dict[Key, History] = defaultdict(History)
        self.boards = BoardsTold(self.oracle.boards)
        self.scans: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        self.updates: dict[tuple[int, str, str], dict[int, Any]] = defaultdict(dict)
        self.conflicts = ConflictsTold()
        self.topic_views: list[tuple[Token, TopicView]] = []
        self._told_order: dict[tuple[Any, str], tuple[int, int]] = {}
        self._inside: dict[str, int] = defaultdict(int)
        self.mailbox_max = 0
        self._resident: dict[Partition, tuple[int, set[str], set[str]]] = {}

    def asked(self, command: Command) -> None:
        """A client is about to send this."""
        self.commands[command.tenant_id, command.request_id][command.fingerprint] = command

    # --- what is written --------------------------------------------------------------------------------------------

    def on_written(self, entry: Entry) -> None:
        """An entry is durable."""
        check(entry.seq == self.tail.seq + 1, f"3: seq {entry.seq} follows {self.tail.seq}")
        check(entry.epoch >= self.tail.epoch, f"3: an entry of epoch {entry.epoch} after epoch {self.tail.epoch}")
        check(is_intact(self.tail.checksum, entry), f"5: entry {entry.seq} does not continue the chain")
        facts = decode_facts(entry)
        is_opening = entry.epoch > self.tail.epoch
        check(not (is_opening and facts), f"3: epoch {entry.epoch} opens with facts")
        if not facts and not is_opening:
            self._world.note("barrier")
        self.tail = Mark(entry.epoch, entry.seq, entry.checksum)
        index = 0
        while index < len(facts):
            index = self._take_command(entry, facts, index)

    def _take_command(self, entry: Entry, facts: list[Fact], index: int) -> int:
        first = facts[index]
        if isinstance(first, AlarmSet) and first.rang:
            return self._take_expected(
                entry, facts, index, self.oracle.woken(first.kind, first.entity_id, first.at_ms), first
            )
        answer = next((fact for fact in facts[index:] if fact.request_id), None)
        check(answer is not None, "9: facts that answer nobody")
        assert answer is not None
        key = (answer.tenant_id, answer.request_id)
        command = self.commands[key].get(answer.fingerprint)
        check(command is not None, f"11: nobody asked for {answer}")
        check(key not in self.answers, f"2: a second effect of request {key}: {answer}")
        return self._take_expected(entry, facts, index, self.oracle.decide(command, answer.at_ms), command)

    def _take_expected(
        self, entry: Entry, facts: list[Fact], index: int, expected: list[Expected], command: object
    ) -> int:
        found = facts[index : index + len(expected)]
        for offset, (kind, fields) in enumerate(expected):
            fact = found[offset] if offset < len(found) else None
            check(type(fact).__name__ == kind, f"8: {kind} expected, {fact} found, for {command}")
            said = {name: plain(name, getattr(fact, name)) for name in fields}
            check(said == fields, f"8: for {command}\n  expected {fields}\n  found    {said}")
            position = position_of(entry.seq, index + offset)
            self.facts[position] = fact
            if fact.request_id:
                self.answers[fact.tenant_id, fact.request_id] = (fact, position)
            self._take_fact(kind, fact, position)
        return index + len(expected)

    def _take_fact(self, kind: str, fact: Any, position: int) -> None:
        self._world.note(f"fact {kind}")
        tenant_id = fact.tenant_id
        self.boards.take(fact, position)
        if kind == "PointsPosted":
            self._take_points(fact, position)
            self.history["card", fact.card_id].add(position, self._card(fact.card_id))
            if fact.event_id:
                self.history["event", fact.event_id].add(position, (self._event(fact.event_id), position))
        elif kind in CARD_FACTS:
            if kind == "CardTierChanged":
                self._world.note(f"tier {fact.reason}")
            self.history["card", fact.card_id].add(position, self._card(fact.card_id))
        elif kind in ("CardIssued", "CardStateChanged"):
            self.history["card", fact.card_id].add(position, self._card(fact.card_id))
            self.history["tenant", tenant_id].add(position, self._tenant(tenant_id))
            if kind == "CardIssued" and fact.cards_after == FREE_CARDS:
                self._world.note("the last card of a plan")
        elif kind in DOOR_FACTS:
            if kind == "ScanJudged":
                self._world.note(f"scan {fact.reason or fact.direction}")
                self._take_scan(fact)
                self.scans[fact.event_id].append((position, fact.request_id, (fact.details or ScanDetails()).conflict))
            elif kind == "ScanAnnulled" and fact.visits is not None:
                self._world.note("visit taken back")
            self.history["event", fact.event_id].add(position, (self._event(fact.event_id), position))
        elif kind == "AlarmSet":
            self._world.note("alarm rang" if fact.rang else "alarm set")
        elif kind == "BoardPaidOut":
            self._world.note(f"paid out to {min(len(fact.winners), 1)}")
        elif kind == "TagEnrolled":
            pass  # seen from outside once it is a card's
        elif isinstance(fact, CouponFact):
            self._take_coupon(kind, fact, position)
        elif kind == "SchedulesMoved":
            pass  # nobody is shown it
        elif kind in RULE_FACTS:
            self._take_rules(kind, fact, position)
        elif kind in ("TenantOpened", "TenantChanged"):
            self.boards.define(tenant_id, self.oracle.tenants[tenant_id]["boards"])
            self.history["tenant", tenant_id].add(position, self._tenant(tenant_id))
        else:
            self._world.note(f"refused {fact.reason}")

    def _take_scan(self, fact: Any) -> None:
        details = fact.details or ScanDetails()
        full = max(fact.capacity, self._inside[fact.event_id]) if details.is_offline else fact.capacity
        if not details.is_offline and self._inside[fact.event_id] <= fact.capacity:
            check(fact.inside <= full, f"12: {fact.inside} inside, capacity {fact.capacity}")
        self._inside[fact.event_id] = fact.inside
        for name in NOTED_DETAILS:
            if getattr(details, name):
                self._world.note(f"scan {name}")
        if details.is_offline and not details.is_latest:
            self._world.note("scan uploaded late")
        if fact.visits is not None:
            is_late = 0 < fact.visit_day < fact.visits.day
            self._world.note(f"visit {'late' if is_late else 'made' if fact.visit_day else 'again'}")
            if fact.counts_as is not None:
                self._world.note(f"visit {'after the event' if ':' in fact.counts_as.event_id else 'of a frozen day'}")

    def _take_coupon(self, kind: str, fact: Any, position: int) -> None:
        own = {"CouponDefined": "coupon", "CodeIssued": "code", "CodeGranted": "code"}.get(kind)
        if own is not None:
            self.history[own, getattr(fact, f"{own}_id")].add(position, position)
        self._world.note(situation_of(fact))
        if kind in ("CouponRedeemed", "RedemptionChanged"):
            self.history["redemption", fact.redemption_id].add(position, self.oracle.coupons.state(fact.redemption_id))
        if hasattr(fact, "coupon_id") and kind not in ("CodeIssued", "CouponUseBegan"):
            self.history["coupon view", fact.coupon_id].add(position, self.oracle.coupons.view(fact.coupon_id))

    def _take_points(self, fact: Any, position: int) -> None:
        ledger = self.oracle.ledgers[fact.card_id]
        check(
            sum(entry["amount"] for entry in ledger[: fact.entry_seq] if entry["account"] == fact.account)
            == fact.balance_after,
            f"7: the balance of {fact.card_id} is not the sum of its ledger",
        )
        if fact.amount < 0 and (fact.account == "wallet" or fact.kind not in ("expire", "capture")):
            floor = 0 if fact.account == "wallet" else -self.oracle.tenants[fact.tenant_id]["overdraft_max"]
            check(fact.balance_after >= floor, f"8: {fact.card_id} at {fact.balance_after}, floor {floor}")
        if fact.kind == "reverse":
            self._note_reversal(ledger[fact.reverses - 1], fact)
        if fact.kind == "hold":
            self._world.note(f"held {fact.account}")
        self._world.note(f"points {fact.kind}")
        if fact.short_by:
            self._world.note("reversal short")

    def _take_rules(self, kind: str, fact: Any, position: int) -> None:
        if kind in ("RulesApplied", "RuleUnitsReturned"):
            self.history["card", fact.card_id].add(position, self._card(fact.card_id))
        if kind == "RuleUnitsReturned":
            self._world.note(f"units back from {fact.cause.partition(':')[0]}")
        if kind == "RulesApplied":
            self._world.note(f"rules at {fact.trigger}")
            self._world.note(f"rules at depth {fact.depth}")
            for failure in fact.failures:
                self._world.note(f"rule failed {failure.reason}")
            for step in fact.steps:
                if step.use is not None:
                    self._world.note("a rule with a limit")

    def _note_reversal(self, original: dict[str, Any], fact: PointsPosted) -> None:
        if original["kind"] == "capture":
            self._world.note("a capture reversed")
        spent_of = original["lots"] if fact.amount > 0 else {}
        if any(lot.expires_at_ms > spent_of.get(lot.lot, (FAR_MS,))[0] for lot in fact.lots):
            self._world.note("a lapsed lot came back")
        if fact.amount < 0 and any(lot.available_from_ms > fact.at_ms for lot in fact.lots):
            self._world.note("pending points taken back")

    def _card(self, card_id: str) -> dict[str, Any]:
        card = self.oracle.cards[card_id]
        told = {"tier": card["tier"], "serial": card["serial"], "tag_uid": card["tag"], "valid": card["valid"]}
        return {
            **told,
            "tier_due": card["tier_due"],
            "state": card["state"],
            "balance": card["points"],
            "wallet": card["wallet"],
            "earned": card["earned"],
            "entry_count": len(self.oracle.ledgers[card_id]),
            "lots": sorted((expires, lot, left, since) for lot, (expires, left, since) in card["lots"].items() if left),
            "holds": {key: (hold["account"], hold["amount"], hold["until"]) for key, hold in card["holds"].items()},
        }

    def _event(self, event_id: str) -> dict[str, Any]:
        event = self.oracle.events[event_id]
        counts = {name: event[name] for name in ("admitted", "refused")}
        return {"inside": self.oracle.inside(event_id), **counts, "terms": dict(event["terms"])}

    def _tenant(self, tenant_id: str) -> tuple[Any, ...]:
        tenant = self.oracle.tenants[tenant_id]
        rules = list(tenant["points"])
        told = (tenant["plan"], tenant["grace"], tenant["tiers"], tenant["boards"], tenant["board_grace"])
        settings = (tenant["time_zone"], tenant["overdraft_max"], rules, *told)
        return tenant["name"], settings, self.oracle.cards_in_force(tenant_id)

    # --- what is told -----------------------------------------------------------------------------------------------

    def received(self, token: Token, partition: Partition) -> None:
        """Remembers what the partition knew to be durable when it was asked."""
        token.seen_seq = min(partition.durable.seq, self.tail.seq)
        token.tail_seq = self.tail.seq

    def delivered(self, token: Token, reply: Reply, partition: Partition) -> None:
        """A reply leaves."""
        message = token.message
        self._world.note(f"reply {type(reply).__name__}{' ' + reply.code if isinstance(reply, Failed) else ''}")
        self._note_source(message, reply, partition)
        if isinstance(reply, Done):
            self._told_done(token, reply)
        elif isinstance(reply, Failed):
            self._told_failed(token, reply)
        else:
            self._told_view(token, message, reply)

    def _note_source(self, message: Any, reply: Reply, partition: Partition) -> None:
        """Which of the interesting ways led to a reply. (This looks into the partition; the checks never do.)"""
        if (isinstance(reply, Done) and reply.replayed) or (isinstance(reply, Failed) and reply.code == ID_REUSED):
            remembered = partition._requests.get((message.tenant_id, message.request_id))
            what = "replay" if isinstance(reply, Done) else "id_reused"
            self._world.note(f"{what} from {'memory' if remembered else 'Postgres'}")
        elif isinstance(reply, Done) and isinstance(reply.fact, PointsPosted) and reply.fact.reverses:
            entry = partition._recent.get(reply.fact.card_id, reply.fact.reverses)
            self._world.note(f"reversal of {'a recent' if entry else 'a forgotten'} entry")
        elif isinstance(reply, Failed) and reply.code == UNAVAILABLE:
            self._world.note("journal budget spent" if "journal" in reply.detail else "waited too long")

    def _told_done(self, token: Token, reply: Done) -> None:
        message: Any = token.message
        fact = self.facts.get(reply.position)
        check(fact is not None, f"1: told before it was durable: {reply}")
        check(fact == reply.fact, f"1: told {reply.fact}, durable is {fact}")
        key = (message.tenant_id, message.request_id)
        check((fact.tenant_id, fact.request_id) == key, f"11: {key} is told the outcome of {fact}")
        check(fact.fingerprint == message.fingerprint, f"2: another request's outcome under {key}")
        if reply.replayed:
            self._world.note("replayed")
            return
        check(key not in self.first_told, f"2: {key} was told twice that it was the first")
        self.first_told.add(key)
        # Among the commands of one actor that one life decided, the order is that of their arrival.
        order = (token.life, order_key(message))
        number, position = self._told_order.get(order, (-1, -1))
        in_order = (token.number < number) == (reply.position < position)
        check(in_order, f"5: the commands of {order[1]} changed places")
        if token.number > number:
            self._told_order[order] = (token.number, reply.position)

    def _told_failed(self, token: Token, reply: Failed) -> None:
        message: Any = token.message
        if reply.code == ID_REUSED:
            known = self.answers.get((message.tenant_id, message.request_id))
            check(known is not None and known[0].fingerprint != message.fingerprint, f"2: {message} reuses no id")
        elif reply.code.endswith("_unknown"):
            kind = reply.code.removesuffix("_unknown")
            kind = "code" if kind == "coupon" and isinstance(message, RedeemCoupon) else kind
            entity = str(getattr(message, f"{kind}_id", ""))
            if kind == "card" and isinstance(message, TransferPoints) and self._is_known(message, token):
                entity = message.to_card_id
            existed = self.history[kind, entity].positions if kind != "board" and entity else []
            known_seq = token.tail_seq if isinstance(message, Command) else token.seen_seq
            if not existed or seq_of(existed[0]) > known_seq:
                self._world.note(f"{reply.code} told")
                return
            tenant = self.oracle.cards.get(entity, self.oracle.events.get(entity, {})).get("tenant", message.tenant_id)
            tenant = self.oracle.coupons.owner(entity) or tenant
            check(tenant != message.tenant_id, f"1: {reply.code} for {message}, which existed")
            self._world.note("another tenant's entity is unknown")

    def _is_known(self, message: TransferPoints, token: Token) -> bool:
        """Whether the card that gives was there, so that it can only be the other that is not."""
        existed = self.history["card", message.card_id].positions
        owner = self.oracle.cards.get(message.card_id, {}).get("tenant")
        return bool(existed) and seq_of(existed[0]) <= token.tail_seq and owner == message.tenant_id

    def _told_view(self, token: Token, message: Any, reply: Reply) -> None:
        since = position_of(token.seen_seq + 1, 0) - 1
        if isinstance(reply, CardView):
            names = ("state", "balance", "wallet", "earned", "entry_count", "tier", "serial", "tag_uid")
            view = {name: getattr(reply, name) for name in names}
            view["valid"] = (reply.valid_from_ms, reply.valid_until_ms)
            view["lots"] = [(lot.expires_at_ms, lot.lot, lot.remaining, lot.available_from_ms) for lot in reply.lots]
            view["holds"] = {hold.hold: (hold.account, hold.held, hold.lapses_at_ms) for hold in reply.holds}
            check(self.oracle.cards[reply.card_id]["tenant"] == message.tenant_id, "11: another tenant's card")
            then = self.history["card", reply.card_id].since(since)
            over_ms = self._world.now_ms + CLOCK_AHEAD_MS_MAX  # hosts' clocks differ
            shown = [card_at(one, view, over_ms) for one in then]
            check(view in shown, f"1: undurable or outdated {view}")
        elif isinstance(reply, EventView):
            terms = {name: getattr(reply.terms, name) for name in reply.terms.__struct_fields__}
            counts = {name: getattr(reply, name) for name in ("inside", "admitted", "refused")}
            shown = ({**counts, "terms": terms}, reply.position)
            check(shown in self.history["event", reply.event_id].since(since), f"1: undurable or outdated {shown}")
        elif isinstance(reply, TenantView):
            rules = [(r.rule_id, r.version, r.points, r.once_per_event) for r in reply.settings.rules]
            told = reply.settings
            settings = (
                told.time_zone,
                told.overdraft_max,
                rules,
                told.plan,
                told.lapsed_grace_ms,
                told.tiers,
                told.boards,
                told.board_grace_ms,
            )
            shown_tenant = (reply.name, settings, reply.cards)
            check(shown_tenant in self.history["tenant", reply.tenant_id].since(since), f"1: {shown_tenant}")
        elif isinstance(reply, CouponView | RedemptionView):
            key, shown_coupon = told_of_coupon(reply)
            check(shown_coupon in self.history[key].since(since), f"1: {shown_coupon}")
        elif isinstance(reply, BoardView):
            check(isinstance(message, GetBoard), "a board that nobody asked for")
            self._told_board(message.tenant_id, reply, since, message)
        elif isinstance(reply, TopicView):
            self._told_topic(token, message, reply)

    def _told_board(self, tenant_id: str, view: BoardView, since: int, query: Query | None = None) -> None:
        wrong = self.boards.explain(tenant_id, view, since, query)
        check(not wrong, f"16: {wrong}")
        self._world.note(f"board {view.board}")

    def _told_topic(self, token: Token, query: GetTopic, view: TopicView) -> None:
        self.topic_views.append((token, view))
        if view.snapshot is not None:
            self._shown_live(query.tenant_id, view.snapshot)
        for update in view.missed:
            self._shown_live(query.tenant_id, update.data)
        self._world.note("topic recovered" if view.recovered else "topic snapshot")
        if view.missed:
            self._world.note("topic updates missed")

    def published(self, digest: Digest, partition: Partition) -> None:
        """A live update leaves."""
        self._world.note("published")
        self.conflicts.take(digest, partition, self.facts, self._world)
        self._shown_live(digest.tenant_id, digest.update.data)
        log = self.updates[digest.epoch, digest.tenant_id, digest.topic]
        offset = digest.update.offset
        check(offset not in log, f"5: {digest.topic} has offset {offset} of epoch {digest.epoch} twice")
        # A topic that was put away begins again further on.
        follows = not log or offset - 1 in log or min(offset, partition._views._offset_start) > max(log)
        check(follows, f"5: {digest.topic} jumps to offset {offset}")
        log[offset] = digest.update

    def _shown_live(self, tenant_id: str, data: TopicData) -> None:
        if isinstance(data, BoardView):
            self._told_board(tenant_id, data, 0)
            return
        if isinstance(data, CardFeed):
            check(self.oracle.cards[data.card_id]["tenant"] == tenant_id, "11: another tenant's card")
            check(seq_of(data.position) <= self.tail.seq, f"1: shown before it was durable: {data}")
            then = self.history["card", data.card_id].at(data.position)
            card = {name: getattr(data, name) for name in ("state", "balance", "earned", "entry_count", "tier")}
            check(card == {name: then[name] for name in card}, f"1: {card} shown at {data.position}, was {then}")
            return
        if isinstance(data, CardChanges):
            self._shown_changes(tenant_id, data)
            return
        check(self.oracle.events[data.event_id]["tenant"] == tenant_id, "11: another tenant's event")
        check(seq_of(data.position) <= self.tail.seq, f"1: shown before it was durable: {data}")
        history = self.history["event", data.event_id]
        then, _ = history.at(data.position)
        counts = {name: getattr(data, name) for name in ("inside", "admitted", "refused")}
        check(counts == {name: then[name] for name in counts}, f"1: {counts} shown at {data.position}, was {then}")
        names, capacities = zip(*((v["terms"]["name"], v["terms"]["capacity"]) for v, _ in history.views), strict=True)
        check(data.name in names and data.capacity in capacities, f"1: undurable terms shown: {data}")
        known = {scan_id for _, scan_id, _ in self.scans[data.event_id]}
        check(known.issuperset(scan.scan_id for scan in data.scans), f"1: undurable scans shown: {data}")

    def _shown_changes(self, tenant_id: str, data: CardChanges) -> None:
        """All that changed in the range is told, as it is at its end."""
        check(seq_of(data.position) <= self.tail.seq, f"1: shown before it was durable: {data}")
        changed = changed_cards(self.facts, tenant_id, data.since, data.position)
        told = {mark.card_id: (mark.state, mark.serial) for mark in data.changes}
        check(told == changed, f"1: {told} shown of {changed} in {data.since} to {data.position}")
        if told:
            self._world.note("cards changed")

    # --- hosts ------------------------------------------------------------------------------------------------------

    def halted(self, reason: str) -> None:
        """A partition stopped; nothing that happens while a run lasts is a reason."""
        raise Violation(f"12: halted: {reason}")

    def after_input(self, partition: Partition) -> None:
        """The mailbox is bounded."""
        held = len(partition._draft.held) + sum(len(entry.held) for entry in partition._pending)
        waiting = held + sum(one.token is not None for one in (*partition._mailbox, *partition._parked))
        check(waiting <= self.mailbox_max, f"10: {waiting} messages wait")
        if partition.parked_count > 1:
            commands = sum(isinstance(waiting.message, Command) for waiting in partition._parked)
            if commands > len(partition._parked_keys):
                self._world.note("parked behind parked")
        resident = {
            own_id for kind, actors in partition.residents.actors.items() if kind != "tenant" for own_id in actors
        }
        epoch, before, gone = self._resident.get(partition, (0, set(), set()))
        if epoch == partition.epoch:
            gone |= before - resident
            if before - resident:
                self._world.note("put away")
            if resident & gone:
                self._world.note("loaded again after being put away")
                gone -= resident
        self._resident[partition] = (partition.epoch, resident, gone if epoch == partition.epoch else set())
