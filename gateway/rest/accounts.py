"""Accounts, as those see them who run the platform."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway import admin_log
from gateway.access_feed import AccessChange
from gateway.identity import accounts
from gateway.identity.accounts import AccountState
from gateway.problems import Problem
from gateway.render import rfc3339
from gateway.rest.auth import AccountView
from gateway.rest.common import Allowed, Call, PathId

Manager = Annotated[Call, Depends(Allowed("accounts.manage"))]
router = APIRouter(prefix="/v1/accounts", tags=["accounts"])


class ManagedAccountView(AccountView):
    """An account, as the platform sees it."""

    state: AccountState
    created_at: str


@router.get("/{account_id}", summary="An account (SuperAdmin)")
async def get_account(account_id: PathId, call: Manager) -> ManagedAccountView:
    """Whose it is and whether it is in force."""
    return await _account(call, account_id)


@router.post("/{account_id}/suspend", summary="Suspend an account (SuperAdmin)")
async def suspend(account_id: PathId, call: Manager) -> ManagedAccountView:
    """Its tokens stop working everywhere within a second, and its sockets are closed. Its sessions are good again when
    it is resumed."""
    return await _set_state(call, account_id, "suspended")


@router.post("/{account_id}/resume", summary="Resume an account (SuperAdmin)")
async def resume(account_id: PathId, call: Manager) -> ManagedAccountView:
    """Undoes a suspension."""
    return await _set_state(call, account_id, "active")


async def _set_state(call: Call, account_id: str, state: AccountState) -> ManagedAccountView:
    now_ms = call.parts.clock_ms()
    async with call.cold.connection() as connection, connection.transaction():
        if await accounts.set_state(connection, account_id, state, now_ms):
            await admin_log.note(
                connection, "", now_ms, call.caller, call.request_id, "accounts.manage", account_id, state=state
            )
    await call.parts.access.publish(AccessChange("account", account_id))
    return await _account(call, account_id)


async def _account(call: Call, account_id: str) -> ManagedAccountView:
    async with call.cold.connection() as connection:
        account = await accounts.find(connection, account_id)
    if account is None:
        raise Problem("account_unknown")
    return ManagedAccountView(
        id=account.account_id,
        email=account.email,
        name=account.name,
        verified=account.is_verified,
        state=account.state,
        created_at=rfc3339(account.created_at_ms),
    )
