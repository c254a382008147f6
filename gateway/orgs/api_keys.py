"""API keys as stored: what they may do, until when, and when they were used last.

Rules:
1. A key's secret is derived from the master secret, the key and the request that made or rotated it; there is only its
   hash here. A retry of that request gets the same secret.
2. A rotation gives the same key another secret. The one before goes on working for as long as was asked, and ends then
   whatever is remembered of it; with another rotation it ends at once.
3. The latest use is told within `KEY_USES_INTERVAL_S`, a batch per gateway, and never by a request that waits for it.
4. Everything but `KeyUses` works on the caller's connection, in its transaction. Whoever ends something publishes
   `AccessChange("api_key", …)` **after** the commit.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from gateway.identity.policy import OrgState
from gateway.identity.tokens import SecretMaker, Token
from gateway.orgs import limits, profiles
from gateway.problems import Problem
from storage.postgres import OUTAGES, Connection, Pool

_log = structlog.get_logger(__name__)


class KeyRow(msgspec.Struct, frozen=True):
    """A key for people to look at. Times are milliseconds since 1970, None where there is none."""

    key_id: str
    name: str
    scopes: list[str]
    created_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    rotated_at_ms: int | None
    previous_until_ms: int | None
    last_used_at_ms: int | None

    def is_in_force(self, now_ms: int) -> bool:
        """Whether it works."""
        return self.revoked_at_ms is None and (self.expires_at_ms is None or now_ms < self.expires_at_ms)


class Holder(msgspec.Struct, frozen=True):
    """Whose token it is: the hash of the secret it should have, and for how many milliseconds it is good (None: no
    end)."""

    secret_hash: bytes
    scopes: frozenset[str]
    org_state: OrgState
    life_ms: int | None


_COLUMNS = ", ".join(KeyRow.__struct_fields__)


def secret_of(secrets: SecretMaker, tenant_id: str, key_id: str, rotated_by: str = "") -> str:
    """A key's secret (rule 1); `rotated_by` is the request that rotated it, "" where none did."""
    return secrets.secret("api_key", tenant_id, key_id, *((rotated_by,) if rotated_by else ()))


async def add(
    connection: Connection,
    tenant_id: str,
    key_id: str,
    name: str,
    secret_hash: bytes,
    scopes: Sequence[str],
    expires_at_ms: int | None,
    now_ms: int,
) -> None:
    """Adds a key; one that is there already stays as it is. Raises `Problem` (`limit_reached`)."""
    await profiles.locked(connection, tenant_id, now_ms)
    in_force = await connection.fetchval(
        "SELECT count(*) FROM api_keys WHERE tenant_id = $1 AND key_id <> $2 AND revoked_at_ms IS NULL "
        "AND (expires_at_ms IS NULL OR expires_at_ms > $3)",
        tenant_id,
        key_id,
        now_ms,
    )
    if in_force >= limits.KEYS_IN_FORCE_MAX:
        raise Problem("limit_reached", f"At most {limits.KEYS_IN_FORCE_MAX} API keys are in force at a time.")
    await connection.execute(
        "INSERT INTO api_keys (tenant_id, key_id, name, secret_hash, scopes, created_at_ms, expires_at_ms) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        tenant_id,
        key_id,
        name,
        secret_hash,
        list(scopes),
        now_ms,
        expires_at_ms,
    )


async def page(connection: Connection, tenant_id: str, after: str, limit: int) -> list[KeyRow]:
    """Keys behind `after`, by id; those that were revoked, too."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM api_keys WHERE tenant_id = $1 AND key_id > $2 ORDER BY key_id LIMIT $3",
        tenant_id,
        after,
        limit,
    )
    return [KeyRow(*row) for row in rows]


async def rotate(
    connection: Connection,
    tenant_id: str,
    key_id: str,
    secret_hash: bytes,
    previous_until_ms: int | None,
    expires_at_ms: int | None,
    now_ms: int,
) -> KeyRow | None:
    """Gives a key another secret (rule 2), and another end if one is given. None where no such key is in force."""
    row = await connection.fetchrow(
        "UPDATE api_keys SET previous_hash = CASE WHEN $4::bigint IS NULL THEN NULL ELSE secret_hash END, "
        "previous_until_ms = $4, secret_hash = $3, rotated_at_ms = $6, expires_at_ms = coalesce($5, expires_at_ms) "
        "WHERE tenant_id = $1 AND key_id = $2 AND revoked_at_ms IS NULL "
        f"AND (expires_at_ms IS NULL OR expires_at_ms > $6) RETURNING {_COLUMNS}",
        tenant_id,
        key_id,
        secret_hash,
        previous_until_ms,
        expires_at_ms,
        now_ms,
    )
    return None if row is None else KeyRow(*row)


async def revoke(connection: Connection, tenant_id: str, key_id: str, now_ms: int) -> bool:
    """Ends a key; False when there is none that has not been revoked."""
    status: str = await connection.execute(
        "UPDATE api_keys SET revoked_at_ms = $3, previous_hash = NULL, previous_until_ms = NULL "
        "WHERE tenant_id = $1 AND key_id = $2 AND revoked_at_ms IS NULL",
        tenant_id,
        key_id,
        now_ms,
    )
    return status != "UPDATE 0"


async def holder_of(connection: Connection, token: Token, now_ms: int) -> Holder | None:
    """Whose token it is; None when the key is absent, revoked or expired."""
    row = await connection.fetchrow(
        "SELECT k.secret_hash, k.scopes, k.expires_at_ms, k.previous_hash, k.previous_until_ms, "
        "coalesce(p.state, 'open') AS org_state "
        "FROM api_keys k LEFT JOIN org_profiles p ON p.tenant_id = k.tenant_id "
        "WHERE k.tenant_id = $1 AND k.key_id = $2 AND k.revoked_at_ms IS NULL "
        "AND (k.expires_at_ms IS NULL OR k.expires_at_ms > $3)",
        token.tenant_id,
        token.holder_id,
        now_ms,
    )
    if row is None:
        return None
    ends = [row["expires_at_ms"]]
    secret_hash = row["secret_hash"]
    if row["previous_hash"] is not None and hmac.compare_digest(row["previous_hash"], token.secret_hash):
        if row["previous_until_ms"] <= now_ms:
            return None
        secret_hash = row["previous_hash"]
        ends.append(row["previous_until_ms"])
    end_ms = min((end for end in ends if end is not None), default=None)
    life_ms = None if end_ms is None else end_ms - now_ms
    return Holder(secret_hash, frozenset(row["scopes"]), row["org_state"], life_ms)


class KeyUses:
    """When keys were used, until it is written down (rule 3). `clock_ms` gives milliseconds since 1970."""

    def __init__(self, pool: Pool, clock_ms: Callable[[], int]) -> None:
        self._pool = pool
        self._clock_ms = clock_ms
        self._uses: dict[tuple[str, str], int] = {}

    def note(self, tenant_id: str, key_id: str) -> None:
        """A key was used. Beyond `KEY_USES_MAX` keys the others have to wait for the next batch."""
        if len(self._uses) < limits.KEY_USES_MAX:
            self._uses[tenant_id, key_id] = self._clock_ms()

    async def write(self) -> None:
        """Writes down what was noted. What cannot be written now is tried again with the next batch."""
        uses, self._uses = self._uses, {}
        if not uses:
            return
        # In one order everywhere, so that two gateways do not wait for each other's rows.
        rows: list[Any] = sorted((*key, at_ms) for key, at_ms in uses.items())
        try:
            await self._pool.execute(
                "UPDATE api_keys AS k SET last_used_at_ms = u.at_ms "
                "FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u (tenant_id, key_id, at_ms) "
                "WHERE k.tenant_id = u.tenant_id AND k.key_id = u.key_id "
                "AND (k.last_used_at_ms IS NULL OR k.last_used_at_ms < u.at_ms)",
                *map(list, zip(*rows, strict=True)),
            )
        except OUTAGES as outage:
            _log.warning("uses of API keys not written down", keys=len(uses), error=repr(outage))
            self._uses = uses | self._uses

    async def run(self) -> None:
        """Writes a batch every now and then, until it is cancelled."""
        while True:
            await asyncio.sleep(limits.KEY_USES_INTERVAL_S)
            await self.write()
