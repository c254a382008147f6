"""The auditor finds every planted bug; without one the same seeds pass."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context

import pytest

from tests.simulation.planting import BUGS
from tests.simulation.run import Failure, Parts, run_seed
from tests.simulation.test_seeds import FIRST_SEED, SEED_COUNT
from tests.simulation.world import Faults

# They put themselves on the list.
import_module("tests.simulation.bugs")
DOMAINS = (
    *("admission", "boards", "cards", "coupon_rules", "coupons", "decisions", "doors", "grants", "members", "points"),
    *("rules", "schedules", "tiers", "visits"),
)
for domain in DOMAINS:
    import_module(f"tests.simulation.bugs_of_{domain}")

SEEDS_MAX = 200
ALL_RESIDENT = {f"{kind}_resident_max": 100 for kind in ("boards", "cards", "events", "others")}
NOTHING_RESIDENT = {f"{kind}_resident_max": 0 for kind in ("boards", "cards", "events", "others")}
PATIENT = {"load_timeout_ms": 150, "wait_ms_max": 1_000, "memory_ms_min": 2_300, "alarms_interval_ms": 400}
# Rare ones are looked for where they live, so that the search stays short.
RARE = {
    # Where an alarm rings late, and something is told in between.
    "a_birthday_that_is_told_again_on_its_day_is_lost": Parts(Faults(), {"alarms_interval_ms": 4_000}),
    # Where little goes wrong, clients come further: a redemption is reversed after its points have lapsed.
    "no_grace": Parts(Faults()),
    # Where much is not projected at the end, an altered entry still reads as a fact now and then.
    "chain_not_verified": Parts(Faults(projector_crash=0.5)),
    # Where nothing goes wrong and nobody is put away, clients come as far as a card that is issued again.
    "a_visit_that_is_taken_back_stays_on_the_boards": Parts(Faults(), ALL_RESIDENT),
    "scanners_are_not_told_of_a_new_credential": Parts(Faults(), ALL_RESIDENT),
    "suspended_cards_have_birthdays": Parts(Faults()),
    "every_revocation_makes_room": Parts(Faults()),
    # Where hardly anything stays in memory, and clients wait for what is loaded slowly.
    "tail_dropped_under_a_load": Parts(Faults(load_slow=0.7), {**NOTHING_RESIDENT, **PATIENT}),
    "real_hint_lost_with_its_projector": Parts(Faults(projector_crash=0.3), {"journal_bytes_max": 1_500}),
    "real_superseded_while_opening_halts": Parts(Faults(wrong_owner=1.0, postgres_outage=0.3)),
}
# Where each of them is looked for next: what a seed does changes with every new command that clients know.
ELSEWHERE = (
    Parts(Faults(load_slow=0.4), {**NOTHING_RESIDENT, **PATIENT}),
    Parts(Faults(append_slow=0.2), ALL_RESIDENT),
    Parts(Faults(), ALL_RESIDENT),
)
SEEDS = range(FIRST_SEED, FIRST_SEED + SEEDS_MAX)
# Where the search was long it begins where it last ended: the number of the place (0 is where the bug lives, or any;
# then those of ELSEWHERE) and the seed. What has moved since is searched for as ever.
LAST_FOUND = {
    "a_condition_does_not_count_the_admission_itself": (2, 10042),
    "a_condition_is_not_looked_at": (0, 10068),
    "a_condition_without_a_value_lets_in": (0, 10068),
    "a_conflict_is_told_only_among_the_last_scans": (2, 10094),
    "a_conflict_stands_on_the_live_line_after_an_annulment": (0, 10057),
    "a_door_is_told_too_quickly_that_no_rule_is_meant": (0, 10055),
    "a_later_upload_takes_no_conflict_back": (0, 10057),
    "a_round_is_forgotten_with_its_memory": (0, 10035),
    "a_tier_set_until_a_time_rises": (0, 10040),
    "a_visit_of_any_day_is_of_this_month": (0, 10054),
    "a_visit_that_is_taken_back_stays_on_the_boards": (2, 10146),
    "an_exit_must_meet_the_condition": (0, 10078),
    "birthdays_are_those_of_the_old_time_zone": (0, 10043),
    "coupon_goes_by_a_tier_that_is_over": (1, 10082),
    "coupon_hold_that_lapsed_stays_on_its_bill": (0, 10041),
    "effects_go_one_level_too_deep": (0, 10030),
    "every_revocation_makes_room": (0, 10198),
    "facts_applied_twice": (0, 10052),
    "hold_ends_twice": (0, 10034),
    "no_grace": (0, 10181),
    "prizes_go_to_cards_that_are_suspended": (0, 10054),
    "real_claims_lost_at_restart": (0, 10074),
    "requests_forgotten_before_projected": (0, 10029),
    "scanners_are_not_told_of_a_new_credential": (0, 10177),
    "suspended_cards_are_walked_too": (0, 10054),
    "suspended_cards_have_birthdays": (0, 10033),
    "tail_dropped_under_a_load": (1, 10090),
    "what_is_annulled_stays_used": (0, 10032),
    "what_is_used_is_withdrawn": (0, 10069),
    "what_was_granted_stays_when_a_scan_is_annulled": (0, 10089),
}


def test_there_are_many() -> None:
    assert len(BUGS) >= 25
    assert SEEDS_MAX <= SEED_COUNT, "test_seeds.py runs these seeds without a bug"


def is_found(bug: str) -> bool:
    """Whether a seed fails with the bug in force."""
    places = (RARE.get(bug), *ELSEWHERE)
    tries = [(parts, seed) for parts in places for seed in SEEDS]
    if bug in LAST_FOUND:
        place, seed = LAST_FOUND[bug]
        tries.insert(0, (places[place], seed))
    with BUGS[bug]():
        return any(fails(seed, parts) for parts, seed in tries)


def fails(seed: int, parts: Parts | None) -> bool:
    """Whether the auditor objects to a seed."""
    try:
        run_seed(seed, parts)
    except Failure:
        return True
    return False


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[bool]]]:
    """By bug, of those that this run of the tests is about. Two processes look for them, for there are many."""
    calls = [item.callspec for item in request.session.items if isinstance(item, pytest.Function) and _has_bug(item)]
    asked = sorted({str(call.params["bug"]) for call in calls})
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield {bug: pool.submit(is_found, bug) for bug in asked}


def _has_bug(item: pytest.Function) -> bool:
    return item.originalname == test_planted_bug_is_found.__name__


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_planted_bug_is_found(bug: str, found: dict[str, Future[bool]]) -> None:
    assert found[bug].result(), f"{bug} was not found in {SEEDS_MAX} seeds, wherever they were looked for"


@pytest.mark.parametrize("parts", [*RARE.values(), *ELSEWHERE])
def test_where_rare_bugs_live_the_code_is_right(parts: Parts) -> None:
    for seed in SEEDS[: SEEDS_MAX // 4]:
        run_seed(seed, parts)
