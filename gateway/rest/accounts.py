"""Accounts, as those see them who run the platform."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.access_feed import AccessChange
from gateway.identity import accounts
from gateway.identity.accounts import Account, AccountState
from gateway.identity.passwords import weakness
from gateway.ids import derived_id
from gateway.problems import FieldError, Problem
from gateway.render import rfc3339
from gateway.rest.auth import AccountView, Registration
from gateway.rest.common import Allowed, Call, PathId

Manager = Annotated[Call, Depends(Allowed("accounts.manage"))]
router = APIRouter(prefix="/v1/accounts", tags=["accounts"])


class NewAccount(Registration):
    """A new account; `verified` says that the address is known to be theirs."""

    verified: bool = False


class ManagedAccountView(AccountView):
    """An account, as the platform sees it."""

    state: AccountState
    created_at: str


@router.post("", status_code=201, summary="Make an account (SuperAdmin)")
async def make_account(body: NewAccount, call: Manager) -> ManagedAccountView:
    """For whoever is to have one without registering. Nobody is sent a mail."""
    reason = weakness(body.password, body.email, body.name)
    if reason is not None:
        raise Problem("password_weak", reason, [FieldError(reason, pointer="#/password")])
    password_hash = await call.parts.passwords.hash(body.password)
    now_ms = call.parts.clock_ms()
    account_id = derived_id("acc", body.email, call.request_id)
    verified_at_ms = now_ms if body.verified else None
    account = Account(
        account_id, body.email, body.name, password_hash, "", "active", body.locale, verified_at_ms, now_ms
    )
    async with call.cold.connection() as connection, connection.transaction():
        holder = await accounts.add(connection, account)
        if holder.account_id != account_id:
            raise Problem("email_taken", errors=[FieldError("The address has an account.", pointer="#/email")])
        await call.note(connection, account_id, at_ms=holder.created_at_ms, detail={"email": body.email})
    return _view(holder)


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
            await call.note(connection, account_id, at_ms=now_ms, detail={"state": state})
    await call.parts.access.publish(AccessChange("account", account_id))
    return await _account(call, account_id)


async def _account(call: Call, account_id: str) -> ManagedAccountView:
    async with call.cold.connection() as connection:
        account = await accounts.find(connection, account_id)
    if account is None:
        raise Problem("account_unknown")
    return _view(account)


def _view(account: Account) -> ManagedAccountView:
    return ManagedAccountView(
        id=account.account_id,
        email=account.email,
        name=account.name,
        verified=account.is_verified,
        state=account.state,
        created_at=rfc3339(account.created_at_ms),
    )
