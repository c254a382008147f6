"""A signed-in person's tokens: the access token, and its renewal with the refresh token.

Rules:
1. It is renewed `RENEW_BEFORE_S` before it ends, or when the system refuses it, by one request however many callers
   wait ("single flight"): a refresh token works once.
2. The renewal's Idempotency-Key belongs to the refresh token. Whoever tries again, after a lost answer or a cancelled
   call, is the same request and gets the same answer.
3. A refresh token that is refused ends the session: `SignedOut`.
"""

from __future__ import annotations

import asyncio

import msgspec

from gateway.client.errors import ApiError, Json, MasterVipError, OutcomeUnknown, SignedOut, Unavailable
from gateway.client.http import FixedToken, Http, Request

RENEW_BEFORE_S = 60.0
REFUSALS = frozenset({400, 401, 403})
_NOBODY = FixedToken(None)


class Session:
    """The credentials of whoever signed in (see `http.Credentials`). Made from the answer to a login."""

    def __init__(self, http: Http, answer: Json) -> None:
        self._http = http
        self._renewing: asyncio.Task[None] | None = None
        self._over = ""
        self._take(answer)

    async def bearer(self) -> str | None:
        """The access token, renewed if it is about to end. Raises `SignedOut`, `Unavailable`."""
        left_s = self._ends_at_s - self._http.timing.now_s()
        if left_s < self._renew_before_s:
            try:
                await self._renew()
            except Unavailable:
                if left_s <= 0:
                    raise
        return self._access_token

    async def renew(self, spent: str) -> bool:
        """See `Credentials`. Raises `SignedOut`, `Unavailable`."""
        if spent == self._access_token:
            await self._renew()
        return True

    async def aclose(self) -> None:
        """Stops a renewal under way."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    async def _renew(self) -> None:
        if self._over:
            raise SignedOut(self._over)
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._ask())
            self._renewing.add_done_callback(self._asked)
        # The renewal goes on when a caller is cancelled: the others wait for it, and its answer must not get lost.
        await asyncio.shield(self._renewing)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._renewing = None
        if not task.cancelled():
            task.exception()  # told to whoever waits; nobody may be left

    async def _ask(self) -> None:
        body = msgspec.json.encode({"refresh_token": self._refresh_token})
        request = Request("POST", "/v1/auth/refresh", body, idempotency_key=self._key)
        try:
            answer = await self._http.send(request, _NOBODY)
        except ApiError as error:
            if error.status not in REFUSALS:
                raise Unavailable(f"the access token could not be renewed: {error}") from error
            self._over = f"the session is over: {error}"
            raise SignedOut(self._over) from error
        except OutcomeUnknown as error:
            # Not the caller's request: that one was not sent. The next renewal asks under the same key.
            raise Unavailable(f"the access token could not be renewed: {error}") from error
        self._take(answer.json())

    def _take(self, answer: Json) -> None:
        try:
            self._access_token: str = answer["access_token"]
            self._refresh_token: str = answer["refresh_token"]
            lives_s = float(answer["expires_in"])
        except (TypeError, KeyError, ValueError) as error:
            raise MasterVipError(f"the answer to a login or a renewal has no {error}") from error
        self._key = self._http.ids.request_id()
        self._ends_at_s = self._http.timing.now_s() + lives_s
        self._renew_before_s = min(RENEW_BEFORE_S, lives_s / 4)
