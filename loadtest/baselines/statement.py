"""The usual way with one round trip: FastAPI, asyncpg, one statement per check-in that decides and writes everything.

A statement sees the tables as they were when it began, and the row of the event, which it updates, as it is now. So
room is checked where the row is locked (`counted`); that nobody else has changed the card's attendance meanwhile is
what the unique `turn` of `scans` makes sure of: the later statement fails as a whole, and is run again.
"""

from __future__ import annotations

from gateway.problems import Problem
from loadtest.baselines.contract import POINTS_PER_FIRST_ENTRY, Outcome, Question
from loadtest.baselines.postgres_desk import OUTCOME_COLUMNS, PostgresDesk

_CHECK_IN = f"""
WITH judged AS (
    SELECT e.event_id, e.inside, e.admitted, e.capacity, c.member_id, c.member_name, c.tier, c.balance,
        coalesce(a.entries, 0) AS entries, coalesce(a.turn, 0) + 1 AS turn,
        a.first_at_ms, a.first_gate_id, a.first_device_id,
        CASE WHEN c.card_id IS NULL THEN 'credential_invalid'
            WHEN c.state <> 'active' THEN 'card_suspended'
            WHEN $4 = 'exit' THEN CASE WHEN a.is_inside THEN '' ELSE 'not_inside' END
            WHEN a.is_inside THEN 'already_admitted'
            WHEN e.inside >= e.capacity THEN 'full'
            ELSE '' END AS reason
    FROM events e LEFT JOIN cards c ON c.card_id = $3
        LEFT JOIN attendance a ON a.event_id = $2 AND a.card_id = $3
    WHERE e.event_id = $2
), counted AS (
    UPDATE events e SET inside = e.inside + CASE WHEN $4 = 'entry' THEN 1 ELSE -1 END,
        admitted = e.admitted + CASE WHEN $4 = 'entry' THEN 1 ELSE 0 END
    FROM judged j WHERE e.event_id = $2 AND j.reason = '' AND ($4 = 'exit' OR e.inside < e.capacity)
    RETURNING e.inside, e.admitted
), attended AS (
    INSERT INTO attendance AS a
    SELECT $2, $3, $4 = 'entry', j.entries + CASE WHEN $4 = 'entry' THEN 1 ELSE 0 END, j.turn, $7, $5, $6
    FROM judged j, counted
    ON CONFLICT (event_id, card_id) DO UPDATE
    SET is_inside = excluded.is_inside, entries = excluded.entries, turn = excluded.turn
), paid AS (
    UPDATE cards c SET balance = c.balance + {POINTS_PER_FIRST_ENTRY}, entry_count = c.entry_count + 1
    FROM judged j, counted WHERE c.card_id = $3 AND $4 = 'entry' AND j.entries = 0
    RETURNING c.balance, c.entry_count
), posted AS (
    INSERT INTO ledger SELECT $3, entry_count, {POINTS_PER_FIRST_ENTRY}, balance, 'checkin:' || $1, $7 FROM paid
)
INSERT INTO scans (scan_id, event_id, direction, gate_id, device_id, turn, {OUTCOME_COLUMNS})
SELECT $1, $2, $4, $5, $6, CASE WHEN j.reason = '' THEN j.turn END, $8, $3, $7, j.reason,
    coalesce(j.member_id, ''), coalesce(j.member_name, ''), coalesce(j.tier, ''),
    coalesce(counted.inside, j.inside), coalesce(counted.admitted, j.admitted), j.capacity,
    CASE WHEN paid.balance IS NULL THEN 0 ELSE {POINTS_PER_FIRST_ENTRY} END, coalesce(paid.balance, j.balance, 0),
    CASE WHEN j.reason = 'already_admitted' THEN j.first_at_ms ELSE 0 END,
    CASE WHEN j.reason = 'already_admitted' THEN j.first_gate_id ELSE '' END,
    CASE WHEN j.reason = 'already_admitted' THEN j.first_device_id ELSE '' END
FROM judged j LEFT JOIN counted ON true LEFT JOIN paid ON true WHERE j.reason <> '' OR counted.inside IS NOT NULL
RETURNING {OUTCOME_COLUMNS}
"""
_EVENT = "SELECT 1 FROM events WHERE event_id = $1"


class StatementDesk(PostgresDesk):
    """The design."""

    async def _decide(self, question: Question) -> Outcome | None:
        row = await self._pool.fetchrow(
            _CHECK_IN,
            question.scan_id,
            question.event_id,
            question.card_id,
            question.direction,
            question.gate_id,
            question.device_id,
            question.at_ms,
            question.fingerprint,
        )
        if row is not None:
            return Outcome(*row)
        if await self._pool.fetchval(_EVENT, question.event_id) is None:
            raise Problem("event_unknown")
        return None
