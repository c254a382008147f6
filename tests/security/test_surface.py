"""What is served is what is documented, what is documented is protected, and nothing else answers (API8, API9)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from gateway.identity.policy import POLICY, PRINCIPALS
from gateway.rest.permissions import HOT_PATHS, PUBLIC, SOCKET, entrances
from tests.edge.asgi import call
from tests.edge.edge import ADMIN, KEY, FakeEdge, bearer
from tests.edge.in_process import System
from tests.security.surface import Schema, Surface

EDGE = FakeEdge()
API = EDGE.app._api
assert isinstance(API, FastAPI)
SURFACE = Surface(EDGE.app)
UNDOCUMENTED = {
    ("GET", "/openapi.json"): "the document itself",
    ("HEAD", "/openapi.json"): "the document itself",
    ("GET", "/docs"): "the document for people",
    ("GET", "/docs/permissions"): "the document for people",
    ("GET", "/docs/rules"): "the document for people",
    ("GET", "/docs/sockets"): "the document for people",
    ("GET", "/docs/sockets/schema.json"): "the same for machines",
}
PAGES = {"/board/": "the same for everybody, and holds no data"}
# Fields of answers that carry a secret, each shown to whoever just asked for it to be made.
SECRETS_SHOWN = {
    "ApiKeyView.key", "DeviceTokenView.token", "PairingCodeView.pairing_code", "TokensView.access_token",
    "TokensView.refresh_token", "RotatedKeyView.key",
}  # fmt: skip
SECRET = re.compile(r"secret|hash|passw|token(?!_type)|seed|sealed|private|salt|(^|_)key$|pairing_code")
# Methods that change nothing may need an action for reading; these change something, or tell more than they should.
READING = re.compile(r"\.(read|list|search|revocations)$")
DEBUG_PATHS = (
    "/debug", "/admin", "/console", "/redoc", "/swagger", "/swagger.json", "/openapi.yaml", "/graphql",
    "/actuator/env", "/server-status", "/.env", "/.git/config", "/api", "/v1", "/v2/orgs", "/v0/orgs", "/internal",
    "/pprof", "/phpinfo.php", "/v1/debug", "/v1/admin", "/v1/internal", "/-/healthz", "/-/routes", "/metrics/",
    "/docs/", "/static/../pyproject.toml",
)  # fmt: skip


def served() -> list[tuple[str, str]]:
    """Every method of every path that FastAPI answers."""
    return [(method, route.path or "") for route in iter_route_contexts(API.routes) for method in route.methods or ()]


def test_what_asks_nobody_who_they_are_is_public_for_a_reason() -> None:
    open_to_all = {(each.method, each.path) for each in entrances(API) if not each.action}
    assert open_to_all - PUBLIC.keys() == set(), "neither `Allowed` nor a reason in gateway.rest.permissions.PUBLIC"
    assert PUBLIC.keys() - open_to_all == set(), "PUBLIC has what is not there, or not public"
    assert all(PUBLIC.values())


def test_every_action_needed_is_in_the_table() -> None:
    assert {each.action for each in entrances(API)} - {""} - POLICY.keys() == set()


def test_what_changes_something_needs_more_than_reading() -> None:
    for each in entrances(API):
        if each.method not in ("GET", "HEAD", SOCKET) and each.action:
            assert not READING.search(each.action), each


def test_every_path_served_is_documented() -> None:
    documented = {(operation.method, operation.path) for operation in SURFACE.operations}
    assert set(served()) - documented == UNDOCUMENTED.keys()
    hot = {("POST", path) for path in HOT_PATHS}
    assert documented == (set(served()) - UNDOCUMENTED.keys()) | hot
    for method, path in documented:
        is_hot = EDGE.app._fast_lane.handler(path.replace("{card_id}", "card_1")) is not None
        assert is_hot == ((method, path) in hot or path in HOT_PATHS), path


async def test_every_page_is_known(system: System) -> None:
    assert system.app._pages.keys() == PAGES.keys()


@pytest.mark.parametrize("path", DEBUG_PATHS)
async def test_nothing_answers_that_only_developers_know(path: str) -> None:
    assert not API.debug
    for token in ("", KEY, ADMIN):
        answer = await call(EDGE.app, "GET", path, None, bearer(token) if token else {})
        assert answer.status == 404, (path, token)


def fields_of(schema: Schema, name: str) -> Iterator[tuple[str, str]]:
    """The fields of an answer, each after the schema that it belongs to, and those within it."""
    for field, inner in schema.get("properties", {}).items():
        plain = SURFACE.plain(inner)
        if "properties" in plain:
            yield from fields_of(plain, SURFACE.name_of(inner))
        elif plain.get("type") == "array":
            yield from fields_of(SURFACE.plain(plain["items"]), SURFACE.name_of(plain["items"]))
        else:
            yield f"{name}.{field}", field


def answers_with(pattern: re.Pattern[str]) -> set[str]:
    found = set()
    for operation in SURFACE.operations:
        for status, response in operation.responses.items():
            contents = response.get("content", {}).values() if status.startswith("2") else ()
            for content in contents:
                name = SURFACE.name_of(content["schema"])
                fields = fields_of(SURFACE.plain(content["schema"]), name)
                found |= {name for name, field in fields if pattern.search(field)}
    return found


def test_no_answer_has_a_field_for_a_secret() -> None:
    assert answers_with(SECRET) == SECRETS_SHOWN


async def test_the_page_of_permissions_is_the_table(system: System) -> None:
    answer = await system.call("GET", "/docs/permissions")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = answer.body.decode()
    rows = {row.split("</b>")[0]: row for row in page.split("<tr><td><b>")[1:]}
    assert rows.keys() == POLICY.keys()
    reaches = {"": None, "all": "platform", "organisation": "tenant", "its event": "event", "own": "own"}
    for name, action in POLICY.items():
        cells = [reaches[cell] for cell in rows[name].split("</table>")[0].split("<td>")[1 : 1 + len(PRINCIPALS)]]
        assert cells == [action.reach.get(principal) for principal in PRINCIPALS], name
    for each in entrances(API):
        assert f"<code>{each.method} {each.path}</code>" in (rows[each.action] if each.action else page)
    assert "/docs/permissions" in (await system.call("GET", "/docs")).body.decode()
    assert "script" not in page
