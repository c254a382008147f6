"""The auditor finds every planted bug; without one the same seeds pass (`test_seeds.py` runs them all)."""

from __future__ import annotations

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.run import Failure, run_seed
from tests.simulation.test_seeds import FIRST_SEED, SEED_COUNT

SEEDS_MAX = 200
# Rare ones: the search begins where they are known to show, so that it stays short.
FIRST_SEEDS = {"tail_dropped_under_a_load": 10_380, "real_hint_lost_with_its_projector": 10_460}


def test_there_are_many() -> None:
    assert len(BUGS) >= 25


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_planted_bug_is_found(bug: str) -> None:
    assert FIRST_SEEDS.get(bug, FIRST_SEED) + SEEDS_MAX <= FIRST_SEED + SEED_COUNT, "seeds that pass without the bug"
    with BUGS[bug]():
        first = FIRST_SEEDS.get(bug, FIRST_SEED)
        for seed in range(first, first + SEEDS_MAX):
            try:
                run_seed(seed)
            except Failure:
                return
    pytest.fail(f"{bug} was not found in {SEEDS_MAX} seeds")
