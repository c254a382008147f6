"""A member's reputation: a score from 0 to 100 that explains itself.

Rules:
1. The score is what everybody starts with (`START`) and the points of `FACTORS`, kept within 0 and 100. Each factor has
   a bound of its own, so that none decides alone.
2. Everything comes from recorded facts; the same history gives the same score. Only refusals that say something about
   the person count: that an event was full, or not open yet, does not.
3. Pure: amounts and times come in, nothing is read.

| factor | points |
| --- | --- |
| `visits` | +2 for each event attended, up to +20 |
| `days_known` | +1 for every 30 days since the first visit, up to +12 |
| `points_redeemed` | +1 for every 100 points spent, up to +8 |
| `refused_scans` | by reason (`REFUSAL_POINTS`), from -1 for a second entry to -6 for a replayed code; down to -30 |
| `revoked_cards` | -10 for each card that is revoked, down to -20 |
| `suspended_cards` | -8 for each card that is suspended now, down to -16 |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

START: Final = 50
DAY_MS: Final = 86_400_000
POINTS_PER_EVENT: Final = 2
EVENTS_POINTS_MAX: Final = 20
DAYS_PER_POINT: Final = 30
DAYS_POINTS_MAX: Final = 12
REDEEMED_PER_POINT: Final = 100
REDEEMED_POINTS_MAX: Final = 8
REFUSAL_POINTS: Final[Mapping[str, int]] = {
    "credential_replayed": -6,
    "card_revoked": -4,
    "card_suspended": -2,
    "card_expired": -1,
    "credential_expired": -1,
    "already_admitted": -1,
    "not_eligible": -1,
}
REFUSALS_POINTS_MIN: Final = -30
REVOKED_POINTS: Final = -10
REVOKED_POINTS_MIN: Final = -20
SUSPENDED_POINTS: Final = -8
SUSPENDED_POINTS_MIN: Final = -16


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of a member. `first_visit_ms` is 0 before the first; `refused` counts scans by reason;
    `points_redeemed` is what was spent and not given back."""

    events_attended: int = 0
    first_visit_ms: int = 0
    points_redeemed: int = 0
    refused: Mapping[str, int] = msgspec.field(default_factory=dict)
    cards_revoked: int = 0
    cards_suspended: int = 0


class Factor(msgspec.Struct, frozen=True):
    """One part of the score: what was counted, what that is worth, and why, in words."""

    name: str
    value: int
    points: int
    explanation: str


class Reputation(msgspec.Struct, frozen=True):
    """`score` is `START` and the factors' points, within 0 and 100."""

    score: int
    factors: tuple[Factor, ...]


def reputation(history: History, now_ms: int) -> Reputation:
    """The score as of `now_ms`."""
    factors = (
        _visits(history),
        _days_known(history, now_ms),
        _points_redeemed(history),
        _refused_scans(history),
        _cards("revoked_cards", "revoked", history.cards_revoked, REVOKED_POINTS, REVOKED_POINTS_MIN),
        _cards("suspended_cards", "suspended", history.cards_suspended, SUSPENDED_POINTS, SUSPENDED_POINTS_MIN),
    )
    score = START + sum(factor.points for factor in factors)
    return Reputation(max(0, min(100, score)), factors)


def _visits(history: History) -> Factor:
    count = history.events_attended
    points = min(count * POINTS_PER_EVENT, EVENTS_POINTS_MAX)
    return Factor("visits", count, points, f"Attended {_counted(count, 'event')}.")


def _days_known(history: History, now_ms: int) -> Factor:
    if not history.first_visit_ms:
        return Factor("days_known", 0, 0, "Has not visited yet.")
    days = max(0, now_ms - history.first_visit_ms) // DAY_MS
    points = min(days // DAYS_PER_POINT, DAYS_POINTS_MAX)
    return Factor("days_known", days, points, f"First visit {_counted(days, 'day')} ago.")


def _points_redeemed(history: History) -> Factor:
    amount = max(0, history.points_redeemed)
    points = min(amount // REDEEMED_PER_POINT, REDEEMED_POINTS_MAX)
    return Factor("points_redeemed", amount, points, f"Redeemed {_counted(amount, 'point')}.")


def _refused_scans(history: History) -> Factor:
    counted = {reason: count for reason, count in sorted(history.refused.items()) if reason in REFUSAL_POINTS and count}
    points = max(sum(REFUSAL_POINTS[reason] * count for reason, count in counted.items()), REFUSALS_POINTS_MIN)
    told = ", ".join(f"{count} × {reason}" for reason, count in counted.items())
    explanation = f"Scans refused for what the person can help: {told}." if told else "No scan was refused for a fault."
    return Factor("refused_scans", sum(counted.values()), points, explanation)


def _cards(name: str, state: str, count: int, points_each: int, points_min: int) -> Factor:
    is_now = "is" if count == 1 else "are"
    return Factor(name, count, max(count * points_each, points_min), f"{_counted(count, 'card')} {is_now} {state}.")


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
