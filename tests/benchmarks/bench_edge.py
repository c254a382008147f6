"""A credential, seen for the first time and again; rules, where none applies and where three of ten do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from actors.calendar import local_day
from actors.checkin import decide_check_in
from actors.rulebook import Rulebook
from actors.visits import NO_VISITS, admitted
from gateway.credentials import CredentialBook
from rules.language import AwardPoints, RuleDefinition
from tests.core.build import NOW_MS, card, check_in, event, tenant

Bench = Callable[..., Any]
SECRET = b"s" * 32


def test_credential_seen_before(benchmark: Bench) -> None:
    book = CredentialBook(SECRET)
    text = book.issue("org", "card", "gold", NOW_MS)
    assert benchmark(book.read, text, NOW_MS) is not None


def test_credential_new(benchmark: Bench) -> None:
    book = CredentialBook(SECRET, cache_entries=1)
    texts = [book.issue("org", f"card_{number}", "gold", NOW_MS) for number in range(64)]
    numbers = count()
    assert benchmark(lambda: book.read(texts[next(numbers) % 64], NOW_MS)) is not None


@pytest.mark.parametrize("applying", [0, 3])
def test_check_in_with_ten_rules(benchmark: Bench, applying: int) -> None:
    organisation, day = tenant(), local_day(NOW_MS, tenant().settings.time_zone)
    rules = Rulebook()
    for number in range(10):
        told: dict[str, Any] = {"version": 1, "name": "R", "on": "checkin", "state": "active"}
        when = "card.tier == 'gold'" if number < applying else "card.tier == 'diamond'"
        rules = rules.with_rule(RuleDefinition(rule_id=f"rule_{number}", when=when, then=(AwardPoints(5),), **told))
    organisation.rulebook = rules
    seen = admitted(NO_VISITS, day, "event")[0]
    facts = benchmark(decide_check_in, organisation, card(visits=seen), event(), check_in(), NOW_MS)
    assert len(facts[0].rules) == applying
