"""Who is calling: API keys, device tokens, and signed-in accounts.

Rules:
1. `cached` is the hot path: a dict look-up, fresh for `IDENTITY_FRESH_MS`. So a revoked key works that much longer, at
   most.
2. `authenticate` asks Postgres, once at a time per token, and compares hashes in constant time.
3. **While Postgres is away, a caller seen before stays valid for `IDENTITY_STALE_MS` (15 minutes) after it was last
   confirmed**, so that an outage of Postgres does not stop the doors. A caller never seen gets `StoreUnavailable`,
   which is a 503, not a 401. Where it merely is slow, a caller seen before waits `IDENTITY_PATIENCE_MS` for being
   confirmed again, and not at all once others had to wait so long; what the look-up finds in the end holds.
4. Unknown tokens are remembered briefly, in a bounded table apart from the good ones; look-ups are bounded in number
   and time.
5. News of changed access also reaches look-ups under way: what they asked before the news answers those who waited, is
   not kept, and nobody joins them any more.
6. An access token says who it is; what they may do is looked up like anybody's. It ends when it says, wherever it is
   remembered. An account acts for one organisation at a time: the one asked for, else the token's, else the one it has
   been part of longest. Where it has no part it is nobody in particular (role `account`, no tenant), whether that
   organisation exists or not.
7. **Nobody acts for an organisation that is suspended or closed**: its keys and devices may do nothing, its people what
   is their own business as accounts. `Caller.org_state` says why.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import msgspec

from actors.ports import StoreUnavailable
from gateway import limits
from gateway.access_feed import AccessChange
from gateway.identity.access_tokens import JWT_START, Claims
from gateway.identity.limits import ACCESS_TOKEN_CHARS_MAX
from gateway.identity.policy import OrgState, Reach, Role, reaches_of
from gateway.identity.tokens import Token, parse_token


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Who is calling, in which role, and for which tenant ("" for the SuperAdmin, and for an account without an
    organisation). `scopes` are an API key's. A device is bound to the event `event_id`, or, where that is "", to all of
    its organisation's; it stands at `gate_id`, if that was told. Somebody signed in has `account_id` and `session_id`,
    `member_id` where the account is linked to a member of the tenant, `is_verified` where they have shown that their
    e-mail address is theirs, and stops being that caller at `expires_at_ms` (milliseconds since 1970; 0: never)."""

    tenant_id: str
    role: Role
    scopes: frozenset[str] = frozenset()
    key_id: str = ""
    device_id: str = ""
    event_id: str = ""
    account_id: str = ""
    session_id: str = ""
    member_id: str = ""
    is_verified: bool = False
    expires_at_ms: int = 0
    org_state: OrgState = "open"
    gate_id: str = ""

    def reach(self, action: str) -> Reach | None:
        """How far the caller may do `action` (`gateway.identity.policy`); None: not at all."""
        if self.org_state != "open" and self.tenant_id:
            return None
        return reaches_of(self.role, self.scopes).get(action)

    @property
    def refusal(self) -> str:
        """The code of why this caller may not do what it may not do."""
        return "forbidden" if self.org_state == "open" else f"org_{self.org_state}"


class CallerRecord(msgspec.Struct, frozen=True):
    """What the store knows of a token's holder. The token is good for `life_ms` more; None: without end."""

    secret_hash: bytes
    caller: Caller
    life_ms: int | None = None


class Person(msgspec.Struct, frozen=True):
    """What the store knows of somebody signed in. `parts` are their role and member id ("" for none) by organisation,
    the one they have been part of longest first; `org_states` are those of organisations that are not open."""

    account_id: str
    session_id: str
    is_superadmin: bool
    is_verified: bool
    parts: Mapping[str, tuple[Literal["org_admin", "staff", "member"], str]]
    org_states: Mapping[str, OrgState] = {}

    def callers(self, claims: Claims) -> _Callers:
        """As whom they call (rule 6). A SuperAdmin is one everywhere."""

        def caller(tenant_id: str, role: Role, member_id: str = "", org_state: OrgState = "open") -> Caller:
            return Caller(
                tenant_id,
                role,
                account_id=self.account_id,
                session_id=self.session_id,
                member_id=member_id,
                is_verified=self.is_verified,
                expires_at_ms=claims.expires_at_ms,
                org_state=org_state,
            )

        if self.is_superadmin:
            everywhere = caller("", "superadmin")
            return _Callers(everywhere, everywhere, {})
        outside = caller("", "account")
        by_org = {
            tenant_id: caller("", "account", org_state=self.org_states[tenant_id])  # rule 7
            if tenant_id in self.org_states
            else caller(tenant_id, *part)
            for tenant_id, part in self.parts.items()
        }
        chosen = claims.org or next((org_id for org_id in by_org if org_id not in self.org_states), "")
        return _Callers(by_org.get(chosen, outside), outside, by_org)


class _Callers(msgspec.Struct, frozen=True):
    """As whom a token calls: `usual` where no organisation is asked for. An account also `by_org`, and as `outside`
    wherever it has no part; for other tokens that is None, and nothing is theirs to choose."""

    usual: Caller
    outside: Caller | None = None
    by_org: Mapping[str, Caller] = {}

    def caller(self, org_id: str) -> Caller:
        """As whom, where this organisation is asked for."""
        if org_id and self.outside is not None:
            return self.by_org.get(org_id, self.outside)
        return self.usual


class AccessTokenVerifier(Protocol):
    """What `Identity` needs of `gateway.identity.access_tokens.AccessTokens`."""

    async def verify(self, token: str) -> Claims | None:
        """What the token says; None if it is not good now. Raises `StoreUnavailable`."""

    def left_ms(self, claims: Claims) -> int:
        """For how long it is still good, in milliseconds."""


class CallerStore(Protocol):
    """Where holders of tokens are kept."""

    async def find_holder(self, token: Token) -> CallerRecord | None:
        """The holder that the token names, None when absent or revoked. Raises `StoreUnavailable`."""

    async def find_person(self, account_id: str, session_id: str) -> Person | None:
        """Somebody signed in, None when the session or the account is not in force. Raises `StoreUnavailable`."""


class _Seen(msgspec.Struct):
    callers: _Callers
    fresh_until_ms: int
    valid_until_ms: int


class _Lookup(msgspec.Struct):
    """A look-up under way. `subject` is whom it asks for, None until it does; `is_outdated` once there was news of them
    (rule 5)."""

    subject: Token | Claims | None = None
    is_outdated: bool = False
    task: asyncio.Task[_Callers | None] | None = None


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


def _concerns(change: AccessChange, callers: _Callers) -> bool:
    return concerns(change, callers.usual) or (change.kind == "org" and change.id in callers.by_org)


def _may_concern(change: AccessChange, subject: Token | Claims) -> bool:
    """Whether news may be about whoever is being looked up, as far as that is known."""
    if change.kind == "everything":
        return True
    if isinstance(subject, Claims):
        ids = {"account": subject.sub, "session": subject.sid, "org": change.id}
        return ids.get(change.kind) == change.id
    if change.kind == "org":
        return subject.tenant_id == change.id
    return (subject.kind, subject.holder_id, subject.tenant_id) == (change.kind, change.id, change.tenant_id)


_FOR_EVER_MS = 2**62


class Identity:
    """Tokens to callers. `clock_ms` must not go backwards (a monotonic clock)."""

    def __init__(
        self,
        store: CallerStore,
        clock_ms: Callable[[], int],
        access_tokens: AccessTokenVerifier,
    ) -> None:
        self._store = store
        self._clock_ms = clock_ms
        self._access_tokens = access_tokens
        self._seen: dict[str, _Seen] = {}
        self._unknown_until_ms: dict[str, int] = {}
        self._running: dict[str, _Lookup] = {}
        self._tasks: set[asyncio.Task[_Callers | None]] = set()
        self._lookups = asyncio.Semaphore(limits.IDENTITY_LOOKUPS_MAX)
        self._is_store_slow = False

    def cached(self, token: str, org_id: str = "") -> Caller | None:
        """The caller, if confirmed a moment ago; None says nothing, ask `authenticate` then. `org_id` chooses among the
        organisations of an account, and means nothing to other callers."""
        seen = self._seen.get(token)
        if seen is not None and self._clock_ms() < seen.fresh_until_ms:
            return seen.callers.caller(org_id) if org_id else seen.callers.usual
        return None

    async def authenticate(self, token: str, org_id: str = "") -> Caller | None:
        """The caller, None when the token is nobody's. Raises `StoreUnavailable` (rule 3)."""
        caller = self.cached(token, org_id)
        if caller is not None:
            return caller
        if self._clock_ms() < self._unknown_until_ms.get(token, 0):
            return None
        parsed = parse_token(token)
        if parsed is None and not (token.startswith(JWT_START) and len(token) <= ACCESS_TOKEN_CHARS_MAX):
            return None
        callers = await self._waited(token, self._running.get(token) or self._begun(token, parsed))
        return None if callers is None else callers.caller(org_id)

    def has_seen(self, token: str) -> bool:
        """Whether the token was good when it last came here."""
        return token in self._seen

    def on_change(self, change: AccessChange) -> None:
        """Drops the callers whom the change concerns: they are looked up again when they come next. While Postgres is
        away such a caller is not trusted on what was known before."""
        for token, running in list(self._running.items()):
            if running.subject is not None and _may_concern(change, running.subject):
                running.is_outdated = True
                del self._running[token]
        for token in [token for token, seen in self._seen.items() if _concerns(change, seen.callers)]:
            if change.kind == "everything":
                self._seen[token].fresh_until_ms = 0
            else:
                del self._seen[token]
        self._unknown_until_ms.clear()  # news may be good: who was refused may be let in again

    # --- look-ups -----------------------------------------------------------------------------------------------------

    def _begun(self, token: str, parsed: Token | None) -> _Lookup:
        lookup = _Lookup()
        task = lookup.task = asyncio.create_task(self._look_up(token, parsed, lookup))
        self._running[token] = lookup
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return lookup

    def _ended(self, task: asyncio.Task[_Callers | None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits; nobody may be left

    async def _waited(self, token: str, lookup: _Lookup) -> _Callers | None:
        """What the look-up finds; a caller seen before does not wait long for it (rule 3)."""
        assert lookup.task is not None
        seen = self._seen.get(token)
        if seen is not None and self._clock_ms() < seen.valid_until_ms:
            patience_s = 0 if self._is_store_slow else limits.IDENTITY_PATIENCE_MS / 1_000
            done, _ = await asyncio.wait((lookup.task,), timeout=patience_s)
            if not done and token in self._seen:
                self._is_store_slow = True
                return self._stale(token)
        return await asyncio.shield(lookup.task)

    async def _look_up(self, token: str, parsed: Token | None, lookup: _Lookup) -> _Callers | None:
        try:
            async with self._lookups, asyncio.timeout(limits.IDENTITY_LOOKUP_TIMEOUT_MS / 1000):
                found, life_ms = await self._asked(token, parsed, lookup)
        except (StoreUnavailable, TimeoutError):
            return self._stale(token)
        finally:
            if self._running.get(token) is lookup:
                del self._running[token]
        self._is_store_slow = False
        if not lookup.is_outdated:
            self._remember(token, found, life_ms)
        return found

    async def _asked(self, token: str, parsed: Token | None, lookup: _Lookup) -> tuple[_Callers | None, int]:
        """As whom the token calls by now, and for how many milliseconds it does at most."""
        if parsed is not None:
            lookup.subject = parsed
            record = await self._store.find_holder(parsed)
            if record is None or not hmac.compare_digest(record.secret_hash, parsed.secret_hash):
                return None, 0
            return _Callers(record.caller), _FOR_EVER_MS if record.life_ms is None else record.life_ms
        claims = await self._access_tokens.verify(token)
        if claims is None:
            return None, 0
        lookup.subject = claims
        person = await self._store.find_person(claims.sub, claims.sid)
        return (None, 0) if person is None else (person.callers(claims), self._access_tokens.left_ms(claims))

    def _remember(self, token: str, found: _Callers | None, life_ms: int) -> None:
        now = self._clock_ms()
        self._seen.pop(token, None)  # put in anew at the end: the first entry is the one confirmed longest ago
        if found is None:
            _bound(self._unknown_until_ms, limits.IDENTITY_NEGATIVE_ENTRIES_MAX)
            self._unknown_until_ms[token] = now + limits.IDENTITY_NEGATIVE_MS
            return
        _bound(self._seen, limits.IDENTITY_CACHE_ENTRIES_MAX)
        fresh_ms, valid_ms = min(limits.IDENTITY_FRESH_MS, life_ms), min(limits.IDENTITY_STALE_MS, life_ms)
        self._seen[token] = _Seen(found, now + fresh_ms, now + valid_ms)

    def _stale(self, token: str) -> _Callers:
        """Rule 3. Fresh again for a while, so that an outage costs one failed look-up per caller and interval."""
        seen = self._seen.get(token)
        now = self._clock_ms()
        if seen is None or now >= seen.valid_until_ms:
            raise StoreUnavailable("the caller cannot be looked up now")
        seen.fresh_until_ms = min(now + limits.IDENTITY_FRESH_MS, seen.valid_until_ms)
        return seen.callers


def _bound(table: dict[str, Any], entries_max: int) -> None:
    """Makes room for one more by dropping the oldest entry."""
    if len(table) >= entries_max:
        del table[next(iter(table))]
