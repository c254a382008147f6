"""What the edge keeps in Postgres itself: who calls, members, and the answers of cold POSTs.

Rules:
1. `tenant_id` leads every key and every condition; a foreign row and an absent one look the same.
2. No secret is stored: hashes of tokens and codes only (`gateway.identity.tokens`).
3. `once` executes a cold POST and remembers its answer in one transaction, so that a retry with the same request id
   gets the same answer. What is remembered has no secrets in it; those are derived again.
4. When Postgres is away, everything here raises `StoreUnavailable`.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from actors.ports import StoreUnavailable
from actors.refusals import ID_REUSED
from gateway import devices
from gateway.devices import Sightings
from gateway.identity import accounts
from gateway.identity.callers import Caller, CallerRecord, Person
from gateway.identity.tokens import Token
from gateway.orgs import api_keys, profiles
from gateway.orgs.api_keys import KeyUses
from gateway.problems import Problem
from storage.postgres import DATA_FAULTS, OUTAGES, Connection, Pool

Work = Callable[[Connection], Awaitable[dict[str, Any]]]
_encode = msgspec.json.encode


class ColdStore:
    """Queries of the cold services, on the gateway's pool. `key_uses` is told which API keys are used, `sightings`
    which devices have called."""

    def __init__(
        self,
        pool: Pool,
        clock_ms: Callable[[], int],
        key_uses: KeyUses | None = None,
        sightings: Sightings | None = None,
    ) -> None:
        self._pool = pool
        self._clock_ms = clock_ms
        self.key_uses = key_uses
        self.sightings = sightings

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection; rule 4."""
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except DATA_FAULTS:
            raise
        except OUTAGES as outage:
            raise StoreUnavailable(str(outage)) from outage

    async def once(self, tenant_id: str, request_id: str, fingerprint: bytes, work: Work) -> dict[str, Any]:
        """Rule 3. Raises `Problem` (`id_reused`) for the same id with another request; whoever comes while the same
        request is being executed waits for it."""
        async with self.connection() as connection, connection.transaction():
            is_first = await connection.fetchval(
                "INSERT INTO cold_requests (tenant_id, request_id, fingerprint, status, response, at_ms) "
                "VALUES ($1, $2, $3, 201, 'null', $4) ON CONFLICT DO NOTHING RETURNING true",
                tenant_id,
                request_id,
                fingerprint,
                self._clock_ms(),
            )
            if not is_first:
                row = await connection.fetchrow(
                    "SELECT fingerprint, response FROM cold_requests WHERE tenant_id = $1 AND request_id = $2",
                    tenant_id,
                    request_id,
                )
                if row is None or row["fingerprint"] != fingerprint:
                    raise Problem(ID_REUSED)
                remembered: dict[str, Any] = msgspec.json.decode(row["response"])
                return remembered
            answer = await work(connection)
            await connection.execute(
                "UPDATE cold_requests SET response = $3 WHERE tenant_id = $1 AND request_id = $2",
                tenant_id,
                request_id,
                _encode(answer).decode(),
            )
            return answer

    # --- callers ------------------------------------------------------------------------------------------------------

    async def find_holder(self, token: Token) -> CallerRecord | None:
        """See `gateway.identity.callers.CallerStore`."""
        async with self.connection() as connection:
            if token.kind == "api_key":
                return await self._key_holder(connection, token)
            return await self._device_holder(connection, token)

    async def _device_holder(self, connection: Connection, token: Token) -> CallerRecord | None:
        holder = await devices.holder_of(connection, token)
        if holder is None:
            return None
        if self.sightings is not None and hmac.compare_digest(holder.token_hash, token.secret_hash):
            self.sightings.note(token.tenant_id, token.holder_id)
        caller = Caller(
            token.tenant_id,
            "device",
            device_id=token.holder_id,
            event_id=holder.event_id,
            gate_id=holder.gate_id,
            org_state=holder.org_state,
        )
        return CallerRecord(holder.token_hash, caller)

    async def _key_holder(self, connection: Connection, token: Token) -> CallerRecord | None:
        holder = await api_keys.holder_of(connection, token, self._clock_ms())
        if holder is None:
            return None
        if self.key_uses is not None and hmac.compare_digest(holder.secret_hash, token.secret_hash):
            self.key_uses.note(token.tenant_id, token.holder_id)
        caller = Caller(token.tenant_id, "api_key", holder.scopes, key_id=token.holder_id, org_state=holder.org_state)
        return CallerRecord(holder.secret_hash, caller, holder.life_ms)

    async def find_person(self, account_id: str, session_id: str) -> Person | None:
        """See `gateway.identity.callers.CallerStore`."""
        async with self.connection() as connection:
            person = await accounts.standing(connection, account_id, session_id, self._clock_ms())
            if person is None or not person.parts:
                return person
            states = await profiles.refused_states(connection, list(person.parts))
        return msgspec.structs.replace(person, org_states=states) if states else person
