"""The JSON Schema (2020-12) of a rule's document, as data: for the API's description and for forms.

It says what `rules.document.parse_rule` takes, but for what a schema cannot say: whether an expression is right, which
of two times is earlier, how a factor compares.
"""

from __future__ import annotations

from typing import Any, Final

from rules import limits
from rules.language import STACKINGS, STATES, TRIGGERS

# Also used by the parser, where a whole text must match.
ID_PATTERN: Final = r"[A-Za-z0-9_.:-]+"
NAME_PATTERN: Final = r"[^\u0000-\u001f\u007f]+"
NOTE_PATTERN: Final = r"[^\u0000-\u0009\u000b-\u001f\u007f]+"
TIME_PATTERN: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?(Z|[+-][0-9]{2}:[0-9]{2})"
CLOCK_PATTERN: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]"
FACTOR_PATTERN: Final = r"[0-9]{1,3}(\.[0-9]{1,3})?"


def _text(pattern: str, chars_max: int, about: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{pattern}$", "maxLength": chars_max, "description": about}


def _id(about: str) -> dict[str, Any]:
    return _text(ID_PATTERN, limits.ID_CHARS_MAX, about)


def _integer(low: int, high: int, about: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high, "description": about}


def _expression(about: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": limits.EXPRESSION_CHARS_MAX, "description": about}


def _object(properties: dict[str, Any], required: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


def _action(kind: str, properties: dict[str, Any], required: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    return _object({"action": {"const": kind}, **properties}, ("action", *required), **more)


def _days(low: int, high: int, about: str) -> dict[str, Any]:
    return {
        "type": "array",
        "items": {"type": "integer", "minimum": low, "maximum": high},
        "minItems": 1,
        "uniqueItems": True,
        "description": about,
    }


def _is(key: str, value: str) -> dict[str, Any]:
    return {"properties": {key: {"const": value}}, "required": [key]}


_ACTIONS: Final[list[dict[str, Any]]] = [
    _action(
        "award_points",
        {
            "points": _integer(1, limits.POINTS_PER_AWARD_MAX, "how many points"),
            "amount": _expression("a CEL expression that says how many, instead of `points`"),
            "expires_after_days": _integer(
                1, limits.DAYS_MAX, "when they expire; as the organisation has it if absent"
            ),
            "pending_days": _integer(1, limits.DAYS_MAX, "how long they cannot be spent yet"),
        },
        oneOf=[{"required": ["points"]}, {"required": ["amount"]}],
    ),
    _action(
        "multiply",
        {
            "factor": {
                "oneOf": [
                    {"type": "integer", "minimum": 2, "maximum": limits.FACTOR_THOUSANDTHS_MAX // 1000},
                    {"type": "string", "pattern": f"^{FACTOR_PATTERN}$"},
                ],
                "description": 'above 1, at most 100: whole, or a decimal as a text ("1.5"), with up to three places',
            }
        },
        ("factor",),
    ),
    _action("grant_coupon", {"coupon_id": _id("the coupon to issue")}, ("coupon_id",)),
    _action("set_tier", {"tier": _id("the tier to give")}, ("tier",)),
    _action(
        "notify",
        {
            "template": _id("a message template of the organisation"),
            "text": _text(NOTE_PATTERN, limits.NOTIFY_TEXT_CHARS_MAX, "what to say"),
        },
        anyOf=[{"required": ["template"]}, {"required": ["text"]}],
    ),
    _action("call_webhook", {"name": _id("a receiver that the organisation has registered")}, ("name",)),
]

RULE_SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Rule",
    **_object(
        {
            "name": _text(NAME_PATTERN, limits.NAME_CHARS_MAX, "what people call it"),
            "on": {"enum": list(TRIGGERS), "description": "what must happen"},
            "when": _expression("a CEL condition; always, if absent"),
            "then": {
                "type": "array",
                "items": {"oneOf": _ACTIONS},
                "minItems": 1,
                "maxItems": limits.ACTIONS_PER_RULE_MAX,
            },
            "limits": _object(
                {
                    "per_card": _integer(1, limits.TIMES_PER_CARD_MAX, "times for one card in all"),
                    "per_card_per_day": _integer(1, limits.TIMES_PER_CARD_MAX, "times for one card on one local day"),
                    "points_budget": _integer(1, limits.POINTS_BUDGET_MAX, "points for everybody together"),
                }
            ),
            "priority": _integer(-limits.PRIORITY_MAX, limits.PRIORITY_MAX, "the highest is looked at first"),
            "valid_from": _text(TIME_PATTERN, 35, "RFC 3339"),
            "valid_until": _text(TIME_PATTERN, 35, "RFC 3339; from then on it no longer applies"),
            "state": {"enum": list(STATES), "description": "a draft if absent"},
            "stacking": {"enum": list(STACKINGS), "description": "what else may apply at the same moment"},
            "group": _id("of the rules of a group with stacking `best` only one applies"),
            "schedule": _object(
                {
                    "at": _text(CLOCK_PATTERN, 5, "local time, HH:MM"),
                    "weekdays": _days(1, 7, "1 is Monday"),
                    "days_of_month": _days(1, 31, "the last day, where a month is shorter"),
                },
                ("at",),
                **{"not": {"required": ["weekdays", "days_of_month"]}},
            ),
        },
        ("name", "on", "then"),
    ),
    "allOf": [
        {"if": _is("on", "schedule"), "then": {"required": ["schedule"]}, "else": {"properties": {"schedule": False}}},
        {"if": _is("stacking", "best"), "then": {"required": ["group"]}, "else": {"properties": {"group": False}}},
    ],
}
