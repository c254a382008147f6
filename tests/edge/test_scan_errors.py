"""`/v1/scan` and what it cannot take: each bad frame or item is named, and hurts nothing else. Both formats."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.sockets import codes, limits
from tests.support.socket_edge import EVENT, JSON, MSGPACK, SocketEdge, running_edge


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as running:
        yield running


both_wires = pytest.mark.parametrize("wire", [JSON, MSGPACK])


class TestErrors:
    @pytest.mark.parametrize(
        ("scan", "field", "item_id"),
        [
            ({"t": "scan", "id": "1", "credential": 5}, "credential", "1"),
            ({"t": "scan", "id": "1", "credential": ""}, "credential", "1"),
            ({"t": "scan", "id": "1", "credential": "x" * 513}, "credential", "1"),
            ({"t": "scan", "id": "1"}, "credential", "1"),
            ({"t": "scan", "credential": "x"}, "id", None),
            ({"t": "scan", "id": 7, "credential": "x"}, "id", None),
            ({"t": "scan", "id": "", "credential": "x"}, "id", None),
            ({"t": "scan", "id": "a\x00b", "credential": "x"}, "id", None),
            ({"t": "scan", "id": "x" * 65, "credential": "x"}, "id", None),
            ({"t": "scan", "id": "1", "credential": "x", "direction": "up"}, "direction", "1"),
            ({"t": "scan", "id": "1", "credential": "x", "gate_id": "a b"}, "gate_id", "1"),
            ({"t": "scan", "id": "1", "credential": "x", "scanned_at": -1}, "scanned_at", "1"),
            ({"t": "scan", "id": "1", "credential": "x", "scanned_at": 2**63}, "scanned_at", "1"),
            ({"t": "scan", "id": "1", "credential": "x", "scanned_at": 1.5}, "scanned_at", "1"),
            ({"t": "scan", "id": "1", "credential": "x", "scanned_at": "now"}, "scanned_at", "1"),
            ({"t": "annul", "id": "1"}, "scan_id", "1"),
            ({"t": "annul", "id": "1", "scan_id": ""}, "scan_id", "1"),
            ({"t": "annul", "id": "1", "scan_id": "a\x00b"}, "scan_id", "1"),
            ({"t": "annul", "scan_id": "1"}, "id", None),
            ({"t": "annul", "id": "a\x00b", "scan_id": "1"}, "id", None),
            ({"t": "nonsense"}, "t", None),
            ({"t": 5}, "t", None),
            ({}, "t", None),
            ([], "", None),
            ({"t": "scans"}, "items", None),
            ({"t": "scans", "items": 5}, "items", None),
            ({"t": "scans", "items": [{}] * 257}, "items", None),
            ({"t": "ping", "n": "x"}, "n", None),
            ({"t": "hello", "event_id": EVENT}, "hello", None),
        ],
    )
    @both_wires
    async def test_a_bad_frame_is_named_and_the_socket_stays_open(
        self, edge: SocketEdge, wire: str, scan: Any, field: str, item_id: str | None
    ) -> None:
        async with edge.scanner(wire) as client:
            await client.send(scan)
            error = await client.receive()
            assert (error["t"], error["code"]) == ("error", codes.FRAME_INVALID)
            assert field in error["message"]
            assert error.get("id") == item_id
            await client.send({"t": "scan", "id": "good", "credential": edge.credential()})
            assert (await client.receive())["id"] == "good"

    @both_wires
    async def test_one_bad_item_is_answered_by_itself_and_its_mates_are_judged(
        self, edge: SocketEdge, wire: str
    ) -> None:
        good = [{"id": f"g{n}", "credential": edge.credential()} for n in range(3)]
        bad: list[Any] = [
            {"id": "b0", "credential": 5},
            {"id": 5},
            "text",
            {"id": "b3", "credential": edge.credential(), "gate_id": "\x00"},
        ]
        async with edge.scanner(wire) as client:
            await client.send({"t": "scans", "items": [good[0], bad[0], bad[1], good[1], bad[2], bad[3], good[2]]})
            answer = await client.receive()
        by_kind: dict[str, list[dict[str, Any]]] = {"verdict": [], "error": []}
        for item in answer["items"]:
            by_kind[item["t"]].append(item)
        assert [item["id"] for item in by_kind["verdict"]] == ["g0", "g1", "g2"]
        assert [item.get("id") for item in by_kind["error"]] == ["b0", None, None, "b3"]
        assert {item["code"] for item in by_kind["error"]} == {codes.FRAME_INVALID}

    @both_wires
    async def test_an_item_whose_characters_are_wrong_hurts_no_other(self, edge: SocketEdge, wire: str) -> None:
        good, bad = {"id": "g", "credential": edge.credential()}, {"id": "a\x00", "credential": edge.credential()}
        async with edge.scanner(wire) as client:
            await client.send({"t": "scans", "items": [bad, good]})
            assert [item["t"] for item in (await client.receive())["items"]] == ["error", "verdict"]

    async def test_strings_that_are_not_utf8(self, edge: SocketEdge) -> None:
        bad = b"\x82\xa2id\xa1b\xaacredential\xa1\xff"
        good = msgspec.msgpack.encode({"id": "g", "credential": edge.credential()})
        async with edge.scanner(MSGPACK) as client:
            await client.connection.send(b"\x82\xa1t\xa4scan\xa2id\xa1\xff")
            assert (await client.receive())["code"] == codes.FRAME_INVALID
            await client.connection.send(b"\x82\xa1t\xa5scans\xa5items\x92" + bad + good)
            error, verdict = (await client.receive())["items"]
            assert (error["code"], error["id"], verdict["id"]) == (codes.FRAME_INVALID, "b", "g")

    async def test_binary_in_text_mode_and_text_in_binary_mode(self, edge: SocketEdge) -> None:
        async with edge.scanner(JSON) as client:
            await client.connection.send(b"\x80")
            assert "text" in (await client.receive())["message"]
        async with edge.scanner(MSGPACK) as client:
            await client.connection.send("{}")
            assert "binary" in (await client.receive())["message"]

    async def test_nothing_but_bad_frames_is_not_our_protocol(self, edge: SocketEdge) -> None:
        async with edge.scanner() as client:
            for _ in range(limits.BAD_FRAMES_MAX):
                await client.connection.send("nonsense")
            assert await client.closed() == codes.PROTOCOL_ERROR.code

    @both_wires
    async def test_a_frame_that_is_too_big(self, edge: SocketEdge, wire: str) -> None:
        async with edge.scanner(wire) as client:
            await client.send({"t": "scan", "id": "1", "credential": "x" * limits.FRAME_BYTES_MAX})
            assert (await client.receive())["code"] == codes.FRAME_TOO_BIG.name
            assert await client.closed() == codes.FRAME_TOO_BIG.code

    async def test_a_frame_far_too_big_is_cut_off_by_the_server(self, edge: SocketEdge) -> None:
        async with edge.scanner() as client:
            await client.connection.send("x" * (limits.SERVER_FRAME_BYTES_MAX + 1))
            assert await client.closed() == 1009
