"""The second opinion on tiers by points, worked out anew from semantics.md and the rules that `actors.tiers` states:
points earned are kept entry by entry with their day, and counted each time."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.simulation.plain import Expected

LADDER = ("bronze", "silver", "gold", "platinum", "diamond")


class TierOracle:
    """The part of the oracle that knows how cards come into tiers. A card has `tier`, `tier_due` and `tier_held`."""

    def __init__(self) -> None:
        super().__init__()
        self.tenants: dict[str, dict[str, Any]] = {}
        self.cards: dict[str, dict[str, Any]] = {}
        self.at_ms = 0
        # By card: (day, points) of each award and, below zero, each reversal.
        self.earned: dict[str, list[tuple[date, int]]] = defaultdict(list)

    def local(self, card_id: str, when: int) -> datetime:
        """The time that clocks show in the zone of the card's organisation."""
        zone = ZoneInfo(self.tenants[self.cards[card_id]["tenant"]]["time_zone"])
        return datetime.fromtimestamp(when / 1000, UTC).astimezone(zone)

    def earn(self, card_id: str, amount: int, when: int) -> tuple[int, int] | None:
        """An award is counted for its day; what the day's sum is then."""
        if self.tenants[self.cards[card_id]["tenant"]]["tiers"] is None:
            return None
        return self._add(card_id, self.local(card_id, when).date(), amount)

    def unearn(self, card_id: str, amount: int, earned_on: tuple[int, int] | None) -> tuple[int, int] | None:
        """A reversed award is counted no more, if it was."""
        if earned_on is None:
            return None
        return self._add(card_id, datetime.strptime(str(earned_on[0]), "%Y%m%d").date(), -amount)

    def _add(self, card_id: str, day: date, amount: int) -> tuple[int, int]:
        self.earned[card_id].append((day, amount))
        return int(day.strftime("%Y%m%d")), sum(points for on, points in self.earned[card_id] if on == day)

    def counted(self, card_id: str, when: int) -> int:
        """The points that count at a time."""
        tiers = self.tenants[self.cards[card_id]["tenant"]]["tiers"]
        if tiers is None:
            return 0
        today = self.local(card_id, when).date()
        return sum(points for day, points in self.earned[card_id] if (today - day).days < tiers.window_days)

    def next_review(self, card_id: str, tier: str, after: int) -> int:
        """When a card that is in this tier is reviewed."""
        tiers = self.tenants[self.cards[card_id]["tenant"]]["tiers"]
        if tiers is None or LADDER.index(tier) <= LADDER.index(tiers.levels[0].tier):
            return 0
        wanted, local = tiers.review, self.local(card_id, after)
        for ahead in range(800):
            day = local.date() + timedelta(days=ahead)
            is_it = (day.month, day.day) == (wanted.month, wanted.day) or day.day in wanted.month_days
            moment = datetime(day.year, day.month, day.day, wanted.hour, wanted.minute, tzinfo=local.tzinfo)
            at_ms = round(moment.timestamp() * 1000)
            if is_it and at_ms > after:
                return at_ms
        raise AssertionError("no review in two years")

    def settle_tier(self, card_id: str) -> list[Expected]:
        """Reviews, and ends of what a person had set, up to now."""
        card, expected = self.cards[card_id], []
        while 0 < card["tier_due"] <= self.at_ms:
            due, before = card["tier_due"], card["tier"]
            points = self._look(card_id, card, due)
            if expected and expected[-1][0] == "TierReviewed":
                expected.pop()
            told = {"tier": card["tier"], "points": points, "due_ms": card["tier_due"], "as_of_ms": due}
            if card["tier"] == before:
                expected.append(("TierReviewed", told))
            else:
                reason = "until" if card["tier_held"] else "review"
                more = {"tier_before": before, "reason": reason, "is_held": False, "cause": ""}
                expected.append(("CardTierChanged", {**told, **more}))
            card["tier_held"] = False
        return expected

    def tier_now(self, card_id: str) -> str:
        """The card's tier with all that is due by now, which nothing is made of yet."""
        card = self.cards[card_id]
        as_it_was = dict(card)
        self.settle_tier(card_id)
        tier: str = card["tier"]
        card.update(as_it_was)
        return tier

    def _look(self, card_id: str, card: dict[str, Any], due: int) -> int:
        tiers = self.tenants[card["tenant"]]["tiers"]
        card["tier_due"] = 0
        if tiers is None or card["state"] == "revoked":
            return 0
        points = self.counted(card_id, due)
        ladder = [level.tier for level in tiers.levels]
        enough_for = [level.tier for level in tiers.levels if points >= level.points]
        worth = LADDER.index(enough_for[-1]) if enough_for else LADDER.index(ladder[0])
        has = LADDER.index(card["tier"])
        if card["tier_held"] or worth > has or tiers.policy == "by_points":
            card["tier"] = LADDER[worth]
        elif tiers.policy == "one_down" and worth < has:
            card["tier"] = max((one for one in ladder if LADDER.index(one) < has), key=LADDER.index)
        card["tier_due"] = self.next_review(card_id, card["tier"], due)
        return points

    def rise(self, card_id: str, cause: str, rule: str) -> list[Expected]:
        """What points that were earned just now lead to."""
        card = self.cards[card_id]
        tiers = self.tenants[card["tenant"]]["tiers"]
        if tiers is None or card["tier_held"]:
            return []
        points, before = self.counted(card_id, self.at_ms), card["tier"]
        reached = [level.tier for level in tiers.levels if points >= level.points]
        if reached and LADDER.index(reached[-1]) > LADDER.index(before):
            card["tier"] = reached[-1]
            card["tier_due"] = self.next_review(card_id, card["tier"], self.at_ms)
            told = {"tier": card["tier"], "tier_before": before, "reason": "points", "cause": cause, "rule": rule}
            more = {"points": points, "due_ms": card["tier_due"], "is_held": False, "as_of_ms": self.at_ms}
            return [("CardTierChanged", {**told, **more})]
        return self.first_review(card_id, points)

    def first_review(self, card_id: str, points: int) -> list[Expected]:
        """A card that should have a date for its review and has none gets one."""
        card = self.cards[card_id]
        if card["tier_due"]:
            return []
        card["tier_due"] = self.next_review(card_id, card["tier"], self.at_ms)
        told = {"tier": card["tier"], "points": points, "due_ms": card["tier_due"], "as_of_ms": self.at_ms}
        return [("TierReviewed", told)] if card["tier_due"] else []

    def set_tier(self, card_id: str, tier: str, until: int) -> list[Expected]:
        """A person sets it."""
        card, expected = self.cards[card_id], self.settle_tier(card_id)
        before, card["tier"], card["tier_held"] = card["tier"], tier, until > 0
        card["tier_due"] = until or self.next_review(card_id, tier, self.at_ms)
        told = {"tier": tier, "tier_before": before, "reason": "manual", "points": self.counted(card_id, self.at_ms)}
        more = {"due_ms": card["tier_due"], "is_held": card["tier_held"], "as_of_ms": self.at_ms}
        return [*expected, ("CardTierChanged", {**told, **more})]
