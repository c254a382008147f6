"""The whole engine in one process: edge, dispatcher, host, journal in memory, projector, and a real Postgres."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, cast

from actors.host import Host
from actors.replies import Digest
from gateway.access_feed import AccessChange, MemoryAccessFeed
from gateway.app import EdgeApp
from gateway.cold import ColdStore
from gateway.credentials import CredentialBook
from gateway.devices import Sightings
from gateway.dispatcher import Dispatcher
from gateway.freshness import Freshness
from gateway.identity import memberships
from gateway.identity.access_tokens import AccessTokens
from gateway.identity.callers import Caller, Identity
from gateway.identity.memberships import MembershipRole
from gateway.identity.passwords import PasswordHasher
from gateway.identity.post import Post
from gateway.identity.signing_keys import Safe, SigningKeys
from gateway.identity.tokens import SecretMaker
from gateway.ids import IdMaker
from gateway.live_hub import LiveHub
from gateway.memory_live import MemoryLive
from gateway.metrics import EdgeMetrics
from gateway.orgs.api_keys import KeyUses
from gateway.parts import EdgeParts
from gateway.revocations import Revocations
from gateway.sockets.entrance import SocketParts
from gateway.sockets.live import LiveEndpoint
from gateway.sockets.register import OpenSockets
from gateway.sockets.scan import ScanEndpoint
from gateway.web.pages import PREFIX, BoardPages
from storage.memory_journal import MemoryJournal
from storage.migrate import migrate
from storage.postgres import Pool, reader_pool, writer_pool
from storage.postgres_store import PostgresStore
from storage.projector import Projector
from tests.edge.asgi import Answer, call
from tests.edge.edge import UNLIMITED, memory_limiter
from tests.edge.fakes import SUPERADMIN, FakeDirectory
from tests.support.identity import CHEAP, Clock, Mailbox, key_maker
from tests.support.watched import Watch, WatchedEngine, WatchedPool

MASTER = b"s" * 32
SUPERADMIN_TOKEN = "the-platforms-operator"
PARTITIONS = (0, 1)
_numbers = count()
PASSWORD = "a-lamp-and-8842-doors"


def clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class LivePublisher:
    """Live updates go to the gateway's source, in this process."""

    def __init__(self) -> None:
        self.live = MemoryLive()

    def publish(self, digests: Sequence[Digest]) -> None:
        """See `actors.host.Publisher`."""
        for digest in digests:
            self.live.publish(digest)


class DirectTransport:
    """Calls the host's methods, in place of sockets."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def submit(self, host: str, batch: bytes) -> bytes:
        """See `gateway.ports.Transport`."""
        return await self._host.submit(batch)

    async def collect(self, host: str, ticket: int) -> bytes:
        """See `gateway.ports.Transport`."""
        return await self._host.collect(ticket)


class System:
    """What tests talk to. `pause` and `resume` stop the projector, so that Postgres falls behind."""

    hub: LiveHub
    sockets: OpenSockets
    # Another gateway's way to the same hosts.
    elsewhere: Dispatcher

    def __init__(
        self,
        parts: EdgeParts,
        projector: Projector,
        mailbox: Mailbox,
        clock: Clock,
        key_uses: KeyUses,
        sightings: Sightings,
    ) -> None:
        self.parts = parts
        self.app = EdgeApp(parts)
        self.book = parts.credentials
        self.projector = projector
        self.mailbox = mailbox
        self.clock = clock
        self.key_uses = key_uses
        self.sightings = sightings

    async def call(
        self, method: str, path: str, body: Any = None, token: str | None = None, key: str | None = None, **headers: str
    ) -> Answer:
        """One request as the token's holder, with an Idempotency-Key if given."""
        sent = dict(headers)
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if key is not None:
            sent["Idempotency-Key"] = key
        return await call(self.app, method, path, body, sent)

    async def made(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Any:
        """The same, for what must succeed."""
        answer = await self.call(method, path, body, token, **headers)
        assert answer.status < 300, answer.body
        return answer.json()

    @property
    def watch(self) -> Watch:
        """Sees what the edge asks of Postgres and of the engine."""
        return cast(WatchedEngine, self.parts.engine).watch

    # --- accounts -----------------------------------------------------------------------------------------------------

    async def register(self, email: str, password: str = PASSWORD, *, is_verified: bool = True) -> None:
        """A new account, its address confirmed by the mailed code."""
        await self.made("POST", "/v1/auth/register", {"email": email, "password": password, "name": "Someone"})
        await self.parts.post.settled()
        if is_verified:
            await self.made("POST", "/v1/auth/verify", {"token": self.mailbox.to(email)[-1].token})

    async def login(self, email: str, password: str = PASSWORD, **more: Any) -> Any:
        """The answer to a sign-in: `access_token`, `refresh_token`, `account` …"""
        return await self.made("POST", "/v1/auth/login", {"email": email, "password": password, **more})

    async def register_and_login(self, email: str, *, is_verified: bool = True) -> Any:
        """The answer to the first sign-in of a new account."""
        await self.register(email, is_verified=is_verified)
        return await self.login(email)

    async def grant(self, account_id: str, org_id: str, role: MembershipRole, member_id: str | None = None) -> None:
        """Gives an account a part in an organisation, whatever the API would say."""
        await memberships.grant(cast(Any, self.parts.pool), account_id, org_id, role, member_id, self.clock.wall_ms())
        await self.parts.access.publish(AccessChange("account", account_id))

    async def signed_in(self, role: MembershipRole, org_id: str, member_id: str | None = None) -> Any:
        """Somebody new with this part in the organisation: the answer to their sign-in."""
        email = f"{role.replace('_', '-')}-{next(_numbers)}@example.com"
        await self.register(email)
        account = (await self.login(email))["account"]
        await self.grant(account["id"], org_id, role, member_id)
        return await self.login(email)

    async def superadmin(self) -> Any:
        """Somebody new who runs the platform: the answer to their sign-in."""
        email = f"platform-{next(_numbers)}@example.com"
        await self.register(email)
        await self.parts.pool.execute("UPDATE accounts SET platform_role = 'superadmin' WHERE email = $1", email)
        return await self.login(email)

    # --- organisations ------------------------------------------------------------------------------------------------

    async def open_org(self, name: str = "Table", **fields: Any) -> Any:
        """A new organisation, with its API key in `key`."""
        org = await self.made("POST", "/v1/orgs", {"name": name, **fields}, SUPERADMIN_TOKEN)
        return org | {"key": org["api_key"]["key"]}


class _Identity(Identity):
    """Knows the platform's operator by a constant, so that tests which only need one do not have to sign in."""

    def cached(self, token: str, org_id: str = "") -> Caller | None:
        """See `Identity`."""
        return SUPERADMIN if token == SUPERADMIN_TOKEN else super().cached(token, org_id)


def _system(
    inner: Pool,
    dispatcher: Dispatcher,
    projector: Projector,
    journal: MemoryJournal,
    live: MemoryLive,
    rates: dict[str, str],
    more: dict[str, Any],
) -> System:
    """The edge of it, with its sockets."""
    watch = Watch()
    engine, pool = WatchedEngine(dispatcher, watch), WatchedPool(inner, watch).as_pool()
    clock, mailbox = Clock(), Mailbox()
    ids = IdMaker(clock.wall_ms, os.urandom)
    keys = SigningKeys(pool, Safe(MASTER, os.urandom), ids, clock.wall_ms, make_private_key=key_maker)
    access_tokens = AccessTokens(keys, "mastervip", "mastervip", clock.wall_ms)
    key_uses = KeyUses(pool, clock.wall_ms)
    sightings = Sightings(pool, clock.wall_ms)
    cold = ColdStore(pool, clock.wall_ms, key_uses, sightings)
    identity = _Identity(cold, clock.monotonic_ms, access_tokens)
    access, sockets = MemoryAccessFeed(), OpenSockets()
    access.follow(identity.on_change)
    access.follow(sockets.on_change)

    async def is_ready() -> bool:
        return dispatcher.is_placed

    parts = EdgeParts(
        engine=engine,
        freshness=Freshness(pool, dispatcher.partition, journal.tail),
        pool=pool,
        identity=identity,
        credentials=CredentialBook(MASTER),
        secrets=SecretMaker(MASTER),
        ids=ids,
        clock_ms=clock.wall_ms,
        metrics=EdgeMetrics(),
        access=access,
        is_ready=is_ready,
        limiter=memory_limiter(**rates),
        access_tokens=access_tokens,
        passwords=PasswordHasher(CHEAP),
        post=Post(mailbox),
        random_bytes=os.urandom,
        **more,
    )
    system = System(parts, projector, mailbox, clock, key_uses, sightings)
    system.hub, system.sockets = LiveHub(engine, live), sockets
    shared = SocketParts(engine, system.app.entrance, system.hub, sockets, ids, clock.wall_ms)
    lists = Revocations(pool, dispatcher.partition)
    system.app.add_socket("/v1/scan", ScanEndpoint(shared, system.app.doorway, lists))
    system.app.add_socket("/v1/live", LiveEndpoint(shared))
    system.app.add_page(PREFIX, BoardPages())
    return system


@asynccontextmanager
async def running_system(database: str, rates: dict[str, str] | None = None, **more: Any) -> AsyncIterator[System]:
    """Starts it all, and stops it after. `rates` by name, `more` further parts of the edge. The host has a pool of its
    own, so that what the edge asks can be told from what it asks."""
    await migrate(database)
    pool, store = await reader_pool(database, 4), await reader_pool(database, 2)
    writers = await writer_pool(database, 2)
    journal = MemoryJournal()
    publisher = LivePublisher()
    host = Host("one", journal, PostgresStore(store), publisher, clock_ms, len(PARTITIONS))
    await host.start()
    await host.adopt(PARTITIONS)
    while any(state == "opening" for state in host.health().partitions.values()):  # noqa: ASYNC110 - the host tells nobody
        await asyncio.sleep(0.005)
    projector = Projector(journal, writers, PARTITIONS, clock_ms)
    projecting = asyncio.create_task(projector.run())
    dispatcher = Dispatcher(DirectTransport(host), FakeDirectory({"one": list(PARTITIONS)}), lambda: 0.5)
    await dispatcher.start()
    elsewhere = Dispatcher(DirectTransport(host), FakeDirectory({"one": list(PARTITIONS)}), lambda: 0.5)
    await elsewhere.start()
    system = _system(pool, dispatcher, projector, journal, publisher.live, {**UNLIMITED, **(rates or {})}, more)
    system.elsewhere = elsewhere
    running = [asyncio.create_task(system.hub.run()), asyncio.create_task(system.parts.limiter.run())]
    try:
        yield system
    finally:
        await system.sockets.drain()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await system.parts.post.settled()
        system.parts.passwords.close()
        await dispatcher.close()
        await elsewhere.close()
        await projector.stop()
        await projecting
        await host.drain()
        await host.stop()
        await pool.close()
        await store.close()
        await writers.close()
