"""Batches of cards: who gets one, what is told of the rest, what the printer gets, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gateway import limits
from gateway.card_batches.work import CardBatchWork
from tests.edge.asgi import Answer
from tests.edge.in_process import SUPERADMIN_TOKEN, System

PATH = "/v1/cards/batches"
CSV = {"Content-Type": "text/csv"}


async def add_members(system: System, key: str, count: int, **fields: Any) -> list[str]:
    body = {"name": "Mia", **fields}
    return [(await system.made("POST", "/v1/members", body, key))["id"] for _ in range(count)]


async def done(system: System, key: str, started: Answer) -> Any:
    """A batch from start to end, worked on here."""
    assert started.status == 202, started.body
    assert await system.app.member_work.card_batches.one()
    return await system.made("GET", f"{PATH}/{started.json()['id']}", token=key)


async def issued(system: System, key: str, body: Any) -> Any:
    return await done(system, key, await system.call("POST", PATH, body, key))


async def changed(system: System, key: str, body: Any) -> Any:
    return await done(system, key, await system.call("POST", "/v1/cards:change", body, key))


async def lines(system: System, key: str, batch_id: str, what: str) -> list[Any]:
    answer = await system.call("GET", f"{PATH}/{batch_id}/{what}", token=key)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson; charset=utf-8")
    return [msgspec.json.decode(line) for line in answer.body.splitlines()]


def counts(told: Any) -> tuple[int, int, int, int]:
    progress = told["progress"]
    return progress["rows"], progress["done"], progress["succeeded"], progress["failed"]


async def cards(system: System, key: str) -> list[Any]:
    found: list[Any] = (await system.made("GET", "/v1/cards?limit=500", token=key))["items"]
    return found


# --- issuing ----------------------------------------------------------------------------------------------------------


async def test_a_list_of_members_and_what_the_printer_gets(system: System) -> None:
    org = await system.open_org()
    key = org["key"]
    ann, bo = await add_members(system, key, 2)
    terms = {"tier": "gold", "valid_until": "2040-01-01T00:00:00.000Z"}
    told = await issued(system, key, {"member_ids": [ann, "mem_none", bo, ann], **terms})
    assert (told["state"], told["act"], counts(told)) == ("done", "issue", (3, 3, 2, 1))
    assert told["progress"]["per_second"] > 0
    assert (told["progress"]["ends_at"], told["finished_at"] is not None) == (None, True)
    (failed,) = await lines(system, key, told["id"], "report")
    assert (failed["row"], failed["id"], failed["column"], failed["code"]) == (2, "mem_none", None, "member_unknown")
    result = await lines(system, key, told["id"], "result")
    assert [(line["row"], line["member_id"], line["tier"]) for line in result] == [(1, ann, "gold"), (3, bo, "gold")]
    assert [line["valid_until"] for line in result] == [terms["valid_until"]] * 2
    by_id = {card["id"]: card for card in await cards(system, key)}
    assert sorted(by_id) == sorted(line["card_id"] for line in result)
    for line in result:
        assert line["number"] == by_id[line["card_id"]]["number"]
        claims = system.book.read(line["credential"], system.clock.wall_ms())
        assert claims is not None
        assert (claims.card_id, claims.tier) == (line["card_id"], "gold")
    table = await system.call("GET", f"{PATH}/{told['id']}/result", token=key, Accept="text/csv")
    head, first, *_ = table.body.decode().split("\r\n")
    assert head == ",".join(result[0])
    assert first.split(",")[-1].strip('"') == result[0]["credential"]
    assert table.headers["cache-control"] == "no-store"
    log = await system.made("GET", f"/v1/orgs/{org['id']}/audit-log?target={told['id']}", token=key)
    assert [line["detail"] for line in log["items"]] == [{"result": True}] * 2 + [{"act": "issue", "rows": 3}]


async def test_members_chosen_by_what_is_known_of_them(system: System) -> None:
    key = (await system.open_org())["key"]
    vip = await add_members(system, key, 2, attributes={"vip": True, "size": 40})
    (plain,) = await add_members(system, key, 1, attributes={"vip": False}, consents={"photo": True})
    (gone,) = await add_members(system, key, 1, attributes={"vip": True})
    assert (await system.call("DELETE", f"/v1/members/{gone}", token=key)).status == 204
    told = await issued(system, key, {"members": {"attributes": {"vip": True}, "has_card": False}})
    assert sorted(card["member"]["id"] for card in await cards(system, key)) == sorted(vip)
    assert counts(told) == (2, 2, 2, 0)
    again = await issued(system, key, {"members": {"attributes": {"vip": True}, "has_card": False}})
    assert (again["state"], counts(again)) == ("done", (0, 0, 0, 0)), "they have one"
    for which in ({"consent": "photo"}, {"attributes": {"vip": False}}, {"has_card": False}):
        told = await issued(system, key, {"members": which, "member_ids": [plain, *vip]})
        (line,) = await lines(system, key, told["id"], "result")
        assert line["member_id"] == plain
        await system.made("POST", f"/v1/cards/{line['card_id']}/revoke", None, key)
    future = {"members": {"created_since": "2090-01-01T00:00:00.000Z"}}
    assert counts(await issued(system, key, future)) == (0, 0, 0, 0)


async def test_a_file_with_good_and_bad_rows(system: System) -> None:
    key = (await system.open_org())["key"]
    await add_members(system, key, 1, external_id="C-1", email="Ann@x.org", name="=Ann")
    await add_members(system, key, 2, email="us@x.org")
    (known,) = await add_members(system, key, 1)
    body = (
        "\ufeffMember id;Customer ID;E-mail;tier;valid_until\r\n"
        ";C-1;;;\r\n"
        ";;ann@X.org;Gold;2035-01-01T00:00:00Z\r\n"
        "\r\n"
        ";;us@x.org;;\r\n"
        ";C-9;;;\r\n"
        f"{known};C-9;;wood;\r\n"
        f"{known};C-9;;silver;\r\n"
        ";;;gold;\r\n"
        ";C-1;;;1999\r\n"
        ";C-1;;;2001-01-01T00:00:00Z\r\n"
        ";C-1;;;;;;too many\r\n"
    )
    query = "?tier=platinum&valid_from=2025-01-01T00:00:00Z"
    told = await done(system, key, await system.call("POST", f"/v1/cards:csv{query}", body.encode(), key, **CSV))
    assert counts(told) == (10, 10, 3, 7)
    result = await lines(system, key, told["id"], "result")
    assert [(line["row"], line["tier"], line["external_id"]) for line in result] == [
        (2, "platinum", "C-1"),
        (3, "gold", "C-1"),
        (8, "silver", None),
    ]
    assert [line["valid_until"] for line in result] == [None, "2035-01-01T00:00:00.000Z", None]
    failed = await lines(system, key, told["id"], "report")
    assert [(line["row"], line["column"], line["code"]) for line in failed] == [
        (5, "email", "member_unknown"),
        (6, "external_id", "member_unknown"),
        (7, "tier", "malformed"),
        (9, None, "malformed"),
        (10, "valid_until", "malformed"),
        (11, "valid_until", "malformed"),
        (12, None, "malformed"),
    ]
    assert all(line["reason"] for line in failed)
    table = await system.call("GET", f"{PATH}/{told['id']}/result", token=key, Accept="text/csv")
    assert ",'=Ann," in table.body.decode(), "no formula"


async def test_a_plan_that_is_used_up_refuses_row_by_row(system: System) -> None:
    org = await system.open_org()
    key = org["key"]
    await system.made("PUT", f"/v1/orgs/{org['id']}/plan", {"plan": "free"}, SUPERADMIN_TOKEN)
    members = await add_members(system, key, 13)
    told = await issued(system, key, {"member_ids": members})
    assert counts(told) == (13, 13, 10, 3)
    failed = await lines(system, key, told["id"], "report")
    assert {line["code"] for line in failed} == {"quota_exceeded"}
    assert len(await cards(system, key)) == 10


# --- changing ---------------------------------------------------------------------------------------------------------


async def test_changes_of_what_a_filter_chooses(system: System) -> None:
    key = (await system.open_org())["key"]
    members = await add_members(system, key, 3)
    first = await issued(system, key, {"member_ids": members[:2], "tier": "gold"})
    await issued(system, key, {"member_ids": members[2:]})
    gold = [line["card_id"] for line in await lines(system, key, first["id"], "result")]

    async def states() -> list[str]:
        return sorted(card["state"] for card in await cards(system, key) if card["id"] in gold)

    told = await changed(system, key, {"act": "suspend", "cards": {"tier": "gold"}, "note": "lost"})
    assert (told["note"], counts(told), await states()) == ("lost", (2, 2, 2, 0), ["suspended"] * 2)
    assert await lines(system, key, told["id"], "result") == []
    told = await changed(system, key, {"act": "resume", "cards": {"state": "suspended", "batch_id": first["id"]}})
    assert (counts(told), await states()) == ((2, 2, 2, 0), ["active"] * 2)
    told = await changed(system, key, {"act": "reissue", "card_ids": [gold[0], "card_none"]})
    assert counts(told) == (2, 2, 1, 1)
    (failed,) = await lines(system, key, told["id"], "report")
    assert (failed["id"], failed["code"]) == ("card_none", "card_unknown")
    (line,) = await lines(system, key, told["id"], "result")
    claims = system.book.read(line["credential"], system.clock.wall_ms())
    assert claims is not None
    assert (claims.card_id, claims.serial) == (gold[0], 1)
    until = "2041-01-01T00:00:00.000Z"
    told = await changed(system, key, {"act": "renew", "cards": {"batch_id": first["id"]}, "valid_until": until})
    result = await lines(system, key, told["id"], "result")
    assert [(line["card_id"], line["valid_until"]) for line in result] == [(card, until) for card in sorted(gold)]
    told = await changed(system, key, {"act": "revoke", "cards": {"expires_before": "2041-06-01T00:00:00.000Z"}})
    assert (counts(told), await states()) == ((2, 2, 2, 0), ["revoked"] * 2)
    told = await changed(system, key, {"act": "resume", "card_ids": gold})
    assert {line["code"] for line in await lines(system, key, told["id"], "report")} == {"card_revoked"}
    assert counts(await changed(system, key, {"act": "suspend", "cards": {"tier": "gold"}})) == (0, 0, 0, 0)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        (PATH, {}, "#"),
        (PATH, {"member_ids": []}, "#/member_ids"),
        (PATH, {"member_ids": ["a b"]}, "#/member_ids/0"),
        (PATH, {"member_ids": ["m"] * 1_001}, "#/member_ids"),
        (PATH, {"members": {"tier": "gold"}}, "#/members/tier"),
        (PATH, {"members": {"attributes": {"a": {"b": 1}}}}, None),
        (PATH, {"members": {"attributes": {str(n): n for n in range(11)}}}, "#/members/attributes"),
        (PATH, {"members": {}, "valid_from": "2030-01-02T00:00:00Z", "valid_until": "2030-01-01T00:00:00Z"}, "#"),
        ("/v1/cards:change", {"card_ids": ["c"]}, "#/act"),
        ("/v1/cards:change", {"act": "issue", "card_ids": ["c"]}, "#/act"),
        ("/v1/cards:change", {"act": "revoke"}, "#"),
        ("/v1/cards:change", {"act": "revoke", "cards": {}, "valid_until": "2030-01-01T00:00:00Z"}, "#"),
        ("/v1/cards:change", {"act": "revoke", "cards": {"state": "expired"}}, "#/cards/state"),
    ],
)
async def test_bodies_that_are_not_taken(system: System, path: str, body: Any, where: str | None) -> None:
    key = (await system.open_org())["key"]
    answer = await system.call("POST", path, body, key)
    assert (answer.status, answer.json()["code"]) == (400, "malformed"), answer.body
    assert where is None or answer.json()["errors"][0]["pointer"] == where
    assert (await system.made("GET", PATH, token=key))["items"] == []


async def test_files_that_are_not_taken(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key = (await system.open_org())["key"]
    monkeypatch.setattr(limits, "CARD_BATCH_ROWS_MAX", 3)
    for body, word in (
        (b"", "empty"),
        (b"nickname\nx\n", "nickname"),
        (b"tier\ngold\n", "member_id, external_id, email"),
        (b"email\n" + b"a@x.org\n" * 4, "3 rows"),
    ):
        answer = await system.call("POST", "/v1/cards:csv", body, key, **CSV)
        assert (answer.status, answer.json()["code"]) == (400, "malformed")
        assert word in answer.json()["errors"][0]["detail"]
    wrong = await system.call("POST", "/v1/cards:csv", b"email\n", key, **{"Content-Type": "application/json"})
    assert (wrong.status, wrong.json()["code"]) == (415, "media_type_unsupported")
    bounds = "?valid_from=2030-01-02T00:00:00Z&valid_until=2030-01-01T00:00:00Z"
    answer = await system.call("POST", f"/v1/cards:csv{bounds}", b"email\n", key, **CSV)
    assert answer.json()["errors"][0]["parameter"] == "valid_until"
    await add_members(system, key, 4)
    too_many = await system.call("POST", PATH, {"members": {}}, key)
    assert (too_many.status, "at most 3 rows" in too_many.json()["detail"]) == (400, True)
    assert (await system.made("GET", PATH, token=key))["items"] == []


async def test_a_retry_finds_the_same_batch_and_there_is_one_at_a_time(system: System) -> None:
    key = (await system.open_org())["key"]
    (ann,) = await add_members(system, key, 1)
    body, named = {"member_ids": [ann]}, {"Idempotency-Key": "batch-1"}
    first = await system.call("POST", PATH, body, key, **named)
    assert (await system.call("POST", PATH, body, key, **named)).json() == first.json()
    other = await system.call("POST", PATH, {"member_ids": [ann, "m"]}, key, **named)
    assert (other.status, other.json()["code"]) == (422, "id_reused")
    second = await system.call("POST", PATH, body, key)
    assert (second.status, second.json()["code"]) == (409, "batch_under_way")
    assert (await done(system, key, first))["state"] == "done"
    assert (await system.call("POST", PATH, body, key, **named)).json()["state"] == "done"
    assert (await system.call("POST", PATH, body, key)).status == 202
    page = await system.made("GET", f"{PATH}?limit=1", token=key)
    rest = await system.made("GET", f"{PATH}?limit=1&cursor={page['next_cursor']}", token=key)
    assert [item["state"] for item in (*page["items"], *rest["items"])] == ["queued", "done"]
    assert len(await cards(system, key)) == 1


async def test_another_organisations_batch_is_absent(system: System) -> None:
    one, other = (await system.open_org())["key"], (await system.open_org())["key"]
    (ann,) = await add_members(system, one, 1)
    told = await issued(system, one, {"member_ids": [ann]})
    for method, suffix in (("GET", ""), ("GET", "/report"), ("GET", "/result"), ("POST", "/cancel")):
        foreign = await system.call(method, f"{PATH}/{told['id']}{suffix}", token=other)
        absent = await system.call(method, f"{PATH}/bat_none{suffix}", token=other)
        assert (foreign.status, foreign.json()["code"]) == (404, "batch_unknown")
        assert (absent.status, absent.json()["code"]) == (404, "batch_unknown")
    await add_members(system, other, 1)
    stolen = await issued(system, other, {"member_ids": [ann]})
    assert counts(stolen) == (1, 1, 0, 1)
    assert counts(await changed(system, other, {"act": "revoke", "cards": {"batch_id": told["id"]}})) == (0, 0, 0, 0)
    by_key = await system.call("POST", "/v1/cards:csv", f"member_id\n{ann}\n".encode(), other, **CSV)
    assert counts(await done(system, other, by_key)) == (1, 1, 0, 1)
    assert [card["state"] for card in await cards(system, one)] == ["active"]


async def test_the_estimate_of_the_end(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    key = (await system.open_org())["key"]
    monkeypatch.setattr(limits, "CARD_BATCH_CHUNK_ROWS", 2)
    members = await add_members(system, key, 4)
    started = await system.made("POST", PATH, {"member_ids": members}, key)
    assert (started["progress"]["per_second"], started["progress"]["ends_at"]) == (None, None)
    half: list[Any] = []
    keep = CardBatchWork._keep

    async def looking(self: CardBatchWork, *arguments: Any) -> Any:
        kept = await keep(self, *arguments)
        half.append(await system.made("GET", f"{PATH}/{started['id']}", token=key))
        return kept

    monkeypatch.setattr(CardBatchWork, "_keep", looking)
    assert await system.app.member_work.card_batches.one()
    assert counts(half[0]) == (4, 2, 2, 0)
    assert half[0]["progress"]["per_second"] > 0
    assert datetime.fromisoformat(half[0]["progress"]["ends_at"]) > datetime(2020, 1, 1, tzinfo=UTC)
