"""Gateway and host over real sockets: each caller gets its own answer, and whatever happens to the connection is
`HostUnavailable` for those who wait, at once, and a fresh start for who comes next."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.ports import HostUnavailable
from serve import frame_listener, frame_transport
from serve.frame_listener import FrameListener
from serve.frame_transport import FrameTransport
from serve.frame_wire import OK, REQUEST_BYTES_MAX, HostAddress, HostHandshake, encode_frame, wire_key
from tests.support.frames import (
    COLLECT_TIMEOUT_MS,
    OPEN_TIMEOUT_MS,
    SUBMIT_TIMEOUT_MS,
    Addresses,
    FakeHost,
    host_by_hand,
    listening,
    prove,
    transport_to,
    until,
)
from tests.support.tcp_proxy import TcpProxy

OTHER_KEY = wire_key(b"t" * 32)


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
async def listener(host: FakeHost) -> AsyncIterator[FrameListener]:
    async with listening(host) as listener:
        yield listener


@pytest.fixture
def addresses(listener: FrameListener) -> Addresses:
    found = Addresses()
    found.hosts["one"] = listener.address
    return found


@pytest.fixture
async def transport(addresses: Addresses) -> AsyncIterator[FrameTransport]:
    async with transport_to(addresses) as transport:
        yield transport


async def took_ms(call: asyncio.Task[bytes]) -> float:
    """How long it takes from now until the host is unavailable to the call."""
    begun_s = time.monotonic()
    with pytest.raises(HostUnavailable):
        await call
    return (time.monotonic() - begun_s) * 1000


async def test_concurrent_calls_are_answered_to_the_right_caller(
    host: FakeHost, listener: FrameListener, addresses: Addresses
) -> None:
    rng = random.Random(1)

    async def after_a_while(batch: bytes) -> bytes:
        await asyncio.sleep(rng.uniform(0, 0.05))
        return b"re: " + batch

    host.answer = after_a_while
    batches = [b"%d " % number * rng.choice((1, 10, 20_000)) for number in range(200)]
    async with transport_to(addresses, patience=50) as transport:
        submits = [transport.submit("one", batch) for batch in batches]
        collects = [transport.collect("one", ticket) for ticket in range(50)]
        answers = await asyncio.gather(*submits, *collects)
        assert answers[:200] == [b"re: " + batch for batch in batches]
        assert answers[200:] == [b"ticket %d" % ticket for ticket in range(50)]
        assert addresses.asked == 1, "they all share one opening"
        assert len(listener.connections) == 1


async def test_each_host_has_a_connection_of_its_own(addresses: Addresses, transport: FrameTransport) -> None:
    other = FakeHost()
    async with listening(other, "two/1") as second:
        addresses.hosts["two"] = second.address
        assert await transport.submit("one", b"a") == b"re: a"
        assert await transport.submit("two", b"b") == b"re: b"
        assert other.batches == [b"b"]


async def test_a_gateway_without_the_secret_reaches_nothing(
    host: FakeHost, listener: FrameListener, addresses: Addresses
) -> None:
    async with transport_to(addresses, OTHER_KEY) as stranger:
        with pytest.raises(HostUnavailable):
            await stranger.submit("one", b"a")
    await until(lambda: not listener.connections)
    assert host.batches == []


async def test_a_host_without_the_secret_is_told_nothing(addresses: Addresses, transport: FrameTransport) -> None:
    received: list[bytes] = []

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HostHandshake(OTHER_KEY, "one/1", b"h" * 32).hello)
        received.append(await reader.read(1000))
        writer.write(b"p" * 32)
        received.append(await reader.read(1000))

    async with host_by_hand(pretend) as address:
        addresses.hosts["one"] = address
        with pytest.raises(HostUnavailable, match="wrong proof"):
            await transport.submit("one", b"a secret batch")
        await until(lambda: len(received) == 2)
    assert len(received[0]) > 64
    assert received[1] == b""


async def test_another_incarnation_is_not_taken_for_the_host(
    host: FakeHost, listener: FrameListener, addresses: Addresses, transport: FrameTransport
) -> None:
    addresses.hosts["one"] = HostAddress("one/2", listener.address.ip, listener.address.port)
    with pytest.raises(HostUnavailable):
        await transport.submit("one", b"a")
    assert host.batches == []
    addresses.hosts["one"] = listener.address
    assert await transport.submit("one", b"a") == b"re: a"


async def test_a_cut_connection_fails_all_open_calls_at_once_and_the_next_finds_the_new_process(
    host: FakeHost, listener: FrameListener, addresses: Addresses, transport: FrameTransport
) -> None:
    host.answer = host.never
    calls = [asyncio.create_task(transport.submit("one", b"%d" % number)) for number in range(20)]
    await until(lambda: len(host.batches) == 20)
    successor = FakeHost()
    async with listening(successor, "one/2") as next_listener:
        addresses.hosts["one"] = next_listener.address
        await listener.close()
        assert sum([await took_ms(call) for call in calls]) < SUBMIT_TIMEOUT_MS / 4
        assert await transport.submit("one", b"again") == b"re: again"
    assert successor.batches == [b"again"], "nothing is sent again by itself"
    assert sorted(host.cancelled) == sorted(host.batches), "what nobody waits for ends"


async def test_a_cut_on_the_way_is_the_same(
    host: FakeHost, listener: FrameListener, addresses: Addresses, transport: FrameTransport
) -> None:
    async with TcpProxy(listener.address.ip, listener.address.port) as proxy:
        addresses.hosts["one"] = HostAddress("one/1", "127.0.0.1", proxy.port)
        assert await transport.submit("one", b"a") == b"re: a"
        proxy.to_client.is_cutting = True
        with pytest.raises(HostUnavailable):
            await transport.submit("one", b"b")
        proxy.heal()
        assert await transport.submit("one", b"c") == b"re: c"
    assert host.batches == [b"a", b"b", b"c"]


@pytest.mark.parametrize("what", ["submit", "collect"])
async def test_a_call_times_out(what: str, host: FakeHost, transport: FrameTransport) -> None:
    host.answer = host.never
    host.collect = host.never  # type: ignore[assignment, method-assign]
    call = asyncio.create_task(transport.submit("one", b"a") if what == "submit" else transport.collect("one", 1))
    timeout_ms = SUBMIT_TIMEOUT_MS if what == "submit" else COLLECT_TIMEOUT_MS
    assert timeout_ms * 0.9 < await took_ms(call) < timeout_ms * 1.5


async def test_a_slow_call_leaves_the_connection_to_the_others_and_its_late_answer_is_dropped(
    host: FakeHost, addresses: Addresses, transport: FrameTransport
) -> None:
    may_answer = asyncio.Event()

    async def answer(batch: bytes) -> bytes:
        if batch == b"slow":
            await may_answer.wait()
        return b"re: " + batch

    host.answer = answer
    slow = asyncio.create_task(transport.submit("one", b"slow"))
    while not slow.done():
        assert await transport.submit("one", b"quick") == b"re: quick"
        await asyncio.sleep(0.02)
    assert isinstance(slow.exception(), HostUnavailable)
    may_answer.set()
    assert await transport.submit("one", b"quick") == b"re: quick"
    assert addresses.asked == 1


async def test_after_a_silent_timeout_the_host_is_looked_for_again(
    listener: FrameListener, addresses: Addresses, transport: FrameTransport
) -> None:
    async with TcpProxy(listener.address.ip, listener.address.port) as proxy:
        addresses.hosts["one"] = HostAddress("one/1", "127.0.0.1", proxy.port)
        assert await transport.submit("one", b"a") == b"re: a"
        proxy.half_open()
        first = asyncio.create_task(transport.submit("one", b"b"))
        await asyncio.sleep(SUBMIT_TIMEOUT_MS / 2000)
        second = asyncio.create_task(transport.submit("one", b"c"))
        await asyncio.gather(took_ms(first), took_ms(second))
        addresses.hosts["one"] = listener.address
        assert await transport.submit("one", b"d") == b"re: d"
    assert addresses.asked == 2


async def test_a_host_that_says_nothing_at_all_is_given_up_in_time(
    addresses: Addresses, transport: FrameTransport
) -> None:
    hung_up: list[bool] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hung_up.append(await reader.read() == b"")

    async with host_by_hand(listen) as address:
        addresses.hosts["one"] = address
        calls = [asyncio.create_task(transport.submit("one", b"a")) for _ in range(3)]
        assert OPEN_TIMEOUT_MS * 0.9 < await took_ms(calls[0]) < OPEN_TIMEOUT_MS * 1.5
        await asyncio.gather(took_ms(calls[1]), took_ms(calls[2]))
        assert "within" in str(calls[2].exception())
        await until(lambda: hung_up == [True])
    assert addresses.asked == 1


async def test_a_host_that_hangs_up_as_soon_as_it_has_proved_itself_is_looked_for_again(
    listener: FrameListener, addresses: Addresses, transport: FrameTransport
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await prove(reader, writer, "one/1")

    async with host_by_hand(hang_up) as address:
        for _ in range(10):
            addresses.hosts["one"] = address
            call = asyncio.create_task(transport.submit("one", b"a"))
            assert await took_ms(call) < SUBMIT_TIMEOUT_MS / 2
            addresses.hosts["one"] = listener.address
            assert await transport.submit("one", b"a") == b"re: a"
            await listener.close()
            await listener.start("127.0.0.1")


async def test_a_connection_that_ends_while_those_who_opened_it_have_not_noticed_yet(
    addresses: Addresses, transport: FrameTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = frame_transport._Link._settle_ready

    def settle_and_end(link: frame_transport._Link) -> None:
        settle(link)
        if link.ready.done():
            link.end("at the same moment")

    with monkeypatch.context() as patched:
        patched.setattr(frame_transport._Link, "_settle_ready", settle_and_end)
        with pytest.raises(HostUnavailable):
            await transport.submit("one", b"a")
    assert await transport.submit("one", b"a") == b"re: a"


async def test_a_host_that_is_not_there(addresses: Addresses, transport: FrameTransport) -> None:
    with pytest.raises(HostUnavailable, match="nowhere"):
        await transport.submit("two", b"a")
    addresses.hosts["two"] = HostAddress("two/1", "127.0.0.1", 1)
    with pytest.raises(HostUnavailable):
        await transport.submit("two", b"a")
    assert await transport.submit("one", b"a") == b"re: a"


async def test_an_error_in_a_call_is_told_to_its_caller_alone(host: FakeHost, transport: FrameTransport) -> None:
    async def answer(batch: bytes) -> bytes:
        if batch == b"bad":
            raise ZeroDivisionError
        await asyncio.sleep(0.02)
        return b"re: " + batch

    host.answer = answer
    good = asyncio.create_task(transport.submit("one", b"good"))
    with pytest.raises(HostUnavailable, match="ZeroDivisionError"):
        await transport.submit("one", b"bad")
    assert await good == b"re: good"


async def test_who_gives_up_waiting_takes_nothing_from_the_others(
    host: FakeHost, addresses: Addresses, transport: FrameTransport
) -> None:
    opening = [asyncio.create_task(transport.submit("one", b"%d" % number)) for number in range(2)]
    await asyncio.sleep(0)
    opening[0].cancel()
    assert await opening[1] == b"re: 1"
    host.answer = host.never
    host.arrived.clear()
    waiting = asyncio.create_task(transport.submit("one", b"2"))
    await host.arrived.wait()
    waiting.cancel()
    assert await transport.collect("one", 5) == b"ticket 5"
    assert addresses.asked == 1


async def test_an_answer_given_twice_counts_once(addresses: Addresses, transport: FrameTransport) -> None:
    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await prove(reader, writer, "one/1")
        await reader.read(1000)
        writer.write(encode_frame(1, OK, b"first") + encode_frame(1, OK, b"second"))
        await reader.read(1000)
        writer.write(encode_frame(1, OK, b"third") + encode_frame(2, OK, b"fourth"))
        await reader.read()

    async with host_by_hand(repeat) as address:
        addresses.hosts["one"] = address
        assert await transport.submit("one", b"a") == b"first"
        assert await transport.submit("one", b"a") == b"fourth"
        await transport.close()
    assert addresses.asked == 1


@pytest.mark.parametrize(
    "nonsense", [encode_frame(999, OK, b""), encode_frame(1, 1, b""), b"\0\0\0\1"], ids=["never made", "kind", "short"]
)
async def test_a_host_that_breaks_the_wire_is_left(
    nonsense: bytes, host: FakeHost, listener: FrameListener, addresses: Addresses, transport: FrameTransport
) -> None:
    host.answer = host.never
    call = asyncio.create_task(transport.submit("one", b"a"))
    await host.arrived.wait()
    next(iter(listener.connections))._transport.write(nonsense)
    assert await took_ms(call) < SUBMIT_TIMEOUT_MS / 2
    assert await transport.collect("one", 1) == b"ticket 1"
    assert addresses.asked == 2


async def test_what_is_too_long_fails_by_itself(
    host: FakeHost, addresses: Addresses, transport: FrameTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await transport.submit("one", bytes(REQUEST_BYTES_MAX)) == b"re: " + bytes(REQUEST_BYTES_MAX)
    with pytest.raises(HostUnavailable, match="too long"):
        await transport.submit("one", bytes(REQUEST_BYTES_MAX + 1))
    monkeypatch.setattr(frame_listener, "ANSWER_BYTES_MAX", 10)
    with pytest.raises(HostUnavailable, match="too long"):
        await transport.submit("one", b"a batch")
    assert await transport.submit("one", b"short") == b"re: short"
    assert addresses.asked == 1


async def test_what_waits_for_a_host_is_bounded(
    host: FakeHost, transport: FrameTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_transport, "CALLS_PER_CONNECTION_MAX", 5)
    host.answer = host.never
    calls = [asyncio.create_task(transport.submit("one", b"a")) for _ in range(6)]
    done, _ = await asyncio.wait(calls, timeout=SUBMIT_TIMEOUT_MS / 4000)
    assert [str(call.exception()) for call in done] == ["one does not keep up with what it is asked"]
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_finished_call_makes_room_for_another(
    transport: FrameTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_transport, "CALLS_PER_CONNECTION_MAX", 1)
    assert [await transport.submit("one", b"a") for _ in range(3)] == [b"re: a"] * 3


async def test_an_answer_and_its_timeout_in_the_same_moment(host: FakeHost, transport: FrameTransport) -> None:
    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, error: errors.append(error))

    async def hold_everything_up(batch: bytes) -> bytes:
        loop.call_soon(time.sleep, SUBMIT_TIMEOUT_MS / 1000)
        return batch

    host.answer = hold_everything_up
    answers = await asyncio.gather(transport.submit("one", b"a"), return_exceptions=True)
    assert answers == [b"a"] or isinstance(answers[0], HostUnavailable)
    assert errors == []


async def test_nothing_is_piled_up_for_a_host_that_does_not_read(
    host: FakeHost, listener: FrameListener, transport: FrameTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_transport, "UNSENT_BYTES_MAX", 1_000_000)
    host.answer = host.never
    assert await transport.collect("one", 1) == b"ticket 1"
    next(iter(listener.connections))._transport.pause_reading()
    calls = [asyncio.create_task(transport.submit("one", bytes(1_000_000))) for _ in range(40)]
    done, _ = await asyncio.wait(calls, timeout=SUBMIT_TIMEOUT_MS / 4000)
    assert len(done) > 10
    assert {str(call.exception()) for call in done} == {"one does not keep up with what it is asked"}
    await asyncio.gather(*calls, return_exceptions=True)


async def test_after_close_there_is_nothing(host: FakeHost, addresses: Addresses) -> None:
    async with transport_to(addresses) as transport, host_by_hand(host_that_waits) as address:
        host.answer = host.never
        waiting = asyncio.create_task(transport.submit("one", b"a"))
        await host.arrived.wait()
        addresses.hosts["two"] = address
        opening = asyncio.create_task(transport.submit("two", b"a"))
        await asyncio.sleep(0.02)
        begun_s = time.monotonic()
        await transport.close()
        assert await took_ms(waiting) + await took_ms(opening) < SUBMIT_TIMEOUT_MS / 4
        assert time.monotonic() - begun_s < OPEN_TIMEOUT_MS / 2000
        with pytest.raises(HostUnavailable):
            await transport.submit("one", b"b")
    assert host.batches == [b"a"]


async def host_that_waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing until it is left."""
    await reader.read()
