"""Operations on their way out: what is in the document is in the headers, and the other way round; gone is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI

from gateway.deprecations import DEPRECATIONS, Deprecation, Deprecations
from tests.edge.asgi import Answer, call
from tests.edge.edge import ADMIN, DEVICE, KEY, FakeEdge, bearer
from tests.edge.fakes import NOW_MS

NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
SINCE = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
LATER = SINCE + timedelta(days=200)
LINK, SUCCESSOR = "https://docs.example.org/moving", "/v2/events/{event_id}"
TABLE = (
    Deprecation(method="GET", path="/v1/events/{event_id}", since=SINCE, link=LINK, sunset=LATER, successor=SUCCESSOR),
    Deprecation(method="POST", path="/v1/checkins", since=SINCE, link=LINK, sunset=LATER),
    Deprecation(method="POST", path="/v1/cards/{card_id}/points/award", since=SINCE, link=LINK),
    Deprecation(method="DELETE", path="/v1/orgs/{org_id}", since=SINCE, link=LINK),
    Deprecation(method="GET", path="/healthz", since=SINCE, link=LINK),
)


def served(*table: Deprecation) -> FakeEdge:
    """The edge, with these of its operations deprecated."""
    return FakeEdge(deprecations=Deprecations(table))


def document(edge: FakeEdge) -> Any:
    api = edge.app._api
    assert isinstance(api, FastAPI)
    return api.openapi()


async def ask(edge: FakeEdge, method: str, path: str, token: str = "", **headers: str) -> Answer:
    for name in ("org_id", "card_id", "event_id"):
        path = path.replace(f"{{{name}}}", f"{name[:-3]}_1")
    path = path.replace("{", "").replace("}", "")
    body = {} if method in ("POST", "PUT", "PATCH") else None
    return await call(edge.app, method, path, body, (bearer(token) if token else {}) | headers)


@pytest.mark.parametrize("table", [TABLE, DEPRECATIONS, TABLE[:1]], ids=["some", "the product's", "one"])
async def test_the_document_marks_what_the_headers_tell(table: tuple[Deprecation, ...]) -> None:
    """Every operation of the document, asked by nobody and by somebody: marked if and only if the headers say so."""
    edge = served(*table)
    marked = set()
    for path, operations in document(edge)["paths"].items():
        for verb, operation in operations.items():
            is_marked = operation.get("deprecated", False)
            for token in ("", KEY):
                answer = await ask(edge, verb.upper(), path, token)
                assert ("deprecation" in answer.headers) is is_marked, (verb, path, token, answer.status)
            assert ("Deprecation" in operation["responses"]["404"].get("headers", {})) is is_marked
            assert ("**Deprecated** since" in operation.get("description", "")) is is_marked
            assert ("410" in operation["responses"]) is is_marked
            if is_marked:
                marked.add((verb.upper(), path))
    assert marked == {(row.method, row.path) for row in table}


async def test_what_is_told_is_what_the_standards_say() -> None:
    answers = []
    edge = served(*TABLE)
    sent: list[list[tuple[bytes, bytes]]] = []

    async def watching(scope: Any, receive: Any, send: Any) -> None:
        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                sent.append(list(message["headers"]))
            await send(message)

        await edge.app(scope, receive, noted)

    for method, path in (("GET", "/v1/events/evt_1"), ("POST", "/v1/checkins"), ("HEAD", "/v1/events/evt_1")):
        answers.append(await call(watching, method, path, {} if method == "POST" else None, bearer(DEVICE)))
    for answer in answers:
        assert answer.headers["deprecation"] == "@1793534400"
        assert answer.headers["sunset"] == "Thu, 20 May 2027 12:00:00 GMT"
    links = [value.decode() for name, value in sent[0] if name == b"link"]
    assert links == [f'<{LINK}>; rel="deprecation"; type="text/html"', f'<{SUCCESSOR}>; rel="successor-version"']
    assert [value.decode() for name, value in sent[1] if name == b"link"] == links[:1]
    assert "sunset" not in (await ask(edge, "DELETE", "/v1/orgs/{org_id}", ADMIN)).headers
    operation = document(edge)["paths"]["/v1/events/{event_id}"]["get"]
    assert operation["description"].endswith(
        f"**Deprecated** since 2026-11-01, answered until 2027-05-20, then 410. Use {SUCCESSOR} instead. See {LINK}"
    )
    assert operation["responses"]["200"]["headers"].keys() == {"ETag", "Deprecation", "Sunset", "Link"}


@pytest.mark.parametrize(
    "path", ["/v1/events/{event_id}", "/v1/checkins", "/v1/cards/{card_id}/points/award", "/healthz"]
)
async def test_from_the_sunset_on_it_is_gone_and_not_a_moment_before(path: str) -> None:
    method = "GET" if path in ("/v1/events/{event_id}", "/healthz") else "POST"
    row = Deprecation(method=method, path=path, since=NOW - timedelta(days=400), link=LINK)
    for early, is_gone in ((timedelta(0), True), (timedelta(days=1), True), (timedelta(milliseconds=-1), False)):
        edge = served(msgspec.structs.replace(row, sunset=NOW - early))
        for token in ("", KEY, "mvk_nobodys"):
            answer = await ask(edge, method, path, token)
            assert (answer.status == 410) is is_gone, (early, token)
            assert answer.headers["deprecation"].startswith("@")
            assert "sunset" in answer.headers
            assert LINK in answer.headers["link"]
            if is_gone:
                problem = answer.json()
                assert (problem["code"], problem["status"]) == ("gone", 410)
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["x-request-id"] == problem["request_id"]
        others = {"/v1/checkins:batch": "POST", "/v1/events": "GET", "/readyz": "GET"}
        for other, verb in others.items():
            assert (await ask(edge, verb, other, KEY)).status != 410
        assert (await ask(edge, "OPTIONS", "/v1/events/evt_1")).status == 204


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"path": "/v1/events/{id}"}, "no such operation"),
        ({"method": "PUT"}, "no such operation"),
        ({"method": "get"}, "no such operation"),
        ({"sunset": SINCE + timedelta(days=89)}, "less than 90 days"),
        ({"sunset": LATER.replace(tzinfo=None)}, "without its zone"),
        ({"since": SINCE.replace(tzinfo=None), "sunset": None}, "without its zone"),
        ({"link": ""}, "nothing tells"),
        ({"link": "https://example.org/\r\nSet-Cookie: a=b"}, "no address"),
        ({"successor": 'https://example.org/>; rel="next"'}, "no address"),
    ],
)
def test_a_row_that_cannot_be_fails_the_start(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        served(msgspec.structs.replace(TABLE[0], **change))


def test_an_operation_is_deprecated_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        served(TABLE[0], TABLE[0])


def test_dates_are_told_in_utc() -> None:
    hanoi = timezone(timedelta(hours=7))
    rows = Deprecations(
        [msgspec.structs.replace(TABLE[0], since=SINCE.astimezone(hanoi), sunset=LATER.astimezone(hanoi))]
    )
    assert rows.headers("GET", TABLE[0].path) == Deprecations(TABLE[:1]).headers("GET", TABLE[0].path)
