"""Scanner devices in Postgres: pairing codes, the devices that were paired, and when each was last seen.

Rules:
1. A device exists once it is paired. A code makes a new device, or gives a known one a new token; the one it had dies
   in the same transaction.
2. Revoking is final: a revoked device stays in the list, gets no new token and no change.
3. A device is bound to an event, or to its whole organisation (`event_id` "").
4. When a device was last seen is told by `Sightings`, at most once in `LAST_SEEN_EVERY_MS`, all of a gateway in one
   statement, and never by whoever serves the device: nothing waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from gateway import limits
from gateway.identity.policy import OrgState
from gateway.identity.tokens import Token
from storage import logs
from storage.postgres import OUTAGES, Connection, Pool

_log = structlog.get_logger(__name__)
_COLUMNS = ", ".join(logs.DEVICE_COLUMNS)


class DeviceRow(msgspec.Struct, frozen=True):
    """A device as stored. `event_id` and `gate_id` are "" where it is bound to none."""

    device_id: str
    event_id: str
    gate_id: str
    name: str
    created_at_ms: int
    paired_at_ms: int
    last_seen_ms: int | None
    revoked_at_ms: int | None


class Holder(msgspec.Struct, frozen=True):
    """What a device's token stands for."""

    token_hash: bytes
    event_id: str
    gate_id: str
    org_state: OrgState


class PairingCode(msgspec.Struct, frozen=True):
    """What a code does: with `device_id` it pairs that one again, else it makes a device with the other fields."""

    event_id: str
    name: str
    gate_id: str = ""
    device_id: str = ""


class Paired(msgspec.Struct, frozen=True):
    """A device that has just got its token; `is_again` where it had one before, `is_replay` where it has been given
    this one already."""

    device: DeviceRow
    is_again: bool
    is_replay: bool = False


async def add_pairing_code(
    connection: Connection, tenant_id: str, code_hash: bytes, code: PairingCode, now_ms: int
) -> int:
    """Adds a code, and returns until when it is good. Codes that ended a day ago are cleared away."""
    until_ms = now_ms + limits.PAIRING_CODE_VALID_MS
    await connection.execute(
        "DELETE FROM pairing_codes WHERE tenant_id = $1 AND expires_at_ms < $2",
        tenant_id,
        now_ms - limits.PAIRING_CODE_KEPT_MS,
    )
    await connection.execute(
        "INSERT INTO pairing_codes (tenant_id, code_hash, event_id, device_name, gate_id, device_id, created_at_ms, "
        "expires_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        tenant_id,
        code_hash,
        code.event_id,
        code.name,
        code.gate_id,
        code.device_id,
        now_ms,
        until_ms,
    )
    return until_ms


async def pair(
    connection: Connection, tenant_id: str, code_hash: bytes, new_device_id: str, token_hash: bytes, now_ms: int
) -> Paired | None:
    """Uses a code up, within the caller's transaction. None where the code is unknown, expired or of a device that is
    revoked. A code that was used within `PAIRING_REPLAY_MS` finds its device as long as the hash is the same."""
    row = await connection.fetchrow(
        "SELECT event_id, device_name, gate_id, device_id, expires_at_ms, used_at_ms FROM pairing_codes "
        "WHERE tenant_id = $1 AND code_hash = $2 FOR UPDATE",
        tenant_id,
        code_hash,
    )
    if row is None:
        return None
    device_id = row["device_id"] or new_device_id
    if row["used_at_ms"] is not None:
        is_same = await connection.fetchval(
            "SELECT true FROM devices WHERE tenant_id = $1 AND device_id = $2 AND token_hash = $3 "
            "AND revoked_at_ms IS NULL",
            tenant_id,
            device_id,
            token_hash,
        )
        is_recent = now_ms - row["used_at_ms"] < limits.PAIRING_REPLAY_MS
        device = await find(connection, tenant_id, device_id) if is_same and is_recent else None
        return None if device is None else Paired(device, False, True)
    if row["expires_at_ms"] <= now_ms:
        return None
    await connection.execute(
        "UPDATE pairing_codes SET used_at_ms = $3 WHERE tenant_id = $1 AND code_hash = $2", tenant_id, code_hash, now_ms
    )
    if row["device_id"]:
        return await _pair_again(connection, tenant_id, device_id, token_hash, now_ms)
    await connection.execute(
        "INSERT INTO devices (tenant_id, device_id, event_id, gate_id, name, token_hash, created_at_ms, paired_at_ms) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
        tenant_id,
        device_id,
        row["event_id"],
        row["gate_id"],
        row["device_name"],
        token_hash,
        now_ms,
    )
    device = await find(connection, tenant_id, device_id)
    return None if device is None else Paired(device, False)


async def _pair_again(
    connection: Connection, tenant_id: str, device_id: str, token_hash: bytes, now_ms: int
) -> Paired | None:
    row = await connection.fetchrow(
        f"UPDATE devices SET token_hash = $3, paired_at_ms = $4 "
        f"WHERE tenant_id = $1 AND device_id = $2 AND revoked_at_ms IS NULL RETURNING {_COLUMNS}",
        tenant_id,
        device_id,
        token_hash,
        now_ms,
    )
    return None if row is None else Paired(DeviceRow(*row), True)


async def holder_of(connection: Connection, token: Token) -> Holder | None:
    """Whose token it is; None when the device is absent or revoked."""
    row = await connection.fetchrow(
        "SELECT d.token_hash, d.event_id, d.gate_id, coalesce(p.state, 'open') "
        "FROM devices d LEFT JOIN org_profiles p ON p.tenant_id = d.tenant_id "
        "WHERE d.tenant_id = $1 AND d.device_id = $2 AND d.revoked_at_ms IS NULL",
        token.tenant_id,
        token.holder_id,
    )
    return None if row is None else Holder(*row)


async def count_in_force(connection: Connection, tenant_id: str) -> int:
    """How many devices are not revoked."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM devices WHERE tenant_id = $1 AND revoked_at_ms IS NULL", tenant_id
    )
    return count


async def find(connection: Connection, tenant_id: str, device_id: str, *, is_locking: bool = False) -> DeviceRow | None:
    """A device, revoked ones too."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM devices WHERE tenant_id = $1 AND device_id = $2{' FOR UPDATE' if is_locking else ''}",
        tenant_id,
        device_id,
    )
    return None if row is None else DeviceRow(*row)


async def change(
    connection: Connection, tenant_id: str, device_id: str, name: str, event_id: str, gate_id: str
) -> None:
    """Sets what may change of a device."""
    await connection.execute(
        "UPDATE devices SET name = $3, event_id = $4, gate_id = $5 WHERE tenant_id = $1 AND device_id = $2",
        tenant_id,
        device_id,
        name,
        event_id,
        gate_id,
    )


async def revoke(connection: Connection, tenant_id: str, device_id: str, now_ms: int) -> int | None:
    """Revokes a device, for good; when that was done, now or before. None where there is no such device."""
    revoked_at_ms: int | None = await connection.fetchval(
        "UPDATE devices SET revoked_at_ms = coalesce(revoked_at_ms, $3) WHERE tenant_id = $1 AND device_id = $2 "
        "RETURNING revoked_at_ms",
        tenant_id,
        device_id,
        now_ms,
    )
    return revoked_at_ms


class Sightings:
    """Which devices have called, until it is written down (rule 4). `clock_ms` gives milliseconds since 1970."""

    def __init__(self, pool: Pool, clock_ms: Callable[[], int]) -> None:
        self._pool = pool
        self._clock_ms = clock_ms
        self._seen: dict[tuple[str, str], int] = {}
        self._written: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, tenant_id: str, device_id: str) -> None:
        """A device has just proved who it is."""
        key = (tenant_id, device_id)
        now_ms = self._clock_ms()
        if now_ms - self._written.get(key, 0) < limits.LAST_SEEN_EVERY_MS:
            return
        if key in self._seen or len(self._seen) < limits.DEVICES_SEEN_MAX:
            self._seen[key] = now_ms

    async def run(self) -> None:
        """Writes down a batch every `LAST_SEEN_WRITE_MS`, until cancelled."""
        while True:
            await asyncio.sleep(limits.LAST_SEEN_WRITE_MS / 1_000)
            await self.write()

    async def write(self) -> None:
        """Writes down what was noted. What cannot be written now is tried again with the next batch."""
        oldest_ms = self._clock_ms() - limits.LAST_SEEN_EVERY_MS
        self._written = {key: at_ms for key, at_ms in self._written.items() if at_ms > oldest_ms}
        seen, self._seen = self._seen, {}
        if not seen:
            return
        # In one order everywhere, so that two gateways do not wait for each other's rows.
        rows: list[Any] = sorted((*key, at_ms) for key, at_ms in seen.items())
        try:
            await self._pool.execute(
                "UPDATE devices AS d SET last_seen_ms = u.at_ms "
                "FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u (tenant_id, device_id, at_ms) "
                "WHERE d.tenant_id = u.tenant_id AND d.device_id = u.device_id "
                "AND coalesce(d.last_seen_ms, 0) <= u.at_ms - $4::bigint",
                *map(list, zip(*rows, strict=True)),
                limits.LAST_SEEN_EVERY_MS,
            )
        except OUTAGES as outage:
            _log.warning("devices' last seen not written down", devices=len(seen), error=repr(outage))
            self._seen = seen | self._seen
            return
        self._written.update(seen)
