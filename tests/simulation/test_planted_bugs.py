"""The auditor finds every planted bug; without one the same seeds pass (`test_seeds.py` runs them all)."""

from __future__ import annotations

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.run import Failure, run_seed
from tests.simulation.test_seeds import FIRST_SEED, SEED_COUNT

SEEDS_MAX = 400


def test_there_are_many() -> None:
    assert len(BUGS) >= 25


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_planted_bug_is_found(bug: str) -> None:
    assert SEEDS_MAX <= SEED_COUNT
    with BUGS[bug]():
        for seed in range(FIRST_SEED, FIRST_SEED + SEEDS_MAX):
            try:
                run_seed(seed)
            except Failure:
                return
    pytest.fail(f"{bug} was not found in {SEEDS_MAX} seeds")
