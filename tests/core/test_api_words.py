"""The API in words: what an operation is called, and what becomes of what is written behind it."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest
from fastapi import FastAPI

from serve.api_words import Api, ApiRequest, WordsFault
from tests.edge.edge import FakeEdge

POINTS = {"type": "points", "points": 5}


@pytest.fixture(scope="module")
def api() -> Api:
    return Api(cast(FastAPI, FakeEdge().app._api).openapi())


def request(api: Api, line: str) -> ApiRequest:
    words = line.split(" ")
    operation = api.find(words)
    assert operation is not None, line
    return api.request(operation, words[len(operation.words) :])


def test_every_operation_has_words_of_its_own(api: Api) -> None:
    assert len(api.operations) > 140
    assert [words for words, count in Counter(one.words for one in api.operations).items() if count > 1] == []
    for one in api.operations:
        assert api.find([*one.words, *("x" for _ in one.parameters)]) == one


@pytest.mark.parametrize(
    ("line", "method", "path", "query", "body"),
    [
        ("cards list limit=5", "GET", "/v1/cards", {"limit": "5"}, None),
        ("cards show card_1", "GET", "/v1/cards/card_1", {}, None),
        ("cards balance c at=2026-01-01", "GET", "/v1/cards/c/balance", {"at": "2026-01-01"}, None),
        ("cards add member.name=12 tier=gold", "POST", "/v1/cards", {}, {"member": {"name": "12"}, "tier": "gold"}),
        ("cards points award card_1 amount=50", "POST", "/v1/cards/card_1/points/award", {}, {"amount": 50}),
        ("cards suspend card_1 note=lost", "POST", "/v1/cards/card_1/suspend", {}, {"note": "lost"}),
        ("cards tag remove card_1", "DELETE", "/v1/cards/card_1/tag", {}, None),
        ("events change e doors_open=null", "PATCH", "/v1/events/e", {}, {"doors_open": None}),
        ("events change e name=null", "PATCH", "/v1/events/e", {}, {"name": None}),
        ("events change e strict_exit=false", "PATCH", "/v1/events/e", {}, {"strict_exit": False}),
        ("events checkins annul e s", "POST", "/v1/events/e/checkins/s/annul", {}, None),
        ('checkins batch items:=[{"event_id":"e"}]', "POST", "/v1/checkins:batch", {}, {"items": [{"event_id": "e"}]}),
        ("checkins event_id=e credential=a=b", "POST", "/v1/checkins", {}, {"event_id": "e", "credential": "a=b"}),
        ("coupons codes add c count=3", "POST", "/v1/coupons/c/codes", {}, {"count": 3}),
        ("coupons add value.type=points value.points=5", "POST", "/v1/coupons", {}, {"value": POINTS}),
        ("leaderboards show points window=all", "GET", "/v1/leaderboards/points", {"window": "all"}, None),
        ("me change name=Ann", "PATCH", "/v1/me", {}, {"name": "Ann"}),
        ("cards add tomorrow=maybe", "POST", "/v1/cards", {}, {"tomorrow": "maybe"}),
    ],
)
def test_what_is_written_is_a_request(api: Api, line: str, method: str, path: str, query: Any, body: Any) -> None:
    assert request(api, line) == ApiRequest(method, path, query, body)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("cards show", "CARD_ID is missing: cards show CARD_ID"),
        ("cards show ../../healthz", "cannot be CARD_ID"),
        ("cards show card_1 colour=red", "takes no field 'colour'; its fields: none"),
        ("cards list colour=red", "its fields: member_id, number, limit, cursor"),
        ("cards points award card_1 amount", "'amount' is no field"),
        ("cards points award card_1 amount=much", "amount is no text here"),
        ("cards add member:={", "is no JSON"),
        ("cards add member=1 member.name=Ann", "member is no object"),
    ],
)
def test_what_cannot_be_a_request_says_why(api: Api, line: str, why: str) -> None:
    with pytest.raises(WordsFault, match=why):
        request(api, line)


def test_what_begins_alike_is_found_with_its_fields(api: Api) -> None:
    found = api.beginning(["cards", "wallet"])
    assert [(one.usage(), one.summary) for one in found] == [
        ("cards wallet pay CARD_ID", "Pay from the wallet"),
        ("cards wallet top-up CARD_ID", "Top up the wallet"),
    ]
    assert api.fields(found[0]) == ["amount", "[note]"]
    assert api.find(["wallet"]) is None
    assert api.beginning(["wallet"]) == []
