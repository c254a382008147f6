"""Searching members: accents, typing errors, numbers, the order of what is found, and what staff may ask."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from gateway.members.search import card_ids, escaped, phone_variants, swapped
from tests.edge.in_process import System

PEOPLE: list[dict[str, Any]] = [
    {"name": "Nguyễn Văn Ánh", "email": "anh.nguyen@example.org", "phone": "+84 912 345 678"},
    {"name": "Nguyễn Vân Anh", "email": "van@example.org", "phone": "0987 654 321"},
    {"name": "Đặng Thị Mỹ Duyên", "email": "duyen@example.org", "external_id": "VIP-7"},
    {"name": "Trần Quốc Đạt", "phone": "0123498765"},
    {"name": "José Müller", "email": "jose_100%@example.org"},
    {"name": "John Smith", "email": "john@example.com"},
    {"name": "Thanh Hà", "email": "thanh@example.com"},
    {"name": "An Bình", "email": "binh@example.com"},
]


async def people(system: System) -> tuple[str, dict[str, str]]:
    key = (await system.open_org())["key"]
    for person in PEOPLE:
        await system.made("POST", "/v1/members", person, key)
    page = await system.made("GET", "/v1/members", token=key)
    return key, {member["name"]: member["id"] for member in page["items"]}


async def found(system: System, key: str, query: str, **more: Any) -> list[tuple[str, str]]:
    path = f"/v1/members/search?q={quote(query)}" + "".join(f"&{name}={value}" for name, value in more.items())
    answer = await system.made("GET", path, token=key)
    return [(item["name"], item["match"]) for item in answer["items"]]


async def test_what_is_found(system: System) -> None:
    key, ids = await people(system)
    anh, van, duyen, dat = "Nguyễn Văn Ánh", "Nguyễn Vân Anh", "Đặng Thị Mỹ Duyên", "Trần Quốc Đạt"
    card = await system.made("POST", "/v1/cards", {"member_id": ids[dat]}, key)
    number = card["id"].removeprefix("card_")
    for query, expected in (
        # Names, with and without accents and case; đ is d.
        ("NGUYỄN VĂN ÁNH", [(anh, "name"), (van, "name")]),
        ("nguyễn vân anh", [(van, "name"), (anh, "name")]),
        ("Nguye\u0302\u0303n Va\u0306n A\u0301nh", [(anh, "name"), (van, "name")]),
        ("dang thi my duyen", [(duyen, "name")]),
        ("ĐẶNG", [(duyen, "name")]),
        ("tran  quoc", [(dat, "name")]),
        ("duyen dang", [(duyen, "words")]),
        ("my duyen", [(duyen, "words")]),
        ("jose muller", [("José Müller", "name")]),
        # Typing errors: letters swapped, missing, wrong, too many.
        ("jhon smith", [("John Smith", "similar")]),
        ("jon smith", [("John Smith", "similar")]),
        ("dang thi my duyem", [(duyen, "similar")]),
        ("tarn", [(dat, "similar")]),
        ("thanhh", [("Thanh Hà", "similar")]),
        # E-mail, phone, external id, member's and card's number.
        ("ANH.NGUYEN@example.org", [(anh, "exact")]),
        ("0912345678", [(anh, "exact")]),
        ("+84 (912) 345-678", [(anh, "exact")]),
        ("0084912345678", [(anh, "exact")]),
        ("84987654321", [(van, "exact")]),
        ("345678", [(anh, "words")]),
        ("VIP-7", [(duyen, "exact")]),
        (ids[duyen], [(duyen, "exact")]),
        (card["id"], [(dat, "exact")]),
        (number.upper(), [(dat, "exact")]),
        (number[:12], [(dat, "exact")]),
        (number.replace("1", "l").replace("0", "O"), [(dat, "exact")]),
        # What means something to LIKE means itself.
        ("jose_100%", [("José Müller", "words")]),
        ("d%g%m%n", []),
        ("%%%", []),
        ("___", []),
        ("\\", []),
        ("' OR 1=1 --", []),
        ("zzzzzz", []),
    ):
        assert await found(system, key, query) == expected, query
    # In no order among themselves: without accents the two names are the same.
    for query, first, match in (
        ("nguyen van anh", [], "name"),
        ("nguyen vna anh", [], "similar"),
        ("an", [("An Bình", "name")], "words"),
    ):
        answer = await found(system, key, query)
        assert (answer[: len(first)], set(answer[len(first) :])) == (first, {(anh, match), (van, match)}), query


async def test_results_are_bounded_scored_and_of_ones_own_organisation(system: System) -> None:
    key, ids = await people(system)
    other = (await system.open_org())["key"]
    assert len(await found(system, key, "nguyen", limit=1)) == 1
    for query in ("nguyen", "anh.nguyen@example.org", "0912345678", ids["John Smith"], "VIP-7", "jhon smith"):
        assert await found(system, key, query)
        assert await found(system, other, query) == []
    card = await system.made("POST", "/v1/cards", {"member_id": ids["John Smith"]}, key)
    assert await found(system, other, card["id"]) == []
    answer = await system.made("GET", "/v1/members/search?q=thanh", token=key)
    assert (answer["stale"], answer["items"][0]["score"]) == (False, 1.0)
    assert answer["items"][0]["email"] == "thanh@example.com"


async def test_staff_type_three_characters(system: System) -> None:
    org = await system.open_org()
    await system.made("POST", "/v1/members", {"name": "Ann"}, org["key"])
    staff = (await system.signed_in("staff", org["id"]))["access_token"]
    admin = (await system.signed_in("org_admin", org["id"]))["access_token"]
    for query in ("an", " an ", "%20%20a%20"):
        refused = await system.call("GET", f"/v1/members/search?q={query.replace(' ', '%20')}", token=staff)
        assert (refused.status, refused.json()["code"]) == (400, "query_too_short"), query
        assert refused.json()["errors"][0]["parameter"] == "q"
    assert await found(system, staff, "ann") == [("Ann", "name")]
    assert await found(system, admin, "an") == [("Ann", "name")]


@pytest.mark.parametrize("query", ["", "%20%20", "a%00b", "x" * 101, "a%0Ab"])
async def test_what_is_no_query(system: System, query: str) -> None:
    key = (await system.open_org())["key"]
    answer = await system.call("GET", f"/v1/members/search?q={query}", token=key)
    assert (answer.status, answer.json()["errors"][0]["parameter"]) == (400, "q")
    assert (await system.call("GET", "/v1/members/search", token=key)).status == 400


async def test_a_member_who_changes_is_found_by_what_is_so_now(system: System) -> None:
    key, ids = await people(system)
    await system.made("PATCH", f"/v1/members/{ids['John Smith']}", {"name": "Đỗ Thị Bé", "email": None}, key)
    assert await found(system, key, "do thi be") == [("Đỗ Thị Bé", "name")]
    assert await found(system, key, "john smith") == []


# --- the parts that need no database ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "variants"),
    [
        ("0912345678", ["0912345678", "84912345678"]),
        ("+84912345678", ["84912345678", "0912345678"]),
        ("0084 912 345 678", ["84912345678", "0912345678"]),
        ("912.345.678", ["912345678", "0912345678", "84912345678"]),
        ("+1 (202) 555-0100", ["12025550100", "012025550100", "8412025550100"]),
        ("12345", []),
        ("VIP 123456", []),
        ("anh@example.org", []),
    ],
)
def test_the_forms_of_a_phone_number(query: str, variants: list[str]) -> None:
    assert phone_variants(query) == variants


@pytest.mark.parametrize(
    ("query", "ids", "prefix"),
    [
        ("card_01kbcdefghj", ["card_01kbcdefghj", "card_01kbcdefghj"], "card\\_01kbcdefghj%"),
        ("O1KBCD", ["card_o1kbcd", "card_01kbcd"], "card\\_01kbcd%"),
        ("abc", ["card_abc"], None),
        ("nguyen", ["card_nguyen"], None),
        ("a b", [], None),
        ("card_x%", [], None),
    ],
)
def test_the_cards_that_may_be_meant(query: str, ids: list[str], prefix: str | None) -> None:
    assert card_ids(query) == (ids, prefix)


def test_swapped_letters_and_escapes() -> None:
    assert swapped("ab cd") == ["ba cd", "ab dc"]
    assert swapped("aab") == ["aba"]
    assert swapped("a") == []
    assert escaped("50%_\\") == "50\\%\\_\\\\"
