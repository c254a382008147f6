"""The reputation formula: one row for each factor and each bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.refusals import SCAN_REASONS
from rules.reputation import DAY_MS, REFUSAL_POINTS, START, History, reputation

NOW_MS = 1_800_000_000_000


def days_ago(days: int) -> int:
    return NOW_MS - days * DAY_MS


@pytest.mark.parametrize(
    ("history", "factor", "value", "points", "explanation"),
    [
        ({}, "visits", 0, 0, "Attended 0 events."),
        ({"events_attended": 1}, "visits", 1, 2, "Attended 1 event."),
        ({"events_attended": 10}, "visits", 10, 20, "Attended 10 events."),
        ({"events_attended": 11}, "visits", 11, 20, "Attended 11 events."),
        ({}, "days_known", 0, 0, "Has not visited yet."),
        ({"first_visit_ms": days_ago(29)}, "days_known", 29, 0, "First visit 29 days ago."),
        ({"first_visit_ms": days_ago(30)}, "days_known", 30, 1, "First visit 30 days ago."),
        ({"first_visit_ms": days_ago(999)}, "days_known", 999, 12, "First visit 999 days ago."),
        ({"first_visit_ms": NOW_MS + 5}, "days_known", 0, 0, "First visit 0 days ago."),
        ({"points_redeemed": 99}, "points_redeemed", 99, 0, "Redeemed 99 points."),
        ({"points_redeemed": 100}, "points_redeemed", 100, 1, "Redeemed 100 points."),
        ({"points_redeemed": 900}, "points_redeemed", 900, 8, "Redeemed 900 points."),
        ({"points_redeemed": -5}, "points_redeemed", 0, 0, "Redeemed 0 points."),
        ({}, "refused_scans", 0, 0, "No scan was refused for a fault."),
        ({"refused": {"full": 9, "event_not_open": 1}}, "refused_scans", 0, 0, "No scan was refused for a fault."),
        (
            {"refused": {"already_admitted": 2, "card_revoked": 1, "full": 3}},
            "refused_scans",
            3,
            -6,
            "Scans refused for what the person can help: 2 × already_admitted, 1 × card_revoked.",
        ),
        *(
            (
                {"refused": {reason: 1}},
                "refused_scans",
                1,
                points,
                f"Scans refused for what the person can help: 1 × {reason}.",
            )
            for reason, points in REFUSAL_POINTS.items()
        ),
        (
            {"refused": {"card_suspended": 16}},
            "refused_scans",
            16,
            -30,
            "Scans refused for what the person can help: 16 × card_suspended.",
        ),
        ({"cards_revoked": 1}, "revoked_cards", 1, -10, "1 card is revoked."),
        ({"cards_revoked": 3}, "revoked_cards", 3, -20, "3 cards are revoked."),
        ({"cards_suspended": 1}, "suspended_cards", 1, -8, "1 card is suspended."),
        ({"cards_suspended": 3}, "suspended_cards", 3, -16, "3 cards are suspended."),
    ],
)
def test_factors(history: dict[str, Any], factor: str, value: int, points: int, explanation: str) -> None:
    found = reputation(History(**history), NOW_MS)
    (named,) = [one for one in found.factors if one.name == factor]
    assert (named.value, named.points, named.explanation) == (value, points, explanation)
    assert found.score == START + points, "no other factor has a part in it"


def test_the_score_stays_within_its_bounds() -> None:
    best = History(events_attended=99, first_visit_ms=1, points_redeemed=10**9)
    worst = History(refused={"card_revoked": 99}, cards_revoked=9, cards_suspended=9)
    assert reputation(best, NOW_MS).score == START + 20 + 12 + 8
    assert reputation(worst, NOW_MS).score == 0


def test_only_reasons_that_exist_are_weighed() -> None:
    planned = {"credential_replayed", "not_eligible"}
    assert set(REFUSAL_POINTS) - planned <= set(SCAN_REASONS)


@given(
    events=st.integers(0, 10**6),
    redeemed=st.integers(-(10**9), 10**9),
    refused=st.dictionaries(st.sampled_from([*REFUSAL_POINTS, "full"]), st.integers(0, 10**6)),
    revoked=st.integers(0, 99),
)
def test_the_score_is_the_sum_of_what_it_explains(
    events: int, redeemed: int, refused: dict[str, int], revoked: int
) -> None:
    history = History(events_attended=events, points_redeemed=redeemed, refused=refused, cards_revoked=revoked)
    found = reputation(history, NOW_MS)
    assert found.score == max(0, min(100, START + sum(factor.points for factor in found.factors)))
