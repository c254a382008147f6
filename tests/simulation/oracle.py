"""A second opinion: what each command should lead to, worked out anew from plain dicts.

Written from semantics.md, not from the production code. It takes the journal's commands in order, decides each on its
own state, and hands back what the facts should say, as `(kind, {field: value})`. Its state is the reference for all
that is shown.
"""

from __future__ import annotations

from typing import Any

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
from actors.points_commands import TransferPoints
from actors.terms import EventTerms
from actors.versions import event_version, gate_version
from tests.simulation.oracle_points import Expected, PointsOracle, refused

# How many cards a tenant on the Free plan may have here; so few that they are used up all the time.
FREE_CARDS = 4


class Oracle(PointsOracle):
    """State after a prefix of the journal."""

    def __init__(self) -> None:
        super().__init__()
        self.events: dict[str, dict[str, Any]] = {}
        # (event, card) -> who is inside, how often, since when
        self.visits: dict[tuple[str, str], dict[str, Any]] = {}

    def decide(self, command: Command, at_ms: int) -> list[Expected]:
        """What the command's facts should say. The state takes them in at once."""
        self.at_ms = at_ms
        card_id = getattr(command, "card_id", "")
        alarm_ms = self.alarm(card_id)
        expected = self._decide(command)
        # (A transfer sets the alarms of two cards, each after the card's entries.)
        if not isinstance(command, TransferPoints):
            expected += self._alarm_of(card_id, alarm_ms)
        return expected

    def woken(self, card_id: str, at_ms: int) -> list[Expected]:
        """What a card's alarm leads to."""
        self.at_ms = at_ms
        lapsed = self.lapse(card_id)
        return [("AlarmSet", {"entity_id": card_id, "wake_ms": self.alarm(card_id), "rang": True}), *lapsed]

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
                }
                return [("TenantOpened", {"name": command.name})]
            case ChangePlan():
                self.tenants[command.tenant_id]["plan"] = command.plan
                return [("TenantChanged", {"name": self.tenants[command.tenant_id]["name"]})]
            case ChangeTenant():
                return self._change_tenant(command)
            case IssueCard():
                cards = self.cards_in_force(command.tenant_id)
                if self.tenants[command.tenant_id]["plan"] == "free" and cards >= FREE_CARDS:
                    return refused("quota_exceeded")
                who = {name: getattr(command, name) for name in ("member_id", "member_name", "tier")}
                valid = (command.valid_from_ms, command.valid_until_ms)
                self.cards[command.card_id] = {**who, "tenant": command.tenant_id, "valid": valid, "state": "active"}
                self.cards[command.card_id].update(points=0, wallet=0, earned=0, lots={}, holds={})
                return [("CardIssued", {**who, "cards_after": cards + 1})]
            case CreateEvent():
                terms = {name: getattr(command.terms, name) for name in command.terms.__struct_fields__}
                self.events[command.event_id] = {
                    "tenant": command.tenant_id,
                    "terms": terms,
                    "inside": 0,
                    "admitted": 0,
                    "refused": 0,
                }
                return [("EventCreated", {"event_id": command.event_id})]
            case ChangeEvent():
                return self._change_event(command)
            case ChangeCardState():
                card = self.cards[command.card_id]
                if card["state"] == "revoked" and command.state != "revoked":
                    return refused("card_revoked")
                card["state"] = command.state
                cards = self.cards_in_force(command.tenant_id)
                return [("CardStateChanged", {"state": command.state, "cards_after": cards})]
            case RenameCardHolder():
                self.cards[command.card_id]["member_name"] = command.member_name
                return [("CardHolderRenamed", {"member_name": command.member_name})]
            case CheckIn():
                return self._check_in(command)
        return self.decide_points(command)

    def cards_in_force(self, tenant_id: str) -> int:
        """How many cards count towards the plan: all but the revoked."""
        return sum(card["tenant"] == tenant_id and card["state"] != "revoked" for card in self.cards.values())

    def _change_tenant(self, command: ChangeTenant) -> list[Expected]:
        tenant = self.tenants[command.tenant_id]
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
        return [("TenantChanged", {"name": tenant["name"]})]

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
        if terms["capacity"] < 1 or terms["capacity"] < event["inside"]:
            return refused("capacity_invalid")
        event["terms"] = terms
        return [("EventChanged", {"event_id": command.event_id})]

    # --- check-ins --------------------------------------------------------------------------------------------------

    def _check_in(self, command: CheckIn) -> list[Expected]:
        event = self.events[command.event_id]
        card = self.cards.get(command.card_id)
        visit = self.visits.get((command.event_id, command.card_id), {"inside": False, "entries": 0, "last": (0, "")})
        reason = self._reason(command, event, card, visit)
        first = (0, "")
        awarded, expected = 0, []
        if reason:
            event["refused"] += 1
            if reason == "already_admitted":
                first = visit["last"]
        elif command.direction == "entry":
            assert card is not None
            entries = visit["entries"] + 1
            event["admitted"] += 1
            event["inside"] += not visit["inside"]
            visit = {"inside": True, "entries": entries, "last": (self.at_ms, command.device_id)}
            awarded, expected = self._checkin_points(command, card, entries)
        else:
            event["inside"] -= visit["inside"]
            visit = {**visit, "inside": False}
        if not reason:
            self.visits[command.event_id, command.card_id] = visit
        scan = {
            "reason": reason,
            "inside": event["inside"],
            "admitted": event["admitted"],
            "refused": event["refused"],
            "capacity": event["terms"]["capacity"],
            "card_inside": visit["inside"],
            "card_entries": visit["entries"],
            "points_awarded": awarded,
            "points_balance": card["points"] if card and card["tenant"] == command.tenant_id else 0,
            "first_at_ms": first[0],
            "first_device_id": first[1],
            "device_id": command.device_id,
            "gate_id": command.gate_id,
        }
        return [("ScanJudged", scan), *expected]

    def _reason(
        self, command: CheckIn, event: dict[str, Any], card: dict[str, Any] | None, visit: dict[str, Any]
    ) -> str:
        now, terms = self.at_ms, event["terms"]
        if card is None or card["tenant"] != command.tenant_id:
            return "credential_invalid"
        if not _is_valid(now, command.valid_from_ms, command.valid_until_ms):
            return "credential_expired"
        if card["state"] != "active":
            return {"suspended": "card_suspended", "revoked": "card_revoked"}[card["state"]]
        if not _is_valid(now, *card["valid"]):
            return "card_expired"
        gates = {gate.gate_id: gate.is_open for gate in terms["gates"]}
        entering = command.direction == "entry"
        checks = (
            (terms["state"] == "cancelled", "event_cancelled"),
            (now < terms["doors_open_ms"], "event_not_open"),
            (terms["state"] == "closed" or 0 < terms["doors_close_ms"] <= now, "event_closed"),
            (command.gate_id and command.gate_id not in gates, "gate_unknown"),
            (command.gate_id and not gates.get(command.gate_id, True), "gate_closed"),
            (entering and terms["reentry"] == "none" and visit["entries"] > 0, "already_admitted"),
            (entering and terms["reentry"] != "multiple" and visit["inside"], "already_admitted"),
            (not entering and terms["strict_exit"] and not visit["inside"], "not_inside"),
            (entering and not visit["inside"] and event["inside"] + 1 > terms["capacity"], "full"),
        )
        return next((reason for is_broken, reason in checks if is_broken), "")

    def _checkin_points(self, command: CheckIn, card: dict[str, Any], entries: int) -> tuple[int, list[Expected]]:
        rules = [r for r in self.tenants[command.tenant_id]["points"] if r[2] > 0 and (entries == 1 or not r[3])]
        if not rules:
            return 0, []
        expected = self.lapse(command.card_id)
        for rule_id, version, points, _ in rules:
            rule = f"{rule_id}:{version}"
            cause = f"checkin:{command.request_id}"
            more = {"earned": points, "event_id": command.event_id, "drawn_on": "points:issued"}
            expected.append(self._post(command, "award", points, cause, **more, rule=rule))
        return sum(rule[2] for rule in rules), expected


def _is_valid(now_ms: int, from_ms: int, until_ms: int) -> bool:
    return from_ms <= now_ms and (until_ms == 0 or now_ms < until_ms)
