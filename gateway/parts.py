"""What the edge is built from, handed in by `serve/`, and what it makes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from gateway.access_feed import AccessFeed
from gateway.cors import FixedOrigins, TenantOrigins
from gateway.credentials import CredentialBook
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


class Confirmed(Protocol):
    """What this gateway has seen confirmed; `gateway.dispatcher.Dispatcher` knows."""

    def confirmed_seq(self, tenant_id: str) -> tuple[int, int] | None:
        """The tenant's partition and the journal seq up to which outcomes were confirmed here; None if none were."""

    def partition(self, tenant_id: str) -> int | None:
        """The tenant's partition; None before any placement is known."""


class EdgeParts(msgspec.Struct, frozen=True):
    """Everything that the edge needs. `clock_ms` gives milliseconds since 1970; `is_ready` tells whether a check-in
    would succeed now."""

    engine: Engine
    confirmed: Confirmed
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
