"""Access tokens: JWTs (RFC 7519) as RFC 9068 wants them, signed with RS256, and checked as RFC 8725 says.

Rules:
1. A token says who signed in (`sub`, `sid`) and, if they chose one, for which organisation (`org`). What they may do it
   does not say: that is looked up.
2. What is accepted is exactly what is made here. The header has `alg` RS256, `typ` at+jwt and a `kid`, and nothing
   else: no token brings its own key or says where one is. Names that come twice, claims of another type, and claims
   that are missing are refused.
3. `kid` finds a key in a table in memory and is used for nothing else.
4. The algorithm is ours to choose, never the token's.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from actors.ports import StoreUnavailable
from gateway.identity import limits
from gateway.identity.signing_keys import SigningKeys
from gateway.ids import is_id

ALGORITHM: Final = "RS256"
TYPE: Final = "at+jwt"
# How every JWT begins: `{"` in base64url. No other token of ours does.
JWT_START: Final = "eyJ"
_HEADER_NAMES: Final = frozenset({"alg", "typ", "kid"})
# PyJWT would ask the clock of the system; ours is handed in.
_OUR_CHECKS: Final[Any] = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}


class Claims(msgspec.Struct, frozen=True):
    """What a good token says. Times are seconds since 1970."""

    sub: str
    sid: str
    jti: str
    iat: int
    nbf: int
    exp: int
    org: str = ""

    @property
    def expires_at_ms(self) -> int:
        """From when on it is worth nothing, in milliseconds since 1970."""
        return self.exp * 1_000


class _Refused(ValueError):
    """The token is not one of ours."""


class AccessTokens:
    """Makes and checks them. `issuer` and `audience` are the values of `iss` and `aud`; `clock_ms` gives milliseconds
    since 1970."""

    def __init__(self, keys: SigningKeys, issuer: str, audience: str, clock_ms: Callable[[], int]) -> None:
        self.keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock_ms = clock_ms

    async def make(self, account_id: str, session_id: str, token_id: str, org_id: str, at_ms: int) -> str:
        """A token from `at_ms` on, for `ACCESS_TOKEN_LIFE_MS`. The same for the same arguments while the key stays.
        Raises `StoreUnavailable` where no key is to be had."""
        key = (await self.keys.ring()).current(self._clock_ms())
        if key is None:
            raise StoreUnavailable("there is no key to sign with")
        made_at_s = at_ms // 1_000
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": account_id,
            "sid": session_id,
            "jti": token_id,
            "iat": made_at_s,
            "nbf": made_at_s,
            "exp": made_at_s + limits.ACCESS_TOKEN_LIFE_MS // 1_000,
        }
        if org_id:
            claims["org"] = org_id
        return jwt.encode(claims, key.private, ALGORITHM, {"typ": TYPE, "kid": key.key_id})

    async def verify(self, token: str) -> Claims | None:
        """What the token says; None if it is not good now. Raises `StoreUnavailable` while no key is known."""
        try:
            key_id = _key_id(token)
        except _Refused:
            return None
        now_ms = self._clock_ms()
        public = (await self.keys.ring_with(key_id)).verifier(key_id, now_ms)
        if public is None:
            return None
        try:
            return self._claims(token, public, now_ms)
        except (_Refused, jwt.PyJWTError, msgspec.ValidationError):
            return None

    def left_ms(self, claims: Claims) -> int:
        """For how long a token is still good, in milliseconds."""
        return claims.expires_at_ms - self._clock_ms()

    def _claims(self, token: str, public: RSAPublicKey, now_ms: int) -> Claims:
        _object(token.split(".")[1])
        found = jwt.decode(
            token, public, [ALGORITHM], options=_OUR_CHECKS, audience=self._audience, issuer=self._issuer
        )
        claims = msgspec.convert(found, Claims)
        leeway_ms = limits.TOKEN_CLOCK_LEEWAY_MS
        if claims.nbf * 1_000 > now_ms + leeway_ms or claims.iat * 1_000 > now_ms + leeway_ms:
            raise _Refused("from the future")
        if claims.expires_at_ms <= now_ms:
            raise _Refused("expired")
        if not is_id(claims.sub) or not is_id(claims.sid) or (claims.org and not is_id(claims.org)):
            raise _Refused("not an id")
        return claims


def _key_id(token: str) -> str:
    """Rule 2, as far as the header goes. Raises `_Refused`."""
    if len(token) > limits.ACCESS_TOKEN_CHARS_MAX or token.count(".") != 2:
        raise _Refused("not a token")
    first, _, signature = token.split(".")
    _bytes(signature)
    header = _object(first)
    key_id = header.get("kid")
    if header.keys() != _HEADER_NAMES or header["typ"] != TYPE:
        raise _Refused("not our header")
    if not isinstance(key_id, str) or not is_id(key_id):
        raise _Refused("not a key id")
    return key_id


def _object(part: str) -> dict[str, Any]:
    """A part of a token as the JSON object that it must be, without names that come twice. Raises `_Refused`."""
    try:
        found = json.loads(_bytes(part).decode(), object_pairs_hook=_distinct)
    except (UnicodeError, RecursionError, ValueError) as error:
        raise _Refused(str(error)) from error
    if not isinstance(found, dict):
        raise _Refused("not an object")
    return found


def _bytes(part: str) -> bytes:
    """What a part of a token stands for. There is one way to write it (RFC 7515: base64url without padding), so that no
    second text is the same token. Raises `_Refused`."""
    try:
        found = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Refused(str(error)) from error
    if base64.urlsafe_b64encode(found).rstrip(b"=") != part.encode():
        raise _Refused("written in another way")
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("a name comes twice")
    return found
