"""The client's scanner socket: every scan has one verdict, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from actors.replies import Failed
from gateway.client import (
    AsyncMasterVip,
    OutcomeUnknown,
    RetryPolicy,
    ScanError,
    ScanSocket,
    SocketClosed,
    SocketRefused,
    Unavailable,
)
from gateway.client.timing import Timing
from tests.support.client_timing import NO_PAUSE, QUICK
from tests.support.socket_edge import DEVICE_TOKEN, EVENT, KEY_TOKEN, NOW_MS, SocketEdge, running_edge, until
from tests.support.socket_server import CLOCK_MS, SocketServer, Talk
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as edge:
        yield edge


@asynccontextmanager
async def door(
    url: str, token: str = DEVICE_TOKEN, timing: Timing = NO_PAUSE, **more: Any
) -> AsyncIterator[ScanSocket]:
    """A connected scanner."""
    async with (
        AsyncMasterVip(url.replace("ws", "http", 1), token, timing=timing) as vip,
        vip.scan_socket(EVENT, **{"retry": QUICK, "wire": "json", **more}) as socket,
    ):
        yield socket


async def answered_ping(scanner: ScanSocket) -> None:
    """When a ping sent now has been answered, the server has all that was sent before it."""
    link = scanner._link
    link._ponged.clear()
    link._ping_due = True
    link.wake()
    await link._ponged.wait()


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", ["json", "msgpack"])
async def test_a_scan_gets_its_verdict(edge: SocketEdge, wire: str) -> None:
    async with door(edge.url, wire=wire, gate_id="gate_1") as scanner:
        verdict = await scanner.scan(edge.credential(), direction="exit", scan_id="mine")
        assert (verdict["id"], verdict["verdict"], verdict["card_id"]) == ("mine", "admitted", "card_1")
        assert "t" not in verdict
        assert scanner.welcome["event"]["id"] == EVENT
        await scanner.scan(edge.credential(), gate_id="gate_2")
    first, second = edge.engine.check_ins
    assert (first.gate_id, first.direction, first.scanned_at_ms) == ("gate_1", "exit", 0)
    assert (second.gate_id, second.direction) == ("gate_2", "entry")


async def test_many_scans_share_frames_and_are_answered_in_their_order(edge: SocketEdge) -> None:
    async with door(edge.url, KEY_TOKEN) as scanner:
        items = [{"credential": edge.credential(), "scan_id": f"s{number}"} for number in range(600)]
        verdicts = await scanner.scan_many(items)
    assert [verdict["id"] for verdict in verdicts if isinstance(verdict, dict)] == [
        f"s{number}" for number in range(600)
    ]
    assert len(edge.engine.check_ins) == 600


async def test_one_bad_scan_holds_up_no_other(edge: SocketEdge) -> None:
    async with door(edge.url) as scanner:
        items = [edge.credential(), "x" * 1_000, edge.credential(), "y" * 300_000]
        first, bad, second, too_big = await scanner.scan_many([{"credential": item} for item in items])
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert isinstance(bad, ScanError)
    assert (bad.code, bad.message.partition(":")[0]) == ("frame_invalid", "credential")
    assert isinstance(too_big, ScanError)
    assert too_big.code == "frame_too_big"


async def test_an_error_that_trying_again_would_not_change_is_told(edge: SocketEdge) -> None:
    async with door(edge.url) as scanner:
        edge.engine.failure = Failed("forbidden", "not you")
        with pytest.raises(ScanError) as raised:
            await scanner.scan(edge.credential(), scan_id="mine")
    assert (raised.value.scan_id, raised.value.code, raised.value.message) == ("mine", "forbidden", "not you")


async def test_an_error_that_says_when_is_tried_again_under_the_same_id(edge: SocketEdge) -> None:
    async with door(edge.url) as scanner:
        edge.engine.failure = Failed("unavailable", "later", 20)
        scan = asyncio.create_task(scanner.scan(edge.credential()))
        await until(lambda: len(edge.engine.check_ins) == 3)
        edge.engine.failure = None
        verdict = await scan
    assert {check_in.request_id for check_in in edge.engine.check_ins} == {verdict["id"]}


async def test_a_scan_on_its_way_keeps_its_id_to_itself(edge: SocketEdge) -> None:
    edge.engine.is_holding = True
    async with door(edge.url) as scanner:
        scan = asyncio.create_task(scanner.scan(edge.credential(), scan_id="mine"))
        await until(lambda: len(edge.engine.held) == 1)
        with pytest.raises(ValueError, match="on its way"):
            await scanner.scan(edge.credential(), scan_id="mine")
        with pytest.raises(ValueError, match="same id"):
            await scanner.scan_many([{"credential": "a", "scan_id": "mine"}])
        scan.cancel()
        await asyncio.gather(scan, return_exceptions=True)


@pytest.mark.parametrize(
    "item",
    [{}, {"credential": "x", "scan_id": ""}, {"credential": "x", "scan_id": "a" * 65}, {"credential": "x", "q": 1}],
)
async def test_what_is_no_scan_is_refused_here(edge: SocketEdge, item: dict[str, Any]) -> None:
    async with door(edge.url) as scanner:
        with pytest.raises(ValueError, match="scan"):
            await scanner.scan_many([item])


# --- connections that break -------------------------------------------------------------------------------------------


async def test_every_scan_has_one_verdict_though_the_connection_is_cut_again_and_again(edge: SocketEdge) -> None:
    chance = random.Random(7)
    verdicts: Counter[str] = Counter()
    host, _, port = edge.url.removeprefix("ws://").partition(":")
    async with TcpProxy(host, int(port)) as proxy, door(f"ws://127.0.0.1:{proxy.port}", in_flight_max=32) as scanner:

        async def guest(number: int) -> None:
            verdict = await scanner.scan(edge.credential(f"card_{number}"), scan_id=f"s{number}", timeout_s=60)
            assert verdict["card_id"] == f"card_{number}"
            verdicts[verdict["id"]] += 1

        guests = [asyncio.create_task(guest(number)) for number in range(400)]
        while not all(guest.done() for guest in guests):
            proxy.to_client.is_cutting = chance.random() < 0.3  # the server judges, its verdicts are lost
            proxy.to_client.latency_ms = chance.choice([0, 2, 5])
            if chance.random() < 0.3:
                proxy.cut()
            await asyncio.sleep(chance.uniform(0, 0.02))
            proxy.to_client.is_cutting = False
            await asyncio.sleep(chance.uniform(0, 0.02))
        await asyncio.gather(*guests)
        assert proxy.connections_count > 3
    assert verdicts == Counter({f"s{number}": 1 for number in range(400)})
    seen = Counter(check_in.request_id for check_in in edge.engine.check_ins)
    assert seen.keys() == verdicts.keys()
    assert max(seen.values()) > 1, "some were sent again"


async def test_a_scan_is_sent_again_as_it_was(edge: SocketEdge) -> None:
    edge.engine.is_holding = True
    async with door(edge.url) as scanner:
        scan = asyncio.create_task(scanner.scan(edge.credential(), scanned_at=NOW_MS, gate_id="gate_1"))
        await until(lambda: len(edge.engine.held) == 1)
        await edge.send_everybody_away()
        edge.engine.is_holding = False
        await scan
    first, again = edge.engine.check_ins
    assert first == again


@pytest.mark.parametrize("code", [4500, 4503, 4999, 1000, 1001, 1011, 3000, None])
async def test_these_closes_are_followed_by_another_connection(code: int | None) -> None:
    async def talk(talk: Talk) -> None:
        if talk.number == 1:
            await talk.receive()  # a scan, unanswered
            if code is None:
                talk.connection.transport.abort()
            else:
                await talk.close(code, "go")
        else:
            await talk.answer_all()

    async with SocketServer(talk) as server, door(server.url) as scanner:
        assert (await scanner.scan("MV1:X"))["session"] == 2


@pytest.mark.parametrize("code", [4000, 4401, 4404, 4499])
async def test_these_closes_are_final(code: int) -> None:
    async def talk(talk: Talk) -> None:
        await talk.receive()
        await talk.send(t="error", code="over", message="It is over.")
        await talk.close(code, "over")

    async with SocketServer(talk) as server, door(server.url) as scanner:
        with pytest.raises(OutcomeUnknown) as unknown:
            await scanner.scan("MV1:X", scan_id="mine")
        assert unknown.value.idempotency_key == "mine", "it was sent, and nobody knows"
        for _ in range(2):
            with pytest.raises(SocketRefused) as refused:
                await scanner.scan("MV1:X")
            assert (refused.value.code, refused.value.name, refused.value.message) == (code, "over", "It is over.")
        assert await scanner.scan_many([{"credential": "x"}]) == [refused.value]
        assert len(server.talks) == 1


async def test_pauses_between_connections_grow_until_one_works() -> None:
    pauses: list[float] = []
    lets_in = asyncio.Event()

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            lets_in.set()

    async def talk(talk: Talk) -> None:
        if lets_in.is_set():
            await (talk.answer_one() if talk.number == 7 else talk.answer_all())
        await talk.send(t="error", code="unavailable", message="later", retry_after_ms=5_000 if talk.number == 2 else 0)
        await talk.close(4500, "unavailable")

    timing = Timing(sleep=note, uniform=lambda low, high: high)
    retry = RetryPolicy(first_pause_s=0.1, pause_s_max=1.0)
    async with SocketServer(talk) as server, door(server.url, timing=timing, retry=retry) as scanner:
        await scanner.scan("MV1:X")
        await scanner.scan("MV1:X")
    assert pauses == pytest.approx([0.1, 5.2, 0.4, 0.8, 1.0, 1.0, 0.1]), "after one that worked it begins anew"


async def test_a_server_that_answers_no_ping_is_left() -> None:
    async def talk(talk: Talk) -> None:
        await (talk.connection.wait_closed() if talk.number == 1 else talk.answer_all())

    retry = RetryPolicy(first_pause_s=0.01, try_timeout_s=0.2)
    async with SocketServer(talk) as server, door(server.url, retry=retry) as scanner:
        assert (await scanner.scan("MV1:X"))["session"] == 2


async def test_who_never_gets_in_is_told() -> None:
    async def talk(talk: Talk) -> None:
        await talk.close(4503, "draining")

    async with SocketServer(talk) as server:
        server.welcome = {"t": "error", "code": "draining", "message": "Not here."}
        with pytest.raises(Unavailable, match=r"draining: Not here\."):
            async with door(server.url, retry=RetryPolicy(first_pause_s=0.01, deadline_s=0.2)):
                pass
        assert len(server.talks) > 1


async def test_a_token_that_is_nobodys_is_told_at_once(edge: SocketEdge) -> None:
    with pytest.raises(SocketRefused) as raised:
        async with door(edge.url, "nobody"):
            pass
    assert (raised.value.code, raised.value.name) == (4401, "token_invalid")


async def test_an_access_token_that_ran_out_is_renewed_for_the_next_connection() -> None:
    async def talk(talk: Talk) -> None:
        await (talk.answer_all() if talk.number == 2 else talk.close(4401, "token_invalid"))

    class Renewable:
        number = 1

        async def bearer(self) -> str | None:
            return f"a{self.number}"

        async def renew(self, spent: str) -> bool:
            assert spent == f"a{self.number}"
            self.number += 1
            return True

    async with SocketServer(talk) as server, AsyncMasterVip(server.url, timing=NO_PAUSE) as vip:
        async with ScanSocket(vip._http, Renewable(), EVENT, wire="json", retry=QUICK) as scanner:
            assert (await scanner.scan("MV1:X"))["session"] == 2
            assert server.tokens == ["Bearer a1", "Bearer a2"]
            await server.talks[1].close(4401, "token_invalid")
            with pytest.raises(SocketRefused):
                await scanner.wait_closed()
        assert server.tokens[2:] == ["Bearer a3"], "renewed once: then it is not the token that has run out"


# --- deadlines and bounds ---------------------------------------------------------------------------------------------


async def test_a_scan_without_a_verdict_can_be_asked_for_again(edge: SocketEdge) -> None:
    edge.engine.is_holding = True
    async with door(edge.url) as scanner:
        with pytest.raises(OutcomeUnknown) as raised:
            await scanner.scan(edge.credential(), scanned_at=NOW_MS, timeout_s=0.2)
        (result,) = await scanner.scan_many([{"credential": edge.credential(), "scan_id": "many"}], timeout_s=0.2)
        assert isinstance(result, OutcomeUnknown)
        edge.engine.is_holding = False
        verdict = await scanner.again(raised.value)
        assert verdict["id"] == raised.value.idempotency_key
        assert (await scanner.again(result))["id"] == "many"
    first, second, first_again, second_again = edge.engine.check_ins
    assert (first, second) == (first_again, second_again)


async def test_a_scan_that_was_never_sent_had_no_effect() -> None:
    async def talk(talk: Talk) -> None:
        server.welcome = {"t": "error"}  # from now on nobody is welcomed
        await talk.close(4500)

    async with SocketServer(talk) as server, door(server.url) as scanner:
        await until(lambda: not scanner.is_open)
        with pytest.raises(Unavailable):
            await scanner.scan("MV1:X", timeout_s=0.1)


async def test_scans_under_way_are_bounded_here_and_by_the_server(edge: SocketEdge) -> None:
    edge.engine.is_holding = True
    async with door(edge.url, in_flight_max=16) as scanner:
        scans = [asyncio.create_task(scanner.scan(edge.credential())) for _ in range(50)]
        await until(lambda: len(edge.engine.held) == 16)
        await answered_ping(scanner)
        assert len(edge.engine.held) == 16
        assert len(scanner._scans) == 16, "those who have no room yet wait outside"
        edge.engine.is_holding = False
        for _, on_reply in edge.engine.held:
            on_reply(Failed("forbidden", "no"))
        results = await asyncio.gather(*scans, return_exceptions=True)
    assert Counter(type(result) for result in results) == {ScanError: 16, dict: 34}


async def test_no_more_are_under_way_than_the_server_takes() -> None:
    frames: list[int] = []
    under_way = 0

    async def talk(talk: Talk) -> None:
        nonlocal under_way
        waiting: list[str] = []
        while True:
            frame = await talk.receive()
            items = frame.get("items", [frame])
            waiting += [item["id"] for item in items]
            frames.append(len(waiting))
            if len(waiting) == 4:
                for _ in range(3):
                    await talk.send(t="verdict", id=waiting.pop(0), verdict="admitted")

    async with SocketServer(talk, max_in_flight=4) as server, door(server.url) as scanner:
        scans = [asyncio.create_task(scanner.scan("MV1:X")) for _ in range(22)]
        await until(lambda: sum(scan.done() for scan in scans) == 21)
        scans[-1].cancel()
        await asyncio.gather(*scans, return_exceptions=True)
    assert max(frames) == 4


async def test_frames_are_no_larger_than_the_server_takes() -> None:
    sizes: list[int] = []

    async def talk(talk: Talk) -> None:
        while True:
            frame = await talk.receive()
            sizes.append(len(msgspec.json.encode(frame)))
            for item in frame.get("items", [frame]):
                await talk.send(t="verdict", id=item["id"], verdict="admitted")

    async with SocketServer(talk, max_frame_bytes=2_000) as server, door(server.url) as scanner:
        verdicts = await scanner.scan_many([{"credential": "x" * 200} for _ in range(20)])
    assert {type(verdict) for verdict in verdicts} == {dict}
    assert 500 < max(sizes) <= 2_000


async def test_at_the_end_those_who_wait_are_told(edge: SocketEdge) -> None:
    edge.engine.is_holding = True
    async with door(edge.url) as scanner:
        scan = asyncio.create_task(scanner.scan(edge.credential()))
        await until(lambda: len(edge.engine.held) == 1)
        await scanner.aclose()
        with pytest.raises(OutcomeUnknown):
            await scan
        with pytest.raises(SocketClosed):
            await scanner.scan(edge.credential())


# --- the clock --------------------------------------------------------------------------------------------------------


async def test_the_time_of_a_scan_is_told_by_the_servers_clock() -> None:
    scanned: list[int] = []
    wrong_by_ms = 3_600_000
    now_ms = CLOCK_MS - wrong_by_ms

    async def talk(talk: Talk) -> None:
        while True:
            frame = await talk.receive()
            scanned.append(frame.get("scanned_at"))
            await talk.send(t="verdict", id=frame["id"], verdict="admitted")

    timing = Timing(now_s=lambda: 1_000.0, wall_ms=lambda: now_ms, uniform=lambda low, high: low)
    async with SocketServer(talk) as server, door(server.url, timing=timing) as scanner:
        assert await scanner.scan("MV1:X")
        await until(lambda: scanner.clock_offset_ms != 0)
        assert scanner.clock_offset_ms == wrong_by_ms
        await scanner.scan("MV1:X", scanned_at=now_ms - 5_000)
        await scanner.scan("MV1:X")
        server.welcome |= {"t": "wait"}  # no connection will be welcomed for now
        server.talks[-1].connection.transport.abort()
        await until(lambda: not scanner.is_open)
        scan = asyncio.create_task(scanner.scan("MV1:X"))
        await until(lambda: len(server.talks) == 2)
        server.welcome |= {"t": "welcome"}
        server.talks[-1].connection.transport.abort()
        await scan
    assert scanned == [None, CLOCK_MS - 5_000, None, CLOCK_MS], (
        "one that had to wait for a connection is given its time"
    )


async def test_each_connection_is_measured_anew() -> None:
    timing = Timing(now_s=lambda: 1_000.0, wall_ms=lambda: CLOCK_MS, uniform=lambda low, high: low)
    async with SocketServer(Talk.answer_all) as server, door(server.url, timing=timing) as scanner:
        await until(lambda: scanner._link.clock.is_known)
        server.clock_ms = CLOCK_MS + 9_000
        server.talks[0].connection.transport.abort()
        await until(lambda: len(server.talks) == 2)
        await until(lambda: scanner.clock_offset_ms != 0)
        assert scanner.clock_offset_ms == 9_000, "samples of the other server do not count"


# --- what else is pushed ----------------------------------------------------------------------------------------------


async def test_counts_and_revocations_are_passed_on_and_revocations_resume() -> None:
    counts: list[int] = []
    revoked: list[str] = []

    async def talk(talk: Talk) -> None:
        if talk.number == 1:
            await talk.send(t="attendance", event_id=EVENT, inside=3, admitted=3, capacity=9, seq=1)
            await talk.send(t="revoked", cards=["card_1"], cursor="c1")
            await talk.receive()
            await talk.close(4503)
        elif talk.number == 2:
            await talk.close(4503)  # before it could tell what was revoked since
        else:
            await talk.send(t="revoked", cards=["card_2"], cursor="c2")
            await talk.answer_all()

    async with (
        SocketServer(talk, cursor="c0") as server,
        door(
            server.url,
            on_attendance=lambda frame: counts.append(frame["inside"]),
            on_revoked=lambda frame: revoked.extend(frame["cards"]),
        ) as scanner,
    ):
        assert scanner.cursor == "c0"
        await scanner.scan("MV1:X")
        await until(lambda: scanner.cursor == "c2")
        assert scanner.attendance is not None
        assert scanner.attendance["inside"] == 3
    assert (counts, revoked) == ([3], ["card_1", "card_2"])
    assert [hello.get("resume") for hello in server.hellos] == [None, "c1", "c1"]


async def test_what_a_callback_raises_is_not_swallowed() -> None:
    async def talk(talk: Talk) -> None:
        await talk.receive()
        await talk.send(t="attendance", event_id=EVENT, inside=3, admitted=3, capacity=9, seq=1)
        await talk.stay()

    def fail(_: dict[str, Any]) -> None:
        raise TimeoutError("the callback's own")

    async with SocketServer(talk) as server, AsyncMasterVip(server.url, timing=NO_PAUSE) as vip:
        scanner = vip.scan_socket(EVENT, on_attendance=fail, wire="json", retry=QUICK)
        await scanner.__aenter__()
        with pytest.raises(OutcomeUnknown, match="the callback's own"):
            await scanner.scan("MV1:X")
        with pytest.raises(TimeoutError, match="the callback's own"):
            await scanner.aclose()
        assert len(server.talks) == 1
