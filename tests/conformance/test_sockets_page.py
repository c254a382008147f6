"""The page of the sockets has every frame and every close that the code knows, with examples that hold."""

from __future__ import annotations

import ast
import re
from html import escape, unescape
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from gateway.rest.sockets_page import SOCKETS
from gateway.sockets import codes, limits, topics, wire
from gateway.sockets.examples import EXAMPLES
from tests.conformance.test_codes import ROOT, parsed
from tests.edge.asgi import call
from tests.edge.edge import FakeEdge

SIDES = [
    (socket.path, side, kind) for socket in SOCKETS for side in ("asked", "told") for kind in getattr(socket, side)
]


@pytest.fixture
async def page() -> str:
    answer = await call(FakeEdge().app, "GET", "/docs/sockets")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    return answer.body.decode()


@pytest.fixture
async def schema() -> dict[str, Any]:
    answer = await call(FakeEdge().app, "GET", "/docs/sockets/schema.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/schema+json")
    found: dict[str, Any] = answer.json()
    return found


def sent_by_the_server() -> set[str]:
    """The types of all maps that the code of the sockets makes."""
    found = {"verdict"}
    for path in (ROOT / "gateway" / "sockets").glob("*.py"):
        for node in ast.walk(parsed(path)):
            match node:
                case ast.Dict(keys=[ast.Constant(value="t"), *_], values=[ast.Constant(value=str(kind)), *_]):
                    found.add(kind)
    return found


def test_no_frame_is_missing() -> None:
    told = {msgspec.json.decode(msgspec.json.encode(EXAMPLES[kind]))["t"] for _, side, kind in SIDES if side == "told"}
    assert told == sent_by_the_server()
    assert EXAMPLES.keys() == {kind for _, _, kind in SIDES}


async def test_every_frame_stands_there_with_an_example_that_holds(page: str, schema: dict[str, Any]) -> None:
    shown = [msgspec.json.decode(unescape(text)) for text in re.findall("<pre>(.*?)</pre>", page, re.DOTALL)]
    assert len(shown) == len(SIDES)
    for (path, side, kind), example in zip(SIDES, shown, strict=True):
        assert f"<code>{example['t']}</code>" in page
        raw = msgspec.json.encode(example)
        msgspec.json.decode(raw, type=kind)
        if side == "asked":
            decode = wire.JSON.scan_frame if path == "/v1/scan" else wire.JSON.live_frame
            assert type(decode(raw)) is kind
        part = schema["sockets"][path]["client" if side == "asked" else "server"]
        jsonschema_rs.Draft202012Validator({"$defs": schema["$defs"], **part}).validate(example)


async def test_every_field_stands_there(page: str, schema: dict[str, Any]) -> None:
    for name, definition in schema["$defs"].items():
        for field in definition["properties"].keys() - {"t"}:
            assert f"<tr><td><code>{field}</code>" in page, (name, field)
    ids = re.findall(r"<details id=(\w+)>", page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"href=#(\w+)", page)) <= set(ids), "what a field is made of is explained"


async def test_closes_errors_topics_subprotocols_and_bounds_stand_there(page: str) -> None:
    for close in codes.CLOSES:
        again = "with back-off" if close.may_reconnect else "no"
        row = f"<td><code>{close.code}</code><td><code>{close.name}</code><td>{escape(close.message)}<td>{again}"
        assert f"{row}<td>{escape(codes.REMEDIES[close.name])}" in page
    for told in (*codes.REMEDIES, *wire.WIRES, *(kind.name for kind in topics.KINDS), *(s.path for s in SOCKETS)):
        assert f"<code>{escape(told)}</code>" in page, told
    for most in (limits.FRAME_BYTES_MAX, limits.SCANS_IN_FLIGHT_MAX, limits.SUBSCRIPTIONS_PER_SOCKET_MAX):
        assert f"<td>{most:,}" in page
    assert "<script" not in page


async def test_the_documentation_leads_there() -> None:
    assert "href=/docs/sockets" in (await call(FakeEdge().app, "GET", "/docs")).body.decode()
