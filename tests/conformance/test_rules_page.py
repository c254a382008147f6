"""The page of the rules' language has all that the language has."""

from __future__ import annotations

from html import escape

import pytest

from rules import guide
from rules.document_schema import RULE_SCHEMA
from rules.environment import VARIABLES
from rules.templates import TEMPLATES
from tests.edge.asgi import call
from tests.edge.edge import FakeEdge

EXPRESSIONS = [one.expression for one in (*guide.EXAMPLES, *guide.AMOUNTS)]
NAMES = [f"{name}.{key}" for name, fields in VARIABLES.items() for key in fields]
ACTIONS = [one["properties"]["action"]["const"] for one in RULE_SCHEMA["properties"]["then"]["items"]["oneOf"]]
CODES = [*guide.TRIGGERS, *guide.STACKING, *guide.FAILURES, *guide.WITHHELD]


@pytest.fixture
async def page() -> str:
    answer = await call(FakeEdge().app, "GET", "/docs/rules")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    return answer.body.decode()


async def test_everything_stands_there(page: str) -> None:
    for told in (*EXPRESSIONS, *NAMES, *ACTIONS, *CODES, *TEMPLATES):
        assert f"<code>{escape(told)}</code>" in page, told
    assert "<script" not in page


async def test_the_documentation_leads_there() -> None:
    assert "href=/docs/rules" in (await call(FakeEdge().app, "GET", "/docs")).body.decode()
