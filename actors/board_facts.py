"""Facts about leaderboards. Rules as in `actors.facts`."""

from __future__ import annotations

import msgspec


def payout_id_of(tenant_id: str, board: str, window: str) -> str:
    """The id of what a board's window was paid out by. It names its organisation, for ids are unique across them."""
    return f"{tenant_id}/payout/{board}/{window}"


class Winner(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A card that was among the first, and the points that it got: 0, as it was not active."""

    rank: int
    card_id: str
    score: int
    points: int


class BoardPaidOut(msgspec.Struct, frozen=True, array_like=True, tag=60):
    """A window of a leaderboard was paid out. The awards follow, with cause "payout:<payout id>"."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    board: str
    window: str
    winners: tuple[Winner, ...]
    note: str = ""

    @property
    def payout_id(self) -> str:
        """The actor that it is from now on."""
        return payout_id_of(self.tenant_id, self.board, self.window)
