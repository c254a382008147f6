"""A member's new name follows to the cards, which carry it in the engine: to verdicts, boards and live feeds.

Rules:
1. Whoever changes a name marks the member `cards_behind` in the same transaction (`gateway.members.store`). The mark
   goes only when the engine has renamed every card, and the name has not changed again meanwhile: a rename is finished
   by somebody, whoever is killed.
2. A rename's request id is derived from member, version and card, so doing it again changes nothing.
3. A card that is issued while its holder is renamed may carry the name of before. Whoever issues cards tells
   (`note_issued`), and it is renamed like the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from actors.commands import RenameCardHolder, fingerprint
from actors.facts import CardHolderRenamed
from actors.replies import Done
from gateway.cold import ColdStore
from gateway.ids import derived_id
from gateway.members import limits
from gateway.ports import Engine
from storage.postgres import Connection

_BEHIND: Final = "SELECT tenant_id, member_id, name, version FROM members WHERE cards_behind LIMIT $1"
_CARDS: Final = "SELECT card_id FROM cards WHERE tenant_id = $1 AND member_id = $2 AND member_name <> $3"
_DONE: Final = """
UPDATE members SET cards_behind = false WHERE tenant_id = $1 AND member_id = $2 AND version = $3 AND cards_behind
"""
_ISSUED: Final = """
UPDATE members AS m SET cards_behind = true FROM unnest($2::text[], $3::text[]) AS i (member_id, name)
WHERE m.tenant_id = $1 AND m.member_id = i.member_id AND m.name <> i.name
"""


class Behind(msgspec.Struct, frozen=True):
    """A member whose cards may carry an older name than `name`, which is that of `version`."""

    tenant_id: str
    member_id: str
    name: str
    version: int


class Names:
    """Brings names to cards. `is_fresh` tells, after waiting a while, whether Postgres knows all cards of a tenant."""

    def __init__(self, engine: Engine, cold: ColdStore, is_fresh: Callable[[str], Awaitable[bool]]) -> None:
        self._engine = engine
        self._cold = cold
        self._is_fresh = is_fresh

    async def follow(self, behind: Behind) -> bool:
        """Renames the member's cards; False where that has to be tried again. Raises `StoreUnavailable`."""
        if not await self._is_fresh(behind.tenant_id):
            return False
        async with self._cold.connection() as connection:
            rows = await connection.fetch(_CARDS, behind.tenant_id, behind.member_id, behind.name)
        renamed = await asyncio.gather(*(self._rename(behind, row["card_id"]) for row in rows))
        if not all(renamed):
            return False
        async with self._cold.connection() as connection:
            await connection.execute(_DONE, behind.tenant_id, behind.member_id, behind.version)
        return True

    async def follow_all(self) -> bool:
        """The same for some of all who are marked; False where any is left. Raises `StoreUnavailable`."""
        async with self._cold.connection() as connection:
            rows = await connection.fetch(_BEHIND, limits.NAMES_BATCH_MEMBERS + 1)
        marked = [Behind(*row) for row in rows]
        done = [await self.follow(behind) for behind in marked[: limits.NAMES_BATCH_MEMBERS]]
        return all(done) and len(marked) <= limits.NAMES_BATCH_MEMBERS

    async def _rename(self, behind: Behind, card_id: str) -> bool:
        request_id = derived_id("req", behind.tenant_id, behind.member_id, str(behind.version), card_id)
        command = RenameCardHolder(behind.tenant_id, request_id, b"", card_id, behind.name)
        reply = await self._engine.ask(msgspec.structs.replace(command, fingerprint=fingerprint(command)))
        return isinstance(reply, Done) and isinstance(reply.fact, CardHolderRenamed)


async def note_issued(connection: Connection, tenant_id: str, cards: Sequence[tuple[str, str]]) -> None:
    """Rule 3. Each card is its member's id and the name that it carries."""
    if cards:
        member_ids, names = zip(*cards, strict=True)
        await connection.execute(_ISSUED, tenant_id, list(member_ids), list(names))
