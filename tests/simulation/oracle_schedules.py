"""The second opinion on rules that come at local times, worked out anew from semantics.md and the rules that
`actors.rounds` states."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.simulation.plain import Expected

# How much one step does here: so little that a round takes several.
STEP_CARDS = 2
STEP_FACTS = 3


class ScheduleOracle:
    """The part of the oracle that knows scheduled rules: by tenant and rule when it comes, and the round under way."""

    tenants: dict[str, dict[str, Any]]
    cards: dict[str, dict[str, Any]]
    rules: dict[str, dict[str, Any]]
    at_ms: int

    def __init__(self) -> None:
        super().__init__()
        self.dues: dict[str, dict[str, int]] = {}
        self.rounds: dict[str, tuple[int, tuple[str, ...], str] | None] = {}

    def seen(self, card_id: str) -> dict[str, int]:
        raise NotImplementedError

    def run(
        self, card_id: str, cause: str, event_id: str, when: int, moments: list[tuple[str, dict[str, Any]]], **more: Any
    ) -> list[Expected]:
        raise NotImplementedError

    def wakes(self, tenant_id: str) -> int:
        """When the organisation's alarm rings."""
        walk = self.rounds.get(tenant_id)
        return walk[0] if walk else min(self.dues.get(tenant_id, {}).values(), default=0)

    def rescheduled(self, tenant_id: str, before: dict[str, Any], zone: str) -> list[Expected]:
        """The rules or the clocks are no longer as they were `before` and in `zone`."""
        old, wake = dict(self.dues.get(tenant_id, {})), self.wakes(tenant_id)
        new: dict[str, int] = {}
        for rule_id, rule in self.rules.get(tenant_id, {}).items():
            if rule["on"] != "schedule" or rule["state"] != "active":
                continue
            same = rule_id in before and _times(before[rule_id]) == _times(rule)
            keeps = same and zone == self.tenants[tenant_id]["time_zone"] and rule_id in old
            new[rule_id] = old[rule_id] if keeps else self._comes_next(tenant_id, rule)
        if new == old:
            return []
        self.dues[tenant_id] = new
        moved: Expected = ("SchedulesMoved", {"schedules": self._schedules(tenant_id), "walked_ms": 0})
        alarm: Expected = ("AlarmSet", {"entity_id": tenant_id, "wake_ms": self.wakes(tenant_id), "rang": False})
        return [moved, alarm] if self.wakes(tenant_id) != wake else [moved]

    def scheduled(self, tenant_id: str) -> list[Expected]:
        """The organisation's alarm rang; what it led to, without the alarm."""
        walk, dues = self.rounds.get(tenant_id), self.dues.get(tenant_id, {})
        if walk is not None:
            return self._walk_on(tenant_id, *walk)
        first = min(dues.values(), default=0)
        if not 0 < first <= self.at_ms:
            return []
        come = tuple(sorted(rule_id for rule_id, due in dues.items() if due == first))
        for rule_id in come:
            dues[rule_id] = self._comes_next(tenant_id, self.rules[tenant_id][rule_id])
        self.rounds[tenant_id] = (first, come, "")
        return [("SchedulesMoved", {"schedules": self._schedules(tenant_id), "walked_ms": 0})]

    def _walk_on(self, tenant_id: str, due: int, come: tuple[str, ...], after: str) -> list[Expected]:
        mine = [card_id for card_id, card in self.cards.items() if card["tenant"] == tenant_id]
        mine = sorted(card_id for card_id in mine if card_id > after and self.cards[card_id]["issued"] <= due)
        led_to: list[Expected] = []
        looked = 0
        for card_id in mine[:STEP_CARDS]:
            if len(led_to) >= STEP_FACTS:
                break
            looked, after = looked + 1, card_id
            if self.cards[card_id]["state"] == "active":
                before, moments = self.seen(card_id), [("schedule", {"due": come})]
                alarm = self.alarm(card_id)
                led_to += self.run(card_id, f"schedule:{due}", "", due, moments, **before)
                led_to += self._alarm_of(card_id, alarm)
        is_over = looked == min(STEP_CARDS, len(mine)) and len(mine) < STEP_CARDS
        self.rounds[tenant_id] = None if is_over else (due, come, after)
        return [("SchedulesMoved", {"schedules": self._schedules(tenant_id), "walked_ms": due}), *led_to]

    def _schedules(self, tenant_id: str) -> Any:
        return sorted(self.dues.get(tenant_id, {}).items()), self.rounds.get(tenant_id)

    def _comes_next(self, tenant_id: str, rule: Any) -> int:
        """(The zones of this world change no clocks in May.)"""
        told, zone = rule["schedule"], ZoneInfo(self.tenants[tenant_id]["time_zone"])
        today = datetime.fromtimestamp(self.at_ms / 1000, UTC).astimezone(zone).date()
        for ahead in range(70):
            day = today + timedelta(ahead)
            last = monthrange(day.year, day.month)[1]
            is_it = not told.weekdays and not told.days_of_month
            is_it = is_it or day.isoweekday() in told.weekdays or day.day in told.days_of_month
            is_it = is_it or (day.day == last and any(one > last for one in told.days_of_month))
            hour, minute = divmod(told.minute, 60)
            moment = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
            if is_it and moment.timestamp() * 1000 > self.at_ms:
                return round(moment.timestamp() * 1000)
        raise AssertionError("a schedule comes at least once a month")


def _times(rule: Any) -> Any:
    return rule["on"], rule["state"], rule["schedule"]
