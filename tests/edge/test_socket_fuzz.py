"""Frames as no client would send them: each is answered with an error frame or a close code of ours, never by a crash.

After every attack the same socket must still answer a good scan, unless it was closed with a code that says why.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from gateway.sockets import codes, limits
from tests.support.socket_edge import JSON, KEY_TOKEN, MSGPACK, Client, SocketEdge, running_edge

Frames = list[str | bytes]
KNOWN = {"welcome", "verdict", "verdicts", "attendance", "revoked", "error", "ping", "pong", "snapshot", "update"}
# Codes of the WebSocket protocol with which the server itself may end it: not UTF-8, too big, broken framing.
SERVER_CODES = {1002, 1007, 1009}
OUR_CODES = {close.code for close in codes.CLOSES}
NESTED = 60_000

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
field_names = st.sampled_from(
    (
        *("t", "id", "credential", "items", "n", "gate_id", "direction", "scanned_at", "event_id", "token", "topic"),
        *("since", "resume", "now", "org_id"),
    )
)
numbers = st.one_of(st.integers(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False))
scalars = st.one_of(st.none(), st.booleans(), numbers, text)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(field_names | text, inner, max_size=5)),
    max_leaves=15,
)
kinds = st.sampled_from(
    ("scan", "scans", "ping", "pong", "hello", "subscribe", "unsubscribe", "revoked", "reconnect", "nonsense", "")
)
maps = st.builds(lambda kind, rest: {**rest, "t": kind}, kinds, st.dictionaries(field_names, values, max_size=6))
items = st.lists(st.one_of(values, st.dictionaries(field_names, values, max_size=4)), max_size=12)


def packed(value: Any) -> bytes:
    """MessagePack, where it can express the value; integers beyond 64 bits become text."""
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:
        return msgspec.msgpack.encode(str(value))


def cut(data: bytes, at: int, flip: int) -> bytes:
    """A frame that was cut short, with one byte changed."""
    data = data[: at % (len(data) + 1)]
    if not data:
        return data
    place = flip % len(data)
    return data[:place] + bytes([data[place] ^ (flip % 255 + 1)]) + data[place + 1 :]


def frames_of(wire: str) -> st.SearchStrategy[str | bytes]:
    encoded = st.one_of(maps, values).map(lambda value: json.dumps(value).encode() if wire == JSON else packed(value))
    damaged = st.builds(cut, encoded, st.integers(0, 10_000), st.integers(0, 10_000))
    raw = st.binary(max_size=300)
    deep = st.sampled_from([b"[" * NESTED, b'{"t":' * NESTED, b"\x91" * NESTED, b'{"t":"scan","x":' + b"[" * NESTED])
    anything: st.SearchStrategy[bytes] = st.one_of(encoded, damaged, raw, deep)
    as_text = anything.map(lambda data: data.decode("utf-8", "replace"))
    right, wrong = (as_text, anything) if wire == JSON else (anything, as_text)
    return st.one_of(right, right, right, wrong)


async def survives(edge: SocketEdge, wire: str, frames: Frames) -> None:
    """Sends the frames to a welcomed scanner's socket, then a good scan."""
    async with edge.scanner(wire) as client:
        try:
            for frame in frames:
                await client.connection.send(frame)
            await client.send({"t": "scan", "id": "the-good-one", "credential": edge.credential()})
            await until_answered(client, lambda fields: fields["t"] == "verdict" and fields["id"] == "the-good-one")
        except ConnectionClosed:
            assert client.connection.close_code in OUR_CODES | SERVER_CODES


async def survives_hello(edge: SocketEdge, path: str, wire: str, frames: Frames) -> None:
    """Sends the frames in place of a hello."""
    async with edge.connect(path, wire, token=None) as connection:
        client = Client(connection, wire)
        try:
            for frame in frames:
                await connection.send(frame)
            if not frames:
                return
            await until_answered(client, lambda _fields: False)
        except ConnectionClosed:
            assert connection.close_code in OUR_CODES | SERVER_CODES


async def survives_live(edge: SocketEdge, wire: str, frames: Frames) -> None:
    """Sends the frames to a subscriber's socket, then a ping."""
    async with edge.subscriber(wire, KEY_TOKEN) as client:
        try:
            for frame in frames:
                await client.connection.send(frame)
            await client.send({"t": "ping", "n": 77_777})
            await until_answered(client, lambda fields: fields["t"] == "pong" and fields["n"] == 77_777)
        except ConnectionClosed:
            assert client.connection.close_code in OUR_CODES | SERVER_CODES


async def mates_are_judged(edge: SocketEdge, wire: str, bad: list[Any]) -> None:
    """A `scans` frame with a good scan at each end of whatever `bad` is."""
    good = [{"id": name, "credential": edge.credential()} for name in ("first-good", "last-good")]
    async with edge.scanner(wire) as client:
        fields = {"t": "scans", "items": [good[0], *bad, good[1]]}
        await client.connection.send(json.dumps(fields) if wire == JSON else msgspec.msgpack.encode(fields))
        answers: list[dict[str, Any]] = []
        while len(answers) < len(bad) + 2:
            answers += (await client.receive())["items"]
        verdicts = [answer for answer in answers if answer["t"] == "verdict"]
        assert {"first-good", "last-good"} <= {verdict["id"] for verdict in verdicts}
        assert all(answer["code"] == codes.FRAME_INVALID for answer in answers if answer["t"] == "error")


async def until_answered(client: Client, is_last: Callable[[dict[str, Any]], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            fields = await client.receive_any()
            assert fields["t"] in KNOWN, fields
            if is_last(fields):
                return


def under_attack(attack: Callable[[SocketEdge], Callable[..., Coroutine[Any, Any, None]]], *strategies: Any) -> None:
    """One server for all examples; each example runs in the server's event loop."""
    with asyncio.Runner() as runner:
        running = running_edge()
        edge = runner.run(running.__aenter__())
        strike = attack(edge)

        @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.tuples(*strategies))
        def examples(arguments: tuple[Any, ...]) -> None:
            runner.run(strike(*arguments))
            assert edge.errors.lines == []

        try:
            examples()
        finally:
            runner.run(running.__aexit__(None, None, None))


both_wires = pytest.mark.parametrize("wire", [JSON, MSGPACK])


@both_wires
def test_any_frames_to_a_scanner(wire: str) -> None:
    under_attack(lambda edge: lambda frames: survives(edge, wire, frames), st.lists(frames_of(wire), max_size=6))


@both_wires
@pytest.mark.parametrize("path", ["/v1/scan", "/v1/live"])
def test_any_frame_in_place_of_a_hello(path: str, wire: str) -> None:
    strategy = st.lists(frames_of(wire), max_size=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "HELLO_TIMEOUT_MS", 500)
        under_attack(lambda edge: lambda frames: survives_hello(edge, path, wire, frames), strategy)


@both_wires
def test_any_frames_to_a_subscriber(wire: str) -> None:
    under_attack(lambda edge: lambda frames: survives_live(edge, wire, frames), st.lists(frames_of(wire), max_size=6))


@both_wires
def test_whatever_else_a_frame_of_scans_holds_its_good_ones_are_judged(wire: str) -> None:
    fitting = items.filter(lambda bad: wire == JSON or _fits(bad))
    under_attack(lambda edge: lambda bad: mates_are_judged(edge, wire, bad), fitting)


def _fits(value: Any) -> bool:
    try:
        msgspec.msgpack.encode(value)
    except OverflowError:
        return False
    return True
