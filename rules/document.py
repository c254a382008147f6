"""A rule as the JSON document that people write, and back.

Rules:
1. All errors are told, not the first only (up to `DOCUMENT_ERRORS_MAX`): where in the document, as a JSON pointer (RFC
   6901), and in an expression by line and column.
2. What is taken is what `rules.document_schema` describes, and compiles. A key that is not known is an error.
3. `document_of` gives the document of a definition: parsed again, it is the same definition.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeGuard, TypeVar

import msgspec

from rules import limits
from rules.compiled import RuleSet
from rules.conditions import BadExpression, compile_amount, compile_condition
from rules.document_schema import (
    CLOCK_PATTERN,
    FACTOR_PATTERN,
    ID_PATTERN,
    NAME_PATTERN,
    NOTE_PATTERN,
    TIME_PATTERN,
)
from rules.language import (
    STACKINGS,
    STATES,
    TRIGGERS,
    Action,
    AwardPoints,
    CallWebhook,
    GrantCoupon,
    Limits,
    Multiply,
    Notify,
    RuleDefinition,
    Schedule,
    SetTier,
    Trigger,
)

_KEYS: Final = (
    *("name", "on", "when", "then", "limits", "priority", "valid_from", "valid_until", "state", "stacking"),
    *("group", "schedule"),
)
_ACTION_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "award_points": ("points", "amount", "expires_after_days", "pending_days"),
    "multiply": ("factor",),
    "grant_coupon": ("coupon_id",),
    "set_tier": ("tier",),
    "notify": ("template", "text"),
    "call_webhook": ("name",),
}
_LIMITS_MAX: Final = {
    "per_card": limits.TIMES_PER_CARD_MAX,
    "per_card_per_day": limits.TIMES_PER_CARD_MAX,
    "points_budget": limits.POINTS_BUDGET_MAX,
}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_Choice = TypeVar("_Choice", bound=str)


class DocumentError(msgspec.Struct, frozen=True):
    """One thing that is wrong: where (a JSON pointer) and why. Line and column, from 1, are those of an expression; 0
    elsewhere."""

    pointer: str
    message: str
    line: int = 0
    column: int = 0


def parse_rule(document: Any, rule_id: str, version: int) -> RuleDefinition | tuple[DocumentError, ...]:
    """The definition that a document (as decoded from JSON) says, or what is wrong with it."""
    reader = _Reader()
    definition = reader.rule(document, rule_id, version)
    if definition is None or reader.errors:
        return tuple(reader.errors[: limits.DOCUMENT_ERRORS_MAX])
    return definition


def admission_error(others: Iterable[RuleDefinition], new: RuleDefinition) -> DocumentError | None:
    """Why a tenant that has `others` cannot have `new` as well (or instead of its rule of the same id): too many rules,
    or too much that one moment could cost."""
    all_rules = [*(other for other in others if other.rule_id != new.rule_id), new]
    if len(all_rules) > limits.RULES_PER_TENANT_MAX:
        return DocumentError("", f"There can be {limits.RULES_PER_TENANT_MAX} rules.")
    cost = RuleSet.compile(all_rules).cost_units(new.on)
    if new.state == "active" and cost > limits.TRIGGER_COST_UNITS_MAX:
        most = limits.TRIGGER_COST_UNITS_MAX
        return DocumentError("/when", f"All active rules on {new.on} together may cost {most} units, not {cost}.")
    return None


class _Reader:
    """Reads a document, and notes what is wrong. A reading method returns a value of the right type in any case."""

    def __init__(self) -> None:
        self.errors: list[DocumentError] = []

    def rule(self, document: Any, rule_id: str, version: int) -> RuleDefinition | None:
        if not self._is_object(document, "", _KEYS, ("name", "on", "then")):
            return None
        on: Trigger | None = self._choice(document, "on", TRIGGERS, None)
        stacking = self._choice(document, "stacking", STACKINGS, "all")
        from_ms, until_ms = (self._time(document, key) for key in ("valid_from", "valid_until"))
        if from_ms and until_ms and until_ms <= from_ms:
            self._wrong("/valid_until", "This must be later than valid_from.")
        self._together(document, "schedule", on == "schedule", "the trigger schedule")
        self._together(document, "group", stacking == "best", "the stacking best")
        when = self._expression(document, "", "when", on) if "when" in document else "true"
        then = self._actions(document["then"], on) if "then" in document else ()
        return RuleDefinition(
            rule_id=rule_id,
            version=version,
            name=self._text(document, "", "name", NAME_PATTERN, limits.NAME_CHARS_MAX),
            on=on or "checkin",
            when=when,
            then=then,
            limits=self._limits(document.get("limits", {})),
            priority=self._integer(document, "", "priority", -limits.PRIORITY_MAX, limits.PRIORITY_MAX),
            valid_from_ms=from_ms,
            valid_until_ms=until_ms,
            state=self._choice(document, "state", STATES, "draft") or "draft",
            stacking=stacking or "all",
            schedule=self._schedule(document["schedule"]) if "schedule" in document else None,
            group=self._text(document, "", "group", ID_PATTERN, limits.ID_CHARS_MAX),
        )

    # --- parts --------------------------------------------------------------------------------------------------------

    def _together(self, document: dict[str, Any], key: str, is_needed: bool, reason: str) -> None:
        if is_needed and key not in document:
            self._wrong("", f"{key} is missing: {reason} needs it.")
        if not is_needed and key in document:
            self._wrong(f"/{key}", f"This is only for {reason}.")

    def _limits(self, value: Any) -> Limits:
        if not self._is_object(value, "/limits", tuple(_LIMITS_MAX)):
            return Limits()
        return Limits(**{key: self._integer(value, "/limits", key, 1, most) for key, most in _LIMITS_MAX.items()})

    def _schedule(self, value: Any) -> Schedule:
        base = "/schedule"
        if not self._is_object(value, base, ("at", "weekdays", "days_of_month"), ("at",)):
            return Schedule(0)
        if "weekdays" in value and "days_of_month" in value:
            self._wrong(base, "There can be weekdays or days_of_month, not both.")
        at = self._text(value, base, "at", CLOCK_PATTERN, 5)
        minute = int(at[:2]) * 60 + int(at[3:]) if at else 0
        return Schedule(minute, self._days(value, "weekdays", 7), self._days(value, "days_of_month", 31))

    def _days(self, schedule: dict[str, Any], key: str, last: int) -> tuple[int, ...]:
        if key not in schedule:
            return ()
        value = schedule[key]
        days = [_whole(day) for day in value] if isinstance(value, list) else []
        good = [day for day in days if day is not None and 1 <= day <= last]
        if not good or len(good) != len(days) or len(set(good)) != len(good):
            self._wrong(f"/schedule/{key}", f"This must be a list of different numbers from 1 to {last}.")
        return tuple(sorted(good))

    def _actions(self, value: Any, on: Trigger | None) -> tuple[Action, ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= limits.ACTIONS_PER_RULE_MAX:
            self._wrong("/then", f"This must be a list of 1 to {limits.ACTIONS_PER_RULE_MAX} actions.")
            return ()
        actions = [self._action(one, f"/then/{number}", on) for number, one in enumerate(value)]
        return tuple(action for action in actions if action is not None)

    def _action(self, value: Any, base: str, on: Trigger | None) -> Action | None:
        kind = value.get("action") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in _ACTION_KEYS:
            known = ", ".join(_ACTION_KEYS)
            self._wrong(f"{base}/action" if isinstance(value, dict) else base, f"The action must be one of {known}.")
            return None
        required = () if kind in ("award_points", "notify") else _ACTION_KEYS[kind]
        if not self._is_object(value, base, ("action", *_ACTION_KEYS[kind]), required):
            return None
        match kind:
            case "award_points":
                return self._award(value, base, on)
            case "multiply":
                return Multiply(self._factor(value["factor"], f"{base}/factor"))
            case "grant_coupon":
                return GrantCoupon(self._id(value, base, "coupon_id"))
            case "set_tier":
                return SetTier(self._id(value, base, "tier"))
            case "call_webhook":
                return CallWebhook(self._id(value, base, "name"))
            case _:
                if "template" not in value and "text" not in value:
                    self._wrong(base, "There must be a template or a text.")
                text = self._text(value, base, "text", NOTE_PATTERN, limits.NOTIFY_TEXT_CHARS_MAX)
                return Notify(self._id(value, base, "template"), text)

    def _award(self, value: dict[str, Any], base: str, on: Trigger | None) -> AwardPoints:
        if ("points" in value) == ("amount" in value):
            self._wrong(base, "There must be either points or an amount.")
        return AwardPoints(
            points=self._integer(value, base, "points", 1, limits.POINTS_PER_AWARD_MAX),
            amount=self._expression(value, base, "amount", on) if "amount" in value else "",
            expires_after_days=self._integer(value, base, "expires_after_days", 1, limits.DAYS_MAX),
            pending_days=self._integer(value, base, "pending_days", 1, limits.DAYS_MAX),
        )

    def _factor(self, value: Any, pointer: str) -> int:
        thousandths = 0
        whole = _whole(value)
        if whole is not None:
            thousandths = whole * 1000
        elif isinstance(value, str) and re.fullmatch(FACTOR_PATTERN, value):
            units, _, places = value.partition(".")
            thousandths = int(units) * 1000 + int(places.ljust(3, "0"))
        if not limits.FACTOR_THOUSANDTHS_MIN <= thousandths <= limits.FACTOR_THOUSANDTHS_MAX:
            self._wrong(
                pointer, 'The factor is above 1 and at most 100: a whole number, or a text like "1.5" (three places).'
            )
        return thousandths

    # --- values -------------------------------------------------------------------------------------------------------

    def _wrong(self, pointer: str, message: str) -> None:
        self.errors.append(DocumentError(pointer, message))

    def _is_object(
        self, value: Any, pointer: str, keys: tuple[str, ...], required: tuple[str, ...] = ()
    ) -> TypeGuard[dict[str, Any]]:
        """Notes keys that are unknown or missing; false only where nothing of it can be read."""
        if not isinstance(value, dict):
            self._wrong(pointer, "This must be an object.")
            return False
        for key in value:
            if key not in keys:
                self._wrong(_pointer(pointer, str(key)), f"There is no such key; there are {', '.join(keys)}.")
        missing = [key for key in required if key not in value]
        for key in missing:
            self._wrong(pointer, f"{key} is missing.")
        return not missing or pointer == ""

    def _choice(
        self, document: dict[str, Any], key: str, choices: tuple[_Choice, ...], default: _Choice | None
    ) -> _Choice | None:
        if key not in document:
            return default
        for choice in choices:
            if document[key] == choice:
                return choice
        self._wrong(f"/{key}", f"This must be one of {', '.join(choices)}.")
        return None

    def _integer(self, holder: dict[str, Any], base: str, key: str, low: int, high: int) -> int:
        if key not in holder:
            return 0
        value = _whole(holder[key])
        if value is None or not low <= value <= high:
            self._wrong(f"{base}/{key}", f"This must be a whole number from {low} to {high}.")
            return 0
        return value

    def _id(self, holder: dict[str, Any], base: str, key: str) -> str:
        return self._text(holder, base, key, ID_PATTERN, limits.ID_CHARS_MAX)

    def _text(self, holder: dict[str, Any], base: str, key: str, pattern: str, chars_max: int) -> str:
        if key not in holder:
            return ""
        value = holder[key]
        if not isinstance(value, str) or not 1 <= len(value) <= chars_max:
            self._wrong(f"{base}/{key}", f"This must be a text of 1 to {chars_max} characters.")
        elif not re.fullmatch(pattern, value) or _SURROGATE.search(value):
            self._wrong(f"{base}/{key}", "This text has characters that cannot be here, or another form.")
        else:
            return value
        return ""

    def _time(self, document: dict[str, Any], key: str) -> int:
        if key not in document:
            return 0
        value = document[key]
        if isinstance(value, str) and re.fullmatch(TIME_PATTERN, value):
            try:
                at_ms = (datetime.fromisoformat(value) - _EPOCH) // timedelta(milliseconds=1)
            except (ValueError, OverflowError):
                at_ms = 0
            if at_ms > 0:
                return at_ms
        self._wrong(f"/{key}", "This must be a time after 1970 as RFC 3339 has it, like 2026-05-20T09:00:00Z.")
        return 0

    def _expression(self, holder: dict[str, Any], base: str, key: str, on: Trigger | None) -> str:
        value = holder[key]
        pointer = f"{base}/{key}"
        if not isinstance(value, str) or not 1 <= len(value) <= limits.EXPRESSION_CHARS_MAX:
            self._wrong(pointer, f"This must be an expression of 1 to {limits.EXPRESSION_CHARS_MAX} characters.")
            return "true"
        if on is not None:  # which variables there are depends on the trigger
            found = compile_condition(value, on) if key == "when" else compile_amount(value, on)
            if isinstance(found, BadExpression):
                self.errors.append(DocumentError(pointer, found.message, found.line, found.column))
        return value


def _whole(value: Any) -> int | None:
    """A whole number as JSON Schema has it: also 5.0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value)


def _pointer(base: str, key: str) -> str:
    return f"{base}/{key.replace('~', '~0').replace('/', '~1')}"


def document_of(definition: RuleDefinition) -> dict[str, Any]:
    """The document of a definition; what has its default is left out, but for `when` and the state."""
    document: dict[str, Any] = {
        "name": definition.name,
        "on": definition.on,
        "when": definition.when,
        "then": [_document_of_action(action) for action in definition.then],
        "state": definition.state,
    }
    limited = {key: value for key in _LIMITS_MAX if (value := getattr(definition.limits, key))}
    times = {"valid_from": definition.valid_from_ms, "valid_until": definition.valid_until_ms}
    document |= {"limits": limited} if limited else {}
    document |= {"priority": definition.priority} if definition.priority else {}
    document |= {key: _time_text(at_ms) for key, at_ms in times.items() if at_ms}
    document |= {"stacking": definition.stacking} if definition.stacking != "all" else {}
    document |= {"group": definition.group} if definition.group else {}
    schedule = definition.schedule
    if schedule is not None:
        at = f"{schedule.minute // 60:02}:{schedule.minute % 60:02}"
        days = {"weekdays": list(schedule.weekdays), "days_of_month": list(schedule.days_of_month)}
        document["schedule"] = {"at": at} | {key: value for key, value in days.items() if value}
    return document


def _document_of_action(action: Action) -> dict[str, Any]:
    kind = str(action.__struct_config__.tag)
    if isinstance(action, Multiply):
        units, places = divmod(action.factor_thousandths, 1000)
        return {"action": kind, "factor": f"{units}.{places:03}".rstrip("0") if places else units}
    return {"action": kind} | {key: value for key in _ACTION_KEYS[kind] if (value := getattr(action, key))}


def _time_text(at_ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
