"""What tests of security may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.edge.conftest import system
from tests.edge.in_process import running_system
from tests.security.people import seats_of
from tests.security.world import World
from tests.support.databases import temporary_database

__all__ = ["system"]
# Everything is asked by one address, and wrongly, too.
UNLIMITED = {"auth-failed-ip": "1000000/s", "pairing-failed-ip": "1000000/s"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(postgres_url: str, postgres_template: str) -> AsyncIterator[World]:
    """One for all: what a test changes it makes for itself."""
    async with temporary_database(postgres_url, postgres_template) as url, running_system(url, UNLIMITED) as system:
        world = World(system)
        await world.settle()
        for tenant in world.tenants:
            tenant.seats = await seats_of(world, tenant)
        yield world
