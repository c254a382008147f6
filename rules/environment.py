"""What an expression can name: every variable with its fields, their types, and the triggers that have them.

Rules:
1. A variable is an object; only its fields are values. So what an expression needs of a moment is known when it is
   saved, and nothing else is handed to it. Of `member.attributes`, too, only single keys can be asked for.
2. `bounds` are the least and the greatest value of a whole number, `size_max` the most characters of a text or items
   of a list. They are what the cost of an expression and its freedom from overflow are judged by.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from rules import limits
from rules.language import TRIGGERS, Trigger

Type = Literal["bool", "int", "double", "string", "null", "texts", "numbers", "list", "map", "dyn"]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a variable: its CEL type (`texts` is a list of strings, `dyn` is known only at run time), and where a
    `Moment` has it, as attribute names."""

    type: Type
    path: tuple[str, ...]
    bounds: tuple[int, int] = (-limits.INTEGER_MAX, limits.INTEGER_MAX)
    size_max: int = 1
    triggers: tuple[Trigger, ...] = TRIGGERS
    about: str


_DOOR: Final[tuple[Trigger, ...]] = ("checkin", "exit")
_POINTS: Final[tuple[Trigger, ...]] = ("points_earned", "points_spent")
_COUPON: Final[tuple[Trigger, ...]] = ("coupon_used",)
_COUNT: Final = (0, limits.INTEGER_MAX)
_TIME: Final = (0, limits.INTEGER_MAX)


def _text(path: str, about: str, triggers: tuple[Trigger, ...] = TRIGGERS) -> Field:
    return Field(
        type="string", path=tuple(path.split(".")), size_max=limits.TEXT_CHARS_MAX, triggers=triggers, about=about
    )


def _int(
    path: str,
    about: str,
    triggers: tuple[Trigger, ...] = TRIGGERS,
    bounds: tuple[int, int] = (-limits.INTEGER_MAX, limits.INTEGER_MAX),
) -> Field:
    return Field(type="int", path=tuple(path.split(".")), bounds=bounds, triggers=triggers, about=about)


VARIABLES: Final[dict[str, dict[str, Field]]] = {
    "card": {
        "id": _text("card.card_id", "the card's id"),
        "tier": _text("card.tier", "its tier"),
        "points": _int("card.points", "points that can be spent, before this moment"),
        "earned": _int("card.earned", "points ever earned, before this moment"),
        "wallet": _int("card.wallet", "money in the wallet, in the currency's smallest unit"),
        "issued_days": _int("card.issued_days", "whole days since it was issued", bounds=_COUNT),
    },
    "member": {
        "id": _text("member.member_id", "the member's id, empty if nobody is known"),
        "birthday": _int("member.birthday", "month * 100 + day, 0 if unknown", bounds=(0, 1231)),
        "birth_year": _int("member.birth_year", "the year of birth, 0 if unknown", bounds=(0, 9999)),
        "attributes": Field(
            type="map",
            path=("member", "attributes"),
            about="the organisation's own attributes, each by its name",
        ),
    },
    "event": {
        "id": _text("event.event_id", "the event's id", _DOOR),
        "name": _text("event.name", "its name", _DOOR),
        "tags": Field(
            type="texts",
            path=("event", "tags"),
            size_max=limits.TAGS_PER_EVENT_MAX,
            triggers=_DOOR,
            about="its tags",
        ),
        "doors_open_ms": _int("event.doors_open_ms", "when its doors open, 0 if not set", _DOOR, _TIME),
    },
    "scan": {
        "gate_id": _text("scan.gate_id", "the gate", _DOOR),
        "direction": _text("scan.direction", '"entry" or "exit"', _DOOR),
        "device_id": _text("scan.device_id", "the scanner", _DOOR),
        "offline": Field(
            type="bool", path=("scan", "offline"), triggers=_DOOR, about="whether the scanner was without a network"
        ),
    },
    "counts": {
        "visits_today": _int("counts.visits_today", "visits on this local day, this one included", bounds=_COUNT),
        "visits_week": _int("counts.visits_week", "visits since Monday", bounds=_COUNT),
        "visits_event": _int("counts.visits_event", "entries to this event", _DOOR, _COUNT),
        "visits_ever": _int("counts.visits_ever", "all visits", bounds=_COUNT),
        "streak_days": _int("counts.streak_days", "days in a row with a visit", bounds=_COUNT),
    },
    "now": {
        "year": _int("now.year", "the local year", bounds=(1, 9999)),
        "month": _int("now.month", "1 to 12", bounds=(1, 12)),
        "day": _int("now.day", "of the month", bounds=(1, 31)),
        "hour": _int("now.hour", "0 to 23", bounds=(0, 23)),
        "minute": _int("now.minute", "0 to 59", bounds=(0, 59)),
        "weekday": _int("now.weekday", "1 (Monday) to 7 (Sunday)", bounds=(1, 7)),
        "date": _int("now.date", "the local day as yyyymmdd", bounds=(0, 99_991_231)),
        "unix_ms": _int("at_ms", "milliseconds since 1970", bounds=_TIME),
    },
    "points": {
        "amount": _int("points.amount", "what was earned or spent", _POINTS, _COUNT),
        "account": _text("points.account", '"points" or "wallet"', _POINTS),
    },
    "tier": {
        "from": _text("tier.before", "the tier before", ("tier_changed",)),
        "to": _text("tier.after", "the tier now", ("tier_changed",)),
    },
    "coupon": {
        "id": _text("coupon.coupon_id", "the coupon that was used", _COUPON),
        "kind": _text("coupon.kind", '"points", "percent", "amount" or "item"', _COUPON),
        "amount": _int("coupon.amount", "points, percent or dong that it was worth, 0 for an item", _COUPON, _COUNT),
        "bill": _text("coupon.bill", "the bill that it was used on, empty without", _COUPON),
    },
    "top_up": {"amount": _int("top_up.amount", "what was paid in", ("top_up",), _COUNT)},
    "streak": {"days": _int("streak.days", "how long the streak is", ("streak_reached",), _COUNT)},
}


def fields_of(trigger: Trigger) -> dict[str, dict[str, Field]]:
    """The variables and fields that an expression of a rule for `trigger` can name."""
    found = {
        name: {key: field for key, field in fields.items() if trigger in field.triggers}
        for name, fields in VARIABLES.items()
    }
    return {name: fields for name, fields in found.items() if fields}
