"""Members and their import. Answers are the API's JSON, see /docs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from gateway.client.caller import Noun, Param, Tagged, given, path
from gateway.client.errors import Json

MEMBERS = "/v1/members"
IMPORTS = "/v1/members/imports"


class Members(Noun):
    """Members of the caller's organisation."""

    async def add(self, name: str, /, *, idempotency_key: str | None = None, **fields: Any) -> Json:
        """A new one. Fields: `email`, `phone`, `birthday`, `locale`, `external_id`, `attributes`, `consents`."""
        return await self._post(MEMBERS, given(name=name, **fields), idempotency_key)

    async def get(self, member_id: str) -> Tagged:
        """A member."""
        return await self._get(path(MEMBERS, member_id))

    def all(self, /, **filters: Param) -> AsyncIterator[Json]:
        """All of them. Filters: `email`, `external_id`, `consent`, `created_since`, `created_until`, `erased`."""
        return self._caller.items(MEMBERS, **filters)

    async def search(self, q: str, *, limit: int | None = None) -> list[Json]:
        """By name, e-mail, phone and card number, the best first."""
        found: list[Json] = (await self._get(MEMBERS + "/search", q=q, limit=limit))["items"]
        return found

    async def change(
        self, member_id: str, /, *, if_match: str | None = None, idempotency_key: str | None = None, **changes: Any
    ) -> Tagged:
        """Changes what is given; None removes."""
        return await self._patch(path(MEMBERS, member_id), changes, idempotency_key, if_match)

    async def erase(self, member_id: str) -> None:
        """Takes a member's personal data away, for good."""
        await self._delete(path(MEMBERS, member_id))

    async def start_import(self, csv: bytes, *, mode: str | None = None, idempotency_key: str | None = None) -> Json:
        """Imports members in the background; `mode`: `create` or `upsert`."""
        started: Json = await self._caller.request(
            "POST",
            IMPORTS,
            content=csv,
            params={"mode": mode},
            headers={"content-type": "text/csv"},
            idempotency_key=idempotency_key,
        )
        return started

    async def get_import(self, import_id: str) -> Json:
        """How far an import is."""
        return await self._get(path(IMPORTS, import_id))

    async def cancel_import(self, import_id: str, *, idempotency_key: str | None = None) -> Json:
        """Stops an import; what is in stays."""
        return await self._post(path(IMPORTS, import_id, "cancel"), None, idempotency_key)
