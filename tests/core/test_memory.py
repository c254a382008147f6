"""What a resident card takes: a million of them fit into 600 MB."""

from __future__ import annotations

import msgspec

from actors.card import Card
from actors.facts import CardIssued
from actors.profiles import NO_PROFILE, Profile
from actors.residents import Residents
from actors.seldom import NOTHING_SELDOM, with_seldom
from actors.visits import NO_VISITS, admitted
from tests.benchmarks.memory import BYTES_MAX, bytes_each, bytes_of, measured

CARDS = 1_000


def test_a_card_takes_no_more_than_it_may() -> None:
    found = measured(CARDS)
    assert all(size <= BYTES_MAX for size in found.values()), found
    assert found["fresh"] < found["used once"]


def test_all_that_a_card_leads_to_is_counted() -> None:
    plain = Card("org", "card", "member", "Ann", "gold", 0, 0)
    longer = msgspec.structs.replace(plain, member_name="A" * 1_000)
    described = msgspec.structs.replace(plain, seldom=with_seldom(plain.seldom, profile=Profile(1, 2, "A" * 1_000)))
    assert bytes_of([longer]) > bytes_of([plain]) + 900
    assert bytes_of([described]) > bytes_of([plain]) + 900
    assert bytes_of([plain, plain]) == bytes_of([plain])
    assert bytes_each({"card": plain}) > bytes_of([plain]) + 24, "its slot counts"


def test_what_is_back_to_nothing_is_shared_again() -> None:
    noted = with_seldom(NOTHING_SELDOM, attention="Ask for the manager")
    assert noted != NOTHING_SELDOM
    assert with_seldom(noted, attention="") is NOTHING_SELDOM
    assert with_seldom(NOTHING_SELDOM, profile=Profile()) is NOTHING_SELDOM
    assert NOTHING_SELDOM.profile is NO_PROFILE


def test_cards_that_came_to_the_same_have_the_same_visits() -> None:
    first, _ = admitted(NO_VISITS, 20261123, "evt")
    other, _ = admitted(NO_VISITS, 20261123, "".join(("e", "vt")))
    assert first is not None
    assert first is other
    assert admitted(NO_VISITS, 20261123, "another")[0] != first


def test_cards_share_the_texts_that_there_are_few_of() -> None:
    residents = Residents()
    for number in range(2):
        tier, org = "".join(("go", "ld")), "".join(("o", "rg"))
        fact = CardIssued(org, f"req-{number}", b"", 1, f"card{number}", "member", "Ann", tier)  # type: ignore[arg-type]
        residents.recover(fact, number + 1)
    first, second = residents.cards.values()
    assert first.tier is second.tier
    assert first.tenant_id is second.tenant_id
