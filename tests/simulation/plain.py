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
        case "counts":
            return astuple(value)
        case "lots":
            return {lot.lot: (lot.expires_at_ms, lot.remaining, lot.available_from_ms) for lot in value}
    return value
