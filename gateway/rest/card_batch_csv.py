"""A CSV file of members to get cards: one a row, known by `member_id`, `external_id` or `email`, with `tier`,
`valid_from` and `valid_until` of its own where the file tells them. What is wrong with a row makes that row fail."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from actors.terms import Tier
from gateway import limits
from gateway.card_batches.choice import Keyed
from gateway.card_batches.store import Asked
from gateway.members.csv_file import ALIASES, BadFile, Record, fields_of, layout_of, plain_name, records
from gateway.rest.common import Body, Id, Time, ms

_KEYS: Final = ("member_id", "external_id", "email")
COLUMNS: Final = (*_KEYS, "tier", "valid_from", "valid_until")


class _Cells(Body):
    """What a row says besides whom it means."""

    member_id: Id | None = None
    external_id: str | None = None
    email: str | None = None
    tier: Tier | None = None
    valid_from: Time | None = None
    valid_until: Time | None = None


def read_rows(parts: list[bytes], terms: Asked) -> list[Keyed]:
    """All rows, on these terms where they say nothing else. Raises `BadFile`."""
    layout = layout_of(parts[0] if parts else b"", _field, COLUMNS)
    if not set(_KEYS).intersection(layout.columns):
        raise BadFile(f"One column says who gets a card: {', '.join(_KEYS)}.")
    rows: list[Keyed] = []
    for record in records(parts, layout):
        if len(rows) == limits.CARD_BATCH_ROWS_MAX:
            raise BadFile(f"At most {limits.CARD_BATCH_ROWS_MAX} rows are taken; split the file.")
        fields, faults = fields_of(record, layout, {})
        if faults:
            rows.append(_failed(record, faults[0].column, faults[0].reason))
        else:
            rows.append(_row(record, fields, terms))
    return rows


def _field(name: str) -> str | None:
    plain = plain_name(name)
    plain = ALIASES.get(plain, plain)
    return plain if plain in COLUMNS or not plain else None


def _row(record: Record, fields: dict[str, str], terms: Asked) -> Keyed:
    if "tier" in fields:
        fields["tier"] = fields["tier"].lower()
    try:
        cells = _Cells.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        return _failed(record, str(first["loc"][0]), first["msg"])
    kind = next((name for name in _KEYS if getattr(cells, name)), "")
    if not kind:
        return _failed(record, "", "The row names no member.")
    valid_from_ms = ms(cells.valid_from) or terms.valid_from_ms
    valid_until_ms = ms(cells.valid_until) or terms.valid_until_ms
    if valid_until_ms and valid_until_ms <= valid_from_ms:
        return _failed(record, "valid_until", "valid_until must be after valid_from")
    asked = Asked(
        row=record.row,
        target=cells.member_id or "",
        tier=cells.tier or terms.tier,
        valid_from_ms=valid_from_ms,
        valid_until_ms=valid_until_ms,
    )
    if kind == "member_id":
        return Keyed(asked)
    return Keyed(asked, kind, (cells.email or "").lower() if kind == "email" else cells.external_id or "")


def _failed(record: Record, column: str, reason: str) -> Keyed:
    return Keyed(Asked(row=record.row, column=column, code="malformed", reason=reason))
