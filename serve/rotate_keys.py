"""`mastervip rotate-keys`: a new key for access tokens, in a running system.

Without `--revoke` nobody notices: the new key is published at once and signs once everybody can know it. With it the
keys until now are worth nothing any more, for when one may have leaked: all clients have to refresh their tokens.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
from click import ClickException, echo

from actors.ports import StoreUnavailable
from gateway.identity.limits import KEY_REFRESH_INTERVAL_MS
from gateway.limits import IDENTITY_FRESH_MS
from serve import connection, log_output
from serve.connection import NotRunning
from serve.edge import signing_keys
from serve.settings import Settings, resolved
from storage.postgres import reader_pool

REVOKED_WITHIN_S = (KEY_REFRESH_INTERVAL_MS + IDENTITY_FRESH_MS) // 1_000


async def rotate(settings: Settings, *, is_revoking: bool) -> dict[str, Any]:
    """Makes the key. Returns its id, when it begins to sign, and which keys are published. Raises
    `StoreUnavailable`."""
    assert settings.postgres_url is not None
    pool = await reader_pool(settings.postgres_url.get_secret_value(), 1)
    try:
        keys = signing_keys(pool, settings)
        key = await keys.rotate(is_revoking=is_revoking)
        ring = await keys.ring()
    finally:
        await pool.close()
    return {
        "key_id": key.key_id,
        "active_from": datetime.fromtimestamp(key.active_from_ms / 1_000, UTC).isoformat(timespec="seconds"),
        "revoked_others": is_revoking,
        "published": [each.key_id for each in ring.published(key.created_at_ms)],
    }


def main(settings: Settings, is_revoking: bool, as_json: bool) -> None:
    """The command."""
    log_output.configure(to_stderr=True)
    try:
        found = connection.read(settings.data)
        with_stores = resolved(settings, postgres_url=found.postgres_url, redis_url=found.redis_url)
        made = asyncio.run(rotate(with_stores, is_revoking=is_revoking))
    except (NotRunning, StoreUnavailable) as error:
        raise ClickException(str(error)) from error
    if as_json:
        echo(msgspec.json.encode(made).decode())
    else:
        echo(f"key {made['key_id']} signs access tokens from {made['active_from']} on")
        if is_revoking:
            echo(f"the keys until now are void within {REVOKED_WITHIN_S} s; clients refresh their tokens")
