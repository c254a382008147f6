"""One gateway's parts, put together: the engine's client, identity, sockets, pages, and the ASGI application of them.

Knows of Ray only what `gateway.ports.Transport` says.
"""

from __future__ import annotations

import asyncio
import os
import random
import time

from actors.codec import encode_messages
from gateway.access_feed import RedisAccessFeed
from gateway.app import EdgeApp
from gateway.cold import ColdStore
from gateway.credentials import CredentialBook
from gateway.devices import Sightings
from gateway.dispatcher import Dispatcher
from gateway.freshness import Freshness
from gateway.identity.access_tokens import AccessTokens
from gateway.identity.callers import Identity
from gateway.identity.mail import OutboxMailer
from gateway.identity.passwords import PasswordHasher
from gateway.identity.post import Post
from gateway.identity.signing_keys import Safe, SigningKeys
from gateway.identity.tokens import SecretMaker
from gateway.ids import IdMaker
from gateway.limiter import Limiter
from gateway.live_hub import LiveHub
from gateway.metrics import EdgeMetrics
from gateway.orgs.api_keys import KeyUses
from gateway.orgs.mirror import OrgMirror
from gateway.parts import EdgeParts
from gateway.ports import HostUnavailable, Transport
from gateway.proxies import TrustedProxies
from gateway.rates import Rate
from gateway.redis_directory import RedisDirectory
from gateway.redis_live import RedisLiveSource
from gateway.redis_rates import RedisRates
from gateway.revocations import Revocations
from gateway.sockets.entrance import SocketParts
from gateway.sockets.live import LiveEndpoint
from gateway.sockets.register import OpenSockets
from gateway.sockets.scan import ScanEndpoint
from gateway.web.pages import PREFIX, BoardPages
from serve.clocks import monotonic_ms, monotonic_us, wall_clock_ms
from serve.settings import Settings
from storage.postgres import Pool, reader_pool
from storage.redis_journal import RedisJournal
from storage.tasks import ended

READY_FRESH_S = 0.25
NOTHING = encode_messages([])  # a batch that any host answers at once


class Edge:
    """`app` may be served between `start` and `stop`; everything belongs to one event loop."""

    app: EdgeApp

    def __init__(self, settings: Settings, transport: Transport) -> None:
        assert settings.redis_url is not None
        redis_url = settings.redis_url.get_secret_value()
        self._settings = settings
        self._transport = transport
        self._directory = RedisDirectory(redis_url)
        self._journal = RedisJournal(redis_url)
        self._live_source = RedisLiveSource(redis_url)
        self._access = RedisAccessFeed(redis_url)
        self._dispatcher = Dispatcher(transport, self._directory, random.random)
        self._hub = LiveHub(self._dispatcher, self._live_source)
        self._sockets = OpenSockets()
        self._rates = RedisRates(redis_url)
        rates = {name: Rate.parse(rate) for name, rate in settings.rates.items()}
        self._limiter = Limiter(self._rates, monotonic_us, rates, self._plan_of)
        self._orgs: OrgMirror | None = None
        self._pool: Pool | None = None
        self._post: Post | None = None
        self._passwords: PasswordHasher | None = None
        self._key_uses: KeyUses | None = None
        self._sightings: Sightings | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ready: tuple[float, bool] = (0.0, False)

    async def start(self) -> None:
        """Connects and builds `app`."""
        settings = self._settings
        assert settings.postgres_url is not None
        self._pool = await reader_pool(
            settings.postgres_url.get_secret_value(),
            settings.postgres_connections_per_process,
        )
        await self._dispatcher.start()
        ids = IdMaker(wall_clock_ms, os.urandom)
        keys = signing_keys(self._pool, settings)
        access_tokens = AccessTokens(keys, settings.jwt_issuer, settings.jwt_audience, wall_clock_ms)
        mailer = OutboxMailer(settings.data / "outbox", settings.mail_sender, wall_clock_ms, os.urandom)
        self._post = Post(mailer)
        self._passwords = PasswordHasher()
        self._key_uses = KeyUses(self._pool, wall_clock_ms)
        self._orgs = OrgMirror(self._pool)
        self._sightings = Sightings(self._pool, wall_clock_ms)
        cold = ColdStore(self._pool, wall_clock_ms, self._key_uses, self._sightings)
        parts = EdgeParts(
            engine=self._dispatcher,
            freshness=Freshness(self._pool, self._dispatcher.partition, self._journal.tail),
            pool=self._pool,
            identity=Identity(cold, monotonic_ms, access_tokens),
            credentials=credential_book(settings),
            secrets=SecretMaker(settings.secret()),
            ids=ids,
            clock_ms=wall_clock_ms,
            metrics=EdgeMetrics(),
            access=self._access,
            is_ready=self._is_ready,
            limiter=self._limiter,
            access_tokens=access_tokens,
            passwords=self._passwords,
            post=self._post,
            random_bytes=os.urandom,
            proxies=TrustedProxies(settings.trusted_proxies),
            origins=self._orgs,
        )
        self._access.follow(parts.identity.on_change)
        self._access.follow(self._sockets.on_change)
        self._access.follow(self._orgs.on_change)
        self._access.start()
        self.app = EdgeApp(parts)
        self._add_sockets(parts)
        self.app.add_page(PREFIX, BoardPages())
        loop = asyncio.get_running_loop()
        work = (self._hub, self._limiter, keys, self._key_uses, self._sightings, self._orgs, self.app.member_work)
        self._tasks = [loop.create_task(each.run()) for each in work]

    async def drain(self) -> None:
        """Sends every socket to another gateway; returns when they are gone."""
        await self._sockets.drain()

    @property
    def sockets(self) -> OpenSockets:
        """All open sockets."""
        return self._sockets

    async def stop(self) -> None:
        """Answers what is open with "try again" and gives back connections."""
        await ended(*self._tasks)
        if self._key_uses is not None:
            await self._key_uses.write()
        if self._sightings is not None:
            await self._sightings.write()
        if self._post is not None:
            await self._post.settled()
        if self._passwords is not None:
            self._passwords.close()
        await self._rates.close()
        await self._dispatcher.close()
        await self._access.close()
        await self._live_source.close()
        await self._directory.close()
        await self._journal.close()
        if self._pool is not None:
            self._pool.terminate()

    def _add_sockets(self, parts: EdgeParts) -> None:
        sockets = SocketParts(parts.engine, self.app.entrance, self._hub, self._sockets, parts.ids, parts.clock_ms)
        lists = Revocations(parts.pool, self._dispatcher.partition)
        self.app.add_socket("/v1/scan", ScanEndpoint(sockets, self.app.doorway, lists))
        self.app.add_socket("/v1/live", LiveEndpoint(sockets))

    def _plan_of(self, tenant_id: str) -> str:
        return self._orgs.plan_of(tenant_id) if self._orgs is not None else ""

    async def _is_ready(self) -> bool:
        """Every partition has an owner, and every owner answers."""
        asked_at_s, was_ready = self._ready
        if time.monotonic() - asked_at_s < READY_FRESH_S:
            return was_ready
        placement = await self._directory.placement()
        is_ready = False
        if placement is not None and self._dispatcher.is_placed:
            answers = await asyncio.gather(*(self._answers(host) for host in placement.hosts))
            is_ready = all(answers)
        self._ready = (time.monotonic(), is_ready)
        return is_ready

    async def _answers(self, host: str) -> bool:
        try:
            await self._transport.submit(host, NOTHING)
        except HostUnavailable:
            return False
        return True


def credential_book(settings: Settings) -> CredentialBook:
    """The credentials of cards, with the keys that the settings want."""
    return CredentialBook(settings.secret(), settings.card_key_ids)


def signing_keys(pool: Pool, settings: Settings) -> SigningKeys:
    """The keys of access tokens, as the settings want them."""
    safe = Safe(settings.secret(), os.urandom)
    lifetime_ms = settings.jwt_key_lifetime_s * 1_000
    return SigningKeys(pool, safe, IdMaker(wall_clock_ms, os.urandom), wall_clock_ms, lifetime_ms)
