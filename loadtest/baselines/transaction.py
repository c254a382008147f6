"""The usual way: FastAPI, asyncpg, one transaction per check-in.

Written with care: prepared statements, few round trips; a card's scans follow one another by the lock on its row; the
contended row (the event's) is written nearly last, so that its lock is held no longer than one insert and the commit.
"""

from __future__ import annotations

import asyncpg

from gateway.problems import Problem
from loadtest.baselines.contract import POINTS_PER_FIRST_ENTRY, Outcome, Question
from loadtest.baselines.postgres_desk import OUTCOME_COLUMNS, PostgresDesk
from storage.postgres import Connection

_CARD = "SELECT member_id, member_name, tier, state, balance FROM cards WHERE card_id = $1 FOR UPDATE"
_DOOR = """
SELECT e.inside, e.admitted, e.capacity, a.is_inside, a.entries, a.turn, a.first_at_ms, a.first_gate_id,
    a.first_device_id
FROM events e LEFT JOIN attendance a ON a.event_id = e.event_id AND a.card_id = $2 WHERE e.event_id = $1
"""
_ATTEND = """
INSERT INTO attendance AS a VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (event_id, card_id)
DO UPDATE SET is_inside = $3, entries = $4, turn = $5
"""
_AWARD = """
WITH card AS (UPDATE cards SET balance = balance + $2, entry_count = entry_count + 1 WHERE card_id = $1
    RETURNING balance, entry_count)
INSERT INTO ledger SELECT $1, entry_count, $2, balance, $3, $4 FROM card RETURNING balance_after
"""
_COUNT = """
UPDATE events SET inside = inside + $2, admitted = admitted + greatest($2, 0)
WHERE event_id = $1 AND ($2 < 0 OR inside < capacity) RETURNING inside, admitted
"""
_RECORD = f"""
INSERT INTO scans (scan_id, event_id, direction, gate_id, device_id, turn, {OUTCOME_COLUMNS})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
"""


class _TakenMeanwhile(Exception):
    """The last place is gone; rolls the transaction back."""


class TransactionDesk(PostgresDesk):
    """The design."""

    async def _decide(self, question: Question) -> Outcome | None:
        async with self._pool.acquire() as connection:
            try:
                async with connection.transaction():
                    return await _in_transaction(connection, question)
            except _TakenMeanwhile:
                return None


async def _in_transaction(connection: Connection, question: Question) -> Outcome:
    event_id, card_id = question.event_id, question.card_id
    card = await connection.fetchrow(_CARD, card_id)
    door = await connection.fetchrow(_DOOR, event_id, card_id)
    if door is None:
        raise Problem("event_unknown")
    reason = _reason(card, door, question)
    inside, admitted, awarded, turn = door["inside"], door["admitted"], 0, None
    balance = card["balance"] if card is not None else 0
    if not reason:
        is_entry = question.direction == "entry"
        entries, turn = (door["entries"] or 0) + is_entry, (door["turn"] or 0) + 1
        first = (question.at_ms, question.gate_id, question.device_id)
        await connection.execute(_ATTEND, event_id, card_id, is_entry, entries, turn, *first)
        if is_entry and entries == 1:
            awarded = POINTS_PER_FIRST_ENTRY
            cause = f"checkin:{question.scan_id}"
            balance = await connection.fetchval(_AWARD, card_id, awarded, cause, question.at_ms)
        counts = await connection.fetchrow(_COUNT, event_id, 1 if is_entry else -1)
        if counts is None:
            raise _TakenMeanwhile
        inside, admitted = counts
    is_repeated = reason == "already_admitted"
    outcome = Outcome(
        question.fingerprint,
        card_id,
        question.at_ms,
        reason,
        card["member_id"] if card is not None else "",
        card["member_name"] if card is not None else "",
        card["tier"] if card is not None else "",
        inside,
        admitted,
        door["capacity"],
        awarded,
        balance,
        *((door["first_at_ms"], door["first_gate_id"], door["first_device_id"]) if is_repeated else (0, "", "")),
    )
    scan = (question.scan_id, event_id, question.direction, question.gate_id, question.device_id, turn)
    await connection.execute(_RECORD, *scan, *(getattr(outcome, name) for name in Outcome.__struct_fields__))
    return outcome


def _reason(card: asyncpg.Record | None, door: asyncpg.Record, question: Question) -> str:
    """Why not, "" if nothing is against it."""
    if card is None:
        return "credential_invalid"
    if card["state"] != "active":
        return "card_suspended"
    if question.direction == "exit":
        return "" if door["is_inside"] else "not_inside"
    if door["is_inside"]:
        return "already_admitted"
    return "full" if door["inside"] >= door["capacity"] else ""
