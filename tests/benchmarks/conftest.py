"""`pytest tests/benchmarks -o python_files='bench_*.py'`; with `--small` everything once on little, as a test."""

from __future__ import annotations

import pytest

from tests.benchmarks.town import Town

CARDS, CARDS_SMALL = 100_000, 400
MEMBERS, MEMBERS_SMALL = 1_000_000, 1_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--small", action="store_true", help="little data: to see that the benchmarks run")


@pytest.fixture(scope="session")
def members(request: pytest.FixtureRequest) -> int:
    return MEMBERS_SMALL if request.config.getoption("--small") else MEMBERS


@pytest.fixture(scope="session")
def town(request: pytest.FixtureRequest) -> Town:
    """All cards have been in once."""
    made = Town(CARDS_SMALL if request.config.getoption("--small") else CARDS)
    for _ in range(0, made.cards, 200):
        assert made.take(made.scans(200)) == 200
    made.entries.clear()
    return made
