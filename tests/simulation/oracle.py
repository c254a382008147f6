"""A second opinion: what each command should lead to, worked out anew from plain dicts.

Written from semantics.md, not from the production code. It takes the journal's commands in order, decides each on its
own state, and hands back what the facts should say, as `(kind, {field: value})`. Its state is the reference for all
that is shown.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from actors.board_commands import PayOutBoard, SetBoards
from actors.card_commands import AssignTag, CardCommand, ReissueCard, RemoveTag, RenewCard, SetCardTier
from actors.commands import (
    ChangeCardState,
    ChangeEvent,
    ChangePlan,
    ChangeTenant,
    CheckIn,
    Command,
    CreateEvent,
    IssueCard,
    OpenTenant,
    RenameCardHolder,
)
from actors.coupon_commands import CouponCommand
from actors.door_commands import AnnulScan, AnswerQuestions, ChangeAdmissionList, NoteCard, SendOut
from actors.member_commands import DescribeCardHolder
from actors.points_commands import TransferPoints
from actors.rule_commands import DeleteRule, SaveRule
from actors.terms import EventTerms
from actors.tier_commands import SetTiers
from actors.versions import event_version, gate_version
from tests.simulation.oracle_boards import BoardOracle
from tests.simulation.oracle_cards import CardOracle
from tests.simulation.oracle_coupons import CouponOracle
from tests.simulation.oracle_doors import CONDITIONS, Expected
from tests.simulation.oracle_grants import GrantOracle
from tests.simulation.oracle_members import MemberOracle
from tests.simulation.oracle_payouts import PayoutOracle
from tests.simulation.oracle_points import PointsOracle, refused
from tests.simulation.oracle_rules import RuleOracle
from tests.simulation.oracle_schedules import ScheduleOracle

# How many cards a tenant on the Free plan may have here; so few that they are used up all the time.
FREE_CARDS = 4


class Oracle(CardOracle, PointsOracle, RuleOracle, MemberOracle, ScheduleOracle):
    """State after a prefix of the journal."""

    def __init__(self) -> None:
        super().__init__()
        self.events: dict[str, dict[str, Any]] = {}
        # Which scans were judged: at which event, and whether they let somebody in.
        self.judged: dict[tuple[str, str], tuple[str, bool]] = {}
        self.coupons = CouponOracle(self)
        self.grants = GrantOracle(self)
        self.boards = BoardOracle()
        self._payouts = PayoutOracle(self, self.boards)

    def decide(self, command: Command, at_ms: int) -> list[Expected]:
        """What the command's facts should say. The state takes them in at once."""
        self.at_ms = at_ms
        if isinstance(command, CouponCommand):
            return self.coupons.decide(command)
        if isinstance(command, CheckIn) and command.tag_uid:
            command = msgspec.structs.replace(command, card_id=self.tapped_card(command))
        card_id = getattr(command, "card_id", "")
        alarm_ms = self.alarm(card_id)
        settled: list[Expected] = []
        if isinstance(command, CheckIn) and self.cards.get(card_id, {}).get("tenant") == command.tenant_id:
            settled = self.settle_tier(card_id)
            settled += self.alarm_of(card_id, alarm_ms)
            alarm_ms = self.alarm(card_id)
        expected = self._decide(command)
        if isinstance(command, CheckIn):
            scan = next(fields for kind, fields in expected if kind == "ScanJudged")
            is_entry = not scan["reason"] and command.direction == "entry"
            self.judged[command.tenant_id, command.request_id] = (command.event_id, is_entry)
        if isinstance(command, IssueCard) and card_id in self.cards:
            alarm_ms = self.cards[card_id]["birthday_due"]
        # (A transfer sets the alarms of two cards, each after the card's entries.)
        if not isinstance(command, TransferPoints):
            expected += self.alarm_of(card_id, alarm_ms)
        return settled + expected

    def woken(self, kind: str, own_id: str, at_ms: int) -> list[Expected]:
        """What an alarm leads to."""
        self.at_ms = at_ms
        if kind == "coupon":
            wake_ms, led_to = self.coupons.lapse_and_wake(own_id)
        elif kind == "event":
            terms = self.events[own_id]["terms"]
            leaving = self.inside(own_id) and terms["exit_all_minute"] >= 0
            wake_ms, led_to = exit_ms(terms, at_ms), self.leave(own_id) if leaving else []
        elif kind == "tenant":
            led_to = self.scheduled(own_id)
            wake_ms = self.wakes(own_id)
        else:
            is_birthday = 0 < self.cards[own_id]["birthday_due"] <= at_ms
            led_to = self.birthday(own_id) if is_birthday else self.lapse(own_id)
            wake_ms = self.alarm(own_id)
        return [("AlarmSet", {"entity_id": own_id, "wake_ms": wake_ms, "rang": True}), *led_to]

    def _decide(self, command: Command) -> list[Expected]:
        match command:
            case OpenTenant():
                self.tenants[command.tenant_id] = {
                    "name": command.name,
                    "time_zone": command.settings.time_zone,
                    "overdraft_max": command.settings.overdraft_max,
                    "points": [(r.rule_id, r.version, r.points, r.once_per_event) for r in command.settings.rules],
                    "plan": command.settings.plan,
                    "grace": command.settings.lapsed_grace_ms,
                    "tiers": command.settings.tiers,
                    "boards": command.settings.boards,
                    "board_grace": command.settings.board_grace_ms,
                }
                return [("TenantOpened", {"name": command.name})]
            case ChangePlan():
                self.tenants[command.tenant_id]["plan"] = command.plan
                return [("TenantChanged", {"name": self.tenants[command.tenant_id]["name"]})]
            case SetTiers():
                if command.tiers is not None and command.tiers.levels[0].points:
                    return refused("terms_invalid")
                self.tenants[command.tenant_id]["tiers"] = command.tiers
                return [("TenantChanged", {"name": self.tenants[command.tenant_id]["name"]})]
            case SetBoards():
                return self._set_boards(command)
            case PayOutBoard():
                return self._payouts.decide(command)
            case ChangeTenant():
                return self._change_tenant(command)
            case IssueCard():
                return self._issue(command)
            case CreateEvent():
                terms = {name: getattr(command.terms, name) for name in command.terms.__struct_fields__}
                self.events[command.event_id] = {
                    "tenant": command.tenant_id,
                    "terms": terms,
                    "admitted": 0,
                    "refused": 0,
                    "session": "",
                    "left": 0,
                    "listed": set(),
                    "answered": {},
                }
                return [("EventCreated", {"event_id": command.event_id}), *self._exit_alarm(command.event_id, None)]
            case ChangeEvent():
                return self._change_event(command)
            case ChangeCardState():
                card = self.cards[command.card_id]
                if card["state"] == "revoked" and command.state != "revoked":
                    return refused("card_revoked")
                card["state"] = command.state
                cards = self.cards_in_force(command.tenant_id)
                told = {"state": command.state, "cards_after": cards, "serial": card["serial"]}
                return [("CardStateChanged", told)]
            case RenameCardHolder():
                self.cards[command.card_id]["member_name"] = command.member_name
                return [("CardHolderRenamed", {"member_name": command.member_name})]
            case DescribeCardHolder():
                return self.describe(command)
            case CheckIn():
                return self.check_in(command)
            case AnnulScan() | SendOut() | ChangeAdmissionList() | AnswerQuestions() | NoteCard():
                return self.at_doors(command)
            case ReissueCard() | RenewCard() | SetCardTier() | AssignTag() | RemoveTag():
                return self._tiers_by_rules(command)
            case SaveRule() | DeleteRule():
                before = dict(self.rules.get(command.tenant_id, {}))
                told = self.about_rules(command)
                return [*told, *self.rescheduled(command.tenant_id, before, self._zone_of(command.tenant_id))]
        return self.decide_points(command)

    def _set_boards(self, command: SetBoards) -> list[Expected]:
        if any(one.name == "points" for one in command.boards):
            return refused("terms_invalid")
        self.tenants[command.tenant_id].update(boards=command.boards, board_grace=command.grace_ms)
        return [("TenantChanged", {"name": self.tenants[command.tenant_id]["name"]})]

    def _issue(self, command: IssueCard) -> list[Expected]:
        cards = self.cards_in_force(command.tenant_id)
        if self.tenants[command.tenant_id]["plan"] == "free" and cards >= FREE_CARDS:
            return refused("quota_exceeded")
        who = {name: getattr(command, name) for name in ("member_id", "member_name", "tier")}
        valid = (command.valid_from_ms, command.valid_until_ms)
        self.cards[command.card_id] = {
            **who,
            "tenant": command.tenant_id,
            "valid": valid,
            "state": "active",
            "issued": self.at_ms,
        }
        self.cards[command.card_id].update(points=0, wallet=0, earned=0, lots={}, holds={})
        self.cards[command.card_id].update(attention="", serial=0, tag="", tier_due=0, tier_held=False)
        number = self.number(command.tenant_id)
        self.born(command.card_id, command.profile)
        card = self.cards[command.card_id]
        told = {"profile": card["profile"], "birthday_due_ms": card["birthday_due"]}
        issued = [("CardIssued", {**who, "cards_after": cards + 1, "number": number, **told})]
        issued += self.alarm_of(command.card_id, 0)
        reviewed = self.first_review(command.card_id, 0)
        cause, moments = f"issue:{command.request_id}", [("card_issued", {})]
        led_to = self.run(command.card_id, cause, "", self.at_ms, moments, points=0)
        return [*issued, *reviewed, *led_to]

    def _tiers_by_rules(self, command: CardCommand) -> list[Expected]:
        """What is asked about a card; another tier moves rules."""
        expected = self.about_card(command)
        kind, told = expected[-1]
        is_changed = kind == "CardTierChanged" and told["tier"] != told["tier_before"]
        if is_changed and self.cards[command.card_id]["state"] == "active":
            cause, moments = f"tier:{command.request_id}", [("tier_changed", {})]
            told = self.run(command.card_id, cause, "", self.at_ms, moments, **self.seen(command.card_id))
            expected += told
        return expected

    def cards_in_force(self, tenant_id: str) -> int:
        """How many cards count towards the plan: all but the revoked."""
        return sum(card["tenant"] == tenant_id and card["state"] != "revoked" for card in self.cards.values())

    def _change_tenant(self, command: ChangeTenant) -> list[Expected]:
        tenant, zone = self.tenants[command.tenant_id], self._zone_of(command.tenant_id)
        for name in ("name", "time_zone", "overdraft_max"):
            if getattr(command, name) is not None:
                tenant[name] = getattr(command, name)
        if command.lapsed_grace_ms is not None:
            tenant["grace"] = command.lapsed_grace_ms
        if command.checkin_points is not None:
            versions = [rule[1] for rule in tenant["points"] if rule[0] == "rule_checkin"]
            others = [rule for rule in tenant["points"] if rule[0] != "rule_checkin"]
            version = max(versions, default=0) + 1
            tenant["points"] = [*others, ("rule_checkin", version, command.checkin_points, True)]
        changed: Expected = ("TenantChanged", {"name": tenant["name"]})
        return [changed, *self.rescheduled(command.tenant_id, self.rules.get(command.tenant_id, {}), zone)]

    def _zone_of(self, tenant_id: str) -> str:
        return str(self.tenants[tenant_id]["time_zone"])

    def _change_event(self, command: ChangeEvent) -> list[Expected]:
        event = self.events[command.event_id]
        terms = dict(event["terms"])
        if command.if_version is not None:
            gates = {gate.gate_id: gate_version(gate) for gate in terms["gates"]}
            now = gates.get(command.gate.gate_id, "") if command.gate else event_version(EventTerms(**terms))
            if now not in command.if_version:
                return refused("precondition_failed")
        for name in terms:
            if getattr(command, name, None) is not None:
                terms[name] = getattr(command, name)
        if command.gate is not None:
            gates = {gate.gate_id: gate for gate in terms["gates"]}
            gates[command.gate.gate_id] = command.gate
            terms["gates"] = tuple(gates.values())
        if terms["capacity"] < 1 or terms["capacity"] < self.inside(command.event_id):
            return refused("capacity_invalid")
        people = {zone.zone_id: self.inside(command.event_id, zone.zone_id) for zone in terms["zones"]}
        if any(0 < zone.capacity < people[zone.zone_id] for zone in terms["zones"]):
            return refused("capacity_invalid")
        if any(gate.zone_id and gate.zone_id not in people for gate in terms["gates"]):
            return refused("terms_invalid")
        placed = {visit["zone"] for key, visit in self.visits.items() if key[0] == command.event_id}
        if placed - {""} - set(people) or terms["admission"].condition not in ("", *CONDITIONS):
            return refused("terms_invalid")
        before, event["terms"] = event["terms"], terms
        return [("EventChanged", {"event_id": command.event_id}), *self._exit_alarm(command.event_id, before)]

    def _exit_alarm(self, event_id: str, before: dict[str, Any] | None) -> list[Expected]:
        terms = self.events[event_id]["terms"]
        told = [(t["exit_all_minute"], t["time_zone"], t["state"]) for t in (before, terms) if t is not None]
        minutes = [minute for minute, _, _ in told]
        if max(minutes) < 0 or (before is not None and told[0] == told[1]):
            return []
        wake_ms = exit_ms(terms, self.at_ms)
        if not wake_ms and (before is None or minutes[0] < 0):
            return []
        return [("AlarmSet", {"entity_id": event_id, "wake_ms": wake_ms, "rang": False})]

    # --- check-ins --------------------------------------------------------------------------------------------------

    def rewarded(
        self, command: CheckIn, card: dict[str, Any], entries: int, when: int, streak: int, first: bool = True
    ) -> tuple[int, list[Expected]]:
        """The points of an admitted entry; `streak` is the streak before it, -1 where it made no visit."""
        rules = [r for r in self.tenants[command.tenant_id]["points"] if r[2] > 0 and (entries == 1 or not r[3])]
        base = [(f"{rule[0]}:{rule[1]}", rule[2]) for rule in rules if first]
        moments: list[tuple[str, dict[str, Any]]] = [("checkin", {"visits_event": entries})]
        now = self.streak(command.card_id, self._date(command.card_id, when))
        if 0 <= streak < now:
            moments.append(("streak_reached", {"streak": now}))
        cause = f"checkin:{command.request_id}"
        told = {**self.seen(command.card_id), "base": base}
        told = self.run(command.card_id, cause, command.event_id, when, moments, **told)
        return _awarded(told), told

    def left(self, command: CheckIn, entries: int, when: int) -> tuple[int, list[Expected]]:
        """What rules make of an exit."""
        if self.cards[command.card_id]["state"] != "active":
            return 0, []
        told, cause = self.seen(command.card_id), f"exit:{command.request_id}"
        told = self.run(command.card_id, cause, "", when, [("exit", {"visits_event": entries})], **told)
        return _awarded(told), told

    def came_by(self, command: CheckIn, when: int) -> dict[str, Any]:
        """What an admission says of visits, and the streak before it (-1 where it makes none)."""
        before = self.streak(command.card_id, self._date(command.card_id, when))
        told = self.visit(command.card_id, command.event_id, when)
        return {"told": told, "streak_from": before if told["visit_day"] else -1}

    def units_of(self, command: CheckIn) -> list[Any]:
        """What the rules used that a scan led to."""
        kind = "checkin" if command.direction == "entry" else "exit"
        return self.units(command.card_id, f"{kind}:{command.request_id}")

    def with_rules(
        self, command: Any, trigger: str, before: dict[str, int], expected: list[Expected], place: int = -1
    ) -> list[Expected]:
        """A posting that was asked for, and what rules make of it."""
        card_id, posting = command.card_id, expected[place][1]
        if self.cards[card_id]["state"] != "active":
            return expected
        cause = f"entry:{posting['entry_seq']}"
        moments = [(trigger, {"amount": abs(posting["amount"])})]
        root = [posting] if posting["kind"] == "award" else []
        told = self.run(card_id, cause, "", self.at_ms, moments, held=True, root=root, **before)
        posting["rules"] = self.ledgers[card_id][posting["entry_seq"] - 1]["rules"] = self.units(card_id, cause)
        return [*expected, *told]

    def rules_undone(self, card_id: str, original: dict[str, Any]) -> list[Expected]:
        """The posting is undone: so is what rules gave for it, and what they used is theirs again."""
        cause = f"entry:{original['entry_seq']}"
        given = [entry for entry in self.ledgers[card_id] if entry["cause"] == cause and entry["kind"] == "award"]
        gone = {entry["reverses"] for entry in self.ledgers[card_id]}
        back = [self.taken_from(card_id, entry["entry_seq"]) for entry in given if entry["entry_seq"] not in gone]
        return [*back, *self.returned(card_id, cause)]

    def taken_back(self, scan: dict[str, Any]) -> list[Expected]:
        """The reversals of what an admission earned."""
        card_id = scan["key"][1]
        returned = self.returned(card_id, scan["cause"])
        if not scan["awards"]:
            return returned
        alarm_ms = self.alarm(card_id)
        expected = self.lapse(card_id)
        for entry_seq in scan["awards"]:
            if not any(entry["reverses"] == entry_seq for entry in self.ledgers[card_id]):
                expected.append(self.taken_from(card_id, entry_seq))
        return [*expected, *returned, *self.alarm_of(card_id, alarm_ms)]


def _awarded(told: list[Expected]) -> int:
    return sum(fields["amount"] for _, fields in told if fields.get("kind") == "award")


def exit_ms(terms: dict[str, Any], after_ms: int) -> int:
    """When everybody next has to be out. (The zones of this world change no clocks in May.)"""
    if terms["exit_all_minute"] < 0 or terms["state"] == "cancelled":
        return 0
    zone = ZoneInfo(terms["time_zone"])
    local = datetime.fromtimestamp(after_ms / 1000, UTC).astimezone(zone)
    hour, minute = divmod(terms["exit_all_minute"], 60)
    due = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
    due_ms = round(due.timestamp() * 1000)
    return due_ms if due_ms > after_ms else due_ms + 86_400_000
