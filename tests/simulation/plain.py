"""What facts tell, as the oracle writes it: in plain dicts and tuples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict, astuple

from actors.card_facts import CardReissued
from actors.facts import CardStateChanged, Fact, ScanDetails

# A fact as it should be: its kind and fields.
Expected = tuple[str, dict[str, Any]]
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
        case "earned_on" if value is not None:
            return value.day, value.points
        case "counts" | "profile":
            return astuple(value)
        case "winners":
            return [astuple(one) for one in value]
        case "lots":
            return {lot.lot: (lot.expires_at_ms, lot.remaining, lot.available_from_ms) for lot in value}
        case "schedules":
            return [(one.rule_id, one.due_ms) for one in value.dues], (astuple(value.round) if value.round else None)
        case "definition":
            return asdict(value)
        case "rules":
            return [(one.rule_id, one.version, one.points, one.day, one.codes) for one in value]
        case "failures":
            return [(one.rule_id, one.version, one.where, one.reason) for one in value]
        case "steps":
            return [
                (*plain("rules", [one.units]), one.points_after, astuple(one.use) if one.use is not None else None)
                for one in value
            ]
    return value


def card_at(card: dict[str, Any], view: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """A card as the view may show it: a hold whose time is over is not shown, nor is such a tier, though the end of
    neither may be posted yet."""
    holds = {key: hold for key, hold in card["holds"].items() if key in view["holds"] or hold[2] > now_ms}
    shown = {**card, "holds": holds}
    if 0 < shown.pop("tier_due") <= now_ms:
        shown["tier"] = view["tier"]
    return shown


def changed_cards(facts: Mapping[int, Fact], tenant_id: str, since: int, until: int) -> dict[str, tuple[str, int]]:
    """The tenant's cards whose state or serial changed after a position, up to another, with what they are at that."""
    return {
        fact.card_id: (fact.state, fact.serial)
        for position, fact in facts.items()
        if isinstance(fact, CardStateChanged | CardReissued)
        and fact.tenant_id == tenant_id
        and since < position <= until
    }
