"""Whatever comes in, the answer is a precise 4xx, never a 5xx, and nothing of it reaches the engine."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, cast, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import limits
from gateway.app import EdgeApp
from gateway.identity.callers import Caller
from gateway.identity.policy import POLICY, Role
from tests.edge.asgi import Answer, call
from tests.edge.edge import CALLERS, DEVICE, KEY, FakeEdge, bearer, memory_limiter
from tests.edge.fakes import TENANT, FakeIdentity
from tests.security.surface import Operation, Surface

SURFACE = Surface(FakeEdge().app)
# Somebody for what keys may not do.
PEOPLE = {
    role: Caller(TENANT, role, account_id="acc_1", session_id="ses_1", member_id="mem_1", is_verified=True)
    for role in get_args(Role)
    if role not in ("api_key", "device")
} | {"device": CALLERS[DEVICE]}


def token_for(operation: Operation) -> str:
    """The token of somebody who may."""
    reach = POLICY[operation.action].reach if operation.action else {}
    return KEY if not reach or any(name.startswith("key:") for name in reach) else next(iter(reach))


def path_of(operation: Operation) -> str:
    """Its path with ids that could be some."""
    return re.sub(r"\{[a-z_]+\}", "x_1", operation.path.replace("{org_id}", TENANT))


# Every operation that takes a JSON body: method, path, a token, and whether the body may be left out.
Route = tuple[str, str, str, bool]
ROUTES: list[Route] = [
    (operation.method, path_of(operation), token_for(operation), not operation.is_body_required)
    for operation in SURFACE.operations
    if operation.body is not None
]
each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[0]} {route[1]}")

HOSTILE: dict[str, bytes] = {
    "deep arrays": b"[" * 30_000,
    "deep closed arrays": b"[" * 20_000 + b"]" * 20_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep in a field": b'{"name":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "deep items": b'{"items":[' + b"[" * 20_000 + b"]" * 20_000 + b"]}",
    "nothing": b"",
    "space": b"   ",
    "truncated": b'{"name": "x',
    "NaN": b'{"amount": NaN, "capacity": NaN, "entry_seq": NaN, "event_id": NaN}',
    "infinite": b'{"amount": 1e400, "capacity": 1e400, "entry_seq": -1e400, "event_id": 1e400}',
    "huge integers": b'{"amount": ' + b"9" * 5_000 + b', "capacity": ' + b"9" * 5_000 + b"}",
    "bad UTF-8": b'{"name": "\xff\xfe", "event_id": "\xc3("}',
    "overlong UTF-8": b'{"name": "\xc0\x80"}',
    "half a surrogate": b'{"name": "\\ud800", "credential": "\\udfff", "event_id": "e"}',
    "NUL": b'{"name": "\\u0000", "credential": "\\u0000", "event_id": "\\u0000", "code": "\\u0000"}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"name": "x", "capacity": -1, "amount": "1"}',
    "wrong types": b'{"name": 1, "capacity": "many", "event_id": [], "credential": {}, "items": 3, "amount": [], '
    b'"code": 1}',
    "array": b"[1, 2, 3]",
    "string": b'"text"',
    "duplicate keys": b'{"name": "a", "name": 7, "event_id": "a", "event_id": 7}',
    "comment": b'{"name": /* x */ "a"}',
    "long strings": b'{"name": "' + b"a" * 50_000 + b'"}',
}  # fmt: skip


@pytest.fixture(scope="module")
def shared_edge() -> FakeEdge:
    edge = FakeEdge()
    identity = cast(Any, FakeIdentity({**CALLERS, **PEOPLE}))
    limiter = memory_limiter(**dict.fromkeys(limits.RATES, "1000000/s"))
    edge.app = EdgeApp(msgspec.structs.replace(edge.app.parts, identity=identity, limiter=limiter))
    return edge


@pytest.fixture
def edge(shared_edge: FakeEdge) -> FakeEdge:
    shared_edge.engine.messages.clear()
    return shared_edge


def assert_refused(answer: Answer, what: object) -> None:
    assert 400 <= answer.status < 500, f"{what}: {answer.status} {answer.body[:300]!r}"
    assert answer.headers["content-type"] == "application/problem+json", what
    problem = answer.json()
    assert problem["status"] == answer.status
    assert problem["code"]
    if answer.status == 400:
        assert problem["errors"] or problem["detail"], what


@each_route
async def test_hostile_bodies(edge: FakeEdge, route: Route) -> None:
    method, path, token, is_optional = route
    for name, body in HOSTILE.items():
        if body or not is_optional:
            answer = await call(edge.app, method, path, body, bearer(token))
            assert_refused(answer, name)
            assert answer.status in (400, 413), name
    assert edge.engine.messages == []


@each_route
async def test_bodies_beyond_the_limit(edge: FakeEdge, route: Route) -> None:
    method, path, token, _ = route
    limit = limits.BATCH_BODY_BYTES_MAX if path.endswith(":batch") else limits.BODY_BYTES_MAX
    big = b" " * (limit + 1)
    announced = await call(edge.app, method, path, big, bearer(token))
    assert announced.status == 413
    chunks = [big[: limit // 2], big[: limit // 2], big[: limit // 2]]
    chunked = await call(edge.app, method, path, None, bearer(token), chunks)
    assert chunked.status in (400, 413)


@pytest.mark.parametrize(
    "path",
    [
        "/", "//", "/v1", "/v1/", "/v1/orgs/", "/v1/orgs/%", "/v1/orgs/../../etc/passwd", "/v1/orgs/a\x00b",
        "/v1/cards/" + "x" * 5_000, "/v1/cards/\ud800", "/v1/events/é", "/v1/leaderboards/points?limit=1e9",
        "/v1/leaderboards/points?limit=-1", "/v1/leaderboards/points?limit=" + "9" * 500,
        "/v1/leaderboards/points?window=%00",
        "/v1/leaderboards/points?around=a%20b", "/v1/cards/c/credential?format=exe", "/metrics/x", "/docs/../x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "BREW", "TRACE"])
async def test_hostile_addresses(edge: FakeEdge, method: str, path: str) -> None:
    answer = await call(edge.app, method, path, None, bearer(KEY))
    assert 400 <= answer.status < 500, (method, path, answer.status)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer " + "x" * 60_000},
        {"Authorization": "Bearer \x00"},
        {"Authorization": "\xff\xfe"},
        {"X-API-Key": ""},
        {"X-API-Key": "mvk_" + "\xff" * 9},
        {"Idempotency-Key": "\xff", "X-API-Key": "mvk_none"},
        {"Content-Length": "-5", "X-API-Key": "mvk_none"},
        {"Content-Length": "9" * 400, "X-API-Key": "mvk_none"},
        {"Content-Type": "\xff", "X-API-Key": "mvk_none"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/checkins", "/v1/members"])
async def test_hostile_headers(edge: FakeEdge, headers: dict[str, str], path: str) -> None:
    answer = await call(edge.app, "POST", path, None, headers, [b"{}"])
    assert answer.status in (400, 401, 413)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "event_id credential gate_id direction scan_id scanned_at items amount note entry_seq expires_at name capacity",
    "time_zone doors_open doors_close gates member member_id tier valid_from scopes code overdraft_max",
)
known_fields = st.sampled_from([field for line in FIELDS for field in line.split()])
bodies = (
    st.binary(max_size=200)
    | json_values.map(lambda value: _json(value))
    | st.dictionaries(known_fields, json_values, max_size=6).map(lambda value: _json(value))
)


def _json(value: Any) -> bytes:
    """JSON as hostile writers make it: infinities, halves of surrogate pairs and all."""
    return json.dumps(value).encode()


@given(route=st.sampled_from(ROUTES), body=bodies)
@settings(max_examples=400, deadline=None)
def test_no_body_gives_a_5xx(shared_edge: FakeEdge, route: Route, body: bytes) -> None:
    """(503 is what engine and store, which are not there, say to the few that are right by chance.)"""
    method, path, token, _ = route
    answer = _run(lambda: call(shared_edge.app, method, path, body, bearer(token)))
    no_store = ("this engine only admits", "A store does not answer.")
    assert answer.status < 500 or answer.json()["detail"] in no_store, (route, body, answer.body)


@given(st.lists(json_values, max_size=5))
@settings(max_examples=100, deadline=None)
def test_bad_items_of_a_batch_hold_up_no_other(shared_edge: FakeEdge, items: list[Any]) -> None:
    edge = shared_edge
    good = msgspec.json.encode({"event_id": "evt_1", "credential": edge.credential()})
    raw = b'{"items":[' + b",".join([*(_json(item) for item in items), good]) + b"]}"
    if b"NaN" in raw or b"Infinity" in raw:
        return
    answer = _run(lambda: call(edge.app, "POST", "/v1/checkins:batch", raw, bearer(KEY)))
    assert answer.status == 200, answer.body
    assert answer.json()["items"][-1]["verdict"] == "admitted"


def _run(work: Callable[[], Awaitable[Answer]]) -> Answer:
    async def run() -> Answer:
        return await work()

    return asyncio.run(run())
