"""What the edge is built from, handed in by `serve/`, and what it makes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from gateway.access_feed import AccessFeed
from gateway.cors import FixedOrigins, TenantOrigins
from gateway.credentials import CredentialBook
from gateway.freshness import Freshness
from gateway.identity.access_tokens import AccessTokens
from gateway.identity.callers import Identity
from gateway.identity.passwords import PasswordHasher
from gateway.identity.post import Post
from gateway.identity.tokens import SecretMaker
from gateway.ids import IdMaker
from gateway.limiter import Limiter
from gateway.metrics import EdgeMetrics
from gateway.ports import Engine
from gateway.proxies import TrustedProxies
from storage.postgres import Pool


class EdgeParts(msgspec.Struct, frozen=True):
    """Everything that the edge needs. `clock_ms` gives milliseconds since 1970; `is_ready` tells whether a check-in
    would succeed now."""

    engine: Engine
    freshness: Freshness
    pool: Pool
    identity: Identity
    credentials: CredentialBook
    secrets: SecretMaker
    ids: IdMaker
    clock_ms: Callable[[], int]
    metrics: EdgeMetrics
    access: AccessFeed
    is_ready: Callable[[], Awaitable[bool]]
    limiter: Limiter
    access_tokens: AccessTokens
    passwords: PasswordHasher
    post: Post
    random_bytes: Callable[[int], bytes]
    proxies: TrustedProxies = TrustedProxies()
    origins: TenantOrigins = FixedOrigins()
