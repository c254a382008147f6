"""Clients: they ask everything that can be asked, lose messages, send copies, try again until they are told, come back
later with old ids, and now and then reuse an id for something else.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from actors.board_commands import SetBoards
from actors.card_commands import AssignTag
from actors.codec import Message
from actors.commands import (
    AwardPoints,
    ChangeCardState,
    ChangeEvent,
    ChangePlan,
    ChangeTenant,
    Command,
    CreateEvent,
    IssueCard,
    OpenTenant,
    RedeemPoints,
    ReversePoints,
    fingerprint,
)
from actors.points_commands import CapturePoints, ConfirmPoints, HoldPoints, ReleasePoints, TransferPoints
from actors.queries import GetBoard, GetCard, GetCardTier, GetCoupon, GetEvent, GetRedemption, GetTenant, GetTopic
from actors.refusals import FAILURES_TO_RETRY
from actors.replies import Done, EventView, Failed, Reply, TopicView
from actors.terms import FAR_MS, BoardTerms, EventTerms, Gate, TenantSettings
from actors.tier_commands import SetTiers
from actors.versions import event_version, gate_version
from rules.language import RuleDefinition
from rules.model import Rule
from tests.simulation.card_clients import (
    TAGS,
    about_card,
    learn,
    presented,
    some_boards,
    some_grace,
    some_payout,
    some_tiers,
)
from tests.simulation.checker import Checker, check
from tests.simulation.clients_coupons import COUPONS, CouponKnowledge, founding_coupons
from tests.simulation.door_clients import ZONES, at_doors, check_in, terms_change
from tests.simulation.grant_clients import Granted, founding_gifts, granting_rule
from tests.simulation.hosts import HostModel, Supervisor, Token
from tests.simulation.member_clients import about_holder, birthday_rule, scheduled_rule, some_profile
from tests.simulation.rule_clients import about_rules, learn_rule
from tests.simulation.world import START_MS, World

# When the day of the start is over, in the first of the time zones where organisations are.
MIDNIGHT_MS = START_MS + 2_500
BOARDS = ("points", "points", "visits", "streak", "regulars", "rising")
TENANTS = ("org_a", "org_b")
CARDS = {"org_a": ("card_1", "card_2", "card_3"), "org_b": ("card_4", "card_5")}
EVENTS = {"org_a": ("event_1", "event_2"), "org_b": ("event_3",)}
GHOSTS = ("card_ghost", "event_ghost")
TIME_ZONES = ("UTC", "Asia/Ho_Chi_Minh", "America/New_York")


class Pending:
    """A message that a client wants answered."""

    def __init__(self, message: Message, tries: int) -> None:
        self.message = message
        self.tries_left = tries
        self.reply: Reply | None = None


class Client:
    """One client; asks a few things at a time, one after the other."""

    def __init__(
        self,
        number: int,
        world: World,
        checker: Checker,
        hosts: list[HostModel],
        supervisor: Supervisor,
        *,
        clock_ahead_ms: int,
    ) -> None:
        self.number = number
        self._world = world
        self._checker = checker
        self._hosts = hosts
        self._supervisor = supervisor
        # Most clocks are right; some run ahead further than is believed, some behind.
        self._skew_ms = world.rng.choice(
            (0, 0, 5, clock_ahead_ms // 2, -3_000, 4 * clock_ahead_ms, 12 * clock_ahead_ms)
        )
        self._pause_ms = world.rng.choice((4, 60))
        self._count = 0
        self._asked: list[Command] = []
        self._open: list[Pending] = []
        self._seen_topics: dict[tuple[str, str], tuple[int, int]] = {}
        self._entries: dict[tuple[str, str], int] = {}
        self._holds: dict[tuple[str, str], int] = {}
        self._more_cards: dict[str, list[str]] = {tenant_id: [] for tenant_id in TENANTS}
        self._terms: dict[str, EventTerms] = {}
        # Of cards the latest credential, of tags the latest counter.
        self._serials: dict[str, int] = {}
        self._counters: dict[str, int] = {}
        self._rules: dict[str, dict[str, RuleDefinition]] = {}
        self._scans: dict[str, list[tuple[str, str]]] = {tenant_id: [] for tenant_id in TENANTS}
        self._coupons = CouponKnowledge()
        self._granted = Granted()

    @property
    def is_done(self) -> bool:
        return not self._open

    # --- what is asked ----------------------------------------------------------------------------------------------

    def start(self, commands: int, then: Callable[[], None] = lambda: None) -> None:
        """Asks one thing after the other, `commands` in all."""
        world = self._world
        if commands <= 0:
            then()
            return
        message = self._next_message()
        self.ask(
            message, lambda: world.after(world.rng.randint(1, self._pause_ms), lambda: self.start(commands - 1, then))
        )
        if world.rng.random() < 0.3:
            self.ask(self._next_message(), lambda: None)

    def _id(self) -> str:
        self._count += 1
        rng = self._world.rng
        if rng.random() < 0.25:
            return f"client-{self.number}-{self._count}"
        made_ms = f"{self._world.now_ms + self._skew_ms:012x}"
        return f"{made_ms[:8]}-{made_ms[8:]}-7{rng.getrandbits(12):03x}-8{self.number:03x}-{rng.getrandbits(48):012x}"

    def _next_message(self) -> Message:
        rng = self._world.rng
        dice = rng.random()
        if self._asked and dice < 0.08:
            return rng.choice(self._asked)
        if self._asked and dice < 0.11:
            old = rng.choice(self._asked)
            other = self._command(old.request_id, old.tenant_id)
            # With the same fingerprint (only the device differs, say) it is the same request, so not another body.
            return self._checker.commands[old.tenant_id, old.request_id].get(other.fingerprint, other)
        if dice < 0.3:
            return self._query()
        return self._command(self._id(), rng.choice(TENANTS))

    def _pick(self, tenant_id: str, things: dict[str, tuple[str, ...]]) -> str:
        rng = self._world.rng
        if rng.random() < 0.03:
            return rng.choice([*GHOSTS, *(key for keys in things.values() for key in keys)])
        if things is CARDS and self._more_cards[tenant_id] and rng.random() < 0.2:
            return rng.choice(self._more_cards[tenant_id])
        return rng.choice(things[tenant_id])

    def _command(self, request_id: str, tenant_id: str) -> Command:
        rng = self._world.rng
        card_id, event_id = self._pick(tenant_id, CARDS), self._pick(tenant_id, EVENTS)
        head = (tenant_id, request_id, b"")
        if rng.random() < 0.3:
            return self._signed(self._granted.instead(self._coupons.command(rng, self._world.now_ms, head, card_id)))
        if rng.random() < (0.06 if self._world.now_ms > MIDNIGHT_MS else 0.01):
            return self._signed(some_payout(rng, head, event_id))
        dice = rng.random()
        command: Command
        if dice < 0.42:
            scan = check_in(rng, self._world.now_ms, head, event_id, card_id)
            command = presented(rng, scan, self._serials, self._counters)
            if rng.random() < 0.12:
                command = at_doors(rng, head, event_id, card_id, self._scans[tenant_id])
        elif dice < 0.80:
            command = self._points_command(head, card_id)
        elif dice < 0.87:
            revokes = 0.1 if card_id in CARDS[tenant_id] else 1.0
            state = rng.choice(
                ("suspended", "active", "active", "active", *(("revoked",) * 3 if rng.random() < revokes else ()))
            )
            command = ChangeCardState(*head, card_id, state)
            if rng.random() < 0.5:
                command = about_card(rng, self._world.now_ms, head, card_id)
            elif rng.random() < 0.3:
                command = about_holder(rng, head, card_id)
        elif dice < 0.91:
            # As the edge does it: a card's id comes from its request's.
            command = IssueCard(*head, f"card_{tenant_id}_{request_id}", "another member", "Bea", "bronze")
            command = msgspec.structs.replace(command, profile=some_profile(head))
        elif dice < 0.93:
            command = about_rules(rng, head, self._rules.get(tenant_id, {}))
            if int(head[1][-1], 16) < 4:
                command = scheduled_rule(head)
            elif int(head[1][-1], 16) < 6:
                command = granting_rule(head, Random(head[1]))
        elif dice < 0.97:
            command = self._change_event(head, event_id)
        elif dice < 0.98:
            command = ChangePlan(*head, rng.choice(("free", "free", "premium")))
            if rng.random() < 0.5:
                command = SetTiers(*head, some_tiers(rng))
            elif rng.random() < 0.5:
                command = SetBoards(
                    *head, (*some_boards(rng), *rng.choice(((), (), (BoardTerms("points", "visits"),))))
                )
        else:
            zone, overdraft = rng.choice(TIME_ZONES), rng.choice((None, 0, 20))
            grace = rng.choice((None, 0, 300))
            points = rng.choice((None, 0, 10))
            command = ChangeTenant(*head, f"Org {rng.randint(1, 9)}", zone, overdraft, points, None, grace)
        return self._signed(command)

    def _points_command(self, head: tuple[str, str, bytes], card_id: str) -> Command:
        rng, now_ms = self._world.rng, self._world.now_ms
        account = rng.choice(("points", "points", "points", "wallet"))
        latest = self._entries.get((head[0], card_id), 3)
        cited = max(1, latest + rng.choice((1, 0, 0, 0, 0, -1, -2, -4, -8)))
        dice = rng.random()
        if dice < 0.36:
            amount = rng.choice((1, 5, 10, 30, 30, 0, 2_000_000_000)) if rng.random() < 0.3 else rng.randint(1, 40)
            if account == "wallet":
                return AwardPoints(*head, card_id, amount, account="wallet")
            expires = rng.choice((0, 0, now_ms + rng.choice((-5, 40, 200, 700, 2_000, 60_000))))
            pending = rng.choice((0, 0, 0, FAR_MS, now_ms + rng.choice((-5, 30, 300, 900))))
            return AwardPoints(*head, card_id, amount, "", expires, pending)
        if dice < 0.54:
            return RedeemPoints(*head, card_id, rng.randint(1, 60), account=account)
        if dice < 0.70:
            return ReversePoints(*head, card_id, cited)
        if dice < 0.80:
            lapses = rng.choice((0, now_ms + rng.choice((-5, 20, 100, 400, 3_000))))
            return HoldPoints(*head, card_id, rng.randint(0, 30), "", lapses, account)
        if dice < 0.92:
            return self._end_of_hold(head, card_id, cited)
        if dice < 0.95:
            return ConfirmPoints(*head, card_id, cited)
        return TransferPoints(*head, card_id, self._pick(head[0], CARDS), rng.randint(0, 30), account=account)

    def _end_of_hold(self, head: tuple[str, str, bytes], card_id: str, cited: int) -> Command:
        """Of a hold that this client knows of, as a rule."""
        rng = self._world.rng
        known = [(card, hold) for (tenant_id, card), hold in self._holds.items() if tenant_id == head[0]]
        if known and rng.random() < 0.9:
            card_id, cited = rng.choice(known)
        if rng.random() < 0.3:
            return ReleasePoints(*head, card_id, cited)
        return CapturePoints(*head, card_id, cited, rng.choice((None, 2, 8, 40)))

    def _change_event(self, head: tuple[str, str, bytes], event_id: str) -> ChangeEvent:
        rng, now_ms = self._world.rng, self._world.now_ms
        change = rng.choice(
            (
                *(terms_change(rng) for _ in range(5)),
                {"capacity": rng.randint(0, 3)},
                {"name": f"Evening {rng.randint(1, 9)}"},
                {"reentry": rng.choice(("none", "after_exit", "multiple"))},
                {"strict_exit": rng.random() < 0.5},
                {"gate": Gate("gate_1", "Door", rng.random() < 0.8)},
                {"gate": Gate("gate_2", "Back", rng.random() < 0.8)},
                {"state": rng.choice(("open", "open", "open", "closed", "cancelled"))},
                {"doors_open_ms": rng.choice((0, now_ms + 100)), "doors_close_ms": rng.choice((0, now_ms + 800))},
            )
        )
        terms = self._terms.get(event_id)
        if terms is not None and rng.random() < 0.4:
            change["if_version"] = (self._version(terms, change.get("gate")),)
        return ChangeEvent(*head, event_id, **change)

    def _version(self, terms: EventTerms, gate: Gate | None) -> str:
        """Of what is to be changed, as it was when this client last saw it."""
        if gate is None:
            return event_version(terms)
        return next((gate_version(seen) for seen in terms.gates if seen.gate_id == gate.gate_id), "")

    def _query(self) -> Message:
        rng = self._world.rng
        tenant_id = rng.choice(TENANTS)
        event_id = self._pick(tenant_id, EVENTS)
        window = rng.choice(("all", "day", "week", "month", f"event:{event_id}"))
        dice = rng.random()
        if dice < 0.2:
            ask = GetCardTier if dice < 0.04 else GetCard
            return ask(tenant_id, self._pick(tenant_id, CARDS))
        if dice < 0.33:
            return GetEvent(tenant_id, event_id)
        if dice < 0.36:
            return GetTenant(tenant_id)
        if dice < 0.4:
            return GetCoupon(tenant_id, rng.choice((*COUPONS[tenant_id], "cpn_ghost")))
        if dice < 0.42:
            return GetRedemption(tenant_id, self._coupons.redemption(rng, tenant_id))
        if dice < 0.7:
            around = rng.choice(("", "", rng.choice(CARDS[tenant_id])))
            return GetBoard(tenant_id, rng.choice(BOARDS), window, rng.randint(1, 4), rng.randint(0, 1), around)
        card_id = self._pick(tenant_id, CARDS)
        others = (f"leaderboard:{rng.choice(BOARDS)}:{window}", f"card:{card_id}", "revocations", "revocations")
        topic = rng.choice((f"event:{event_id}", f"event:{event_id}", *others))
        return GetTopic(tenant_id, topic, *self._seen_topics.get((tenant_id, topic), (-1, -1)))

    def _signed(self, command: Any) -> Command:
        return msgspec.structs.replace(command, fingerprint=fingerprint(command))

    # --- how it is asked --------------------------------------------------------------------------------------------

    def ask(self, message: Message, then: Callable[[], None]) -> None:
        """Sends a message until it is answered for good; questions that lose their way are given up."""
        if isinstance(message, Command):
            self._asked.append(message)
            self._checker.asked(message)
            pending = Pending(message, 1_000_000)
        else:
            pending = Pending(message, 3)
        self._open.append(pending)
        self._send(pending, then)

    def _send(self, pending: Pending, then: Callable[[], None]) -> None:
        world, faults = self._world, self._world.faults
        pending.tries_left -= 1
        host = world.rng.choice(self._hosts) if world.rng.random() < 0.15 else self._supervisor.owner
        copies = 2 if world.happens(faults.message_copies) else 1
        batch = []
        for copy in range(copies):
            if world.happens(faults.message_loss):
                continue
            token = Token(pending.message, lambda reply: self._answered(pending, reply, then))
            if copy == 0 or world.rng.random() < 0.3:
                batch.append(token)
            else:
                other = world.rng.choice(self._hosts)
                world.after(world.rng.choice((2, 50, 700)), lambda token=token, other=other: other.submit([token]))
        if batch:
            world.after(world.rng.randint(1, 10), lambda: host.submit(batch))

        def give_up() -> None:
            if pending.reply is None:
                world.note("client timed out")
                self._retry(pending, then)

        world.after(world.rng.choice((150, 400, 900)), give_up)

    def _retry(self, pending: Pending, then: Callable[[], None]) -> None:
        if pending.tries_left > 0:
            self._send(pending, then)
        else:
            self._close(pending, then)

    def _answered(self, pending: Pending, reply: Reply, then: Callable[[], None]) -> None:
        world = self._world

        def arrive() -> None:
            if pending.reply is not None:
                return
            if isinstance(reply, Failed) and reply.code in FAILURES_TO_RETRY:
                check(reply.retry_after_ms > 0, f"{reply} does not say when to come again")
                return  # the client comes again when its patience ends
            pending.reply = reply
            self._learn(pending.message, reply)
            self._close(pending, then)

        if not world.happens(world.faults.message_loss):
            world.after(world.rng.randint(1, 10), arrive)

    def _learn(self, message: Any, reply: Reply) -> None:
        if isinstance(reply, Done):
            learn(reply.fact, self._serials, self._counters)
            learn_rule(reply.fact, self._rules)
            self._granted.learn(reply.fact)
        if isinstance(reply, Done) and type(reply.fact).__name__ == "PointsPosted":
            fact: Any = reply.fact
            self._entries[fact.tenant_id, fact.card_id] = fact.entry_seq
            if fact.kind == "hold":
                self._holds[fact.tenant_id, fact.card_id] = fact.entry_seq
        elif isinstance(reply, Done) and type(reply.fact).__name__ == "ScanJudged":
            scan: Any = reply.fact
            if not scan.reason and scan.direction == "entry":
                self._scans[scan.tenant_id].append((scan.request_id, scan.event_id))
        elif isinstance(reply, Done) and type(reply.fact).__name__ == "CardIssued":
            issued: Any = reply.fact
            if issued.card_id not in CARDS[issued.tenant_id]:
                self._more_cards[issued.tenant_id].append(issued.card_id)
        elif isinstance(reply, Done) and type(reply.fact).__name__ in ("EventCreated", "EventChanged"):
            event: Any = reply.fact
            self._terms[event.event_id] = event.terms
        elif isinstance(reply, Done):
            self._coupons.learn(type(reply.fact).__name__, reply.fact)
        elif isinstance(reply, EventView):
            self._terms[reply.event_id] = reply.terms
        elif isinstance(reply, TopicView):
            key = (message.tenant_id, message.topic)
            self._seen_topics[key] = (reply.epoch, reply.offset)

    def _close(self, pending: Pending, then: Callable[[], None]) -> None:
        if pending in self._open:
            self._open.remove(pending)
            then()


def founding_commands(client: Client) -> list[Command]:
    """Opens the tenants, issues the cards, creates the events."""
    commands: list[Any] = []
    world = client._world

    def head(tenant_id: str) -> tuple[str, str, bytes]:
        return tenant_id, client._id(), b""

    for tenant_id in TENANTS:
        rules = (Rule("rule_checkin", 1, "Points", "checkin", 7), Rule("rule_more", 1, "More", "checkin", 3, False))
        plan = world.rng.choice(("free", "free", "premium"))
        overdraft, grace = world.rng.choice((0, 0, 15)), world.rng.choice((0, 200))
        tiers = some_tiers(world.rng)
        tiers = None if tiers is not None and tiers.levels[0].points else tiers
        settings = TenantSettings(
            "Asia/Ho_Chi_Minh", overdraft, rules, plan, grace, tiers, some_boards(world.rng), some_grace(world.rng)
        )
        commands.append(OpenTenant(*head(tenant_id), tenant_id, settings))
    for tenant_id in TENANTS:
        commands += [about_rules(world.rng, head(tenant_id), {}) for _ in range(world.rng.choice((0, 1, 4)))]
        commands += [birthday_rule(head(tenant_id)) for _ in range(world.rng.choice((0, 1)))]
        commands += [scheduled_rule(head(tenant_id)) for _ in range(world.rng.choice((0, 0, 1, 2)))]
        for card_id in CARDS[tenant_id]:
            until = world.rng.choice((0, 0, 0, world.now_ms + 3_000))
            own = head(tenant_id)
            who = (f"member of {card_id}", "Ann", "gold", 0, until, some_profile(own))
            commands.append(IssueCard(*own, card_id, *who))
        for card_id, uid in zip(CARDS[tenant_id], TAGS[:2], strict=False):
            commands.append(AssignTag(*head(tenant_id), card_id, uid))
        for event_id in EVENTS[tenant_id]:
            gates = (Gate("gate_1", "Door"),)
            terms = EventTerms("Evening", world.rng.randint(1, 2), gates=gates)
            if world.rng.random() < 0.4:
                gates += (Gate("gate_a", "Floor", True, "zone_a"), Gate("gate_b", "Balcony", True, "zone_b"))
                terms = EventTerms("Evening", world.rng.randint(1, 2), gates=gates, zones=ZONES)
            commands.append(CreateEvent(*head(tenant_id), event_id, terms))
        commands += founding_coupons(world.rng, tenant_id, client._id)
        commands += founding_gifts(world.seed, tenant_id)
    return [client._signed(command) for command in commands]
