"""The client as its users hold it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

from gateway.client.caller import Caller, Tagged, given
from gateway.client.cards import Cards
from gateway.client.coupons import Coupons
from gateway.client.errors import Json, OutcomeUnknown, SignedOut
from gateway.client.events import Checkins, Devices, Events, Leaderboards
from gateway.client.http import Credentials, FixedToken, Http
from gateway.client.link import SOCKET_RETRY, Wire
from gateway.client.live_socket import BACKLOG_MAX, LiveSocket
from gateway.client.members import Members
from gateway.client.people import Orgs, People
from gateway.client.retry import RetryPolicy
from gateway.client.rules import Rules
from gateway.client.scan_socket import IN_FLIGHT_MAX, ScanSocket
from gateway.client.session import Session
from gateway.client.timing import REAL, Timing

URL_DEFAULT = "http://127.0.0.1:8080"
CONNECTIONS_MAX = 32
AUTH = "/v1/auth"


class AsyncClient(Caller):
    """All that one caller can do, over connections that belong to the `AsyncMasterVip` it came from."""

    def __init__(self, http: Http, credentials: Credentials) -> None:
        super().__init__(http, credentials)
        self.orgs = Orgs(self)
        self.people = People(self)
        self.members = Members(self)
        self.cards = Cards(self)
        self.coupons = Coupons(self)
        self.rules = Rules(self)
        self.events = Events(self)
        self.devices = Devices(self)
        self.checkins = Checkins(self)
        self.leaderboards = Leaderboards(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stops what goes on in the background. The session of who is signed in goes on at the server."""
        if isinstance(self._credentials, Session):
            await self._credentials.aclose()

    @property
    def base_url(self) -> str:
        """Where the system is."""
        return self._http.base_url

    def acting_as(self, token: str | None) -> AsyncClient:
        """A client with another token over the same connections; of use until those are closed."""
        return AsyncClient(self._http, FixedToken(token))

    def _nobody(self) -> AsyncClient:
        return self.acting_as(None)

    async def register(
        self, email: str, password: str, name: str, *, locale: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Has a mail sent with the code that confirms the address (`verify`)."""
        body = given(email=email, password=password, name=name, locale=locale)
        answer: Json = await self._nobody().request(
            "POST", AUTH + "/register", json=body, idempotency_key=idempotency_key
        )
        return answer

    async def verify(self, token: str) -> None:
        """Confirms an address with the mailed code."""
        await self._nobody().request("POST", AUTH + "/verify", json={"token": token})

    async def login(self, email: str, password: str, *, org_id: str | None = None) -> Json:
        """Signs a person in: all later requests are theirs, and the access token is renewed by itself. `org_id` chooses
        for which organisation to act. The answer has `account` and `orgs`."""
        body = given(email=email, password=password, org_id=org_id)
        answer: Json = await self._nobody().request("POST", AUTH + "/login", json=body)
        self._credentials = Session(self._http, answer)
        return answer

    async def logout(self, *, everywhere: bool = False) -> None:
        """Ends the session, here and at the server; `everywhere`, all sessions of the account."""
        session = self._credentials
        if not isinstance(session, Session):
            return
        try:
            await self.request("POST", AUTH + "/logout", json={"all": everywhere})
        except SignedOut:
            pass  # it was over already
        except OutcomeUnknown as error:
            if not isinstance(error.__cause__, SignedOut):
                raise
            # The try that got no answer has ended it.
        await session.aclose()
        self._credentials = FixedToken(None)

    async def me(self) -> Tagged:
        """Whoever is signed in: the account, and its parts in organisations."""
        me: Tagged = await self.request("GET", "/v1/me")
        return me

    async def change_me(
        self,
        *,
        name: str | None = None,
        locale: str | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Tagged:
        """Changes one's own name or language."""
        return await self.edit("PATCH", "/v1/me", given(name=name, locale=locale), idempotency_key, if_match)

    async def check_in(
        self,
        event_id: str,
        credential: str,
        *,
        gate_id: str | None = None,
        direction: str | None = None,
        scan_id: str | None = None,
    ) -> Json:
        """`checkins.one`: the verdict on a scan."""
        return await self.checkins.one(event_id, credential, gate_id=gate_id, direction=direction, scan_id=scan_id)

    def scan_socket(
        self,
        event_id: str | None = None,
        *,
        gate_id: str | None = None,
        on_attendance: Callable[[Json], None] | None = None,
        on_revoked: Callable[[Json], None] | None = None,
        resume: str | None = None,
        in_flight_max: int = IN_FLIGHT_MAX,
        wire: Wire = "msgpack",
        retry: RetryPolicy = SOCKET_RETRY,
    ) -> ScanSocket:
        """A scanner's socket (see `ScanSocket`); enter it to connect. A device knows its event itself."""
        return ScanSocket(
            self._http,
            self._credentials,
            event_id,
            gate_id=gate_id,
            on_attendance=on_attendance,
            on_revoked=on_revoked,
            resume=resume,
            in_flight_max=in_flight_max,
            wire=wire,
            retry=retry,
        )

    def live_socket(
        self, *, backlog_max: int = BACKLOG_MAX, wire: Wire = "msgpack", retry: RetryPolicy = SOCKET_RETRY
    ) -> LiveSocket:
        """The live socket (see `LiveSocket`); enter it to connect."""
        return LiveSocket(self._http, self._credentials, backlog_max=backlog_max, wire=wire, retry=retry)


class AsyncMasterVip(AsyncClient):
    """A client of MasterVIP, for one event loop; close it in the end, or use it as a context manager.

    `token` is an API key or a device token; people `login`. `connections_max` bounds the HTTP connections; more
    requests wait for one. `ssl_context` is for certificates of one's own.
    """

    def __init__(
        self,
        base_url: str = URL_DEFAULT,
        token: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        connections_max: int = CONNECTIONS_MAX,
        ssl_context: ssl.SSLContext | None = None,
        timing: Timing = REAL,
    ) -> None:
        http = Http(base_url, retry or RetryPolicy(), timing, connections_max, ssl_context)
        super().__init__(http, FixedToken(token))

    async def aclose(self) -> None:
        """Ends its connections, also for those that act as others over them."""
        await super().aclose()
        await self._http.aclose()
