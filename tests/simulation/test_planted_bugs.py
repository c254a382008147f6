"""The auditor finds every planted bug; without one the same seeds pass."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
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


def test_there_are_many() -> None:
    assert len(BUGS) >= 25
    assert SEEDS_MAX <= SEED_COUNT, "test_seeds.py runs these seeds without a bug"


def is_found(bug: str) -> bool:
    """Whether a seed fails with the bug in force."""
    with BUGS[bug]():
        for parts in (RARE.get(bug), *ELSEWHERE):
            for seed in range(FIRST_SEED, FIRST_SEED + SEEDS_MAX):
                try:
                    run_seed(seed, parts)
                except Failure:
                    return True
    return False


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> dict[str, bool]:
    """By bug, of those that this run of the tests is about. Two processes look for them, for there are many."""
    calls = [item.callspec for item in request.session.items if isinstance(item, pytest.Function) and _has_bug(item)]
    asked = sorted({str(call.params["bug"]) for call in calls})
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return dict(zip(asked, pool.map(is_found, asked), strict=True))


def _has_bug(item: pytest.Function) -> bool:
    return item.originalname == test_planted_bug_is_found.__name__


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_planted_bug_is_found(bug: str, found: dict[str, bool]) -> None:
    assert found[bug], f"{bug} was not found in {SEEDS_MAX} seeds, wherever they were looked for"


@pytest.mark.parametrize("parts", [*RARE.values(), *ELSEWHERE])
def test_where_rare_bugs_live_the_code_is_right(parts: Parts) -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS_MAX // 4):
        run_seed(seed, parts)
