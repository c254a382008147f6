"""Parts that accounts have in organisations, on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.identity import memberships
from gateway.identity.memberships import Membership
from storage.postgres import Connection


@pytest.fixture
async def connection(migrated_database: str) -> AsyncIterator[Connection]:
    made = await asyncpg.connect(migrated_database)
    yield made
    await made.close()


async def test_a_part_is_granted_changed_and_ended(connection: Connection) -> None:
    await memberships.grant(connection, "acc_1", "org_a", "staff", None, 10)
    await memberships.grant(connection, "acc_1", "org_a", "org_admin", None, 20)
    assert await memberships.of_account(connection, "acc_1") == [
        Membership("acc_1", "org_a", "org_admin", None, "active", 10)
    ]
    assert await memberships.end(connection, "acc_1", "org_a", 30)
    assert not await memberships.end(connection, "acc_1", "org_a", 31)
    assert await memberships.of_account(connection, "acc_1") == []
    assert await memberships.of_tenant(connection, "org_a") == []
    assert await memberships.find(connection, "acc_1", "org_a") is None


async def test_whoever_joins_again_begins_anew(connection: Connection) -> None:
    await memberships.grant(connection, "acc_1", "org_a", "org_admin", "mem_1", 10)
    await memberships.end(connection, "acc_1", "org_a", 20)
    await memberships.grant(connection, "acc_1", "org_a", "staff", None, 30)
    assert await memberships.find(connection, "acc_1", "org_a") == Membership(
        "acc_1", "org_a", "staff", None, "active", 30
    )


async def test_the_part_held_longest_comes_first(connection: Connection) -> None:
    await memberships.grant(connection, "acc_1", "org_a", "staff", None, 20)
    await memberships.grant(connection, "acc_1", "org_b", "staff", None, 10)
    assert [held.tenant_id for held in await memberships.of_account(connection, "acc_1")] == ["org_b", "org_a"]


async def test_an_organisations_people_come_in_pages(connection: Connection) -> None:
    for number in range(5):
        await memberships.grant(connection, f"acc_{number}", "org_a", "staff", None, number)
    await memberships.grant(connection, "acc_9", "org_b", "staff", None, 1)
    first = await memberships.of_tenant(connection, "org_a", limit=3)
    rest = await memberships.of_tenant(connection, "org_a", first[-1].account_id, limit=3)
    assert [held.account_id for held in [*first, *rest]] == [f"acc_{number}" for number in range(5)]


async def test_a_link_to_a_member_keeps_a_wider_role(connection: Connection) -> None:
    await memberships.grant(connection, "acc_1", "org_a", "staff", None, 10)
    await memberships.link(connection, "acc_1", "org_a", "mem_1", 20)
    await memberships.link(connection, "acc_2", "org_a", "mem_1", 20)
    assert [(held.account_id, held.role) for held in await memberships.of_member(connection, "org_a", "mem_1")] == [
        ("acc_1", "staff"),
        ("acc_2", "member"),
    ]
    assert await memberships.of_member(connection, "org_b", "mem_1") == []
    await memberships.grant(connection, "acc_1", "org_a", "org_admin", None, 30)
    held = await memberships.find(connection, "acc_1", "org_a")
    assert held is not None
    assert (held.role, held.member_id) == ("org_admin", "mem_1"), "another role leaves the link"


async def test_the_end_of_a_link_ends_the_part_of_a_mere_member(connection: Connection) -> None:
    await memberships.grant(connection, "acc_1", "org_a", "staff", "mem_1", 10)
    await memberships.link(connection, "acc_2", "org_a", "mem_1", 20)
    for account_id in ("acc_1", "acc_2"):
        await memberships.unlink(connection, account_id, "org_a", 30)
    assert await memberships.find(connection, "acc_1", "org_a") == Membership(
        "acc_1", "org_a", "staff", None, "active", 10
    )
    assert await memberships.find(connection, "acc_2", "org_a") is None
