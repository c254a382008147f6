"""Reading a CSV file of members: bytes to records to fields, with a reason for whatever cannot be read. Pure.

Rules:
1. The file is UTF-8, with or without a byte order mark; cells are separated by `,` or `;`, whichever makes more of the
   first line; lines end as on any system; quotes are RFC 4180's. The first line names the columns (`COLUMNS`,
   `ALIASES`, `attr.NAME`, `consent.FLAG`); those of our own export that cannot be set are passed over (`IGNORED`).
2. The same bytes always give the same records under the same row numbers, which are those that a spreadsheet shows:
   the first line is row 1. Blank lines are no records.
3. Nothing in a file is an error of ours. A record that cannot be read is one with a fault, and the next line is read
   on; only a first line that makes no sense refuses the file (`BadFile`).
4. An empty cell says nothing about its field. The `'` that spreadsheets (and our export) put before what might be a
   formula is taken away.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from gateway.members import limits
from gateway.members.model import CONSENT_FLAGS

COLUMNS: Final = ("name", "email", "phone", "birthday", "locale", "external_id")
ALIASES: Final = {
    "full_name": "name",
    "member_name": "name",
    "e_mail": "email",
    "mail": "email",
    "email_address": "email",
    "e_mail_address": "email",
    "telephone": "phone",
    "mobile": "phone",
    "phone_number": "phone",
    "birth_date": "birthday",
    "date_of_birth": "birthday",
    "language": "locale",
    "customer_id": "external_id",
    "member_number": "external_id",
}
IGNORED: Final = frozenset({"id", "version", "created_at", "changed_at", "erased_at", "linked"})
ATTRIBUTE: Final = "attr."
CONSENT: Final = "consent."
GIVEN: Final = frozenset({"true", "yes", "y", "1", "x", "given"})
WITHDRAWN: Final = frozenset({"false", "no", "n", "0", "withdrawn"})
_HEAD_BYTES_MAX: Final = 65_536
_RECORD_CHARS_MAX: Final = 262_144
_lines_of = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+").findall
_surrogate = re.compile("[\ud800-\udfff]").search
_guarded = re.compile(r"'[=+\-@\t\r]").match


class BadFile(Exception):
    """The file cannot be taken at all; each of `reasons` is for people."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Layout(msgspec.Struct, frozen=True):
    """How a file is to be read. `columns` are fields by position, "" for those that are passed over."""

    delimiter: str
    columns: tuple[str, ...]


class Record(msgspec.Struct, frozen=True):
    """A line of data; `fault` says why its cells could not be read."""

    row: int
    cells: list[str]
    fault: str = ""


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a record; `column` is "" where it is the record as a whole."""

    column: str
    reason: str


def member_field(name: str) -> str | None:
    """The field of a column, "" for one that is passed over, None for an unknown one."""
    name = name.strip()
    if name.startswith(ATTRIBUTE) and len(name) > len(ATTRIBUTE):
        return name
    plain = plain_name(name)
    if plain.startswith(CONSENT):
        return plain if plain.removeprefix(CONSENT) in CONSENT_FLAGS else None
    if not plain or plain in IGNORED:
        return ""
    plain = ALIASES.get(plain, plain)
    return plain if plain in COLUMNS else None


def plain_name(name: str) -> str:
    """A column's name as fields are called."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def layout_of(
    head: bytes,
    field_of: Callable[[str], str | None] = member_field,
    known: Sequence[str] = (*COLUMNS, "attr.NAME", "consent.FLAG"),
) -> Layout:
    """The layout that the first line gives; `head` is the file's beginning. `field_of` tells which field a column is,
    `known` are their names for people. Raises `BadFile`."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadFile("The file is UTF-16; save it as UTF-8.")
    head = head[:_HEAD_BYTES_MAX].removeprefix(codecs.BOM_UTF8)
    line = re.split(rb"[\r\n]", head, maxsplit=1)[0]
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise BadFile("The first line is not UTF-8.") from None
    if not text.strip():
        raise BadFile("The first line names the columns; it is empty.")
    found = [(delimiter, _cells(text, delimiter)) for delimiter in (",", ";")]
    delimiter, names = max(found, key=lambda pair: len(pair[1]))
    return Layout(delimiter, _columns(names, field_of, known))


def count_records(parts: Iterable[bytes], layout: Layout) -> int:
    """How many records there are. Raises `BadFile` for more than `IMPORT_ROWS_MAX`."""
    count = 0
    for _ in records(parts, layout):
        count += 1
        if count > limits.IMPORT_ROWS_MAX:
            raise BadFile(f"At most {limits.IMPORT_ROWS_MAX} rows are taken; split the file.")
    return count


def records(parts: Iterable[bytes], layout: Layout) -> Iterator[Record]:
    """All records behind the first line (rules 2 and 3). `parts` are the file's bytes, in pieces of any size."""
    lines = _Lines(parts)
    reader = csv.reader(lines, delimiter=layout.delimiter, strict=True)
    row = 0
    while True:
        lines.record_chars = 0
        row += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _TooLong:
            record = Record(row, [], f"The row has more than {_RECORD_CHARS_MAX} characters.")
        except csv.Error as error:
            record = Record(row, [], f"The row cannot be read: {error}.")
        else:
            if not any(map(str.strip, cells)):
                continue
            record = Record(row, cells)
        if row > 1:
            yield record


def fields_of(record: Record, layout: Layout, attribute_types: dict[str, str]) -> tuple[dict[str, Any], list[Fault]]:
    """What a record says: fields for `gateway.members.fields`, and what is wrong with its cells. `attribute_types` are
    those of the organisation's schema, by name."""
    if record.fault:
        return {}, [Fault("", record.fault)]
    if len(record.cells) > len(layout.columns):
        return {}, [Fault("", f"{len(record.cells)} cells for {len(layout.columns)} columns.")]
    fields: dict[str, Any] = {}
    faults: list[Fault] = []
    for column, cell in zip(layout.columns, record.cells, strict=False):
        text = cell[1:] if _guarded(cell) else cell
        if not column or not text.strip():
            continue
        if _surrogate(text):
            faults.append(Fault(column, "Not UTF-8."))
        elif column.startswith(ATTRIBUTE):
            name = column.removeprefix(ATTRIBUTE)
            fields.setdefault("attributes", {})[name] = _typed(text, attribute_types.get(name, ""))
        elif column.startswith(CONSENT):
            given = _consent(text)
            if given is None:
                faults.append(Fault(column, "A consent is true or false."))
            else:
                fields.setdefault("consents", {})[column.removeprefix(CONSENT)] = given
        else:
            fields[column] = text.strip()
    return fields, faults


class _TooLong(Exception):
    """A record spans too much text."""


class _Lines(Iterator[str]):
    """Lines with their ends, as csv wants them. A line that makes a record too long raises, and the next goes on."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._lines = self._split(parts)
        self.record_chars = 0

    def __next__(self) -> str:
        line = next(self._lines)
        self.record_chars += len(line)
        if self.record_chars > _RECORD_CHARS_MAX:
            raise _TooLong
        return line

    @staticmethod
    def _split(parts: Iterable[bytes]) -> Iterator[str]:
        # What is not UTF-8 becomes surrogates, which the cell that they are in is refused for.
        utf8 = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        decoder = io.IncrementalNewlineDecoder(utf8, translate=False)
        rest = ""
        for part in parts:
            lines = _lines_of(rest + decoder.decode(part))
            rest = lines.pop() if lines and not lines[-1].endswith(("\n", "\r")) else ""
            yield from lines
        yield from _lines_of(rest + decoder.decode(b"", final=True))


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def _columns(names: list[str], field_of: Callable[[str], str | None], known: Sequence[str]) -> tuple[str, ...]:
    """The fields that the first line's names stand for. Raises `BadFile`."""
    if len(names) > limits.IMPORT_COLUMNS_MAX:
        raise BadFile(f"At most {limits.IMPORT_COLUMNS_MAX} columns are taken.")
    columns = [field_of(name) for name in names]
    reasons = [
        f"Unknown column {name[:40]!r}: there are {', '.join(known)}."
        for name, column in zip(names, columns, strict=True)
        if column is None
    ]
    fields = [column for column in columns if column]
    reasons += [f"Column {column!r} is there twice." for column in sorted({c for c in fields if fields.count(c) > 1})]
    if not fields:
        reasons.append("The first line names no column.")
    if reasons:
        raise BadFile(*reasons[: limits.ERRORS_MAX])
    return tuple(column or "" for column in columns)


def _consent(text: str) -> bool | None:
    word = text.strip().lower()
    return True if word in GIVEN else False if word in WITHDRAWN else None


def _typed(text: str, kind: str) -> Any:
    """A cell as a value of the schema's type; what is none stays text, and the schema says what is wrong with it."""
    if kind == "boolean":
        given = _consent(text)
        return text if given is None else given
    if kind in ("integer", "number", "array", "object"):
        try:
            return msgspec.json.decode(text.strip())
        except (msgspec.DecodeError, RecursionError):
            return text
    return text
