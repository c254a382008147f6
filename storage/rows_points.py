"""Rows of the organisation's accounts and of holds, from postings (`storage.rows`). Pure.

Rules:
1. A posting tells the balance of the account that it drew on, so the row is known as a whole.
2. Postings from before there were such accounts do not tell it: what they drew is added to the present row. (The
   migration that made the table has counted those that Postgres held by then.)
3. The entry that ends a hold tells all of its row.
"""

from __future__ import annotations

import msgspec

from actors.accounts import contra_of
from actors.card import held_parts
from actors.facts import PointsPosted
from storage.row_batch import RowBatch
from storage.state_tables import EARNED_DAYS, HOLDS, TENANT_ACCOUNTS, Row

OPEN = "open"
NO_PARTS = "[]"


def take_accounts(batch: RowBatch, fact: PointsPosted, position: int) -> None:
    """Takes in what a posting does to accounts, holds and the sums of days."""
    if fact.amount:
        key = (fact.tenant_id, contra_of(fact.account, fact.kind, fact.amount))
        told = batch.states.get(TENANT_ACCOUNTS.name, {}).get(key)
        if fact.contra_after is not None:
            batch.set_state(TENANT_ACCOUNTS, (*key, fact.contra_after, position))
        elif told is not None:
            # A release from before has taken over meanwhile.
            batch.set_state(TENANT_ACCOUNTS, (*key, told[2] - fact.amount, position))  # type: ignore[operator]
        else:
            drawn, _ = batch.drawn.get(key, (0, 0))
            batch.drawn[key] = (drawn - fact.amount, position)
    if fact.earned_on is not None:
        day = (fact.tenant_id, fact.card_id, fact.earned_on.day, fact.earned_on.points)
        batch.set_state(EARNED_DAYS, (*day, position))
    if fact.held:
        batch.set_state(HOLDS, _hold_row(fact, position))


def _hold_row(fact: PointsPosted, position: int) -> Row:
    key = (fact.tenant_id, fact.card_id)
    if fact.held > 0:
        parts = msgspec.json.encode(held_parts(fact)).decode()
        return (*key, fact.entry_seq, fact.account, fact.held, 0, fact.due_ms, OPEN, parts, position)
    ended = (fact.account, -fact.held, -fact.amount, fact.due_ms, fact.kind, NO_PARTS)
    return (*key, fact.reverses, *ended, position)
