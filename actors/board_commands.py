"""Commands about an organisation's own leaderboards. Rules as in `actors.commands`."""

from __future__ import annotations

import msgspec

from actors.terms import BOARD_GRACE_MS, BoardTerms


class SetBoards(msgspec.Struct, frozen=True, array_like=True, tag=60):
    """Which boards the organisation has besides everybody's; those that are not named here are no more. What is counted
    does not change: a board is a way to look at it. Windows are frozen `grace_ms` after their end."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    boards: tuple[BoardTerms, ...]
    grace_ms: int = BOARD_GRACE_MS
    if_version: tuple[str, ...] | None = None


class PayOutBoard(msgspec.Struct, frozen=True, array_like=True, tag=61):
    """Prizes in points for the first ranks of a board's window that is frozen (`actors.paying_out`); `window` is
    written in full."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    board: str
    window: str
    prizes: tuple[int, ...]
    note: str = ""
