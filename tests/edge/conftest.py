"""What tests of the edge may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.edge.in_process import System, running_system


@pytest.fixture
async def system(migrated_database: str) -> AsyncIterator[System]:
    """The whole engine in this process."""
    async with running_system(migrated_database) as system:
        yield system
