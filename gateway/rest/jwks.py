"""The public halves of the keys that sign access tokens, for whoever wants to check them without asking us."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Response

from gateway.identity.limits import JWKS_CACHE_MS
from gateway.identity.signing_keys import jwks
from gateway.parts import EdgeParts
from gateway.rest.common import View, edge_parts

router = APIRouter(tags=["accounts"])


class KeyView(View):
    """A JSON Web Key (RFC 7517) for RS256 (RFC 7518, 6.3.1)."""

    kty: str
    use: str
    alg: str
    kid: str
    n: str
    e: str


class KeySetView(View):
    """A JSON Web Key Set: the key that signs, the one that will, and those whose tokens are still good."""

    keys: list[KeyView]


@router.get(
    "/.well-known/jwks.json",
    summary="Keys that sign access tokens",
    response_model=KeySetView,
    responses={304: {"description": "Not changed"}},
)
async def key_set(
    parts: Annotated[EdgeParts, Depends(edge_parts)], if_none_match: Annotated[str, Header(max_length=1_000)] = ""
) -> Response:
    """May be kept for five minutes: a key is here long before it signs."""
    ring = await parts.access_tokens.keys.ring()
    body = msgspec.json.encode(jwks(ring.published(parts.clock_ms())))
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"public, max-age={JWKS_CACHE_MS // 1_000}"}
    if tag in (each.strip().removeprefix("W/") for each in if_none_match.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
