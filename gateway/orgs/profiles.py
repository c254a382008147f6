"""Organisations beside the engine: branding, state, and which account they belong to.

Rules:
1. Everything works on the caller's connection, in its transaction. Whoever changes a state publishes
   `AccessChange("org", tenant_id)` **after** the commit.
2. An organisation without a row is open, belongs to nobody and has an empty profile. `locked` makes the row, so only
   call it for an organisation that the engine knows, or that is being opened.
3. **The quota of organisations is decided with the owner's account locked**, so that no two requests both take the last
   place. What is taken is a row; the engine opens the organisation after that, under the same request id, and a retry
   finds its place taken by itself.
4. Closed is for good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from actors.refusals import QUOTA_EXCEEDED
from actors.terms import Plan
from gateway.identity.policy import OrgState
from gateway.orgs import limits
from gateway.problems import Problem
from storage.postgres import Connection


class Profile(msgspec.Struct, frozen=True):
    """What the edge keeps of an organisation. `version` grows with every change, also of what the engine keeps."""

    tenant_id: str
    owner_id: str = ""
    state: OrgState = "open"
    display_name: str = ""
    logo_url: str = ""
    primary_color: str = ""
    accent_color: str = ""
    support_email: str = ""
    locale: str = ""
    allowed_origins: Sequence[str] = ()
    version: int = 1
    created_at_ms: int = 0


_COLUMNS = ", ".join(Profile.__struct_fields__)
# What `change` may be given.
CHANGEABLE = frozenset(
    {"display_name", "logo_url", "primary_color", "accent_color", "support_email", "locale", "allowed_origins"}
)


async def find(connection: Connection, tenant_id: str) -> Profile:
    """The profile; an empty one where there is no row."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM org_profiles WHERE tenant_id = $1", tenant_id)
    return Profile(tenant_id) if row is None else Profile(*row)


async def locked(connection: Connection, tenant_id: str, now_ms: int) -> Profile:
    """The profile, which nobody else changes until the transaction ends."""
    await connection.execute(
        "INSERT INTO org_profiles (tenant_id, created_at_ms, changed_at_ms) VALUES ($1, $2, $2) ON CONFLICT DO NOTHING",
        tenant_id,
        now_ms,
    )
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM org_profiles WHERE tenant_id = $1 FOR UPDATE", tenant_id)
    assert row is not None
    return Profile(*row)


async def change(connection: Connection, tenant_id: str, changes: Mapping[str, Any], now_ms: int) -> Profile:
    """Sets these fields (of `CHANGEABLE`, perhaps none) and counts the version up."""
    assert changes.keys() <= CHANGEABLE, changes
    await locked(connection, tenant_id, now_ms)
    sets = "".join(f", {name} = ${number}" for number, name in enumerate(changes, 3))
    row = await connection.fetchrow(
        f"UPDATE org_profiles SET version = version + 1, changed_at_ms = $2{sets} WHERE tenant_id = $1 "
        f"RETURNING {_COLUMNS}",
        tenant_id,
        now_ms,
        *changes.values(),
    )
    assert row is not None
    return Profile(*row)


async def set_state(connection: Connection, tenant_id: str, state: OrgState, now_ms: int) -> bool:
    """Suspends, resumes or closes; False where that is the state already. Raises `Problem` (`org_closed`)."""
    profile = await locked(connection, tenant_id, now_ms)
    if profile.state == state:
        return False
    if profile.state == "closed":
        raise Problem("org_closed", "A closed organisation stays closed.")
    await connection.execute(
        "UPDATE org_profiles SET state = $2, version = version + 1, changed_at_ms = $3 WHERE tenant_id = $1",
        tenant_id,
        state,
        now_ms,
    )
    if state == "closed" and profile.owner_id:
        await connection.execute(
            "UPDATE owned_orgs SET is_closed = true WHERE account_id = $1 AND tenant_id = $2",
            profile.owner_id,
            tenant_id,
        )
    return True


async def set_plan(connection: Connection, tenant_id: str, plan: Plan, now_ms: int) -> None:
    """Has the owner's quota follow the plan that the engine has put the organisation on."""
    profile = await change(connection, tenant_id, {}, now_ms)
    if profile.owner_id:
        await connection.execute(
            "UPDATE owned_orgs SET plan = $3 WHERE account_id = $1 AND tenant_id = $2",
            profile.owner_id,
            tenant_id,
            plan,
        )


async def take_place(connection: Connection, account_id: str, tenant_id: str, now_ms: int) -> bool:
    """Gives an organisation on the Free plan to an account (rule 3), or any to the platform (""). False where it has
    it already. Raises `Problem` (`quota_exceeded`, `limit_reached`)."""
    if account_id:
        await _take_place_of_owner(connection, account_id, tenant_id, now_ms)
    status: str = await connection.execute(
        "INSERT INTO org_profiles (tenant_id, owner_id, created_at_ms, changed_at_ms) VALUES ($1, $2, $3, $3) "
        "ON CONFLICT DO NOTHING",
        tenant_id,
        account_id,
        now_ms,
    )
    return status != "INSERT 0 0"


async def _take_place_of_owner(connection: Connection, account_id: str, tenant_id: str, now_ms: int) -> None:
    await connection.execute("SELECT FROM accounts WHERE account_id = $1 FOR UPDATE", account_id)
    row = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE tenant_id = $2) AS own, "
        "count(*) FILTER (WHERE plan = 'free' AND NOT is_closed) AS free, "
        "count(*) FILTER (WHERE created_at_ms > $3) AS recent FROM owned_orgs WHERE account_id = $1",
        account_id,
        tenant_id,
        now_ms - limits.ORGS_OPENED_PERIOD_MS,
    )
    assert row is not None
    if row["own"]:
        return
    if row["free"] >= limits.ORGS_PER_FREE_OWNER_MAX:
        raise Problem(
            QUOTA_EXCEEDED,
            f"On the Free plan one owner has at most {limits.ORGS_PER_FREE_OWNER_MAX} organisations; upgrade one of "
            "them to Premium, or close one.",
        )
    if row["recent"] >= limits.ORGS_OPENED_MAX:
        raise Problem("limit_reached", f"At most {limits.ORGS_OPENED_MAX} organisations are opened in 24 hours.")
    await connection.execute(
        "INSERT INTO owned_orgs (account_id, tenant_id, plan, created_at_ms) VALUES ($1, $2, 'free', $3)",
        account_id,
        tenant_id,
        now_ms,
    )


async def refused_states(connection: Connection, tenant_ids: Sequence[str]) -> dict[str, OrgState]:
    """Which of these organisations are not open, and why."""
    if not tenant_ids:
        return {}
    rows = await connection.fetch(
        "SELECT tenant_id, state FROM org_profiles WHERE tenant_id = ANY($1::text[]) AND state <> 'open'",
        list(tenant_ids),
    )
    return {row["tenant_id"]: row["state"] for row in rows}
