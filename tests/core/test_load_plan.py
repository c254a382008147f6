"""What the load clients send is what the edge takes."""

from __future__ import annotations

from itertools import islice

import msgspec
import pytest

from actors.ids import uuid7_time_ms
from gateway.requests import CheckInRequest
from gateway.sockets.wire import MSGPACK, Scan, Scans
from loadtest.plan import REQUEST_ID_CHARS, RequestIds, rest_check_ins, rest_gets, scan_items, scans_head, shares

CREDENTIAL = "MV1:RRQ$-8P609 %*+-./:"


def test_request_ids_are_uuid7s_and_never_the_same() -> None:
    ids = RequestIds()
    made = [ids.next().decode() for _ in range(70_000)]
    assert len(set(made)) == len(made)
    assert {len(made_id) for made_id in made} == {REQUEST_ID_CHARS}
    assert all(uuid7_time_ms(made_id) is not None for made_id in made[::1000])


def test_rest_requests_are_some_the_edge_takes() -> None:
    plan = rest_check_ins("host:1", "/v1/checkins", "token", "evt_1", [CREDENTIAL, CREDENTIAL + "X"])
    ids = RequestIds()
    seen = []
    for before, after in islice(plan, 5):
        request_id = ids.next()
        head, _, body = (before + request_id + after).partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/checkins HTTP/1.1\r\nHost: host:1\r\nAuthorization: Bearer token\r\n")
        assert int(head.rpartition(b"Content-Length: ")[2]) == len(body)
        decoded = msgspec.json.decode(body, type=CheckInRequest)
        assert (decoded.event_id, decoded.scan_id) == ("evt_1", request_id.decode())
        seen.append((decoded.credential, decoded.direction))
    both = [CREDENTIAL, CREDENTIAL + "X"]
    assert seen == [*((card, "entry") for card in both), *((card, "exit") for card in both), (CREDENTIAL, "entry")]
    assert b"".join(next(rest_gets("host:1", "/healthz"))).startswith(b"GET /healthz HTTP/1.1\r\n")


@pytest.mark.parametrize("count", [2, 15, 16, 256])
def test_frames_are_frames_the_edge_takes(count: int) -> None:
    ids = RequestIds()
    frames = scan_items([CREDENTIAL], is_frame=True)
    for direction in ("entry", "exit", "entry"):
        before, after = next(frames)
        request_id = ids.next()
        assert MSGPACK.scan_frame(before + request_id + after) == Scan(request_id.decode(), CREDENTIAL, direction)
    items = islice(scan_items([CREDENTIAL], is_frame=False), count)
    frame = MSGPACK.scan_frame(scans_head(count) + b"".join(before + ids.next() + after for before, after in items))
    assert isinstance(frame, Scans)
    assert len(frame.items) == count


def test_cards_are_dealt_out_and_never_shared() -> None:
    dealt = shares(list(range(10)), 3)
    assert sorted(card for share in dealt for card in share) == list(range(10))
    with pytest.raises(ValueError, match="not enough"):
        shares([1], 2)
