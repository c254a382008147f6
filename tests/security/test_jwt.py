"""Attacks on access tokens (RFC 8725): each token here is one that a careless verifier takes."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity import limits
from gateway.identity.access_tokens import AccessTokens
from gateway.identity.signing_keys import SigningKey, jwks
from tests.support.identity import NOW_MS, StillKeys, private_key

NOW_S = NOW_MS // 1_000
KEY = SigningKey("jwk_now", private_key(0), 0, 0)
NEXT = SigningKey("jwk_next", private_key(1), 0, NOW_MS + 60_000)
STRANGER = private_key(2)
HEADER = {"alg": "RS256", "typ": "at+jwt", "kid": KEY.key_id}
CLAIMS = {
    "iss": "mastervip",
    "aud": "mastervip",
    "sub": "acc_1",
    "sid": "ses_1",
    "jti": "at_1",
    "iat": NOW_S,
    "nbf": NOW_S,
    "exp": NOW_S + 900,
}


class Clock:
    """Milliseconds, set by the test."""

    now = NOW_MS

    def __call__(self) -> int:
        return self.now


def verifier(*keys: SigningKey, clock: Callable[[], int] = Clock()) -> AccessTokens:  # noqa: B008
    """What checks tokens, with these keys."""
    return AccessTokens(cast(Any, StillKeys(keys or (KEY, NEXT))), "mastervip", "mastervip", clock)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value: Any) -> str:
    """A header or payload; text is taken as it is."""
    return base64url((value if isinstance(value, str) else json.dumps(value)).encode())


def signed(header: Any = HEADER, claims: Any = CLAIMS, key: Any = KEY.private) -> str:
    """A token with a good RS256 signature over whatever it is."""
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{base64url(key.sign(text.encode(), padding.PKCS1v15(), SHA256()))}"


def mac(header: dict[str, Any], secret: bytes) -> str:
    """A token "signed" with HS256."""
    text = f"{part(header)}.{part(CLAIMS)}"
    return f"{text}.{base64url(hmac.digest(secret, text.encode(), 'sha256'))}"


def without(claim: str) -> dict[str, Any]:
    return {name: value for name, value in CLAIMS.items() if name != claim}


def body(**changes: Any) -> str:
    """The claims as JSON text, with some in addition: names may come twice."""
    return (
        json.dumps(CLAIMS)[:-1] + "".join(f', "{name}": {json.dumps(value)}' for name, value in changes.items()) + "}"
    )


PEM = KEY.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
DER = KEY.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
JWK = jwks([KEY])["keys"][0]
STRANGER_JWK = jwks([SigningKey(KEY.key_id, STRANGER, 0, 0)])["keys"][0]
HS256 = HEADER | {"alg": "HS256"}
_NUMBER_LATER = NOW_S + 900
HUGE = "x" * limits.ACCESS_TOKEN_CHARS_MAX

ATTACKS = {
    "alg none": f"{part(HEADER | {'alg': 'none'})}.{part(CLAIMS)}.",
    "alg None": f"{part(HEADER | {'alg': 'None'})}.{part(CLAIMS)}.",
    "alg none, signed": signed(HEADER | {"alg": "none"}),
    "no alg": signed({"typ": "at+jwt", "kid": KEY.key_id}),
    "alg RS384": signed(HEADER | {"alg": "RS384"}),
    "alg PS256": signed(HEADER | {"alg": "PS256"}),
    "signature taken away": signed().rpartition(".")[0] + ".",
    "signature of other claims": f"{part(HEADER)}.{part(CLAIMS | {'sub': 'acc_2'})}.{signed().rpartition('.')[2]}",
    "HS256 with the public key as PEM": mac(HS256, PEM),
    "HS256 with the public key as DER": mac(HS256, DER),
    "HS256 with the public key as JWK": mac(HS256, json.dumps(JWK).encode()),
    "HS256 with an empty secret": mac(HS256, b""),
    "RS256 header with an HMAC": mac(HEADER, PEM),
    "another's key": signed(key=STRANGER),
    "kid of another key of ours": signed(HEADER | {"kid": NEXT.key_id}),
    "kid unknown": signed(HEADER | {"kid": "jwk_gone"}),
    "kid traversal": signed(HEADER | {"kid": "../../../../dev/null"}),
    "kid SQL": signed(HEADER | {"kid": "x' UNION SELECT 'secret"}),
    "kid command": signed(HEADER | {"kid": "|cat /etc/passwd"}),
    "kid empty": signed(HEADER | {"kid": ""}),
    "kid list": signed(HEADER | {"kid": [KEY.key_id]}),
    "kid null": signed(HEADER | {"kid": None}),
    "no kid": signed({"alg": "RS256", "typ": "at+jwt"}),
    "jwk": signed(HEADER | {"jwk": STRANGER_JWK}, key=STRANGER),
    "jwk beside a good signature": signed(HEADER | {"jwk": STRANGER_JWK}),
    "jku": signed(HEADER | {"jku": "https://evil.example/jwks.json"}, key=STRANGER),
    "jku beside a good signature": signed(HEADER | {"jku": "https://evil.example/jwks.json"}),
    "x5u": signed(HEADER | {"x5u": "https://evil.example/cert.pem"}),
    "x5c": signed(HEADER | {"x5c": ["AAAA"]}),
    "crit": signed(HEADER | {"crit": ["exp"]}),
    "b64": signed(HEADER | {"b64": False, "crit": ["b64"]}),
    "typ JWT": signed(HEADER | {"typ": "JWT"}),
    "typ of an ID token": signed({"alg": "RS256", "kid": KEY.key_id}),
    "header name twice": signed('{"alg":"none","alg":"RS256","typ":"at+jwt","kid":"jwk_now"}'),
    "header kid twice": signed('{"alg":"RS256","typ":"at+jwt","kid":"jwk_gone","kid":"jwk_now"}'),
    "header is a list": signed("[]"),
    "claims are a list": signed(claims="[]"),
    "claims are no JSON": signed(claims="{"),
    "sub twice": signed(claims=body(sub="acc_2")),
    "exp twice": signed(claims=body(exp=_NUMBER_LATER + 10**9)),
    "exp NaN": signed(claims=json.dumps(CLAIMS | {"exp": float("nan")})),
    "exp Infinity": signed(claims=json.dumps(CLAIMS | {"exp": float("inf")})),
    "exp of a far future as a float": signed(claims=CLAIMS | {"exp": 1e30}),
    "exp as text": signed(claims=CLAIMS | {"exp": str(_NUMBER_LATER)}),
    "exp true": signed(claims=CLAIMS | {"exp": True}),
    "exp null": signed(claims=CLAIMS | {"exp": None}),
    "expired": signed(claims=CLAIMS | {"exp": NOW_S}),
    "expired long ago": signed(claims=CLAIMS | {"iat": 1, "nbf": 1, "exp": 2}),
    "not yet": signed(claims=CLAIMS | {"nbf": NOW_S + 60}),
    "made in the future": signed(claims=CLAIMS | {"iat": NOW_S + 60}),
    "another issuer": signed(claims=CLAIMS | {"iss": "https://evil.example"}),
    "issuers": signed(claims=CLAIMS | {"iss": ["mastervip"]}),
    "another audience": signed(claims=CLAIMS | {"aud": "another-api"}),
    "sub a number": signed(claims=CLAIMS | {"sub": 1}),
    "sub SQL": signed(claims=CLAIMS | {"sub": "' OR 1=1 --"}),
    "sub empty": signed(claims=CLAIMS | {"sub": ""}),
    "sid a list": signed(claims=CLAIMS | {"sid": ["ses_1"]}),
    "org a list": signed(claims=CLAIMS | {"org": ["org_a"]}),
    "org SQL": signed(claims=CLAIMS | {"org": "' OR 1=1 --"}),
    **{f"no {claim}": signed(claims=without(claim)) for claim in CLAIMS},
    "huge": signed(claims=CLAIMS | {"more": HUGE}),
    "nested a thousand deep": signed(claims="[" * 1_000),
    "four parts": signed() + ".x",
    "an encrypted token": ".".join([part({"alg": "RSA-OAEP", "enc": "A256GCM"}), "a", "b", "c", "d"]),
    "nothing": "",
    "dots": "..",
    "not base64": "eyJ!.eyJ!.x",
    "not UTF-8": f"{base64url(bytes([0xFF, 0xFE]))}.{part(CLAIMS)}.x",
    "a refresh token": "mvr_01k_01k_0_" + "a" * 52,
}


async def test_the_token_that_all_of_them_are_made_from_is_good() -> None:
    claims = await verifier().verify(signed())
    assert claims is not None
    assert (claims.sub, claims.sid, claims.org, claims.expires_at_ms) == ("acc_1", "ses_1", "", (NOW_S + 900) * 1_000)
    with_org = await verifier().verify(signed(claims=CLAIMS | {"org": "org_a"}))
    assert with_org is not None
    assert with_org.org == "org_a"


@pytest.mark.parametrize("token", ATTACKS.values(), ids=ATTACKS.keys())
async def test_no_attack_is_taken(token: str) -> None:
    assert await verifier().verify(token) is None


async def test_what_is_made_is_good_from_its_first_moment_to_its_last() -> None:
    clock = Clock()
    tokens = verifier(clock=clock)
    token = await tokens.make("acc_1", "ses_1", "at_1", "org_a", NOW_MS)
    header = jwt.get_unverified_header(token)
    assert header == HEADER
    claims = await tokens.verify(token)
    assert claims is not None
    assert claims.org == "org_a"
    clock.now = claims.expires_at_ms - 1
    assert await tokens.verify(token) is not None
    clock.now = claims.expires_at_ms
    assert await tokens.verify(token) is None
    assert claims.expires_at_ms - NOW_MS <= limits.ACCESS_TOKEN_LIFE_MS


async def test_clocks_of_gateways_may_differ_a_little() -> None:
    clock = Clock()
    tokens = verifier(clock=clock)
    token = await tokens.make("acc_1", "ses_1", "at_1", "", NOW_MS)
    clock.now = NOW_MS - limits.TOKEN_CLOCK_LEEWAY_MS
    assert await tokens.verify(token) is not None
    clock.now -= 1_000
    assert await tokens.verify(token) is None


async def test_a_key_is_good_until_its_last_token_has_expired_and_not_when_revoked() -> None:
    clock = Clock()
    successor = SigningKey("jwk_b", private_key(1), 0, NOW_MS)
    token = signed(claims=CLAIMS | {"exp": NOW_S + 10**6})
    tokens = verifier(KEY, successor, clock=clock)
    clock.now = NOW_MS + limits.ACCESS_TOKEN_LIFE_MS
    assert await tokens.verify(token) is not None
    clock.now += limits.TOKEN_CLOCK_LEEWAY_MS
    assert await tokens.verify(token) is None
    revoked = SigningKey(KEY.key_id, KEY.private, 0, 0, revoked_at_ms=NOW_MS)
    assert await verifier(revoked, NEXT).verify(signed()) is None


async def test_made_up_key_ids_that_cannot_be_ours_ask_nobody() -> None:
    keys = StillKeys([KEY])
    tokens = AccessTokens(cast(Any, keys), "mastervip", "mastervip", Clock())
    for kid in ("../../dev/null", "' OR 1=1", "", "a" * 65):
        await tokens.verify(signed(HEADER | {"kid": kid}))
    assert keys.asked_again == 0
    await tokens.verify(signed(HEADER | {"kid": "jwk_newer"}))
    assert keys.asked_again == 1


async def test_one_token_is_written_in_one_way() -> None:
    good = signed()
    header, claims, signature = good.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(signature[-1])
    assert len(signature) % 4 == 2, "its last character has bits to spare"
    others = [f"{header}.{claims}.{signature[:-1]}{alphabet[last ^ bit]}" for bit in (1, 2, 4, 8)]
    others += [good + "=", good + "==", f"{header}=.{claims}.{signature}", f"{header}.{claims}=.{signature}"]
    assert [each for each in others if await verifier().verify(each) is not None] == []
    assert await verifier().verify(good) is not None


@given(st.text(max_size=200), st.text(alphabet="eyJhbGciOi.-_=", max_size=200))
async def test_no_text_breaks_the_verifier(text: str, similar: str) -> None:
    good = signed()
    for token in (text, "eyJ" + similar, good[: len(similar)] + text, good + similar, f"{part(HEADER)}.{text}.x"):
        assert await verifier().verify(token) is None or token == good
