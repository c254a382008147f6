"""The edge on stand-ins: no Postgres, no hosts. For tests of the hot paths and of what never reaches a store."""

from __future__ import annotations

import time
from typing import Any, cast

from gateway.access_feed import MemoryAccessFeed
from gateway.app import EdgeApp
from gateway.credentials import CredentialBook
from gateway.deprecations import Deprecations
from gateway.freshness import Freshness
from gateway.identity.access_tokens import AccessTokens
from gateway.identity.callers import Caller
from gateway.identity.passwords import PasswordHasher
from gateway.identity.post import Post
from gateway.identity.tokens import SecretMaker
from gateway.ids import IdMaker
from gateway.limiter import Limiter
from gateway.memory_rates import MemoryRates
from gateway.metrics import EdgeMetrics
from gateway.parts import EdgeParts
from gateway.rates import Rate
from gateway.rotating import step_of
from storage.memory_journal import MemoryJournal
from tests.edge.fakes import NOW_MS, OTHER_TENANT, SUPERADMIN, TENANT, FakeEngine, FakeIdentity
from tests.support.identity import CHEAP, Mailbox, StillKeys

MASTER = b"m" * 32
# Tests ask faster than people do; those about limits set their own.
UNLIMITED = dict.fromkeys(
    ("rest-key", "rest-account", "rest-device", "rest-ip", "auth-failed-ip", "login-ip", "login-account"), "1000000/s"
)
ALL = frozenset({"manage", "read", "scan"})
KEY, DEVICE, OTHER_KEY, SCAN_KEY, ADMIN = "mvk_key", "mvd_device", "mvk_other", "mvk_scan", "eyJ_admin"
CALLERS = {
    KEY: Caller(TENANT, "api_key", ALL, key_id="key_1"),
    SCAN_KEY: Caller(TENANT, "api_key", frozenset({"scan"}), key_id="key_2"),
    OTHER_KEY: Caller(OTHER_TENANT, "api_key", ALL, key_id="key_3"),
    DEVICE: Caller(TENANT, "device", frozenset({"scan"}), device_id="dev_1", event_id="evt_1"),
    ADMIN: SUPERADMIN,
}


class PoolOfNone:
    """A pool whose server is away."""

    def acquire(self) -> Any:
        """See `asyncpg.Pool`."""
        raise ConnectionRefusedError("there is no Postgres here")

    async def fetch(self, *_: object) -> Any:
        """See `asyncpg.Pool`."""
        raise ConnectionRefusedError("there is no Postgres here")


class FakeEdge:
    """An `EdgeApp` on a `FakeEngine`."""

    def __init__(
        self, rates: dict[str, str] | None = None, deprecations: Deprecations | None = None, **more: Any
    ) -> None:
        """`rates` by name ("checkins-device"), `more` further parts."""
        self.engine = FakeEngine()
        self.limiter = memory_limiter(**UNLIMITED | (rates or {}))
        self.book = CredentialBook(MASTER)
        counter = iter(range(1, 10**9))
        ids = IdMaker(lambda: NOW_MS, lambda count: next(counter).to_bytes(count, "big"))
        self.app = EdgeApp(
            EdgeParts(
                engine=self.engine,
                freshness=Freshness(cast(Any, PoolOfNone()), lambda _: None, MemoryJournal().tail),
                pool=cast(Any, PoolOfNone()),
                identity=cast(Any, FakeIdentity(CALLERS)),
                credentials=self.book,
                secrets=SecretMaker(MASTER),
                ids=ids,
                clock_ms=lambda: NOW_MS,
                metrics=EdgeMetrics(),
                access=MemoryAccessFeed(),
                is_ready=_yes,
                limiter=self.limiter,
                access_tokens=AccessTokens(cast(Any, StillKeys([])), "mastervip", "mastervip", lambda: NOW_MS),
                passwords=PasswordHasher(CHEAP),
                post=Post(Mailbox()),
                random_bytes=bytes,
                **more,
            ),
            deprecations,
        )

    def credential(self, tenant_id: str = TENANT, card_id: str = "card_1", **validity: int) -> str:
        """A good credential."""
        return self.book.issue(tenant_id, card_id, "gold", NOW_MS, **validity)

    def rotating(self, at_ms: int = NOW_MS, **validity: int) -> str:
        """What the phone with card_1 shows at a time."""
        base = self.book.issue(TENANT, "card_1", "gold", NOW_MS, **validity, is_rotating=True)
        return base + self.book.codes.code(TENANT, "card_1", 0, step_of(at_ms))


def memory_limiter(**rates: str) -> Limiter:
    """A limiter of its own, with other rates than the usual ones where given."""

    def clock_us() -> int:
        return time.monotonic_ns() // 1_000

    named = {name: Rate.parse(rate) for name, rate in rates.items()}
    return Limiter(MemoryRates(clock_us, 10_000), clock_us, named)


async def _yes() -> bool:
    return True


def bearer(token: str) -> dict[str, str]:
    """The header."""
    return {"Authorization": f"Bearer {token}"}
