"""Direct answers that are still on their way: what else may happen on the connection meanwhile, and after."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import limits
from gateway.http import Headers, OnAnswer
from serve.http_protocol import GuardedProtocol
from tests.edge.line import Line, post, turns

NEXT = post("/v1/cards/card_1/points/award", b'{"amount":5}')


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    line = Line(tmp_path, is_direct=True)
    yield line
    line.settle()


async def test_answers_come_in_the_order_of_the_requests(line: Line) -> None:
    line.hold()
    assert await line.feed(post() + NEXT + post()) == b""
    assert not line.wire.is_reading, "who sends more has to wait"
    line.held.pop(0)()
    await turns()
    assert line.wire.sent.count(b"HTTP/1.1 200") == 1
    assert b'"verdict"' in line.wire.sent
    line.held.pop(0)()
    await turns()
    assert line.wire.sent.count(b"HTTP/1.1 200") == 2
    line.held.pop(0)()
    await turns()
    assert line.wire.sent.count(b"HTTP/1.1 200") == 3
    assert line.wire.is_reading
    assert line.through_asgi == ["/v1/cards/card_1/points/award", "/v1/checkins"], "only the first found nobody there"


async def test_after_a_pipeline_requests_go_direct_again(line: Line) -> None:
    line.hold()
    await line.feed(post() + post())
    while line.held:
        line.held.pop(0)()
        await turns()
    line.through_asgi.clear()
    await line.feed(post())
    line.held.pop(0)()
    assert line.through_asgi == []
    assert line.wire.sent.count(b"HTTP/1.1 200") == 3


async def test_a_reply_to_a_lost_connection_is_dropped(line: Line) -> None:
    line.hold()
    await line.feed(post())
    line.lose()
    line.held.pop(0)()
    assert line.wire.writes == 0
    assert line.state.connections == set()


async def test_a_shutdown_waits_for_the_reply_and_closes_after_it(line: Line) -> None:
    line.hold()
    await line.feed(post())
    line.protocol.shutdown()
    assert not line.wire.is_closed
    assert line.state.connections == {line.protocol}, "the server waits for it"
    line.held.pop(0)()
    head, _, body = line.wire.sent.partition(b"\r\n\r\n")
    assert head.endswith(b"\r\nconnection: close")
    assert body.startswith(b'{"scan_id"')
    assert line.wire.is_closed


async def test_a_shutdown_closes_a_connection_that_rests(line: Line) -> None:
    await line.feed(post())
    line.protocol.shutdown()
    assert line.wire.is_closed


async def test_who_does_not_read_is_not_sent_more(line: Line) -> None:
    await line.feed(post())
    line.protocol.pause_writing()
    sent = line.wire.sent
    assert await line.feed(post()) == sent
    line.protocol.resume_writing()
    await turns()
    assert line.wire.sent.count(b"HTTP/1.1 200") == 2


async def test_nonsense_behind_a_request_ends_the_connection(line: Line) -> None:
    line.hold()
    await line.feed(post() + b"NONSENSE\r\n\r\n")
    assert line.wire.is_closed
    line.held.pop(0)()
    assert line.wire.sent == b"", "there is no telling what belongs to what"


async def test_an_error_of_ours_is_a_500_and_goes_to_the_log(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise LookupError("broken")

    line.edge.engine.submit = broken  # type: ignore[method-assign]
    answer = await line.feed(post())
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert answer.endswith(b"connection: close\r\n\r\nInternal Server Error")
    assert line.wire.is_closed
    assert "broken" in caplog.text


async def test_a_reply_that_cannot_be_told_is_a_500(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise LookupError("broken")

    line.hold()
    await line.feed(post())
    monkeypatch.setattr("gateway.render.verdict_json", broken)
    with pytest.raises(LookupError):
        line.held.pop(0)()
    assert line.wire.sent.startswith(b"HTTP/1.1 500 ")
    assert b'"code":"internal"' in line.wire.sent


async def test_the_first_request_with_a_token_is_looked_up_the_next_go_direct(line: Line) -> None:
    cached = line.edge.app.parts.identity.cached
    line.edge.app.parts.identity.cached = lambda *_: None  # type: ignore[method-assign]
    await line.feed(post())
    assert line.through_asgi == ["/v1/checkins"]
    line.edge.app.parts.identity.cached = cached  # type: ignore[method-assign]
    await line.feed(post())
    assert line.through_asgi == ["/v1/checkins"]
    assert len(line.edge.engine.messages) == 2


async def test_what_one_request_binds_to_its_log_lines_does_not_show_in_another(line: Line) -> None:
    bound: contextvars.ContextVar[str] = contextvars.ContextVar("bound", default="nothing")
    seen: list[str] = []

    def handler(_headers: Headers, _body: bytes, _is_secure: bool, on_answer: OnAnswer) -> bool:
        seen.append(bound.get())
        bound.set("something")
        on_answer(200, b"content-length: 0\r\n", b"")
        return True

    line.protocol._direct = lambda _url: handler
    bound.set("the listener's")
    await line.feed(post() + post())
    assert seen == ["nothing", "nothing"]
    assert bound.get() == "the listener's"


class TestRest:
    """The keep-alive limit, with one timer for all rests of a connection."""

    @pytest.fixture
    def now(self, line: Line, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The time, and then what timers were set for, in seconds from then."""
        now = [1_000.0]
        loop = line.protocol.loop

        class Loop:
            def time(self) -> float:
                return now[0]

            def call_later(self, delay_s: float, callback: Any) -> asyncio.TimerHandle:
                now.append(delay_s)
                return loop.call_later(3_600, callback)

            def __getattr__(self, name: str) -> Any:
                return getattr(loop, name)

        monkeypatch.setattr(line.protocol, "loop", Loop())
        return now

    async def test_whoever_rests_too_long_is_hung_up_on(self, line: Line, now: list[float]) -> None:
        await line.feed(post())
        now[0] += 60
        line.protocol.timeout_keep_alive_handler()
        assert line.wire.is_closed

    async def test_requests_share_a_timer_that_looks_again(self, line: Line, now: list[float]) -> None:
        await line.feed(post())
        now[0] += 40
        await line.feed(post())
        assert now[1:] == [60], "one timer"
        now[0] += 20
        line.protocol.timeout_keep_alive_handler()
        assert not line.wire.is_closed
        assert now[1:] == [60, 40]
        now[0] += 40
        line.protocol.timeout_keep_alive_handler()
        assert line.wire.is_closed

    async def test_while_an_answer_is_on_its_way_nobody_rests(self, line: Line, now: list[float]) -> None:
        await line.feed(post())
        line.hold()
        await line.feed(post())
        now[0] += 3_600
        line.protocol.timeout_keep_alive_handler()
        assert not line.wire.is_closed
        line.held.pop(0)()
        assert now[1:] == [60, 60], "the next rest has a timer again"


async def test_a_head_within_its_limits_is_direct_whatever_came_before(line: Line) -> None:
    count = 3 * limits.HEAD_BYTES_MAX // len(post())
    await line.feed(post() * count)
    assert line.wire.sent.count(b"HTTP/1.1 200") == count
    assert line.through_asgi == []


def test_the_protocol_keeps_the_limits() -> None:
    """The tests of the listener hold for it."""
    assert issubclass(type(Line).__class__, type)
    assert GuardedProtocol
