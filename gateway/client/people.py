"""Organisations with their API keys, and members. Answers are the API's JSON, see /docs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from gateway.client.caller import Noun, given, path
from gateway.client.errors import Json

ORGS = "/v1/orgs"
MEMBERS = "/v1/members"


class Orgs(Noun):
    """Organisations."""

    async def open(
        self,
        name: str,
        *,
        time_zone: str | None = None,
        overdraft_max: int | None = None,
        checkin_points: int | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """A new one, with its first API key in `api_key`."""
        body = given(name=name, time_zone=time_zone, overdraft_max=overdraft_max, checkin_points=checkin_points)
        return await self._post(ORGS, body, idempotency_key)

    async def get(self, org_id: str) -> Json:
        """An organisation."""
        return await self._get(path(ORGS, org_id))

    async def change(
        self,
        org_id: str,
        *,
        name: str | None = None,
        time_zone: str | None = None,
        overdraft_max: int | None = None,
        checkin_points: int | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Changes what is given."""
        body = given(name=name, time_zone=time_zone, overdraft_max=overdraft_max, checkin_points=checkin_points)
        return await self._patch(path(ORGS, org_id), body, idempotency_key)

    async def add_api_key(
        self,
        org_id: str,
        *,
        name: str | None = None,
        scopes: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """A new key; its secret is in `key`, shown once."""
        return await self._post(path(ORGS, org_id, "api-keys"), given(name=name, scopes=scopes), idempotency_key)

    async def revoke_api_key(self, org_id: str, key_id: str) -> None:
        """Ends a key."""
        await self._delete(path(ORGS, org_id, "api-keys", key_id))


class Members(Noun):
    """Members of the caller's organisation."""

    async def add(
        self,
        name: str,
        *,
        email: str | None = None,
        phone: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """A new one."""
        return await self._post(MEMBERS, given(name=name, email=email, phone=phone), idempotency_key)

    async def get(self, member_id: str) -> Json:
        """A member."""
        return await self._get(path(MEMBERS, member_id))

    def all(self) -> AsyncIterator[Json]:
        """All of them."""
        return self._caller.items(MEMBERS)
