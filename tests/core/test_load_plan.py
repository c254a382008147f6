"""What the load clients send is what the edge takes."""

from __future__ import annotations

import msgspec
import pytest

from actors.ids import uuid7_time_ms
from gateway.requests import CheckInRequest
from gateway.sockets.wire import MSGPACK, Scan, Scans
from loadtest.plan import REQUEST_ID_CHARS, RequestIds, rest_check_in, rest_get, scan_item, scans_head, shares

CREDENTIAL = "MV1:RRQ$-8P609 %*+-./:"


def test_request_ids_are_uuid7s_and_never_the_same() -> None:
    ids = RequestIds()
    made = [ids.next().decode() for _ in range(70_000)]
    assert len(set(made)) == len(made)
    assert {len(made_id) for made_id in made} == {REQUEST_ID_CHARS}
    assert all(uuid7_time_ms(made_id) is not None for made_id in made[::1000])


def test_a_rest_request_is_one_the_edge_takes() -> None:
    before, after = rest_check_in("host:1", "/v1/checkins", "token", "evt_1", CREDENTIAL, "exit")
    request_id = RequestIds().next()
    head, _, body = (before + request_id + after).partition(b"\r\n\r\n")
    assert int(head.rpartition(b"Content-Length: ")[2]) == len(body)
    decoded = msgspec.json.decode(body, type=CheckInRequest)
    assert decoded == CheckInRequest("evt_1", CREDENTIAL, direction="exit", scan_id=request_id.decode())
    assert b"".join(rest_get("host:1", "/healthz")).startswith(b"GET /healthz HTTP/1.1\r\n")


@pytest.mark.parametrize("count", [2, 15, 16, 256])
def test_frames_are_frames_the_edge_takes(count: int) -> None:
    ids = RequestIds()
    before, after = scan_item(CREDENTIAL, "entry", is_frame=True)
    request_id = ids.next()
    assert MSGPACK.scan_frame(before + request_id + after) == Scan(request_id.decode(), CREDENTIAL, "entry")
    before, after = scan_item(CREDENTIAL, "entry", is_frame=False)
    frame = MSGPACK.scan_frame(scans_head(count) + b"".join(before + ids.next() + after for _ in range(count)))
    assert isinstance(frame, Scans)
    assert len(frame.items) == count


def test_cards_are_dealt_out_and_never_shared() -> None:
    dealt = shares(list(range(10)), 3)
    assert sorted(card for share in dealt for card in share) == list(range(10))
    with pytest.raises(ValueError, match="not enough"):
        shares([1], 2)
