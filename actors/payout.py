"""The virtual actor Payout: a leaderboard's window that was paid out. It never changes (`actors.paying_out`)."""

from __future__ import annotations

import msgspec

from actors.board_facts import BoardPaidOut, Winner, payout_id_of


class Payout(msgspec.Struct, gc=False):
    """A window that was paid out. `paid_at_ms` is when; the winners are in the order of the board."""

    tenant_id: str
    board: str
    window: str
    paid_at_ms: int
    winners: tuple[Winner, ...]
    position: int = 0

    @property
    def payout_id(self) -> str:
        """See `actors.board_facts.payout_id_of`."""
        return payout_id_of(self.tenant_id, self.board, self.window)

    @classmethod
    def made(cls, fact: BoardPaidOut, position: int) -> Payout:
        """As it is from then on."""
        return cls(fact.tenant_id, fact.board, fact.window, fact.at_ms, fact.winners, position)
