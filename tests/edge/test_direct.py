"""The direct way against the ASGI way: the same bytes go in, the same bytes come out, however they arrive."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.replies import Failed
from gateway import limits
from tests.edge.edge import DEVICE, KEY, SCAN_KEY, FakeEdge
from tests.edge.line import CHECK_IN, Line, post

FORGED = b'{"event_id":"evt_1","credential":"nonsense"}'
BATCH = b'{"items":[%b,{"event_id":7},%b]}' % (CHECK_IN, FORGED)
POINTS = "/v1/cards/card_1/points/award"
# So that every answer is the same.
NAMED = "Idempotency-Key: once\r\nX-Request-Id: mine\r\n"
CHUNKED = (
    b"POST /v1/checkins HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n%bTransfer-Encoding: chunked\r\n\r\n"
    b"%x\r\n%b\r\n0\r\n\r\n" % (KEY.encode(), NAMED.encode(), len(CHECK_IN), CHECK_IN)
)

DIRECT = {
    "a check-in": post(),
    "a device's": post(token=DEVICE),
    "an API key in its own header": post(token="", more=f"X-API-Key: {KEY}\r\n"),
    "an idempotency key": post(more='Idempotency-Key: "once"\r\n'),
    "a trace id": post(more="X-Request-Id: mine-1\r\n"),
    "a bad trace id": post(more="X-Request-Id: mi ne\r\n"),
    "two trace ids": post(body=b"{}", more="X-Request-Id: one\r\nX-Request-Id: two\r\n"),
    "a forged credential": post(body=FORGED),
    "no JSON": post(body=b"{"),
    "no body": post(body=b""),
    "no text": post(body=b'{"event_id":"\xff"}'),
    "an unknown field": post(body=b'{"event_id":"evt_1","credential":"x","more":1}'),
    "an id that is none": post(body=b'{"event_id":"a b","credential":"x"}'),
    "another event than the device's": post(body=b'{"event_id":"evt_2","credential":"x"}', token=DEVICE),
    "too large a body": post(body=b" " * (limits.BODY_BYTES_MAX + 1)),
    "a batch": post("/v1/checkins:batch", BATCH),
    "an empty batch": post("/v1/checkins:batch", b'{"items":[]}'),
    "points": post(POINTS, b'{"amount":5}'),
    "points that are not theirs to give": post(POINTS, b'{"amount":5}', SCAN_KEY),
    "points with a bad note": post(POINTS, b'{"amount":5,"note":"\\u0000"}'),
    "one after the other": post() + post(body=FORGED) + post(POINTS, b'{"amount":5}'),
    "a body in chunks": CHUNKED,
}
THROUGH_ASGI = {
    "nobody": post(token=""),
    "an unknown token": post(token="mvk_unknown"),
    "no API key in the API key's header": post(token="", more="X-API-Key: eyJ\r\n"),
    "a bad idempotency key": post(more=f"Idempotency-Key: {'x' * 65}\r\n"),
    "a page of another origin": post(more="Origin: https://a.example\r\n"),
    "another method": b"GET /v1/checkins HTTP/1.1\r\nHost: x\r\n\r\n",
    "HEAD": b"HEAD /v1/checkins HTTP/1.1\r\nHost: x\r\n\r\n",
    "OPTIONS": b"OPTIONS /v1/checkins HTTP/1.1\r\nHost: x\r\n\r\n",
    "a query": post("/v1/checkins?a=b"),
    "an escaped path": post("/v1/check%69ns"),
    "an unknown path": post("/v1/checkins/"),
    "a card that is none": post("/v1/cards/a%20b/points/award", b'{"amount":5}'),
    "HTTP/1.0": post(version="1.0"),
    "HTTP/1.0 that would stay": post(version="1.0", more="Connection: keep-alive\r\n"),
    "the last one": post(more="Connection: close\r\n"),
    "one that waits for 100": post(more="Expect: 100-continue\r\n"),
    "an upgrade to nothing": post(more="Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    "too long a body, announced": post().replace(b"Content-Length: ", b"Content-Length: 9999"),
}


async def both(
    tmp_path: Path, *pieces: bytes, is_secure: bool = False, edges: tuple[FakeEdge, FakeEdge] | None = None
) -> tuple[Line, Line]:
    """The two ways, with the same bytes gone in and the same come out."""
    direct_edge, asgi_edge = edges or (FakeEdge(), FakeEdge())
    ways = Line(tmp_path, True, is_secure, direct_edge), Line(tmp_path, False, is_secure, asgi_edge)
    direct, asgi = [await way.feed(*pieces) for way in ways]
    assert direct == asgi
    assert [way.wire.is_closed for way in ways] in ([True, True], [False, False])
    assert ways[0].edge.app.parts.metrics.answers == ways[1].edge.app.parts.metrics.answers
    assert ways[0].edge.engine.messages == ways[1].edge.engine.messages
    for way in ways:
        way.settle()
    return ways


@pytest.mark.parametrize("sent", DIRECT.values(), ids=DIRECT)
async def test_what_goes_direct_is_answered_as_through_asgi(tmp_path: Path, sent: bytes) -> None:
    direct, asgi = await both(tmp_path, sent)
    assert direct.wire.sent.count(b"HTTP/1.1 ") == sent.count(b"HTTP/1.1")
    assert direct.through_asgi == [], "it went through ASGI"
    assert len(asgi.through_asgi) == sent.count(b"HTTP/1.1")
    assert direct.wire.writes == sent.count(b"HTTP/1.1"), "one write for each answer"


@pytest.mark.parametrize("sent", THROUGH_ASGI.values(), ids=THROUGH_ASGI)
async def test_what_is_out_of_the_ordinary_goes_through_asgi(tmp_path: Path, sent: bytes) -> None:
    direct, asgi = await both(tmp_path, sent, post())
    assert direct.through_asgi
    assert direct.through_asgi == asgi.through_asgi[: len(direct.through_asgi)]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"400"),
        (CHUNKED[: -len(b"0\r\n\r\n")] + b"zz\r\n", b"400"),
        (post(more="A: b\r\n" * limits.HEADERS_MAX), b"431"),
        (post(more=f"A: {'b' * limits.HEAD_BYTES_MAX}\r\n"), b"431"),
    ],
)
async def test_what_the_listener_refuses_is_nobodys(tmp_path: Path, sent: bytes, status: bytes) -> None:
    direct, _ = await both(tmp_path, sent)
    assert direct.wire.sent.startswith(b"HTTP/1.1 " + status)
    assert direct.edge.engine.messages == []


@pytest.mark.parametrize("sent", [post(more=NAMED) + post(POINTS, b"{}", more=NAMED), CHUNKED])
async def test_wherever_a_request_is_cut_the_answer_is_the_same(tmp_path: Path, sent: bytes) -> None:
    edges = FakeEdge(), FakeEdge()
    whole, _ = await both(tmp_path, sent, edges=edges)
    for at in range(1, len(sent)):
        cut, _ = await both(tmp_path, sent[:at], sent[at:], edges=edges)
        assert cut.wire.sent == whole.wire.sent, f"cut at {at}"
    drops, _ = await both(tmp_path, *(bytes([byte]) for byte in sent), edges=edges)
    assert drops.wire.sent == whole.wire.sent


async def test_over_tls_the_answers_say_so(tmp_path: Path) -> None:
    direct, _ = await both(tmp_path, post() + post(body=b"{"), is_secure=True)
    assert direct.through_asgi == []
    assert direct.wire.sent.count(b"strict-transport-security") == 2


def strict() -> FakeEdge:
    return FakeEdge(rates={"checkins-key": "1/h"})


async def test_a_limit_that_is_used_up_is_429(tmp_path: Path) -> None:
    direct, _ = await both(tmp_path, post() * 3 + post(POINTS, b'{"amount":5}'), edges=(strict(), strict()))
    assert direct.through_asgi == []
    assert b" 429 " in direct.wire.sent
    assert b"retry-after" in direct.wire.sent


async def test_an_engine_that_is_away_is_503(tmp_path: Path) -> None:
    lines = []
    for is_direct in (True, False):
        line = Line(tmp_path, is_direct)
        line.edge.engine.failure = Failed("unavailable", "no host", 1_500)
        lines.append(await line.feed(post() + post(POINTS, b'{"amount":5}') + post("/v1/checkins:batch", BATCH)))
        line.settle()
    assert lines[0] == lines[1]
    assert lines[0].count(b"HTTP/1.1 503 Service Unavailable\r\n") == 2
