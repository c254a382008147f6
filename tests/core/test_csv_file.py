"""CSV files of members: every way in which one may be written, and everything that may be wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.members import limits
from gateway.members.csv_file import BadFile, Fault, Layout, Record, count_records, fields_of, layout_of, records

NAMES = Layout(",", ("name", "email"))


def read(body: bytes, layout: Layout = NAMES, size: int = 7) -> list[Record]:
    return list(records([body[at : at + size] for at in range(0, len(body), size)], layout))


@pytest.mark.parametrize(
    ("line", "layout"),
    [
        (b"name,email", Layout(",", ("name", "email"))),
        (b"\xef\xbb\xbfname;email\r\nAnn;", Layout(";", ("name", "email"))),
        (b'"name","e-mail"\n', Layout(",", ("name", "email"))),
        (b" Full Name , E-Mail Address ,Date of Birth\n", Layout(",", ("name", "email", "birthday"))),
        (b"name;attr.a,b;attr.Shoe Size\n", Layout(";", ("name", "attr.a,b", "attr.Shoe Size"))),
        (b"NAME,Consent.Photo,id,created_at,,erased-at\n", Layout(",", ("name", "consent.photo", "", "", "", ""))),
        (b"name\rAnn\r", Layout(",", ("name",))),
        (b"email", Layout(",", ("email",))),
    ],
)
def test_the_first_line_tells_the_layout(line: bytes, layout: Layout) -> None:
    assert layout_of(line) == layout


@pytest.mark.parametrize(
    ("head", "reasons"),
    [
        (b"", ["The first line names the columns; it is empty."]),
        (b"\n\nname\n", ["The first line names the columns; it is empty."]),
        (b"\xff\xfen\x00", ["The file is UTF-16; save it as UTF-8."]),
        (b"n\xe4me,email\n", ["The first line is not UTF-8."]),
        (b"name,nickname,shoe\n", ["Unknown column 'nickname'", "Unknown column 'shoe'"]),
        (b"name,consent.everything\n", ["Unknown column 'consent.everything'"]),
        (b"name,attr.\n", ["Unknown column 'attr.'"]),
        (b"name,Full Name,email,mail\n", ["Column 'email' is there twice.", "Column 'name' is there twice."]),
        (b'"name,email\n', ["The first line names no column."]),
        (b"id,version\n", ["The first line names no column."]),
        (b",".join(b"attr.%d" % n for n in range(201)), ["At most 200 columns"]),
    ],
)
def test_first_lines_that_make_no_sense(head: bytes, reasons: list[str]) -> None:
    with pytest.raises(BadFile) as failure:
        layout_of(head)
    assert len(failure.value.reasons) == len(reasons)
    for told, expected in zip(failure.value.reasons, reasons, strict=True):
        assert told.startswith(expected)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"name,email\nAnn,a@x\nBo,\n", [(2, ["Ann", "a@x"]), (3, ["Bo", ""])]),
        (b"name,email\r\nAnn,a@x", [(2, ["Ann", "a@x"])]),
        (b"name,email\rAnn,a\rBo,b", [(2, ["Ann", "a"]), (3, ["Bo", "b"])]),
        (b"\xef\xbb\xbfname,email\n\xc3\x81nh,a\n", [(2, ["Ánh", "a"])]),
        (b"name,email\n\n,\n   \nAnn,a\n", [(5, ["Ann", "a"])]),
        (b'name,email\n"A, ""B""\nC",a\nBo,b\n', [(2, ['A, "B"\nC', "a"]), (3, ["Bo", "b"])]),
        (b'name,email\nA "Bo" C,a\n', [(2, ['A "Bo" C', "a"])]),
        (b"name,email\n", []),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_records(body: bytes, expected: list[tuple[int, list[str]]], size: int) -> None:
    assert [(record.row, record.cells) for record in read(body, size=size)] == expected


def test_what_cannot_be_read_is_one_record_and_the_next_line_goes_on() -> None:
    good, long_line = b"Bo,b\n", b"x" * 300_000 + b",a\n"
    for bad, word in (
        (b'"Ann"x,a\n', "expected after"),
        (long_line, "more than 262144 characters"),
        (b"y" * 200_000 + b",a\n", "field larger than field limit"),
    ):
        found = read(b"name,email\n" + bad + good, size=50_000)
        assert [record.row for record in found] == [2, 3]
        assert word in found[0].fault
        assert found[1].cells == ["Bo", "b"]
    (record,) = read(b'name,email\n"Ann,a\nBo,b\n')
    assert "unexpected end of data" in record.fault
    swallowed = read(b'name,email\n"Ann,a\n' + good * 100_000, size=100_000)
    assert "field larger" in swallowed[0].fault
    assert swallowed[-1].cells == ["Bo", "b"]


def test_rows_are_counted_and_bounded() -> None:
    body = b"name,email\n" + b"\nAnn,a\n" * 5
    assert count_records([body], NAMES) == 5
    with pytest.raises(BadFile, match="100000 rows"):
        count_records([b"name,email\n", b"A,\n" * (limits.IMPORT_ROWS_MAX + 1)], NAMES)
    assert count_records([b"name,email\n", b"A,\n" * limits.IMPORT_ROWS_MAX], NAMES) == limits.IMPORT_ROWS_MAX


@pytest.mark.parametrize(
    ("column", "cell", "expected"),
    [
        ("name", "  Ann ", {"name": "Ann"}),
        ("name", "  ", {}),
        ("phone", "'+84 912", {"phone": "+84 912"}),
        ("name", "'=1+1", {"name": "=1+1"}),
        ("name", "'Ann'", {"name": "'Ann'"}),
        ("", "anything", {}),
        ("attr.size", "40", {"attributes": {"size": 40}}),
        ("attr.size", "forty", {"attributes": {"size": "forty"}}),
        ("attr.size", "9" * 5_000, {"attributes": {"size": "9" * 5_000}}),
        ("attr.vip", "Yes", {"attributes": {"vip": True}}),
        ("attr.vip", "maybe", {"attributes": {"vip": "maybe"}}),
        ("attr.tags", '["a"]', {"attributes": {"tags": ["a"]}}),
        ("attr.tags", "[" * 5_000, {"attributes": {"tags": "[" * 5_000}}),
        ("attr.rate", "1.5", {"attributes": {"rate": 1.5}}),
        ("attr.other", "1.5", {"attributes": {"other": "1.5"}}),
        ("consent.photo", "TRUE", {"consents": {"photo": True}}),
        ("consent.photo", "withdrawn", {"consents": {"photo": False}}),
    ],
)
def test_cells(column: str, cell: str, expected: dict[str, Any]) -> None:
    types = {"size": "integer", "vip": "boolean", "tags": "array", "rate": "number"}
    assert fields_of(Record(2, [cell]), Layout(",", (column,)), types) == (expected, [])


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (Record(2, [], "Broken."), Fault("", "Broken.")),
        (Record(2, ["a", "b", "c"]), Fault("", "3 cells for 2 columns.")),
        (Record(2, ["a\udcff", "yes"]), Fault("name", "Not UTF-8.")),
        (Record(2, ["a", "perhaps"]), Fault("consent.photo", "A consent is true or false.")),
    ],
)
def test_faults(record: Record, fault: Fault) -> None:
    assert fields_of(record, Layout(",", ("name", "consent.photo")), {})[1] == [fault]


@settings(max_examples=300)
@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [b"name", b"email", b",", b";", b'"', b"\n", b"\r", b"\xff", b"\0", b"'=", "ế".encode(), b"a@b"]
        ),
        max_size=60,
    ).map(b"".join),
    st.integers(1, 9),
)
def test_no_bytes_break_anything_and_pieces_make_no_difference(body: bytes, size: int) -> None:
    try:
        layout = layout_of(body)
    except BadFile:
        layout = NAMES
    found = read(body, layout, size)
    assert found == read(body, layout, 10_000)
    assert [record.row for record in found] == sorted({record.row for record in found})
    for record in found:
        fields, faults = fields_of(record, layout, {})
        assert bool(record.fault) <= bool(faults)
        assert set(fields) <= {"name", "email", "phone", "birthday", "locale", "external_id", "attributes", "consents"}
