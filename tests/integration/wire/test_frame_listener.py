"""The host's end of the wire against peers that break its rules: they are disconnected, told nothing, and cost no more
than is allowed; those who keep to the rules do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from serve import frame_listener
from serve.frame_listener import FrameListener
from serve.frame_wire import COLLECT, FAILED, OK, SUBMIT, HostHandshake, encode_frame, encode_ticket, wire_key
from tests.support.frames import KEY, FakeHost, listening, peer_of, until

HELLO_BYTES = len(HostHandshake(KEY, "", b"h" * 32).hello)


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
async def listener(host: FakeHost) -> AsyncIterator[FrameListener]:
    async with listening(host) as listener:
        yield listener


async def test_it_answers_by_id_in_the_order_in_which_answers_are_ready(
    host: FakeHost, listener: FrameListener
) -> None:
    async def answer(batch: bytes) -> bytes:
        await asyncio.sleep(0.05 if batch == b"slow" else 0)
        return b"re: " + batch

    host.answer = answer
    async with peer_of(listener) as peer:
        peer.ask(7, SUBMIT, b"slow")
        peer.ask(3, SUBMIT, b"quick")
        peer.ask(5, COLLECT, encode_ticket(12))
        assert {await peer.answer() for _ in range(2)} == {(3, OK, b"re: quick"), (5, OK, b"ticket 12")}
        assert await peer.answer() == (7, OK, b"re: slow")


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n" * 20, bytes(65), encode_frame(1, SUBMIT, bytes(100))])
async def test_who_does_not_prove_anything_gets_the_hello_and_no_more(
    sent: bytes, host: FakeHost, listener: FrameListener
) -> None:
    async with peer_of(listener, prove=False) as peer:
        peer.writer.write(sent)
        assert len(await peer.hung_up()) == HELLO_BYTES
    assert host.batches == []
    assert not listener.connections


async def test_a_wrong_secret_gets_no_proof_of_the_hosts(host: FakeHost, listener: FrameListener) -> None:
    async with peer_of(listener, prove=False) as peer:
        with pytest.raises(AssertionError, match="hung up"):
            await peer.prove("one/1", wire_key(b"t" * 32))
    assert not listener.connections


async def test_a_handshake_has_a_time_limit_and_a_proven_connection_none(
    listener: FrameListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_listener, "HANDSHAKE_TIMEOUT_MS", 100)
    async with peer_of(listener) as proven, peer_of(listener, prove=False) as silent:
        assert len(await silent.hung_up()) == HELLO_BYTES
        proven.ask(1, SUBMIT, b"a")
        assert await proven.answer() == (1, OK, b"re: a")


async def test_connections_are_limited(listener: FrameListener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_listener, "CONNECTIONS_MAX", 2)
    async with peer_of(listener) as first:
        async with peer_of(listener), peer_of(listener, prove=False) as third:
            assert await third.hung_up() == b""
            first.ask(1, SUBMIT, b"a")
            assert await first.answer() == (1, OK, b"re: a")
        await until(lambda: len(listener.connections) == 1)
        async with peer_of(listener):
            pass


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("too short", b"\0\0\0\1"),
        ("too long", b"\xff\xff\xff\xff"),
        ("an answer", encode_frame(2, OK, b"")),
        ("no ticket", encode_frame(2, COLLECT, b"12")),
        ("an id that is under way", encode_frame(1, SUBMIT, b"")),
    ],
)
async def test_a_gateway_that_breaks_the_wire_is_disconnected_and_its_calls_end(
    name: str, sent: bytes, host: FakeHost, listener: FrameListener
) -> None:
    host.answer = host.never
    async with peer_of(listener) as well_behaved, peer_of(listener) as peer:
        peer.ask(1, SUBMIT, b"under way")
        await host.arrived.wait()
        peer.writer.write(sent)
        assert await peer.hung_up() == b""
        await until(lambda: host.cancelled == [b"under way"])
        well_behaved.ask(1, COLLECT, encode_ticket(1))
        assert await well_behaved.answer() == (1, OK, b"ticket 1")


async def test_calls_under_way_are_limited(
    host: FakeHost, listener: FrameListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_listener, "CALLS_PER_CONNECTION_MAX", 3)
    host.answer = host.never
    async with peer_of(listener) as peer:
        for call_id in range(4):
            peer.ask(call_id, SUBMIT, b"")
        assert await peer.answer() == (3, FAILED, b"too many calls are under way")
    assert len(host.batches) == 3


async def test_a_finished_call_makes_room_for_another(listener: FrameListener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_listener, "CALLS_PER_CONNECTION_MAX", 3)
    async with peer_of(listener) as peer:
        for _ in range(10):
            peer.ask(1, SUBMIT, b"a")
            assert await peer.answer() == (1, OK, b"re: a")


async def test_a_gateway_that_takes_no_answers_is_not_read_from_and_then_disconnected(
    host: FakeHost, listener: FrameListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_listener, "STALL_TIMEOUT_MS", 300)
    monkeypatch.setattr(frame_listener, "CALLS_PER_CONNECTION_MAX", 100_000)
    answer = bytes(500_000)

    async def long(batch: bytes) -> bytes:
        return answer

    host.answer = long
    async with peer_of(listener) as peer:
        for call_id in range(2_000):
            peer.ask(call_id, SUBMIT, bytes(1_000))
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        taken = len(host.batches)
        await asyncio.sleep(0.1)
        assert len(host.batches) == taken < 1_000, "it does not take on what it cannot answer"
        await until(lambda: not listener.connections)


async def test_a_gateway_that_is_slow_to_take_its_answers_gets_them_all(
    host: FakeHost, listener: FrameListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_listener, "PAUSE_ABOVE_BYTES", 100_000)
    answer = bytes(300_000)

    async def long(batch: bytes) -> bytes:
        return answer

    host.answer = long
    async with peer_of(listener) as peer:
        for call_id in range(100):
            peer.ask(call_id, SUBMIT, b"")
        await asyncio.sleep(0.1)
        assert {(await peer.answer())[:2] for _ in range(100)} == {(call_id, OK) for call_id in range(100)}
        peer.ask(100, SUBMIT, b"")
        assert (await peer.answer())[0] == 100


async def test_answers_that_lie_unread_are_bounded(
    host: FakeHost, listener: FrameListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_listener, "UNREAD_BYTES_MAX", 5_000_000)
    may_answer = asyncio.Event()

    async def long(batch: bytes) -> bytes:
        await may_answer.wait()
        return bytes(1_000_000)

    host.answer = long
    async with peer_of(listener) as peer:
        for call_id in range(60):
            peer.ask(call_id, SUBMIT, b"")
        await until(lambda: len(host.batches) == 60)
        may_answer.set()
        await until(lambda: not listener.connections)
