"""What the oracle's parts have in common: a fact as it should be, by kind and fields; and how fields of real facts are
written where the oracle writes them otherwise."""

from __future__ import annotations

from typing import Any

from msgspec.structs import asdict

from actors.facts import ScanDetails

Expected = tuple[str, dict[str, Any]]
_PLAIN = asdict(ScanDetails())
_COUNTS = ("ever", "day", "today", "week", "this_week", "month", "this_month", "streak", "best_streak")


def plain(name: str, value: Any) -> Any:
    """A field's value as the oracle writes it."""
    if name == "details":
        return {} if value is None else {key: told for key, told in asdict(value).items() if told != _PLAIN[key]}
    if name == "takings":
        return {taking.lot: taking.amount for taking in value}
    if name == "lots":
        return {lot.lot: (lot.expires_at_ms, lot.remaining, lot.available_from_ms) for lot in value}
    if name == "visits" and value is not None:
        seen = [(one.day, one.event_id, one.again) for one in value.recent]
        return {"recent": seen, **{count: getattr(value, count) for count in _COUNTS}}
    if name == "earned_on" and value is not None:
        return value.day, value.points
    return value
