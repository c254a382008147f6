"""Who is calling: API keys, device tokens, signed-in accounts, and the bootstrap SuperAdmin.

Rules:
1. `cached` is the hot path: a dict look-up, fresh for `IDENTITY_FRESH_MS`. So a revoked key works that much longer, at
   most.
2. `authenticate` asks Postgres, once at a time per token, and compares hashes in constant time.
3. **While Postgres is away, a caller seen before stays valid for `IDENTITY_STALE_MS` (15 minutes) after it was last
   confirmed**, so that an outage of Postgres does not stop the doors. A caller never seen gets `StoreUnavailable`,
   which is a 503, not a 401.
4. Unknown tokens are remembered briefly, in a bounded table apart from the good ones; look-ups are bounded in number
   and time.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Protocol

import msgspec

from actors.ports import StoreUnavailable
from gateway import limits
from gateway.access_feed import AccessChange
from gateway.identity.policy import Reach, Role, reaches_of
from gateway.identity.tokens import SUPERADMIN_PREFIX, Token, parse_token


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Who is calling, in which role, and for which tenant ("" for the SuperAdmin, and for an account without an
    organisation). `scopes` are an API key's. A device is bound to the event `event_id`, or, where that is "", to all of
    its organisation's. Somebody signed in has `account_id` and `session_id`, and `member_id` where the account is
    linked to a member of the tenant."""

    tenant_id: str
    role: Role
    scopes: frozenset[str] = frozenset()
    key_id: str = ""
    device_id: str = ""
    event_id: str = ""
    account_id: str = ""
    session_id: str = ""
    member_id: str = ""

    def reach(self, action: str) -> Reach | None:
        """How far the caller may do `action` (`gateway.identity.policy`); None: not at all."""
        return reaches_of(self.role, self.scopes).get(action)


class CallerRecord(msgspec.Struct, frozen=True):
    """What the store knows of a token's holder."""

    secret_hash: bytes
    caller: Caller


class CallerStore(Protocol):
    """Where holders of tokens are kept."""

    async def find_holder(self, token: Token) -> CallerRecord | None:
        """The holder that the token names, None when absent or revoked. Raises `StoreUnavailable`."""


class _Seen(msgspec.Struct):
    caller: Caller
    fresh_until_ms: int
    valid_until_ms: int


def concerns(change: AccessChange, caller: Caller) -> bool:
    """Whether news is about this caller."""
    match change.kind:
        case "everything":
            return True
        case "org":
            return caller.tenant_id == change.id
        case "account":
            return caller.account_id == change.id
        case "session":
            return caller.session_id == change.id
        case "api_key":
            return caller.key_id == change.id and caller.tenant_id == change.tenant_id
        case "device":
            return caller.device_id == change.id and caller.tenant_id == change.tenant_id


SUPERADMIN = Caller("", "superadmin")


class Identity:
    """Tokens to callers. `clock_ms` must not go backwards (a monotonic clock)."""

    def __init__(self, store: CallerStore, superadmin_token_hash: bytes, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._superadmin_token_hash = superadmin_token_hash
        self._clock_ms = clock_ms
        self._seen: dict[str, _Seen] = {}
        self._unknown_until_ms: dict[str, int] = {}
        self._running: dict[str, asyncio.Task[Caller | None]] = {}
        self._lookups = asyncio.Semaphore(limits.IDENTITY_LOOKUPS_MAX)

    def cached(self, token: str, org_id: str = "") -> Caller | None:
        """The caller, if confirmed a moment ago; None says nothing, ask `authenticate` then. `org_id` chooses among the
        organisations of an account, and means nothing to other callers."""
        seen = self._seen.get(token)
        if seen is not None and self._clock_ms() < seen.fresh_until_ms:
            return seen.caller
        return None

    async def authenticate(self, token: str, org_id: str = "") -> Caller | None:
        """The caller, None when the token is nobody's. Raises `StoreUnavailable` (rule 3)."""
        caller = self.cached(token, org_id)
        if caller is not None:
            return caller
        if self._clock_ms() < self._unknown_until_ms.get(token, 0):
            return None
        if token.startswith(SUPERADMIN_PREFIX):
            matches = hmac.compare_digest(sha256(token.encode()).digest(), self._superadmin_token_hash)
            return SUPERADMIN if matches else None
        parsed = parse_token(token)
        if parsed is None:
            return None
        running = self._running.get(token)
        if running is None:
            running = self._running[token] = asyncio.create_task(self._look_up(token, parsed))
            running.add_done_callback(lambda _: self._running.pop(token, None))
        return await asyncio.shield(running)

    def has_seen(self, token: str) -> bool:
        """Whether the token was good when it last came here."""
        return token in self._seen

    def on_change(self, change: AccessChange) -> None:
        """Drops the callers whom the change concerns: they are looked up again when they come next. While Postgres is
        away such a caller is not trusted on what was known before."""
        for token in [token for token, seen in self._seen.items() if concerns(change, seen.caller)]:
            if change.kind == "everything":
                self._seen[token].fresh_until_ms = 0
            else:
                del self._seen[token]

    async def _look_up(self, token: str, parsed: Token) -> Caller | None:
        try:
            async with self._lookups, asyncio.timeout(limits.IDENTITY_LOOKUP_TIMEOUT_MS / 1000):
                record = await self._store.find_holder(parsed)
        except (StoreUnavailable, TimeoutError):
            return self._stale(token)
        now = self._clock_ms()
        if record is None or not hmac.compare_digest(record.secret_hash, parsed.secret_hash):
            self._seen.pop(token, None)
            _bound(self._unknown_until_ms, limits.IDENTITY_NEGATIVE_ENTRIES_MAX)
            self._unknown_until_ms[token] = now + limits.IDENTITY_NEGATIVE_MS
            return None
        self._seen.pop(token, None)  # put in anew at the end: the first entry is the one confirmed longest ago
        _bound(self._seen, limits.IDENTITY_CACHE_ENTRIES_MAX)
        self._seen[token] = _Seen(record.caller, now + limits.IDENTITY_FRESH_MS, now + limits.IDENTITY_STALE_MS)
        return record.caller

    def _stale(self, token: str) -> Caller:
        """Rule 3. Fresh again for a while, so that an outage costs one failed look-up per caller and interval."""
        seen = self._seen.get(token)
        now = self._clock_ms()
        if seen is None or now >= seen.valid_until_ms:
            raise StoreUnavailable("the caller cannot be looked up now")
        seen.fresh_until_ms = min(now + limits.IDENTITY_FRESH_MS, seen.valid_until_ms)
        return seen.caller


def _bound(table: dict[str, Any], entries_max: int) -> None:
    """Makes room for one more by dropping the oldest entry."""
    if len(table) >= entries_max:
        del table[next(iter(table))]
