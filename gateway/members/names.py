"""What the engine knows of members follows to the cards: a name to verdicts, boards and live feeds, birthday and
attributes to rules.

Rules:
1. Whoever changes any of it marks the member `cards_behind` in the same transaction (`gateway.members.store`). The mark
   goes only when the engine has taken it for every card, and the member has not changed again meanwhile: it is finished
   by somebody, whoever is killed.
2. The request ids are derived from member, version and card, so doing it again changes nothing.
3. A card that is issued while its holder is changed may carry what was before. Whoever issues cards tells
   (`note_issued`), and it follows like the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Final

import msgspec

from actors.commands import RenameCardHolder, fingerprint
from actors.facts import CardHolderRenamed, CardIssued
from actors.member_commands import DescribeCardHolder
from actors.member_facts import CardHolderDescribed
from actors.profiles import NO_PROFILE, Profile
from actors.replies import Done
from gateway.cold import ColdStore
from gateway.ids import derived_id
from gateway.members import limits
from gateway.members.told import profile_of
from gateway.ports import Engine
from storage.postgres import Connection

_BEHIND: Final = """
SELECT tenant_id, member_id, name, birthday, attributes, version FROM members WHERE cards_behind LIMIT $1
"""
_CARDS: Final = "SELECT card_id, member_name, profile FROM cards WHERE tenant_id = $1 AND member_id = $2"
_DONE: Final = """
UPDATE members SET cards_behind = false WHERE tenant_id = $1 AND member_id = $2 AND version = $3 AND cards_behind
"""
_NAMED: Final = "SELECT member_id, name, birthday, attributes FROM members WHERE tenant_id = $1 AND member_id = ANY($2)"
_MARK: Final = "UPDATE members SET cards_behind = true WHERE tenant_id = $1 AND member_id = ANY($2)"
_profile_decoder = msgspec.json.Decoder(Profile)


class Behind(msgspec.Struct, frozen=True):
    """A member whose cards may carry something older than `name` and `profile`, which are those of `version`."""

    tenant_id: str
    member_id: str
    name: str
    profile: Profile
    version: int


class Names:
    """Brings names and profiles to cards. `is_fresh` tells, after waiting a while, whether Postgres knows all cards of
    a tenant."""

    def __init__(self, engine: Engine, cold: ColdStore, is_fresh: Callable[[str], Awaitable[bool]]) -> None:
        self._engine = engine
        self._cold = cold
        self._is_fresh = is_fresh

    async def follow(self, behind: Behind) -> bool:
        """Tells the member's cards; False where that has to be tried again. Raises `StoreUnavailable`."""
        if not await self._is_fresh(behind.tenant_id):
            return False
        async with self._cold.connection() as connection:
            rows = await connection.fetch(_CARDS, behind.tenant_id, behind.member_id)
        asking = [self._rename(behind, card_id) for card_id, name, _ in rows if name != behind.name]
        asking += [self._describe(behind, card_id) for card_id, _, told in rows if _profile(told) != behind.profile]
        if not all(await asyncio.gather(*asking)):
            return False
        async with self._cold.connection() as connection:
            await connection.execute(_DONE, behind.tenant_id, behind.member_id, behind.version)
        return True

    async def follow_all(self) -> bool:
        """The same for some of all who are marked; False where any is left. Raises `StoreUnavailable`."""
        async with self._cold.connection() as connection:
            rows = await connection.fetch(_BEHIND, limits.NAMES_BATCH_MEMBERS + 1)
        marked = [_behind(*row) for row in rows]
        done = [await self.follow(behind) for behind in marked[: limits.NAMES_BATCH_MEMBERS]]
        return all(done) and len(marked) <= limits.NAMES_BATCH_MEMBERS

    async def _rename(self, behind: Behind, card_id: str) -> bool:
        request_id = derived_id("req", behind.tenant_id, behind.member_id, str(behind.version), card_id)
        command = RenameCardHolder(behind.tenant_id, request_id, b"", card_id, behind.name)
        reply = await self._engine.ask(msgspec.structs.replace(command, fingerprint=fingerprint(command)))
        return isinstance(reply, Done) and isinstance(reply.fact, CardHolderRenamed)

    async def _describe(self, behind: Behind, card_id: str) -> bool:
        # Stored and read again, the same attributes may be another text: then it is another request.
        told = msgspec.json.encode(behind.profile).decode()
        request_id = derived_id("req", behind.tenant_id, behind.member_id, str(behind.version), card_id, told)
        command = DescribeCardHolder(behind.tenant_id, request_id, b"", card_id, behind.profile)
        reply = await self._engine.ask(msgspec.structs.replace(command, fingerprint=fingerprint(command)))
        return isinstance(reply, Done) and isinstance(reply.fact, CardHolderDescribed)


async def note_issued(connection: Connection, tenant_id: str, cards: Sequence[CardIssued]) -> None:
    """Rule 3."""
    if not cards:
        return
    rows = await connection.fetch(_NAMED, tenant_id, sorted({card.member_id for card in cards}))
    now = {row[0]: (row[1], _profile_of(row[2], row[3])) for row in rows}
    late = {card.member_id for card in cards if now.get(card.member_id, _carried(card)) != _carried(card)}
    if late:
        await connection.execute(_MARK, tenant_id, sorted(late))


def _carried(card: CardIssued) -> tuple[str, Profile]:
    return card.member_name, card.profile


def _behind(tenant_id: str, member_id: str, name: str, birthday: date | None, attributes: str, version: int) -> Behind:
    return Behind(tenant_id, member_id, name, _profile_of(birthday, attributes), version)


def _profile_of(birthday: date | None, attributes: str) -> Profile:
    return profile_of(birthday, msgspec.json.decode(attributes))


def _profile(text: str) -> Profile:
    """What a card's row has of it."""
    return _profile_decoder.decode(text) if text else NO_PROFILE
