"""What the edge keeps in Postgres itself: members, API keys, devices, pairing codes, and the answers of cold POSTs.

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
from gateway import limits
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
    """Queries of the cold services, on the gateway's pool. `key_uses` is told which API keys are used."""

    def __init__(self, pool: Pool, clock_ms: Callable[[], int], key_uses: KeyUses | None = None) -> None:
        self._pool = pool
        self._clock_ms = clock_ms
        self.key_uses = key_uses

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
            device = await connection.fetchrow(
                "SELECT d.token_hash, d.event_id, coalesce(p.state, 'open') AS org_state "
                "FROM devices d LEFT JOIN org_profiles p ON p.tenant_id = d.tenant_id "
                "WHERE d.tenant_id = $1 AND d.device_id = $2 AND d.revoked_at_ms IS NULL",
                token.tenant_id,
                token.holder_id,
            )
        if device is None:
            return None
        caller = Caller(
            token.tenant_id,
            "device",
            device_id=token.holder_id,
            event_id=device["event_id"],
            org_state=device["org_state"],
        )
        return CallerRecord(device["token_hash"], caller)

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

    async def revoke_device(self, connection: Connection, tenant_id: str, device_id: str) -> bool:
        """Revokes a device; False when there is none in force."""
        status: str = await connection.execute(
            "UPDATE devices SET revoked_at_ms = $3 WHERE tenant_id = $1 AND device_id = $2 AND revoked_at_ms IS NULL",
            tenant_id,
            device_id,
            self._clock_ms(),
        )
        return status != "UPDATE 0"

    # --- pairing ------------------------------------------------------------------------------------------------------

    async def add_pairing_code(
        self, connection: Connection, tenant_id: str, code_hash: bytes, event_id: str, device_name: str, until_ms: int
    ) -> None:
        """Adds a code that pairs one device with the event until `until_ms`."""
        await connection.execute(
            "INSERT INTO pairing_codes (tenant_id, code_hash, event_id, device_name, created_at_ms, expires_at_ms) "
            "VALUES ($1, $2, $3, $4, $5, $6)",
            tenant_id,
            code_hash,
            event_id,
            device_name,
            self._clock_ms(),
            until_ms,
        )

    async def pair(
        self, tenant_id: str, code_hash: bytes, device_id: str, token_hash: bytes
    ) -> tuple[str, str, bool] | None:
        """Uses a code up and makes the device. Returns event, name and whether this was the first use; None when the
        code is unknown or expired. A code used within `PAIRING_REPLAY_MS` finds its device as long as the hash is the
        same."""
        now = self._clock_ms()
        async with self.connection() as connection, connection.transaction():
            row = await connection.fetchrow(
                "SELECT event_id, device_name, expires_at_ms, used_at_ms FROM pairing_codes "
                "WHERE tenant_id = $1 AND code_hash = $2 FOR UPDATE",
                tenant_id,
                code_hash,
            )
            if row is None:
                return None
            if row["used_at_ms"] is not None:
                is_same = await connection.fetchval(
                    "SELECT true FROM devices WHERE tenant_id = $1 AND device_id = $2 AND token_hash = $3 "
                    "AND revoked_at_ms IS NULL",
                    tenant_id,
                    device_id,
                    token_hash,
                )
                is_recent = now - row["used_at_ms"] < limits.PAIRING_REPLAY_MS
                return (row["event_id"], row["device_name"], False) if is_same and is_recent else None
            if row["expires_at_ms"] <= now:
                return None
            await connection.execute(
                "UPDATE pairing_codes SET used_at_ms = $3 WHERE tenant_id = $1 AND code_hash = $2",
                tenant_id,
                code_hash,
                now,
            )
            await connection.execute(
                "INSERT INTO devices (tenant_id, device_id, event_id, name, token_hash, created_at_ms) "
                "VALUES ($1, $2, $3, $4, $5, $6)",
                tenant_id,
                device_id,
                row["event_id"],
                row["device_name"],
                token_hash,
                now,
            )
            return row["event_id"], row["device_name"], True
