"""The second opinion on what rules know of members, and on birthdays, worked out anew from semantics.md and the rules
that `actors.birthdays` states."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from actors.member_commands import DescribeCardHolder
from tests.simulation.oracle_points import Expected, refused

DAYS_OF_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class MemberOracle:
    """The part of the oracle that knows members. A card has `profile` (birthday, year, attributes), `birthday` (the day
    on which it comes next, None for never), `birthday_due` (when that begins, 0) and `birthday_in` (the last year)."""

    tenants: dict[str, dict[str, Any]]
    cards: dict[str, dict[str, Any]]
    at_ms: int

    # The other parts.
    def seen(self, card_id: str) -> dict[str, int]:
        raise NotImplementedError

    def lapse(self, card_id: str, when: int = 0) -> list[Expected]:
        raise NotImplementedError

    def run(
        self, card_id: str, cause: str, event_id: str, when: int, moments: list[tuple[str, dict[str, Any]]], **more: Any
    ) -> list[Expected]:
        raise NotImplementedError

    def settle_tier(self, card_id: str) -> list[Expected]:
        raise NotImplementedError

    def has_rules_on(self, tenant_id: str, trigger: str) -> bool:
        raise NotImplementedError

    def born(self, card_id: str, profile: Any) -> None:
        """A card is issued to a member of whom this is known."""
        card = self.cards[card_id]
        card.update(profile=_told(profile), birthday_in=0)
        card["birthday"], card["birthday_due"] = self._next(card, self.at_ms)

    def describe(self, command: DescribeCardHolder) -> list[Expected]:
        """This is known from now on."""
        card, told = self.cards[command.card_id], _told(command.profile)
        month, day = divmod(told[0], 100)
        if told[0] and not (1 <= month <= 12 and 1 <= day <= DAYS_OF_MONTHS[month - 1]):
            return refused("terms_invalid")
        is_due = 0 < card["birthday_due"] <= self.at_ms
        is_same = told[0] == card["profile"][0] and card["birthday_due"]
        card["profile"] = told
        if card["state"] == "revoked" or not told[0]:
            card["birthday"], card["birthday_due"] = None, 0
        elif not is_due and not is_same:
            card["birthday"], card["birthday_due"] = self._next(card, self.at_ms)
        return [("CardHolderDescribed", {"profile": told, **_coming(card)})]

    def birthday(self, card_id: str) -> list[Expected]:
        """The alarm of a card rang whose birthday is due: what that leads to, and what else is due."""
        card = self.cards[card_id]
        day, zone = card["birthday"], self._zone(card)
        begins = _midnight(day, zone)
        if card["state"] != "revoked" and begins > self.at_ms:
            card["birthday_due"] = begins
            return [*self.settle_tier(card_id), ("BirthdayCame", {"came_on": 0, **_coming(card)}), *self.lapse(card_id)]
        is_active = card["state"] == "active"
        if card["state"] == "revoked":
            card["birthday"], card["birthday_due"] = None, 0
        else:
            card["birthday"], card["birthday_due"] = self._next({**card, "birthday_in": day.year}, self.at_ms)
        came_on = int(day.strftime("%Y%m%d")) if is_active else 0
        if is_active:
            card["birthday_in"] = day.year
        came: Expected = ("BirthdayCame", {"came_on": came_on, **_coming(card)})
        before, when = self.seen(card_id), min(begins, self.at_ms)
        reviewed = self.settle_tier(card_id)
        lapsed = self.lapse(card_id, when)
        if not is_active or not self.has_rules_on(card["tenant"], "birthday"):
            return [*reviewed, came, *lapsed]
        moments: list[tuple[str, dict[str, Any]]] = [("birthday", {})]
        return [
            *reviewed,
            came,
            *lapsed,
            *self.run(card_id, f"birthday:{came_on}", "", when, moments, held=True, **before),
        ]

    def known(self, card_id: str) -> dict[str, Any]:
        """What conditions see."""
        birthday, _, attributes = self.cards[card_id]["profile"]
        return {"birthday": birthday, "attributes": json.loads(attributes or "{}")}

    def _zone(self, card: dict[str, Any]) -> ZoneInfo:
        return ZoneInfo(self.tenants[card["tenant"]]["time_zone"])

    def _next(self, card: dict[str, Any], after: int) -> tuple[date | None, int]:
        """The first such day that begins after a moment, in a year after the last one."""
        if not card["profile"][0]:
            return None, 0
        month, day = divmod(card["profile"][0], 100)
        zone = self._zone(card)
        year = datetime.fromtimestamp(after / 1000, UTC).astimezone(zone).year
        while True:
            is_common = year % 4 != 0 or (year % 100 == 0 and year % 400 != 0)
            on = date(year, 2, 28) if is_common and (month, day) == (2, 29) else date(year, month, day)
            begins = _midnight(on, zone)
            if begins > after and year > card["birthday_in"]:
                return on, begins
            year += 1


def _told(profile: Any) -> tuple[int, int, str]:
    return profile.birthday, profile.birth_year, profile.attributes


def _coming(card: dict[str, Any]) -> dict[str, int]:
    on = int(card["birthday"].strftime("%Y%m%d")) if card["birthday"] else 0
    return {"birthday_on": on, "birthday_due_ms": card["birthday_due"]}


def _midnight(day: date, zone: ZoneInfo) -> int:
    """(The zones of this world change no clocks at midnight.)"""
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)
