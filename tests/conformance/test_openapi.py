"""The OpenAPI document is true: every operation, called with what the document allows and with what it does not,
answers as it says. On the whole engine behind a real server; bounded, so that it stays within a minute."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.edge.edge import FakeEdge
from tests.edge.in_process import SUPERADMIN_TOKEN, running_system

CASES_PER_OPERATION = 12
JUDGED_ITEM_BY_ITEM = ("/v1/checkins:batch",)  # a bad item is answered in its place, the request as a whole is 200
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


class Served:
    """The system behind uvicorn, in a thread with its own event loop."""

    def __init__(self, database: str) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._database = database
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        async with running_system(self._database) as system:
            self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
            config = uvicorn.Config(system.app, interface="asgi3", log_level="critical", lifespan="off")
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server._serve(sockets=[self._socket]))
            self._started.set()
            await self._stop.wait()
            server.should_exit = True
            await serving

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


@pytest.fixture
def served(migrated_database: str) -> Iterator[Served]:
    with Served(migrated_database) as served:
        yield served


def test_every_operation_answers_as_documented(served: Served) -> None:
    org = httpx.post(
        f"{served.url}/v1/orgs", json={"name": "Table"}, headers={"Authorization": f"Bearer {SUPERADMIN_TOKEN}"}
    ).json()
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 30
    failures: list[str] = []
    for operation in operations:
        token = (
            SUPERADMIN_TOKEN if (operation.method, operation.path) == ("post", "/v1/orgs") else org["api_key"]["key"]
        )
        checks = CHECKS
        if operation.path in JUDGED_ITEM_BY_ITEM:
            checks = [check for check in CHECKS if check is not negative_data_rejection]
        try:
            _exercise(operation, {"Authorization": f"Bearer {token}"}, checks)
        except FailureGroup as failure:
            failures.append(f"{operation.method.upper()} {operation.path}: {failure.exceptions}")
    assert failures == []


def _exercise(operation: Any, headers: dict[str, str], checks: list[Any]) -> None:
    strategy: st.SearchStrategy[Any] = operation.as_strategy() | operation.as_strategy(
        generation_mode=schemathesis.GenerationMode.NEGATIVE
    )

    @given(case=strategy)
    @settings(
        max_examples=CASES_PER_OPERATION,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def run(case: Any) -> None:
        response = case.call(headers=headers)
        case.validate_response(response, checks=checks)

    run()


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
UNCONDITIONAL = {("put", "/v1/orgs/{org_id}/plan")}


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
