"""The second opinion on rules, worked out anew from semantics.md ("Rules") and the rules that `rules.language` and
`actors.rule_run` state. Every application is kept, and limits are counted from those that were not annulled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from actors.rule_commands import DeleteRule, SaveRule
from tests.simulation.oracle_grants import GrantOracle
from tests.simulation.oracle_points import Expected, refused

TIERS = ("bronze", "silver", "gold", "platinum", "diamond")


class Failed(Exception):
    """An expression has no value."""


def _is_vip(moment: Any) -> bool:
    if "vip" not in moment["attributes"]:
        raise Failed("key_missing")
    return bool(moment["attributes"]["vip"] == 1)


# What the expressions of `tests.simulation.rule_clients` mean.
MEANINGS: dict[str, Callable[[Any], Any]] = {
    "true": lambda _: True,
    "counts.visits_event == 1": lambda m: m["visits_event"] == 1,
    "card.tier == 'gold'": lambda m: m["tier"] == "gold",
    "card.points - 20": lambda m: m["points"] - 20,
    "member.attributes.vip == 1": _is_vip,
    "member.birthday == 521": lambda m: m["birthday"] == 521,
    "counts.visits_week > 1": lambda m: m["visits_week"] > 1,
    "points.amount >= 10": lambda m: m["amount"] >= 10,
    "top_up.amount / 10": lambda m: m["amount"] // 10,
    "tier.to == 'gold'": lambda m: m["tier"] == "gold",
    "streak.days * 2": lambda m: m["streak"] * 2,
    "coupon.kind == 'item' && coupon.bill != ''": lambda m: m["coupon"][1] == "item" and m["coupon"][3] != "",
    "coupon.id == 'cpn_1' || coupon.id == 'cpn_3'": lambda m: m["coupon"][0] in ("cpn_1", "cpn_3"),
    "coupon.amount + 1": lambda m: m["coupon"][2] + 1,
}


class RuleOracle:
    """The part of the oracle that knows rules."""

    tenants: dict[str, dict[str, Any]]
    cards: dict[str, dict[str, Any]]
    ledgers: dict[str, list[dict[str, Any]]]
    came: dict[str, dict[tuple[date, str], bool]]
    last_came: dict[str, date]
    long_ago: dict[str, int]
    at_ms: int
    known: Callable[[str], dict[str, Any]]
    grants: GrantOracle

    def __init__(self) -> None:
        super().__init__()
        self.rules: dict[str, dict[str, Any]] = {}
        # By rule and version: the day on which it last failed.
        self.failed: dict[Any, int] = {}
        # All applications: rule, card, day (0 where it is not counted for the card), points, cause, whether it holds.
        self.applied: list[dict[str, Any]] = []

    # The other parts.
    def _post(self, command: Any, kind: str, amount: int, cause: str, **more: Any) -> Expected:
        raise NotImplementedError

    def lapse(self, card_id: str) -> list[Expected]:
        raise NotImplementedError

    def available(self, card: dict[str, Any], account: str) -> int:
        raise NotImplementedError

    def counted(self, card_id: str, when: int) -> int:
        raise NotImplementedError

    def next_review(self, card_id: str, tier: str, after: int) -> int:
        raise NotImplementedError

    def rise(self, card_id: str, cause: str, rule: str) -> list[Expected]:
        raise NotImplementedError

    # --- what they are ----------------------------------------------------------------------------------------------

    def about_rules(self, command: SaveRule | DeleteRule) -> list[Expected]:
        """A rule is saved or deleted."""
        rules = self.rules.setdefault(command.tenant_id, {})
        if isinstance(command, DeleteRule):
            if command.rule_id not in rules:
                return refused("rule_unknown")
            version = rules.pop(command.rule_id)["version"]
            self.failed = {one: day for one, day in self.failed.items() if one[0] != command.rule_id}
            self.applied = [one for one in self.applied if one["rule"] != command.rule_id]
            return [("RuleDeleted", {"rule_id": command.rule_id, "version": version})]
        told = command.definition
        before = rules.get(told.rule_id)
        if before is None and not command.is_new:
            return refused("rule_unknown")
        if any(type(action).__name__ == "SetTier" and action.tier not in TIERS for action in told.then):
            return refused("rule_invalid")
        new = [action for action in told.then if before is None or action not in before["then"]]
        if not all(self.grants.can_be_granted(command.tenant_id, action) for action in new):
            return refused("rule_invalid")
        rule = {name: getattr(told, name) for name in told.__struct_fields__}
        rule["version"] = before["version"] + 1 if before else 1
        rules[told.rule_id] = rule
        return [("RuleSaved", {"definition": rule})]

    def has_rules_on(self, tenant_id: str, trigger: str) -> bool:
        """Whether any rule is moved by such a thing."""
        return any(r["on"] == trigger and r["state"] == "active" for r in self.rules.get(tenant_id, {}).values())

    # --- what they do -----------------------------------------------------------------------------------------------

    def run(
        self, card_id: str, cause: str, event_id: str, when: int, moments: list[tuple[str, dict[str, Any]]], **more: Any
    ) -> list[Expected]:
        """The postings, and what else rules do; and so on, where points lead to a higher tier. `base` in `more` are
        awards (rule, points) that go before."""
        self._cause: dict[str, Any] = {
            "card": card_id,
            "cause": cause,
            "event": event_id,
            "when": when,
            "lapsed": False,
        }
        self._cause.update(posted=[], others=[], held=more.get("held", {}))
        seen = {"points": more["points"], **self._counts(card_id, when), **self.known(card_id)}
        base = more.get("base", ())
        for rule, points in base:
            self._give(points, rule, 0)
        for trigger, told in moments:
            given = sum(points for _, points in base) if trigger in ("checkin", "coupon_used") else 0
            self._moment(trigger, {**seen, **told}, given, 0)
        return self._rounds(card_id, seen, list(more.get("root", ())))

    def _rounds(self, card_id: str, seen: dict[str, Any], awards: list[dict[str, Any]]) -> list[Expected]:
        """Postings and what rules did, then the rise to a tier that the points lead to, then what comes of that."""
        told: list[Expected] = []
        for depth in (1, 2, 3, 4):
            posted, others = self._cause["posted"], self._cause["others"]
            self._cause.update(posted=[], others=[])
            for kind, fields in others:
                if kind == "CardTierChanged":
                    fields["points"] = self.counted(card_id, self.at_ms)
            awards += [fields for _, fields in posted if fields.get("kind") == "award"]
            told += [*posted, *others]
            before = self.cards[card_id]["tier"]
            told += self.rise(card_id, awards[-1]["cause"], awards[-1]["rule"]) if awards else []
            if self.cards[card_id]["tier"] == before:
                return told
            if depth < 3:
                self._moment("tier_changed", seen, 0, depth)
        raise AssertionError("rises without end")

    def _moment(self, trigger: str, seen: dict[str, Any], given: int, depth: int) -> None:
        card = self.cards[self._cause["card"]]
        before = card["tier"]
        rules = [
            r for r in self.rules.get(card["tenant"], {}).values() if r["on"] == trigger and r["state"] == "active"
        ]
        if trigger == "schedule":
            rules = [r for r in rules if r["rule_id"] in seen["due"]]
        given += self._rules(trigger, sorted(rules, key=_order), {**seen, "tier": before}, given, depth)
        if depth == 2:
            return
        if given:
            self._moment("points_earned", {**seen, "amount": given}, 0, depth + 1)
        if card["tier"] != before:
            self._moment("tier_changed", seen, 0, depth + 1)

    def _rules(self, trigger: str, rules: list[Any], seen: dict[str, Any], given: int, depth: int) -> int:
        before, steps, failures = given, [], []
        place = len(self._cause["others"])
        chosen: list[tuple[Any, list[Any]]] = []
        groups: set[str] = set()
        for rule in rules:
            if rule["stacking"] == "best":
                if rule["group"] in groups:
                    continue
                groups.add(rule["group"])
                members = [one for one in rules if one["stacking"] == "best" and one["group"] == rule["group"]]
            else:
                members = [rule]
            found = []
            for one in members:
                try:
                    effects = self._effects(one, seen, given)
                except Failed as failed:
                    where, reason = failed.args if len(failed.args) == 2 else ("when", failed.args[0])
                    failures.append((one["rule_id"], one["version"], where, reason))
                    continue
                if effects and self._has_room(one, _points(effects)):
                    found.append((-_points(effects), len(found), one, effects))
            if not found:
                continue
            _, _, best, effects = min(found, key=lambda one: one[:2])
            given += _points(effects)
            chosen.append((best, effects))
            if best["stacking"] == "stop":
                break
        for rule, effects in chosen:
            fault = self.grants.fault([value for kind, value in effects if kind == "grant"], self._cause["card"])
            if fault:
                failures.append((rule["rule_id"], rule["version"], "then", fault))
                given -= _points(effects)
                continue
            one = self._use(rule, _points(effects))
            for kind, value in effects:
                self._effect(rule, kind, value, one)
            steps.append(self._step(one))
        failures, today = self._first_today(failures)
        if steps or failures:
            told = {"trigger": trigger, "depth": depth, "cause": self._cause["cause"]}
            told.update(steps=steps, failures=failures, failed_on=today if failures else 0)
            self._cause["others"].insert(place, ("RulesApplied", told))
        return given - before

    def _first_today(self, failures: list[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], int]:
        """A version that fails is told once a day."""
        today = self._day(self.at_ms)
        told = [one for one in failures if self.failed.get(one[:2], 0) < today]
        self.failed.update({one[:2]: today for one in told})
        return told, today

    def _effects(self, rule: Any, seen: dict[str, Any], given: int) -> list[tuple[str, Any]]:
        if not MEANINGS[rule["when"]](seen):
            return []
        effects: list[tuple[str, Any]] = []
        for number, action in enumerate(rule["then"]):
            kind = type(action).__name__
            if kind == "AwardPoints":
                points = MEANINGS[action.amount](seen) if action.amount else action.points
                if points < 0:
                    raise Failed(f"then/{number}", "amount_out_of_range")
                effects += [("award", (points, action.expires_after_days))] if points else []
            elif kind == "Multiply":
                points = given * action.factor_thousandths // 1000 - given
                effects += [("award", (points, 0))] if points else []
            elif kind == "SetTier":
                effects += [("tier", action.tier)] if action.tier != seen["tier"] else []
            elif kind == "GrantCoupon":
                effects.append(("grant", action.coupon_id))
            elif kind == "Notify":
                effects.append(("notify", (action.template, action.text)))
            else:
                effects.append(("call_webhook", (action.name, "")))
        return effects

    def _of(self, rule_id: str, card_id: str | None = None) -> list[dict[str, Any]]:
        """The applications of a rule; of those for one card only the ones that its limits count."""
        found = [one for one in self.applied if one["rule"] == rule_id]
        return found if card_id is None else [one for one in found if one["card"] == card_id and one["day"]]

    def _has_room(self, rule: Any, points: int) -> bool:
        limits, mine = rule["limits"], self._of(rule["rule_id"], self._cause["card"])
        today = self._day(self._cause["when"])
        latest = max((one["day"] for one in mine), default=today)
        times = sum(one["holds"] for one in mine)
        day_times = sum(one["holds"] and one["day"] == latest for one in mine) if latest >= today else 0
        spent = sum(one["points"] for one in self._of(rule["rule_id"]) if one["holds"])
        return not (
            (limits.per_card and times >= limits.per_card)
            or (limits.per_card_per_day and day_times >= limits.per_card_per_day)
            or (limits.points_budget and spent + points > limits.points_budget)
        )

    def _use(self, rule: Any, points: int) -> dict[str, Any]:
        rule_id, card_id = rule["rule_id"], self._cause["card"]
        day = 0
        if rule["limits"].per_card or rule["limits"].per_card_per_day:
            days = [one["day"] for one in self._of(rule_id, card_id)]
            day = max([self._day(self._cause["when"]), *days])
        one = {"rule": rule_id, "version": rule["version"], "card": card_id, "day": day, "points": points}
        one.update(cause=(card_id, self._cause["cause"]), holds=True, codes=())
        self.applied.append(one)
        return one

    def _step(self, one: dict[str, Any]) -> tuple[Any, ...]:
        """What a fact says of an application, with the counts after it."""
        spent = sum(other["points"] for other in self._of(one["rule"]) if other["holds"])
        use = None
        if one["day"]:
            mine = self._of(one["rule"], one["card"])
            latest = max(other["day"] for other in mine)
            today = sum(other["holds"] and other["day"] == latest for other in mine)
            use = (one["rule"], sum(other["holds"] for other in mine), latest, today)
        return ((one["rule"], one["version"], one["points"], one["day"], one["codes"]), spent, use)

    def _effect(self, rule: Any, kind: str, value: Any, one: dict[str, Any]) -> None:
        cited = f"{rule['rule_id']}:{rule['version']}"
        card = self.cards[self._cause["card"]]
        if kind == "award":
            self._give(value[0], cited, value[1])
        elif kind == "tier":
            if value != card["tier"]:
                self._lapse()
                if card["tier_held"]:
                    return
                told = {"tier": value, "tier_before": card["tier"], "reason": "rule", "rule": cited}
                card["tier"], card["tier_due"] = value, self.next_review(self._cause["card"], value, self.at_ms)
                told.update(due_ms=card["tier_due"], is_held=False, as_of_ms=self.at_ms)
                self._cause["others"].append(("CardTierChanged", {**told, "cause": self._cause["cause"]}))
        elif kind == "grant":
            granted = self.grants.give(value, one["cause"], (rule["rule_id"], rule["version"]))
            one["codes"] += (granted["code_id"],)
            self._cause["others"].append(("CodeGranted", granted))
        else:
            told = {"rule_id": rule["rule_id"], "version": rule["version"], "cause": self._cause["cause"]}
            told.update(kind=kind, name=value[0], text=value[1])
            self._cause["others"].append(("EffectRequested", told))

    def _give(self, points: int, rule: str, expires_days: int) -> None:
        about = self._cause
        card_id = about["card"]
        self._lapse()
        more: dict[str, Any] = {"earned": points, "event_id": about["event"], "drawn_on": "points:issued"}
        if expires_days:
            lot = len(self.ledgers[card_id]) + 1
            more["lots"] = [(lot, points, self.at_ms + expires_days * 86_400_000, 0)]
        about["posted"].append(
            self._post(card_id, "award", points, about["cause"], **more, rule=rule, when=about["when"])
        )

    def _lapse(self) -> None:
        about = self._cause
        if not about["lapsed"] and not about["held"]:
            about["posted"] += self.lapse(about["card"])
        about["lapsed"] = True

    # --- what is annulled -------------------------------------------------------------------------------------------

    def units(self, card_id: str, cause: str) -> list[tuple[Any, ...]]:
        """What the cause that was just taken in used."""
        return [
            (one["rule"], one["version"], one["points"], one["day"], one["codes"])
            for one in self.applied
            if one["cause"] == (card_id, cause)
        ]

    def returned(self, card_id: str, cause: str) -> list[Expected]:
        """The cause is annulled: what it used counts no more, what it granted is withdrawn. (That of a coupon's use is
        told by `CouponOracle`.)"""
        steps = []
        for one in self.applied:
            if one["cause"] == (card_id, cause) and one["holds"]:
                one["holds"] = False
                steps.append(self._step(one))
        told: list[Expected] = [("RuleUnitsReturned", {"cause": cause, "steps": steps})] if steps else []
        return told if cause.startswith("coupon:") else [*told, *self.grants.withdrawn(card_id, cause)]

    # --- days -------------------------------------------------------------------------------------------------------

    def _date(self, card_id: str, when: int) -> date:
        zone = ZoneInfo(self.tenants[self.cards[card_id]["tenant"]]["time_zone"])
        return datetime.fromtimestamp(when / 1000, UTC).astimezone(zone).date()

    def _day(self, when: int) -> int:
        return int(self._date(self._cause["card"], when).strftime("%Y%m%d"))

    def _counts(self, card_id: str, when: int) -> dict[str, Any]:
        """The visits of this week, as of the day; of a day before the last one, as of that."""
        came, day = self.came.get(card_id, {}), self._date(card_id, when)
        last = self.last_came.get(card_id)
        if last is None:
            return {"visits_week": 0}
        week = max(day, last).isocalendar()[:2]
        return {"visits_week": sum(one.isocalendar()[:2] == week for one, _ in came)}

    def streak(self, card_id: str, day: date) -> int:
        """The days in a row with a visit, as of this day (or the last one, if that is later)."""
        came, last = self.came.get(card_id, {}), self.last_came.get(card_id)
        if last is None:
            return 0
        days = {one for one, _ in came}
        if day > last:
            first = last if last in days and day == last + timedelta(1) else None
        else:
            first = last if last in days else last - timedelta(1)
        count = 0
        while first is not None and first - timedelta(count) in days:
            count += 1
        return count


def _order(rule: Any) -> tuple[int, str]:
    return (-rule["priority"], rule["rule_id"])


def _points(effects: list[tuple[str, Any]]) -> int:
    return sum(value[0] for kind, value in effects if kind == "award")
