"""The log of administrative acts: who did what to what, when and under which request id. Append-only.

Rules:
1. A line is written in the transaction of the act where the act is a Postgres transaction, and right after it where the
   engine decided it.
2. `detail` says what changed, without secrets: no token, password, code or hash ever stands in it.
3. The id is derived from request id, action and target, so a retry writes no second line.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.commands import Command
from actors.facts import Fact
from gateway.identity.callers import Caller
from gateway.ids import derived_id
from storage.postgres import Connection


def actor_of(caller: Caller) -> str:
    """Who it was: the id of the account, key or device, or "superadmin"."""
    return caller.account_id or caller.key_id or caller.device_id or caller.role


# Of a command: what stands elsewhere in the line, and persons' names, which are theirs and not the act's.
_UNTOLD = frozenset(
    {"tenant_id", "request_id", "fingerprint", "if_version", "card_id", "event_id", "coupon_id", "redemption_id"}
    | {"rule_id", "member_name", "rules"}
)
_TARGETS = ("redemption_id", "coupon_id", "rule_id", "card_id", "event_id", "tenant_id")


def told(command: Command) -> dict[str, Any]:
    """What a command asks, for `detail`: what it sets, without what it leaves as it is."""
    return {name: value for name, value in _plain(command).items() if value is not None and value not in ("", [])}


def target_of(fact: Fact) -> str:
    """What the fact is about: a coupon, a rule, a card, an event, the organisation itself."""
    return next(str(getattr(fact, name)) for name in _TARGETS if hasattr(fact, name))


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.asdict(value)
        return {name: _plain(inner) for name, inner in fields.items() if name not in _UNTOLD}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


async def note(
    connection: Connection,
    tenant_id: str,
    at_ms: int,
    caller: Caller,
    request_id: str,
    action: str,
    target: str,
    **detail: Any,
) -> None:
    """Adds a line. `action` is the policy table's name, or more precise ("cards.change"); `target` the id of what was
    changed."""
    await connection.execute(
        "INSERT INTO admin_log (tenant_id, entry_id, at_ms, actor, action, target, detail, request_id) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        tenant_id,
        f"{at_ms:013d}.{derived_id('act', request_id, action, target)}",
        at_ms,
        actor_of(caller),
        action,
        target,
        msgspec.json.encode(detail).decode(),
        request_id,
    )
