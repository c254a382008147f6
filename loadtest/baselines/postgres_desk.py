"""What the two designs on Postgres share: the tables and how they are filled, and what becomes of a retry.

Rules:
1. A scan's row is written in the same transaction as all that it does. That its id is the table's key makes sure that
   it is done once; whoever meets the key finds the outcome in the row.
2. What lost a race is decided again, on what the winner left.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from importlib.resources import files

import asyncpg

from gateway.problems import Problem
from loadtest.baselines.contract import Outcome, Question
from storage.postgres import Pool

OUTCOME_COLUMNS = ", ".join(Outcome.__struct_fields__)
_REPLAY = f"SELECT {OUTCOME_COLUMNS} FROM scans WHERE scan_id = $1"


class PostgresDesk:
    """A design on a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def judge(self, question: Question) -> tuple[Outcome, bool]:
        """See `Desk`."""
        while True:
            try:
                outcome = await self._decide(question)
            except asyncpg.UniqueViolationError:
                earlier = await self._pool.fetchrow(_REPLAY, question.scan_id)
                if earlier is None:
                    continue
                if earlier["fingerprint"] != question.fingerprint:
                    raise Problem("id_reused") from None
                return Outcome(*earlier), True
            if outcome is not None:
                return outcome, False

    @abstractmethod
    async def _decide(self, question: Question) -> Outcome | None:
        """Decides and commits; None when another changed meanwhile what it was decided on. Raises
        `asyncpg.UniqueViolationError` when the scan's row is there, or somebody else's turn was taken; `Problem`."""


async def prepare(dsn: str, cards: Sequence[tuple[str, str, str, str]], events: Sequence[tuple[str, int]]) -> None:
    """Makes and fills the tables of an empty database: cards by id, member's id, name and tier; events by id and
    capacity."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute((files("loadtest.baselines") / "schema.sql").read_text())
        columns = ["card_id", "member_id", "member_name", "tier"]
        await connection.copy_records_to_table("cards", records=cards, columns=columns)
        await connection.copy_records_to_table("events", records=events, columns=["event_id", "capacity"])
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
