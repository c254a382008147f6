"""Bugs in how cards come into tiers, planted on purpose: see `tests.simulation.bugs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec

import actors.judge
import actors.ledger
import actors.rule_run
import actors.tiers
from actors.calendar import local_day
from actors.ledger import LedgerDraft
from actors.rule_run import RuleRun
from actors.tiers import standing_of
from tests.simulation.planting import around, planted


def _with_policy(policy: str) -> Any:
    """Has reviews go by another policy than the organisation's."""
    original = actors.tiers._looked_at

    def looked_at(tenant: Any, card: Any, standing: Any) -> Any:
        tiers = tenant.settings.tiers
        if tiers is not None and tiers.policy != "keep":
            tiers = msgspec.structs.replace(tiers, policy=policy)
            settings = msgspec.structs.replace(tenant.settings, tiers=tiers)
            tenant = msgspec.structs.replace(tenant, settings=settings)
        return original(tenant, card, standing)

    return patch.object(actors.tiers, "_looked_at", looked_at)


@planted
def reviews_keep_everybody() -> Iterator[None]:
    with _with_policy("keep"):
        yield


@planted
def one_down_is_all_the_way_down() -> Iterator[None]:
    with _with_policy("by_points"):
        yield


@planted
def points_count_for_ever() -> Iterator[None]:
    original = actors.tiers.points_in_window
    with patch.object(actors.tiers, "points_in_window", lambda earned, day, window: original(earned, day, 700)):
        yield


@planted
def a_reversed_award_counts_on() -> Iterator[None]:
    def earn(original: Any, self: Any, earned: int, reversed_on: int) -> Any:
        return original(self, earned, reversed_on) if earned > 0 else None

    with around(LedgerDraft, "_earn", earn):
        yield


@planted
def points_are_of_the_day_of_utc() -> Iterator[None]:
    with patch.object(actors.tiers, "local_day", lambda at_ms, zone: local_day(at_ms, "UTC")):
        yield


@planted
def a_tier_set_until_a_time_rises() -> Iterator[None]:
    original = actors.tiers.risen

    def risen(tenant: Any, card: Any, standing: Any, *more: Any) -> Any:
        return original(tenant, card, standing._replace(is_held=False), *more)

    with patch.object(actors.ledger, "risen", risen):
        yield


@planted
def a_review_that_is_due_waits_for_its_alarm() -> Iterator[None]:
    """The door goes by the tier of before."""
    with patch.object(actors.judge, "tier_settled", lambda tenant, card, at_ms: ([], card)):
        yield


@planted
def a_review_leaves_no_date_for_the_next() -> Iterator[None]:
    original = actors.tiers._looked_at

    def looked_at(tenant: Any, card: Any, standing: Any) -> Any:
        return (*original(tenant, card, standing)[:2], 0)

    with patch.object(actors.tiers, "_looked_at", looked_at):
        yield


@planted
def a_rule_takes_what_a_person_has_set() -> Iterator[None]:
    def give(original: Any, self: Any, effect: Any) -> None:
        self.draft._standing = self.draft.standing._replace(is_held=False)
        original(self, effect)

    with around(RuleRun, "_give", give):
        yield


@planted
def a_tier_by_rule_is_never_reviewed() -> Iterator[None]:
    with patch.object(actors.rule_run, "review_ms", lambda tenant, tier, at_ms: 0):
        yield


@planted
def a_rise_moves_no_rules() -> Iterator[None]:
    def happens(original: Any, self: Any, trigger: str, depth: int = 0, **views: Any) -> None:
        if trigger != "tier_changed" or not depth or self._facts:
            original(self, trigger, depth, **views)

    with around(RuleRun, "happens", happens):
        yield


@planted
def the_rise_forgets_what_a_rule_has_set() -> Iterator[None]:
    def rise(original: Any, self: Any) -> Any:
        self._standing = standing_of(self._card)
        return original(self)

    with around(LedgerDraft, "rise", rise):
        yield
