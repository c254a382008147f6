"""The published keys: enough to check our tokens without asking us, also while keys are replaced."""

from __future__ import annotations

from typing import Any

import jwt

from gateway.identity import limits
from tests.edge.in_process import System

PATH = "/.well-known/jwks.json"


def checked(token: str, key_set: Any) -> Any:
    """What a stranger makes of a token with nothing but the published keys, by the book (PyJWT)."""
    key_id = jwt.get_unverified_header(token)["kid"]
    key = next(jwt.PyJWK(each) for each in key_set["keys"] if each["kid"] == key_id)
    # (Its clock is the system's, ours is ahead.)
    timeless: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    return jwt.decode(token, key, ["RS256"], audience="mastervip", issuer="mastervip", options=timeless)


async def test_strangers_check_our_tokens_with_the_published_keys(system: System) -> None:
    signed_in = await system.register_and_login("ann@example.com")
    answer = await system.call("GET", PATH)
    assert answer.headers["cache-control"] == f"public, max-age={limits.JWKS_CACHE_MS // 1_000}"
    claims = checked(signed_in["access_token"], answer.json())
    assert claims["sub"] == signed_in["account"]["id"]
    assert claims["exp"] - claims["iat"] == 900
    assert jwt.get_unverified_header(signed_in["access_token"])["typ"] == "at+jwt"
    assert set(claims) == {"iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"}, "what they may do is not in it"


async def test_what_has_not_changed_is_not_sent_again(system: System) -> None:
    first = await system.call("GET", PATH)
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = await system.call("GET", PATH, **{"If-None-Match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert (await system.call("GET", PATH, **{"If-None-Match": '"other"'})).status == 200
    await system.parts.access_tokens.keys.rotate()
    changed = await system.call("GET", PATH, **{"If-None-Match": tag})
    assert changed.status == 200
    assert len(changed.json()["keys"]) == 2


async def test_a_rotation_under_way_is_noticed_by_nobody(system: System) -> None:
    """Minute by minute: whoever signed in is let in until their token ends, and a stranger whose copy of the keys is as
    old as it may be can check every token."""
    copy, copied_at_ms = (await system.call("GET", PATH)).json(), 0
    signed_in = [await system.register_and_login("ann@example.com")]
    await system.parts.access_tokens.keys.rotate()
    used = set()
    minutes = 2 * limits.KEY_PUBLISHED_BEFORE_MS // 60_000
    for _ in range(minutes):
        system.clock.ahead_ms += 60_000
        body = {"refresh_token": signed_in[-1]["refresh_token"]}
        signed_in.append(await system.made("POST", "/v1/auth/refresh", body))
        used.add(jwt.get_unverified_header(signed_in[-1]["access_token"])["kid"])
        checked(signed_in[-1]["access_token"], copy)
        if system.clock.ahead_ms - copied_at_ms >= limits.JWKS_CACHE_MS:
            copy, copied_at_ms = (await system.call("GET", PATH)).json(), system.clock.ahead_ms
        for each in signed_in[-14:]:
            assert (await system.call("GET", "/v1/me", token=each["access_token"])).status == 200
    assert len(used) == 2


async def test_after_a_leak_every_token_until_then_is_void(system: System) -> None:
    signed_in = await system.register_and_login("ann@example.com")
    await system.parts.access_tokens.keys.rotate(is_revoking=True)
    system.clock.ahead_ms += 10_000  # what was remembered of it
    assert (await system.call("GET", "/v1/me", token=signed_in["access_token"])).status == 401
    renewed = await system.made("POST", "/v1/auth/refresh", {"refresh_token": signed_in["refresh_token"]})
    assert (await system.call("GET", "/v1/me", token=renewed["access_token"])).status == 200
    assert len((await system.call("GET", PATH)).json()["keys"]) == 1
