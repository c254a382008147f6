"""A second opinion: what each command should lead to, worked out anew from plain dicts.

Written from semantics.md, not from the production code. It takes the journal's commands in order, decides each on its
own state, and hands back what the facts should say, as `(kind, {field: value})`. Its state is the reference for all
that is shown.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from actors.commands import (
    AwardPoints,
    ChangeCardState,
    ChangeEvent,
    ChangePlan,
    ChangeTenant,
    CheckIn,
    Command,
    CreateEvent,
    IssueCard,
    OpenTenant,
    RedeemPoints,
    RenameCardHolder,
    ReversePoints,
)
from actors.coupon_commands import CouponCommand
from actors.terms import EventTerms
from actors.versions import event_version, gate_version
from tests.simulation.oracle_coupons import CouponOracle

Expected = tuple[str, dict[str, Any]]
# How many cards a tenant on the Free plan may have here; so few that they are used up all the time.
FREE_CARDS = 4


class Oracle:
    """State after a prefix of the journal."""

    def __init__(self) -> None:
        self.tenants: dict[str, dict[str, Any]] = {}
        self.cards: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        # (event, card) -> who is inside, how often, since when
        self.visits: dict[tuple[str, str], dict[str, Any]] = {}
        self.ledgers: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.day_scores: dict[tuple[str, int, str], int] = defaultdict(int)
        self.event_scores: dict[tuple[str, str], int] = defaultdict(int)
        self.latest_day: dict[str, int] = defaultdict(int)
        self.coupons = CouponOracle(self)
        self.at_ms = 0

    def decide(self, command: Command, at_ms: int) -> list[Expected]:
        """What the command's facts should say. The state takes them in at once."""
        self.at_ms = at_ms
        if isinstance(command, CouponCommand):
            return self.coupons.decide(command)
        card_id = getattr(command, "card_id", "")
        alarm_ms = self.alarm(card_id)
        expected = self._decide(command)
        if self.alarm(card_id) != alarm_ms:
            expected.append(("AlarmSet", {"entity_id": card_id, "wake_ms": self.alarm(card_id), "rang": False}))
        return expected

    def woken(self, kind: str, card_id: str, at_ms: int) -> list[Expected]:
        """What a card's or a coupon's alarm leads to."""
        self.at_ms = at_ms
        if kind == "coupon":
            ended = self.coupons.lapse(card_id)
            return [("AlarmSet", {"entity_id": card_id, "wake_ms": self.coupons.alarm(card_id), "rang": True}), *ended]
        lapsed = self.lapse(card_id)
        return [("AlarmSet", {"entity_id": card_id, "wake_ms": self.alarm(card_id), "rang": True}), *lapsed]

    def alarm(self, card_id: str) -> int:
        """When the next of a card's points lapse, 0 if none do."""
        lots = self.cards[card_id]["lots"].values() if card_id in self.cards else ()
        return min((expires for expires, left in lots if left), default=0)

    def _decide(self, command: Command) -> list[Expected]:
        match command:
            case OpenTenant():
                self.tenants[command.tenant_id] = {
                    "name": command.name,
                    "time_zone": command.settings.time_zone,
                    "overdraft_max": command.settings.overdraft_max,
                    "points": [(r.rule_id, r.version, r.points, r.once_per_event) for r in command.settings.rules],
                    "plan": command.settings.plan,
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
                    return _refused("quota_exceeded")
                who = {name: getattr(command, name) for name in ("member_id", "member_name", "tier")}
                valid = (command.valid_from_ms, command.valid_until_ms)
                self.cards[command.card_id] = {**who, "tenant": command.tenant_id, "valid": valid, "state": "active"}
                self.cards[command.card_id].update(balance=0, earned=0, lots={})
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
                    return _refused("card_revoked")
                card["state"] = command.state
                cards = self.cards_in_force(command.tenant_id)
                return [("CardStateChanged", {"state": command.state, "cards_after": cards})]
            case RenameCardHolder():
                self.cards[command.card_id]["member_name"] = command.member_name
                return [("CardHolderRenamed", {"member_name": command.member_name})]
            case CheckIn():
                return self._check_in(command)
            case AwardPoints():
                return self._award(command)
            case RedeemPoints():
                return self._redeem(command)
            case ReversePoints():
                return self._reverse(command)
        raise AssertionError(command)

    def cards_in_force(self, tenant_id: str) -> int:
        """How many cards count towards the plan: all but the revoked."""
        return sum(card["tenant"] == tenant_id and card["state"] != "revoked" for card in self.cards.values())

    def _change_tenant(self, command: ChangeTenant) -> list[Expected]:
        tenant = self.tenants[command.tenant_id]
        for name in ("name", "time_zone", "overdraft_max"):
            if getattr(command, name) is not None:
                tenant[name] = getattr(command, name)
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
                return _refused("precondition_failed")
        for name in terms:
            if getattr(command, name, None) is not None:
                terms[name] = getattr(command, name)
        if command.gate is not None:
            gates = {gate.gate_id: gate for gate in terms["gates"]}
            gates[command.gate.gate_id] = command.gate
            terms["gates"] = tuple(gates.values())
        if terms["capacity"] < 1 or terms["capacity"] < event["inside"]:
            return _refused("capacity_invalid")
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
            "points_balance": card["balance"] if card and card["tenant"] == command.tenant_id else 0,
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
            expected.append(
                self.post(command, "award", points, cause, earned=points, event_id=command.event_id, rule=rule)
            )
        return sum(rule[2] for rule in rules), expected

    # --- points -----------------------------------------------------------------------------------------------------

    def post(self, command: Any, kind: str, amount: int, cause: str, **more: Any) -> Expected:
        """Adds an entry; `lots` in `more` is (lot, left, expiry) as they are after it."""
        card_id = command if isinstance(command, str) else command.card_id
        card = self.cards[card_id]
        card["balance"] += amount
        zone = ZoneInfo(self.tenants[card["tenant"]]["time_zone"])
        local = datetime.fromtimestamp(self.at_ms / 1000, UTC).astimezone(zone)
        # A card's days only go forward, whatever becomes of its tenant's time zone.
        day = max(int(local.strftime("%Y%m%d")), self.latest_day[card_id])
        self.latest_day[card_id] = day
        earned, event_id = more.get("earned", 0), more.get("event_id", "")
        card["earned"] += earned
        if more.get("earned_day", day) == day:
            self.day_scores[card["tenant"], day, card_id] += earned
        if event_id:
            self.event_scores[event_id, card_id] += earned
        for lot, left, expires in more.get("lots", ()):
            card["lots"][lot] = (expires, left)
        ledger = self.ledgers[card_id]
        entry = {
            "entry_seq": len(ledger) + 1,
            "kind": kind,
            "amount": amount,
            "balance_after": card["balance"],
            "cause": cause,
            "rule": more.get("rule", ""),
            "event_id": event_id,
            "day": day,
            "earned_after": card["earned"],
            "day_earned_after": self.day_scores[card["tenant"], day, card_id],
            "event_earned_after": self.event_scores[event_id, card_id] if event_id else 0,
            "takings": {lot: part for lot, part in more.get("takings", {}).items() if part},
            "lots": {lot: (expires, left) for lot, left, expires in more.get("lots", ())},
            "reverses": more.get("reverses", 0),
            "short_by": more.get("short_by", 0),
        }
        ledger.append({**entry, "earned": earned})
        return ("PointsPosted", entry)

    def lapse(self, card_id: str) -> list[Expected]:
        """Posts the expiry of what has lapsed."""
        card = self.cards[card_id]
        lapsed = sorted(
            (expires, lot) for lot, (expires, left) in card["lots"].items() if left and expires <= self.at_ms
        )
        expected = []
        for expires, lot in lapsed:
            left = card["lots"][lot][1]
            expected.append(
                self.post(card_id, "expire", -left, f"expiry:{lot}", lots=[(lot, 0, expires)], takings={lot: left})
            )
        return expected

    def spend(self, card: dict[str, Any], amount: int, first: int = 0) -> dict[str, Any]:
        """Soonest expiry first, then the oldest; `first` before all; the rest from points without expiry."""
        lots = sorted((lot != first, expires, lot, left) for lot, (expires, left) in card["lots"].items() if left)
        changed, takings = [], {}
        for _, expires, lot, left in lots:
            part = min(left, amount)
            amount -= part
            if part:
                changed.append((lot, left - part, expires))
                takings[lot] = part
        return {"lots": changed, "takings": {**takings, 0: amount}}

    def _award(self, command: AwardPoints) -> list[Expected]:
        card = self.cards[command.card_id]
        if not 1 <= command.amount <= 1_000_000_000:
            return _refused("amount_invalid")
        if command.expires_at_ms and command.expires_at_ms <= self.at_ms:
            return _refused("expiry_invalid")
        if card["state"] != "active":
            return _refused("card_not_active")
        expected = self.lapse(command.card_id)
        lot = len(self.ledgers[command.card_id]) + 1
        lots = [(lot, command.amount, command.expires_at_ms)] if command.expires_at_ms else []
        return [*expected, self.post(command, "award", command.amount, "request", earned=command.amount, lots=lots)]

    def _redeem(self, command: RedeemPoints) -> list[Expected]:
        card = self.cards[command.card_id]
        if not 1 <= command.amount <= 1_000_000_000:
            return _refused("amount_invalid")
        if card["state"] != "active":
            return _refused("card_not_active")
        lapsed = sum(left for expires, left in card["lots"].values() if expires <= self.at_ms)
        if command.amount > card["balance"] - lapsed + self.tenants[command.tenant_id]["overdraft_max"]:
            return _refused("insufficient_points")
        expected = self.lapse(command.card_id)
        spent = self.spend(card, command.amount)
        return [*expected, self.post(command, "redeem", -command.amount, "request", **spent)]

    def _reverse(self, command: ReversePoints) -> list[Expected]:
        card, ledger = self.cards[command.card_id], self.ledgers[command.card_id]
        if not 1 <= command.entry_seq <= len(ledger):
            return _refused("entry_unknown")
        original = ledger[command.entry_seq - 1]
        if original["kind"] not in ("award", "redeem") or original["cause"].startswith("coupon:"):
            return _refused("entry_not_reversible")
        if any(entry["reverses"] == command.entry_seq for entry in ledger):
            return _refused("already_reversed")
        expected = self.lapse(command.card_id)
        more: dict[str, Any] = {"reverses": command.entry_seq}
        if original["kind"] == "award":
            floor = self.tenants[command.tenant_id]["overdraft_max"]
            taken = max(0, min(original["amount"], card["balance"] + floor))
            more.update(self.spend(card, taken, first=next(iter(original["lots"]), 0)))
            more.update(earned=-original["amount"], event_id=original["event_id"], earned_day=original["day"])
            more["short_by"] = original["amount"] - taken
            amount = -taken
        else:
            amount = -original["amount"]
            back = {lot: part for lot, part in original["takings"].items() if lot}
            now = {lot: card["lots"][lot] for lot in back}
            more["lots"] = [(lot, now[lot][1] + part, now[lot][0]) for lot, part in back.items()]
            more["takings"] = {lot: -part for lot, part in original["takings"].items()}
        expected.append(self.post(command, "reverse", amount, f"reversal:{command.entry_seq}", **more))
        return [*expected, *self.lapse(command.card_id)]


def _is_valid(now_ms: int, from_ms: int, until_ms: int) -> bool:
    return from_ms <= now_ms and (until_ms == 0 or now_ms < until_ms)


def _refused(reason: str) -> list[Expected]:
    return [("CommandRefused", {"reason": reason})]
