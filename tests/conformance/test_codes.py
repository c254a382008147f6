"""Every code that a client can be told has a line in the documentation that says what to do; whoever adds a code adds
its line, in `gateway/scan_reasons.py` (a scan is refused) or `gateway/problems.py` (all others)."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI

from actors import refusals
from actors.facts import CommandRefused
from actors.replies import Failed
from gateway.problems import TABLE, Problem, problem_of
from gateway.rest.docs import CODES, docs_page
from gateway.scan_reasons import SCAN_REASONS
from gateway.sockets import codes
from tests.edge.edge import FakeEdge

ROOT = Path(__file__).parents[2]
FAILURES = sorted({refusals.ID_REUSED, *refusals.FAILURES_NOT_FOUND, *refusals.FAILURES_TO_RETRY})
ALL = [value for name, value in vars(refusals).items() if name.isupper() and isinstance(value, str)]


def parsed(path: Path) -> ast.AST:
    """The file's tree. No garbage is collected meanwhile: what finalizers call can upset the parser's count of its own
    depth (a fault of CPython 3.11)."""
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


def texts_of_code() -> set[str]:
    """All texts in the code of gateways and servers, but for the table itself."""
    found: set[str] = set()
    for path in [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "serve").rglob("*.py")]:
        if path.name != "problems.py":
            nodes = ast.walk(parsed(path))
            found |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return found


def raised_codes() -> Iterator[tuple[str, str]]:
    """Where, and which: the codes that code makes a `Problem` of by their names."""
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            match node:
                case ast.Call(func=ast.Name(id="Problem"), args=[ast.Constant(value=str(code)), *_]):
                    yield f"{path.name}:{node.lineno}", code


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return cast(FastAPI, FakeEdge().app._api).openapi()


def test_every_reason_of_a_scan_has_its_line_in_their_order() -> None:
    assert tuple(SCAN_REASONS) == refusals.SCAN_REASONS


@pytest.mark.parametrize("code", [*refusals.COMMAND_REASONS, *FAILURES])
def test_every_refusal_and_failure_has_its_row(code: str) -> None:
    assert code in TABLE
    is_refusal = code in refusals.COMMAND_REASONS
    answer = (
        CommandRefused("org", "r", b"", 1, "AwardPoints", "card", code, "why") if is_refusal else Failed(code, "why")
    )
    assert problem_of(answer).code == code, "and is not told as an error on our side"


def test_no_code_of_the_engine_is_in_no_list() -> None:
    assert set(ALL) == {*refusals.SCAN_REASONS, *refusals.COMMAND_REASONS, *FAILURES}


def test_every_code_that_is_raised_has_its_row() -> None:
    found = list(raised_codes())
    assert len(found) > 50
    assert [(where, code) for where, code in found if code not in TABLE] == []


def test_no_row_is_for_a_code_that_nobody_gives() -> None:
    assert sorted(set(TABLE) - texts_of_code() - set(ALL)) == []


@pytest.mark.parametrize(
    ("code", "meaning", "remedy"),
    [(code, row.title, row.remedy) for code, row in TABLE.items()]
    + [(code, meaning.title, meaning.remedy) for code, meaning in SCAN_REASONS.items()],
)
def test_every_line_says_something(code: str, meaning: str, remedy: str) -> None:
    assert meaning[0].isupper(), code
    assert not meaning.endswith("."), code
    assert remedy.endswith("."), code
    assert len(remedy.split()) >= 2, code


def test_the_document_and_the_page_have_every_line(document: dict[str, Any]) -> None:
    page = unescape(docs_page(document).decode())
    schemas = document["components"]["schemas"]
    for name, wanted in (("ScanReason", dict[str, Any](SCAN_REASONS)), ("ProblemCode", dict[str, Any](TABLE))):
        rows = {row["code"]: row for row in schemas[name][CODES]}
        assert set(rows) == set(schemas[name]["enum"]) == set(wanted)
        for code, line in wanted.items():
            assert rows[code]["remedy"] == line.remedy
            assert rows[code]["meaning"].endswith(line.title)
            assert f'<tr id="{name}.{code}"><td><code>{code}</code><td>{rows[code]["meaning"]}<td>{line.remedy}' in page
            assert f"`{code}`" in schemas[name]["description"]


def told_by_tests() -> set[str]:
    """All codes that tests assert, or have in their tables of cases: as texts, or by the names that they have here."""
    names = {name: value for name, value in vars(refusals).items() if name.isupper() and isinstance(value, str)}
    names |= {name: value for name, value in vars(codes).items() if name.isupper() and isinstance(value, str)}
    names |= {name: value.name for name, value in vars(codes).items() if isinstance(value, codes.Close)}
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        if path == Path(__file__):
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Assert | ast.Tuple | ast.List | ast.Set | ast.Dict):
                for inner in ast.walk(node):
                    match inner:
                        case ast.Constant(value=str(text)):
                            # The simulation's situations, each of which must occur, say "refused CODE".
                            found |= {text, text.removeprefix("refused ")}
                        case ast.Attribute(attr=name) | ast.Name(id=name) if name in names:
                            found.add(names[name])
    return found


def test_every_code_has_a_test_by_its_name() -> None:
    sockets = {close.name for close in codes.CLOSES} | set(codes.REMEDIES)
    assert sorted({*TABLE, *SCAN_REASONS, *ALL, *sockets} - told_by_tests()) == []


def test_every_code_of_the_sockets_has_its_line(document: dict[str, Any]) -> None:
    errors = {value for name, value in vars(codes).items() if name.isupper() and isinstance(value, str)}
    assert set(codes.REMEDIES) == {close.name for close in codes.CLOSES} | errors
    page = unescape(docs_page(document).decode())
    rows = {row["code"]: row for row in document["components"]["schemas"]["SocketCode"][CODES]}
    assert set(rows) == set(codes.REMEDIES)
    for code, row in rows.items():
        assert row["remedy"].endswith(".")
        assert f'<tr id="SocketCode.{code}"><td><code>{code}</code><td>{row["meaning"]}<td>{row["remedy"]}' in page
    for close in codes.CLOSES:
        assert rows[close.name]["meaning"].startswith(f"{close.code}: ")


def test_schemas_name_the_lists(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in ("Verdict", "ScanView"):
        assert {"$ref": "#/components/schemas/ScanReason"} in schemas[name]["properties"]["reason"]["anyOf"]
    assert schemas["Problem"]["properties"]["code"] == {"$ref": "#/components/schemas/ProblemCode"}
    with pytest.raises(KeyError):
        Problem("no_such_code").document()
