"""The hot paths: the contract's JSON to the letter, request ids, strict bodies, limits, refusals and who may do
what."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from actors.commands import CheckIn, ReversePoints, check_in_fingerprint, fingerprint
from actors.replies import Failed
from gateway import limits
from gateway.http import read_body
from gateway.problems import Problem
from tests.edge.asgi import Answer, call
from tests.edge.edge import ADMIN, DEVICE, KEY, OTHER_KEY, SCAN_KEY, FakeEdge, bearer
from tests.edge.fakes import NOW_MS, OTHER_TENANT, TENANT, check_in, judged, refused

PATH = "/v1/checkins"


@pytest.fixture
def edge() -> FakeEdge:
    return FakeEdge()


async def scan(edge: FakeEdge, token: str = KEY, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    body = {"event_id": "evt_1", "credential": edge.credential()} | fields
    return await call(edge.app, "POST", PATH, body, bearer(token) | (headers or {}))


async def test_the_verdict_is_the_contracts(edge: FakeEdge) -> None:
    answer = await scan(edge, scan_id="s-1")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "scan_id": "s-1",
        "verdict": "admitted",
        "reason": None,
        "replayed": False,
        "event_id": "evt_1",
        "card_id": "card_1",
        "member": {"id": "mem_1", "name": 'Ann "A" Ño'},
        "tier": "gold",
        "at": "2026-11-22T10:00:00.123Z",
        "attendance": {"inside": 12, "admitted": 15, "capacity": 500},
        "points": {"awarded": 10, "balance": 260},
        "first": None,
    }


async def test_a_refusal_is_200_with_its_reason_and_the_first_admission(edge: FakeEdge) -> None:
    reply = judged(check_in("s"), reason="already_admitted", replayed=True)
    fact = reply.fact
    values = {name: getattr(fact, name) for name in fact.__struct_fields__}
    values |= {"first_at_ms": NOW_MS - 1_000, "first_gate_id": "gate_1"}
    edge.engine.failure = type(reply)(type(fact)(**values), True)
    answer = await scan(edge)
    assert answer.status == 200
    verdict = answer.json()
    assert (verdict["verdict"], verdict["reason"], verdict["replayed"]) == ("refused", "already_admitted", True)
    assert verdict["first"] == {"at": "2026-11-22T09:59:59.123Z", "gate_id": "gate_1", "device_id": None}


async def test_the_command_carries_what_was_asked(edge: FakeEdge) -> None:
    credential = edge.credential(valid_from_ms=1_000, valid_until_ms=2_000)
    await scan(
        edge,
        DEVICE,
        credential=credential,
        gate_id="gate_1",
        direction="exit",
        scan_id="s-1",
        scanned_at="2026-11-22T17:00:00.5+07:00",
    )
    at_ms = NOW_MS - 123 + 500
    mark = check_in_fingerprint("evt_1", "card_1", "gate_1", "exit", at_ms)
    command = CheckIn(
        TENANT, "s-1", mark, "evt_1", "card_1", "gate_1", "dev_1", "exit", at_ms, 1_000, 2_000
    )  # fmt: skip
    assert edge.engine.messages == [command]
    assert fingerprint(command) == mark


@pytest.mark.parametrize(
    ("fields", "headers", "expected"),
    [
        ({"scan_id": "mine"}, {"Idempotency-Key": "key"}, "mine"),
        ({}, {"Idempotency-Key": '"key"'}, "key"),
        ({}, {"Idempotency-Key": "bare key"}, "bare key"),
        ({}, {"Idempotency-Key": '"a\\"b"'}, 'a"b'),
        ({"scan_id": None}, {}, None),
    ],
)
async def test_the_request_id(edge: FakeEdge, fields: Any, headers: dict[str, str], expected: str | None) -> None:
    answer = await scan(edge, headers=headers, **fields)
    scan_id = answer.json()["scan_id"]
    if expected is None:
        assert (scan_id[14], len(scan_id)) == ("7", 36)
    else:
        assert scan_id == expected


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"bearer {KEY}"}, 200),
        ({"X-API-Key": KEY}, 200),
        ({"X-API-Key": DEVICE}, 401),
        ({"Authorization": f"Bearer {DEVICE}"}, 200),
        ({"Authorization": f"Bearer {SCAN_KEY}"}, 200),
        ({"Authorization": f"Bearer {ADMIN}"}, 403),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": "Bearer nobody"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer \xff\xfe"}, 401),
    ],
)
async def test_who_may_check_in(edge: FakeEdge, headers: dict[str, str], status: int) -> None:
    body = {"event_id": "evt_1", "credential": edge.credential()}
    answer = await call(edge.app, "POST", PATH, body, headers)
    assert answer.status == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["code"] == "unauthenticated"


async def test_a_device_scans_for_its_event_only(edge: FakeEdge) -> None:
    answer = await scan(edge, DEVICE, event_id="evt_2")
    assert (answer.status, answer.json()["code"]) == (403, "wrong_event")
    assert edge.engine.messages == []


@pytest.mark.parametrize("which", ["garbage", "foreign", "altered", "long"])
async def test_a_bad_credential_never_reaches_the_engine(edge: FakeEdge, which: str) -> None:
    good = edge.credential()
    credential = {
        "garbage": "https://example.org/1",
        "foreign": edge.credential(OTHER_TENANT),
        "altered": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "long": "x" * 4_000,
    }[which]
    answer = await scan(edge, credential=credential, scan_id="s-1")
    assert answer.status == 200
    assert answer.json() == {
        "scan_id": "s-1",
        "verdict": "refused",
        "reason": "credential_invalid",
        "replayed": False,
        "event_id": "evt_1",
        "card_id": None,
        "member": None,
        "tier": None,
        "at": "2026-11-22T10:00:00.123Z",
        "attendance": None,
        "points": None,
        "first": None,
    }
    assert edge.engine.messages == []
    assert edge.app.doorway.forged_count == 1


async def test_the_tenant_is_the_callers(edge: FakeEdge) -> None:
    await scan(edge, OTHER_KEY, credential=edge.credential(OTHER_TENANT))
    assert [message.tenant_id for message in edge.engine.messages] == [OTHER_TENANT]


BAD_BODIES: list[tuple[bytes, str]] = [
    (b"", "#"),
    (b"{", "#"),
    (b"[]", "#"),
    (b"null", "#"),
    (b'{"credential":"x"}', "#/event_id"),
    (b'{"event_id":"e"}', "#/credential"),
    (b'{"event_id":1,"credential":"x"}', "#/event_id"),
    (b'{"event_id":"","credential":"x"}', "#/event_id"),
    (b'{"event_id":"a b","credential":"x"}', "#/event_id"),
    (b'{"event_id":"e\\n","credential":"x"}', "#/event_id"),
    (b'{"event_id":"e","credential":""}', "#/credential"),
    (b'{"event_id":"e","credential":"x","gate_id":"\\u0000"}', "#/gate_id"),
    (b'{"event_id":"e","credential":"x","direction":"up"}', "#/direction"),
    (b'{"event_id":"e","credential":"x","scan_id":"\\u0007"}', "#/scan_id"),
    (b'{"event_id":"e","credential":"x","scan_id":"' + b"a" * 65 + b'"}', "#/scan_id"),
    (b'{"event_id":"e","credential":"x","scanned_at":"yesterday"}', "#/scanned_at"),
    (b'{"event_id":"e","credential":"x","scanned_at":"2026-11-22T10:00:00"}', "#/scanned_at"),
    (b'{"event_id":"e","credential":"x","scanned_at":"0001-01-01T00:00:00Z"}', "#/scanned_at"),
    (b'{"event_id":"e","credential":"x","tenant_id":"org_b"}', "#/tenant_id"),
    (b'{"event_id":"e","credential":"\xff"}', "#"),
    (b'{"event_id":"e","credential":"x"} trailing', "#"),
]


@pytest.mark.parametrize(("body", "pointer"), BAD_BODIES)
async def test_a_malformed_body_is_named_precisely(edge: FakeEdge, body: bytes, pointer: str) -> None:
    answer = await call(edge.app, "POST", PATH, body, bearer(KEY))
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["status"]) == ("malformed", 400)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert edge.engine.messages == []


@pytest.mark.parametrize("key", ["", '""', "x" * 65, "a\x01b", "é"])
async def test_a_bad_idempotency_key(edge: FakeEdge, key: str) -> None:
    answer = await scan(edge, headers={"Idempotency-Key": key})
    assert answer.status == 400
    assert answer.json()["errors"][0]["parameter"] == "Idempotency-Key"


async def test_a_body_beyond_the_limit(edge: FakeEdge) -> None:
    big = b"x" * (limits.BODY_BYTES_MAX + 1)
    announced = await call(edge.app, "POST", PATH, big, bearer(KEY))
    chunked = await call(edge.app, "POST", PATH, None, bearer(KEY), [big[:40_000], big[:40_000], b"never read"])
    assert (announced.status, chunked.status) == (413, 413)
    assert announced.json()["code"] == "body_too_large"


async def test_nothing_is_read_beyond_the_limit() -> None:
    reads = 0

    async def receive() -> Any:
        nonlocal reads
        reads += 1
        return {"type": "http.request", "body": b"x" * 1_000, "more_body": True}

    with pytest.raises(Problem, match="body_too_large"):
        await read_body(receive, 0, 5_000)
    assert reads == 6


async def test_a_client_that_leaves_is_not_answered(edge: FakeEdge) -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("there is nobody to answer")

    headers = [(b"authorization", f"Bearer {KEY}".encode())]
    for path in (PATH, "/v1/members"):
        await edge.app({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)


async def test_a_body_in_pieces(edge: FakeEdge) -> None:
    body = b'{"event_id":"evt_1","credential":"' + edge.credential().encode() + b'"}'
    answer = await call(edge.app, "POST", PATH, None, bearer(KEY), [body[:10], body[10:20], body[20:]])
    assert answer.status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "PATCH", "TRACE"])
async def test_other_methods(edge: FakeEdge, method: str) -> None:
    answer = await call(edge.app, method, PATH, None, bearer(KEY))
    assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize(
    ("failed", "status", "retry_after"),
    [
        (Failed("event_unknown", "no such event"), 404, None),
        (Failed("id_reused", "another body"), 422, None),
        (Failed("overloaded", "full", 300), 429, "1"),
        (Failed("unavailable", "away", 1_500), 503, "2"),
        (Failed("moved", "there", 0), 503, "1"),
        (Failed("partition_halted", "poison", 0), 503, "1"),
    ],
)
async def test_failures(edge: FakeEdge, failed: Failed, status: int, retry_after: str | None) -> None:
    edge.engine.failure = failed
    answer = await scan(edge)
    assert (answer.status, answer.json()["code"]) == (status, failed.code)
    assert answer.headers.get("retry-after") == retry_after


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_a_batch_gives_each_item_its_own_verdict_in_order(edge: FakeEdge) -> None:
    good = {"event_id": "evt_1", "credential": edge.credential()}
    items: list[Any] = [
        good | {"scan_id": "one"},
        7,
        good | {"gate_id": "no good"},
        good | {"credential": "forged"},
        good,
    ]
    answer = await call(edge.app, "POST", PATH + ":batch", {"items": items}, bearer(KEY) | {"Idempotency-Key": "up-1"})
    assert answer.status == 200
    one, two, three, four, five = answer.json()["items"]
    assert (one["scan_id"], one["verdict"]) == ("one", "admitted")
    assert (two["problem"]["code"], two["scan_id"]) == ("malformed", None)
    assert three["problem"]["errors"][0]["pointer"] == "#/gate_id"
    assert four["reason"] == "credential_invalid"
    assert five["verdict"] == "admitted"
    again = await call(edge.app, "POST", PATH + ":batch", {"items": items}, bearer(KEY) | {"Idempotency-Key": "up-1"})
    assert again.json()["items"][4]["scan_id"] == five["scan_id"], "a retry of the batch is the same request"


@pytest.mark.parametrize(("count", "status"), [(0, 200), (1_000, 200), (1_001, 400)])
async def test_the_size_of_a_batch(edge: FakeEdge, count: int, status: int) -> None:
    item = {"event_id": "evt_1", "credential": edge.credential()}
    answer = await call(edge.app, "POST", PATH + ":batch", {"items": [item] * count}, bearer(KEY))
    assert answer.status == status
    if status == 200:
        assert len(answer.json()["items"]) == count


# --- points -----------------------------------------------------------------------------------------------------------


async def test_points(edge: FakeEdge) -> None:
    answer = await call(
        edge.app,
        "POST",
        "/v1/cards/card_9/points/award",
        {"amount": 5, "note": "hi"},
        bearer(KEY) | {"Idempotency-Key": "k"},
    )
    assert answer.status == 200
    document = answer.json()
    assert (document["card_id"], document["balance"], document["request_id"]) == ("card_9", 5, "k")
    assert document["entry"]["at"] == "2026-11-22T10:00:00.123Z"
    await call(edge.app, "POST", "/v1/cards/card_9/points/reverse", {"entry_seq": 3}, bearer(KEY))
    command = edge.engine.messages[1]
    assert isinstance(command, ReversePoints)
    assert command.entry_seq == 3
    assert command.fingerprint == fingerprint(command)


@pytest.mark.parametrize("token", [DEVICE, SCAN_KEY, ADMIN])
async def test_only_managers_move_points(edge: FakeEdge, token: str) -> None:
    answer = await call(edge.app, "POST", "/v1/cards/card_9/points/award", {"amount": 5}, bearer(token))
    assert (answer.status, edge.engine.messages) == (403, [])


async def test_a_refused_command_is_409(edge: FakeEdge) -> None:
    edge.engine.failure = refused(check_in("x"), "insufficient_points")
    answer = await call(edge.app, "POST", "/v1/cards/card_9/points/redeem", {"amount": 5}, bearer(KEY))
    assert (answer.status, answer.json()["code"]) == (409, "insufficient_points")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("award", b'{"amount":1e400}', 400),
        ("award", b'{"amount":NaN}', 400),
        ("award", b'{"amount":1.5}', 400),
        ("award", b'{"amount":true}', 400),
        ("award", b'{"amount":"5"}', 400),
        ("award", b'{"amount":' + b"9" * 400 + b"}", 400),
        ("award", b'{"amount":9007199254740992}', 400),
        ("award", b'{"amount":5,"note":"a\\u0000b"}', 400),
        ("award", b'{"amount":5,"note":"\\ud800"}', 400),
        ("award", b'{"amount":5,"expires_at":"1969-12-31T23:59:59Z"}', 400),
        ("award", b"[" * 50_000, 400),
        ("reverse", b'{"entry_seq":0}', 400),
        ("redeem", b"{}", 400),
        ("spend", b"{}", 404),
    ],
)
async def test_bad_points(edge: FakeEdge, path: str, body: bytes, status: int) -> None:
    answer = await call(edge.app, "POST", f"/v1/cards/card_9/points/{path}", body, bearer(KEY))
    assert answer.status == status, answer.body
    assert edge.engine.messages == []


@pytest.mark.parametrize("card_id", ["", "a%20b", "a b", "x" * 65, "a/b"])
async def test_a_card_id_that_cannot_be_one(edge: FakeEdge, card_id: str) -> None:
    answer = await call(edge.app, "POST", f"/v1/cards/{card_id}/points/award", {"amount": 5}, bearer(KEY))
    assert answer.status == 404


# --- cost -------------------------------------------------------------------------------------------------------------


async def test_a_check_in_costs_little(edge: FakeEdge) -> None:
    """The budget is 25 µs; the test allows for a machine that others use too."""
    body = {"event_id": "evt_1", "credential": edge.credential(), "gate_id": "gate_1"}
    raw = msgspec.json.encode(body)
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "headers": [
            (b"host", b"127.0.0.1:8080"),
            (b"authorization", b"Bearer " + DEVICE.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(raw)).encode()),
        ],
    }
    message = {"type": "http.request", "body": raw, "more_body": False}

    async def receive() -> Any:
        return message

    async def send(message: Any) -> None:
        pass

    count = 5_000
    best = 1e9
    for _ in range(3):
        edge.engine.messages.clear()
        started = time.process_time()
        for _ in range(count):
            await edge.app(scope, receive, send)
        best = min(best, (time.process_time() - started) / count * 1e6)
        await asyncio.sleep(0)
    assert best < 50, f"{best:.1f} µs a check-in"
