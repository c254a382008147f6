"""Tokens: how API keys and device tokens are made, taken apart and stored.

Rules:
1. `mvk_<tenant>_<key>_<secret>` is an API key, `mvd_<tenant>_<device>_<secret>` a device token. A token names its
   tenant, so that looking it up touches one shard and no token can be tried across tenants.
2. The secret has 256 bits. At rest there is only its SHA-256: no salt and no slow hash, since nobody can guess 256
   bits.
3. Secrets of keys, devices and pairing codes are derived from the master secret and the request that asked for them
   (HMAC-SHA256), not drawn: a retry whose first answer was lost gets the same secret again, and no secret is ever
   stored to make that so.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Literal

import msgspec

from gateway import limits
from gateway.ids import base32, is_id

TokenKind = Literal["api_key", "device"]
API_KEY_PREFIX = "mvk_"
_PREFIXES: dict[str, TokenKind] = {"mvk": "api_key", "mvd": "device"}
_ID_PREFIXES: dict[TokenKind, str] = {"api_key": "key_", "device": "dev_"}
_SECRET_CHARS = 52  # 260 bits of base32 hold the 256 of the secret


class Token(msgspec.Struct, frozen=True, gc=False):
    """A token taken apart; nothing about it has been verified. `holder_id` is a `key_…` or `dev_…`."""

    kind: TokenKind
    tenant_id: str
    holder_id: str
    secret_hash: bytes


class SecretMaker:
    """Derives secrets from the master secret, one independent family per purpose (rule 3)."""

    def __init__(self, master_secret: bytes) -> None:
        if len(master_secret) < 32:
            raise ValueError("the master secret must have at least 32 bytes")
        self._key = hmac.digest(master_secret, b"mastervip secrets of callers", "sha256")

    def secret(self, purpose: str, *parts: str) -> str:
        """256 bits as text. Parts are length-prefixed, so that no two lists of parts read the same."""
        return base32(int.from_bytes(self._digest(purpose, parts), "big"), _SECRET_CHARS)

    def code(self, purpose: str, *parts: str) -> str:
        """A short code for people to type, `limits.PAIRING_CODE_CHARS` long."""
        return base32(int.from_bytes(self._digest(purpose, parts), "big"), limits.PAIRING_CODE_CHARS)

    def _digest(self, purpose: str, parts: tuple[str, ...]) -> bytes:
        encoded = [part.encode() for part in (purpose, *parts)]
        message = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
        return hmac.digest(self._key, message, "sha256")


def hash_secret(secret: str) -> bytes:
    """What is stored of a secret."""
    return sha256(secret.encode()).digest()


def make_token(kind: TokenKind, tenant_id: str, holder_id: str, secret: str) -> str:
    """The text that the caller keeps."""
    prefix = next(prefix for prefix, known in _PREFIXES.items() if known == kind)
    return f"{prefix}_{tenant_id}_{holder_id.removeprefix(_ID_PREFIXES[kind])}_{secret}"


def parse_token(text: str) -> Token | None:
    """The parts of a token; None when it cannot be one."""
    if len(text) > limits.TOKEN_CHARS_MAX or not text.isascii():
        return None
    head, _, secret = text.rpartition("_")
    head, _, holder = head.rpartition("_")
    prefix, _, tenant_id = head.partition("_")
    kind = _PREFIXES.get(prefix)
    if kind is None or not secret or not is_id(tenant_id) or not is_id(holder):
        return None
    return Token(kind, tenant_id, _ID_PREFIXES[kind] + holder, hash_secret(secret))
