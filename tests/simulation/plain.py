"""What facts tell, as the oracle writes it: in plain dicts and tuples."""

from __future__ import annotations

from typing import Any

from msgspec.structs import asdict, astuple

from actors.facts import ScanDetails

_USUAL = asdict(ScanDetails())


def plain(name: str, value: Any) -> Any:
    """A fact's field; of a scan's details what is not as usual."""
    match name:
        case "details":
            return {} if value is None else {key: told for key, told in asdict(value).items() if told != _USUAL[key]}
        case "takings":
            return {taking.lot: taking.amount for taking in value}
        case "visits" if value is not None:
            told = {"recent": [(seen.day, seen.event_id, seen.again) for seen in value.recent]}
            counts = ("ever", "day", "today", "week", "this_week", "month", "this_month", "streak", "best_streak")
            return told | {count: getattr(value, count) for count in counts}
        case "counts":
            return astuple(value)
        case "lots":
            return {lot.lot: (lot.expires_at_ms, lot.remaining, lot.available_from_ms) for lot in value}
        case "definition":
            return asdict(value)
        case "rules":
            return [(one.rule_id, one.version, one.points, one.day) for one in value]
        case "failures":
            return [(one.rule_id, one.version, one.where, one.reason) for one in value]
        case "steps":
            return [
                (*plain("rules", [one.units]), one.points_after, astuple(one.use) if one.use is not None else None)
                for one in value
            ]
    return value


def still_open(
    holds: dict[int, tuple[str, int, int]], shown: dict[int, tuple[str, int, int]], now_ms: int
) -> dict[int, tuple[str, int, int]]:
    """A card's holds that are shown, or have not lapsed."""
    return {key: hold for key, hold in holds.items() if key in shown or hold[2] > now_ms}
