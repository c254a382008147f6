"""The OpenAPI document is true: every operation, called with what the document allows and with what it does not,
answers as it says. On the whole engine behind a real server; bounded, so that it stays within a minute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import strategies as st
from schemathesis.core.failures import FailureGroup

from tests.edge.edge import FakeEdge
from tests.edge.in_process import SUPERADMIN_TOKEN, running_system
from tests.support.document_fuzz import Served, exercise

CASES_PER_OPERATION = 12


@pytest.fixture
def served(migrated_database: str) -> Iterator[Served]:
    with Served(migrated_database) as served:
        yield served


def test_every_operation_answers_as_documented(served: Served) -> None:
    org = served.run(served.system.open_org())
    operations = served.operations()
    assert len(operations) > 30
    failures: list[str] = []
    for operation in operations:
        token = SUPERADMIN_TOKEN if (operation.method, operation.path) == ("post", "/v1/orgs") else org["key"]
        try:
            exercise(operation, st.just(token), CASES_PER_OPERATION)
        except FailureGroup as failure:
            failures.append(f"{operation.method.upper()} {operation.path}: {failure.exceptions}")
    assert failures == []


async def test_the_document_is_whole(migrated_database: str) -> None:
    async with running_system(migrated_database) as system:
        document = (await system.call("GET", "/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    names = set(document["components"]["schemas"])
    assert {"CheckInRequest", "Verdict", "PointsAnswer", "Problem", "OrgView"} <= names
    for reference in _references(document):
        assert reference.rpartition("/")[2] in names, reference
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            assert operation["summary"], path
            assert "Problem" in str(operation["responses"]["404"]), path
            if verb == "post":
                assert any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"]), path
    assert document["paths"]["/v1/checkins"]["post"]["security"]


# What replaces a thing that nobody can get by itself, as a whole: there is nothing to have seen before.
# What nobody edits by what they saw before: a plan, and a tag, which is in use or not at that moment.
UNCONDITIONAL = {("put", "/v1/orgs/{org_id}/plan"), ("put", "/v1/cards/{card_id}/tag")}


def test_whatever_is_edited_takes_a_condition_and_whoever_looks_at_it_gets_its_tag() -> None:
    """A PATCH or PUT that takes no `If-Match` fails here: see gateway/rest/preconditions.py for how to take it."""
    api = FakeEdge().app._api
    assert isinstance(api, FastAPI)
    paths = api.openapi()["paths"]
    edits = {(verb, path) for path, verbs in paths.items() for verb in verbs if verb in ("patch", "put")}
    assert edits >= UNCONDITIONAL
    for verb, path in edits - UNCONDITIONAL:
        for method, header, status in ((verb, "If-Match", "412"), ("get", "If-None-Match", "304")):
            operation = paths[path].get(method)
            if operation is not None:
                assert header in {parameter["name"] for parameter in operation["parameters"]}, (method, path)
                assert status in operation["responses"], (method, path)
                assert "ETag" in operation["responses"]["200"]["headers"], (method, path)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
