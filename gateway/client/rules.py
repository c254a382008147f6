"""Rules: "if this, then that" as documents. Answers are the API's JSON, see /docs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from gateway.client.caller import Noun, Tagged, Time, given, path
from gateway.client.errors import Json

RULES = "/v1/rules"
Document = Mapping[str, Any]


class Rules(Noun):
    """Rules of the caller's organisation."""

    async def make(self, rule: Document, *, idempotency_key: str | None = None) -> Json:
        """A new one, a draft unless the document says `"state": "active"`."""
        return await self._post(RULES, {"rule": rule}, idempotency_key)

    async def get(self, rule_id: str) -> Tagged:
        """A rule with the points that it gave, and how it last failed."""
        return await self._get(path(RULES, rule_id))

    async def all(self) -> AsyncIterator[Json]:
        """All of them, by their ids."""
        for rule in (await self._get(RULES))["items"]:
            yield rule

    async def change(
        self, rule_id: str, rule: Document, *, if_match: str | None = None, idempotency_key: str | None = None
    ) -> Tagged:
        """The whole document, which becomes the next version."""
        return await self._caller.edit("PUT", path(RULES, rule_id), {"rule": rule}, idempotency_key, if_match)

    async def set_state(
        self, rule_id: str, state: str, *, if_match: str | None = None, idempotency_key: str | None = None
    ) -> Tagged:
        """ "draft", "active" or "paused"."""
        where = path(RULES, rule_id, "state")
        return await self._caller.edit("POST", where, {"state": state}, idempotency_key, if_match)

    async def delete(self, rule_id: str, *, if_match: str | None = None, idempotency_key: str | None = None) -> None:
        """For good. What it gave stays, and so do its versions."""
        await self._caller.edit("DELETE", path(RULES, rule_id), None, idempotency_key, if_match)

    def versions(self, rule_id: str) -> AsyncIterator[Json]:
        """All that a rule ever was, newest first."""
        return self._caller.items(path(RULES, rule_id, "versions"))

    async def version(self, rule_id: str, number: int) -> Json:
        """One of them: effects cite "rule:version"."""
        return await self._get(path(RULES, rule_id, "versions", str(number)))

    async def simulate(
        self,
        rule: Document,
        *,
        rule_id: str | None = None,
        since: Time = None,
        until: Time = None,
        moments: Sequence[Document] | None = None,
    ) -> Json:
        """What a draft (in place of the saved rule `rule_id`) would have done in a span of the past, or at moments that
        are made up; nothing is saved."""
        against = {"rule_id": rule_id, "from": since, "until": until, "moments": moments}
        return await self._post(f"{RULES}:simulate", given(rule=rule, **against), None)

    async def schema(self) -> Json:
        """The JSON schema of documents."""
        return await self._get(path(RULES, "schema"))

    async def templates(self) -> AsyncIterator[Json]:
        """Ready-made rules with what they leave open."""
        for template in (await self._get(path(RULES, "templates")))["items"]:
            yield template

    async def fill(self, template_id: str, /, **values: Any) -> Json:
        """The document that a template and these values make; nothing is saved."""
        filled = await self._post(path(RULES, "templates", template_id, "fill"), {"values": values}, None)
        return dict(filled["rule"])
