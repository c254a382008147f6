"""Organisations with their API keys, and the people in them. Answers are the API's JSON, see /docs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

from gateway.client.caller import Noun, Param, Tagged, Time, given, path
from gateway.client.errors import Json

ORGS = "/v1/orgs"
INVITATIONS = "/v1/invitations"


class Orgs(Noun):
    """Organisations."""

    async def open(
        self,
        name: str,
        *,
        time_zone: str | None = None,
        overdraft_max: int | None = None,
        lapsed_grace_ms: int | None = None,
        checkin_points: int | None = None,
        plan: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """A new one, with its first API key in `api_key`."""
        body = given(
            name=name,
            time_zone=time_zone,
            overdraft_max=overdraft_max,
            lapsed_grace_ms=lapsed_grace_ms,
            checkin_points=checkin_points,
            plan=plan,
        )
        return await self._post(ORGS, body, idempotency_key)

    async def get(self, org_id: str) -> Tagged:
        """An organisation."""
        return await self._get(path(ORGS, org_id))

    def all(self) -> AsyncIterator[Json]:
        """Those that the caller takes part in."""
        return self._caller.items(ORGS)

    async def change(
        self, org_id: str, /, *, if_match: str | None = None, idempotency_key: str | None = None, **changes: Any
    ) -> Tagged:
        """Changes what is given: the fields of `open` but `plan`, and `branding`, `locale`, `allowed_origins`."""
        return await self._patch(path(ORGS, org_id), given(**changes), idempotency_key, if_match)

    async def member_schema(self, org_id: str) -> Tagged:
        """The `schema` of members' attributes, None where any are taken."""
        return await self._get(path(ORGS, org_id, "member-schema"))

    async def set_member_schema(
        self,
        org_id: str,
        schema: Mapping[str, Any] | None,
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Tagged:
        """Sets it; tells how many members there are that would not pass (`failing`)."""
        address = path(ORGS, org_id, "member-schema")
        return await self._caller.edit("PUT", address, {"schema": schema}, idempotency_key, if_match)

    async def tiers(self, org_id: str) -> Tagged:
        """How its cards come into tiers (`tiers`), None: by hand alone."""
        return await self._get(path(ORGS, org_id, "tiers"))

    async def set_tiers(
        self,
        org_id: str,
        levels: Sequence[Mapping[str, Any]],
        *,
        window_days: int | None = None,
        policy: Literal["keep", "one_down", "by_points"] | None = None,
        review: Mapping[str, Any] | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Tagged:
        """Sets it: levels (`tier`, `points`, `name`) from the lowest up, the window, what reviews do and when."""
        body = given(levels=levels, window_days=window_days, policy=policy, review=review)
        return await self._caller.edit("PUT", path(ORGS, org_id, "tiers"), body, idempotency_key, if_match)

    async def remove_tiers(self, org_id: str) -> None:
        """Tiers are set by hand alone from now on."""
        await self._delete(path(ORGS, org_id, "tiers"))

    async def leaderboards(self, org_id: str) -> Tagged:
        """Its own leaderboards (`boards`), and how long after their end windows take what is told late."""
        return await self._get(path(ORGS, org_id, "leaderboards"))

    async def set_leaderboards(
        self,
        org_id: str,
        boards: Sequence[Mapping[str, Any]],
        *,
        grace_hours: int | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Tagged:
        """Sets them: each with `name`, `metric` and `ties`."""
        body = given(boards=boards, grace_hours=grace_hours)
        return await self._caller.edit("PUT", path(ORGS, org_id, "leaderboards"), body, idempotency_key, if_match)

    async def credential_keys(self, org_id: str) -> Json:
        """The public keys of its cards' credentials, as a JSON Web Key Set: for scanners without a network."""
        return await self._get(path(ORGS, org_id, "credential-keys"))

    async def close(self, org_id: str, confirm: str) -> None:
        """Closes it for good; `confirm` is its name."""
        await self._delete(path(ORGS, org_id), confirm=confirm)

    def api_keys(self, org_id: str) -> AsyncIterator[Json]:
        """Its keys, without their secrets."""
        return self._caller.items(path(ORGS, org_id, "api-keys"))

    async def add_api_key(
        self,
        org_id: str,
        *,
        name: str | None = None,
        scopes: Sequence[str] | None = None,
        expires_at: Time = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """A new key; its secret is in `key`, shown once."""
        body = given(name=name, scopes=scopes, expires_at=expires_at)
        return await self._post(path(ORGS, org_id, "api-keys"), body, idempotency_key)

    async def rotate_api_key(
        self, org_id: str, key_id: str, *, overlap_seconds: int | None = None, idempotency_key: str | None = None
    ) -> Json:
        """A new secret for a key; the old one works for `overlap_seconds` more."""
        address = path(ORGS, org_id, "api-keys", key_id, "rotate")
        return await self._post(address, given(overlap_seconds=overlap_seconds), idempotency_key)

    async def revoke_api_key(self, org_id: str, key_id: str) -> None:
        """Ends a key."""
        await self._delete(path(ORGS, org_id, "api-keys", key_id))

    def audit_log(self, org_id: str, /, **filters: Param) -> AsyncIterator[Json]:
        """Its administrative acts, newest first. Filters: `action`, `actor`, `target`, `since`, `until`."""
        return self._caller.items(path(ORGS, org_id, "audit-log"), **filters)


class People(Noun):
    """Who takes part in an organisation, in which role."""

    def all(self, org_id: str) -> AsyncIterator[Json]:
        """People and their roles."""
        return self._caller.items(path(ORGS, org_id, "roles"))

    async def change_role(
        self,
        org_id: str,
        account_id: str,
        role: str,
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Tagged:
        """Gives somebody another role: `org_admin`, `staff`, `member`."""
        return await self._patch(path(ORGS, org_id, "roles", account_id), {"role": role}, idempotency_key, if_match)

    async def end_role(self, org_id: str, account_id: str) -> None:
        """Ends somebody's part."""
        await self._delete(path(ORGS, org_id, "roles", account_id))

    async def invite(
        self,
        org_id: str,
        email: str,
        role: str,
        *,
        member_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Sends somebody a mail with the token of an invitation."""
        body = given(email=email, role=role, member_id=member_id)
        return await self._post(path(ORGS, org_id, "invitations"), body, idempotency_key)

    def invitations(self, org_id: str) -> AsyncIterator[Json]:
        """All of them, with what became of them."""
        return self._caller.items(path(ORGS, org_id, "invitations"))

    async def revoke_invitation(self, org_id: str, invitation_id: str) -> None:
        """Makes its token worth nothing."""
        await self._delete(path(ORGS, org_id, "invitations", invitation_id))

    async def accept_invitation(self, token: str, *, idempotency_key: str | None = None) -> Json:
        """Takes the part that the caller was invited to."""
        return await self._post(INVITATIONS + "/accept", {"token": token}, idempotency_key)
