"""The RSA keys that sign access tokens: kept in Postgres for all gateways, replaced before they grow old.

Rules:
1. A key is **next** until its `active_from_ms`, then **current**, and **retired** from its successor's `active_from_ms`
   on. The clock alone moves it, so gateways agree without talking. Which keys there are each looks up every
   `REFRESH_INTERVAL_MS`.
2. A key is published for `PUBLISHED_BEFORE_MS` before it signs, which is longer than anybody may cache the JWKS; it is
   accepted until the last token that it can have signed has expired. So a rotation is noticed by nobody. A **revoked**
   key is accepted nowhere any more, whatever it signed.
3. A private key leaves Postgres only sealed: AES-256-GCM under a key derived from the master secret, bound to its id.
4. Making a key takes an advisory lock, so that gateways which start together make one.
5. A key id that is unknown may be newer than the last look: it is looked up again, once in `REFETCH_INTERVAL_MS`,
   whoever makes ids up.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final, Literal

import msgspec
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from actors.ports import StoreUnavailable
from gateway.identity import limits
from gateway.ids import IdMaker
from storage.postgres import OUTAGES, Connection, Pool

KEY_BITS: Final = 2_048
LOCK_KEY: Final = 0x6D76_6B65_7973  # "mvkeys"
_NONCE_BYTES: Final = 12
ACCEPTED_AFTER_MS: Final = limits.ACCESS_TOKEN_LIFE_MS + limits.TOKEN_CLOCK_LEEWAY_MS
_log = structlog.get_logger(__name__)


class SigningKey(msgspec.Struct, frozen=True):
    """A key pair. `revoked_at_ms` is None unless it was revoked."""

    key_id: str
    private: RSAPrivateKey
    created_at_ms: int
    active_from_ms: int
    revoked_at_ms: int | None = None

    @property
    def public(self) -> RSAPublicKey:
        """What verifies."""
        return self.private.public_key()


class KeyRing:
    """The keys at one look, without I/O (rules 1 and 2)."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        in_force = sorted(
            (key for key in keys if key.revoked_at_ms is None), key=lambda key: (key.active_from_ms, key.key_id)
        )
        self.keys = tuple(in_force)
        self._accepted_until_ms = {
            key.key_id: successor.active_from_ms + ACCEPTED_AFTER_MS for key, successor in pairwise(in_force)
        }
        self._public = {key.key_id: key.public for key in in_force}

    def current(self, now_ms: int) -> SigningKey | None:
        """The key that signs now; None where there is none yet."""
        return next((key for key in reversed(self.keys) if key.active_from_ms <= now_ms), None)

    def verifier(self, key_id: str, now_ms: int) -> RSAPublicKey | None:
        """The key to verify with; None where there is no such key or its last token has expired."""
        until_ms = self._accepted_until_ms.get(key_id)
        if until_ms is not None and now_ms >= until_ms:
            return None
        return self._public.get(key_id)

    def knows(self, key_id: str) -> bool:
        """Whether the id is a key's that is not revoked, retired ones included."""
        return key_id in self._public

    def published(self, now_ms: int) -> list[SigningKey]:
        """The keys of the JWKS: next, current and those still accepted."""
        return [key for key in self.keys if self.verifier(key.key_id, now_ms) is not None]

    def is_new_one_due(self, now_ms: int, lifetime_ms: int) -> bool:
        """Whether the next key has to be made: so early that it can be published before the newest grows too old."""
        return not self.keys or self.keys[-1].active_from_ms + lifetime_ms <= now_ms + limits.KEY_PUBLISHED_BEFORE_MS


def jwks(keys: Sequence[SigningKey]) -> dict[str, Any]:
    """The JSON Web Key Set (RFC 7517): public halves alone."""
    return {"keys": [_jwk(key) for key in keys]}


def _jwk(key: SigningKey) -> dict[str, str]:
    numbers = key.public.public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": key.key_id,
        "n": _base64url_uint(numbers.n),
        "e": _base64url_uint(numbers.e),
    }


def _base64url_uint(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


def new_private_key() -> RSAPrivateKey:
    """A new key; takes a tenth of a second or more."""
    return generate_private_key(65_537, KEY_BITS)


class Safe:
    """Seals private keys (rule 3)."""

    def __init__(self, master_secret: bytes, random_bytes: Callable[[int], bytes]) -> None:
        self._aes = AESGCM(hmac.digest(master_secret, b"mastervip sealing of signing keys", "sha256"))
        self._random_bytes = random_bytes

    def seal(self, key_id: str, private: RSAPrivateKey) -> bytes:
        """The key, encrypted."""
        plain = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        nonce = self._random_bytes(_NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, plain, key_id.encode())

    def open(self, key_id: str, sealed: bytes) -> RSAPrivateKey | None:
        """The key; None where it was sealed under another master secret or id, or altered."""
        try:
            plain = self._aes.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], key_id.encode())
        except InvalidTag:
            return None
        key = load_der_private_key(plain, None)
        assert isinstance(key, RSAPrivateKey)
        return key


class SigningKeys:
    """The keys of this gateway, kept current by `run`. `clock_ms` gives milliseconds since 1970; `make_private_key` is
    called in a thread."""

    def __init__(
        self,
        pool: Pool,
        safe: Safe,
        ids: IdMaker,
        clock_ms: Callable[[], int],
        lifetime_ms: int = limits.KEY_LIFETIME_MS,
        make_private_key: Callable[[], RSAPrivateKey] = new_private_key,
    ) -> None:
        self._pool = pool
        self._safe = safe
        self._ids = ids
        self._clock_ms = clock_ms
        self._lifetime_ms = lifetime_ms
        self._make_private_key = make_private_key
        self._ring = KeyRing([])
        self._opened: dict[str, SigningKey] = {}
        self._look: asyncio.Task[None] | None = None
        self._looked_at_ms = 0

    async def run(self) -> None:
        """Looks again and again, and makes keys when they are due, until cancelled."""
        while True:
            with suppress(StoreUnavailable):
                await self.refresh()
            await asyncio.sleep(limits.KEY_REFRESH_INTERVAL_MS / 1_000)

    async def ring(self) -> KeyRing:
        """The keys, looked up first where they never were. Raises `StoreUnavailable`."""
        if not self._ring.keys:
            await self._refetch()
        return self._ring

    async def ring_with(self, key_id: str) -> KeyRing:
        """The keys, looked up again if this one is not among them (rule 5). Raises `StoreUnavailable` where no keys are
        known at all."""
        if not self._ring.knows(key_id):
            try:
                await self._refetch()
            except StoreUnavailable:
                if not self._ring.keys:
                    raise
        return self._ring

    async def refresh(self) -> None:
        """Looks which keys there are, and makes the next one where it is due. Raises `StoreUnavailable`."""
        try:
            async with self._pool.acquire() as connection:
                await self._load(connection)
                now_ms = self._clock_ms()
                if self._ring.is_new_one_due(now_ms, self._lifetime_ms):
                    await self._rotate(connection, "due")
        except OUTAGES as outage:
            raise StoreUnavailable(str(outage)) from outage

    async def rotate(self, *, is_revoking: bool = False) -> SigningKey:
        """Makes the next key now, to follow the current one after the time of publication; if there is one, that is it.
        With `is_revoking` all earlier keys are revoked and the new one signs at once: every access token is void, and
        clients refresh theirs. Raises `StoreUnavailable`."""
        try:
            async with self._pool.acquire() as connection:
                return await self._rotate(connection, "leaked" if is_revoking else "asked for")
        except OUTAGES as outage:
            raise StoreUnavailable(str(outage)) from outage

    async def _refetch(self) -> None:
        """Rule 5. Whoever comes while a look is under way waits for that one."""
        if self._look is None:
            now_ms = self._clock_ms()
            is_recent = 0 <= now_ms - self._looked_at_ms < limits.KEY_REFETCH_INTERVAL_MS
            if is_recent and self._ring.keys:
                return
            self._looked_at_ms = now_ms
            self._look = asyncio.create_task(self.refresh())
            self._look.add_done_callback(self._looked)
        await asyncio.shield(self._look)

    def _looked(self, look: asyncio.Task[None]) -> None:
        self._look = None
        if not look.cancelled():
            look.exception()  # told to whoever waits; nobody may be left

    async def _load(self, connection: Connection) -> None:
        rows = await connection.fetch(
            "SELECT key_id, sealed, created_at_ms, active_from_ms, revoked_at_ms FROM signing_keys"
        )
        opened: dict[str, SigningKey] = {}
        for key_id, sealed, created_at_ms, active_from_ms, revoked_at_ms in rows:
            known = self._opened.get(key_id)
            private = known.private if known else self._safe.open(key_id, sealed)
            if private is None:
                _log.error("a signing key cannot be opened: was it sealed under another master secret?", key_id=key_id)
                continue
            opened[key_id] = SigningKey(key_id, private, created_at_ms, active_from_ms, revoked_at_ms)
        self._opened = opened
        self._ring = KeyRing(list(opened.values()))

    async def _rotate(self, connection: Connection, why: Literal["due", "asked for", "leaked"]) -> SigningKey:
        private = await asyncio.to_thread(self._make_private_key)
        key_id = self._ids.entity("jwk")
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK_KEY)
            await self._load(connection)
            now_ms = self._clock_ms()
            newest = self._ring.keys[-1] if self._ring.keys else None
            is_due = self._ring.is_new_one_due(now_ms, self._lifetime_ms)
            has_next = newest is not None and newest.active_from_ms > now_ms
            if newest is not None and not {"due": is_due, "asked for": not has_next, "leaked": True}[why]:
                return newest
            if why == "leaked":
                await connection.execute(
                    "UPDATE signing_keys SET revoked_at_ms = $1 WHERE revoked_at_ms IS NULL", now_ms
                )
            await connection.execute("DELETE FROM signing_keys WHERE key_id = ANY($1::text[])", self._done_with(now_ms))
            signs_at_once = why == "leaked" or self._ring.current(now_ms) is None
            active_from_ms = now_ms if signs_at_once else now_ms + limits.KEY_PUBLISHED_BEFORE_MS
            await connection.execute(
                "INSERT INTO signing_keys (key_id, sealed, created_at_ms, active_from_ms) VALUES ($1, $2, $3, $4)",
                key_id,
                self._safe.seal(key_id, private),
                now_ms,
                active_from_ms,
            )
        await self._load(connection)
        _log.info("a signing key was made", key_id=key_id, active_from_ms=active_from_ms, why=why)
        return self._opened[key_id]

    def _done_with(self, now_ms: int) -> list[str]:
        """The keys whose last token has expired."""
        return [
            key.key_id
            for key in self._opened.values()
            if self._ring.verifier(key.key_id, now_ms) is None
            and now_ms >= (key.revoked_at_ms or 0) + ACCEPTED_AFTER_MS
        ]
